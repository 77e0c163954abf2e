package loop_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
	"gophd/internal/loop"
)

// after sleeps until that time since the start of the loop, and until all is done that was due.
func (w *env) after(d time.Duration) {
	time.Sleep(d - time.Since(w.started))
	synctest.Wait()
}

func TestNoTickRunsWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		wait := w.start()
		w.after(1500 * time.Millisecond)
		w.loop.Pause(true)
		w.after(3200 * time.Millisecond)
		if _, err := w.loop.Request(&job.Request{ID: 7}); err != nil {
			t.Error(err)
		}
		w.after(4500 * time.Millisecond)
		w.loop.Pause(false)
		w.after(6500 * time.Millisecond)
		w.loop.Stop()
		wait()
		w.wantStarts(0, s, 3200*time.Millisecond, 5*s, 6*s)
		if w.runs[2].Request.ID != 7 || w.runs[3].Request != nil {
			t.Errorf("%+v", w.runs)
		}
		if all := w.of(loop.Skipped); len(all) != 3 || !all[0].Paused || all[0].Missed != 1 {
			t.Errorf("%+v", all)
		}
	})
}

func TestPauseOfAJobWithoutTicks(t *testing.T) {
	for name, schedule := range map[string]job.Schedule{
		"service":      {Service: true, RunAtStart: true, Interval: s},
		"back to back": {RunAtStart: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, job.Spec{Schedule: schedule})
				w.length = func(job.Run) time.Duration { return 10 * s }
				wait := w.start()
				w.after(5 * s)
				w.loop.Pause(true)
				w.after(25 * s)
				w.loop.Pause(false)
				w.after(26 * s)
				w.loop.Cancel(errors.New("over"))
				wait()
				w.wantStarts(0, 25*s)
			})
		})
	}
}

func TestRetriesWaitForNobodyWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true},
			Retry: job.Retry{SuccessCodes: []int{0}, Retries: 2, RetryDelay: s}})
		w.result = func(job.Run) job.Result { return job.Result{Outcome: job.Exited, Code: 1} }
		wait := w.start()
		w.after(500 * time.Millisecond)
		w.loop.Pause(true)
		w.after(12 * s)
		if _, err := w.loop.Request(&job.Request{ID: 7}); err != nil { // with its retries
			t.Error(err)
		}
		w.after(19 * s)
		w.loop.Stop()
		wait()
		w.wantStarts(0, 12*s, 13*s, 15*s)
	})
}

func TestNextTicksAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: s, RunAtStart: true}})
		wait := w.start()
		w.after(500 * time.Millisecond)
		w.loop.Skip(2)
		w.loop.RunNow() // counts for none of them
		w.after(3500 * time.Millisecond)
		w.loop.Stop()
		wait()
		w.wantStarts(0, 500*time.Millisecond, 3*s)
		if all := w.of(loop.Skipped); len(all) != 2 || all[0].Paused {
			t.Errorf("%+v", all)
		}
	})
}

func TestRequestFollowsTheOverlapPolicy(t *testing.T) {
	for policy, want := range map[job.OverlapPolicy]struct {
		starts []time.Duration
		err    string
	}{
		job.OverlapQueue:   {[]time.Duration{0, 10 * s, 20 * s}, ""},
		job.OverlapSkip:    {[]time.Duration{0}, "run 1 is active, and job.overlap is skip"},
		job.OverlapReplace: {[]time.Duration{0, 2010 * time.Millisecond, 12010 * time.Millisecond}, ""},
	} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true, Overlap: policy}})
				w.length = func(job.Run) time.Duration { return 10 * s }
				wait := w.start()
				w.after(2 * s)
				for _, args := range [][]string{{"a"}, {"b"}, {"a"}} {
					r := &job.Request{ID: uint64(time.Now().UnixNano()), Args: args}
					as, err := w.loop.Request(r)
					switch {
					case want.err != "":
						if err == nil || err.Error() != want.err {
							t.Error(err)
						}
					case err != nil || !as.Same(r):
						t.Errorf("%+v, %v", as, err)
					}
				}
				w.after(40 * s)
				w.loop.Stop()
				wait()
				w.wantStarts(want.starts...)
				for i, run := range w.runs[1:] {
					if args := []string{string(rune('a' + i))}; !slices.Equal(run.Request.Args, args) {
						t.Errorf("run %d has the request %+v, want %v", run.Number, run.Request, args)
					}
				}
			})
		})
	}
}

func TestRequestsAreKeptInAHandOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true}})
		w.length = func(job.Run) time.Duration { return 10 * s }
		w.start()
		w.after(s)
		if _, err := w.loop.Request(&job.Request{ID: 7, Args: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		if err := w.loop.HandOff(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		last := w.reports[len(w.reports)-1]
		if !last.HandedOff || len(last.Grid.Requested) != 1 {
			t.Fatalf("%+v", last)
		}
		next := newEnv(t, w.spec)
		next.grid = &last.Grid
		wait := next.start()
		next.after(15 * s)
		next.loop.Stop()
		wait()
		if len(next.runs) != 2 || next.runs[1].Request.ID != 7 {
			t.Errorf("%+v", next.runs)
		}
		if _, err := next.loop.Request(&job.Request{ID: 8}); !errors.Is(err, loop.ErrEnds) {
			t.Errorf("after its end: %v", err)
		}
		synctest.Wait()
	})
}

// What is held at the gate when the job is paused does not run when the gate opens. What was requested
// meanwhile does.
func TestPauseWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true}})
		w.close()
		wait := w.start()
		w.after(s)
		w.loop.Pause(true)
		if _, err := w.loop.Request(&job.Request{ID: 7}); err != nil {
			t.Error(err)
		}
		w.after(2 * s)
		w.open()
		w.after(3 * s)
		w.loop.Stop()
		wait()
		if len(w.runs) != 1 || w.runs[0].Request == nil || w.runs[0].Request.ID != 7 {
			t.Errorf("%+v", w.runs)
		}
	})
}

// What waits because it was requested does not start any more: neither behind an active run, nor at the gate.
func TestWithdrawnRequestsDoNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true, Overlap: job.OverlapQueue}})
		w.length = func(job.Run) time.Duration { return 10 * s }
		wait := w.start()
		w.after(s)
		w.loop.Pause(true)
		for id := range uint64(2) {
			if _, err := w.loop.Request(&job.Request{ID: id + 1, Args: []string{string(rune('a' + id))}}); err != nil {
				t.Error(err)
			}
		}
		if dropped := w.loop.Withdraw(); len(dropped) != 2 || dropped[0].ID != 1 || dropped[1].ID != 2 {
			t.Errorf("%+v", dropped)
		}
		w.after(15 * s)
		w.close()
		if _, err := w.loop.Request(&job.Request{ID: 3}); err != nil {
			t.Error(err)
		}
		w.after(16 * s)
		if dropped := w.loop.Withdraw(); len(dropped) != 1 || dropped[0].ID != 3 {
			t.Errorf("%+v", dropped)
		}
		w.open()
		w.after(20 * s)
		w.loop.Stop()
		wait()
		w.wantStarts(0)
	})
}

// A service that is paused is not said to be restarted when it exits. It starts at once when it is resumed.
func TestPausedServiceThatExitsIsNotRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Service: true, RunAtStart: true, Interval: s}})
		w.length = func(job.Run) time.Duration { return 100 * time.Millisecond }
		wait := w.start()
		w.after(50 * time.Millisecond)
		w.loop.Pause(true)
		w.after(200 * time.Millisecond)
		for _, r := range w.of(loop.StateChanged) {
			if r.Slowed > 0 {
				t.Errorf("a restart is planned: %+v", r)
			}
		}
		w.after(10 * s)
		w.loop.Pause(false)
		w.after(10*s + 50*time.Millisecond)
		w.loop.Stop()
		wait()
		w.wantStarts(0, 10*s)
	})
}
