package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/procfs"
	"gophd/internal/restart"
)

// probe is the preflight of the next program that is under way.
type probe struct {
	answer chan answer
	room   goroutine.Group
	cancel context.CancelFunc // nil before the first
	config json.RawMessage    // that was validated last
}

type answer struct {
	config json.RawMessage
	err    error
}

func (p *probe) end() {
	if p.cancel != nil {
		p.cancel()
	}
	_ = goroutine.Catch(p.room.Wait) // a panic was its answer
}

// check tries the next program in the background. The answer is sent to probe.answer.
func (d *Daemon) check() {
	ctx, cancel := context.WithCancel(context.Background())
	d.probe.cancel = cancel
	asker := d.asker()
	d.probe.room.Go(func() {
		var a answer
		if p := goroutine.Catch(func() { a.config, a.err = d.tryNext(ctx, asker) }); p != nil {
			a.err = p
		}
		d.probe.answer <- a
	})
}

// checked acts on an answer.
func (d *Daemon) checked(a answer) {
	d.probe.config = a.config
	d.machine.checked(a.err)
}

// asker is what the preflight has to know of this process.
func (d *Daemon) asker() preflight.Asker {
	a := preflight.Asker{PID: os.Getpid()}
	d.job.Asker(&a)
	if f, err := d.pidFile.descriptor(); err == nil && f != nil {
		a.PIDFile = lease.FileID(f)
		_ = f.Close() // a second one
	}
	return a
}

func (d *Daemon) tryNext(ctx context.Context, a preflight.Asker) (json.RawMessage, error) {
	version, me := strconv.Itoa(restart.Version), d.o.Self
	said, complained := text{most: restart.MaxSize}, text{most: 4 << 10}
	ctx, cancel := context.WithTimeout(ctx, preflight.Timeout)
	defer cancel()
	p, err := d.spawner.Start(ctx, process.Command{
		Argv: append([]string{me.Path, preflight.Command, version}, me.Args[1:]...),
		Dir:  me.Dir, Env: append(slices.Clip(me.Env), a.Variable()),
		Stdout: process.Output{Open: said.open}, Stderr: process.Output{Open: complained.open}})
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { p.Stop(0) })
	result := p.Wait()
	release()
	config, ok := preflight.ParseAnswer(said.String(), version)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s did not check the config within %s", me.Path, preflight.Timeout)
	case result.OK() && ok:
		return config, nil
	case strings.TrimSpace(complained.String()) != "":
		return nil, errors.New(strings.TrimSpace(complained.String()))
	}
	return nil, fmt.Errorf("%s is not a gophd that reads handoff %s: it ended with %s", me.Path, version, result)
}

// text keeps the beginning of what a preflight prints.
type text struct {
	bytes.Buffer
	most int // bytes
}

func (t *text) open(int) io.WriteCloser { return t }
func (t *text) Close() error            { return nil }

func (t *text) Write(b []byte) (int, error) {
	t.Buffer.Write(b[:min(len(b), max(t.most-t.Len(), 0))])
	return len(b), nil
}

// force stops the active runs.
func (d *Daemon) force(cause error) {
	times := 1
	if errors.Is(cause, job.ErrInsisted) {
		times = 2
	}
	d.hurry(times)
	d.job.Force(cause)
}

// freeze leaves the active runs to the next process. An error says what is in the way now.
func (d *Daemon) freeze() error {
	if err := d.job.Freeze(); err != nil {
		return err
	}
	<-d.job.Done()
	return nil
}

// eachLog calls f with the log, and with all else that takes output of the command.
func (d *Daemon) eachLog(f func(*logging.Log)) {
	f(d.log)
	d.job.Logs(f)
}

// quiet pauses what gophd writes to files, and returns an error while a call waits for a disk. execve(2)
// would wait for that call in the kernel, and meanwhile no signal is served and no lease renewed.
func (d *Daemon) quiet() error {
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

// handOff ends the work of this process without releasing anything that the next one needs.
func (d *Daemon) handOff() *restart.Handoff {
	h := &restart.Handoff{Daemon: d.o.Config.Daemon, Born: d.life.born, Began: d.life.began, Restarts: d.life.execs + 1,
		Guard: d.life.guard, Files: map[string]*os.File{}}
	if d.machine.state == reexecuting && d.probe.config != nil { // after a fatal error nothing was validated
		h.Config, h.Previous = d.probe.config, d.o.Config.Encode()
	}
	s := handedState{Board: d.board.Memoir()}
	if f, err := d.pidFile.descriptor(); err != nil {
		d.problem(err)
	} else if f != nil {
		h.Files[pidFileName] = f
		d.pidFile.leave()
		s.PIDFile = d.o.Config.PIDFile
	}
	d.events.Publish(event.Exiting("a new image goes on"))
	d.log.Leave() // the new process writes what it has not written
	s.Job = d.job.Silence(h.Files)
	fault.At("reading stopped")
	unlogged := d.job.LostOutput() // the new process logs it
	s.Log = logState{File: d.log.Path(), Format: d.o.Config.Log.Format}
	var err error
	if s.Log.Left, err = d.log.Left(); err != nil {
		unlogged = append(unlogged, err)
	}
	fault.At("log closed")
	// After a log that may take its time, so that the lease is fresh.
	instance, failed := d.job.HandOff(&s.Job, h.Files)
	h.Instance = instance
	d.close()
	for _, err := range append(unlogged, failed...) {
		s.Errors = append(s.Errors, err.Error())
	}
	s.Log.Losses = d.log.Losses()
	h.State = s.encode()
	return h
}
