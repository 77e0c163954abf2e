package loop_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
	"gophd/internal/loop"
)

func service(interval time.Duration) job.Spec {
	return job.Spec{Schedule: job.Schedule{Interval: interval, RunAtStart: true, Service: true}}
}

// A service that exits at once is slowed whatever its exit code, and is never restarted sooner
// after a start than its interval.
func TestServiceThatExitsAtOnceIsSlowed(t *testing.T) {
	for _, interval := range []time.Duration{0, s, 20 * s} {
		for _, code := range []int{0, 1} {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, service(interval))
				w.result = func(job.Run) job.Result { return job.Result{Outcome: job.Exited, Code: code} }
				w.during(10 * time.Minute)
				for i := 1; i < len(w.starts); i++ {
					gap, want := w.starts[i]-w.starts[i-1], min(100*time.Millisecond<<(i-1), 30*s)
					if gap < max(want*9/10-1, interval) || gap > max(want*11/10+1, interval) {
						t.Errorf("interval %v, code %d: wait %d was %v, want %v +-10 %%", interval, code, i, gap,
							want)
					}
				}
				if n := len(w.starts); n < 20 || n > 40 {
					t.Errorf("interval %v, code %d: %d starts in 10 minutes", interval, code, n)
				}
			})
		}
	}
}

// With an interval, it must have been up that long.
func TestServiceThatStayedUpIsRestartedAtOnce(t *testing.T) {
	for _, c := range []struct {
		interval, length, gap time.Duration
	}{
		{0, 2 * s, 2 * s},
		{s, s, s},
		{5 * s, 5 * s, 5 * s},
		{5 * s, 4990 * time.Millisecond, 5090 * time.Millisecond}, // slowed by 100 ms
		{5 * s, 3 * s, 5 * s}, // slowed by the rest of the interval
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newEnv(t, service(c.interval))
			w.length = every(c.length)
			w.during(11 * s)
			if gap := w.starts[1] - w.starts[0]; gap < c.gap-10*time.Millisecond || gap > c.gap+10*time.Millisecond {
				t.Errorf("a service of interval %v that was up for %v was restarted %v after its start, want %v",
					c.interval, c.length, gap, c.gap)
			}
		})
	}
}

func TestServiceBackoffIsResetAfterAHealthyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, service(0))
		w.length = func(r job.Run) time.Duration {
			switch r.Number {
			case 10: // after a wait of 25.6 s: longer than the service is up
				return 20 * s
			case 13: // after waits of 30 s
				return 40 * s
			case 16: // after waits of 0.1 and 0.2 s
				return 9 * s
			case 18:
				return 10 * s
			}
			return 0
		}
		w.during(10 * time.Minute)
		second, tenth := time.Duration(s), 100*time.Millisecond
		want := map[int]time.Duration{ // the wait after the run
			9: 256 * tenth, 10: 0, 11: 30 * second, 12: 30 * second, 13: 0, 14: tenth, 15: 2 * tenth, 16: 0,
			17: 4 * tenth, 18: 0, 19: tenth,
		}
		for n, want := range want {
			gap := w.starts[n] - w.starts[n-1] - w.length(w.runs[n-1])
			if gap < want*9/10-1 || gap > want*11/10+1 {
				t.Errorf("after run %d it waited for %v, want %v +-10 %%", n, gap, want)
			}
		}
	})
}

func TestServiceIsNeverLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, service(5*s))
		w.length = every(time.Hour)
		w.during(30 * time.Minute)
		ends := w.of(loop.Ended)
		if len(w.of(loop.Late)) != 0 || len(ends) != 1 || ends[0].Tick.Late() || ends[0].Tick.Interval != 0 {
			t.Errorf("late %+v, ended %+v", w.of(loop.Late), ends)
		}
	})
}

// The stop does not wait for the end of the run, and that is no failure.
func TestStopStopsTheRunOfAService(t *testing.T) {
	gone := errors.New("the lease was lost")
	for _, c := range []struct {
		name  string
		stop  func(*loop.Loop)
		cause error
	}{
		{"stopped", (*loop.Loop).Stop, job.ErrStopped},
		{"forced", func(l *loop.Loop) { l.Cancel(gone) }, gone},
		{"both", func(l *loop.Loop) { l.Cancel(gone); l.Stop() }, gone},
		{"stopped first", func(l *loop.Loop) { l.Stop(); l.Cancel(gone) }, job.ErrStopped},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newEnv(t, service(s))
			w.length = every(time.Hour)
			wait := w.start()
			time.Sleep(time.Minute)
			c.stop(w.loop)
			wait()
			last := w.of(loop.Ended)[0].Tick
			if took := time.Since(w.started) - time.Minute; took != 10*time.Millisecond ||
				last.Cause != c.cause || last.Failed() {
				t.Errorf("%s: it ended %v after that, with cause %v, failed %v", c.name, took, last.Cause,
					last.Failed())
			}
			if len(w.runs) != 1 {
				t.Errorf("%s: %d runs", c.name, len(w.runs))
			}
		})
	}
}

func TestRequestedRunOfAServiceIsNotSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, service(20*s))
		w.length = func(r job.Run) time.Duration { return map[uint64]time.Duration{1: s, 2: 3 * s}[r.Number] }
		wait := w.start()
		for _, at := range []time.Duration{2 * s, 4 * s} { // during the wait; during the run
			time.Sleep(time.Until(w.started.Add(at)))
			w.loop.RunNow()
		}
		time.Sleep(5 * s)
		w.loop.Stop()
		wait()
		w.wantStarts(0, 2*s, 5*s)
	})
}

// A re-exec does not avoid the back-off. A service that does not run at start continues all the
// same.
func TestHandOffKeepsTheBackoffOfAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := service(20 * s)
		spec.RunAtStart = false
		old := newEnv(t, spec)
		wait := old.start()
		time.Sleep(25 * s)
		grid, ok := old.handOff(true)
		wait()
		old.wantStarts(20 * s)
		w := newEnv(t, spec)
		w.started, w.grid = old.started, &grid
		w.length = every(time.Minute)
		w.during(20 * s)
		w.wantStarts(40 * s)
		if !ok || w.runs[0].Number != 2 || w.reports[0].Slowed == 0 {
			t.Errorf("handed off %v; run %d, first report %+v", ok, w.runs[0].Number, w.reports[0])
		}
	})
}

// While nothing is due, the timer is not set, so that it wakes nobody: a requested run has replaced
// the restart for which it was set, or the loop has ended.
func TestTimerIsNotSetWhileNothingIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, service(0))
		w.length = func(r job.Run) time.Duration { return map[uint64]time.Duration{2: time.Hour}[r.Number] }
		var timer *testTimer
		w.loop = loop.New(loop.Options{Spec: &w.spec, Runner: w, Recorder: w, Gate: w,
			Timer: func(mu sync.Locker, f func()) loop.Timer {
				timer = &testTimer{mu: mu, f: f}
				return timer
			}})
		wait := w.run()
		isSet := func() bool {
			synctest.Wait()
			timer.mu.Lock()
			defer timer.mu.Unlock()
			return timer.timer != nil
		}
		time.Sleep(s / 20)
		if !isSet() {
			t.Error("it is not set for the restart")
		}
		w.loop.RunNow()
		if isSet() {
			t.Error("it is set while the service is up")
		}
		time.Sleep(time.Hour + 59*time.Minute)
		w.loop.Stop()
		wait()
		if isSet() {
			t.Error("it is set after the end")
		}
	})
}
