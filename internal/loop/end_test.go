package loop_test

import (
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
	"gophd/internal/loop"
)

// ending returns how the loop ended: its last report.
func (w *env) ending() loop.Report { return w.reports[len(w.reports)-1] }

// codes makes the runs exit with these codes, one after the other, and then with 0.
func codes(all ...int) func(job.Run) job.Result {
	return func(r job.Run) job.Result {
		code := 0
		if r.Number <= uint64(len(all)) {
			code = all[r.Number-1]
		}
		return job.Result{Outcome: job.Exited, Code: code}
	}
}

// With every kind of job.
func TestFatalExitCodeEndsTheLoop(t *testing.T) {
	for _, spec := range []job.Spec{
		{Schedule: job.Schedule{Interval: s}}, {}, {Schedule: job.Schedule{Once: true}},
		{Schedule: job.Schedule{Service: true}},
		{Schedule: job.Schedule{Interval: s}, Retry: job.Retry{Retries: 3}}, overlapping(s, 2),
		{Schedule: job.Schedule{Interval: s}, Retry: job.Retry{StartLimit: 1, StartLimitInterval: time.Hour}},
	} {
		synctest.Test(t, func(t *testing.T) {
			spec.RunAtStart, spec.FatalCodes = true, []int{70}
			w := newEnv(t, spec)
			w.result = codes(70)
			wait := w.start()
			w.loop.RunNow() // is not served any more
			wait()
			if e := w.ending(); e.State != job.Done || e.End != loop.Fatal || len(w.runs) != 1 {
				t.Errorf("%+v: after %d runs it ended with %+v", spec, len(w.runs), e)
			}
		})
	}
}

// No run is killed for a failure of another.
func TestFatalRunWaitsForTheOtherRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := overlapping(s, 3)
		spec.FatalCodes = []int{70}
		w := newEnv(t, spec)
		w.length = func(r job.Run) time.Duration { return map[uint64]time.Duration{1: 10 * s, 2: s / 2}[r.Number] }
		w.result = codes(0, 70)
		w.start()()
		w.wantStarts(0, s)
		for _, r := range w.of(loop.StateChanged) {
			if r.State == job.Draining && (r.End != loop.Fatal || r.Run.Number != 1) {
				t.Errorf("it started to end with %+v", r)
			}
		}
		if e := w.ending(); e.End != loop.Fatal || time.Since(w.started) != 10*s {
			t.Errorf("it ended after %v with %+v", time.Since(w.started), e)
		}
	})
}

// It ends as a stop ends it.
func TestFatalRunDuringAStopIsNotReportedAsFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true},
			Retry: job.Retry{FatalCodes: []int{70}, StartLimit: 1, StartLimitInterval: s}})
		w.length = every(5 * s)
		w.result = codes(70)
		w.during(s)
		if e := w.ending(); e.End != 0 {
			t.Errorf("it ended with %+v", e)
		}
	})
}

// A re-exec between two failures is not a way around the start limit.
func TestStartLimitCountsOverAHandOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true},
			Retry: job.Retry{StartLimit: 3, StartLimitInterval: 10 * s}})
		w.length = every(time.Millisecond)
		w.result = codes(1, 1, 1, 1)
		wait := w.start()
		time.Sleep(s + s/2)
		grid, ok := w.handOff(true)
		if !ok || len(grid.Failures) != 2 {
			t.Fatalf("it handed off %v, %v", grid.Failures, ok)
		}
		wait()
		w.grid = &grid
		w.during(10 * s)
		if e := w.ending(); e.End != loop.GaveUp || len(w.runs) != 3 {
			t.Errorf("after %d runs it ended with %+v", len(w.runs), e)
		}
	})
}

// The start limit counts failures in a row, of runs that were started within the time. All attempts
// of a tick count as one.
func TestStartLimitCountsFailuresInARow(t *testing.T) {
	for _, c := range []struct {
		name  string
		spec  job.Spec
		codes []int
		runs  int // until it gives up; 0 means never
	}{
		{"in a row", job.Spec{Schedule: job.Schedule{Interval: s},
			Retry: job.Retry{StartLimit: 3, StartLimitInterval: 10 * s}}, []int{1, 1, 1}, 3},
		{"as long as the time to the instant", job.Spec{Schedule: job.Schedule{Interval: 5 * s},
			Retry: job.Retry{StartLimit: 3, StartLimitInterval: 10 * s}}, []int{1, 1, 1}, 3},
		{"too slow", job.Spec{Schedule: job.Schedule{Interval: 5 * s},
			Retry: job.Retry{StartLimit: 3, StartLimitInterval: 9 * s}}, []int{1, 1, 1, 1, 1, 1}, 0},
		{"a success between", job.Spec{Schedule: job.Schedule{Interval: s},
			Retry: job.Retry{StartLimit: 3, StartLimitInterval: 10 * s}}, []int{1, 1, 0, 1, 1, 0, 1, 1, 1}, 9},
		{"the first", job.Spec{Schedule: job.Schedule{Interval: s},
			Retry: job.Retry{StartLimit: 1, StartLimitInterval: s}}, []int{0, 0, 1}, 3},
		{"none", job.Spec{Schedule: job.Schedule{Interval: s}}, []int{1, 1, 1, 1, 1, 1}, 0},
		{"attempts are one", job.Spec{Schedule: job.Schedule{Interval: 20 * s},
			Retry: job.Retry{StartLimit: 2, StartLimitInterval: 20 * s, Retries: 3, RetryDelay: s}},
			[]int{1, 1, 1, 1, 1, 1, 1, 1}, 8},
		{"the last retry", job.Spec{Schedule: job.Schedule{Interval: 20 * s},
			Retry: job.Retry{StartLimit: 1, StartLimitInterval: s, Retries: 3, RetryDelay: s}}, []int{1, 1, 1, 1}, 4},
		{"a retry that succeeds", job.Spec{Schedule: job.Schedule{Interval: 10 * s},
			Retry: job.Retry{StartLimit: 2, StartLimitInterval: time.Minute, Retries: 1, RetryDelay: s}},
			[]int{1, 1, 1, 0, 1, 1, 1, 1}, 8},
		{"a retry that comes too late", job.Spec{Schedule: job.Schedule{Interval: 2 * s},
			Retry: job.Retry{StartLimit: 2, StartLimitInterval: time.Minute, Retries: 9, RetryDelay: s}},
			[]int{1, 1, 1, 1}, 4},
		{"no attempts of that code", job.Spec{Schedule: job.Schedule{Interval: s},
			Retry: job.Retry{StartLimit: 3, StartLimitInterval: time.Minute, Retries: 9, RetryCodes: []int{75},
				RetryDelay: s}}, []int{1, 1, 1}, 3},
		{"back to back", job.Spec{Retry: job.Retry{StartLimit: 5, StartLimitInterval: 10 * s}},
			[]int{1, 1, 1, 1, 1}, 5},
		{"a service", job.Spec{Schedule: job.Schedule{Service: true},
			Retry: job.Retry{StartLimit: 5, StartLimitInterval: 10 * s}}, []int{1, 1, 1, 1, 1}, 5},
		{"a service that exits with 0 at once", job.Spec{Schedule: job.Schedule{Service: true},
			Retry: job.Retry{StartLimit: 5, StartLimitInterval: 10 * s}}, nil, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.spec.RunAtStart = true
				w := newEnv(t, c.spec)
				w.length = every(time.Millisecond)
				w.result = codes(c.codes...)
				w.during(60 * s)
				e := w.ending()
				if gave := e.End == loop.GaveUp; gave != (c.runs > 0) || gave && len(w.runs) != c.runs {
					t.Errorf("after %d runs it ended with %+v", len(w.runs), e)
				}
			})
		})
	}
}
