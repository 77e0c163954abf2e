package loop_test

import (
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
	"gophd/internal/loop"
)

// Each back-off is drawn once, when the wait starts, within 10 % of its nominal value. The wait
// lasts exactly as long as was drawn and reported then.
func TestBackoffJitterIsDrawnOncePerWait(t *testing.T) {
	drawn := map[time.Duration]bool{}
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			w := newEnv(t, job.Spec{Schedule: job.Schedule{RunAtStart: true}})
			w.result = func(job.Run) job.Result { return job.Result{Outcome: job.Exited, Code: 1} }
			w.make()
			wait := w.run()
			time.Sleep(time.Minute)
			w.loop.Stop()
			wait()
			runs := 0
			for i, r := range w.reports {
				if r.Kind == loop.StateChanged && r.State == job.Running {
					runs++
				}
				if r.Slowed == 0 || i+1 == len(w.reports) || w.reports[i+1].State != job.Running {
					continue
				}
				nominal := min(100*time.Millisecond<<(runs-1), 30*s)
				if r.Slowed < nominal*9/10-1 || r.Slowed > nominal*11/10+1 {
					t.Errorf("wait %d was drawn as %v, want %v +-10 %%", runs, r.Slowed, nominal)
				}
				if waited := w.reports[i+1].At.Sub(r.At); waited != r.Slowed || !r.Next.Equal(r.At.Add(r.Slowed)) {
					t.Errorf("wait %d was drawn as %v, reported to end in %v, and lasted %v", runs, r.Slowed,
						r.Next.Sub(r.At), waited)
				}
				if runs == 1 {
					drawn[r.Slowed] = true
				}
			}
			if runs < 8 {
				t.Errorf("%d runs in a minute", runs)
			}
		})
	}
	// If it was drawn at each look at the clock, the first of many draws would win, and all waits
	// would be near the minimum.
	low, high := time.Hour, time.Duration(0)
	for d := range drawn {
		low, high = min(low, d), max(high, d)
	}
	if low > 93*time.Millisecond || high < 107*time.Millisecond {
		t.Errorf("100 first waits lay between %v and %v: not spread over 90 to 110 ms", low, high)
	}
}
