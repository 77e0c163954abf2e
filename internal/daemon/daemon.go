package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"gophd/internal/api"
	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/history"
	"gophd/internal/job"
	"gophd/internal/jobfile"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/process"
	"gophd/internal/request"
	"gophd/internal/restart"
	"gophd/internal/self"
	"gophd/internal/signals"
	"gophd/internal/status"
	"gophd/internal/supervisor"
	"gophd/internal/timer"
	"gophd/internal/watch"
)

// Options configure a Daemon.
type Options struct {
	Config  *config.Config
	Self    self.Self
	Signals *signals.Signals // listening; the Daemon does not stop that
	Version string           // of this program, for the log
	Handoff *restart.Handoff // from the old process; nil at the first start
	Trouble error            // why a re-exec failed, if Handoff was made by this process
	Stderr  io.Writer
	// Serving is called once, when a job is served or when gophd stands by. text says which, and
	// where the log is.
	Serving func(text string)
}

// Outcome is how a Daemon ended without an error.
type Outcome struct {
	// Restart is what to hand off in a re-exec; nil means exit.
	Restart *restart.Handoff
	// Last is the result of the only run of a once job; nil otherwise.
	Last *job.Result
	// Reported is true if the log has shown on Stderr why gophd exits, or that the only run was not
	// started. Then no other message is needed.
	Reported bool

	left []*process.Process // handed off to the next process
}

// ReleaseWaits ends what still waits for the runs that were handed off. It is for a process that
// could not re-exec, before it continues with its own handoff. It does not block.
func (o Outcome) ReleaseWaits() { process.Forget(o.left...) }

// Daemon is one gophd process. Its fields belong to the goroutine of Run.
type Daemon struct {
	o          Options
	previous   config.EncodedJobs // those of the old process's config
	handed     handedState        // from the old process
	life       life
	log        *logging.Log
	logs       logWatch
	events     *event.Stream
	board      *status.Board
	history    *history.Writer // nil for none
	spawner    *process.Spawner
	pidFile    *pidFile
	lease      *lease.Lease
	api        *api.Server        // nil for none
	recent     *api.Events        // for it
	calls      chan func()        // from it: see call
	over       chan struct{}      // closed when no call is served any more
	mailer     *supervisor.Mailer // nil if nothing is mailed
	watcher    *watch.Watcher     // of the files of the config; nil for none
	records    *jobfile.Writer
	manager    *manager // of the service
	jobs       jobs
	goroutines goroutine.Group // of the lease and the supervisors

	machine  *machine
	probe    probe
	timers   timers
	progress progress
	stops    atomic.Int32 // how often a stop was requested
}

// progress is the progress of the start.
type progress struct {
	locked   bool // the local lock was held; until then a second instance leaves almost no trace
	started  bool // the jobs were started
	reported bool // Serving was called
}

// life is what is known of the daemon over all its processes.
type life struct {
	processStart time.Duration // start of this process on the boot clock
	daemonStart  time.Duration // first start on the boot clock
	born         time.Time     // the first start by the wall clock
	guard        restart.Guard
	execs        int // before this process
}

// timers are the timers of the daemon itself, and the queues of those of its jobs and its lease.
type timers struct {
	monotonic, boot *timer.Queue
	wall            *timer.Queue // nil until a job has a calendar

	uptime  *time.Timer // config.auto_restart_interval
	remind  *time.Timer // while runs are waited for
	retry   *time.Timer // for a job that could not be frozen
	recover *time.Timer // for a job in which gophd has panicked
	unmap   *time.Timer // for the pages of the program that only the start needed
	shrink  *time.Timer // for the heap
	unused  *time.Timer // for what the socket has used
	shrunk  heap        // when it was made small; zero before that
}

const remindAfter = 15 * time.Second // between two events about runs that are waited for

// New returns a Daemon. It opens nothing; Run does.
func New(o Options) *Daemon {
	return &Daemon{o: o, calls: make(chan func()), over: make(chan struct{})}
}

// Run blocks until the daemon has ended and nothing of it is left, or until it must re-exec and
// only the contents of the handoff are left. An error says why it ended if that was not requested:
// *heartbeat.HeldError, *heartbeat.LostError, *heartbeat.UnreachableError, or what could not be set
// up. The end of ctx acts like a stop request.
func (d *Daemon) Run(ctx context.Context) (Outcome, error) {
	if err := d.open(); err != nil {
		Abandon(d.o.Handoff, err)
		return Outcome{}, err
	}
	if p := goroutine.Catch(func() { d.serve(ctx) }); p != nil {
		d.machine.panicked(p)
		if !d.progress.started {
			d.start()
		}
		d.jobs.each(func(m *member) {
			<-m.Done()
			m.alive = false
		})
		d.machine.alive = false
	}
	return d.finish()
}

// serve is the event loop of the daemon. It returns when the machine is over.
func (d *Daemon) serve(ctx context.Context) {
	defer close(d.over)
	d.machine.alive = true
	if slices.ContainsFunc(d.handed.Jobs, func(j supervisor.JobState) bool { return len(j.Runs) > 0 }) {
		d.lease.Begin()
	}
	d.resumeEscaped()
	d.jobs.each(func(m *member) {
		if m.lease != nil && len(m.handed.Runs) > 0 {
			m.lease.Begin()
		}
	})
	d.jobs.each(func(m *member) {
		m.Adopt()
		if m.removed {
			m.Stop()
		}
	})
	d.adoptAPI() // after the runs, whose output waits
	if d.o.Handoff != nil {
		for _, o := range d.o.Handoff.Requests {
			d.request(o)
		}
	}
	spareThreads()
	d.start()
	d.feedWatchdog()
	for !d.machine.over() {
		fault.At("select")
		select {
		case o := <-d.o.Signals.C():
			d.request(o)
		case f := <-d.calls:
			f()
		case <-d.timers.uptime.C:
			d.request(request.Request{Verb: request.Reload, From: "after " + d.o.Config.AutoRestart.String()})
			d.timers.uptime.Reset(d.o.Config.AutoRestart)
		case <-ctx.Done():
			ctx = context.WithoutCancel(ctx)
			d.request(request.Request{Verb: request.Stop, From: "the caller"})
		case <-d.jobs.changed:
			d.jobsChanged()
			d.jobsEnded()
		case path := <-d.changedFiles():
			d.request(request.Request{Verb: request.Reload, From: path + " has changed"})
		case err := <-d.unwatched():
			d.warn("--watch: " + err.Error() + ": changes of files may not be noticed; request a reload")
		case a := <-d.probe.answer:
			d.checked(a)
		case <-d.timers.retry.C:
			d.machine.retry()
		case <-d.timers.recover.C:
			d.recoverJobs()
		case err := <-d.logs.reopening:
			d.reopened(err)
		case <-d.logs.trouble:
			d.logTrouble()
		case <-d.logs.repeat.C:
			d.logTrouble()
		case <-d.timers.remind.C:
			d.reminder()
		case <-d.timers.unmap.C:
			if d.o.Config.Many {
				d.shrinkHeap() // later, what is garbage between a thousand jobs could not be given back
			} else {
				unmapProgram()
			}
		case <-d.timers.shrink.C:
			d.shrinkHeap()
		case <-d.timers.unused.C:
			d.socketUnused()
		case <-d.manager.line.C:
			d.sendStatus()
		case <-d.manager.alive.C:
			d.feedWatchdog()
		}
	}
}

func (d *Daemon) start() {
	d.progress.started = true
	d.jobs.each(func(m *member) { m.Start(&d.goroutines) })
	d.lease.Start(&d.goroutines)
	d.jobs.notice() // there may be no job that has not ended
}

// request serves a request in the state that the jobs have now.
func (d *Daemon) request(o request.Request) {
	d.jobsChanged()
	d.machine.request(o)
}

// jobsChanged acts on what is new in the Reports of the jobs and about the lease, in the sequence in
// which it happened.
func (d *Daemon) jobsChanged() {
	d.jobs.each(func(m *member) {
		r := m.Report()
		if r.Active {
			if d.machine.state == starting {
				d.timers.unmap.Reset(unmapAfter)
			}
			d.machine.served()
		}
		if r.Serving != "" && !d.o.Config.Many {
			d.serving(r.Serving)
		}
		if r.Err != nil && !d.o.Config.Many {
			d.failing(r.Err)
		}
	})
	serving, err := d.jobs.lease.read()
	if serving != "" {
		d.serving(serving)
	}
	if err != nil {
		d.failing(err)
	}
	d.startLeases()
	// After a fatal error the new process may need the lease.
	if d.machine.state >= draining && d.jobs.dead() && !errors.As(d.machine.err, new(*supervisor.FatalError)) {
		for _, l := range d.leases() {
			l.ReleaseEarly()
		}
	}
}

// failing is called when the runs are being stopped because they must not continue.
func (d *Daemon) failing(err error) {
	d.escalate(1)
	d.machine.failing(err)
}

// jobsEnded notes which jobs have ended, and whether any is left.
func (d *Daemon) jobsEnded() {
	d.jobs.each(func(m *member) {
		select {
		case <-m.Done():
			if m.alive {
				m.alive = false
				d.jobEnded(m)
			}
			if m.lease != nil {
				m.lease.ReleaseEarly() // another instance may run the job
			}
		default:
		}
	})
	if d.jobs.alive() || d.machine.state <= validating && d.jobs.recovering() != nil {
		return
	}
	err := d.jobs.err()
	if d.o.Config.Many && err != nil && d.machine.state <= validating { // the only job has said why
		d.problem(err)
	}
	d.machine.ended(err)
}

// jobEnded is called once for each job that has ended.
func (d *Daemon) jobEnded(m *member) {
	switch {
	case m.removed:
		d.board.Remove(m.spec.Name)
	case d.o.Config.Many && d.machine.state <= validating && errors.As(m.Err(), new(*goroutine.Panic)):
		d.jobPanicked(m)
	}
}

// serving reports once, to the processes that wait for it, that gophd serves.
func (d *Daemon) serving(text string) {
	if d.progress.reported {
		return
	}
	d.progress.reported = true
	fault.At("ready")
	d.notify(sdReady)
	if d.o.Serving != nil {
		if path := d.log.Path(); path != "" {
			text += "; log: " + path
		}
		d.o.Serving(text)
	}
}

// onLocked reports that gophd has started, or has resumed after a re-exec.
func (d *Daemon) onLocked() {
	d.progress.locked = true
	d.listen()
	if d.o.Trouble != nil {
		return // it continues as before, which was logged
	}
	h := d.o.Handoff
	if h == nil {
		d.events.Publish(event.Started(d.o.Version, os.Getpid()))
		return
	}
	d.events.Publish(event.Resumed(d.o.Version, os.Getpid()))
	defer func() { // the config of a thousand jobs is a megabyte
		d.previous, d.handed.Jobs, d.handed.byName, d.handed.Events = config.EncodedJobs{}, nil, nil, api.SavedEvents{}
		h.Config, h.Previous, h.State = nil, nil, nil
	}()
	if len(h.Previous) == 0 {
		return
	}
	if !d.o.Config.Many {
		d.events.Publish(event.ReloadApplied(config.Changed(h.Previous, h.Config)))
		return
	}
	c := config.Compare(h.Previous, h.Config)
	if len(c.Settings) > 0 {
		d.events.Publish(event.ReloadApplied(c.Settings))
	}
	d.jobsReloaded(c)
}

// stateChanged acts on a new state of the machine.
func (d *Daemon) stateChanged(to state) {
	switch to {
	case starting, serving:
		d.reexecRejected()
	case reexecuting:
		d.notifyReloading()
		d.reminder()
	case draining, stopping:
		d.notify(sdStopping)
		d.reminder()
		d.jobs.notice() // those that have ended are not started again
	}
}

// reminder publishes which runs are waited for, requests enough time from the service manager, and
// repeats that while runs are active.
func (d *Daemon) reminder() {
	if d.machine.state < reexecuting || !d.machine.alive {
		return
	}
	snap, specs := d.board.Snapshot(), map[string]job.Spec{}
	for _, m := range d.jobs.all {
		specs[m.spec.Name] = *m.spec
	}
	for _, j := range snap.Jobs {
		for _, g := range j.Active {
			d.events.Publish(supervisor.WaitEvent(specs[j.Name], d.machine.state.String(), d.machine.state == stopping, g,
				snap.Taken))
		}
	}
	d.notify(sdExtend)
	d.timers.remind.Reset(remindAfter)
}

// escalate reports to the log, and to every other output, how often a stop was requested: the more
// often, the shorter is the wait for an output that is stalled.
func (d *Daemon) escalate(times int) {
	for {
		before := d.stops.Load()
		if int(before) >= times {
			return
		}
		if d.stops.CompareAndSwap(before, int32(times)) {
			break
		}
	}
	if d.log != nil {
		d.log.SetStopRequests(times)
	}
	d.jobs.each(func(m *member) { m.SetStopRequests(times) })
}

// finish carries out the machine's decision after the job has ended: it releases or hands off the
// lease, the PID file and the local lock, and then closes everything that open opened.
func (d *Daemon) finish() (Outcome, error) {
	m := d.machine
	reexec := m.state == reexecuting
	if errors.As(m.err, new(*supervisor.FatalError)) && !d.lease.Released() {
		if err := d.life.guard.Recover(d.life.processStart, boot()); err != nil {
			d.problem(err)
		} else {
			reexec = true
		}
	}
	d.probe.end()
	if reexec {
		o := Outcome{Restart: d.handOff()}
		o.left = d.jobs.left()
		return o, nil
	}
	d.jobs.each(func(m *member) { m.Release() })
	d.releaseLeases()
	_ = goroutine.Catch(d.goroutines.Wait) // lease and supervisor catch their own panics
	d.reportLogs(len(d.logs.all))          // the last chance to report lost lines
	if d.progress.locked {
		d.events.Publish(event.Exiting(m.reason()))
	}
	d.watchStops(d.close)
	return Outcome{Last: d.jobs.last(), Reported: d.echoed()}, m.err
}

// reason returns why gophd exits; nil after a graceful stop.
func (m *machine) reason() error {
	if m.err == nil && m.state == stopping {
		return job.ErrInsisted
	}
	return m.err
}

// echoed returns true if the log has shown on Stderr why gophd exits, or why the only run did not
// start.
func (d *Daemon) echoed() bool {
	var held *heartbeat.HeldError
	switch {
	case d.o.Config.Daemon:
		return false
	case d.machine.err != nil: // an error, unless another instance holds the lease
		return !errors.As(d.machine.err, &held)
	}
	last := d.jobs.last()
	return last != nil && last.Outcome == job.Unstarted && d.o.Config.Log.Level != "error" // the event is a warning
}

// watchStops runs f, which shuts down the log, and passes on each further stop signal until f
// returns.
func (d *Daemon) watchStops(f func()) {
	var goroutines goroutine.Group
	done := make(chan struct{})
	goroutines.Go(func() {
		last := d.machine.entered
		for {
			select {
			case <-done:
				return
			case o := <-d.o.Signals.C():
				if o.Verb == request.Stop && time.Since(last) >= stopRepeat {
					last = time.Now()
					d.escalate(int(d.stops.Load()) + 1)
				}
			}
		}
	})
	defer goroutines.Wait()
	defer close(done)
	f()
}

func (d *Daemon) problem(err error) { d.events.Publish(event.Problem(err)) }
func (d *Daemon) warn(text string)  { d.events.Publish(event.Warning(text)) }

func boot() time.Duration { return timer.Now(timer.Boot) }
