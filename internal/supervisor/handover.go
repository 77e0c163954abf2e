package supervisor

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
	"time"

	"gophd/internal/alarm"
	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/order"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/procfs"
	"gophd/internal/restart"
)

const (
	handOverTime = 5 * time.Second // for the last renewal
)

// probe tries the next image in the background; the answer is sent to probed.
func (r *rig) probe() {
	ctx, cancel := context.WithCancel(context.Background())
	r.endProbe = cancel
	asker := r.asker()
	r.probeRoom.Go(func() {
		var err error
		if p := goroutine.Catch(func() { err = r.tryNext(ctx, asker) }); p != nil {
			err = p
		}
		r.probed <- err
	})
}

// asker is what the probe has to know of us. Only the goroutine that owns the claims may ask.
func (r *rig) asker() preflight.Asker {
	a := preflight.Asker{PID: os.Getpid(), Serves: r.machine.looping}
	if lock := r.lease.Lock(); lock != nil {
		a.Lock, a.Users = lease.FileID(lock.Descriptor()), lock.Users()
	}
	if r.pidFile != nil {
		if f, err := r.pidFile.Descriptor(); err == nil {
			a.PIDFile = lease.FileID(f)
			_ = f.Close() // a second one
		}
	}
	if l, ok := r.lease.Shared().Now(); ok {
		a.URL, a.Key, a.ID = r.o.Config.Heartbeat.URL, r.lease.Shared().Key, l.ID
		a.Holds = !l.Unproven && slices.Contains([]heartbeat.State{heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending}, l.State)
	}
	return a
}

func (r *rig) tryNext(ctx context.Context, a preflight.Asker) error {
	version := strconv.Itoa(restart.Version)
	var said, complained text
	ctx, cancel := context.WithTimeout(ctx, preflight.Timeout)
	defer cancel()
	p, err := r.spawner.Start(ctx, process.Command{
		Argv: append([]string{r.o.Self.Path, preflight.Command, version}, r.o.Self.Args[1:]...),
		Dir:  r.o.Self.Dir, Env: append(slices.Clip(r.o.Self.Env), a.Variable()),
		Stdout: process.Output{Open: said.open}, Stderr: process.Output{Open: complained.open}})
	if err != nil {
		return err
	}
	release := context.AfterFunc(ctx, func() { p.Stop(0) })
	result := p.Wait()
	release()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s did not check the config within %s", r.o.Self.Path, preflight.Timeout)
	case result.OK() && said.String() == preflight.Answer(version):
		return nil
	case strings.TrimSpace(complained.String()) != "":
		return errors.New(strings.TrimSpace(complained.String()))
	}
	return fmt.Errorf("%s is not a gophd that reads handoff %s: it ended with %s", r.o.Self.Path, version, result)
}

// text keeps the beginning of what a probe says.
type text struct{ bytes.Buffer }

const textKept = 4 << 10

func (t *text) open(int) io.WriteCloser { return t }
func (t *text) Close() error            { return nil }

func (t *text) Write(b []byte) (int, error) {
	t.Buffer.Write(b[:min(len(b), max(textKept-t.Len(), 0))])
	return len(b), nil
}

// end carries out what the machine decided, once the loop has ended: heartbeat, PID file and local lock
// are released or handed over, then all that build opened is closed.
func (r *rig) end() (Outcome, error) {
	if r.insist != nil {
		r.insist(nil)
		_ = goroutine.Catch(r.loopRoom.Wait)
	}
	m := r.machine
	again := m.state == restarting
	if fatal := (*fatalError)(nil); errors.As(m.err, &fatal) && !r.released {
		if err := r.guard.Recover(r.image, alarm.Now(alarm.Boot)); err != nil {
			r.trouble(err)
		} else {
			again = true
		}
	}
	r.vigil.end()
	if r.endProbe != nil {
		r.endProbe()
	}
	_ = goroutine.Catch(r.probeRoom.Wait)
	if again {
		o := Outcome{Restart: r.handOver()}
		for _, at := range r.runner.left {
			o.left = append(o.left, at.process)
		}
		return o, nil
	}
	if runs := r.runner.going; len(runs) > 0 { // we end before the loop could take them up
		stopRuns(r.events, r.spec.Name, runs, r.spawner, r.handedFiles(), r.runner.resume)
	}
	if len(r.runner.left) > 0 { // a fault of ours came after they were given away
		var s jobState
		files := map[string]*os.File{}
		r.handOverRuns(&s, files)
		stopRuns(r.events, r.spec.Name, s.Runs, r.spawner, files, r.runner.resume)
	}
	r.adoptToRelease()
	r.release(r.lease.Shared())
	r.removePIDFile()
	if r.cgroup != nil {
		if err := r.cgroup.Close(); err != nil {
			r.trouble(err)
		}
	}
	r.release(r.lease.Local())
	r.logTrouble() // the last word on what is lost
	if r.begun {
		r.events.Publish(event.Exiting(m.reason()))
	}
	r.hearStops(r.close)
	_ = r.lease.Close() // the log is closed, and the process ends
	return Outcome{Last: r.last, Said: r.echoed()}, m.err
}

// echoed says that the log has brought before the eyes of who started us why we end, or why the only run did not start.
func (r *rig) echoed() bool {
	var held *heartbeat.HeldError
	switch {
	case r.o.Config.Daemon:
		return false
	case r.machine.err != nil: // an error, but that another runs is none
		return !errors.As(r.machine.err, &held)
	}
	return r.last != nil && r.last.Outcome == job.Unstarted && r.o.Config.Log.Level != "error" // it is a warning
}

func (r *rig) release(c *lease.Claim) {
	if err := c.Release(); err != nil {
		r.notReleased(err)
	}
}

// adoptToRelease takes up what the image before us handed over and we were stopped too early to use, so
// that it is released like the rest and nothing is left behind: the PID file and the heartbeats.
func (r *rig) adoptToRelease() {
	if r.pidFile == nil && !r.released && r.kept(pidFileName) != nil {
		if err := r.takePIDFile(); err != nil {
			r.trouble(err)
		}
	}
	for _, c := range []*lease.Claim{r.lease.Local(), r.lease.Shared()} {
		if c.HandedOff() {
			r.beginClaim(c)
		}
	}
}

// handOver ends this image's work without letting go of anything that the next one needs.
func (r *rig) handOver() *restart.Handoff {
	h := &restart.Handoff{Daemon: r.o.Config.Daemon, Born: r.born, Began: r.began, Restarts: r.images + 1, Guard: r.guard,
		Files: map[string]*os.File{}}
	s := handedState{Board: r.board.Memoir(), Job: jobState{Name: r.spec.Name}}
	if r.loop != nil {
		g := r.grid
		s.Job.Grid = &restart.Grid{Anchor: restart.At(g.Anchor), Tick: g.Tick, Interval: g.Interval, Runs: g.Runs}
	} else if r.o.Handoff != nil {
		s.Job.Name, s.Job.Grid = r.handed.Job.Name, r.handed.Job.Grid
	}
	if r.pidFile != nil {
		if f, err := r.pidFile.Descriptor(); err != nil {
			r.trouble(err)
		} else {
			h.Files[pidFileName] = f
			_ = r.pidFile.Leave() // or it would be one more with each exec that fails
			s.PIDFile = r.o.Config.PIDFile
		}
	}
	r.events.Publish(event.Exiting("a new image goes on"))
	if r.notices != nil {
		h.Files[notifySocket] = r.notices.Leave() // what comes now waits for the next image
		r.notices = nil
	}
	r.eachLog((*logging.Log).Leave) // the new process writes what they have not written
	r.handOverRuns(&s.Job, h.Files) // nobody reads the output from here to the new process
	if fault.On {
		fault.At("reading stopped")
	}
	for _, o := range r.runner.allOutlets() {
		if err := o.lost(); err != nil {
			r.leaveUnsaid(err)
		}
	}
	s.Log = logState{File: r.log.Path(), Format: r.o.Config.Log.Format}
	var err error
	if s.Log.Left, err = r.log.Left(); err != nil {
		r.leaveUnsaid(err)
	}
	if fault.On {
		fault.At("log closed")
	}
	s.Job.Shared = r.handOverClaim(h, r.lease.Shared()) // after a log that may take its time, so that the lease is fresh
	if s.Job.Shared != nil && fault.On {
		fault.At("shared claim handed over")
	}
	s.Job.Local = r.handOverClaim(h, r.lease.Local())
	if s.Job.Local != nil && fault.On {
		fault.At("local claim handed over")
	}
	if lock := r.lease.Lock(); lock != nil {
		if f := lock.Descriptor(); f != nil {
			h.Files[localClaim] = f
		}
	}
	r.close()
	s.Errors, s.Log.Losses = r.unsaid, r.log.Losses()
	h.State = s.encode()
	return h
}

// hurry tells the log, and every other place of the output, how often we were told to end: the more often, the less
// one that takes nothing is waited for.
func (r *rig) hurry(times int) {
	for {
		before := r.hurried.Load()
		if int(before) >= times {
			return
		}
		if r.hurried.CompareAndSwap(before, int32(times)) {
			break
		}
	}
	if r.log != nil {
		r.log.Hurry(times)
	}
	if r.runner != nil {
		r.runner.hurryOutlets(times)
	}
}

// hearStops runs f, which shuts down the log, and passes on each further stop signal until f returns.
func (r *rig) hearStops(f func()) {
	var room goroutine.Group
	done := make(chan struct{})
	room.Go(func() {
		last := r.machine.entered
		for {
			select {
			case <-done:
				return
			case o := <-r.signals.C():
				if o.Verb == order.Stop && time.Since(last) >= stopAgain {
					last = time.Now()
					r.hurry(int(r.hurried.Load()) + 1)
				}
			}
		}
	})
	defer room.Wait()
	defer close(done)
	f()
}

// eachLog calls f with the log, and with all else that takes output of the command.
func (r *rig) eachLog(f func(*logging.Log)) {
	f(r.log)
	for _, o := range r.runner.allOutlets() {
		f(o.log)
	}
}

func (r *rig) resume() { r.eachLog((*logging.Log).Resume) }

// quiet pauses what gophd writes to files and returns an error while a call waits for a disk. execve(2)
// would wait for that call in the kernel, and meanwhile no signal is served and no lease renewed.
func (r *rig) quiet() error {
	r.eachLog((*logging.Log).Pause)
	var busy error
	r.eachLog(func(l *logging.Log) { busy = cmp.Or(busy, l.Idle()) })
	if busy != nil {
		return busy
	}
	if procfs.WaitsForDisk() {
		return errors.New("a thread waits for a disk that does not answer")
	}
	return nil
}

// leaveUnsaid passes a word on to the next image, where the log is closed.
func (r *rig) leaveUnsaid(err error) { r.unsaid = append(r.unsaid, err.Error()) }

// handOverClaim returns what the next process needs to go on with a claim. What cannot be renewed is
// acquired again by that process; the descriptor of the local lock is handed off in every case.
func (r *rig) handOverClaim(h *restart.Handoff, c *lease.Claim) *heartbeat.Handover {
	if !c.Begun() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverTime)
	defer cancel()
	over, err := c.HandOff(ctx, len(r.runner.left) > 0)
	if err != nil {
		r.leaveUnsaid(err)
	} else {
		h.Instance = over.ID
	}
	return &over
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
