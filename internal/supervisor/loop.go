package supervisor

import (
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

// gate is the Gate of the loop. It is shut while the lease allows no start, while too many runs of all
// jobs are active, and while the job is being frozen.
type gate struct {
	lease *lease.Lease
	place place                                // among the runs of all jobs
	keep  func(last time.Time) <-chan struct{} // see Supervisor.keepDue

	mu      sync.Mutex
	frozen  chan struct{} // closed by thaw; nil unless the job is being frozen
	took    uint64        // lease.Lease.Took when the job continued from the record of the last holder
	resumed chan struct{} // closed when it continues from the next one
	shut    shutBy        // the last answer of Shut
}

// shutBy is why a gate is shut.
type shutBy uint8

const (
	notShut     shutBy = iota
	shutByOwn          // the job is being frozen, or does not continue from the record of the last holder yet
	shutByLease        // the lease does not allow a run
	shutByPlace        // too many runs are active
	shutByStore        // the due time is not kept yet
)

// Shut returns nil if a run may start. Otherwise it returns a channel that is closed when it is
// worth asking again.
func (g *gate) Shut(last time.Time) (shut <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, shut = g.ask(last)
	return shut
}

func (g *gate) ask(last time.Time) (shutBy, <-chan struct{}) {
	if g.frozen != nil {
		return shutByOwn, g.frozen
	}
	if shut := g.lease.Shut(); shut != nil {
		return shutByLease, shut
	}
	if g.took != g.lease.Took() {
		return shutByOwn, g.resumed
	}
	if shut := g.place.ask(); shut != nil {
		return shutByPlace, shut
	}
	if shut := g.keep(last); shut != nil {
		g.place.forget() // others need not wait for the store
		return shutByStore, shut
	}
	if shut := g.place.take(); shut != nil {
		return shutByPlace, shut
	}
	return notShut, nil
}

// resume opens the gate: the job continues from the record of the last holder.
func (g *gate) resume(took uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.took = took
	close(g.resumed)
	g.resumed = make(chan struct{})
}

// takenOver returns true if the job must continue from the record of another holder first.
func (g *gate) takenOver() (took uint64, is bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	took = g.lease.Took()
	return took, took != g.took
}

func (g *gate) why() shutBy {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
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

// loopRun is the job's loop and what it has reported.
type loopRun struct {
	gate gate
	loop *loop.Loop // nil before it is started
	over bool       // the end of the loop was served

	// Set by Record, read when the loop has ended.
	end      loop.End
	lastTick job.Tick
	last     *job.Result // of a once job
	grid     loop.Grid
	held     shutBy // why a tick waits for the gate
	exits    exits
	left     leftReport

	// Set by Record.
	active   atomic.Int32 // runs that the loop has started and that have not ended for it
	draining atomic.Bool  // no more runs start

	due atomic.Pointer[time.Time] // of a calendar: the last that is over, as of the last report
}

// done returns a channel that is closed when the loop has ended; nil before its start, and after
// that was served.
func (t *loopRun) done() <-chan struct{} {
	if t.loop == nil || t.over {
		return nil
	}
	return t.loop.Done()
}

// stop lets the active runs finish.
func (t *loopRun) stop() {
	if t.loop != nil {
		t.loop.Stop()
	}
}

// await waits up to timeout for the end of the loop, then calls late.
func (t *loopRun) await(timeout time.Duration, late func()) {
	if t.loop == nil {
		return
	}
	select {
	case <-t.loop.Done():
	case <-time.After(timeout):
		late()
	}
}

// startLoop starts the loop, if it was not started for adopted runs.
func (s *Supervisor) startLoop() {
	s.runLoop()
	e := event.JobServing(s.spec.Name, s.spec.Cadence())
	if s.o.Many {
		e = event.JobScheduled(s.spec.Name, s.spec.Cadence())
		if s.o.Handed.Name != "" {
			e.Level = event.Debug // a reload says which of many jobs are new or have changed
		}
	}
	s.publish(e)
	if now := s.Steered(); now != (Steered{}) && s.o.Handed.Name == "" {
		s.publish(now.Event(s.spec.Name))
	}
	s.serving(s.spec.Name + " runs " + s.spec.Cadence())
}

func (s *Supervisor) runLoop() {
	t := &s.loopRun
	since, booted := s.resumeCalendar()
	t.loop = loop.New(loop.Options{Spec: s.spec, Runner: s.runner, Recorder: s, Gate: &t.gate,
		Timer: func(mu sync.Locker, f func()) loop.Timer { return s.o.Timers.AfterFunc(mu, f) },
		Grid:  s.handedGrid(), Since: since, Booted: booted,
		Paused: s.steering.read().holds(), Skip: s.steering.read().Skip})
	if h := s.o.Handed; len(h.Runs) > 0 && (h.Removed != nil || h.GaveUp != "") { // a tick may be due at once
		t.loop.Stop()
	}
	t.loop.Start()
	if s.spec.Calendar != nil {
		s.saveRecord(false)
	}
}

// forceLoop stops the active runs and the loop.
func (s *Supervisor) forceLoop(cause error) {
	if s.loopRun.loop != nil {
		s.runner.Interrupt(cause)
		s.loopRun.loop.Cancel(cause)
	}
}

// endLoop waits for a loop that must end. It blocks until no run is active.
func (s *Supervisor) endLoop() {
	if s.loopRun.loop != nil {
		s.loopRun.loop.Cancel(nil)
		_ = goroutine.Catch(s.loopRun.loop.Wait) // the job has failed already
	}
}

func (s *Supervisor) loopEnded() {
	t := &s.loopRun
	t.over = true
	if s.spec.Calendar != nil {
		s.saveRecord(false)
	}
	if p := goroutine.Catch(t.loop.Wait); p != nil {
		s.machine.panicked(p)
	}
	s.machine.loopEnded(s.loopError())
}

// loopError returns why the loop ended by itself. A fatal exit code is treated like a fatal error
// of gophd.
func (s *Supervisor) loopError() error {
	t := &s.loopRun
	switch t.end {
	case loop.Fatal:
		return Fatal(fmt.Errorf("run %d ended with %s, which is in job.fatal_exit_codes",
			t.lastTick.Number, t.lastTick.Result))
	case loop.GaveUp:
		what := fmt.Sprintf("%d runs failed", s.spec.StartLimit)
		if s.spec.StartLimit == 1 {
			what = "a run failed"
		}
		if s.spec.Retries > 0 {
			what += " with all retries"
		}
		return fmt.Errorf("%s within %s, the last one with %s: giving up (job.start_limit)",
			what, job.FormatDuration(s.spec.StartLimitInterval), t.lastTick.Result)
	}
	return nil
}

// handOffLoop ends the loop for the next process, see Freeze.
func (s *Supervisor) handOffLoop(next func([]Leaving) error) error {
	t := &s.loopRun
	fault.At("hand off the loop")
	if err := t.loop.HandOff(func() error { return s.runner.detach(int(t.active.Load()), next) }); err != nil {
		return err
	}
	fault.At("loop handed off")
	return nil
}

// handedGrid returns the grid of the old process's loop; nil if there is none to continue from.
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
	grid := &loop.Grid{Runs: g.Runs, Anchor: g.Anchor.Time(), Tick: g.Tick, Interval: g.Interval,
		Calendar: g.Calendar, Last: g.Last}
	handed.resume(grid)
	return grid
}

// Record turns a report of the loop into events. It is called by the goroutine in which it happens:
// of a run, of the timers, of the gate, or the supervisor's own. It must not call the loop.
func (s *Supervisor) Record(rep loop.Report) {
	t, name := &s.loopRun, s.spec.Name
	t.grid = rep.Grid
	if last := rep.Grid.Last; !last.IsZero() && rep.State != job.Held { // what is held is not over
		t.due.Store(&last)
	}
	fault.At("loop")
	switch rep.Kind {
	case loop.StateChanged:
		s.stateChanged(rep)
	case loop.Late:
		if rep.Missed == 0 && s.spec.Overlap == job.OverlapAllow {
			return // overlapping runs may take longer than the interval
		}
		e := event.RunLate(name, rep.Run, rep.Length, rep.Period, rep.Missed)
		if s.runner.starting(rep.Run.Number) {
			e = event.RunNotStarted(name, rep.Run, rep.Length, rep.Missed)
		}
		s.publish(e)
	case loop.Skipped:
		s.skipped(rep)
	case loop.Counted:
		s.publish(event.TicksMissed(name, rep.Run, rep.Missed))
	case loop.Dropped:
		s.dropped(rep)
	case loop.Ended:
		t.active.Add(-1)
		t.gate.place.leave()
		s.recheck()
		t.lastTick = rep.Tick
		t.lastTick.Output = "" // it would be kept until the next run ends
		s.missedDuring(rep)
		if s.spec.Service {
			s.serviceEnded(rep.Tick)
		} else {
			s.publish(event.RunEnded(name, rep.Tick))
		}
		if rep.Tick.Left && rep.Tick.OK() && t.left.report(rep.Tick.Ended) {
			s.publish(event.RunLeft(name, rep.Tick, s.toService()))
		}
		s.o.Lease.Beat(rep.Run.Number, 0)
		if s.spec.Once {
			last := rep.Tick.Result
			t.last = &last
		}
	}
}

func (s *Supervisor) serviceEnded(t job.Tick) {
	s.publish(event.ServiceEnded(s.spec.Name, t))
	if !t.OK() || t.Cause != nil {
		return
	}
	if n, in := s.loopRun.exits.add(t.Started, t.Ended); n > 0 {
		s.publish(event.ServiceExitsOften(s.spec.Name, t, n, in))
	}
}

func (s *Supervisor) stateChanged(rep loop.Report) {
	t, name := &s.loopRun, s.spec.Name
	if rep.End != 0 && !s.spec.Once { // the end of the only run is no reason of its own
		t.end = rep.End
	}
	switch rep.State {
	case job.Running:
		t.active.Add(1)
		if rep.Missed > 0 {
			s.missedBefore(rep, t.held)
		}
		if rep.Run.Request == nil {
			s.missedEnd(notByOverlap)
		}
	case job.Draining:
		t.gate.place.forget()
		t.draining.Store(true)
		s.recheck()
	case job.Waiting, job.Held:
		if rep.State == job.Waiting {
			t.gate.place.forget() // what was held may have been dropped
		}
		s.runner.rest()
		s.closeNotices()
	case job.Done:
		t.gate.place.forget()
		s.missedEnd(anyReason)
		if t.active.Load() == 0 { // no run is handed off
			s.closeNotices()
		}
	}
	t.held = notShut
	if rep.State == job.Held {
		t.held = t.gate.why()
	}
	if rep.HandedOff { // for who looks now, nothing has changed
		return
	}
	s.publish(event.JobState(name, rep.State, rep.Run, rep.At, rep.Next))
	switch {
	case rep.Slowed > 0:
		s.publish(event.RunDelayed(name, rep.Run, rep.Slowed, s.spec.Retries, s.spec.Service))
	case rep.State != job.Held:
	case t.held == shutByPlace:
		s.publish(event.TickQueued(name, rep.Next))
	case t.held == shutByLease:
		s.publish(event.TickHeld(name, rep.Next))
	}
}

func (s *Supervisor) closeNotices() {
	if err := s.notices.close(); err != nil {
		s.problem(err)
	}
}

// runStarted is called by the run's goroutine.
func (s *Supervisor) runStarted(run job.Run, p *process.Process, adopted bool) {
	s.o.Lease.Beat(run.Number, p.PID())
	if adopted {
		fault.At("run adopted")
		s.publish(event.RunAdopted(s.spec.Name, run, p.PID(), p.Started()))
	} else {
		s.publish(event.RunStarted(s.spec.Name, run, p.PID(), p.Started()))
	}
	if s.spec.User != "" && notPermitted(-p.PID()) {
		s.publish(event.RunNotStoppable(s.spec.Name, run, p.PID()))
	}
}

// escaped is called by the run's goroutine. A process that is not marked was found when run ended, which
// does not make it a process of that run, nor of this job if there are others.
func (s *Supervisor) escaped(run job.Run, p process.EscapedProcess) {
	name, service := s.spec.Name, s.toService()
	if !p.Marked {
		run = job.Run{}
		if s.o.Many {
			name, service = "", "jobs.NAME.service"
		}
	}
	s.publish(event.ProcessEscaped(name, run, p.PID, p.Name, !p.Killed, service))
}

// toService returns the setting that makes the job a service; "" if it is one.
func (s *Supervisor) toService() string {
	switch {
	case s.spec.Service:
		return ""
	case s.o.Many:
		return "jobs." + s.spec.Name + ".service"
	}
	return "--service"
}
