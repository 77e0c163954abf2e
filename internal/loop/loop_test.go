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

// env is the environment of a loop in a synctest bubble: each run takes what length returns, the
// gate is open unless shut is set, and every report is kept.
type env struct {
	t       *testing.T
	mu      sync.Mutex // guards what overlapping runs share
	spec    job.Spec
	length  func(job.Run) time.Duration
	result  func(job.Run) job.Result
	shut    atomic.Pointer[chan struct{}]
	late    time.Duration // how much later than set the timer expires
	started time.Time
	runs    []job.Run
	starts  []time.Duration // since started
	reports []loop.Report
	running int // reports of a start
	loop    *loop.Loop
	grid    *loop.Grid
	cause   error
}

func newEnv(t *testing.T, spec job.Spec) *env {
	spec.Name, spec.Command = "test", []string{"true"}
	if spec.Overlap == "" {
		spec.Overlap = job.OverlapQueue
	}
	return &env{t: t, spec: spec, started: time.Now(),
		length: func(job.Run) time.Duration { return 0 },
		result: func(job.Run) job.Result { return job.Result{Outcome: job.Exited} }}
}

func (w *env) Run(ctx context.Context, run job.Run) job.Result {
	w.mu.Lock()
	w.runs = append(w.runs, run)
	w.starts = append(w.starts, time.Since(w.started))
	w.mu.Unlock()
	r := w.result(run)
	r.Started = time.Now()
	select {
	case <-time.After(w.length(run)):
	case <-ctx.Done():
		time.Sleep(10 * time.Millisecond) // it takes a moment to exit
		r = job.Result{Started: r.Started, Outcome: job.Signaled, Signal: 15, Cause: context.Cause(ctx)}
		w.mu.Lock()
		w.cause = r.Cause
		w.mu.Unlock()
	}
	r.Ended = time.Now()
	return r
}

func (w *env) Record(r loop.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, r)
	if r.Kind == loop.StateChanged && r.State == job.Running {
		w.running++
	}
}

func (w *env) Shut(time.Time) <-chan struct{} {
	if c := w.shut.Load(); c != nil {
		return *c
	}
	return nil
}

// close shuts the gate. It first wakes a loop that waits for an earlier opening.
func (w *env) close() {
	c := make(chan struct{})
	if old := w.shut.Swap(&c); old != nil {
		close(*old)
	}
}

func (w *env) open() { close(*w.shut.Swap(nil)) }

// testTimer is the loop's Timer on the clock of the bubble.
type testTimer struct {
	mu    sync.Locker
	f     func()
	late  time.Duration
	timer *time.Timer // replaced by each Set, guarded by mu
}

func newTimer(late time.Duration) func(sync.Locker, func()) loop.Timer {
	return func(mu sync.Locker, f func()) loop.Timer { return &testTimer{mu: mu, f: f, late: late} }
}

func (a *testTimer) Set(d time.Duration) {
	a.Stop()
	var timer *time.Timer
	timer = time.AfterFunc(max(d, 0)+a.late, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.timer == timer {
			a.timer = nil
			a.f()
		}
	})
	a.timer = timer
}

func (a *testTimer) Stop() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// start starts the loop; wait blocks until it has ended.
func (w *env) start() (wait func()) {
	w.make()
	return w.run()
}

func (w *env) make() {
	w.loop = loop.New(loop.Options{Spec: &w.spec, Runner: w, Recorder: w, Gate: w, Timer: newTimer(w.late),
		Grid: w.grid})
}

func (w *env) run() (wait func()) {
	w.loop.Start()
	return w.loop.Wait
}

// during runs the loop for d, then stops it gracefully.
func (w *env) during(d time.Duration) loop.Grid {
	wait := w.start()
	time.Sleep(d)
	w.loop.Stop()
	wait()
	return w.reports[len(w.reports)-1].Grid
}

func (w *env) wantStarts(want ...time.Duration) {
	w.t.Helper()
	if !slices.Equal(w.starts, want) {
		w.t.Errorf("runs started at %v, want %v", w.starts, want)
	}
}

func (w *env) of(kind loop.Kind) (rs []loop.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
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
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s, RunAtStart: true}})
		w.length = every(2 * s)
		w.during(16 * s)
		w.wantStarts(0, 5*s, 10*s, 15*s)
		for i, r := range w.runs {
			if want := w.started.Add(time.Duration(i) * 5 * s); !r.Due.Equal(want) || r.Number != uint64(i+1) {
				t.Errorf("run %d: number %d due %v, want due %v", i+1, r.Number, r.Due, want)
			}
		}
		if late := w.of(loop.Late); len(late) != 0 {
			t.Errorf("a run of 40 %% of the interval was reported as late: %+v", late)
		}
	})
}

func TestFirstRunWaitsForTheIntervalWithoutRunAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s}})
		wait := w.start()
		time.Sleep(7 * s)
		w.loop.RunNow() // as a user would: the schedule does not shift
		time.Sleep(9 * s)
		w.loop.Stop()
		wait()
		w.wantStarts(5*s, 7*s, 10*s, 15*s)
	})
}

func TestNoDriftOver10kTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 137 * time.Millisecond
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: interval, RunAtStart: true}})
		w.length = func(r job.Run) time.Duration { return time.Duration(r.Number*7919%120) * time.Millisecond }
		w.late = 300 * time.Microsecond // every tick is late, and the delays must not add up
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

func TestOverlapPolicyOfALongRun(t *testing.T) {
	long := func(r job.Run) time.Duration { // the first run takes 2.3 intervals, the others are short
		if r.Number == 1 {
			return 23 * s
		}
		return s
	}
	for _, c := range []struct {
		overrun job.OverlapPolicy
		starts  []time.Duration
		missed  uint64
	}{
		{job.OverlapQueue, []time.Duration{0, 23 * s, 30 * s, 40 * s}, 2},
		{job.OverlapSkip, []time.Duration{0, 30 * s, 40 * s}, 2},
		{job.OverlapReplace, []time.Duration{0, 10*s + 10*time.Millisecond, 20 * s, 30 * s, 40 * s}, 1},
	} {
		t.Run(string(c.overrun), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true,
					Overlap: c.overrun}})
				w.length = long
				w.during(45 * s)
				w.wantStarts(c.starts...)
				if first := w.of(loop.Ended)[0].Tick; first.Missed != c.missed || !first.Late() {
					t.Errorf("the first run missed %d ticks, want %d", first.Missed, c.missed)
				}
				if killed := errors.Is(w.cause, job.ErrReplaced); killed != (c.overrun == job.OverlapReplace) {
					t.Errorf("the run was ended by %v", w.cause)
				}
				if second := w.runs[1]; c.overrun == job.OverlapQueue && second.Due.Sub(w.started) != 20*s {
					t.Errorf("the late run serves the tick at %v, want the last one that was due, 20s",
						second.Due.Sub(w.started))
				}
			})
		})
	}
}

func TestLateRunIsReportedRepeatedly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true}})
		w.length = every(95 * s)
		wait := w.start()
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

// CountMissed reports what Late and Ended would report at that moment, for each active run.
func TestMissedTicksAreCountedAtAnyMoment(t *testing.T) {
	for _, c := range []struct {
		overlap job.OverlapPolicy
		stop    bool
		counted []string // after 2.5 s and after 11.5 s
		ended   []string
	}{
		{job.OverlapQueue, false, []string{"run 1: 2", "run 1: 11"}, []string{"run 1: 13"}},
		{job.OverlapQueue, true, []string{"run 1: 2", "run 1: 11"}, []string{"run 1: 13"}},
		{job.OverlapAllow, false, []string{"run 1: 1", "run 2: 0", "run 1: 10", "run 2: 0"},
			[]string{"run 1: 12", "run 2: 0"}},
		{job.OverlapAllow, true, []string{"run 1: 1", "run 2: 0", "run 1: 10", "run 2: 0"},
			[]string{"run 1: 12", "run 2: 1"}},
	} {
		t.Run(fmt.Sprintf("%s, stop %v", c.overlap, c.stop), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true, Overlap: c.overlap,
					MaxParallel: 2}})
				w.length = func(r job.Run) time.Duration {
					if r.Number > uint64(len(c.ended)) {
						return 0
					}
					return 13500 * time.Millisecond
				}
				wait := w.start()
				time.Sleep(2500 * time.Millisecond)
				w.loop.CountMissed()
				if c.stop {
					w.loop.Stop()
				}
				time.Sleep(9 * s)
				w.loop.CountMissed()
				time.Sleep(5 * s)
				w.loop.Stop()
				wait()
				w.loop.CountMissed()
				var counted, ended []string
				for _, r := range w.of(loop.Counted) {
					counted = append(counted, fmt.Sprintf("run %d: %d", r.Run.Number, r.Missed))
				}
				for _, r := range w.of(loop.Ended) {
					if r.Run.Number <= uint64(len(c.ended)) {
						ended = append(ended, fmt.Sprintf("run %d: %d", r.Run.Number, r.Tick.Missed))
					}
				}
				if !slices.Equal(counted, c.counted) || !slices.Equal(ended, c.ended) {
					t.Errorf("counted %q and in the end %q, want %q and %q", counted, ended, c.counted, c.ended)
				}
			})
		})
	}
}

func TestOverrunQueuesOneTickOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
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

func TestSuspendRunsOnlyTheLastTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.late = time.Hour + s/2 // the timer first expires after an hour in which nothing ran
		wait := w.start()
		time.Sleep(time.Hour + 4*s/5)
		w.loop.Stop()
		wait()
		w.wantStarts(time.Hour + s/2)
		if due := w.runs[0].Due.Sub(w.started); due != time.Hour {
			t.Errorf("the run serves the tick at %v, want the last one due, 1h", due)
		}
	})
}

func TestBackToBackAtFullRateWhileItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{RunAtStart: true}})
		w.length = every(time.Millisecond)
		w.during(s - time.Microsecond)
		if len(w.runs) != 1000 {
			t.Errorf("%d runs of 1 ms in a second, want 1000", len(w.runs))
		}
	})
}

func TestBackoffGrowsToACeilingAndIsResetBySuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{RunAtStart: true}})
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

func TestStopDuringBackoffIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{RunAtStart: true}})
		w.result = func(job.Run) job.Result { return job.Result{Outcome: job.Exited, Code: 1} }
		wait := w.start()
		time.Sleep(2 * time.Minute)
		before := time.Now()
		w.loop.Stop()
		wait()
		if took := time.Since(before); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestStartFailuresKeepToTheGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.result = func(job.Run) job.Result {
			return job.Result{Outcome: job.Unstarted, Err: errors.New("no room")}
		}
		w.during(3500 * time.Millisecond)
		w.wantStarts(0, s, 2*s, 3*s)
	})
}

func TestShutGateHoldsTheTickAndRunsItWhenItOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true}})
		w.close()
		wait := w.start()
		time.Sleep(7 * s)
		w.close() // it is worth asking again, and the gate is still shut
		time.Sleep(s)
		w.open()
		time.Sleep(2 * time.Hour)
		w.loop.Stop()
		wait()
		w.wantStarts(8*s, time.Hour, 2*time.Hour)
	})
}

func TestGateThatOpensWithoutNoticeIsPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true}})
		w.close()
		wait := w.start()
		time.Sleep(3500 * time.Millisecond)
		w.shut.Store(nil)
		time.Sleep(s)
		w.loop.Stop()
		wait()
		w.wantStarts(4 * s)
	})
}

func TestHeldTicksCountAsMissedAndNotAsOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.close()
		wait := w.start()
		time.Sleep(5500 * time.Millisecond)
		w.open()
		time.Sleep(s)
		w.loop.Stop()
		wait()
		w.wantStarts(5500*time.Millisecond, 6*s)
		if tick := w.of(loop.Ended)[0].Tick; tick.Late() {
			t.Errorf("the held run counts as an overrun: %+v", tick)
		}
		for _, r := range w.of(loop.StateChanged) {
			if r.State == job.Running && r.Run.Number == 1 && r.Missed != 5 {
				t.Errorf("%d ticks missed while held, want 5", r.Missed)
			}
		}
	})
}

// Results are judged by the job's own exit codes, and the back-off depends on that.
func TestVerdictUsesTheExitCodesOfTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{RunAtStart: true},
			Retry: job.Retry{SuccessCodes: []int{3}, FatalCodes: []int{70}}})
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
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, Once: true}})
		w.length = every(time.Minute)
		w.start()()
		w.wantStarts(0)
		if n := len(w.of(loop.Late)); n != 0 {
			t.Errorf("%d reports of lateness for a run that has no tick after it", n)
		}
	})
}

func TestNoStartAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s, RunAtStart: true}})
		w.make()
		w.loop.Stop()
		wait := w.run()
		w.loop.RunNow()
		wait()
		w.wantStarts()
	})
}

// The stop comes at the moment of a tick: the tick is served before it, or not at all.
func TestNoStartAfterStopAtATick(t *testing.T) {
	for range 50 { // which of the two comes first is random
		synctest.Test(t, func(t *testing.T) {
			w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s}})
			wait := w.start()
			time.Sleep(5 * s)
			w.loop.Stop()
			w.mu.Lock()
			starts := w.running
			w.mu.Unlock()
			wait()
			if w.running != starts || len(w.runs) != starts {
				t.Errorf("%d runs, and %d were reported before the stop", len(w.runs), starts)
			}
		})
	}
}

func TestGridContinuesInTheNextProcess(t *testing.T) {
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
				first := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 5 * s, RunAtStart: true}})
				grid := first.during(6 * s)
				time.Sleep(2 * s) // the re-exec takes a while
				second := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: c.interval, RunAtStart: true}})
				second.started, second.grid = first.started, &grid
				second.during(c.starts[len(c.starts)-1] - 8*s + s/2)
				second.wantStarts(c.starts...)
				if n := second.runs[0].Number; n != 3 {
					t.Errorf("the first run of the new process has number %d, want 3", n)
				}
			})
		})
	}
}

func TestPanicOfTheRunnerIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		w.result = func(job.Run) job.Result { panic("the runner panicked") }
		wait := w.start()
		p := goroutine.Catch(wait)
		if p == nil || p.Value != "the runner panicked" {
			t.Errorf("got %v, want the runner's panic", p)
		}
	})
}

// failing panics at the n-th call, and at all that follow, in Record or in Shut.
type failing struct {
	*env
	reports, checks int // n
}

func (f *failing) Record(loop.Report) {
	if f.reports--; f.reports <= 0 {
		panic("it panicked")
	}
}

func (f *failing) Shut(last time.Time) <-chan struct{} {
	if f.checks--; f.checks <= 0 {
		panic("it panicked")
	}
	return f.env.Shut(last)
}

// In whatever goroutine it happens, the caller of a method or the timer does not notice. The runs are
// stopped, and Wait passes it on.
func TestPanicOfRecorderOrGateStopsTheRun(t *testing.T) {
	const never = 100
	for _, c := range []struct {
		name            string
		reports, checks int
		event           func(*loop.Loop) // a second after the start of the run
		started         bool
		cause           error // of the end of the run
	}{
		{"in Start", 1, never, nil, false, nil},
		{"at the tick", 2, never, nil, false, nil},
		{"in the gate, at the tick", never, 1, nil, false, nil},
		{"while a run is active", 3, never, nil, true, job.ErrInsisted},
		{"in Stop", 3, never, (*loop.Loop).Stop, true, job.ErrInsisted},
		{"in Cancel", 3, never, func(l *loop.Loop) { l.Cancel(errBusy) }, true, errBusy},
		{"in RunNow", 3, never, (*loop.Loop).RunNow, true, job.ErrInsisted},
		{"in the gate, in RunNow", never, 2, (*loop.Loop).RunNow, true, job.ErrInsisted},
		{"in HandOff", 3, never, func(l *loop.Loop) { _ = l.HandOff(func() error { return nil }) }, true, nil},
		{"in detach", never, never, func(l *loop.Loop) {
			if err := l.HandOff(func() error { panic("it panicked") }); err != loop.ErrEnds {
				t.Errorf("HandOff returned %v", err)
			}
		}, true, job.ErrInsisted},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, overlapping(3*s, 2))
				w.length = every(time.Hour)
				f := &failing{w, c.reports, c.checks}
				l := loop.New(loop.Options{Spec: &w.spec, Runner: w, Recorder: f, Gate: f, Timer: newTimer(0)})
				l.Start()
				time.Sleep(s)
				if c.event != nil {
					c.event(l)
				}
				p := goroutine.Catch(l.Wait)
				if p == nil || p.Value != "it panicked" {
					t.Fatalf("got %v, want the panic", p)
				}
				w.mu.Lock()
				if w.cause != c.cause || (len(w.runs) > 0) != c.started || time.Since(w.started) > 4*s {
					t.Errorf("%d runs, the first was ended by %v, the loop after %v", len(w.runs), w.cause,
						time.Since(w.started))
				}
				w.mu.Unlock()
				if l.HandOff(nil) != loop.ErrEnds {
					t.Error("a loop that has panicked can be handed off")
				}
				l.RunNow() // these have no effect any more
				l.Stop()
				l.Cancel(nil)
				time.Sleep(s) // the run that was handed off is canceled only now
				w.mu.Lock()
				defer w.mu.Unlock()
				if len(w.runs) > 1 || c.started && w.cause == nil {
					t.Errorf("%d runs, the first was ended by %v", len(w.runs), w.cause)
				}
			})
		})
	}
}

var errBusy = errors.New("a run is being started")

// handOff ends the loop as for a next process, and returns its grid.
func (w *env) handOff(detach bool) (loop.Grid, bool) {
	err := w.loop.HandOff(func() error {
		if detach {
			return nil
		}
		return errBusy
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reports[len(w.reports)-1].Grid, err == nil
}

// The next loop reports a late run when the old one would have done so, and not once more at its start.
// With another interval the run counts as late anew.
func TestHandOffOfALateRun(t *testing.T) {
	for _, interval := range []time.Duration{10 * time.Second, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * time.Second, RunAtStart: true}})
			w.length = func(job.Run) time.Duration { return time.Minute }
			wait := w.start()
			time.Sleep(25 * time.Second)
			synctest.Wait()
			if n := len(w.of(loop.Late)); n != 3 { // after 9, 10 and 20 s
				t.Fatalf("%d reports of a late run", n)
			}
			grid, _ := w.handOff(true)
			wait()
			before := len(w.of(loop.Late))
			w.grid, w.spec.Interval = &grid, interval
			w.length = func(job.Run) time.Duration { return time.Minute }
			wait = w.start()
			synctest.Wait()
			early := len(w.of(loop.Late)) - before
			time.Sleep(16 * time.Second) // the old loop would have reported it after 40 s
			synctest.Wait()
			late := w.of(loop.Late)[before+early:]
			w.loop.Stop()
			wait()
			switch {
			case interval == 10*time.Second && (early != 0 || len(late) != 1 || late[0].Length != 40*time.Second):
				t.Errorf("%d reports at the start of the next loop, then %+v", early, late)
			case interval != 10*time.Second && early+len(late) == 0:
				t.Error("it was not reported as late with another interval")
			}
		})
	}
}

// The run stays active, and the grid and the requested run are kept. The old loop does not serve
// the end of the run, the next one does.
func TestHandOffDuringARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * time.Second, RunAtStart: true}})
		w.length = func(job.Run) time.Duration { return 4 * time.Second }
		wait := w.start()
		time.Sleep(time.Second)
		w.loop.RunNow()
		synctest.Wait()
		if _, ok := w.handOff(false); ok {
			t.Error("it handed off a run that was not detached")
		}
		grid, ok := w.handOff(true)
		if !ok {
			t.Fatal("it did not hand off")
		}
		wait() // although the run is active for 3 s more
		if time.Since(w.started) != time.Second {
			t.Errorf("it handed off after %v", time.Since(w.started))
		}
		if g := grid.ActiveRuns; len(g) != 1 || g[0].Run.Number != 1 || !g[0].Started.Equal(w.started) || len(grid.Requested) != 1 {
			t.Fatalf("it handed off %+v, woken %v", g, grid.Requested)
		}
		if w.loop.HandOff(nil) != loop.ErrEnds {
			t.Error("a loop that has ended can be handed off")
		}

		old := len(w.reports)
		w.grid = &grid
		w.length = func(r job.Run) time.Duration {
			return max(time.Until(w.started.Add(4*time.Second)), time.Millisecond)
		}
		wait = w.start()
		time.Sleep(20 * time.Second)
		w.loop.Stop()
		wait()
		first := w.reports[old]
		if first.State != job.Running || first.Run.Number != 1 || !first.Next.Equal(w.started.Add(10*time.Second)) {
			t.Errorf("the next loop started with %+v", first)
		}
		if ends := w.of(loop.Ended); len(ends) != 4 || ends[0].Run.Number != 1 || ends[0].Grid.Runs != 1 {
			t.Errorf("%d runs ended: %+v", len(ends), ends)
		}
		// 0 and 1 s are the calls of the two loops for run 1, 4 s is the requested run, then the
		// grid follows.
		w.wantStarts(0, time.Second, 4*time.Second, 10*time.Second, 20*time.Second)
	})
}

// A run that was allowed to finish is handed off too. The next process stops its loop again, before it
// starts or right after that, and no other run starts.
func TestHandOffWhileDraining(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("stopped before the start %v", before), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true}})
				w.length = every(25 * s)
				defer time.Sleep(time.Minute) // the run that was handed off
				wait := w.start()
				time.Sleep(5 * s)
				w.loop.RunNow()
				w.loop.Stop()
				if _, ok := w.handOff(false); ok {
					t.Error("it handed off a run that was not detached")
				}
				time.Sleep(7 * s)
				grid, ok := w.handOff(true)
				if !ok {
					t.Fatal("it did not hand off")
				}
				wait()
				w.loop.CountMissed() // of runs that are no longer its own
				if n := len(w.of(loop.Counted)); n > 0 {
					t.Errorf("a loop that was handed off reported %d times what its runs have cost", n)
				}

				next := newEnv(t, w.spec)
				next.started, next.grid = w.started, &grid
				next.length = every(13 * s)
				next.make()
				if before {
					next.loop.Stop()
				}
				wait = next.run()
				next.loop.Stop()
				wait()
				ends := next.of(loop.Ended)
				if len(ends) != 1 || ends[0].Run.Number != 1 || ends[0].Tick.Missed != 2 || ends[0].State != job.Draining {
					t.Errorf("%d runs ended: %+v", len(ends), ends)
				}
				if at := time.Since(w.started); at != 25*s {
					t.Errorf("it ended after %v", at)
				}
			})
		})
	}
}

// The only run is not run twice.
func TestHandOffOfAOnceJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Second, Once: true}})
		w.length = func(job.Run) time.Duration { return 4 * time.Second }
		wait := w.start()
		time.Sleep(time.Second)
		synctest.Wait()
		grid, _ := w.handOff(true)
		wait()
		w.grid = &grid
		w.start()()
		if ends := w.of(loop.Ended); len(ends) != 1 || ends[0].Run.Number != 1 {
			t.Errorf("%d runs ended: %+v", len(ends), ends)
		}
		synctest.Wait()
	})
}

// A tick that is held at a gate is due at once in the next process.
func TestHandOffKeepsAHeldTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true}})
		w.close()
		wait := w.start()
		time.Sleep(time.Minute)
		grid, ok := w.handOff(true)
		if !ok {
			t.Fatal("it did not hand off")
		}
		wait()
		w.open()
		w.grid = &grid
		w.during(time.Minute)
		w.wantStarts(time.Minute)
	})
}

// A requested run, and a late tick that was counted at the end of its run, are due at once in the
// next process. No tick is served twice, or counted twice for it.
func TestHandOffKeepsWhatIsHeldWithoutServingATickTwice(t *testing.T) {
	for _, c := range []struct {
		name   string
		length time.Duration
		runNow bool
		due    time.Duration
	}{
		{"a requested run", 2 * s, true, 5 * s},
		{"a late tick", 12 * s, false, 10 * s},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true}})
				w.length = first(c.length)
				wait := w.start()
				time.Sleep(5 * s)
				w.close()
				if c.runNow {
					w.loop.RunNow()
				}
				time.Sleep(c.due - 2*s)
				grid, ok := w.handOff(true)
				wait()
				w.open()
				time.Sleep(s)
				w.grid = &grid
				w.during(10 * s)
				at := c.due + 4*s
				w.wantStarts(0, at, at/(10*s)*10*s+10*s)
				if !ok || w.runs[1].Due.Sub(w.started) != c.due {
					t.Errorf("handed off %v, and the held run was due at %v", ok, w.runs[1].Due.Sub(w.started))
				}
				for _, r := range w.of(loop.StateChanged) {
					if r.Missed != 0 {
						t.Errorf("missed in %+v", r)
					}
				}
			})
		})
	}
}
