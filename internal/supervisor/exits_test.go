package supervisor

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// A service that exits again and again is reported soon, and then once in a period.
func TestExitsOfAServiceAreReportedAtADistance(t *testing.T) {
	const m = time.Minute
	for name, c := range map[string]struct {
		every time.Duration
		runs  int
		want  []string // time since the start, count, time in which
	}{
		"every second": {time.Second, 2000,
			[]string{"10s: 10 in 10s", "10m11s: 601 in 10m1s", "20m12s: 601 in 10m1s", "30m13s: 601 in 10m1s"}},
		"at the limit":       {m, 31, []string{"10m0s: 10 in 10m0s", "21m0s: 11 in 11m0s"}},
		"too few":            {m + time.Second, 100, nil},
		"every hour":         {time.Hour, 100, nil},
		"nine and then none": {time.Second, 9, nil},
	} {
		var x exits
		var got []string
		first := time.Now()
		for i := range c.runs {
			started := first.Add(time.Duration(i) * c.every)
			ended := started.Add(c.every)
			if count, in := x.add(started, ended); count > 0 {
				got = append(got, fmt.Sprintf("%s: %d in %s", ended.Sub(first), count, in))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// After a pause the next series is reported soon again.
func TestANewSeriesOfExitsIsReportedSoon(t *testing.T) {
	var x exits
	at := time.Now()
	series := func(n int) (reports int) {
		for range n {
			if count, _ := x.add(at, at.Add(time.Second)); count > 0 {
				reports++
			}
			at = at.Add(time.Second)
		}
		return reports
	}
	if n := series(12); n != 1 {
		t.Errorf("%d reports of the first series, want 1", n)
	}
	at = at.Add(time.Hour)
	if n := series(12); n != 1 {
		t.Errorf("%d reports of the second series, want 1", n)
	}
}

// Processes that each run leaves are reported at once, and then once in a period.
func TestProcessesThatRunsLeaveAreReportedAtADistance(t *testing.T) {
	var l leftReport
	var got []int
	for minute := range 32 {
		if l.report(time.Unix(0, 0).Add(time.Duration(minute) * time.Minute)) {
			got = append(got, minute)
		}
	}
	if want := []int{0, 11, 22}; !slices.Equal(got, want) {
		t.Errorf("in the minutes %d, want %d", got, want)
	}
}
