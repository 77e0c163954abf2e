package supervisor

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
)

// A job that is paused for a day and due each second has few events about that, and none of its runs is left out.
func TestManyMissedRunsHaveFewEvents(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		var m misses
		var all []event.Event
		for range 24 * 60 * 60 {
			all = append(all, m.add("x", time.Now(), 1, job.MissedPaused, "the job is paused")...)
			time.Sleep(time.Second)
		}
		all = append(all, m.end("x", anyReason)...)
		if again := m.end("x", anyReason); again != nil {
			t.Errorf("after the end: %v", again)
		}
		runs := uint64(0)
		for _, e := range all {
			runs += e.Count
		}
		if runs != 24*60*60 || len(all) > 40 || all[0].Count != 1 {
			t.Errorf("%d runs in %d events, the first with %d", runs, len(all), all[0].Count)
		}
	})
}

func TestEachReasonHasItsOwnEvents(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		var m misses
		var got []string
		add := func(all []event.Event) {
			for _, e := range all {
				got = append(got, fmt.Sprintf("%s %d", e.Missed, e.Count))
			}
		}
		for _, why := range []job.Missed{job.MissedOverlap, job.MissedOverlap, job.MissedOverlap, job.MissedPaused, job.MissedPaused} {
			add(m.add("x", time.Now(), 2, why, "why"))
		}
		add(m.end("x", byOverlap)) // that is not the reason any more
		add(m.end("x", notByOverlap))
		add(m.add("x", time.Now(), 1, job.MissedPaused, "why")) // a new stretch
		if want := []string{"overlap 2", "overlap 4", "paused 2", "paused 2", "paused 1"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
