package loop_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/loop"
)

// overlapping returns a job with n slots.
func overlapping(interval time.Duration, n int) job.Spec {
	return job.Spec{Schedule: job.Schedule{Interval: interval, RunAtStart: true, Overlap: job.OverlapAllow,
		MaxParallel: n}}
}

// first makes the first run take d, and the others a second.
func first(d time.Duration) func(job.Run) time.Duration {
	return func(r job.Run) time.Duration {
		if r.Number == 1 {
			return d
		}
		return s
	}
}

// ends returns for each run that ended its number, its slot, and the ticks that were dropped
// because of it.
func (w *env) ends() (all []string) {
	for _, r := range w.of(loop.Ended) {
		all = append(all, fmt.Sprintf("%d in %d missed %d", r.Run.Number, r.Run.Slot, r.Tick.Missed))
	}
	return all
}

func (w *env) wantEnds(want ...string) {
	w.t.Helper()
	if got := w.ends(); !slices.Equal(got, want) {
		w.t.Errorf("runs ended as %q, want %q", got, want)
	}
}

func TestOverlappingRunsStartOnTheGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, overlapping(10*s, 2))
		w.length = first(23 * s)
		w.during(45 * s)
		w.wantStarts(0, 10*s, 20*s, 30*s, 40*s)
		w.wantEnds("2 in 1 missed 0", "3 in 1 missed 0", "1 in 0 missed 0", "4 in 0 missed 0", "5 in 0 missed 0")
		for i, r := range w.runs {
			if due := r.Due.Sub(w.started); due != time.Duration(i)*10*s {
				t.Errorf("run %d serves the tick at %v", r.Number, due)
			}
		}
		var late []string
		for _, r := range w.of(loop.Late) {
			late = append(late, fmt.Sprintf("%d after %v missed %d", r.Run.Number, r.Length, r.Missed))
		}
		if want := []string{"1 after 9s missed 0", "1 after 10s missed 0",
			"1 after 20s missed 0"}; !slices.Equal(late, want) {
			t.Errorf("late reports %q, want %q", late, want)
		}
	})
}

func TestOverlapDropsTheTickWhenNoSlotIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, overlapping(10*s, 2))
		w.length = every(35 * s)
		w.during(75 * s)
		w.wantStarts(0, 10*s, 40*s, 50*s)
		// The ticks at 20 and 30 s count for the first run, those at 60 and 70 s for the third.
		w.wantEnds("1 in 0 missed 2", "2 in 1 missed 0", "3 in 0 missed 2", "4 in 1 missed 1")
	})
}

func TestDrainingWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, overlapping(10*s, 3))
		w.length = func(r job.Run) time.Duration { return time.Duration(100-20*r.Number) * s }
		w.during(25 * s)
		if took := time.Since(w.started); took != 80*s {
			t.Errorf("it ended after %v, want the end of the longest run, 80s", took)
		}
		w.wantStarts(0, 10*s, 20*s)
		if done := w.of(loop.StateChanged); done[len(done)-1].State != job.Done || len(w.of(loop.Ended)) != 3 {
			t.Errorf("it ended with %+v after %d runs", done[len(done)-1], len(w.of(loop.Ended)))
		}
	})
}

func TestCancelStopsAllRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, overlapping(s, 3))
		w.length = every(time.Hour)
		wait := w.start()
		time.Sleep(5500 * time.Millisecond)
		gone := errors.New("the lease was lost")
		w.loop.Cancel(gone)
		wait()
		ends := w.of(loop.Ended)
		for _, r := range ends {
			if r.Tick.Cause != gone {
				t.Errorf("run %d was ended by %v", r.Run.Number, r.Tick.Cause)
			}
		}
		if len(ends) != 3 || time.Since(w.started) > 6*s {
			t.Errorf("%d runs had ended after %v", len(ends), time.Since(w.started))
		}
	})
}

func TestRequestedRunOverlapsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, overlapping(10*s, 2))
		w.length = every(8 * s)
		wait := w.start()
		for _, at := range []time.Duration{s, 2 * s, 3 * s} { // beside the first; remembered once
			time.Sleep(time.Until(w.started.Add(at)))
			w.loop.RunNow()
			synctest.Wait()
		}
		time.Sleep(12 * s)
		w.loop.Stop()
		wait()
		w.wantStarts(0, s, 8*s, 10*s)
	})
}

// The gate is shut for the second run and not for the first. Ticks that are due meanwhile are
// counted by the run that was held.
func TestHeldTickWaitsBesideActiveRuns(t *testing.T) {
	for _, c := range []struct {
		name   string
		length time.Duration
		opens  time.Duration
		starts []time.Duration
		held   bool // the first run has ended before the gate opens
	}{
		{"beside", 58 * s, 32 * s, []time.Duration{0, 32 * s, 40 * s}, false},
		{"alone", 15 * s, 32 * s, []time.Duration{0, 32 * s, 40 * s}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, overlapping(10*s, 5))
				w.length = first(c.length)
				wait := w.start()
				time.Sleep(5 * s)
				w.close()
				time.Sleep(c.opens - 5*s)
				w.open()
				time.Sleep(13 * s)
				w.loop.Stop()
				wait()
				w.wantStarts(c.starts...)
				var missed uint64
				held := false
				for _, r := range w.of(loop.StateChanged) {
					held = held || r.State == job.Held
					if r.State == job.Running {
						missed += r.Missed
					}
				}
				if missed != 2 || held != c.held {
					t.Errorf("%d ticks missed, want those at 20 and 30 s; held %v", missed, held)
				}
			})
		})
	}
}

// detach is called once, and the next loop has all runs, each in its slot, even if it has fewer
// slots. Then no run starts before a slot is free.
func TestHandOffOfSeveralRuns(t *testing.T) {
	for _, spec := range []job.Spec{overlapping(10*s, 3), overlapping(10*s, 2),
		{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true}}} {
		t.Run(fmt.Sprint(spec.MaxParallel), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := newEnv(t, overlapping(10*s, 3))
				old.length = func(r job.Run) time.Duration {
					if r.Number == 2 {
						return s // so that the slots are not in the sequence of the numbers
					}
					return time.Hour
				}
				defer func() { old.loop.Cancel(nil); time.Sleep(s) }() // for the runs that were handed off
				wait := old.start()
				time.Sleep(31 * s)
				synctest.Wait()
				detached := 0
				if err := old.loop.HandOff(func() error { detached++; return errBusy }); err != errBusy {
					t.Errorf("it handed off runs that were not detached: %v", err)
				}
				if err := old.loop.HandOff(func() error { detached++; return nil }); err != nil || detached != 2 {
					t.Errorf("it did not hand off, detach was called %d times: %v", detached, err)
				}
				wait()
				grid := old.reports[len(old.reports)-1].Grid
				var handedOff []string
				for _, g := range grid.ActiveRuns {
					handedOff = append(handedOff, fmt.Sprintf("%d in %d at %v", g.Run.Number, g.Run.Slot,
						g.Started.Sub(old.started)))
				}
				if want := []string{"1 in 0 at 0s", "3 in 1 at 20s", "4 in 2 at 30s"}; !slices.Equal(handedOff,
					want) {
					t.Fatalf("it handed off %q, want %q", handedOff, want)
				}

				w := newEnv(t, spec)
				w.started, w.grid = old.started, &grid
				w.length = func(r job.Run) time.Duration {
					end := map[uint64]time.Duration{1: 52 * s, 3: 45 * s, 4: 47 * s}[r.Number]
					if end == 0 {
						return s
					}
					return time.Until(w.started.Add(end))
				}
				w.during(34 * s) // until 65 s
				adopted := []string{"3 in 1", "4 in 2"}
				var ends []string
				for _, r := range w.of(loop.Ended)[:2] {
					ends = append(ends, fmt.Sprintf("%d in %d", r.Run.Number, r.Run.Slot))
				}
				if !slices.Equal(ends, adopted) {
					t.Errorf("adopted runs ended as %q, want %q", ends, adopted)
				}
				next := w.starts[3:] // after the adopted ones
				want := map[int][]time.Duration{3: {50 * s, 60 * s}, 2: {50 * s, 60 * s},
					0: {52 * s, 60 * s}}[spec.MaxParallel]
				if !slices.Equal(next, want) {
					t.Errorf("it continued at %v, want %v", next, want)
				}
			})
		})
	}
}

// The others are stopped, and the panic is passed on when they have ended.
func TestPanicOfOneRunStopsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, overlapping(s, 2))
		w.length = every(time.Hour)
		w.result = func(r job.Run) job.Result {
			if r.Number == 2 {
				panic("the runner panicked")
			}
			return job.Result{Outcome: job.Exited}
		}
		p := goroutine.Catch(w.start())
		if p == nil || p.Value != "the runner panicked" {
			t.Fatalf("got %v, want the runner's panic", p)
		}
		if !errors.Is(w.cause, job.ErrInsisted) || time.Since(w.started) > 2*s {
			t.Errorf("the other run ended by %v after %v", w.cause, time.Since(w.started))
		}
	})
}
