package daemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/procfs"
	"gophd/internal/restart"
	"gophd/internal/supervisor"
)

// probe is the check of the next program by its own preflight.
type probe struct {
	answer     chan answer
	goroutines goroutine.Group
	ctx        context.Context // of its goroutines
	cancel     context.CancelFunc
	answered   answer      // the last one
	planning   atomic.Bool // a plan is being made
}

type answer struct {
	config []byte // that was validated; nil if the next program has to load it itself
	jobs   int    // their number in config, if this program can read it
	// previous is the config of this process, encoded: that takes long for many jobs, and would delay the
	// new process later.
	previous []byte
	err      error
}

func (p *probe) begin() {
	p.answer = make(chan answer, 1)
	p.ctx, p.cancel = context.WithCancel(context.Background())
}

func (p *probe) end() {
	p.cancel()
	_ = goroutine.Catch(p.goroutines.Wait) // a panic was its answer
}

// check runs the next program's preflight in the background. The answer is sent to probe.answer.
func (d *Daemon) check() {
	d.ask(d.probe.ctx, d.probe.answer)
}

// ask runs the next program's preflight in the background, and sends its answer.
func (d *Daemon) ask(ctx context.Context, to chan<- answer) {
	asker := d.asker()
	d.probe.goroutines.Go(func() {
		var a answer
		p := goroutine.Catch(func() {
			a.config, a.err = d.preflightNext(ctx, asker)
			a.jobs = len(config.Jobs(a.config).Names)
			a.previous = d.o.Config.Encode()
		})
		if p != nil {
			a.err = p
		}
		to <- a
	})
}

// checked acts on an answer.
func (d *Daemon) checked(a answer) {
	d.probe.answered = a
	d.machine.checked(a.err)
}

// asker returns what the preflight must know of this process. It asks the lease first, which waits
// for a step that is being done: the rest is what it is after that step.
func (d *Daemon) asker() preflight.Running {
	a := preflight.Running{PID: os.Getpid(), Name: d.o.Config.Name, Many: d.o.Config.Many, Failed: d.jobs.failed()}
	if key, l, ok := d.lease.Shared(); ok {
		a.URL, a.Key, a.ID = d.o.Config.Heartbeat.URL, key, l.ID
		holding := []heartbeat.State{heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending}
		a.Holds = !l.Unproven && slices.Contains(holding, l.State)
	}
	if d.o.Config.OwnLeases() && d.jobs.store != nil {
		a.URL, a.Key, a.Own = d.o.Config.Heartbeat.URL, lease.Key(d.o.Config.Name), true
	}
	if lock := d.lease.Lock(); lock != nil {
		a.Lock, a.Users = lease.FileID(lock.Descriptor()), lock.Users()
		if a.Lock != "" {
			a.LockPath = lease.LockPath(d.o.Config)
		}
	}
	a.LostLocks = d.jobs.lostLocks(d.o.Config)
	a.Serves = slices.ContainsFunc(d.jobs.all, func(m *member) bool { return m.Supervisor != nil && m.Looping() })
	if f, err := d.pidFile.descriptor(); err == nil && f != nil {
		a.PIDFile = lease.FileID(f)
		_ = f.Close() // this is a second descriptor
	}
	return a
}

// moreJobs is how many jobs a reload may add: the memory for the answer of the next program is limited.
const moreJobs = 10_000

func (d *Daemon) preflightNext(ctx context.Context, a preflight.Running) ([]byte, error) {
	version, own := strconv.Itoa(restart.Version), d.o.Self
	stdout, stderr := limitedBuffer{limit: restart.MaxSize(len(d.o.Config.Jobs) + moreJobs)}, limitedBuffer{limit: 4 << 10}
	ctx, cancel := context.WithTimeout(ctx, preflight.Timeout)
	defer cancel()
	p, err := d.spawner.Start(ctx, process.Command{
		Argv: append([]string{own.Path, preflight.Command, version}, own.Args[1:]...),
		Dir:  own.Dir, Env: append(slices.Clip(own.Env), a.Variable()),
		Stdout: process.Output{Open: stdout.open}, Stderr: process.Output{Open: stderr.open}})
	switch {
	case errors.Is(err, job.ErrSetup):
		return nil, fmt.Errorf("the directory in which gophd was started (%s) cannot be entered: create it again, or grant the right to enter it", own.Dir)
	case err != nil:
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { p.Stop(0) })
	result := p.Wait()
	release()
	config, ok := preflight.ParseAnswer(stdout.String(), version)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s did not check the config within %s", own.Path, preflight.Timeout)
	case result.OK() && ok:
		return config, nil
	}
	if text := oneLine(stderr.String()); text != "" {
		return nil, errors.New(text)
	}
	return nil, fmt.Errorf("%s cannot read handoff version %s: it exited with %s", own.Path, version, result)
}

// oneLine returns the errors that a gophd printed on stderr, for a log line.
func oneLine(printed string) string {
	var all []string
	for line := range strings.Lines(printed) {
		if line = strings.TrimSpace(strings.TrimPrefix(line, "gophd: ")); line != "" {
			all = append(all, line)
		}
	}
	return strings.Join(all, "; ")
}

// limitedBuffer keeps the head of what a preflight prints, up to limit bytes.
type limitedBuffer struct {
	bytes.Buffer
	limit int
}

func (t *limitedBuffer) open(int) io.WriteCloser { return t }
func (t *limitedBuffer) Close() error            { return nil }

func (t *limitedBuffer) Write(b []byte) (int, error) {
	t.Buffer.Write(b[:min(len(b), max(t.limit-t.Len(), 0))])
	return len(b), nil
}

// force stops the active runs.
func (d *Daemon) force(cause error) {
	times := 1
	if errors.Is(cause, job.ErrInsisted) {
		times = 2
	}
	d.escalate(times)
	d.jobs.each(func(m *member) { m.Force(cause) })
}

// eachLog calls f with the log, and with each other log that receives output of the command.
func (d *Daemon) eachLog(f func(*logging.Log)) {
	f(d.log)
	d.jobs.each(func(m *member) { m.Logs(f) })
}

// pauseWrites pauses gophd's writes to files, and returns an error while a call waits for a disk.
// execve(2) would wait for that call in the kernel, and meanwhile no signal would be served and no
// lease renewed.
func (d *Daemon) pauseWrites() error {
	if busy := d.pauseHistory(); busy != nil {
		return busy // meanwhile the logs, which may be on another disk, are written
	}
	d.eachLog((*logging.Log).Pause)
	var busy error
	d.eachLog(func(l *logging.Log) { busy = cmp.Or(busy, l.Idle()) })
	if busy != nil {
		return busy
	}
	if procfs.WaitsForDisk() {
		return errors.New("a thread waits for a disk that does not answer")
	}
	return nil
}

// handOff ends the work of this process. It releases nothing that the next process needs.
func (d *Daemon) handOff() *restart.Handoff {
	if d.jobs.recovering() != nil {
		d.life.guard.Count(boot())
	}
	h := &restart.Handoff{Jobs: max(len(d.jobs.all), d.probe.answered.jobs), Daemon: d.o.Config.Daemon, Born: d.life.born, Began: d.life.daemonStart,
		Restarts: d.life.execs + 1,
		Guard:    d.life.guard, Files: map[string]*os.File{}}
	if d.machine.state == reexecuting && d.probe.answered.config != nil { // after a fatal error nothing was validated
		h.Config, h.Previous = d.probe.answered.config, d.probe.answered.previous
	}
	s := handedState{Board: d.board.Save()}
	if f, err := d.pidFile.descriptor(); err != nil {
		d.problem(err)
	} else if f != nil {
		h.Files[pidFileName] = f
		d.pidFile.detach()
		s.PIDFile = d.o.Config.PIDFile
	}
	d.events.Publish(event.Reexecuting())
	if err := d.closeWatch(); err != nil {
		d.problem(err)
	}
	if d.api != nil {
		f, at, err := d.api.HandOff()
		if err != nil {
			d.problem(err)
		}
		if f != nil {
			h.Files[apiSocket], s.API = f, at
		}
	}
	idle, active := d.jobs.byActivity()
	for _, m := range idle { // meanwhile the output of the others is still read
		s.Jobs = append(s.Jobs, m.handOff(h.Files))
	}
	d.log.Leave() // the new process writes the rest
	for _, m := range active {
		s.Jobs = append(s.Jobs, m.handOff(h.Files))
	}
	s.Escaped, s.Reported = supervisor.HandOffPipes(d.spawner.HandOff(), h.Files), d.spawner.Reported()
	fault.At("reading stopped")
	if d.mailer != nil {
		d.mailer.Leave()
		d.mailer = nil
	}
	var unlogged []error // the new process logs it
	d.jobs.each(func(m *member) { unlogged = append(unlogged, m.LostOutput()...) })
	s.Log = logState{File: d.log.Path(), Format: d.o.Config.Log.Format}
	var err error
	if s.Log.Left, err = d.log.Left(); err != nil {
		unlogged = append(unlogged, err)
	}
	fault.At("log closed")
	// After the log, which may take some time, so that the lease is fresh.
	failed := d.handOffLeases(&s, h)
	_ = goroutine.Catch(d.goroutines.Wait)
	s.History = d.leaveHistory()
	d.close()
	for _, err := range append(unlogged, failed...) {
		s.Errors = append(s.Errors, err.Error())
	}
	s.Log.Losses = d.log.Losses()
	s.Log.Jobs = d.logs.losses()
	if d.recent != nil {
		s.Events = d.recent.Save()
	}
	h.State = s.encode()
	return h
}
