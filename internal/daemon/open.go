package daemon

import (
	"errors"
	"os"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/api"
	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/eventlog"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/jobfile"
	"gophd/internal/logging"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/status"
	"gophd/internal/supervisor"
	"gophd/internal/timer"
)

// open opens what needs no lock. If something cannot be opened, it closes the rest again.
func (d *Daemon) open() (err error) {
	o := d.o
	if d.handed, err = decodeState(o.Handoff); err != nil {
		return err
	}
	d.life = d.inherit()
	if o.Handoff != nil {
		d.previous = config.Jobs(o.Handoff.Previous)
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if err := preflight.Distinct(o.Config); err != nil {
		return err
	}
	if err := preflight.CreateDirectories(o.Config); err != nil {
		return err
	}
	if err := d.openLog(); err != nil {
		return err
	}
	if d.spawner, err = process.New(); err != nil {
		return err
	}
	var files map[string]*os.File
	if o.Handoff != nil {
		files = o.Handoff.Files
		var runs []int
		for _, j := range d.handed.Jobs {
			for _, run := range j.Runs {
				runs = append(runs, run.PID)
			}
		}
		d.spawner.Inherit(runs, d.handed.Reported)
	}
	d.pidFile = &pidFile{path: o.Config.PIDFile, handed: files[pidFileName], handedPath: d.handed.PIDFile,
		events: d.events}
	if err := d.openTimers(); err != nil {
		return err
	}
	if err := d.openLease(files); err != nil {
		return err
	}
	if program := preflight.Sendmail(o.Config, o.Self.Env); program != "" {
		d.mailer = supervisor.NewMailer(program, d.spawner)
	}
	if err := d.openJobs(files); err != nil {
		return err
	}
	d.machine = &machine{state: starting, actions: actions{
		stop: func() {
			d.escalate(1)
			d.jobs.each(func(m *member) { m.Stop() })
		},
		force: d.force,
		kill: func() {
			d.escalate(3)
			d.jobs.each(func(m *member) { m.Kill() })
		},
		runNow:      d.jobs.runNow,
		freeze:      d.jobs.freeze,
		thaw:        func() { d.jobs.each(func(m *member) { m.Thaw() }) },
		check:       d.check,
		retryAfter:  func(after time.Duration) { d.timers.retry.Reset(after) },
		pauseWrites: d.pauseWrites,
		resume: func() {
			d.eachLog((*logging.Log).Resume)
			d.resumeHistory()
		},
		dump:         d.dump,
		reopen:       d.reopen,
		stateChanged: d.stateChanged,
		publish:      d.events.Publish,
	}}
	d.openWatchdog()
	d.probe.begin()
	if err := d.openAPI(); err != nil {
		return err
	}
	d.openWatch()
	d.logPreviousErrors()
	return nil
}

func (d *Daemon) openTimers() (err error) {
	d.timers = timers{uptime: stopped(), remind: stopped(), retry: stopped(), recover: stopped(),
		unmap: time.NewTimer(unmapAfter), shrink: time.NewTimer(shrinkAfter), unused: stopped()}
	if d.restartsByItself() {
		d.timers.uptime.Reset(d.o.Config.AutoRestart)
	}
	if d.timers.monotonic, err = timer.NewQueue(timer.Monotonic); err != nil {
		return err
	}
	d.timers.boot, err = timer.NewQueue(timer.Boot)
	return err
}

// timersOf returns the queue for the loop of a job.
func (d *Daemon) timersOf(spec *job.Spec) (_ *timer.Queue, err error) {
	if spec.Calendar == nil {
		return d.timers.monotonic, nil
	}
	if d.timers.wall == nil {
		d.timers.wall, err = timer.NewQueue(timer.Wall)
	}
	return d.timers.wall, err
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// logPreviousErrors publishes the problems that are known before the start.
func (d *Daemon) logPreviousErrors() {
	for _, text := range d.handed.Errors {
		d.problem(errors.New(text))
	}
	if d.o.Trouble != nil {
		d.events.Publish(event.ReloadRejected(d.o.Trouble))
	}
	for _, w := range d.o.Config.Warnings {
		d.warn(w)
	}
	if d.o.Handoff == nil {
		for _, w := range preflight.MailCautions(d.o.Config, d.o.Self.Env) {
			d.warn(w)
		}
	}
}

// inherit returns the life of the daemon until now.
func (d *Daemon) inherit() life {
	l := life{processStart: boot(), daemonStart: boot(), born: time.Now()}
	h := d.o.Handoff
	if h == nil {
		return l
	}
	l.born, l.execs, l.guard = h.Born, h.Restarts, h.Guard
	if d.o.Trouble != nil {
		l.execs-- // it was no re-exec
	}
	if h.Began > 0 {
		l.daemonStart = h.Began
	}
	return l
}

// openLog opens the log, and the stream of events with its readers.
func (d *Daemon) openLog() (err error) {
	c := d.o.Config
	options, err := d.logOptions()
	if err != nil {
		return err
	}
	if d.log, err = logging.Open(options); err != nil {
		return err
	}
	d.logs = newLogWatch(d.log, options)
	d.board = status.New(d.firstSnapshot())
	for _, spec := range c.Jobs {
		for _, run := range d.handed.job(c, spec).Runs {
			d.board.Read(event.RunStatus(spec.Name, run.Run, run.Status))
		}
	}
	if d.o.Handoff != nil {
		d.board.Restore(d.handed.Board)
	}
	reader := eventlog.New(d.loggers(""), c.Log.Format == "json")
	readLog := reader.Read
	if c.Many {
		readLog = reader.Jobs(d.names(), d.loggers).Read
	}
	readers := []func(event.Event){d.board.Read, readLog, d.readHistory}
	if c.Listens() {
		d.recent = api.NewEvents(d.handed.Events)
		readers = append(readers, d.recent.Read)
	}
	d.manager = newManager()
	if d.manager.address != "" {
		readers = append(readers, d.manager.noticed)
	}
	d.events = event.NewStream(readers...)
	d.records = jobfile.NewWriter(d.problem)
	d.openHistory()
	if err := d.log.CrashOutput(); err != nil {
		d.problem(err)
	}
	return nil
}

// loggers returns those for events about a job, or for those about the daemon.
func (d *Daemon) loggers(job string) eventlog.Loggers {
	log := d.log.Job(job)
	to := eventlog.Loggers{Failures: log.Logger(), Rest: log.Logger(), Echo: log.EchoLogger(),
		Daemon: log.CommonLogger()}
	if d.o.Config.Quiet {
		to.Rest = log.FileLogger()
	}
	return to
}

// logOf returns the log for the lines of a job.
func (d *Daemon) logOf(job string) logging.Job {
	if !d.o.Config.Many {
		job = ""
	}
	return d.log.Job(job)
}

// logOptions returns the options of the config, completed for this process.
func (d *Daemon) logOptions() (logging.Options, error) {
	o := d.o
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
	l.Losses, l.Unwritten = d.handed.Log.Losses, d.handed.Log.Left
	for _, spec := range d.everyJob() {
		if !preflight.OwnLog(o.Config, *spec) {
			continue
		}
		own, err := preflight.JobLogOptions(o.Config, *spec)
		if err != nil {
			return l, err
		}
		l.Jobs = append(l.Jobs, logging.JobLog{Job: spec.Name, File: own.File, Trusted: own.Trusted,
			Losses: d.handed.Log.Jobs[spec.Name]})
	}
	return l, nil
}

// firstSnapshot returns the first Snapshot of the board.
func (d *Daemon) firstSnapshot() status.Snapshot {
	c := d.o.Config
	s := status.Snapshot{Name: c.Name, Version: d.o.Version, State: starting.String(), PID: os.Getpid(), Born: d.life.born, ProcessStart: time.Now(),
		Restarts: d.life.execs,
		Config:   c.File, Daemon: c.Daemon, Verbose: c.Verbose}
	if h := d.o.Handoff; h != nil && h.Began > 0 {
		s.Born = time.Now().Add(h.Began - boot()) // so that no step of the wall clock changes the age
	}
	if d.restartsByItself() {
		s.RestartIn = c.AutoRestart
	}
	for _, spec := range d.specs() {
		every := spec.Interval
		if spec.Once || spec.Service {
			every = 0
		}
		s.Jobs = append(s.Jobs, status.Job{Name: spec.Name, Schedule: spec.Cadence(), Timed: spec.Timed(), Interval: spec.Interval, Every: every,
			Lease: status.Lease{Store: "none", State: "not asked for"}})
	}
	return s
}

func (d *Daemon) restartsByItself() bool {
	c := d.o.Config
	return c.AutoRestart > 0 && (c.RestartWhen == "always" || c.RestartWhen == "daemon" && c.Daemon)
}

// close closes what open opened, in the reverse sequence. It reports each error and panic, and then
// closes the rest. The signals stay caught: a stop that comes at the very end must not turn the
// exit code into a death by that signal.
func (d *Daemon) close() {
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
	attempt(d.closeWatch)
	if d.api != nil {
		attempt(d.api.Close)
	}
	d.jobs.each(func(m *member) { attempt(m.Close) })
	if d.records != nil {
		attempt(d.records.Close)
	}
	for _, l := range d.leases() {
		l.Leave()
	}
	if d.jobs.store != nil {
		attempt(d.jobs.store.Close)
	}
	for _, q := range []*timer.Queue{d.timers.monotonic, d.timers.boot, d.timers.wall} {
		if q != nil {
			attempt(q.Close)
		}
	}
	if d.mailer != nil {
		attempt(d.mailer.Close)
	}
	if d.spawner != nil {
		d.escalate(1)
		attempt(d.spawner.Close)
	}
	attempt(d.closeHistory)
	if d.log == nil {
		return
	}
	for _, err := range trouble {
		d.problem(err)
	}
	d.awaitReopening()
	_ = d.log.CloseFile() // it reports on stderr how many lines it could not write
	d.reportLogs(len(d.logs.all))
	attempt(d.log.Close) // its own error has nowhere to go: stderr itself may be stalled
}
