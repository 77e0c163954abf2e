package supervisor

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/jobfile"
	"gophd/internal/lease"
	"gophd/internal/line"
	"gophd/internal/logging"
	"gophd/internal/process"
	"gophd/internal/timer"
)

// Options configure a Supervisor.
type Options struct {
	Spec    *job.Spec // of the config; not changed
	ID      string    // of the job on this host: the start of the names of its control groups
	Many    bool      // the daemon may have other jobs
	Crontab bool      // the job is a line of a crontab, and has no keys below jobs:
	Config  string    // path of the config file, for the command; "" for none
	Env     []string  // gophd's own
	Log     *logging.Log
	Events  *event.Stream
	Spawner *process.Spawner
	Timers  *timer.Queue // of the wall clock if the job has a calendar, otherwise of the monotonic one
	Started time.Time    // first start of the daemon
	Lease   *lease.Lease // under which the runs start; the caller acquires and releases it
	Mailer  *Mailer      // sends what job.mail_to asks for; nil for none
	Running *Running     // limits the runs of all jobs; nil for no limit
	// KeepOutput adds the end of the output to the Result of a failed run, as far as gophd captures it.
	KeepOutput bool
	// LeftoverEnded is called when SearchLeftover has returned true and no leftover run of this job is
	// active any more. It must not block.
	LeftoverEnded func()

	Fresh      bool            // the daemon was started, and not by a re-exec
	Shared     bool            // other hosts may have the lease
	Records    *jobfile.Writer // of the files of all jobs
	RecordPath string          // of the file of this job; "" for none
	Record     jobfile.Record  // its content at a first start; otherwise JobState has what counts

	Handed      JobState            // from the old process
	Descriptors map[string]*os.File // from the old process

	// Changed is called when the Report may have changed, and when Done was closed. It must not block.
	Changed func()
}

// Report is where a Supervisor stands.
type Report struct {
	Active  bool   // the job has left standby: runs may start, or could start before
	Serving string // what it does, for the process that waits for the start; "" until it is known
	Err     error  // why it stops its runs, if that was not requested
	Dead    bool   // no command is alive, and none will start in this process
}

// Supervisor runs one job.
type Supervisor struct {
	o    Options
	spec *job.Spec

	runner  *runner
	notices *notices        // nil if the job has no timeout; the runner uses it too
	cgroup  *process.Cgroup // nil if the job has none of its own

	machine  *machine
	loopRun  loopRun
	record   record
	misses   misses
	leftover leftover
	steering steering

	started bool          // see call
	calls   chan func()   // from the daemon
	deaths  chan struct{} // see recheck; capacity 1
	done    chan struct{}
	reports reports
}

// reports has the Report for the daemon.
type reports struct {
	mu     sync.Mutex // guards report
	report Report
}

// New opens what the job needs. After an error nothing is left open except what was handed off.
func New(o Options) (_ *Supervisor, err error) {
	s := &Supervisor{o: o, spec: o.Spec, calls: make(chan func()), deaths: make(chan struct{}, 1),
		done: make(chan struct{})}
	defer func() {
		if err != nil {
			s.Close()
			if s.cgroup != nil {
				_ = s.cgroup.Close() // it is empty, or StopHanded removes it
			}
		}
	}()
	if err := s.openRunner(); err != nil {
		return nil, err
	}
	s.loopRun.gate = gate{lease: o.Lease, place: place{running: o.Running}, keep: s.keepDue, resumed: make(chan struct{})}
	s.openRecord()
	s.loopRun.gate.place.adopt(len(o.Handed.Runs))
	s.machine = &machine{state: standby, actions: actions{
		startLoop:   s.startLoop,
		stopLoop:    s.loopRun.stop,
		wakeLoop:    func() { s.loopRun.loop.RunNow() },
		interrupt:   s.runner.Interrupt,
		force:       s.forceLoop,
		kill:        s.runner.Kill,
		handOffLoop: s.handOffLoop,
		changed:     s.reportChange,
		failed:      func(err error) { o.Events.Publish(event.JobFailed(s.spec.Name, err)) },
		publish: func(e event.Event) {
			if o.Many {
				e.Job = s.spec.Name
			}
			o.Events.Publish(e)
		},
	}}
	return s, nil
}

// Adopt takes over the runs of the old process, if there are any. If the lease is not held now, the
// loop starts with these runs and its gate shut. Requests between Adopt and Start are served with
// them.
func (s *Supervisor) Adopt() {
	p := goroutine.Catch(func() {
		if len(s.o.Handed.Runs) == 0 {
			return
		}
		if !s.machine.looping && s.machine.state == standby {
			s.machine.looping = true
			s.runLoop()
		}
		if s.o.Handed.GaveUp != "" {
			s.machine.gaveUp(errors.New(s.o.Handed.GaveUp))
		}
		fault.At("all runs adopted")
	})
	if p != nil {
		s.machine.panicked(p)
	}
}

// Start serves the job in a goroutine of g. That ends when no run is active and none will start, or
// when Freeze has left the runs to the next process. Then Done is closed: call Release or
// PauseOutput, and then Close.
func (s *Supervisor) Start(g *goroutine.Group) {
	s.started = true
	g.Go(s.run)
}

func (s *Supervisor) run() {
	defer s.o.Changed()
	defer close(s.done)
	if p := goroutine.Catch(s.serve); p != nil {
		s.machine.panicked(p)
		s.loopRun.await(s.spec.Grace+fatalTime, s.runner.Kill)
		s.endLoop()
		s.machine.looping = false
	}
	if s.machine.state == failing {
		s.loopRun.gate.place.end()
	}
	s.leftover.watch.stop()
}

// fatalTime is how long the loop may take to end after a fault of gophd, in addition to the runs'
// grace.
const fatalTime = 15 * time.Second

func (s *Supervisor) serve() {
	for !s.machine.over() {
		if s.dead() {
			s.updateReport(func(r *Report) { r.Dead = true })
		}
		select {
		case f := <-s.calls:
			f()
		case err := <-s.leftover.watch.ended():
			s.leftoverEnded(err)
		case <-s.deaths:
		case <-s.loopRun.done():
			s.loopEnded()
		}
	}
}

// recheck makes the supervisor check whether a command is alive, once no more runs start. Before
// that it would be woken for nothing at the end of each run.
func (s *Supervisor) recheck() {
	if !s.loopRun.draining.Load() {
		return
	}
	select {
	case s.deaths <- struct{}{}:
	default: // it has not checked yet
	}
}

// dead returns true if no command is alive and none will start in this process.
func (s *Supervisor) dead() bool {
	if s.machine.state < draining || !s.loopRun.draining.Load() {
		return false // a run may still start
	}
	// Read the loop's count first: while the loop drains, runs only become fewer.
	runs := int(s.loopRun.active.Load())
	return s.runner.dead() >= runs
}

// call runs f in the supervisor's goroutine. Before Start and after Done is closed, it runs f in
// the caller's goroutine. It blocks until f has returned. f may not call it.
func (s *Supervisor) call(f func()) {
	if !s.started {
		f()
		return
	}
	returned := make(chan struct{})
	select {
	case s.calls <- func() { defer close(returned); f() }:
		<-returned
	case <-s.done:
		f()
	}
}

// LeaseHeld is called when runs may start for the first time, as far as the gate of the lease is open, and
// when they may start again after another instance may have held the lease.
func (s *Supervisor) LeaseHeld() {
	s.call(func() {
		if lock := s.o.Lease.Lock(); lock != nil {
			s.mark(lease.Mark(lock))
		}
		s.takeOver()
		s.leftover.leaseHeld = true
		if !s.leftover.waiting.Load() {
			s.machine.leaseHeld()
		}
	})
}

// LeaseEnding stops the active runs with that cause. The loop continues.
func (s *Supervisor) LeaseEnding(cause error) { s.call(func() { s.machine.leaseEnding(cause) }) }

// LeaseFailed stops the active runs with that cause and ends the job. err is why.
func (s *Supervisor) LeaseFailed(err, cause error) {
	s.call(func() { s.machine.leaseFailed(err, cause) })
}

// Stop lets the active runs finish and then ends the job. It stops the run of a service.
func (s *Supervisor) Stop() { s.call(s.machine.stop) }

// Force stops the active runs and ends the job.
func (s *Supervisor) Force(cause error) { s.call(func() { s.machine.forceStop(cause) }) }

// Kill sends KILL to the active runs.
func (s *Supervisor) Kill() { s.runner.Kill() }

// RunNow starts a run, or remembers it while one is active. It returns false if no run may start.
func (s *Supervisor) RunNow() (ok bool) {
	s.call(func() { ok = s.machine.runNow() })
	return ok
}

// Hold starts no run until Thaw. It does not block.
func (s *Supervisor) Hold() { s.loopRun.gate.freeze() }

// Freeze leaves the active runs to the next process: Done is closed, and PauseOutput returns what to
// hand off. While none of them can start or end, it calls next with them, which freezes the other
// jobs and finally calls Detach for all. An error, next's too, says what prevents that now: a run
// that is being started, or whose last output is being written. Nothing has changed then; after Hold
// another Freeze succeeds soon.
func (s *Supervisor) Freeze(next func([]Leaving) error) error {
	err := ErrFault // if it panics
	s.call(func() { err = s.machine.freeze(next) })
	return err
}

// Thaw ends a Hold. A tick that was due meanwhile starts now. It does not block.
func (s *Supervisor) Thaw() { s.loopRun.gate.thaw() }

// Done returns a channel that is closed when the job has ended.
func (s *Supervisor) Done() <-chan struct{} { return s.done }

// Report returns where the supervisor stands.
func (s *Supervisor) Report() Report {
	s.reports.mu.Lock()
	defer s.reports.mu.Unlock()
	return s.reports.report
}

// reportChange is called after each change of the machine.
func (s *Supervisor) reportChange() {
	s.updateReport(func(r *Report) {
		r.Active = r.Active || s.machine.state == active
		if s.machine.state == failing {
			r.Err = s.machine.err
		}
	})
}

func (s *Supervisor) updateReport(change func(*Report)) {
	s.reports.mu.Lock()
	change(&s.reports.report)
	s.reports.mu.Unlock()
	s.o.Changed()
}

// serving reports once what the job does, for the process that waits for the start.
func (s *Supervisor) serving(text string) {
	s.updateReport(func(r *Report) {
		if r.Serving == "" {
			r.Serving = text
		}
	})
}

// Err returns why the job ended, once Done is closed; nil if that was requested.
func (s *Supervisor) Err() error { return s.machine.err }

// Last returns the result of the only run of a once job; nil before, and for other jobs.
func (s *Supervisor) Last() *job.Result { return s.loopRun.last }

// Logs calls f with each log that receives output of adopted runs instead of the job's own log.
func (s *Supervisor) Logs(f func(*logging.Log)) {
	for _, o := range s.runner.allOutlets() {
		f(o.log)
	}
}

// Unfinished returns the lines that commands have begun and not ended, as far as their output passes
// through gophd.
func (s *Supervisor) Unfinished() []line.Unfinished {
	all := s.log().Unfinished()
	s.Logs(func(l *logging.Log) { all = append(all, l.Unfinished()...) })
	return append(all, s.runner.unfinished()...)
}

// CountMissed publishes the ticks that each active run has cost so far. It blocks until that is
// done.
func (s *Supervisor) CountMissed() {
	s.call(func() {
		if s.loopRun.loop != nil {
			s.loopRun.loop.CountMissed()
		}
	})
}

// SetStopRequests sets how often a stop was requested. Each further request shortens the wait for
// output that cannot be written.
func (s *Supervisor) SetStopRequests(times int) { s.runner.escalateOutlets(times) }

// Release ends the job after Done: runs that were not adopted are stopped. It blocks for the grace
// of such runs.
func (s *Supervisor) Release() {
	if runs := s.runner.handed.runs; len(runs) > 0 { // the job ended before the loop could adopt them
		stopRuns(s.o.Events, s.spec.Name, runs, s.o.Spawner, s.o.Descriptors, s.runner.resume)
	}
	if len(s.runner.handedOff) > 0 { // gophd failed after they were handed off
		var state JobState
		files := map[string]*os.File{}
		s.handOffRuns(&state, files)
		stopRuns(s.o.Events, s.spec.Name, state.Runs, s.o.Spawner, files, s.runner.resume)
	}
	if s.cgroup != nil {
		if err := s.cgroup.Close(); err != nil {
			s.problem(err)
		}
	}
}

// Close closes what New opened.
func (s *Supervisor) Close() error {
	if err := s.notices.close(); err != nil {
		return fmt.Errorf("job %s: %w", s.spec.Name, err)
	}
	return nil
}

func (s *Supervisor) publish(e event.Event) { s.o.Events.Publish(e) }
func (s *Supervisor) problem(err error)     { s.publish(event.Problem(err)) }
