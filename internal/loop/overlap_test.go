package loop_test

import (
	"context"
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

// overlapping is a job with n places.
func overlapping(interval time.Duration, n int) job.Spec {
	return job.Spec{Schedule: job.Schedule{Interval: interval, RunAtStart: true, Overrun: job.OverrunOverlap, MaxParallel: n}}
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

// ends tells of each run that ended: its number, place, and the ticks that were dropped on its account.
func (w *world) ends() (all []string) {
	for _, r := range w.of(loop.Ended) {
		all = append(all, fmt.Sprintf("%d in %d missed %d", r.Run.Number, r.Run.Place, r.Tick.Missed))
	}
	return all
}

func (w *world) wantEnds(want ...string) {
	w.t.Helper()
	if got := w.ends(); !slices.Equal(got, want) {
		w.t.Errorf("runs ended as %q, want %q", got, want)
	}
}

func TestT33OverlapStartsBesideOnTheGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, overlapping(10*s, 2))
		w.length = first(23 * s)
		w.during(45 * s)
		w.wantStarts(0, 10*s, 20*s, 30*s, 40*s)
		w.wantEnds("2 in 1 missed 0", "3 in 1 missed 0", "1 in 0 missed 0", "4 in 0 missed 0", "5 in 0 missed 0")
		for i, r := range w.runs {
			if due := r.Due.Sub(w.began); due != time.Duration(i)*10*s {
				t.Errorf("run %d serves the tick at %v", r.Number, due)
			}
		}
		var late []string
		for _, r := range w.of(loop.Late) {
			late = append(late, fmt.Sprintf("%d after %v missed %d", r.Run.Number, r.Length, r.Missed))
		}
		if want := []string{"1 after 9s missed 0", "1 after 10s missed 0", "1 after 20s missed 0"}; !slices.Equal(late, want) {
			t.Errorf("late reports %q, want %q", late, want)
		}
	})
}

func TestOverlapDropsTheTickWhenAllPlacesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, overlapping(10*s, 2))
		w.length = every(35 * s)
		w.during(75 * s)
		w.wantStarts(0, 10*s, 40*s, 50*s)
		// The ticks at 20 and 30 s fell to the first run, those at 60 and 70 s to the third.
		w.wantEnds("1 in 0 missed 2", "2 in 1 missed 0", "3 in 0 missed 2", "4 in 1 missed 1")
	})
}

func TestDrainingWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, overlapping(10*s, 3))
		w.length = func(r job.Run) time.Duration { return time.Duration(100-20*r.Number) * s }
		w.during(25 * s)
		if took := time.Since(w.began); took != 80*s {
			t.Errorf("it ended after %v, want the end of the longest run, 80s", took)
		}
		w.wantStarts(0, 10*s, 20*s)
		if done := w.of(loop.Turned); done[len(done)-1].State != job.Done || len(w.of(loop.Ended)) != 3 {
			t.Errorf("it ended with %+v after %d runs", done[len(done)-1], len(w.of(loop.Ended)))
		}
	})
}

func TestCancelReachesAllRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, overlapping(s, 3))
		w.length = every(time.Hour)
		ctx, cancel := context.WithCancelCause(t.Context())
		wait := w.start(ctx)
		time.Sleep(5500 * time.Millisecond)
		gone := errors.New("the heartbeat was lost")
		cancel(gone)
		wait()
		ends := w.of(loop.Ended)
		for _, r := range ends {
			if r.Tick.Cause != gone {
				t.Errorf("run %d was ended by %v", r.Run.Number, r.Tick.Cause)
			}
		}
		if len(ends) != 3 || time.Since(w.began) > 6*s {
			t.Errorf("%d runs had ended after %v", len(ends), time.Since(w.began))
		}
	})
}

func TestWakeOverlapsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, overlapping(10*s, 2))
		w.length = every(8 * s)
		wait := w.start(context.Background())
		for _, at := range []time.Duration{s, 2 * s, 3 * s} { // beside the first; remembered once
			time.Sleep(time.Until(w.began.Add(at)))
			w.loop.Wake()
			synctest.Wait()
		}
		time.Sleep(12 * s)
		w.loop.Stop()
		wait()
		w.wantStarts(0, s, 8*s, 10*s)
	})
}

// TestOverlapHoldsATickBesideRuns: the gate is shut for the second run and not for the first; what fell due
// meanwhile is counted by the run that was held.
func TestOverlapHoldsATickBesideRuns(t *testing.T) {
	for _, c := range []struct {
		name   string
		length time.Duration
		opens  time.Duration
		starts []time.Duration
		held   bool // the first run ended before
	}{
		{"beside", 58 * s, 32 * s, []time.Duration{0, 32 * s, 40 * s}, false},
		{"alone", 15 * s, 32 * s, []time.Duration{0, 32 * s, 40 * s}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, overlapping(10*s, 5))
				w.length = first(c.length)
				wait := w.start(context.Background())
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
				for _, r := range w.of(loop.Turned) {
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

// TestLeaveSeveralRuns: let is asked once, and the next loop has all of them, each in its place, with fewer
// places too; there nothing begins before there is room.
func TestLeaveSeveralRuns(t *testing.T) {
	for _, spec := range []job.Spec{overlapping(10*s, 3), overlapping(10*s, 2), {Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true}}} {
		t.Run(fmt.Sprint(spec.MaxParallel), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := newWorld(t, overlapping(10*s, 3))
				old.length = func(r job.Run) time.Duration {
					if r.Number == 2 {
						return s // so that the places are not in the order of the numbers
					}
					return time.Hour
				}
				ctx, end := context.WithCancel(t.Context())
				defer func() { end(); time.Sleep(s) }() // of the runs that were left
				wait := old.start(ctx)
				time.Sleep(31 * s)
				synctest.Wait()
				asked := 0
				if err := old.loop.Leave(func() error { asked++; return errBusy }); err != errBusy {
					t.Errorf("it left runs that were not given up: %v", err)
				}
				if err := old.loop.Leave(func() error { asked++; return nil }); err != nil || asked != 2 {
					t.Errorf("it did not leave, asked %d times: %v", asked, err)
				}
				wait()
				grid := old.reports[len(old.reports)-1].Grid
				var left []string
				for _, g := range grid.Going {
					left = append(left, fmt.Sprintf("%d in %d at %v", g.Run.Number, g.Run.Place, g.Started.Sub(old.began)))
				}
				if want := []string{"1 in 0 at 0s", "3 in 1 at 20s", "4 in 2 at 30s"}; !slices.Equal(left, want) {
					t.Fatalf("it left %q, want %q", left, want)
				}

				w := newWorld(t, spec)
				w.began, w.grid = old.began, &grid
				w.length = func(r job.Run) time.Duration {
					end := map[uint64]time.Duration{1: 52 * s, 3: 45 * s, 4: 47 * s}[r.Number]
					if end == 0 {
						return s
					}
					return time.Until(w.began.Add(end))
				}
				w.during(34 * s) // until 65 s
				adopted := []string{"3 in 1", "4 in 2"}
				var ends []string
				for _, r := range w.of(loop.Ended)[:2] {
					ends = append(ends, fmt.Sprintf("%d in %d", r.Run.Number, r.Run.Place))
				}
				if !slices.Equal(ends, adopted) {
					t.Errorf("adopted runs ended as %q, want %q", ends, adopted)
				}
				next := w.starts[3:] // after those that were adopted
				want := map[int][]time.Duration{3: {50 * s, 60 * s}, 2: {50 * s, 60 * s}, 0: {52 * s, 60 * s}}[spec.MaxParallel]
				if !slices.Equal(next, want) {
					t.Errorf("it went on at %v, want %v", next, want)
				}
			})
		})
	}
}

// TestPanicOfOneRunEndsTheOthers: the others are stopped, and the panic climbs when they have ended.
func TestPanicOfOneRunEndsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, overlapping(s, 2))
		w.length = every(time.Hour)
		w.result = func(r job.Run) job.Result {
			if r.Number == 2 {
				panic("the runner fell")
			}
			return job.Result{Outcome: job.Exited}
		}
		p := goroutine.Catch(w.start(context.Background()))
		if p == nil || p.Value != "the runner fell" {
			t.Fatalf("got %v, want the runner's panic", p)
		}
		if !errors.Is(w.cause, job.ErrInsisted) || time.Since(w.began) > 2*s {
			t.Errorf("the other run ended by %v after %v", w.cause, time.Since(w.began))
		}
	})
}
