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

	"gophd/internal/line"
	"gophd/internal/logging"
	"gophd/internal/loop"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/safefile"
)

// This file keeps a run active over a re-exec: the old process hands it off, and the new one adopts
// it.

// handOffRuns adds the runs to the state, and the descriptors of their output to files. Reading that
// stops here.
func (s *Supervisor) handOffRuns(g *JobState, files map[string]*os.File) {
	g.Requested = s.loopRun.grid.Requested
	if w := s.loopRun.grid.Wait; w != nil {
		g.Wait = &RunDelay{Run: w.Run, Until: restart.At(w.Until), Slowed: w.Slowed}
	}
	for _, at := range s.loopRun.grid.Failures {
		g.Failures = append(g.Failures, restart.At(at))
	}
	if s.loopRun.loop == nil { // the loop has not adopted them yet
		g.Requested, g.Wait, g.Failures = s.o.Handed.Requested, s.o.Handed.Wait, s.o.Handed.Failures
	}
	for _, at := range s.runner.handedOff {
		handed := at.process.HandOff()
		run := ActiveRun{Run: at.run, Started: restart.At(at.process.Started()), PID: handed.PID, Birth: handed.Birth,
			Cgroup: handed.Cgroup, Pipes: HandOffPipes(handed.Streams, files), Grace: s.spec.Grace, Signals: s.spec.StopSignals}
		for _, left := range s.loopRun.grid.ActiveRuns {
			if left.Run.Number == at.run.Number {
				run.Missed, run.Late, run.LateGap = left.Missed, restart.At(left.Late.At), left.Late.Gap
			}
		}
		run.Timeout = at.timeout
		run.Limit, run.Status = at.limit.handOff()
		run.Stop, run.Escaped = handOffStop(handed.Stop, context.Cause(at.ctx)), handed.Escaped
		run.Ended = restart.At(handed.Ended)
		if at.buffer != nil {
			var kept bytes.Buffer
			_ = at.buffer.Dump(&kept)
			run.Kept = kept.Bytes()
		}
		if at.tail != nil {
			var tail bytes.Buffer
			_ = at.tail.Dump(&tail)
			run.Tail = tail.Bytes()
		}
		g.Runs = append(g.Runs, run)
	}
}

// resume adds the active runs to the grid of the loop.
func (g JobState) resume(grid *loop.Grid) {
	grid.Requested = g.Requested
	for _, at := range g.Failures {
		grid.Failures = append(grid.Failures, at.Time())
	}
	if w := g.Wait; w != nil {
		grid.Wait = &loop.Delay{Run: w.Run, Until: w.Until.Time(), Slowed: w.Slowed}
	}
	for _, run := range g.Runs {
		grid.ActiveRuns = append(grid.ActiveRuns, loop.ActiveRun{Run: run.Run, Started: run.Started.Time(), Missed: run.Missed,
			Late: loop.Lateness{At: run.Late.Time(), Gap: run.LateGap}})
	}
}

// take returns the run's process for process.Spawner.Adopt.
func (g *ActiveRun) take(files map[string]*os.File) process.Handed {
	return process.Handed{PID: g.PID, Birth: g.Birth, Cgroup: g.Cgroup, Started: g.Started.Time(),
		Ended:   g.Ended.Time(),
		Streams: TakePipes(g.Pipes, files), Stop: g.Stop.plan(), Escaped: g.Escaped}
}

func handOffStop(p *process.StopPlan, cause error) *RunStop {
	if p == nil {
		return nil
	}
	s := &RunStop{Asked: restart.At(p.Asked), Signals: p.Signals, Sent: p.Sent, Grace: p.Grace,
		Next: restart.At(p.Next), Kill: restart.At(p.Kill)}
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
	return &process.StopPlan{Asked: s.Asked.Time(), Signals: s.Signals, Sent: s.Sent, Grace: s.Grace,
		Next: s.Next.Time(), Kill: s.Kill.Time()}
}

// HandOffPipes returns streams for the handoff, and puts their descriptors into files.
func HandOffPipes(streams []process.HandedStream, files map[string]*os.File) (pipes []Pipe) {
	for _, s := range streams {
		name := fmt.Sprintf("pipe-%d", len(files))
		files[name] = s.File
		pipes = append(pipes, Pipe{Job: s.Job, PID: s.PID, Number: s.Number, Rest: s.Rest.Bytes,
			Since: restart.At(s.Rest.Since), Written: s.Rest.Written, File: name})
	}
	return pipes
}

// TakePipes is the reverse of HandOffPipes.
func TakePipes(pipes []Pipe, files map[string]*os.File) (streams []process.HandedStream) {
	for _, p := range pipes {
		if f := files[p.File]; f != nil {
			streams = append(streams, process.HandedStream{Job: p.Job, PID: p.PID, Number: p.Number, File: f,
				Rest: line.Rest{Bytes: p.Rest, Since: p.Since.Time(), Written: p.Written}})
		}
	}
	return streams
}

// Leaving is a run that is left to the next process.
type Leaving struct {
	process *process.Process
	what    string // for a message
}

// Detach detaches the processes of runs, all or none. An error names one that cannot be left now.
func Detach(runs []Leaving) error {
	all := make([]*process.Process, len(runs))
	for i, run := range runs {
		all[i] = run.process
	}
	if busy := process.Detach(all...); busy != nil {
		return fmt.Errorf("the last output of %s is still being written", runs[slices.Index(all, busy)].what)
	}
	return nil
}

// detach leaves the active runs to the next process, or none of them: next decides. An error names
// one that cannot be left now. The loop calls it while none of its runs can start or end. count is
// how many runs the loop has. r may have fewer: a run that the loop has started may not be in r yet,
// and the loop may not know yet that a run in r has ended. Then detach fails, because a run or a
// result would be lost.
func (r *runner) detach(count int, next func([]Leaving) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []slot
	var leaving []Leaving
	for _, at := range r.slots {
		what := fmt.Sprintf("run %d%s", at.run.Number, r.ofJob)
		switch {
		case at.cancel == nil:
			continue
		case at.process == nil:
			return fmt.Errorf("%s is being started", what)
		case at.forced.Load(): // no process could send the KILL in time during the re-exec
			return fmt.Errorf("%s is being stopped before the lease ends", what)
		}
		left, leaving = append(left, at), append(leaving, Leaving{at.process, what})
	}
	if len(left) != count {
		return fmt.Errorf("a run%s is starting or ending", r.ofJob)
	}
	if err := next(leaving); err != nil {
		return err
	}
	r.handedOff = left
	return nil
}

// assignSlot gives the run its slot and its limit, and returns its handoff if the old process has
// started it. From then on the run can be interrupted, and messages count as its own. Messages of
// earlier runs are read first, so that they do not count as its own.
func (r *runner) assignSlot(at *slot) (handed *ActiveRun) {
	if s := r.notices.current(); s != nil && r.settled() {
		s.Drain()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.handed.runs, func(g ActiveRun) bool { return g.Run.Number == at.run.Number }); i >= 0 {
		handed, at.adopted = &r.handed.runs[i], true
		r.handed.runs = slices.Concat(r.handed.runs[:i], r.handed.runs[i+1:])
	}
	var cause error
	if handed != nil && handed.Stop != nil {
		if cause = stopCauses[handed.Stop.Cause]; cause != nil {
			at.cancel(cause)
		}
	}
	at.timeout = r.spec.Timeout
	if handed != nil && r.ofJob != "" { // a reload does not touch the runs of one of several jobs
		at.timeout = handed.Timeout
	}
	if at.timeout > 0 {
		started, moved, status := time.Now(), time.Time{}, ""
		if handed != nil {
			started, moved, status = handed.Started.Time(), handed.Limit.Time(), handed.Status
		}
		at.limit = newLimit(started.Add(at.timeout), moved, cause != nil, at.cancel)
		at.limit.setStatus(status)
	}
	r.slots[at.run.Slot] = *at
	return handed
}

// settled returns true if every run that may send a message has a slot.
func (r *runner) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.handed.runs) == 0
}

// adopt does for a run of the old process what start does for a new one.
func (r *runner) adopt(at slot, g *ActiveRun) (*process.Process, error) {
	if at.buffer != nil {
		at.buffer.Restore(g.Kept)
	}
	if at.tail != nil {
		at.tail.Restore(g.Tail)
	}
	h := g.take(r.handed.files)
	h.Escapes = r.escapeRules(at.run)
	return r.spawner.Adopt(h, func(s process.HandedStream) io.WriteCloser {
		if at.buffer != nil {
			return resumeLine(at.buffer.Writer(), s)
		}
		to := r.resume(s)
		if at.tail != nil {
			to = newTee(to, at.tail)
		}
		return to
	})
}

// Resume returns the writer for a stream of an escaped process of this job: the output of the current
// config.
func (s *Supervisor) Resume(stream process.HandedStream) io.WriteCloser {
	return s.runner.resume(stream)
}

// ResumeInLog returns a writer for a stream of a job that has no Supervisor.
func ResumeInLog(log logging.Job, s process.HandedStream) io.WriteCloser {
	return resumeLine(log.Capture(streamName(s.Number))(s.PID), s)
}

// resume returns the writer for the rest of a stream. The old process has read the part before it.
// The writer is the output of the current config.
func (r *runner) resume(s process.HandedStream) io.WriteCloser {
	out := r.outputs.stdout
	if s.Number == 2 {
		out = r.outputs.stderr
	}
	switch f := out.File; {
	case out.Open != nil:
		return resumeLine(out.Open(s.PID), s)
	case r.outputs.file != "":
		opened, err := openOutput(r.outputs.file, r.credentials, r.hooks.problem)
		if errors.Is(err, syscall.ENXIO) { // the command must not exit because the FIFO has no reader yet (fifo(7))
			opened, err = safefile.Open(r.outputs.file, os.O_RDWR|os.O_APPEND|preflight.OpenFlags, 0,
				r.credentials.UIDs()...)
		}
		if err != nil {
			r.hooks.problem(err)
			return discard{}
		}
		return r.outlet(s, r.outputs.file, opened, opened)
	default:
		return r.outlet(s, f.Name(), f, nil)
	}
}

func streamName(number int) string {
	if number == 2 {
		return "stderr"
	}
	return "stdout"
}

// resumeLine makes w continue the line that the old process has not finished.
func resumeLine(w io.WriteCloser, s process.HandedStream) io.WriteCloser {
	if r, ok := w.(process.Rester); ok {
		r.Continue(s.Rest)
	} else {
		_, _ = w.Write(s.Rest.Bytes) // a writer counts what it cannot write
	}
	return w
}

// discard drops a stream that cannot be written anywhere, so that the command does not block.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }
