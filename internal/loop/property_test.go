package loop_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"gophd/internal/job"
	"gophd/internal/loop"
)

// plan is the script of a loop and its events, all drawn in advance.
type plan struct {
	spec    job.Spec
	period  time.Duration   // between two ticks, of an interval or a calendar; 0 if there are none
	lengths []time.Duration // of the runs, in turn
	codes   []int
	late    time.Duration // of every timer
	events  []event
}

type event struct {
	after time.Duration // the event before it
	kind  string
}

// A plan that fails is not written to the tree: rapid prints the flag that repeats it.
func init() {
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		panic(err)
	}
}

func drawPlan(t *rapid.T) plan {
	ms := func(name string, low, high int) time.Duration {
		return time.Duration(rapid.IntRange(low, high).Draw(t, name)) * time.Millisecond
	}
	p := plan{spec: job.Spec{
		Schedule: job.Schedule{RunAtStart: rapid.Bool().Draw(t, "run at start"),
			Overlap: rapid.SampledFrom([]job.OverlapPolicy{job.OverlapQueue, job.OverlapSkip, job.OverlapReplace,
				job.OverlapAllow, job.OverlapAllow}).Draw(t, "late")},
	}, late: ms("late", 0, 3)}
	switch rapid.IntRange(0, 6).Draw(t, "grid") {
	case 0:
	case 1, 2:
		p.period = ms("every", 10, 3000)
		p.spec.Calendar, p.spec.RunAtStart = calendar(t, "@every "+p.period.String()), false
	default:
		p.period = ms("interval", 10, 3000)
		p.spec.Interval = p.period
	}
	if p.spec.Overlap == job.OverlapAllow {
		p.spec.MaxParallel = rapid.IntRange(2, 4).Draw(t, "max parallel")
	}
	switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); {
	case p.spec.Calendar != nil:
	case kind == 0:
		p.spec.Once = true
	case kind == 1:
		p.spec.Service = true
	}
	if rapid.Bool().Draw(t, "retrying") {
		p.spec.Retries, p.spec.RetryDelay = rapid.IntRange(1, 3).Draw(t, "retries"), ms("retry delay", 0, 1000)
	}
	if rapid.IntRange(0, 3).Draw(t, "ending") == 0 {
		p.spec.FatalCodes = []int{2}
		p.spec.StartLimit, p.spec.StartLimitInterval = rapid.IntRange(0, 5).Draw(t, "limit"), time.Minute
	}
	for range rapid.IntRange(1, 8).Draw(t, "lengths") {
		p.lengths = append(p.lengths, ms("length", 1, 8000)+137*time.Nanosecond) // never ends at a tick
		p.codes = append(p.codes, rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2}).Draw(t, "code"))
	}
	for range rapid.IntRange(0, 12).Draw(t, "events") {
		p.events = append(p.events, event{ms("after", 1, 5000) + 211*time.Nanosecond,
			rapid.SampledFrom([]string{"run now", "run now", "shut", "open", "hand off",
				"hand off fails"}).Draw(t, "event")})
	}
	p.events = append(p.events, event{ms("after", 1, 20_000) + 211*time.Nanosecond,
		rapid.SampledFrom([]string{"stop", "cancel"}).Draw(t, "end")})
	return p
}

// life executes a plan, over all processes. It is the Runner and the Recorder of their loops.
type life struct {
	*env
	plan     plan
	mu       sync.Mutex
	ends     map[uint64]time.Time // of the runs that were started
	active   map[uint64]int       // their slots
	numbers  uint64               // of the runs that were started
	reported uint64               // of those that were reported
	starts   []time.Time
	all      []loop.Report
	stopped  bool
	shutAt   time.Time // zero if the gate is open
	wasShut  bool      // it was shut at least once
	dropped  bool      // it was shut when the loop was ending: a tick that is held then is neither served nor missed
	wrong    []string
}

func (l *life) failf(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf("%v: ", time.Since(l.started))+fmt.Sprintf(format, args...))
}

func (l *life) Record(r loop.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r)
	if r.Kind == loop.StateChanged && r.State == job.Running {
		l.reported = max(l.reported, r.Run.Number)
	}
	if r.Kind == loop.Ended {
		delete(l.active, r.Run.Number)
	}
	if r.State >= job.Draining {
		l.dropped = l.dropped || !l.shutAt.IsZero()
	}
	if r.Kind == loop.StateChanged && r.State == job.Done && len(l.active) != len(r.Grid.ActiveRuns) {
		l.failf("done, and %d runs are active of which %d were handed off", len(l.active), len(r.Grid.ActiveRuns))
	}
}

func (l *life) Run(ctx context.Context, run job.Run) job.Result {
	l.mu.Lock()
	end, adopted := l.ends[run.Number]
	if !adopted {
		l.check(run)
		end = time.Now().Add(l.plan.lengths[run.Number%uint64(len(l.plan.lengths))])
		l.ends[run.Number] = end
	}
	if l.active[run.Number] = run.Slot; len(l.active) > max(l.spec.MaxParallel, 1) {
		l.failf("%d runs at a time", len(l.active))
	}
	l.mu.Unlock()
	r := job.Result{Outcome: job.Exited, Code: l.plan.codes[run.Number%uint64(len(l.plan.codes))],
		Started: time.Now()}
	select {
	case <-time.After(time.Until(end)):
	case <-ctx.Done():
		time.Sleep(3*time.Millisecond + 17)
		r.Outcome, r.Signal, r.Cause = job.Signaled, 15, context.Cause(ctx)
	}
	r.Ended = time.Now()
	return r
}

// check is called at each start.
func (l *life) check(run job.Run) {
	switch {
	case l.reported < run.Number:
		l.failf("%+v was started and not reported", run)
	case l.stopped:
		l.failf("%+v was started after the stop", run)
	case !l.shutAt.IsZero():
		l.failf("%+v was started through a shut gate", run)
	}
	if l.numbers++; run.Number != l.numbers {
		l.failf("the number after %d is %d", l.numbers-1, run.Number)
	}
	if run.Slot < 0 || run.Slot >= max(l.spec.MaxParallel, 1) || run.Attempt > l.spec.Retries {
		l.failf("started: %+v", run)
	}
	for n, slot := range l.active {
		if slot == run.Slot {
			l.failf("runs %d and %d are both in slot %d", n, run.Number, slot)
		}
	}
	if run.Due.After(time.Now()) {
		l.failf("%+v was started before it was due", run)
	}
	l.starts = append(l.starts, time.Now())
}

// live executes the plan.
func (l *life) live() {
	startLoop := func() (wait func()) {
		l.loop = loop.New(loop.Options{Spec: &l.spec, Runner: l, Recorder: l, Gate: l, Timer: newTimer(l.late),
			Grid: l.grid})
		return l.run()
	}
	wait := startLoop()
	for _, e := range l.plan.events {
		time.Sleep(e.after)
		l.mu.Lock()
		switch {
		case e.kind == "shut" && l.shutAt.IsZero():
			l.shutAt, l.wasShut = time.Now(), true
			l.close()
		case e.kind == "open" && !l.shutAt.IsZero():
			l.shutAt = time.Time{}
			l.open()
		}
		l.mu.Unlock()
		switch e.kind {
		case "run now":
			l.loop.RunNow()
		case "hand off fails", "hand off":
			busy := errBusy
			if e.kind == "hand off" {
				busy = nil
			}
			if l.loop.HandOff(func() error { return busy }) == nil {
				wait()
				grid := l.all[len(l.all)-1].Grid
				l.grid, l.dropped = &grid, false
				old := l.loop
				defer old.Cancel(nil) // for the runs that were handed off
				wait = startLoop()
			}
		case "stop":
			l.loop.Stop()
		case "cancel":
			l.loop.Cancel(nil)
		}
		synctest.Wait()
	}
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	wait()
}

// account compares the ticks that were due with those that were served and those that were reported
// as missed.
func (l *life) account() {
	last := l.all[len(l.all)-1]
	if last.State != job.Done || len(l.active) > 0 {
		l.failf("it ended with %+v, and %d runs", last, len(l.active))
	}
	if l.plan.period == 0 || l.spec.Once || l.spec.Service || l.dropped {
		return
	}
	grid := last.Grid
	var ticks, counted, served, afterwards uint64
	ticks = grid.Tick
	isTick := func(due time.Time) bool { return due.Sub(grid.Anchor)%l.spec.Interval == 0 }
	switch {
	case l.spec.Calendar != nil:
		ticks, _ = l.spec.Calendar.Count(l.started, grid.Last)
		isTick = func(due time.Time) bool { return due.Truncate(l.plan.period).Equal(due) }
	case !l.spec.RunAtStart:
		ticks--
	}
	var overran time.Time // end of the last run, if it overran
	seen := map[time.Time]bool{}
	starts := l.starts
	known := map[uint64]bool{}
	for _, r := range l.all {
		switch {
		case r.Kind == loop.Ended:
			counted += r.Tick.Missed
			if overran = (time.Time{}); r.Tick.Missed > 0 {
				overran = r.At
			}
		case r.Kind == loop.StateChanged && r.State == job.Running && !known[r.Run.Number]:
			known[r.Run.Number] = true
			counted += r.Missed
			started := starts[0]
			starts = starts[1:]
			due := r.Run.Due.UTC()
			if r.Run.Attempt > 0 || !isTick(due) {
				continue // of a tick that was served before, or a requested run
			}
			if seen[due] {
				l.failf("the tick at %v was served twice", due)
			}
			seen[due] = true
			served++
			if r.Run.Due.Before(overran) && l.spec.MaxParallel == 0 && l.spec.Overlap != job.OverlapSkip {
				afterwards++ // served, and counted as missed
			} else if late := started.Sub(r.Run.Due); (late < 0 || late > l.late) && !l.wasShut && l.grid == nil {
				l.failf("the tick at %v was served %v after it was due: timers are late by %v", due, late, l.late)
			}
			overran = time.Time{}
		}
	}
	if ticks+afterwards != counted+served {
		l.failf("%d ticks were due: %d served, %d of them late, and %d counted as missed", ticks, served,
			afterwards, counted)
	}
}

// Whatever happens, there are never more runs than allowed, no tick moves or is lost or served
// twice, and nothing starts after the end.
func TestInvariantsOfRandomPlans(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			l := &life{env: newEnv(t, p.spec), plan: p, ends: map[uint64]time.Time{}, active: map[uint64]int{}}
			l.env.late = p.late
			l.live()
			l.account()
			wrong = l.wrong
			time.Sleep(10 * time.Second) // runs that were handed off
		})
		if len(wrong) > 0 {
			rt.Error(wrong[0])
		}
	})
}
