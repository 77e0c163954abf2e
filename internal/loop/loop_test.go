package loop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/loop"
)

// world is everything round a loop in a synctest bubble: each run takes what length says, the gate is
// open unless shut is set, and every report is kept.
type world struct {
	t       *testing.T
	mu      sync.Mutex // guards what runs that overlap share
	spec    job.Spec
	length  func(job.Run) time.Duration
	result  func(job.Run) job.Result
	shut    atomic.Pointer[chan struct{}]
	late    time.Duration // how much later than asked the alarm rings
	began   time.Time
	runs    []job.Run
	starts  []time.Duration // since began
	reports []loop.Report
	loop    *loop.Loop
	grid    *loop.Grid
	cause   error
}

func newWorld(t *testing.T, spec job.Spec) *world {
	spec.Name, spec.Command = "test", []string{"true"}
	if spec.Overrun == "" {
		spec.Overrun = job.OverrunRun
	}
	return &world{t: t, spec: spec, began: time.Now(),
		length: func(job.Run) time.Duration { return 0 },
		result: func(job.Run) job.Result { return job.Result{Outcome: job.Exited} }}
}

func (w *world) Run(ctx context.Context, run job.Run) job.Result {
	w.mu.Lock()
	w.runs = append(w.runs, run)
	w.starts = append(w.starts, time.Since(w.began))
	w.mu.Unlock()
	r := w.result(run)
	r.Started = time.Now()
	select {
	case <-time.After(w.length(run)):
	case <-ctx.Done():
		time.Sleep(10 * time.Millisecond) // it takes a moment to die
		r = job.Result{Started: r.Started, Outcome: job.Signaled, Signal: 15, Cause: context.Cause(ctx)}
		w.mu.Lock()
		w.cause = r.Cause
		w.mu.Unlock()
	}
	r.Ended = time.Now()
	return r
}

func (w *world) Record(r loop.Report) { w.reports = append(w.reports, r) }

func (w *world) Shut() <-chan struct{} {
	if c := w.shut.Load(); c != nil {
		return *c
	}
	return nil
}

// close shuts the gate, first waking whoever waits at one that was shut before.
func (w *world) close() {
	c := make(chan struct{})
	if old := w.shut.Swap(&c); old != nil {
		close(*old)
	}
}

func (w *world) open() { close(*w.shut.Swap(nil)) }

// alarm is the loop's Alarm on the bubble's clock.
type alarm struct {
	timer *time.Timer
	c     chan struct{}
	late  time.Duration
}

func newAlarm(late time.Duration) *alarm {
	a := &alarm{c: make(chan struct{}, 1), late: late}
	a.timer = time.AfterFunc(time.Hour, func() { a.c <- struct{}{} })
	a.timer.Stop()
	return a
}

func (a *alarm) C() <-chan struct{} { return a.c }

func (a *alarm) Set(d time.Duration) {
	a.timer.Stop()
	select {
	case <-a.c:
	default:
	}
	a.timer.Reset(max(d, 0) + a.late)
}

// start runs the loop in the background; the returned func waits for its end.
func (w *world) start(ctx context.Context) (wait func()) {
	w.make()
	return w.turn(ctx)
}

func (w *world) make() {
	w.loop = loop.New(loop.Options{Spec: w.spec, Runner: w, Recorder: w, Gate: w, Alarm: newAlarm(w.late), Grid: w.grid})
}

func (w *world) turn(ctx context.Context) (wait func()) {
	var g goroutine.Group
	g.Go(func() { w.loop.Run(ctx) })
	return g.Wait
}

// during runs the loop for d, then stops it in order.
func (w *world) during(d time.Duration) loop.Grid {
	wait := w.start(context.Background())
	time.Sleep(d)
	w.loop.Stop()
	wait()
	return w.reports[len(w.reports)-1].Grid
}

func (w *world) wantStarts(want ...time.Duration) {
	w.t.Helper()
	if !slices.Equal(w.starts, want) {
		w.t.Errorf("runs started at %v, want %v", w.starts, want)
	}
}

func (w *world) of(kind loop.Kind) (rs []loop.Report) {
	for _, r := range w.reports {
		if r.Kind == kind {
			rs = append(rs, r)
		}
	}
	return rs
}

func every(d time.Duration) func(job.Run) time.Duration {
	return func(job.Run) time.Duration { return d }
}

const s = time.Second

func TestGridIsStartToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s, RunAtStart: true}})
		w.length = every(2 * s)
		w.during(16 * s)
		w.wantStarts(0, 5*s, 10*s, 15*s)
		for i, r := range w.runs {
			if want := w.began.Add(time.Duration(i) * 5 * s); !r.Due.Equal(want) || r.Number != uint64(i+1) {
				t.Errorf("run %d: number %d due %v, want due %v", i+1, r.Number, r.Due, want)
			}
		}
		if late := w.of(loop.Late); len(late) != 0 {
			t.Errorf("a run of 40 %% of the interval was reported as late: %+v", late)
		}
	})
}

func TestT37FirstRunChoice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s}})
		wait := w.start(context.Background())
		time.Sleep(7 * s)
		w.loop.Wake() // by hand: the schedule does not shift
		time.Sleep(9 * s)
		w.loop.Stop()
		wait()
		w.wantStarts(5*s, 7*s, 10*s, 15*s)
	})
}

func TestNoDriftOver10kTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 137 * time.Millisecond
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: interval, RunAtStart: true}})
		w.length = func(r job.Run) time.Duration { return time.Duration(r.Number*7919%120) * time.Millisecond }
		w.late = 300 * time.Microsecond // every ring is late, and none may add up
		w.during(10_000*interval + interval/2)
		if len(w.starts) != 10_001 {
			t.Fatalf("%d runs, want 10001", len(w.starts))
		}
		for k, at := range w.starts {
			if want := time.Duration(k)*interval + w.late; at != want {
				t.Fatalf("tick %d ran at %v, want %v", k, at, want)
			}
		}
	})
}

func TestT33OverrunPolicy(t *testing.T) {
	long := func(r job.Run) time.Duration { // the first run takes 2.3 intervals, the others are short
		if r.Number == 1 {
			return 23 * s
		}
		return s
	}
	for _, c := range []struct {
		overrun job.Overrun
		starts  []time.Duration
		missed  uint64
	}{
		{job.OverrunRun, []time.Duration{0, 23 * s, 30 * s, 40 * s}, 2},
		{job.OverrunSkip, []time.Duration{0, 30 * s, 40 * s}, 2},
		{job.OverrunKill, []time.Duration{0, 10*s + 10*time.Millisecond, 20 * s, 30 * s, 40 * s}, 1},
	} {
		t.Run(string(c.overrun), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true, Overrun: c.overrun}})
				w.length = long
				w.during(45 * s)
				w.wantStarts(c.starts...)
				if first := w.of(loop.Ended)[0].Tick; first.Missed != c.missed || !first.Overran() {
					t.Errorf("the first run missed %d ticks, want %d", first.Missed, c.missed)
				}
				if killed := errors.Is(w.cause, job.ErrOverrun); killed != (c.overrun == job.OverrunKill) {
					t.Errorf("the run was ended by %v", w.cause)
				}
				if second := w.runs[1]; c.overrun == job.OverrunRun && second.Due.Sub(w.began) != 20*s {
					t.Errorf("the late run serves the tick at %v, want the last one that was due, 20s", second.Due.Sub(w.began))
				}
			})
		})
	}
}

func TestLateIsSaidWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true}})
		w.length = every(95 * s)
		wait := w.start(context.Background())
		time.Sleep(s)
		w.loop.Stop()
		wait()
		var got []string
		for _, r := range w.of(loop.Late) {
			got = append(got, fmt.Sprintf("%v missed %d", r.Length, r.Missed))
		}
		want := []string{"9s missed 0", "10s missed 1", "20s missed 2", "40s missed 4", "1m20s missed 8"}
		if !slices.Equal(got, want) {
			t.Errorf("late reports %q, want %q: at 90 %%, at the tick, then doubling", got, want)
		}
	})
}

func TestOverrunSkipsNotQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.length = func(r job.Run) time.Duration {
			if r.Number == 1 {
				return time.Hour
			}
			return 0
		}
		w.during(time.Hour + 2500*time.Millisecond)
		w.wantStarts(0, time.Hour, time.Hour+s, time.Hour+2*s)
	})
}

func TestT36SuspendResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.late = time.Hour + s/2 // the first ring comes after an hour in which nothing ran
		wait := w.start(context.Background())
		time.Sleep(time.Hour + 4*s/5)
		w.loop.Stop()
		wait()
		w.wantStarts(time.Hour + s/2)
		if due := w.runs[0].Due.Sub(w.began); due != time.Hour {
			t.Errorf("the run serves the tick at %v, want the last one due, 1h", due)
		}
	})
}

func TestBackToBackAtFullRateWhileItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{RunAtStart: true}})
		w.length = every(time.Millisecond)
		w.during(s - time.Microsecond)
		if len(w.runs) != 1000 {
			t.Errorf("%d runs of 1 ms in a second, want 1000", len(w.runs))
		}
	})
}

func TestT30BackoffCapAndReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{RunAtStart: true}})
		w.result = func(r job.Run) job.Result {
			if r.Number == 20 {
				return job.Result{Outcome: job.Exited}
			}
			return job.Result{Outcome: job.Exited, Code: 1}
		}
		w.during(10 * time.Minute)
		for i := 1; i < 19; i++ {
			gap := w.starts[i] - w.starts[i-1]
			want := min(100*time.Millisecond<<(i-1), 30*s)
			if gap < want*9/10-1 || gap > want*11/10+1 {
				t.Errorf("wait %d was %v, want %v +-10 %%", i, gap, want)
			}
		}
		if gap := w.starts[20] - w.starts[19]; gap != 0 {
			t.Errorf("after a success it waited %v", gap)
		}
		if gap := w.starts[21] - w.starts[20]; gap > 110*time.Millisecond {
			t.Errorf("after a success the first failure cost %v, want the back-off to have fallen back", gap)
		}
		if len(w.runs) > 60 {
			t.Errorf("%d runs of a failing command in 10 minutes", len(w.runs))
		}
	})
}

func TestT11StopDuringBackoffIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{RunAtStart: true}})
		w.result = func(job.Run) job.Result { return job.Result{Outcome: job.Exited, Code: 1} }
		wait := w.start(context.Background())
		time.Sleep(2 * time.Minute)
		before := time.Now()
		w.loop.Stop()
		wait()
		if took := time.Since(before); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestT34NoHotLoopWhenSpawnFailsInTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.result = func(job.Run) job.Result {
			return job.Result{Outcome: job.Unstarted, Err: errors.New("no room")}
		}
		w.during(3500 * time.Millisecond)
		w.wantStarts(0, s, 2*s, 3*s)
	})
}

func TestShutGateHoldsTheTickAndRunsItWhenItOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true}})
		w.close()
		wait := w.start(context.Background())
		time.Sleep(7 * s)
		w.close() // it was worth asking, and it is shut still
		time.Sleep(s)
		w.open()
		time.Sleep(2 * time.Hour)
		w.loop.Stop()
		wait()
		w.wantStarts(8*s, time.Hour, 2*time.Hour)
	})
}

func TestGateThatOpensWithoutAWordIsFoundOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true}})
		w.close()
		wait := w.start(context.Background())
		time.Sleep(3500 * time.Millisecond)
		w.shut.Store(nil)
		time.Sleep(s)
		w.loop.Stop()
		wait()
		w.wantStarts(4 * s)
	})
}

func TestHeldTicksAreMissedAndNotAnOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.close()
		wait := w.start(context.Background())
		time.Sleep(5500 * time.Millisecond)
		w.open()
		time.Sleep(s)
		w.loop.Stop()
		wait()
		w.wantStarts(5500*time.Millisecond, 6*s)
		if tick := w.of(loop.Ended)[0].Tick; tick.Overran() {
			t.Errorf("the held run counts as an overrun: %+v", tick)
		}
		for _, r := range w.of(loop.Turned) {
			if r.State == job.Running && r.Run.Number == 1 && r.Missed != 5 {
				t.Errorf("%d ticks missed while held, want 5", r.Missed)
			}
		}
	})
}

// TestVerdictIsTheJobs: what is reported is judged by the job's own codes, and the back-off goes by it.
func TestVerdictIsTheJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{RunAtStart: true}, Retry: job.Retry{SuccessCodes: []int{3}, FatalCodes: []int{70}}})
		w.length = every(time.Millisecond)
		w.result = func(r job.Run) job.Result {
			return job.Result{Outcome: job.Exited, Code: []int{3, 3, 0, 3}[(r.Number-1)%4]}
		}
		w.during(60 * time.Millisecond)
		w.wantStarts(0, time.Millisecond, 2*time.Millisecond)
		var got []job.Verdict
		for _, r := range w.of(loop.Ended) {
			got = append(got, r.Tick.Verdict)
		}
		if want := []job.Verdict{job.Success, job.Success, job.Failure}; !slices.Equal(got, want) {
			t.Errorf("verdicts %v, want %v", got, want)
		}
	})
}

func TestOnceRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: s, Once: true}})
		w.length = every(time.Minute)
		w.start(context.Background())()
		w.wantStarts(0)
		if n := len(w.of(loop.Late)); n != 0 {
			t.Errorf("%d reports of lateness for a run that has no tick after it", n)
		}
	})
}

func TestNoStartAfterStopRequested(t *testing.T) {
	for range 50 { // which of two events the select sees first is left to chance
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s, RunAtStart: true}})
			w.make()
			w.loop.Stop()
			w.loop.Wake()
			w.turn(context.Background())()
			w.wantStarts()
		})
	}
}

func TestGridGoesOnInTheNextImage(t *testing.T) {
	for _, c := range []struct {
		name     string
		interval time.Duration
		starts   []time.Duration
	}{
		{"the same interval", 5 * s, []time.Duration{10 * s, 15 * s}},
		{"a longer one counts from the last tick", 7 * s, []time.Duration{12 * s}},
		{"a shorter one runs at once what is due", 4 * s / 5, []time.Duration{8 * s, 8200 * time.Millisecond, 9 * s}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s, RunAtStart: true}})
				grid := first.during(6 * s)
				time.Sleep(2 * s) // the new image takes a while
				second := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: c.interval, RunAtStart: true}})
				second.began, second.grid = first.began, &grid
				second.during(c.starts[len(c.starts)-1] - 8*s + s/2)
				second.wantStarts(c.starts...)
				if n := second.runs[0].Number; n != 3 {
					t.Errorf("the first run of the new image has number %d, want 3", n)
				}
			})
		})
	}
}

func TestPanicOfTheRunnerClimbs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.result = func(job.Run) job.Result { panic("the runner fell") }
		wait := w.start(context.Background())
		p := goroutine.Catch(wait)
		if p == nil || p.Value != "the runner fell" {
			t.Errorf("got %v, want the runner's panic", p)
		}
	})
}

// recorderThatFalls panics at the n-th report.
type recorderThatFalls struct {
	*world
	n int
}

func (r *recorderThatFalls) Record(rep loop.Report) {
	if r.n--; r.n == 0 {
		panic("the recorder fell")
	}
}

func TestPanicOfTheLoopLeavesNoRunBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.length = every(time.Hour)
		l := loop.New(loop.Options{Spec: w.spec, Runner: w, Recorder: &recorderThatFalls{w, 3}, Gate: w, Alarm: newAlarm(0)})
		p := goroutine.Catch(func() { l.Run(context.Background()) })
		if p == nil || p.Value != "the recorder fell" {
			t.Fatalf("got %v, want the recorder's panic", p)
		}
		if !errors.Is(w.cause, job.ErrInsisted) || time.Since(w.began) > 2*s {
			t.Errorf("the run ended by %v after %v", w.cause, time.Since(w.began))
		}
	})
}

var errBusy = errors.New("a run is being started")

// leave ends the loop as for another process, and returns where it stood.
func (w *world) leave(let bool) (loop.Grid, bool) {
	err := w.loop.Leave(func() error {
		if let {
			return nil
		}
		return errBusy
	})
	return w.reports[len(w.reports)-1].Grid, err == nil
}

// TestLeaveUnderARun: the run goes on, the grid and the wake that came during it too; the loop that is left
// does not serve its end, the next one does.
func TestLeaveUnderARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: 10 * time.Second, RunAtStart: true}})
		w.length = func(job.Run) time.Duration { return 4 * time.Second }
		wait := w.start(context.Background())
		time.Sleep(time.Second)
		w.loop.Wake()
		synctest.Wait()
		if _, ok := w.leave(false); ok {
			t.Error("it left a run that was not given up")
		}
		grid, ok := w.leave(true)
		if !ok {
			t.Fatal("it did not leave")
		}
		wait() // although the run goes on for 3 s
		if time.Since(w.began) != time.Second {
			t.Errorf("it left after %v", time.Since(w.began))
		}
		if g := grid.Going; len(g) != 1 || g[0].Run.Number != 1 || !g[0].Started.Equal(w.began) || !grid.Woken {
			t.Fatalf("it left %+v, woken %v", g, grid.Woken)
		}
		if w.loop.Leave(nil) != loop.ErrEnds {
			t.Error("a loop that has ended may be left")
		}

		old := len(w.reports)
		w.grid = &grid
		w.length = func(r job.Run) time.Duration {
			return max(time.Until(w.began.Add(4*time.Second)), time.Millisecond)
		}
		wait = w.start(context.Background())
		time.Sleep(20 * time.Second)
		w.loop.Stop()
		wait()
		first := w.reports[old]
		if first.State != job.Running || first.Run.Number != 1 || !first.Next.Equal(w.began.Add(10*time.Second)) {
			t.Errorf("the next loop began with %+v", first)
		}
		if ends := w.of(loop.Ended); len(ends) != 4 || ends[0].Run.Number != 1 || ends[0].Grid.Runs != 1 {
			t.Errorf("%d runs ended: %+v", len(ends), ends)
		}
		// 0 and 1 s are the two images' calls for run 1, 4 s is the wake's, then the grid's.
		w.wantStarts(0, time.Second, 4*time.Second, 10*time.Second, 20*time.Second)
	})
}

// TestLeaveAnOnceRun: the only run is not run twice.
func TestLeaveAnOnceRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: time.Second, Once: true}})
		w.length = func(job.Run) time.Duration { return 4 * time.Second }
		wait := w.start(context.Background())
		time.Sleep(time.Second)
		synctest.Wait()
		grid, _ := w.leave(true)
		wait()
		w.grid = &grid
		w.start(context.Background())()
		if ends := w.of(loop.Ended); len(ends) != 1 || ends[0].Run.Number != 1 {
			t.Errorf("%d runs ended: %+v", len(ends), ends)
		}
		synctest.Wait()
	})
}

// TestLeaveKeepsAHeldTick: what is held at a gate is due in the next image at once.
func TestLeaveKeepsAHeldTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true}})
		w.close()
		wait := w.start(context.Background())
		time.Sleep(time.Minute)
		grid, ok := w.leave(false)
		if !ok {
			t.Fatal("it did not leave")
		}
		wait()
		w.open()
		w.grid = &grid
		w.during(time.Minute)
		w.wantStarts(time.Minute)
	})
}

// TestLeaveKeepsWhatIsHeldAndNoTick: a wake, and a late tick that was counted at its run's end, are due in the
// next image at once; no tick is served twice or counted twice for it.
func TestLeaveKeepsWhatIsHeldAndNoTick(t *testing.T) {
	for _, c := range []struct {
		name   string
		length time.Duration
		wake   bool
		due    time.Duration
	}{
		{"a wake", 2 * s, true, 5 * s},
		{"a late tick", 12 * s, false, 10 * s},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true}})
				w.length = first(c.length)
				wait := w.start(context.Background())
				time.Sleep(5 * s)
				w.close()
				if c.wake {
					w.loop.Wake()
				}
				time.Sleep(c.due - 2*s)
				grid, ok := w.leave(false)
				wait()
				w.open()
				time.Sleep(s)
				w.grid = &grid
				w.during(10 * s)
				at := c.due + 4*s
				w.wantStarts(0, at, at/(10*s)*10*s+10*s)
				if !ok || w.runs[1].Due.Sub(w.began) != c.due {
					t.Errorf("left %v, and what was held is run as due at %v", ok, w.runs[1].Due.Sub(w.began))
				}
				for _, r := range w.of(loop.Turned) {
					if r.Missed != 0 {
						t.Errorf("missed in %+v", r)
					}
				}
			})
		})
	}
}
