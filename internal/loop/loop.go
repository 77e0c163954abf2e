package loop

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

// Runner runs the command once.
type Runner interface {
	// Run blocks until the run is over and nothing of it is left, and returns what came of it; a
	// start that failed is a Result too. When ctx ends, Run stops the command and returns in bounded
	// time, with context.Cause(ctx) as the Result's Cause. Run and Due of the Result are the loop's
	// to fill. The loop has at most one Run under way.
	Run(ctx context.Context, run job.Run) job.Result
}

// Recorder hears what the loop does.
type Recorder interface {
	// Record is called in order, by one goroutine at a time, and must not block.
	Record(Report)
}

// Gate says whether a run may start now.
type Gate interface {
	// Shut returns nil when a run may start. Otherwise it returns a channel that is closed when it
	// is worth asking again. It must not block. It is called by one goroutine at a time.
	Shut() <-chan struct{}
}

// Alarm rings once, as exactly as its maker can.
type Alarm interface {
	// Set makes the alarm ring d from now, at once if d is not positive, and forgets what was set
	// before; it is used by one goroutine at a time.
	Set(d time.Duration)
	// C delivers the ring.
	C() <-chan struct{}
}

// Report is one thing that the loop did.
type Report struct {
	Kind   Kind
	At     time.Time
	State  job.State     // after what is reported
	Run    job.Run       // Late, and Turned to running
	Length time.Duration // Late: how long the run has been going
	Next   time.Time     // Turned: the next tick, zero when there is none
	Slowed time.Duration // Turned to waiting: the wait is this back-off and not the grid
	Missed uint64        // Late: ticks that fell due during the run so far; Turned to running: while it was held
	Tick   job.Tick      // Ended
	Grid   Grid          // where the loop stands: what the next image's loop goes on from
}

// Kind is what a Report is about.
type Kind uint8

// The kinds of Report.
const (
	Turned Kind = iota + 1 // the state changed
	Late                   // the run has gone on for 90 % of the interval, or past a tick
	Ended                  // a run has ended
)

// Grid is where a loop stands in time; the loop of the next image goes on from it.
type Grid struct {
	Anchor   time.Time     // tick 0, with its monotonic reading
	Tick     uint64        // the next tick is due at Anchor + Tick × Interval
	Interval time.Duration // of this grid; a config may have another by the time it is read
	Runs     uint64        // number of the last run
	Going    *Going        // set by Leave only
}

// Going is a run that was left under way.
type Going struct {
	Run     job.Run
	Started time.Time // with its monotonic reading
	Woken   bool      // a wake came during the run, and is still to be served
}

// Due is the moment of the next tick.
func (g Grid) Due() time.Time { return g.Anchor.Add(time.Duration(g.Tick) * g.Interval) }

// passed is how many ticks, from the next one on, are due at now.
func (g Grid) passed(now time.Time) uint64 {
	due := g.Due()
	if g.Interval == 0 || due.After(now) {
		return 0
	}
	return uint64(now.Sub(due)/g.Interval) + 1
}

// Options is what a Loop is made of; every field but Grid is needed.
type Options struct {
	Spec     job.Spec
	Runner   Runner
	Recorder Recorder
	Gate     Gate
	Alarm    Alarm
	Grid     *Grid // where the image before us stood; nil begins a grid at the call of Run
}

const (
	warnShare   = 0.9         // of the interval, after which a run is reported as late
	askAgain    = time.Second // at a gate that is shut, should it open without a word
	lateGapMin  = time.Second
	lateGapMax  = time.Hour
	backoffMin  = 100 * time.Millisecond
	backoffMax  = 30 * time.Second
	backoffGrow = 2
	backoffVary = 0.1 // drawn once per wait, so that many loops do not fail in step
)

// Loop serves the ticks of one job.
type Loop struct {
	Options
	stopOnce sync.Once
	stop     chan struct{}
	wake     chan struct{}
	leave    chan leaving
	over     chan struct{} // closed when Run has returned
}

// leaving is one call of Leave.
type leaving struct {
	let    func() bool
	answer chan bool
}

// New makes a Loop; Run makes it turn.
func New(o Options) *Loop {
	return &Loop{Options: o, stop: make(chan struct{}), wake: make(chan struct{}, 1),
		leave: make(chan leaving), over: make(chan struct{})}
}

// Stop asks the loop to end; a run that is going on may finish. It never blocks, from any goroutine.
func (l *Loop) Stop() { l.stopOnce.Do(func() { close(l.stop) }) }

// Wake asks for a run now. Asked during a run it is remembered once, and the grid does not move. It
// never blocks, from any goroutine.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Leave ends the loop so that the next image's can go on from the Grid of the last Report, and says whether
// it did. A run that is under way is left under way: let is asked to give it up, while it can neither end nor
// another one begin, and if it returns false nothing has happened. The Runner's Run may then return at any
// time, with any Result, or never. A loop that has ended, or is about to, cannot be left. Leave blocks until
// let has returned, from any goroutine but the loop's.
func (l *Loop) Leave(let func() bool) bool {
	a := make(chan bool, 1)
	select {
	case l.leave <- leaving{let, a}:
		return <-a
	case <-l.over:
		return false
	}
}

// Run serves ticks until Stop or Leave was called, the only run of a once job is over, or ctx ends, which
// stops the run with ctx's cause. It returns when no run is left, but for one that was left under way; the
// last Report has the place to go on from.
func (l *Loop) Run(ctx context.Context) {
	defer close(l.over)
	t := newTurner(ctx, l)
	defer t.close()
	t.serve(t.begin)
	stopping, cancelled := l.stop, ctx.Done()
	for {
		opened, done := t.look()
		if done {
			return
		}
		select {
		case <-l.Alarm.C():
			t.serve(t.rang)
		case <-opened:
			t.serve(t.open)
		case <-stopping:
			stopping = nil
			t.serve(t.stop)
		case <-l.wake:
			t.serve(t.wake)
		case <-cancelled:
			cancelled = nil
			t.serve(t.stop)
		case a := <-l.leave:
			t.serve(func() { t.leave(a) })
		case <-t.turned:
		case <-t.fallen:
			t.runner.Wait()
		}
	}
}

// turner is what one call of Run knows. Its fields below mu belong to the holder of mu, of whom there are
// two: the goroutine that serves the events, and the one that runs the command and turns the loop itself
// when a run has ended. To have the first decide in every case would wake it, with a thread of its own,
// between any two runs: back to back that was a tenth of a short run.
type turner struct {
	*Loop
	ctx    context.Context // of the call of Run that the turner lives in
	work   chan work       // has room, so that a sender never waits
	turned chan struct{}   // a run has ended in a state that the events must know of; has room for one
	fallen chan struct{}   // closed when the runner has returned, before its time if it panicked
	runner goroutine.Group

	mu     sync.Mutex // never held during a run
	state  job.State
	grid   Grid
	slow   *backoff.ExponentialBackOff
	opened <-chan struct{} // nil where that event cannot come
	next   *work           // was started, and nobody runs it yet

	run     job.Run // held or under way
	left    bool    // the run goes on without us
	endRun  context.CancelCauseFunc
	started time.Time
	woken   bool          // a wake came during the run
	lateAt  time.Time     // when to speak of the run's lateness next; zero is never
	lateGap time.Duration // from then to the time after
}

// work is one call of the Runner.
type work struct {
	ctx context.Context
	run job.Run
}

// newTurner also starts the one goroutine in which all runs are run: a new one for each would have its
// stack to grow anew.
func newTurner(ctx context.Context, l *Loop) *turner {
	t := &turner{
		Loop: l, ctx: ctx,
		slow: &backoff.ExponentialBackOff{InitialInterval: backoffMin, Multiplier: backoffGrow,
			MaxInterval: backoffMax, RandomizationFactor: backoffVary},
		work: make(chan work, 1), turned: make(chan struct{}, 1), fallen: make(chan struct{}),
	}
	t.runner.Go(func() {
		defer close(t.fallen)
		for w := range t.work {
			for next := &w; next != nil; {
				next = t.finish(l.Runner.Run(next.ctx, next.run))
			}
		}
	})
	return t
}

// look is what the events' goroutine must know to wait.
func (t *turner) look() (opened <-chan struct{}, done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opened, t.state == job.Done
}

// serve takes an event, and hands the run that it started to the runner.
func (t *turner) serve(event func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	event()
	if w := t.take(); w != nil {
		t.work <- *w
	}
}

// finish takes the end of a run, and returns the run that follows it at once, if any.
func (t *turner) finish(r job.Result) *work {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left {
		return nil
	}
	t.ended(r)
	if t.state == job.Done || t.state == job.Held {
		select {
		case t.turned <- struct{}{}:
		default:
		}
	}
	return t.take()
}

func (t *turner) take() *work {
	w := t.next
	t.next = nil
	return w
}

// begin enters the first state: on the grid of the image before us if its interval still holds, on a
// grid of the new interval from its last tick if not, and on a grid from now if there was none.
func (t *turner) begin() {
	t.slow.Reset()
	t.grid = Grid{Anchor: time.Now(), Interval: t.Spec.Interval}
	if !t.Spec.RunAtStart && !t.Spec.Once {
		t.grid.Tick = 1
	}
	if t.Grid != nil {
		t.grid = *t.Grid
		if t.grid.Interval != t.Spec.Interval && t.grid.Tick > 0 {
			t.grid.Tick--
			t.grid.Anchor, t.grid.Tick = t.grid.Due(), 1
		}
		t.grid.Interval = t.Spec.Interval
		if g := t.grid.Going; g != nil {
			t.grid.Going = nil
			t.run, t.woken = g.Run, g.Woken
			t.begun(g.Started, Report{Run: g.Run})
			return
		}
	}
	t.await(0)
}

// close makes sure that no run outlives the call of Run: only a panic leaves one behind, and no other may
// follow it. One that was left on purpose is not waited for.
func (t *turner) close() {
	t.Stop()
	t.mu.Lock()
	if t.endRun != nil && !t.left {
		t.endRun(job.ErrInsisted)
	}
	left := t.left
	t.mu.Unlock()
	close(t.work)
	if left {
		return
	}
	t.runner.Wait()
}

// transition is the only place where the state changes.
func (t *turner) transition(to job.State, r Report) {
	t.state = to
	if to != job.Held {
		t.opened = nil
	}
	r.Kind, r.State, r.At = Turned, to, time.Now()
	t.report(r)
}

// await waits for the next tick of the grid, or where there is none for the back-off to pass.
func (t *turner) await(slowed time.Duration) {
	now := time.Now()
	next := t.grid.Due()
	if t.grid.Interval == 0 {
		next = now.Add(slowed)
	}
	t.transition(job.Waiting, Report{Next: present(now, next), Slowed: slowed})
	t.Alarm.Set(next.Sub(now))
}

// present is the moment t in terms of the wall clock of now, which may have been stepped since.
func present(now, t time.Time) time.Time { return now.Add(t.Sub(now)) }

func (t *turner) report(r Report) {
	r.Grid = t.grid
	t.Recorder.Record(r)
}

func (t *turner) rang() {
	switch t.state {
	case job.Waiting:
		now := time.Now()
		passed := t.grid.passed(now)
		if t.grid.Interval > 0 && passed == 0 {
			t.Alarm.Set(t.grid.Due().Sub(now)) // it rang for something that no longer is
			return
		}
		t.grid.Tick += passed
		t.tryStart(job.Run{Due: t.lastDue(now)})
	case job.Held:
		t.open()
	case job.Running, job.Draining:
		t.late()
	}
}

// lastDue is the tick that was due last: the one that a run started now serves, however many passed.
func (t *turner) lastDue(now time.Time) time.Time {
	if t.grid.Interval == 0 {
		return now
	}
	last := t.grid
	last.Tick--
	return present(now, last.Due())
}

// tryStart starts the run, or holds it while the gate is shut.
func (t *turner) tryStart(run job.Run) {
	if t.endAsked() {
		t.transition(job.Done, Report{})
		return
	}
	t.run = run
	if t.opened = t.Gate.Shut(); t.opened != nil {
		t.Alarm.Set(askAgain)
		if t.state != job.Held {
			t.transition(job.Held, Report{Next: run.Due})
		}
		return
	}
	now := time.Now()
	missed := t.grid.passed(now) // while it was held
	t.grid.Tick += missed
	t.grid.Runs++
	t.run.Number = t.grid.Runs
	t.woken = false
	t.begun(now, Report{Run: t.run, Missed: missed})
}

// begun enters running with a run that has just been started, or that was left to us under way.
func (t *turner) begun(started time.Time, r Report) {
	t.started = started
	ctx, cancel := context.WithCancelCause(t.ctx)
	t.endRun = cancel
	t.next = &work{ctx, t.run}
	onGrid := t.grid.Interval > 0 && !t.Spec.Once
	if onGrid {
		r.Next = present(time.Now(), t.grid.Due())
	}
	t.transition(job.Running, r)
	t.lateAt = time.Time{}
	if onGrid {
		t.lateGap = max(t.grid.Interval, lateGapMin)
		t.lateAt = t.started.Add(time.Duration(warnShare * float64(t.grid.Interval)))
		if due := t.grid.Due(); due.Before(t.lateAt) {
			t.lateAt = due
		}
		t.Alarm.Set(time.Until(t.lateAt))
	}
}

// endAsked says that the end was asked for and only its event is still to come, so that a tick that is
// due in the same moment does not start one more run.
func (t *turner) endAsked() bool {
	select {
	case <-t.Loop.stop:
		return true
	case <-t.ctx.Done():
		return true
	default:
		return false
	}
}

// late speaks of a run that is late, and stops it where that is the rule.
func (t *turner) late() {
	now := time.Now()
	if t.lateAt.IsZero() {
		return
	}
	if now.Before(t.lateAt) {
		t.Alarm.Set(t.lateAt.Sub(now))
		return
	}
	passed := t.grid.passed(now)
	t.report(Report{Kind: Late, At: now, State: t.state, Run: t.run,
		Length: now.Sub(t.started), Missed: passed})
	switch {
	case passed == 0:
		t.lateAt = t.grid.Due()
	case t.Spec.Overrun == job.OverrunKill && t.state == job.Running:
		t.lateAt = time.Time{}
		t.endRun(job.ErrOverrun)
		return
	default:
		t.lateAt = now.Add(t.lateGap)
		t.lateGap = min(2*t.lateGap, lateGapMax)
	}
	t.Alarm.Set(t.lateAt.Sub(now))
}

// ended reports what came of the run and turns to what follows it.
func (t *turner) ended(r job.Result) {
	t.endRun(nil)
	t.endRun, t.lateAt = nil, time.Time{}
	r.Run = t.run
	r.Verdict = t.Spec.Judge(r)
	now := time.Now()
	tick := job.Tick{Result: r, Interval: t.grid.Interval}
	if !t.Spec.Once {
		tick.Missed = t.grid.passed(now)
		t.grid.Tick += tick.Missed
	}
	t.report(Report{Kind: Ended, At: now, State: t.state, Run: r.Run, Tick: tick})
	switch {
	case t.state == job.Draining || t.Spec.Once:
		t.transition(job.Done, Report{})
	case t.woken:
		t.tryStart(job.Run{Due: now})
	case tick.Missed > 0 && t.Spec.Overrun != job.OverrunSkip:
		t.tryStart(job.Run{Due: t.lastDue(now)})
	case t.grid.Interval > 0:
		t.await(0)
	case r.Failed():
		t.await(t.slow.NextBackOff())
	default:
		t.slow.Reset()
		t.tryStart(job.Run{Due: now})
	}
}

func (t *turner) open() {
	if t.state == job.Held {
		t.tryStart(t.run)
	}
}

func (t *turner) stop() {
	switch t.state {
	case job.Waiting, job.Held:
		t.transition(job.Done, Report{})
	case job.Running:
		t.transition(job.Draining, Report{Run: t.run})
	}
}

// leave ends the loop for the sake of the next image's. A tick that is held stays due there.
func (t *turner) leave(l leaving) {
	ok := false
	defer func() { l.answer <- ok }()
	switch t.state {
	case job.Waiting, job.Held:
		if t.state == job.Held && t.grid.Tick > 0 {
			t.grid.Tick--
		}
		t.transition(job.Done, Report{})
	case job.Running:
		if !l.let() {
			return
		}
		t.left = true
		t.grid.Going = &Going{Run: t.run, Started: t.started, Woken: t.woken}
		t.transition(job.Done, Report{Run: t.run})
	default:
		return
	}
	ok = true
}

func (t *turner) wake() {
	switch t.state {
	case job.Waiting:
		t.tryStart(job.Run{Due: time.Now()})
	case job.Running:
		t.woken = true
	}
}
