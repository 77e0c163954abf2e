package loop_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
	"gophd/internal/loop"
)

// fails makes those runs fail for which which returns true.
func fails(which func(job.Run) bool) func(job.Run) job.Result {
	return func(r job.Run) job.Result {
		if which(r) {
			return job.Result{Outcome: job.Exited, Code: 1}
		}
		return job.Result{Outcome: job.Exited}
	}
}

func always(job.Run) bool { return true }

// wantAttempts compares, for each run, the tick that it serves and its attempt.
func (w *env) wantAttempts(want ...string) {
	w.t.Helper()
	var got []string
	for i, r := range w.runs {
		got = append(got, fmt.Sprintf("%v: %v attempt %d", w.starts[i], r.Due.Sub(w.started), r.Attempt))
		if r.Number != uint64(i+1) {
			w.t.Errorf("run %d has the number %d", i+1, r.Number)
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("attempts\n%q, want\n%q", got, want)
	}
}

func TestRetryStartsBeforeTheNextTickOrNotAtAll(t *testing.T) {
	for _, c := range []struct {
		name     string
		spec     job.Spec
		fails    func(job.Run) bool
		length   time.Duration
		attempts []string
		verdict  job.Verdict // of the second run
	}{
		{"until it succeeds", job.Spec{Schedule: job.Schedule{Interval: 10 * s},
			Retry: job.Retry{Retries: 5, RetryDelay: s}}, func(r job.Run) bool { return r.Number < 2 }, 0,
			[]string{"0s: 0s attempt 0", "1s: 0s attempt 1", "10s: 10s attempt 0"}, job.Success},
		{"as often as it is to be", job.Spec{Schedule: job.Schedule{Interval: 10 * s},
			Retry: job.Retry{Retries: 2, RetryDelay: s}}, always, 0,
			[]string{"0s: 0s attempt 0", "1s: 0s attempt 1", "3s: 0s attempt 2", "10s: 10s attempt 0",
				"11s: 10s attempt 1"}, job.Retryable},
		{"canceled by the next tick", job.Spec{Schedule: job.Schedule{Interval: 10 * s},
			Retry: job.Retry{Retries: 9, RetryDelay: 2 * s}}, always, 0,
			[]string{"0s: 0s attempt 0", "2s: 0s attempt 1", "6s: 0s attempt 2", "10s: 10s attempt 0"},
			job.Retryable},
		{"at once", job.Spec{Schedule: job.Schedule{Interval: 10 * s},
			Retry: job.Retry{Retries: 2}}, always, 3500 * time.Millisecond,
			[]string{"0s: 0s attempt 0", "3.5s: 0s attempt 1", "7s: 0s attempt 2", "10.5s: 10s attempt 0"},
			job.Retryable},
		{"not when a tick was dropped meanwhile", job.Spec{Schedule: job.Schedule{Interval: 4 * s,
			Overlap: job.OverlapSkip}, Retry: job.Retry{Retries: 2}}, always, 5 * s,
			[]string{"0s: 0s attempt 0", "8s: 8s attempt 0"}, job.Retryable},
		{"not after an overrun that was its end", job.Spec{Schedule: job.Schedule{Interval: 4 * s,
			Overlap: job.OverlapReplace}, Retry: job.Retry{Retries: 2}}, always, 5 * s,
			[]string{"0s: 0s attempt 0", "4.01s: 4s attempt 0", "8.01s: 8s attempt 0"}, job.Failure},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.spec.RunAtStart = true
				w := newEnv(t, c.spec)
				w.result = fails(c.fails)
				w.length = every(c.length)
				w.during(11500 * time.Millisecond)
				w.wantAttempts(c.attempts...)
				if ends := w.of(loop.Ended); ends[1].Tick.Verdict != c.verdict {
					t.Errorf("the verdict on the second run is %d, want %d", ends[1].Tick.Verdict, c.verdict)
				}
			})
		})
	}
}

// The wait for a retry is reported with the retry.
func TestRetryIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 9 * s, RunAtStart: true},
			Retry: job.Retry{Retries: 2, RetryDelay: 3 * s}})
		w.result = fails(always)
		w.during(5 * s)
		var got []string
		for _, r := range w.of(loop.StateChanged) {
			got = append(got, fmt.Sprintf("%v attempt %d, slowed %v, next %v", r.State, r.Run.Attempt, r.Slowed,
				max(r.Next.Sub(r.At), 0)))
		}
		want := []string{"waiting attempt 0, slowed 0s, next 0s", "running attempt 0, slowed 0s, next 9s",
			"waiting attempt 1, slowed 3s, next 3s",
			"running attempt 1, slowed 0s, next 6s", "waiting attempt 0, slowed 0s, next 6s",
			"done attempt 0, slowed 0s, next 0s"}
		if !slices.Equal(got, want) {
			t.Errorf("turned\n%q, want\n%q", got, want)
		}
	})
}

func TestOnceJobEndsWithItsLastRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, Once: true},
			Retry: job.Retry{Retries: 20, RetryDelay: 10 * time.Minute}})
		w.result = fails(func(r job.Run) bool { return r.Number < 6 })
		w.start()()
		// Doubling is limited to an hour.
		w.wantAttempts("0s: 0s attempt 0", "10m0s: 0s attempt 1", "30m0s: 0s attempt 2", "1h10m0s: 0s attempt 3",
			"2h10m0s: 0s attempt 4", "3h10m0s: 0s attempt 5")
		ends := w.of(loop.Ended)
		if last := ends[len(ends)-1].Tick; !last.OK() {
			t.Errorf("it ended with %v", last)
		}
	})
}

// The retries come first, and the back-off when none is left.
func TestBackToBackRetriesBeforeTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{RunAtStart: true},
			Retry: job.Retry{Retries: 2, RetryDelay: 10 * time.Millisecond}})
		w.result = fails(always)
		w.during(10 * s)
		var attempts []int
		for i, r := range w.runs[:9] {
			attempts = append(attempts, r.Attempt)
			if i == 0 {
				continue
			}
			gap, want := w.starts[i]-w.starts[i-1],
				[]time.Duration{100 * time.Millisecond << (i/3 - min(1, i/3)), 10 * time.Millisecond,
					20 * time.Millisecond}[i%3]
			if gap < want*9/10-1 || gap > want*11/10+1 {
				t.Errorf("run %d waited for %v, want %v", r.Number, gap, want)
			}
		}
		if want := []int{0, 1, 2, 0, 1, 2, 0, 1, 2}; !slices.Equal(attempts, want) {
			t.Errorf("attempts %v, want %v", attempts, want)
		}
	})
}

func TestStopDuringRetryWaitIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true},
			Retry: job.Retry{Retries: 3, RetryDelay: time.Minute}})
		w.result = fails(always)
		w.during(10 * s)
		if time.Since(w.started) != 10*s || len(w.runs) != 1 {
			t.Errorf("it ended after %v and %d runs", time.Since(w.started), len(w.runs))
		}
	})
}

// The requested run has retries of its own.
func TestRequestedRunReplacesARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 100 * s, RunAtStart: true},
			Retry: job.Retry{Retries: 2, RetryDelay: 10 * s}})
		w.result = fails(always)
		wait := w.start()
		time.Sleep(4 * s)
		w.loop.RunNow()
		time.Sleep(60 * s)
		w.loop.Stop()
		wait()
		w.wantAttempts("0s: 0s attempt 0", "4s: 4s attempt 0", "14s: 4s attempt 1", "34s: 4s attempt 2")
	})
}

// A held retry starts when the gate opens. If the next tick is due before that, that tick's run
// replaces it.
func TestHeldRetry(t *testing.T) {
	for opens, want := range map[time.Duration][]string{
		5 * s:  {"0s: 0s attempt 0", "5s: 0s attempt 1"},
		35 * s: {"0s: 0s attempt 0", "35s: 30s attempt 0", "37s: 30s attempt 1"},
	} {
		t.Run(opens.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true},
					Retry: job.Retry{Retries: 1, RetryDelay: 2 * s}})
				w.result = fails(always)
				wait := w.start()
				time.Sleep(s)
				w.close()
				time.Sleep(opens - s)
				w.open()
				time.Sleep(4 * s)
				w.loop.Stop()
				wait()
				w.wantAttempts(want...)
				var missed uint64
				for _, r := range w.of(loop.StateChanged) {
					if r.State == job.Running {
						missed += r.Missed
					}
				}
				if ticks := uint64(opens / (10 * s)); missed != max(ticks, 1)-1 {
					t.Errorf("%d ticks missed of %d that were due while it was held", missed, ticks)
				}
			})
		})
	}
}

// A retry waits while another run is active, but not for a tick that is over.
func TestRetryWaitsBesideOverlappingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := overlapping(10*s, 2)
		spec.Retries, spec.RetryDelay = 3, 2*s
		w := newEnv(t, spec)
		w.length = first(15 * s)
		w.result = fails(func(r job.Run) bool { return r.Number < 4 })
		w.during(25 * s)
		w.wantAttempts("0s: 0s attempt 0", "10s: 10s attempt 0", "13s: 10s attempt 1", "20s: 20s attempt 0")
		w.wantEnds("2 in 1 missed 0", "3 in 1 missed 0", "1 in 0 missed 0", "4 in 0 missed 0")
	})
}

// The next loop continues to wait, if its config allows the retry.
func TestHandOffDuringARetryDelay(t *testing.T) {
	retrying := job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true},
		Retry: job.Retry{Retries: 2, RetryDelay: 2 * s}}
	never, shorter, once := retrying, retrying, retrying
	never.Retries, shorter.Interval, once.Once = 0, 3*s, true
	beside := retrying
	beside.Overlap, beside.MaxParallel = job.OverlapAllow, 2
	for _, c := range []struct {
		name     string
		old, new job.Spec
		attempts []string // in the next loop
	}{
		{"as it was", retrying, retrying, []string{"6s: 0s attempt 2", "10s: 10s attempt 0"}},
		{"no retries any more", retrying, never, []string{"10s: 10s attempt 0"}},
		{"its tick ends sooner", retrying, shorter,
			[]string{"5s: 3s attempt 0", "6s: 6s attempt 0", "8s: 6s attempt 1", "9s: 9s attempt 0",
				"11s: 9s attempt 1"}},
		{"once", once, once, []string{"6s: 0s attempt 2"}},
		{"overlapping", beside, beside, []string{"6s: 0s attempt 2", "10s: 10s attempt 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := newEnv(t, c.old)
				old.result = fails(always)
				wait := old.start()
				time.Sleep(5 * s)
				grid, ok := old.handOff(true)
				wait()
				if w := grid.Wait; !ok || w == nil || w.Run.Attempt != 2 || w.Until.Sub(old.started) != 6*s {
					t.Fatalf("handed off %v with %+v", ok, w)
				}
				w := newEnv(t, c.new)
				w.started, w.grid = old.started, &grid
				w.result = fails(always)
				w.during(6500 * time.Millisecond)
				var got []string
				for i, r := range w.runs {
					got = append(got, fmt.Sprintf("%v: %v attempt %d", w.starts[i], r.Due.Sub(w.started), r.Attempt))
				}
				if !slices.Equal(got, c.attempts) {
					t.Errorf("attempts\n%q, want\n%q", got, c.attempts)
				}
				if n := w.runs[0].Number; n != 3 {
					t.Errorf("the first of them has the number %d", n)
				}
			})
		})
	}
}
