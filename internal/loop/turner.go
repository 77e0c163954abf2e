package loop

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

const (
	warnShare   = 0.9         // of the interval, after which a run is reported as late
	askAgain    = time.Second // at a gate that is shut, should it open without a word
	lateGapMin  = time.Second
	lateGapMax  = time.Hour
	backoffMin  = 100 * time.Millisecond
	backoffMax  = 30 * time.Second
	backoffGrow = 2
	backoffVary = 0.1              // drawn once per wait, so that many loops do not fail in step
	healthyMin  = 10 * time.Second // how long a service lives at least whose earlier ends are forgotten
	stayMin     = time.Second      // how long one lives at least that is started again at once
	retryMax    = time.Hour        // between two tries, so that doubling ends
)

// turner is what one call of Run knows. Its fields below mu belong to the holder of mu, of whom there are
// several: the goroutine that serves the events, and those that run the command and turn the loop themselves
// when a run has ended. To have the first decide in every case would wake it, with a thread of its own,
// between any two runs: back to back that was a tenth of a short run.
type turner struct {
	*Loop
	ctx     context.Context // of the call of Run that the turner lives in
	most    int             // runs at a time
	turned  chan struct{}   // the events' goroutine has to look again; has room for one
	fallen  chan struct{}   // a place's goroutine has panicked; has room for one
	runners goroutine.Group

	mu    sync.Mutex // never held during a run
	state job.State
	plan
	places []place
	going  int         // how many places have a run
	failed []time.Time // when those runs were first tried that failed in a row, within Spec.StartLimitInterval
	end    End
	left   bool // the runs go on without us
	woken  bool // a wake came that found no place
}

// plan is when the next run starts.
type plan struct {
	grid   Grid
	slow   *backoff.ExponentialBackOff
	slowed time.Duration // the last wait of a service, since it was healthy
	due    due
	opened <-chan struct{} // what is due is held at the gate until then; nil when it is not
	alarm  time.Time       // what the alarm is set to, unless it has rung
}

// due is a start that is not the grid's, or not in its time: held at the gate, tried again, or slowed. While it
// is there a place is free for it, since any other start takes its place.
type due struct {
	run job.Run // its Due is zero when it is to be the moment of the start
	// ticks of the grid for which it stands: its own and those before that no run served. It is 0 for a wake, a
	// try, and a late tick, which was counted at the end of the run that made it late.
	ticks  uint64
	at     time.Time // when it may start, or the gate is asked again; zero when nothing is due
	slowed time.Duration
}

// place is where a run goes on beside those in the other places, and the goroutine that runs it. That goroutine
// is kept for the runs that follow: a new one for each would have its stack to grow anew.
type place struct {
	work chan work // nil until the first run here; has room, so that a sender never waits

	run     job.Run
	started time.Time
	endRun  context.CancelCauseFunc // nil when there is no run
	missed  uint64                  // ticks that were dropped because it goes on
	over    time.Time               // when the next tick was due at its start
	lateAt  time.Time               // when to speak of its lateness next; zero is never
	lateGap time.Duration           // from then to the time after
}

// work is one call of the Runner.
type work struct {
	ctx context.Context
	run job.Run
}

func newTurner(ctx context.Context, l *Loop) *turner {
	t := &turner{
		Loop: l, ctx: ctx, most: 1,
		plan: plan{slow: &backoff.ExponentialBackOff{InitialInterval: backoffMin, Multiplier: backoffGrow,
			MaxInterval: backoffMax, RandomizationFactor: backoffVary}},
		turned: make(chan struct{}, 1), fallen: make(chan struct{}, 1),
	}
	if l.Spec.Overrun == job.OverrunOverlap && t.interval() > 0 {
		t.most = max(l.Spec.MaxParallel, 1)
	}
	n := t.most
	if l.Grid != nil {
		for _, g := range l.Grid.Going { // of an image that allowed more, perhaps
			n = max(n, g.Run.Place+1)
		}
	}
	t.places = make([]place, n)
	return t
}

// interval is that of the grid: 0 for a job that has none.
func (t *turner) interval() time.Duration {
	if t.Spec.Once || t.Spec.Keep {
		return 0
	}
	return t.Spec.Interval
}

// look is what the events' goroutine must know to wait.
func (t *turner) look() (opened <-chan struct{}, done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opened, t.state == job.Done
}

// serve takes an event.
func (t *turner) serve(event func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	event()
	t.arm()
}

// runs is the goroutine of a place.
func (t *turner) runs(p *place) {
	defer func() {
		select {
		case t.fallen <- struct{}{}:
		default:
		}
	}()
	for w := range p.work {
		t.finish(p, t.Runner.Run(w.ctx, w.run))
	}
}

// finish takes the end of a run. A run that follows it in its place is started without another goroutine.
func (t *turner) finish(p *place, r job.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left {
		return
	}
	opened := t.opened
	t.ended(p, r)
	t.arm()
	if t.state == job.Done || t.opened != opened {
		select {
		case t.turned <- struct{}{}:
		default:
		}
	}
}

// arm sets the alarm to the first moment that the state waits for.
func (t *turner) arm() {
	if t.state == job.Done {
		return
	}
	first := t.due.at
	if t.grid.Interval > 0 && t.opened == nil && (t.state == job.Waiting || t.beside()) {
		first = sooner(first, t.grid.Due())
	}
	for i := range t.places {
		first = sooner(first, t.places[i].lateAt)
	}
	if first.IsZero() || first.Equal(t.alarm) {
		return
	}
	t.alarm = first
	t.Alarm.Set(time.Until(first))
}

// sooner is the first of two moments, of which a zero one is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// beside says that a tick that is due now may start a run beside those that go on.
func (t *turner) beside() bool { return t.state == job.Running && t.most > 1 }

// begin enters the first state.
func (t *turner) begin() {
	t.slow.Reset()
	now := time.Now()
	t.grid = t.follow(now)
	if t.Grid != nil {
		for _, g := range t.Grid.Going {
			t.begun(g.Run, g.Started, 0)
			t.places[g.Run.Place].missed = g.Missed
		}
		t.woken = t.Grid.Woken
		if w := t.Grid.Wait; w != nil && t.stands(*w) {
			t.due = due{run: w.Run, at: w.Until, slowed: w.Slowed}
		}
	}
	if t.Grid == nil && t.Spec.Keep && !t.Spec.RunAtStart {
		t.due.at = now.Add(t.Spec.Interval)
	}
	if t.going == 0 {
		t.await(t.due)
	}
}

// stands says that a wait of the image before us is still one by our Spec.
func (t *turner) stands(w Wait) bool {
	switch {
	case t.going >= t.most:
		return false
	case w.Run.Try > 0:
		return w.Run.Try <= t.Spec.Retries && (t.grid.Interval == 0 || w.Until.Before(t.grid.Due()))
	case !w.Run.Due.IsZero():
		return true
	}
	return t.grid.Interval == 0
}

// follow is the grid of the image before us if its interval still holds, one of the new interval from its last
// tick if not, and one from now if there was none.
func (t *turner) follow(now time.Time) Grid {
	g := Grid{Anchor: now, Interval: t.interval()}
	if !t.Spec.RunAtStart && g.Interval > 0 {
		g.Tick = 1
	}
	was := t.Grid
	if was == nil {
		return g
	}
	g.Runs = was.Runs
	switch {
	case was.Interval == g.Interval || was.Tick == 0 && was.Interval > 0:
		g.Anchor, g.Tick = was.Anchor, was.Tick
	case was.Interval > 0:
		g.Anchor, g.Tick = was.Due().Add(-was.Interval), 1
		if passed := g.passed(now); passed > 1 {
			g.Tick = passed // those before were never said to be due
		}
	case len(was.Going) > 0:
		g.Tick = 1
	}
	return g
}

// close makes sure that no run outlives the call of Run: only a panic leaves one behind, and no other may
// follow it. Those that were left on purpose are not waited for.
func (t *turner) close() {
	t.Stop()
	t.mu.Lock()
	left := t.left
	if !left {
		t.endRuns(job.ErrInsisted)
	}
	for i := range t.places {
		if work := t.places[i].work; work != nil {
			close(work)
		}
	}
	t.mu.Unlock()
	if left {
		return
	}
	t.runners.Wait()
}

// transition is the only place where the state changes.
func (t *turner) transition(to job.State, r Report) {
	t.state = to
	r.Kind, r.State, r.At, r.End = Turned, to, time.Now(), t.end
	t.report(r)
}

// await waits for what is due then, or else for the next tick.
func (t *turner) await(d due) {
	now := time.Now()
	if d.at.IsZero() && t.grid.Interval == 0 {
		d.at = now
	}
	next := d.at
	if next.IsZero() {
		next = t.grid.Due()
	}
	d.present(now) // it may have been held by the image before us
	t.due = d
	t.transition(job.Waiting, Report{Run: d.run, Next: present(now, next), Slowed: d.slowed})
}

// present puts the tick of a first try that was held in terms of the wall clock of now. Further tries have what the
// first one was told, to the letter: commands take it for the name of their tick.
func (d *due) present(now time.Time) {
	if d.run.Try == 0 && !d.run.Due.IsZero() {
		d.run.Due = present(now, d.run.Due)
	}
}

// present is the moment t in terms of the wall clock of now, which may have been stepped since.
func present(now, t time.Time) time.Time { return now.Add(t.Sub(now)) }

func (t *turner) report(r Report) {
	r.Grid = t.grid
	t.Recorder.Record(r)
}

// open asks the gate again for what is held.
func (t *turner) open() {
	if t.opened != nil {
		t.tryStart(t.due)
	}
}

func (t *turner) wake() {
	switch {
	case t.state == job.Waiting, t.beside() && t.opened == nil && t.going < t.most:
		t.tryStart(due{})
	case t.state == job.Running && t.opened == nil:
		t.woken = true
	}
}
