package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"gophd/internal/alarm"
	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/logging"
	"gophd/internal/order"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/self"
	"gophd/internal/signals"
	"gophd/internal/status"
	"gophd/internal/supervisor"
)

// Options is what a Daemon is made of.
type Options struct {
	Config  *config.Config
	Self    self.Self
	Signals *signals.Signals // listening, and so it is left
	Version string           // of this program, for the log
	Handoff *restart.Handoff // from the old process; nil at the first start
	Trouble error            // why that could not be replaced, if Handoff is of this process
	Stderr  io.Writer
	// Serving is called once, when a job is served, or when gophd stands by: text says which, and where
	// the log is.
	Serving func(text string)
}

// Outcome is how a Daemon ends without an error.
type Outcome struct {
	// Restart asks for a re-exec, to which this is to be handed off; nil is the end.
	Restart *restart.Handoff
	// Last is the result of the only run of a once job; nil otherwise.
	Last *job.Result
	// Said is that the log has said on Stderr why it ends, or that the only run was not started: it needs
	// no other word.
	Said bool

	left []*process.Process // to the next process
}

// Stay is for a process that could not re-exec, before it continues with what it had handed off. It
// gives back what still waits for the runs, and blocks for a tenth of a second at most.
func (o Outcome) Stay() { process.Forget(o.left...) }

// Daemon is one gophd process. Its fields belong to the goroutine of Run.
type Daemon struct {
	o       Options
	handed  handedState // by the old process
	life    life
	log     *logging.Log
	logs    logWatch
	events  *event.Stream
	board   *status.Board
	spawner *process.Spawner
	pidFile *pidFile
	job     *supervisor.Supervisor
	room    goroutine.Group // of the supervisor

	machine *machine
	probe   probe
	timers  timers
	reached reached
	hurried atomic.Int32 // how often a stop was requested
}

// reached is how far the start has come.
type reached struct {
	locked  bool // the local lock was held; before, a second start leaves hardly a trace
	started bool // the job was
	serves  bool // Serving was called
}

// life is what the daemon is over all its processes.
type life struct {
	now   time.Duration // start of this process on the boot clock
	began time.Duration // first start on the boot clock
	born  time.Time     // the same by the wall clock
	guard restart.Guard
	execs int // before this process
}

// timers are those of the daemon itself.
type timers struct {
	uptime *time.Timer // config.auto_restart_interval
	remind *time.Timer // while runs are waited for
	retry  *time.Timer // of a job that could not be frozen
	trim   *time.Timer
	old    bool // the start is over
}

const remindAfter = 15 * time.Second // between two events about runs that are waited for

// New returns a Daemon. Run does everything.
func New(o Options) *Daemon { return &Daemon{o: o} }

// Run blocks until the daemon has ended and nothing of it is left, or until it must re-exec, and then
// only what the handoff names is left. An error says why it ended if that was not requested:
// *heartbeat.HeldError, *heartbeat.LostError, *heartbeat.UnreachableError, or what could not be set up.
// ctx ends it as a stop request does.
func (d *Daemon) Run(ctx context.Context) (Outcome, error) {
	if err := d.open(); err != nil {
		Abandon(d.o.Handoff, err)
		return Outcome{}, err
	}
	if p := goroutine.Catch(func() { d.serve(ctx) }); p != nil {
		d.machine.panicked(p)
		if !d.reached.started {
			d.start()
		}
		<-d.job.Done()
		d.machine.alive = false
	}
	return d.end()
}

// serve is the select of the daemon. It returns when the machine is over.
func (d *Daemon) serve(ctx context.Context) {
	d.machine.alive = true
	d.job.Adopt()
	if d.o.Handoff != nil {
		for _, o := range d.o.Handoff.Orders {
			d.request(o)
		}
	}
	spareThreads()
	d.start()
	for !d.machine.over() {
		fault.At("select")
		select {
		case o := <-d.o.Signals.C():
			d.request(o)
		case <-d.timers.uptime.C:
			d.request(order.Order{Verb: order.Restart, From: "after " + d.o.Config.AutoRestart.String()})
			d.timers.uptime.Reset(d.o.Config.AutoRestart)
		case <-ctx.Done():
			ctx = context.WithoutCancel(ctx)
			d.request(order.Order{Verb: order.Stop, From: "the caller"})
		case <-d.job.Changed():
			d.jobChanged()
		case <-d.jobDone():
			d.jobChanged()
			d.machine.ended(d.job.Err())
		case a := <-d.probe.answer:
			d.checked(a)
		case <-d.timers.retry.C:
			d.machine.retried()
		case err := <-d.logs.reopening:
			d.reopened(err)
		case <-d.logs.trouble:
			d.logTrouble()
		case <-d.logs.again.C:
			d.logTrouble()
		case <-d.timers.remind.C:
			d.reminder()
		case <-d.timers.trim.C:
			d.tidy()
		}
	}
}

func (d *Daemon) start() {
	d.reached.started = true
	d.job.Start(&d.room)
}

// jobDone returns the channel of a job that has not ended yet.
func (d *Daemon) jobDone() <-chan struct{} {
	if !d.machine.alive {
		return nil
	}
	return d.job.Done()
}

// request serves a request in the state that the job has now.
func (d *Daemon) request(o order.Order) {
	d.jobChanged()
	d.machine.request(o)
}

// jobChanged acts on what is new in the job's report, in the order in which it came.
func (d *Daemon) jobChanged() {
	r := d.job.Report()
	if r.Active {
		d.machine.served()
	}
	if r.Serving != "" {
		d.serving(r.Serving)
	}
	if r.Err != nil {
		d.hurry(1)
		d.machine.failing(r.Err)
	}
}

// serving says once to those who wait for it that gophd is well.
func (d *Daemon) serving(text string) {
	if d.reached.serves {
		return
	}
	d.reached.serves = true
	fault.At("ready")
	d.notify(sdReady)
	if d.o.Serving != nil {
		if path := d.log.Path(); path != "" {
			text += "; log: " + path
		}
		d.o.Serving(text)
	}
}

// Locked is called by the supervisor: no other gophd can be in its way on this host.
func (d *Daemon) Locked() {
	d.reached.locked = true
	if d.o.Trouble != nil {
		return // it continues as it was, which was said
	}
	h := d.o.Handoff
	if h == nil {
		d.events.Publish(event.Started(d.o.Version, os.Getpid()))
		return
	}
	d.events.Publish(event.Resumed(d.o.Version, os.Getpid()))
	if h.Previous != nil {
		d.events.Publish(event.ReloadApplied(config.Changed(h.Previous, h.Config)))
	}
}

// TakePIDFile is called by the supervisor.
func (d *Daemon) TakePIDFile() error { return d.pidFile.take() }

// RemovePIDFile is called by the supervisor.
func (d *Daemon) RemovePIDFile() { d.pidFile.remove() }

// turned acts on a new state of the machine.
func (d *Daemon) turned(to state) {
	switch to {
	case reexecuting:
		d.notifyReloading()
		d.reminder()
	case stopping, killing:
		d.notify(sdStopping)
		d.reminder()
	}
}

// reminder says which runs are waited for, asks the service manager for as long as it may take, and
// comes again while that lasts.
func (d *Daemon) reminder() {
	if d.machine.state < reexecuting || !d.machine.alive {
		return
	}
	snap, spec := d.board.Snapshot(), d.o.Config.Jobs[0]
	for _, g := range snap.Jobs[0].Going {
		d.events.Publish(supervisor.WaitEvent(spec, d.machine.state.String(), d.machine.state == killing, g, snap.Taken))
	}
	d.notify(sdExtend)
	d.timers.remind.Reset(remindAfter)
}

// What a start needs is needed no more when it has settled. A collection of the heap before its end,
// while it still grows, would leave it larger for good: measured, 0.4 MB.
const (
	settled   = 2 * time.Second
	trimAfter = time.Minute
)

// tidy gives back what the start has left, and from trimAfter on keeps the heap small: measured, a
// third less memory after thousands of runs, for 10 % more of gophd's own CPU time.
func (d *Daemon) tidy() {
	if !d.timers.old {
		d.timers.old = true
		d.timers.trim.Reset(trimAfter - settled)
		unmapProgram()
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
	debug.FreeOSMemory()
	unmapProgram()
}

// hurry tells the log, and every other place of the output, how often a stop was requested: the more
// often, the less one that takes nothing is waited for.
func (d *Daemon) hurry(times int) {
	for {
		before := d.hurried.Load()
		if int(before) >= times {
			return
		}
		if d.hurried.CompareAndSwap(before, int32(times)) {
			break
		}
	}
	if d.log != nil {
		d.log.Hurry(times)
	}
	if d.job != nil {
		d.job.Hurry(times)
	}
}

// end carries out what the machine decided, once the job has ended: lease, PID file and local lock are
// released or handed off, then all that open opened is closed.
func (d *Daemon) end() (Outcome, error) {
	_ = goroutine.Catch(d.room.Wait) // a supervisor catches its own
	m := d.machine
	again := m.state == reexecuting
	if errors.As(m.err, new(*supervisor.FatalError)) && !d.job.Released() {
		if err := d.life.guard.Recover(d.life.now, boot()); err != nil {
			d.problem(err)
		} else {
			again = true
		}
	}
	d.probe.end()
	if again {
		o := Outcome{Restart: d.handOff()}
		o.left = d.job.Left()
		return o, nil
	}
	d.job.Release()
	d.logTrouble() // the last word on what is lost
	if d.reached.locked {
		d.events.Publish(event.Exiting(m.reason()))
	}
	d.hearStops(d.close)
	return Outcome{Last: d.job.Last(), Said: d.echoed()}, m.err
}

// reason is why it ends, in words.
func (m *machine) reason() string {
	switch {
	case m.err != nil:
		return m.err.Error()
	case m.state == killing:
		return job.ErrInsisted.Error()
	}
	return "all is done"
}

// echoed returns true if the log has shown on Stderr why gophd exits, or why the only run did not start.
func (d *Daemon) echoed() bool {
	var held *heartbeat.HeldError
	switch {
	case d.o.Config.Daemon:
		return false
	case d.machine.err != nil: // an error, but that another runs is none
		return !errors.As(d.machine.err, &held)
	}
	last := d.job.Last()
	return last != nil && last.Outcome == job.Unstarted && d.o.Config.Log.Level != "error" // it is a warning
}

// hearStops runs f, which shuts down the log, and passes on each further stop signal until f returns.
func (d *Daemon) hearStops(f func()) {
	var room goroutine.Group
	done := make(chan struct{})
	room.Go(func() {
		last := d.machine.entered
		for {
			select {
			case <-done:
				return
			case o := <-d.o.Signals.C():
				if o.Verb == order.Stop && time.Since(last) >= stopAgain {
					last = time.Now()
					d.hurry(int(d.hurried.Load()) + 1)
				}
			}
		}
	})
	defer room.Wait()
	defer close(done)
	f()
}

func (d *Daemon) problem(err error)   { d.events.Publish(event.Problem(err)) }
func (d *Daemon) caution(text string) { d.events.Publish(event.Caution(text)) }

func boot() time.Duration { return alarm.Now(alarm.Boot) }
