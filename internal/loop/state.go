package loop

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/schedule"
	"gophd/internal/timer"
)

const (
	lateShare  = 0.9         // of the interval, after which a run is reported as late
	gateRetry  = time.Second // between two checks of a shut gate, in case it opens without closing its channel
	lateGapMin = time.Second
	lateGapMax = time.Hour
	healthyMin = 10 * time.Second // a service that stays up this long has its earlier failures forgotten
	retryMax   = time.Hour        // between two attempts: the limit of doubling
)

// life is how a Loop ends.
type life struct {
	ctx       context.Context // of the runs
	cancel    context.CancelCauseFunc
	began     time.Time // when Start was called; zero if the loop continues that of the old process
	stopped   bool      // a stop was requested
	paused    bool      // see Pause
	skip      int       // ticks; see Skip
	handedOff bool      // the active runs continue without this loop
	panicked  *goroutine.Panic
}

// plan is when the next run starts.
type plan struct {
	grid    Grid
	slow    *backoff.ExponentialBackOff
	slowed  time.Duration // the last wait of a service, since it last was healthy
	due     due
	opened  <-chan struct{} // what is due is held until this is closed; nil if nothing is held
	watched <-chan struct{} // what the goroutine that watches the gate waits for; nil if there is none
	unwatch chan struct{}   // ends that goroutine
	timerAt time.Time       // when the timer expires; zero if it is not set
}

// due is a start that is not on the grid, or not at its time: held at the gate, a retry, or delayed
// by a back-off. While it is set a slot is free for it, because any other start replaces it.
type due struct {
	run job.Run // its Due is zero if it is to be the moment of the start
	// ticks of the grid that it stands for: its own and those before it that no run served. It is 0
	// for a requested run, a retry, and a late tick, which was counted when the run that made it
	// late ended.
	ticks  uint64
	before position  // of the grid, before these ticks
	at     time.Time // when it may start, or the gate is checked again; zero if nothing is due
	slowed time.Duration
}

// runs are the active runs.
type runs struct {
	slots     []slot
	active    int            // how many slots have a run
	working   int            // how many slots have a goroutine
	ended     *slot          // whose goroutine is in runEnds; nil if another run follows there
	requested []*job.Request // while no slot was free
}

// slot holds a run, which may overlap those in other slots. While runs follow each other without a
// wait, they share a goroutine: the stack of a new one would have to grow again for each run.
type slot struct {
	next work // see runEnds

	run      job.Run
	started  time.Time
	cancel   context.CancelCauseFunc // nil if there is no run
	missed   uint64                  // ticks that were dropped because the run is active
	nextTick time.Time               // the next tick, as of its start; zero if there is none
	period   time.Duration           // between two ticks there
	late     Lateness
}

// work is one call of the Runner.
type work struct {
	ctx context.Context
	run job.Run
}

// interval returns the interval of the grid; 0 if the job has no grid.
func (l *Loop) interval() time.Duration {
	if l.Spec.Once || l.Spec.Service {
		return 0
	}
	return l.Spec.Interval
}

// serve handles an event that comes from outside of the loop.
func (l *Loop) serve(event func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.panicked == nil {
		l.handle(event)
	}
}

// handle handles an event. The caller holds mu.
func (l *Loop) handle(event func()) {
	if p := goroutine.Catch(func() { l.compare(); event(); l.arm() }); p != nil {
		l.fail(p)
	}
	l.watchGate()
	if l.over() && (l.working == 0 || l.handedOff) {
		select {
		case <-l.done:
		default:
			close(l.done)
		}
	}
}

// compare takes notice of a step of the wall clock.
func (l *Loop) compare() {
	if missed, last := l.grid.compare(); missed > 0 {
		l.report(Report{Kind: Dropped, At: time.Now(), State: l.state, Run: job.Run{Due: last}, Missed: missed, Why: job.MissedClock})
	}
}

// over returns true if nothing happens any more, except that active runs end.
func (l *Loop) over() bool { return l.state == job.Done || l.panicked != nil }

// fail stops the runs after a panic.
func (l *Loop) fail(p *goroutine.Panic) {
	if l.panicked == nil {
		l.panicked = p
	}
	l.dropDue()
	l.timer.Stop()
	if !l.handedOff {
		l.cancelRuns(job.ErrInsisted)
	}
}

// runSlot is the goroutine of a slot. It ends when no run follows the last one.
func (l *Loop) runSlot(p *slot, w work) {
	panicked := goroutine.Catch(func() {
		for follows := true; follows; {
			w, follows = l.runEnds(p, l.Runner.Run(w.ctx, w.run))
		}
	})
	if panicked == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.working--
	l.handle(func() { panic(panicked) })
}

// runEnds handles the end of a run. If another run follows in its slot, it returns that, for the same
// goroutine.
func (l *Loop) runEnds(p *slot, r job.Result) (next work, follows bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.working--
	if l.handedOff {
		return work{}, false
	}
	l.ended = p
	l.handle(func() { l.runEnded(p, r) })
	follows = l.ended == nil
	l.ended = nil
	return p.next, follows
}

// startWork makes the goroutine of a slot call the Runner: the one that is just handling the end of a
// run there, or a new one.
func (l *Loop) startWork(p *slot, w work) {
	l.working++
	if l.ended == p {
		l.ended, p.next = nil, w
		return
	}
	l.goroutines.Go(func() { l.runSlot(p, w) })
}

// watchGate watches the gate while something is held.
func (l *Loop) watchGate() {
	if l.opened == l.watched {
		return
	}
	if l.watched != nil {
		close(l.unwatch)
	}
	if l.watched = l.opened; l.watched == nil {
		return
	}
	opened, unwatch := l.watched, make(chan struct{})
	l.unwatch = unwatch
	l.goroutines.Go(func() {
		select {
		case <-opened:
			l.serve(func() {
				if l.watched == opened {
					l.watched = nil
					l.open()
				}
			})
		case <-unwatch:
		}
	})
}

// arm sets the timer to the first moment that the state waits for.
func (l *Loop) arm() {
	var first time.Time
	if !l.over() {
		first = l.due.at
		if l.opened == nil && (l.state == job.Waiting || l.mayOverlap()) {
			first = earlier(first, l.grid.Due())
		}
		for i := range l.slots {
			first = earlier(first, l.slots[i].late.At)
		}
	}
	if first.Equal(l.timerAt) {
		return
	}
	if l.timerAt = first; first.IsZero() {
		l.timer.Stop()
		return
	}
	l.timer.Set(time.Until(first))
}

// earlier returns the earlier of two moments. A zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// mayOverlap returns true if a tick that is due now may start a run beside the active ones.
func (l *Loop) mayOverlap() bool { return l.state == job.Running && l.maxParallel > 1 }

// start enters the first state.
func (l *Loop) start() {
	l.slow.Reset()
	now := time.Now()
	l.grid = l.firstGrid(now)
	if l.Grid == nil {
		l.began = now
	} else {
		for _, g := range l.Grid.ActiveRuns {
			l.addRun(g.Run, g.Started, 0)
			p := &l.slots[g.Run.Slot]
			p.missed = g.Missed
			if l.Spec.Overlap != job.OverlapReplace && l.grid.Interval == l.Grid.Interval && l.grid.Calendar.Equal(l.Grid.Calendar) {
				p.late = g.Late // the old process has made the reports before
			}
		}
		l.requested, l.failed = slices.Clone(l.Grid.Requested), slices.Clone(l.Grid.Failures)
		if w := l.Grid.Wait; w != nil && l.stillValid(*w) {
			l.due = due{run: w.Run, at: w.Until, slowed: w.Slowed}
		}
	}
	switch {
	case l.Grid != nil:
	case l.Spec.Service && !l.Spec.RunAtStart:
		l.due.at = now.Add(l.Spec.Interval)
	case l.Spec.Calendar != nil && (l.Spec.RunAtStart || l.Booted && l.Spec.Calendar.Kind() == schedule.Reboot):
		l.due.at = now
	}
	if l.active == 0 {
		l.await(l.due)
	}
	if l.stopped {
		l.stop()
	}
}

// stillValid returns true if a delay of the old process still applies under our Spec.
func (l *Loop) stillValid(w Delay) bool {
	switch {
	case l.active >= l.maxParallel:
		return false
	case w.Run.Attempt > 0:
		next := l.grid.Due()
		return w.Run.Attempt <= l.Spec.Retries && (next.IsZero() || w.Until.Before(next))
	case !w.Run.Due.IsZero():
		return true
	}
	return !l.grid.hasTicks()
}

// firstGrid returns the grid of the old process if its interval still holds, a grid with the new
// interval from the old one's last tick if not, and a grid from now if there was none.
func (l *Loop) firstGrid(now time.Time) Grid {
	if l.Spec.Calendar != nil {
		return l.firstCalendar(now)
	}
	g := Grid{Anchor: now, Interval: l.interval()}
	if !l.Spec.RunAtStart && g.Interval > 0 {
		g.Tick = 1
	}
	was := l.Grid
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

// firstCalendar returns the position of the old process if its calendar is the same. Otherwise the due
// times after now count.
func (l *Loop) firstCalendar(now time.Time) Grid {
	g := Grid{Calendar: l.Spec.Calendar, Last: now.Round(0), ahead: timer.WallAhead(), each: l.Spec.CatchUp == job.CatchUpAll,
		splay: l.Spec.Splay, maxJitter: l.Spec.Jitter}
	g.draw()
	if l.Grid == nil && !l.Since.IsZero() && l.Since.Sub(now) <= correction {
		g.Last = l.Since.Round(0)
	}
	if was := l.Grid; was != nil {
		g.Runs = was.Runs
		if was.Calendar.Equal(g.Calendar) {
			g.Last = was.Last
		}
	}
	return g
}

// transition is the only place where the state changes.
func (l *Loop) transition(to job.State, r Report) {
	l.state = to
	r.Kind, r.State, r.At, r.End = StateChanged, to, time.Now(), l.end
	l.report(r)
}

// await waits for d, or else for the next tick.
func (l *Loop) await(d due) {
	now := time.Now()
	if d.at.IsZero() && !l.grid.hasTicks() {
		d.at = now
	}
	next := d.at
	if next.IsZero() {
		next = l.grid.Due()
	}
	if !next.IsZero() {
		next = rebase(now, next)
	}
	d.rebase(now) // the old process may have held it
	l.due = d
	l.transition(job.Waiting, Report{Run: d.run, Next: next, Slowed: d.slowed})
}

// rebase expresses the tick of a held first attempt in terms of the wall clock of now. Retries keep
// exactly the due time of the first attempt: commands use it as the name of their tick.
func (d *due) rebase(now time.Time) {
	if d.run.Attempt == 0 && !d.run.Due.IsZero() {
		d.run.Due = rebase(now, d.run.Due)
	}
}

// rebase expresses the moment t in terms of the wall clock of now, which may have been stepped
// since. A moment of a calendar has no monotonic reading: it is one of that clock already.
func rebase(now, t time.Time) time.Time {
	if t == t.Round(0) {
		return t.Local()
	}
	return now.Add(t.Sub(now))
}

func (l *Loop) report(r Report) {
	r.Grid = l.grid
	l.Recorder.Record(r)
}

// open checks the gate again for what is held.
func (l *Loop) open() {
	if l.opened != nil {
		l.startOrHold(l.due)
	}
}

func (l *Loop) runNow() {
	r := new(job.Request)
	switch {
	case l.slotIsFree():
		l.startOrHold(due{run: job.Run{Request: r}})
	case l.state == job.Running && l.opened == nil:
		l.remember(r)
	}
}

// slotIsFree returns true if a run that is requested can start now, as far as the job is concerned.
func (l *Loop) slotIsFree() bool {
	return l.state == job.Waiting || l.mayOverlap() && l.opened == nil && l.active < l.maxParallel
}

// remember keeps a request until a slot is free. It returns the one that waits already if that is the
// same.
func (l *Loop) remember(r *job.Request) *job.Request {
	if i := slices.IndexFunc(l.requested, r.Same); i >= 0 {
		if l.requested[i].ID == 0 {
			l.requested[i] = r
		}
		return l.requested[i]
	}
	l.requested = append(l.requested, r)
	return r
}

// maxRequested limits the requests that wait for a free slot.
const maxRequested = 100

func (l *Loop) request(r *job.Request) (*job.Request, error) {
	switch {
	case l.state == job.Draining || l.state == job.Done:
		return nil, ErrEnds
	case l.slotIsFree():
		l.startOrHold(due{run: job.Run{Request: r}})
		return r, nil
	case l.state == job.Held || l.opened != nil: // it follows what is held
	case l.Spec.Overlap == job.OverlapAllow:
		return nil, fmt.Errorf("%d runs are active, as many as job.max_parallel allows", l.active)
	case l.Spec.Overlap == job.OverlapSkip:
		return nil, fmt.Errorf("run %d is active, and job.overlap is %s", l.oldest().run.Number, l.Spec.Overlap)
	case len(l.requested) >= maxRequested:
		return nil, fmt.Errorf("%d requested runs wait already", maxRequested)
	case l.Spec.Overlap == job.OverlapReplace:
		l.cancelRuns(job.ErrReplaced)
	}
	return l.remember(r), nil
}

// withdraw drops what waits to start because it was requested.
func (l *Loop) withdraw() (dropped []*job.Request) {
	if r := l.due.run.Request; r != nil && l.opened != nil { // the gate holds it
		dropped = append(dropped, r)
		l.dropDue()
		if l.active == 0 {
			l.await(due{})
		}
	}
	dropped = append(dropped, l.requested...)
	l.requested = nil
	return dropped
}

func (l *Loop) pause(paused bool) {
	l.paused = paused
	if !paused && l.state == job.Waiting && !l.grid.hasTicks() && l.due.at.IsZero() {
		l.startOrHold(due{})
	}
}

// skips returns true if a run that is due does not start, because the job is paused, or its next ticks
// are skipped.
func (l *Loop) skips(d due) bool {
	switch {
	case d.run.Request != nil, !l.paused && (l.skip == 0 || d.run.Attempt > 0 || !l.grid.hasTicks()):
		return false
	case !l.paused:
		l.skip--
	}
	now := time.Now()
	l.report(Report{Kind: Skipped, At: now, State: l.state, Run: d.run, Missed: d.ticks + l.grid.pass(now), Paused: l.paused})
	switch {
	case l.active > 0:
	case len(l.requested) > 0: // while this one was held
		l.startRequested()
	case l.grid.hasTicks():
		l.await(due{})
	default:
		l.transition(job.Waiting, Report{})
	}
	return true
}

func (l *Loop) served(last time.Time) {
	if l.grid.Calendar == nil {
		return
	}
	if last.After(l.grid.Last) {
		l.grid.Last = last.Round(0)
		l.grid.draw()
	}
	if d := l.due; l.opened == nil || d.run.Request != nil || d.run.Due.After(last) {
		return
	}
	d := l.due
	l.dropDue()
	l.report(Report{Kind: Dropped, At: time.Now(), State: l.state, Run: d.run, Missed: d.ticks, Why: job.MissedElsewhere})
	switch {
	case l.active > 0:
	case len(l.requested) > 0:
		l.startRequested()
	default:
		l.await(due{})
	}
}

// startRequested starts the run that was requested first.
func (l *Loop) startRequested() {
	next := l.requested[0]
	l.requested = l.requested[1:]
	l.startOrHold(due{run: job.Run{Request: next}})
}
