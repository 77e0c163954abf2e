package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gophd/internal/schedule"
)

func TestComingRunsHaveYearsOfFourDigits(t *testing.T) {
	west, err := schedule.LoadZone("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	s, err := schedule.Parse("0 0 * * *", schedule.Options{Zone: west})
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Time]int{{}: 1000, time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC): 1000,
		time.Date(-1e6, 1, 1, 0, 0, 0, 0, time.UTC): 1000, time.Date(9999, 12, 1, 0, 0, 0, 0, time.UTC): 30,
		time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC): 0, time.Date(1e6, 1, 1, 0, 0, 0, 0, time.UTC): 0} {
		runs, none := Coming([]Timed{{Name: "a", Calendar: &s}}, after, 1000)
		if len(runs) != want || (len(none) == 1) != (want == 0) {
			t.Errorf("after %v: %d runs, want %d, and %q", after, len(runs), want, none)
		}
		for _, r := range runs {
			if _, err := r.Due.MarshalJSON(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The coming runs of several jobs are those of each of them, in the order of their due times, and no more than
// were asked for. A splay moves no due time.
func TestComingRunsAreThoseOfEachJob(t *testing.T) {
	texts := []string{"*/7 * * * *", "30 2 * * *", "@every 41m", "0 0 29 2 *", "@reboot", "@manual", "@at 2027-03-28T12:00",
		"@at 2020-01-01T00:00"}
	berlin, err := schedule.LoadZone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		after := time.Unix(rapid.Int64Range(1_800_000_000, 1_810_000_000).Draw(t, "after"), 0)
		count := rapid.IntRange(0, 50).Draw(t, "count")
		var jobs []Timed
		var want []ComingRun
		wantNone := 0
		for i := range rapid.IntRange(0, 6).Draw(t, "jobs") {
			s, err := schedule.Parse(rapid.SampledFrom(texts).Draw(t, "schedule"), schedule.Options{Zone: berlin})
			if err != nil {
				t.Fatal(err)
			}
			j := Timed{Name: fmt.Sprint("job", i), Calendar: &s}
			j.Splay = rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "splay")
			jobs = append(jobs, j)
			due, ok := s.Next(after)
			if !ok {
				wantNone++
			}
			for range count {
				if ok {
					want = append(want, ComingRun{Job: j.Name, Due: due})
					due, ok = s.Next(due)
				}
			}
		}
		slices.SortStableFunc(want, func(a, b ComingRun) int { return a.Due.Compare(b.Due) })
		runs, none := Coming(jobs, after, count)
		if len(runs) != min(count, len(want)) || len(none) != wantNone {
			t.Fatalf("%d runs of %d, and %q", len(runs), len(want), none)
		}
		for i, r := range runs {
			if r.Job != want[i].Job || !r.Due.Equal(want[i].Due) {
				t.Fatalf("run %d is %v, want %v", i, r, want[i])
			}
			if splay := jobs[r.Job[len("job")]-'0'].Splay; strings.Contains(r.Note, "later") != (splay > 0) {
				t.Fatalf("note %q", r.Note)
			}
		}
	})
}
