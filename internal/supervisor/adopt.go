package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"gophd/internal/loop"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/safefile"
)

// This file is how a run outlives a re-exec: the old process leaves it, and the new one adopts it.

// adoptRuns takes over the runs of the old process, before any request is served. As a rule the lease is held at
// once, and the loop starts with them. If it is not (another store by a new config, a deadline that has passed), the
// loop starts with its gate shut, and they are stopped at the deadline of the lease under which they were started, or
// when one that was acquired since is lost.
func (s *Supervisor) adoptRuns() {
	s.acquireLocal()
	if s.machine.looping || s.machine.state != standby {
		return
	}
	if c := s.lease.Shared(); c != nil && !c.Begun() {
		s.beginClaim(c)
	}
	if !s.machine.looping && s.machine.state == standby {
		s.machine.looping = true
		s.turnLoop()
		s.acquire.old.Reset(max(s.lease.HandedDeadline()-s.o.Config.Heartbeat.StopGrace-boot(), 0))
	}
}

// handOffRuns adds the runs that were left and the pipes of escaped processes to the state, and their
// descriptors to files. Reading stops here.
func (s *Supervisor) handOffRuns(g *JobState, files map[string]*os.File) {
	put := func(streams []process.HandedStream) (pipes []Pipe) {
		for _, s := range streams {
			name := fmt.Sprintf("pipe-%d", len(files))
			files[name] = s.File
			pipes = append(pipes, Pipe{PID: s.PID, Number: s.Number, Rest: s.Rest, File: name})
		}
		return pipes
	}
	g.Woken = s.turning.grid.Woken
	if w := s.turning.grid.Wait; w != nil {
		g.Wait = &RunWait{Run: w.Run, Until: restart.At(w.Until), Slowed: w.Slowed}
	}
	if s.turning.loop == nil { // the loop was not started yet with what the old process left
		g.Woken, g.Wait = s.o.Handed.Woken, s.o.Handed.Wait
	}
	for _, at := range s.runner.left {
		handed := at.process.HandOver()
		run := ActiveRun{Run: at.run, Started: restart.At(at.process.Started()), PID: handed.PID, Birth: handed.Birth,
			Cgroup: handed.Cgroup, Pipes: put(handed.Streams), Grace: s.spec.Grace, Signals: s.spec.StopSignals}
		for _, left := range s.turning.grid.Going {
			if left.Run.Number == at.run.Number {
				run.Missed = left.Missed
			}
		}
		run.Limit, run.Status = at.limit.handOver()
		run.Stop, run.Escaped = handOffStop(handed.Stop, context.Cause(at.ctx)), handed.Escaped
		run.Ended = restart.At(handed.Ended)
		if at.keeper != nil {
			var kept bytes.Buffer
			_ = at.keeper.Dump(&kept)
			run.Kept = kept.Bytes()
		}
		g.Runs = append(g.Runs, run)
	}
	g.Escaped = put(s.o.Spawner.HandOver())
	lock := s.lease.Lock()
	g.Leftover = lock != nil && lock.Unclean()
}

// resume completes the grid of the loop by the active runs.
func (g JobState) resume(grid *loop.Grid) {
	grid.Woken = g.Woken
	if w := g.Wait; w != nil {
		grid.Wait = &loop.Wait{Run: w.Run, Until: w.Until.Time(), Slowed: w.Slowed}
	}
	for _, run := range g.Runs {
		grid.Going = append(grid.Going, loop.Going{Run: run.Run, Started: run.Started.Time(), Missed: run.Missed})
	}
}

// take returns the process of the run for process.Spawner.Adopt.
func (g *ActiveRun) take(files map[string]*os.File) process.Handed {
	return process.Handed{PID: g.PID, Birth: g.Birth, Cgroup: g.Cgroup, Started: g.Started.Time(), Ended: g.Ended.Time(),
		Streams: takePipes(files, g.Pipes), Stop: g.Stop.plan(), Escaped: g.Escaped}
}

func handOffStop(p *process.StopPlan, cause error) *RunStop {
	if p == nil {
		return nil
	}
	s := &RunStop{Asked: restart.At(p.Asked), Signals: p.Signals, Sent: p.Sent, Grace: p.Grace, Next: restart.At(p.Next), Kill: restart.At(p.Kill)}
	for name, c := range stopCauses {
		if errors.Is(cause, c) {
			s.Cause = name
		}
	}
	return s
}

// plan is the reverse of handOffStop.
func (s *RunStop) plan() *process.StopPlan {
	if s == nil {
		return nil
	}
	return &process.StopPlan{Asked: s.Asked.Time(), Signals: s.Signals, Sent: s.Sent, Grace: s.Grace, Next: s.Next.Time(), Kill: s.Kill.Time()}
}

func takePipes(files map[string]*os.File, pipes []Pipe) (streams []process.HandedStream) {
	for _, p := range pipes {
		if f := files[p.File]; f != nil {
			streams = append(streams, process.HandedStream{PID: p.PID, Number: p.Number, Rest: p.Rest, File: f})
		}
	}
	return streams
}

// leave leaves the active runs to the next process, all or none; an error says which cannot be left now. The
// loop calls it while no run of its own can start or end. A run that the loop has started may not be here yet,
// and one that has ended here may not be known to the loop. So both must count the same: else a run or a
// result would be lost.
func (r *runner) leave(count int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []place
	var all []*process.Process
	for _, at := range r.places {
		switch {
		case at.cancel == nil:
			continue
		case at.process == nil:
			return fmt.Errorf("run %d is being started", at.run.Number)
		case at.forced.Load(): // nobody could send the KILL in time meanwhile
			return fmt.Errorf("run %d is being stopped before the lease ends", at.run.Number)
		}
		left, all = append(left, at), append(all, at.process)
	}
	if len(all) != count {
		return errors.New("a run begins or ends")
	}
	if busy := process.Leave(all...); busy != nil {
		return fmt.Errorf("the last output of run %d is still being written", left[slices.Index(all, busy)].run.Number)
	}
	r.left = left
	return nil
}

// begin gives the run its slot and its limit, and returns what the old process has left of it, if that
// has started it. From then on it can be interrupted, and messages count as its own. Messages of earlier
// runs are read before, so that they are not taken for its own.
func (r *runner) begin(at *place) (left *ActiveRun) {
	if r.settled() {
		r.notices.Drain()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.handed.runs, func(g ActiveRun) bool { return g.Run.Number == at.run.Number }); i >= 0 {
		left = &r.handed.runs[i]
		r.handed.runs = slices.Concat(r.handed.runs[:i], r.handed.runs[i+1:])
	}
	var cause error
	if left != nil && left.Stop != nil {
		if cause = stopCauses[left.Stop.Cause]; cause != nil {
			at.cancel(cause)
		}
	}
	if r.spec.Timeout > 0 {
		began, moved, told := time.Now(), time.Time{}, ""
		if left != nil {
			began, moved, told = left.Started.Time(), left.Limit.Time(), left.Status
		}
		at.limit = newLimit(began.Add(r.spec.Timeout), moved, cause != nil, at.cancel)
		at.limit.say(told)
	}
	r.places[at.run.Place] = *at
	return left
}

// settled returns true if there is a notify socket, and every run that may send a message has its slot.
func (r *runner) settled() bool {
	if r.notices == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.handed.runs) == 0
}

// adopt is start for a run of the old process.
func (r *runner) adopt(at place, g *ActiveRun) (*process.Process, error) {
	if at.keeper != nil {
		before := at.keeper.Writer() // neither Write nor Close fails
		_, _ = before.Write(g.Kept)
		_ = before.Close()
	}
	h := g.take(r.handed.files)
	h.Strays = r.strays(at.run)
	return r.spawner.Adopt(h, func(s process.HandedStream) io.WriteCloser {
		if at.keeper != nil {
			return begun(at.keeper.Writer(), s)
		}
		return r.resume(s)
	})
}

// resume returns where the rest of a stream goes whose beginning the old process has read: where the
// config sends the output now.
func (r *runner) resume(s process.HandedStream) io.WriteCloser {
	out := r.outputs.stdout
	if s.Number == 2 {
		out = r.outputs.stderr
	}
	switch f := out.File; {
	case out.Open != nil:
		return begun(out.Open(s.PID), s)
	case r.outputs.file != "":
		opened, err := openOutput(r.outputs.file, r.world)
		if errors.Is(err, syscall.ENXIO) { // the command must not end because nobody reads yet (fifo(7))
			opened, err = safefile.Open(r.outputs.file, os.O_RDWR|os.O_APPEND|syscall.O_NONBLOCK, 0, r.world.UIDs()...)
		}
		if err != nil {
			r.hooks.trouble(err)
			return nowhere{}
		}
		return r.outlet(s, r.outputs.file, opened, opened)
	default:
		return r.outlet(s, f.Name(), f, nil)
	}
}

// begun writes the rest to w first. A writer counts what it cannot write.
func begun(w io.WriteCloser, s process.HandedStream) io.WriteCloser {
	_, _ = w.Write(s.Rest)
	return w
}

// nowhere discards a stream that has no other place, so that the command does not hang.
type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }
