package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/alarm"
	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/eventlog"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/keep"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/loop"
	"gophd/internal/order"
	"gophd/internal/pidfile"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/procfs"
	"gophd/internal/restart"
	"gophd/internal/safefile"
	"gophd/internal/sdnotify"
	"gophd/internal/signals"
	"gophd/internal/status"
	"gophd/internal/world"
)

// rig is a Supervisor at work: the rooms, and what the one goroutine that owns them knows.
type rig struct {
	o      Options
	spec   job.Spec
	handed handedState // by the process before us

	signals *signals.Signals
	log     *logging.Log
	events  *event.Stream
	board   *status.Board
	spawner *process.Spawner
	null    *os.File // /dev/null, for output that is discarded
	runner  *runner
	cgroup  *process.Cgroup  // nil when the job has none of its own
	notices *sdnotify.Socket // nil where runs have nothing to tell; the runner's too

	lease   *lease.Lease // nil before it was opened
	pidFile *pidfile.File

	ticks    *alarm.Alarm
	vigil    *vigil // nil before there are orphans
	loop     *loop.Loop
	insist   context.CancelCauseFunc
	loopRoom goroutine.Group
	loopDone chan struct{} // closed when the loop has ended; nil before and after it was heard
	loopFell error
	loopEnd  loop.End
	lastTick job.Tick
	grid     loop.Grid

	// The loop's goroutine sets these.
	underWay atomic.Int32 // runs that the loop has started and whose end it has not seen
	draining atomic.Bool  // it starts no more

	machine   *machine
	inherited []order.Order
	probed    chan error
	probeRoom goroutine.Group
	endProbe  context.CancelFunc // nil before the first probe
	uptime    *time.Timer
	remind    *time.Timer
	retry     *time.Timer // of a loop that could not be left
	reclaim   *time.Timer // of a local lock that was held
	heard     int         // how often it was
	old       *time.Timer // the end of a lease under which runs began that were left to us
	trim      *time.Timer
	losses    *time.Timer     // after a word about the log, to the next
	logFails  <-chan struct{} // the log's, but for that while

	reopening   <-chan error // the result of the reopening that is under way; nil without one
	reopenAgain bool         // another was asked for meanwhile
	astray      string       // what was said last about where the log is
	claiming    bool         // the first claim has begun
	prepared    bool         // the PID file was asked for, and what the last owner of the local lock left looked for
	settled     bool         // the start is over
	released    bool         // see releaseEarly
	begun       bool         // the local lock is ours; before, a second start leaves hardly a trace
	said        bool         // Serving was called

	image  time.Duration // start of this image on the boot clock
	began  time.Duration // first start of this daemon on the boot clock
	born   time.Time
	guard  restart.Guard
	images int // before this one
	last   *job.Result

	unsaid  []string // what the next image has to say for us
	dropped uint64   // log lines of which it was said that they are lost

	hurried atomic.Int32 // how often it was told to end
}

// build opens the parts that need nobody's leave. What cannot be had is an error, and what was opened
// before it is closed again.
func build(o Options) (_ *rig, err error) {
	r := &rig{o: o, spec: o.Config.Jobs[0], probed: make(chan error, 1), image: alarm.Now(alarm.Boot), born: time.Now()}
	r.began = r.image
	r.signals = o.Signals
	if r.handed, err = decodeState(o.Handoff); err != nil {
		return nil, err
	}
	r.inherit()
	defer func() {
		if err != nil {
			r.close()
			if r.cgroup != nil {
				_ = r.cgroup.Close() // nobody is in it yet, or whoever stops the runs sweeps it
			}
		}
	}()
	if err := preflight.Distinct(o.Config); err != nil {
		return nil, err
	}
	if err := r.folders(); err != nil {
		return nil, err
	}
	to, err := r.logOptions()
	if err != nil {
		return nil, err
	}
	r.dropped = to.Losses.Lines // which was said
	if r.log, err = logging.Open(to); err != nil {
		return nil, err
	}
	r.logFails = r.log.Trouble()
	r.board = status.New(r.firstSnapshot())
	for _, run := range r.handed.Job.Runs {
		r.board.Read(event.RunStatus(r.spec.Name, run.Run, run.Status))
	}
	if o.Handoff != nil {
		r.board.Recall(r.handed.Board)
	}
	r.events = event.NewStream(r.board.Read, eventlog.New(r.log.Logger(), r.log.EchoLogger(), o.Config.Log.Format == "json").Read)
	if err := r.log.CrashOutput(); err != nil {
		r.trouble(err)
	}
	if r.spawner, err = process.New(); err != nil {
		return nil, err
	}
	if o.Handoff != nil {
		var runs []int
		for _, run := range r.handed.Job.Runs {
			runs = append(runs, run.PID)
		}
		r.spawner.Inherit(runs...)
	}
	if err := r.world(); err != nil {
		return nil, err
	}
	if r.ticks, err = alarm.New(alarm.Monotonic); err != nil {
		return nil, err
	}
	if err := r.openLease(); err != nil {
		return nil, err
	}
	r.machine = &machine{state: claiming, hands: hands{
		startLoop: r.startLoop,
		stopLoop: func() {
			r.hurry(1)
			if r.loop != nil {
				r.loop.Stop()
			}
		},
		wakeLoop:  func() { r.loop.Wake() },
		leaveLoop: r.leaveLoop,
		again:     func() { r.retry.Reset(leaveAgain) },
		quiet:     r.quiet,
		resume:    r.resume,
		interrupt: r.runner.Interrupt,
		insist: func(cause error) {
			times := 1
			if errors.Is(cause, job.ErrInsisted) {
				times = 2
			}
			r.hurry(times)
			if r.insist != nil {
				r.runner.Interrupt(cause)
				r.insist(cause)
			}
		},
		kill: func() {
			r.hurry(3)
			r.runner.Kill()
		},
		check:   r.probe,
		dump:    r.dump,
		reopen:  r.reopen,
		turned:  r.turned,
		publish: r.events.Publish,
	}}
	r.trim = time.NewTimer(settled)
	for _, t := range []**time.Timer{&r.uptime, &r.remind, &r.retry, &r.old, &r.reclaim, &r.losses} {
		*t = time.NewTimer(time.Hour)
		(*t).Stop()
	}
	if r.restartsByItself() {
		r.uptime.Reset(o.Config.AutoRestart)
	}
	for _, text := range r.handed.Errors {
		r.trouble(errors.New(text))
	}
	if o.Trouble != nil {
		r.events.Publish(event.ReloadRejected(o.Trouble))
	}
	for _, w := range o.Config.Warnings {
		r.events.Publish(event.Caution(w))
	}
	return r, nil
}

// close gives back what build opened, in the reverse order. What cannot be closed in order, a panic in a
// room included, is said and keeps nothing else open. The signals stay caught: a stop that comes in the
// last moment of an end must not turn its exit code into a death by that signal.
func (r *rig) close() {
	var trouble []error
	attempt := func(f func() error) {
		var err error
		if p := goroutine.Catch(func() { err = f() }); p != nil {
			err = p
		}
		if err != nil {
			trouble = append(trouble, err)
		}
	}
	if r.lease != nil {
		attempt(r.lease.Leave)
	}
	if r.ticks != nil {
		attempt(r.ticks.Close)
	}
	if r.notices != nil {
		attempt(r.notices.Close)
	}
	if r.spawner != nil {
		r.hurry(1)
		attempt(r.spawner.Close)
	}
	if r.null != nil {
		attempt(r.null.Close)
	}
	if r.log != nil {
		for _, err := range trouble {
			r.trouble(err)
		}
		if r.reopening != nil {
			select {
			case err := <-r.reopening:
				r.events.Publish(event.LogReopened(err))
			case <-time.After(time.Second):
			}
		}
		_ = r.log.CloseFile() // what it could not bring out is said on stderr, with its number
		r.logTrouble()
		attempt(r.log.Close) // its own error has nowhere to go: stderr may be what is stuck
	}
}

// folders makes those that are gophd's own default. One that the user named must be there.
func (r *rig) folders() error {
	for _, dir := range preflight.OwnDirectories(r.o.Config) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("cannot make the folder %s: %w: make it, or set GOPHD_STATE_DIR to one that can be written", dir, err)
		}
		if err := safefile.Check(dir); err != nil {
			return fmt.Errorf("directory %w", err)
		}
	}
	return nil
}

// logOptions are those of the config, with what belongs to this process.
func (r *rig) logOptions() (logging.Options, error) {
	o := r.o
	l, err := preflight.LogOptions(o.Config)
	if err != nil {
		return l, err
	}
	if !o.Config.Daemon {
		l.Echo, l.EchoLevel = o.Stderr, zerolog.WarnLevel
		if o.Config.Verbose {
			l.EchoLevel, l.EchoCommand = zerolog.TraceLevel, true
		}
	}
	l.Losses, l.Left = r.handed.Log.Losses, r.handed.Log.Left
	return l, nil
}

// world is what the command will see.
func (r *rig) world() error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	r.null = null
	surroundings, err := preflight.World(r.spec)
	if err != nil {
		return err
	}
	stdout, stderr, file := outputs(r.spec, r.log, null)
	if file != "" && !isFIFO(file) { // better refused now than at every run; but the reader of a FIFO would take that for its end
		f, err := openOutput(file, surroundings)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	var user *world.User
	if surroundings != nil {
		user = surroundings.User
	}
	env := commandEnvironment(config.Private(r.o.Self.Env), user, r.spec)
	if file := r.o.Config.File; file != "" {
		env = append(env, config.RunVariable+"="+file) // for `gophd config get`
	}
	if err := r.openCgroup(); err != nil {
		return err
	}
	if err := r.openNotify(); err != nil {
		return err
	}
	r.runner = &runner{spec: r.spec, spawner: r.spawner, world: surroundings, cgroup: r.cgroup, stray: r.stray,
		stdout: stdout, stderr: stderr, file: file, started: r.runStarted,
		trouble: r.trouble, env: env, fence: func() uint64 { return r.lease.Fence() }, going: r.handed.Job.Runs, handed: r.handedFiles(),
		notices: r.notices, deaths: make(chan struct{}, 1), places: make([]place, r.places())}
	r.mark("none")
	if r.spec.Output == job.OutputOnFailure {
		r.runner.failed = r.showFailed
	}
	return nil
}

// showFailed shows the output of a run that failed: in the log, or else on stderr as it is.
func (r *rig) showFailed(pid int, output *keep.Keeper) {
	if r.log.Path() == "" {
		var all bytes.Buffer
		_ = output.Dump(&all) // a buffer takes everything
		r.log.Show(all.Bytes())
		return
	}
	w := r.log.Capture("stdout")(pid)
	_ = output.Dump(w) // what cannot be shown is counted by the log
	_ = w.Close()
}

// places is how many runs may go on at the same time: those that were left to us, too, whatever the config says now.
func (r *rig) places() int {
	n := max(r.spec.MaxParallel, 1)
	for _, g := range r.handed.Job.Runs {
		n = max(n, g.Run.Place+1)
	}
	return n
}

// mark sets what begins the GOPHD_RUN_ID of each run of this daemon: the lock with its secret, by which a leftover run is
// found, the PID, and the first start, so that no other daemon has it.
func (r *rig) mark(lock string) {
	born := r.born
	if h := r.o.Handoff; h != nil {
		born = h.Born
	}
	mark := fmt.Sprintf("%s.%d.%d.", lock, os.Getpid(), born.UnixNano())
	r.runner.mark.Store(&mark)
}

// openCgroup makes the job's control group, where it is needed: for limits, which must not be silently missing, and
// for strays that are to be stopped, who can be found without it too.
func (r *rig) openCgroup() (err error) {
	l := preflight.Limits(r.spec)
	if l == (process.Limits{}) && r.spec.Strays != job.StraysKill {
		return nil
	}
	sweepCgroups(r.spec.Name, gone)
	if r.cgroup, err = process.OpenCgroup("", fmt.Sprintf("%s-%d", r.spec.Name, os.Getpid()), l); l == (process.Limits{}) {
		return nil
	}
	return err
}

// sweepCgroups removes the control groups that the job's earlier instances could not remove.
func sweepCgroups(name string, over func(pid int) bool) {
	process.SweepCgroups("", func(group string) bool {
		number, ok := strings.CutPrefix(group, name+"-")
		pid, err := strconv.Atoi(number)
		return ok && err == nil && over(pid)
	})
}

func gone(pid int) bool { return !procfs.Alive(pid, 0) }

// openLease opens the stores of the lease and adopts what was handed off.
func (r *rig) openLease() (err error) {
	job := r.handed.Job
	r.lease, err = lease.Open(lease.Options{
		Config: r.o.Config, Started: r.born, Users: append(r.runner.world.UIDs(), os.Geteuid()),
		Lock: r.kept(localClaim), Leftover: job.Leftover, Local: job.Local, Shared: job.Shared,
	})
	if err != nil {
		return err
	}
	if lock := r.lease.Lock(); lock != nil && lock.Descriptor() != nil { // it was handed off
		r.mark(lease.Mark(lock))
	}
	return nil
}

// handedFiles are the descriptors that were handed off, by name.
func (r *rig) handedFiles() map[string]*os.File {
	if r.o.Handoff == nil {
		return nil
	}
	return r.o.Handoff.Files
}

func (r *rig) kept(name string) *os.File { return r.handedFiles()[name] }

func (r *rig) boot() time.Duration { return alarm.Now(alarm.Boot) }

// takePIDFile takes the PID file, or goes on with the one of the image before us.
func (r *rig) takePIDFile() (err error) {
	path := r.o.Config.PIDFile
	if kept := r.kept(pidFileName); kept != nil && r.pidFile == nil {
		old := r.handed.PIDFile
		f, err := pidfile.Adopt(old, kept)
		switch {
		case err != nil:
			r.events.Publish(event.Caution(err.Error()))
		case old == path:
			r.pidFile = f
		default: // the new config wants another, or none
			if err := f.Remove(); err != nil {
				r.events.Publish(event.Caution(err.Error()))
			}
		}
	}
	if path != "" && r.pidFile == nil {
		r.pidFile, err = pidfile.Take(path)
	}
	return err
}

// startLoop begins to serve.
func (r *rig) startLoop() {
	r.turnLoop()
	r.events.Publish(event.JobServing(r.spec.Name, cadence(r.spec)))
	r.serving(r.spec.Name + " runs " + cadence(r.spec))
}

func (r *rig) turnLoop() {
	ctx, cancel := context.WithCancelCause(context.Background())
	r.insist = cancel
	r.loop = loop.New(loop.Options{Spec: r.spec, Runner: r.runner, Recorder: r, Gate: r.lease, Alarm: r.ticks, Grid: r.handedGrid()})
	done := make(chan struct{})
	r.loopDone = done
	r.loopRoom.Go(func() {
		defer close(done)
		if p := goroutine.Catch(func() { r.loop.Run(ctx) }); p != nil {
			r.loopFell = p
		}
	})
}

// serving says once to those who wait for it that we are well.
func (r *rig) serving(text string) {
	if r.said {
		return
	}
	r.said = true
	if fault.On {
		fault.At("ready")
	}
	r.notify(sdReady)
	if r.o.Serving != nil {
		if path := r.log.Path(); path != "" {
			text += "; log: " + path
		}
		r.o.Serving(text)
	}
}

func (r *rig) restartsByItself() bool {
	c := r.o.Config
	return c.AutoRestart > 0 && (c.RestartWhen == "always" || c.RestartWhen == "daemon" && c.Daemon)
}

// inherit takes over what the old process knew of the daemon.
func (r *rig) inherit() {
	h := r.o.Handoff
	if h == nil {
		return
	}
	r.born, r.images, r.guard, r.inherited = h.Born, h.Restarts, h.Guard, h.Orders
	if r.o.Trouble != nil {
		r.images-- // it was no restart
	}
	if h.Began > 0 {
		r.began = h.Began
	}
}

// firstSnapshot is what the board shows at first.
func (r *rig) firstSnapshot() status.Snapshot {
	c := r.o.Config
	s := status.Snapshot{State: claiming.String(), PID: os.Getpid(), Born: r.born, Image: time.Now(), Restarts: r.images,
		Config: c.File, Daemon: c.Daemon, Verbose: c.Verbose}
	if h := r.o.Handoff; h != nil && h.Began > 0 {
		s.Born = time.Now().Add(h.Began - r.boot()) // which no step of the wall clock moves away from now
	}
	if r.restartsByItself() {
		s.RestartIn = c.AutoRestart
	}
	s.Jobs = []status.Job{{Name: r.spec.Name, Interval: r.spec.Interval,
		Lease: status.Lease{Store: "none", State: "not asked for"}}}
	return s
}

// trouble says what went wrong.
func (r *rig) trouble(err error) { r.events.Publish(event.Problem(err)) }

// cadence is a job's schedule in words.
func cadence(spec job.Spec) string {
	switch {
	case spec.Once:
		return "once"
	case spec.Keep:
		return "all the time"
	case spec.Interval == 0:
		return "back to back"
	}
	return "every " + spec.Interval.String()
}

func (r *rig) handedGrid() *loop.Grid {
	if r.o.Handoff == nil {
		return nil
	}
	going, g := r.handed.Job, r.handed.Job.Grid
	if going.Name != r.spec.Name { // the new config has another
		g = nil
	}
	if g == nil && len(going.Runs) == 0 {
		return nil
	}
	if g == nil {
		g = &restart.Grid{Anchor: going.Runs[0].Started, Tick: 1, Interval: r.spec.Interval}
		for _, run := range going.Runs {
			g.Runs = max(g.Runs, run.Run.Number)
		}
	}
	grid := &loop.Grid{Anchor: g.Anchor.Time(), Tick: g.Tick, Interval: g.Interval, Runs: g.Runs}
	going.resume(grid)
	return grid
}
