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

// plan is a life of a loop and what happens in it, all drawn before.
type plan struct {
	spec    job.Spec
	lengths []time.Duration // of the runs, in turn
	codes   []int
	late    time.Duration // of every ring
	events  []event
}

type event struct {
	after time.Duration // the one before
	kind  string
}

// A plan that fails is not written to the tree: rapid prints the flag that draws it again.
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
		Schedule: job.Schedule{RunAtStart: rapid.Bool().Draw(t, "run at start"), Overrun: rapid.SampledFrom([]job.Overrun{job.OverrunRun, job.OverrunSkip, job.OverrunKill, job.OverrunOverlap, job.OverrunOverlap}).Draw(t, "overrun")},
	}, late: ms("late", 0, 3)}
	if rapid.IntRange(0, 4).Draw(t, "grid") > 0 {
		p.spec.Interval = ms("interval", 10, 3000)
	}
	if p.spec.Overrun == job.OverrunOverlap {
		p.spec.MaxParallel = rapid.IntRange(2, 4).Draw(t, "max parallel")
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		p.spec.Once = true
	case 1:
		p.spec.Keep = true
	}
	if rapid.Bool().Draw(t, "retrying") {
		p.spec.Retries, p.spec.RetryDelay = rapid.IntRange(1, 3).Draw(t, "retries"), ms("retry delay", 0, 1000)
	}
	if rapid.IntRange(0, 3).Draw(t, "ending") == 0 {
		p.spec.FatalCodes = []int{2}
		p.spec.StartLimit, p.spec.StartLimitInterval = rapid.IntRange(0, 5).Draw(t, "limit"), time.Minute
	}
	for range rapid.IntRange(1, 8).Draw(t, "lengths") {
		p.lengths = append(p.lengths, ms("length", 1, 8000)+137*time.Nanosecond) // never over at a tick
		p.codes = append(p.codes, rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2}).Draw(t, "code"))
	}
	for range rapid.IntRange(0, 12).Draw(t, "events") {
		p.events = append(p.events, event{ms("after", 1, 5000) + 211*time.Nanosecond,
			rapid.SampledFrom([]string{"wake", "wake", "shut", "open", "leave", "stay"}).Draw(t, "event")})
	}
	p.events = append(p.events, event{ms("after", 1, 20_000) + 211*time.Nanosecond, rapid.SampledFrom([]string{"stop", "cancel"}).Draw(t, "end")})
	return p
}

// life is a plan that is carried out, over all images. It is the Runner and the Recorder of their loops.
type life struct {
	*world
	plan    plan
	mu      sync.Mutex
	ends    map[uint64]time.Time // of the runs that were begun
	going   map[uint64]int       // their places
	numbers uint64               // of the runs that were begun
	said    uint64               // and of those of which it was said
	starts  []time.Time
	all     []loop.Report
	stopped bool
	shutAt  time.Time // zero when the gate is open
	gated   bool      // it was shut once
	dropped bool      // it was when the end began: a tick that is held then is neither served nor missed
	wrong   []string
}

func (l *life) failf(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf("%v: ", time.Since(l.began))+fmt.Sprintf(format, args...))
}

func (l *life) Record(r loop.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r)
	if r.Kind == loop.Turned && r.State == job.Running {
		l.said = max(l.said, r.Run.Number)
	}
	if r.Kind == loop.Ended {
		delete(l.going, r.Run.Number)
	}
	if r.State >= job.Draining {
		l.dropped = l.dropped || !l.shutAt.IsZero()
	}
	if r.Kind == loop.Turned && r.State == job.Done && len(l.going) != len(r.Grid.Going) {
		l.failf("done, and %d runs go on of which %d are left", len(l.going), len(r.Grid.Going))
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
	if l.going[run.Number] = run.Place; len(l.going) > max(l.spec.MaxParallel, 1) {
		l.failf("%d runs at a time", len(l.going))
	}
	l.mu.Unlock()
	r := job.Result{Outcome: job.Exited, Code: l.plan.codes[run.Number%uint64(len(l.plan.codes))], Started: time.Now()}
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
	case l.said < run.Number:
		l.failf("%+v was begun, and nothing said so", run)
	case l.stopped:
		l.failf("%+v was begun after the stop", run)
	case !l.shutAt.IsZero():
		l.failf("%+v was begun through a shut gate", run)
	}
	if l.numbers++; run.Number != l.numbers {
		l.failf("the number after %d is %d", l.numbers-1, run.Number)
	}
	if run.Place < 0 || run.Place >= max(l.spec.MaxParallel, 1) || run.Try > l.spec.Retries {
		l.failf("begun: %+v", run)
	}
	for n, place := range l.going {
		if place == run.Place {
			l.failf("runs %d and %d are both in place %d", n, run.Number, place)
		}
	}
	if run.Due.After(time.Now()) {
		l.failf("%+v was begun before it was due", run)
	}
	l.starts = append(l.starts, time.Now())
}

// live carries the plan out.
func (l *life) live() {
	turn := func() (stop context.CancelFunc, wait func()) {
		ctx, cancel := context.WithCancel(l.t.Context())
		l.loop = loop.New(loop.Options{Spec: l.spec, Runner: l, Recorder: l, Gate: l, Alarm: newAlarm(l.late), Grid: l.grid})
		return cancel, l.turn(ctx)
	}
	cancel, wait := turn()
	defer func() { cancel() }()
	for _, e := range l.plan.events {
		time.Sleep(e.after)
		l.mu.Lock()
		switch {
		case e.kind == "shut" && l.shutAt.IsZero():
			l.shutAt, l.gated = time.Now(), true
			l.close()
		case e.kind == "open" && !l.shutAt.IsZero():
			l.shutAt = time.Time{}
			l.open()
		}
		l.mu.Unlock()
		switch e.kind {
		case "wake":
			l.loop.Wake()
		case "stay", "leave":
			busy := errBusy
			if e.kind == "leave" {
				busy = nil
			}
			if l.loop.Leave(func() error { return busy }) == nil {
				wait()
				grid := l.all[len(l.all)-1].Grid
				l.grid, l.dropped = &grid, false
				old := cancel
				defer old() // of the runs that were left
				cancel, wait = turn()
			}
		case "stop":
			l.loop.Stop()
		case "cancel":
			cancel()
		}
		synctest.Wait()
	}
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	wait()
}

// account holds the ticks that fell due against those that were served and those that were said to be missed.
func (l *life) account() {
	last := l.all[len(l.all)-1]
	if last.State != job.Done || len(l.going) > 0 {
		l.failf("it ended with %+v, and %d runs", last, len(l.going))
	}
	if l.spec.Interval == 0 || l.spec.Once || l.spec.Keep || l.dropped {
		return
	}
	grid := last.Grid
	var ticks, counted, served, afterwards uint64
	ticks = grid.Tick
	if !l.spec.RunAtStart {
		ticks--
	}
	var overran time.Time // end of the last run, if it did
	seen := map[time.Duration]bool{}
	starts := l.starts
	known := map[uint64]bool{}
	for _, r := range l.all {
		switch {
		case r.Kind == loop.Ended:
			counted += r.Tick.Missed
			if overran = (time.Time{}); r.Tick.Missed > 0 {
				overran = r.At
			}
		case r.Kind == loop.Turned && r.State == job.Running && !known[r.Run.Number]:
			known[r.Run.Number] = true
			counted += r.Missed
			started := starts[0]
			starts = starts[1:]
			due := r.Run.Due.Sub(grid.Anchor)
			if r.Run.Try > 0 || due%l.spec.Interval != 0 {
				continue // of a tick that was served before, or of a wake
			}
			if seen[due] {
				l.failf("the tick at %v was served twice", due)
			}
			seen[due] = true
			served++
			if r.Run.Due.Before(overran) && l.spec.MaxParallel == 0 && l.spec.Overrun != job.OverrunSkip {
				afterwards++ // served, and counted as missed
			} else if late := started.Sub(r.Run.Due); (late < 0 || late > l.late) && !l.gated && l.grid == nil {
				l.failf("the tick at %v was served %v after it was due: rings are late by %v", due, late, l.late)
			}
			overran = time.Time{}
		}
	}
	if ticks+afterwards != counted+served {
		l.failf("%d ticks fell due: %d served, %d of them late, and %d counted as missed", ticks, served, afterwards, counted)
	}
}

// TestLives: whatever happens, there are never more runs than may be, no tick moves or is lost or served twice,
// and nothing begins after the end.
func TestLives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			l := &life{world: newWorld(t, p.spec), plan: p, ends: map[uint64]time.Time{}, going: map[uint64]int{}}
			l.world.late = p.late
			l.live()
			l.account()
			wrong = l.wrong
			time.Sleep(10 * time.Second) // runs that were left
		})
		if len(wrong) > 0 {
			rt.Error(wrong[0])
		}
	})
}
