package supervisor

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/loop"
	"gophd/internal/process"
	"gophd/internal/restart"
)

// gate is the loop's. It is shut while the lease allows no start, and while the job is being frozen.
type gate struct {
	lease *lease.Lease

	mu     sync.Mutex
	frozen chan struct{} // closed by thaw; nil unless the job is being frozen
}

// Shut returns nil if a run may start, else a channel that is closed when it is worth asking again.
func (g *gate) Shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen != nil {
		return g.frozen
	}
	return g.lease.Shut()
}

func (g *gate) freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen == nil {
		g.frozen = make(chan struct{})
	}
}

func (g *gate) thaw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen != nil {
		close(g.frozen)
		g.frozen = nil
	}
}

func (g *gate) freezing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.frozen != nil
}

// turning is the job's loop and what it has reported.
type turning struct {
	gate   gate
	loop   *loop.Loop // nil before it was started
	cancel context.CancelCauseFunc
	room   goroutine.Group
	done   chan struct{} // closed when the loop has ended; nil before and after that was read
	ended  chan struct{} // the same, and stays

	// Set by the loop's goroutine, read when it has ended.
	panicked error
	end      loop.End
	lastTick job.Tick
	last     *job.Result // of a once job
	grid     loop.Grid
	held     bool // a tick waits for the gate

	// Set by the loop's goroutine.
	active   atomic.Int32 // runs that the loop has started and whose end it has not seen
	draining atomic.Bool  // it starts no more
}

// stop lets the active runs finish.
func (t *turning) stop() {
	if t.loop != nil {
		t.loop.Stop()
	}
}

// await waits for the end of the loop for that time, then calls late.
func (t *turning) await(most time.Duration, late func()) {
	if t.ended == nil {
		return
	}
	select {
	case <-t.ended:
	case <-time.After(most):
		late()
	}
}

// startLoop starts to serve, if that was not done for adopted runs.
func (s *Supervisor) startLoop() {
	s.turnLoop()
	s.publish(event.JobServing(s.spec.Name, cadence(s.spec)))
	s.serving(s.spec.Name + " runs " + cadence(s.spec))
}

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

func (s *Supervisor) turnLoop() {
	t := &s.turning
	ctx, cancel := context.WithCancelCause(context.Background())
	t.cancel = cancel
	t.loop = loop.New(loop.Options{Spec: s.spec, Runner: s.runner, Recorder: s, Gate: &t.gate, Alarm: s.ticks, Grid: s.handedGrid()})
	t.ended = make(chan struct{})
	t.done = t.ended
	t.room.Go(func() {
		defer close(t.ended)
		if p := goroutine.Catch(func() { t.loop.Run(ctx) }); p != nil {
			t.panicked = p
		}
	})
}

// forceLoop stops the active runs and the loop.
func (s *Supervisor) forceLoop(cause error) {
	if s.turning.cancel != nil {
		s.runner.Interrupt(cause)
		s.turning.cancel(cause)
	}
}

// endLoop waits for a loop that must end. It blocks until no run is active.
func (s *Supervisor) endLoop() {
	if s.turning.cancel != nil {
		s.turning.cancel(nil)
		_ = goroutine.Catch(s.turning.room.Wait) // a panic in it is in turning.panicked
	}
}

func (s *Supervisor) loopEnded() {
	t := &s.turning
	t.done = nil
	if t.panicked != nil {
		s.machine.panicked(t.panicked)
	}
	s.machine.loopEnded(s.loopError())
}

// loopError is why the loop ended by itself. A fatal exit code is treated like a fatal error of
// gophd.
func (s *Supervisor) loopError() error {
	t := &s.turning
	switch t.end {
	case loop.Fatal:
		return Fatal(fmt.Errorf("run %d ended with %s, which job.fatal_exit_codes names", t.lastTick.Number, t.lastTick.Result))
	case loop.GaveUp:
		what := fmt.Sprintf("%d runs failed", s.spec.StartLimit)
		if s.spec.StartLimit == 1 {
			what = "a run failed"
		}
		if s.spec.Retries > 0 {
			what += " with all retries"
		}
		return fmt.Errorf("%s within %s, the last one with %s: gophd gives up, as job.start_limit says",
			what, s.spec.StartLimitInterval, t.lastTick.Result)
	}
	return nil
}

// leaveLoop ends the loop for the next process. An error says what is in the way; no run starts then until
// the gate is thawed.
func (s *Supervisor) leaveLoop() error {
	t := &s.turning
	fault.At("leave the loop")
	t.gate.freeze()
	if err := t.loop.Leave(func() error { return s.runner.leave(int(t.active.Load())) }); err != nil {
		return err
	}
	_ = goroutine.Catch(t.room.Wait) // at once: a panic in it is in t.panicked
	fault.At("loop left")
	return nil
}

// handedGrid returns where the old process's loop stood; nil if there is none to go on from.
func (s *Supervisor) handedGrid() *loop.Grid {
	handed, g := s.o.Handed, s.o.Handed.Grid
	if handed.Name != s.spec.Name { // the new config has another job
		g = nil
	}
	if g == nil && len(handed.Runs) == 0 {
		return nil
	}
	if g == nil {
		g = &restart.Grid{Anchor: handed.Runs[0].Started, Tick: 1, Interval: s.spec.Interval}
		for _, run := range handed.Runs {
			g.Runs = max(g.Runs, run.Run.Number)
		}
	}
	grid := &loop.Grid{Anchor: g.Anchor.Time(), Tick: g.Tick, Interval: g.Interval, Runs: g.Runs}
	handed.resume(grid)
	return grid
}

// Record turns a report of the loop into events. It is called by the loop's goroutine.
func (s *Supervisor) Record(rep loop.Report) {
	t, name := &s.turning, s.spec.Name
	t.grid = rep.Grid
	fault.At("loop")
	switch rep.Kind {
	case loop.Turned:
		s.turned(rep)
	case loop.Late:
		if rep.Missed == 0 && s.spec.Overrun == job.OverrunOverlap {
			return // runs overlap so that they may be longer
		}
		e := event.RunLate(name, rep.Run, rep.Length, s.spec.Interval, rep.Missed)
		if s.runner.starting(rep.Run.Number) {
			e = event.RunNotStarted(name, rep.Run, rep.Length, rep.Missed)
		}
		s.publish(e)
	case loop.Ended:
		t.active.Add(-1)
		if t.draining.Load() {
			s.runner.tell()
		}
		t.lastTick = rep.Tick
		if rep.Tick.Missed > 0 {
			s.publish(event.TicksSkipped(name, rep.Run, rep.Tick.Missed, fmt.Sprintf("run %d was active", rep.Run.Number)))
		}
		s.publish(event.RunEnded(name, rep.Tick))
		s.lease.Beat(rep.Run.Number, 0)
		if s.spec.Once {
			last := rep.Tick.Result
			t.last = &last
		}
	}
}

func (s *Supervisor) turned(rep loop.Report) {
	t, name := &s.turning, s.spec.Name
	if rep.End != 0 && !s.spec.Once { // the only run ends nothing but itself
		t.end = rep.End
	}
	switch rep.State {
	case job.Running:
		t.active.Add(1)
		if rep.Missed > 0 {
			why := "no run was started when they were due"
			if t.held {
				why = "no run was allowed when they were due"
			}
			s.publish(event.TicksSkipped(name, rep.Run, rep.Missed, why))
		}
	case job.Draining:
		t.draining.Store(true)
		s.runner.tell()
	}
	t.held = rep.State == job.Held
	s.publish(event.JobState(name, rep.State, rep.Run, rep.At, rep.Next))
	switch {
	case rep.Slowed > 0:
		s.publish(event.RunDelayed(name, rep.Run, rep.Slowed, s.spec.Retries, s.spec.Keep))
	case rep.State == job.Held && !t.gate.freezing():
		s.publish(event.TickHeld(name, rep.Next))
	}
}

// runStarted is called by the run's goroutine.
func (s *Supervisor) runStarted(run job.Run, p *process.Process, adopted bool) {
	s.lease.Beat(run.Number, p.PID())
	if adopted {
		fault.At("run adopted")
		s.publish(event.RunAdopted(s.spec.Name, run, p.PID(), p.Started()))
	} else {
		s.publish(event.RunStarted(s.spec.Name, run, p.PID(), p.Started()))
	}
	if s.spec.User != "" && untouchable(-p.PID()) {
		s.publish(event.RunNotStoppable(s.spec.Name, run, p.PID()))
	}
}

// escaped is called by the run's goroutine.
func (s *Supervisor) escaped(run job.Run, pid int, name string, killed bool) {
	s.publish(event.ProcessEscaped(s.spec.Name, run, pid, name, !killed))
}
