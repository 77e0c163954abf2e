package loop_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
)

// triggers returns why each run was started.
func (w *env) triggers() (all []string) {
	for _, r := range w.runs {
		all = append(all, fmt.Sprintf("%d %s", r.Number, r.Trigger))
	}
	return all
}

func TestRunKnowsWhyItWasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: 10 * s, RunAtStart: true},
			Retry: job.Retry{Retries: 1, RetryDelay: s}})
		w.result = fails(func(r job.Run) bool { return r.Number == 2 })
		w.length = func(job.Run) time.Duration { return 100 * time.Millisecond }
		wait := w.start()
		time.Sleep(12 * s) // a run at the start, one at the tick that fails, and its retry
		w.loop.RunNow()
		time.Sleep(50 * time.Millisecond)
		w.loop.RunNow() // during that run
		time.Sleep(10 * s)
		w.loop.Stop()
		wait()
		want := []string{"1 at_start", "2 schedule", "3 retry", "4 manual", "5 manual", "6 schedule"}
		if got := w.triggers(); !slices.Equal(got, want) {
			t.Errorf("triggers %q, want %q", got, want)
		}
	})
}

// A requested run that waits for the gate is one still in the next process.
func TestHeldRequestKeepsItsTriggerOverAReexec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, job.Spec{Schedule: job.Schedule{Interval: time.Minute}})
		w.start()
		w.close()
		w.loop.RunNow()
		synctest.Wait()
		if err := w.loop.HandOff(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		<-w.loop.Done()
		grid := w.reports[len(w.reports)-1].Grid
		w.open()
		next := newEnv(t, w.spec)
		next.grid = &grid
		wait := next.start()
		synctest.Wait()
		next.loop.Stop()
		wait()
		if got := next.triggers(); !slices.Equal(got, []string{"1 manual"}) {
			t.Errorf("triggers %q", got)
		}
	})
}
