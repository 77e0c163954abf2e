package supervisor

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/line"
	"gophd/internal/logging"
	"gophd/internal/process"
	"gophd/internal/sdnotify"
	"gophd/internal/status"
	"gophd/internal/timer"
)

// Options configure a Supervisor.
type Options struct {
	Config  *config.Config
	Env     []string // gophd's own
	Log     *logging.Log
	Events  *event.Stream
	Spawner *process.Spawner
	Started time.Time // first start of the daemon
	Host    Host

	Resumed bool                // after a re-exec
	Handed  JobState            // from the old process
	Files   map[string]*os.File // descriptors from the old process
}

// Host is what a Supervisor needs from the daemon. Its methods are called by the supervisor's
// goroutine, and by the caller of Release.
type Host interface {
	// OnLocked is called when the local lock is held, or if there is none: no other instance runs
	// here.
	OnLocked()
	// TakePIDFile is called after OnLocked, before leftover runs are searched.
	TakePIDFile() error
	// RemovePIDFile is called before the local lock is released: an instance that waits for the
	// lock may need the same PID file.
	RemovePIDFile()
}

// Report is where a Supervisor stands.
type Report struct {
	Active  bool   // the job has left standby: runs may start, or could start before
	Serving string // what it does, for the process that waits for the start; "" until it is known
	Err     error  // why it stops its runs, if that was not requested
}

// Supervisor runs one job.
type Supervisor struct {
	o    Options
	spec job.Spec

	lease   *lease.Lease
	runner  *runner
	notices *sdnotify.Socket // nil if the job has no timeout; the runner uses it too
	cgroup  *process.Cgroup  // nil if the job has none of its own
	null    *os.File         // /dev/null, for output that is discarded
	ticks   *timer.Timer

	machine  *machine
	loopRun  loopRun
	acquire  acquisition
	leftover *leftoverWatch // nil if there are no leftover runs

	started bool        // see call
	calls   chan func() // from the daemon
	done    chan struct{}
	reports reports
}

// reports passes the Report to the daemon.
type reports struct {
	changed chan struct{} // capacity 1
	mu      sync.Mutex    // guards report
	report  Report
}

// New opens what the job needs. It acquires nothing yet. After an error nothing is left open except
// what was handed off.
func New(o Options) (_ *Supervisor, err error) {
	s := &Supervisor{o: o, spec: o.Config.Jobs[0], calls: make(chan func()), done: make(chan struct{}),
		reports: reports{changed: make(chan struct{}, 1)}}
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
	if s.ticks, err = timer.New(timer.Monotonic); err != nil {
		return nil, err
	}
	if err := s.openLease(); err != nil {
		return nil, err
	}
	s.loopRun.gate.lease = s.lease
	s.acquire = newAcquisition()
	s.machine = &machine{state: standby, actions: actions{
		startLoop:   s.startLoop,
		stopLoop:    s.loopRun.stop,
		wakeLoop:    func() { s.loopRun.loop.RunNow() },
		interrupt:   s.runner.Interrupt,
		force:       s.forceLoop,
		kill:        s.runner.Kill,
		handOffLoop: s.handOffLoop,
		changed:     s.reportChange,
		publish:     o.Events.Publish,
	}}
	return s, nil
}

// Adopt takes over the runs of the old process, if there are any. Requests between Adopt and Start
// are served before the lease is acquired, or with the adopted runs.
func (s *Supervisor) Adopt() {
	p := goroutine.Catch(func() {
		s.o.Spawner.AdoptStreams(takePipes(s.o.Files, s.o.Handed.Escaped), s.runner.resume)
		if len(s.runner.handed.runs) == 0 {
			return
		}
		s.adoptRuns()
		fault.At("all runs adopted")
	})
	if p != nil {
		s.machine.panicked(p)
	}
}

// Start acquires the lease and serves the job in a goroutine of g. That ends when no run is active
// and none will start, or when Freeze has left the runs to the next process. Then Done is closed:
// call Release or HandOff, and then Close.
func (s *Supervisor) Start(g *goroutine.Group) {
	s.started = true
	g.Go(s.run)
}

func (s *Supervisor) run() {
	defer close(s.done)
	if p := goroutine.Catch(s.serve); p != nil {
		s.machine.panicked(p)
		s.loopRun.await(s.spec.Grace+fatalTime, s.runner.Kill)
		s.endLoop()
		s.machine.looping = false
	}
	s.leftover.stop()
}

// fatalTime is how long the loop may take to end after a fault of gophd, in addition to the runs'
// grace.
const fatalTime = 15 * time.Second

func (s *Supervisor) serve() {
	if !s.acquire.started && s.machine.state == standby {
		s.acquireLocal()
	}
	for !s.machine.over() {
		s.releaseEarly()
		select {
		case f := <-s.calls:
			f()
		case <-s.lease.Local().Changed():
			s.leaseChanged(s.lease.Local())
		case <-s.lease.Shared().Changed():
			s.leaseChanged(s.lease.Shared())
		case <-s.lease.Local().Ended():
			s.claimEnded(s.lease.Local())
		case <-s.lease.Shared().Ended():
			s.claimEnded(s.lease.Shared())
		case err := <-s.leftover.ended():
			s.leftoverEnded(err)
		case <-s.runner.deaths:
		case <-s.loopRun.done:
			s.loopEnded()
		case <-s.acquire.retry.C:
			if s.machine.state == standby {
				s.startClaim(s.lease.Local())
			}
		case <-s.acquire.oldLease.C:
			s.oldLeaseEnds()
		case <-s.acquire.remind.C:
			s.remindOfProof()
		}
	}
}

// call runs f in the supervisor's goroutine. Before Start and after Done is closed, it runs f in
// the caller's goroutine. It blocks until f has returned. Neither f nor the Host may call it. All
// calls come from one goroutine.
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

// Freeze leaves the active runs to the next process: Done is closed, and HandOff returns what to
// hand off. An error names what prevents that now: a run that is being started, or whose last
// output is being written. After an error no run starts until Thaw, so that another Freeze succeeds
// soon.
func (s *Supervisor) Freeze() error {
	err := ErrFault // if it panics
	s.call(func() { err = s.machine.freeze() })
	return err
}

// Thaw ends a Freeze that failed. A tick that was due meanwhile starts now. It does not block.
func (s *Supervisor) Thaw() { s.loopRun.gate.thaw() }

// Done returns a channel that is closed when the job has ended.
func (s *Supervisor) Done() <-chan struct{} { return s.done }

// Changed returns a channel that delivers when the Report may have changed.
func (s *Supervisor) Changed() <-chan struct{} { return s.reports.changed }

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
	select {
	case s.reports.changed <- struct{}{}:
	default: // the last change was not read yet
	}
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

// Released returns true if the lease was released before Done was closed.
func (s *Supervisor) Released() bool { return s.acquire.released }

// Logs calls f with each log that receives output of adopted runs instead of the job's own log.
func (s *Supervisor) Logs(f func(*logging.Log)) {
	for _, o := range s.runner.allOutlets() {
		f(o.log)
	}
}

// Unfinished returns the lines that commands have begun and not ended, as far as their output passes
// through gophd.
func (s *Supervisor) Unfinished() []line.Unfinished {
	all := s.o.Log.Unfinished()
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

// Lease returns the state of the lease, and the instance id. ok is false before the lease was
// requested.
func (s *Supervisor) Lease() (shown status.Lease, instance string, ok bool) {
	s.call(func() {
		c := s.lease.Visible()
		var l heartbeat.Lease
		if l, ok = c.Now(); !ok {
			return
		}
		shown, instance = status.Lease{Store: c.Store, State: l.State.String(), Fence: l.Fence}, l.ID
		switch l.State {
		case heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending:
			shown.Holder = "this instance"
			if l.Deadline > 0 {
				shown.Until = time.Now().Add(l.Deadline - boot())
			}
		case heartbeat.Standby, heartbeat.Lost:
			shown.Holder = l.Holder.String()
		}
	})
	return shown, instance, ok
}

// Close closes what New opened, except the local lock: Release has closed it, or the next process
// needs it.
func (s *Supervisor) Close() error {
	var err error
	if s.lease != nil {
		err = s.lease.Leave()
	}
	if s.ticks != nil {
		err = errors.Join(err, s.ticks.Close())
	}
	if s.notices != nil {
		err = errors.Join(err, s.notices.Close())
	}
	if s.null != nil {
		err = errors.Join(err, s.null.Close())
	}
	if err != nil {
		err = fmt.Errorf("job %s: %w", s.spec.Name, err)
	}
	return err
}

func boot() time.Duration { return timer.Now(timer.Boot) }

func (s *Supervisor) publish(e event.Event) { s.o.Events.Publish(e) }
func (s *Supervisor) problem(err error)     { s.publish(event.Problem(err)) }
