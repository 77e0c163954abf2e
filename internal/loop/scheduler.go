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
	lateShare     = 0.9         // of the interval, after which a run is reported as late
	gateRetry     = time.Second // between two checks of a shut gate, in case it opens without closing its channel
	lateGapMin    = time.Second
	lateGapMax    = time.Hour
	backoffMin    = 100 * time.Millisecond
	backoffMax    = 30 * time.Second
	backoffGrow   = 2
	backoffJitter = 0.1              // drawn once per wait, so that many loops do not fail in step
	healthyMin    = 10 * time.Second // a service that stays up this long has its earlier failures forgotten
	retryMax      = time.Hour        // between two attempts: the limit of doubling
)

// scheduler is the state of one call of Run. mu guards the fields below it. Several goroutines hold
// it: the one that serves events, and those that run the command, which continue the loop
// themselves when a run has ended. If only the goroutine that serves events continued the loop, it
// would have to be woken, on a thread of its own, between any two runs. Back to back, that cost a
// tenth of a short run.
type scheduler struct {
	*Loop
	ctx         context.Context // of the call of Run
	maxParallel int             // runs at a time
	changed     chan struct{}   // the goroutine that serves events must call view again; capacity 1
	panicked    chan struct{}   // a slot's goroutine has panicked; capacity 1
	runners     goroutine.Group

	mu    sync.Mutex // never held during a run
	state job.State
	plan
	slots     []slot
	active    int         // how many slots have a run
	failed    []time.Time // first attempts of the runs that failed in a row, within Spec.StartLimitInterval
	end       End
	handedOff bool // the active runs continue without this loop
	runAgain  bool // a run was requested while no slot was free
}

// plan is when the next run starts.
type plan struct {
	grid    Grid
	slow    *backoff.ExponentialBackOff
	slowed  time.Duration // the last wait of a service, since it last was healthy
	due     due
	opened  <-chan struct{} // what is due is held until this is closed; nil if nothing is held
	timerAt time.Time       // when the timer fires; zero once it has
}

// due is a start that is not on the grid, or not at its time: held at the gate, a retry, or delayed
// by a back-off. While it is set a slot is free for it, because any other start replaces it.
type due struct {
	run job.Run // its Due is zero if it is to be the moment of the start
	// ticks of the grid that it stands for: its own and those before it that no run served. It is 0
	// for a requested run, a retry, and a late tick, which was counted when the run that made it
	// late ended.
	ticks  uint64
	at     time.Time // when it may start, or the gate is checked again; zero if nothing is due
	slowed time.Duration
}

// slot holds a run, which may overlap those in other slots, and the goroutine that runs it. The
// goroutine is kept for later runs: the stack of a new one would have to grow again for each run.
type slot struct {
	work chan work // nil until the first run here; capacity 1, so that a sender never waits

	run      job.Run
	started  time.Time
	cancel   context.CancelCauseFunc // nil if there is no run
	missed   uint64                  // ticks that were dropped because the run is active
	nextTick time.Time               // the next tick, as of its start
	lateAt   time.Time               // when its lateness is reported next; zero is never
	lateGap  time.Duration           // from then to the report after it
}

// work is one call of the Runner.
type work struct {
	ctx context.Context
	run job.Run
}

func newScheduler(ctx context.Context, l *Loop) *scheduler {
	s := &scheduler{
		Loop: l, ctx: ctx, maxParallel: 1,
		plan: plan{slow: &backoff.ExponentialBackOff{InitialInterval: backoffMin, Multiplier: backoffGrow,
			MaxInterval: backoffMax, RandomizationFactor: backoffJitter}},
		changed: make(chan struct{}, 1), panicked: make(chan struct{}, 1),
	}
	if l.Spec.Overlap == job.OverlapAllow && s.interval() > 0 {
		s.maxParallel = max(l.Spec.MaxParallel, 1)
	}
	n := s.maxParallel
	if l.Grid != nil {
		for _, g := range l.Grid.ActiveRuns { // the old process may have allowed more
			n = max(n, g.Run.Slot+1)
		}
	}
	s.slots = make([]slot, n)
	return s
}

// interval returns the interval of the grid; 0 if the job has no grid.
func (s *scheduler) interval() time.Duration {
	if s.Spec.Once || s.Spec.Service {
		return 0
	}
	return s.Spec.Interval
}

// view returns what the goroutine that serves events must know to wait.
func (s *scheduler) view() (opened <-chan struct{}, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, s.state == job.Done
}

// serve handles an event.
func (s *scheduler) serve(event func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	event()
	s.arm()
}

// runSlot is the goroutine of a slot.
func (s *scheduler) runSlot(p *slot) {
	defer func() {
		select {
		case s.panicked <- struct{}{}:
		default:
		}
	}()
	for w := range p.work {
		s.finish(p, s.Runner.Run(w.ctx, w.run))
	}
}

// finish handles the end of a run. A run that follows it in its slot is started without another
// goroutine.
func (s *scheduler) finish(p *slot, r job.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handedOff {
		return
	}
	opened := s.opened
	s.runEnded(p, r)
	s.arm()
	if s.state == job.Done || s.opened != opened {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

// arm sets the timer to the first moment that the state waits for.
func (s *scheduler) arm() {
	if s.state == job.Done {
		return
	}
	first := s.due.at
	if s.grid.Interval > 0 && s.opened == nil && (s.state == job.Waiting || s.mayOverlap()) {
		first = earlier(first, s.grid.Due())
	}
	for i := range s.slots {
		first = earlier(first, s.slots[i].lateAt)
	}
	if first.IsZero() || first.Equal(s.timerAt) {
		return
	}
	s.timerAt = first
	s.Alarm.Set(time.Until(first))
}

// earlier returns the earlier of two moments. A zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// mayOverlap returns true if a tick that is due now may start a run beside the active ones.
func (s *scheduler) mayOverlap() bool { return s.state == job.Running && s.maxParallel > 1 }

// start enters the first state.
func (s *scheduler) start() {
	s.slow.Reset()
	now := time.Now()
	s.grid = s.firstGrid(now)
	if s.Grid != nil {
		for _, g := range s.Grid.ActiveRuns {
			s.addRun(g.Run, g.Started, 0)
			s.slots[g.Run.Slot].missed = g.Missed
		}
		s.runAgain = s.Grid.RunRequested
		if w := s.Grid.Wait; w != nil && s.stillValid(*w) {
			s.due = due{run: w.Run, at: w.Until, slowed: w.Slowed}
		}
	}
	if s.Grid == nil && s.Spec.Service && !s.Spec.RunAtStart {
		s.due.at = now.Add(s.Spec.Interval)
	}
	if s.active == 0 {
		s.await(s.due)
	}
}

// stillValid returns true if a delay of the old process still applies under our Spec.
func (s *scheduler) stillValid(w Delay) bool {
	switch {
	case s.active >= s.maxParallel:
		return false
	case w.Run.Attempt > 0:
		return w.Run.Attempt <= s.Spec.Retries && (s.grid.Interval == 0 || w.Until.Before(s.grid.Due()))
	case !w.Run.Due.IsZero():
		return true
	}
	return s.grid.Interval == 0
}

// firstGrid returns the grid of the old process if its interval still holds, a grid with the new
// interval from the old one's last tick if not, and a grid from now if there was none.
func (s *scheduler) firstGrid(now time.Time) Grid {
	g := Grid{Anchor: now, Interval: s.interval()}
	if !s.Spec.RunAtStart && g.Interval > 0 {
		g.Tick = 1
	}
	was := s.Grid
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
			g.Tick = passed // those before were never reported as due
		}
	case len(was.ActiveRuns) > 0:
		g.Tick = 1
	}
	return g
}

// close makes sure that no run outlives the call of Run. Only a panic leaves one active, and no
// other may follow it. Runs that were handed off are not waited for.
func (s *scheduler) close() {
	s.Stop()
	s.mu.Lock()
	handedOff := s.handedOff
	if !handedOff {
		s.cancelRuns(job.ErrInsisted)
	}
	for i := range s.slots {
		if work := s.slots[i].work; work != nil {
			close(work)
		}
	}
	s.mu.Unlock()
	if handedOff {
		return
	}
	s.runners.Wait()
}

// transition is the only place where the state changes.
func (s *scheduler) transition(to job.State, r Report) {
	s.state = to
	r.Kind, r.State, r.At, r.End = StateChanged, to, time.Now(), s.end
	s.report(r)
}

// await waits for d, or else for the next tick.
func (s *scheduler) await(d due) {
	now := time.Now()
	if d.at.IsZero() && s.grid.Interval == 0 {
		d.at = now
	}
	next := d.at
	if next.IsZero() {
		next = s.grid.Due()
	}
	d.rebase(now) // the old process may have held it
	s.due = d
	s.transition(job.Waiting, Report{Run: d.run, Next: rebase(now, next), Slowed: d.slowed})
}

// rebase expresses the tick of a held first attempt in terms of the wall clock of now. Retries keep
// exactly the due time of the first attempt: commands use it as the name of their tick.
func (d *due) rebase(now time.Time) {
	if d.run.Attempt == 0 && !d.run.Due.IsZero() {
		d.run.Due = rebase(now, d.run.Due)
	}
}

// rebase expresses the moment t in terms of the wall clock of now, which may have been stepped
// since.
func rebase(now, t time.Time) time.Time { return now.Add(t.Sub(now)) }

func (s *scheduler) report(r Report) {
	r.Grid = s.grid
	s.Recorder.Record(r)
}

// open checks the gate again for what is held.
func (s *scheduler) open() {
	if s.opened != nil {
		s.startOrHold(s.due)
	}
}

func (s *scheduler) wake() {
	switch {
	case s.state == job.Waiting, s.mayOverlap() && s.opened == nil && s.active < s.maxParallel:
		s.startOrHold(due{})
	case s.state == job.Running && s.opened == nil:
		s.runAgain = true
	}
}
