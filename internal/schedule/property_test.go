package schedule

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestNextIsTheFirstMatch compares Next with the oracle for any expression in any zone. So it is later
// than the instant that it follows, it matches, and nothing between matches.
func TestNextIsTheFirstMatch(t *testing.T) {
	t.Parallel()
	all := zones(t)
	names := slices.Sorted(maps.Keys(all))
	rapid.Check(t, func(t *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		name := names[pick(len(names))]
		zone, err := LoadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		after := rapid.Int64Range(-2e9, 4e9).Draw(t, "after")
		if list := all[name]; len(list) > 0 && pick(4) > 0 {
			after = list[pick(len(list))].at + rapid.Int64Range(-3*daySeconds, daySeconds).Draw(t, "from the change")
		}
		e := anyExpression(pick, pick(4) == 0)
		s, err := Parse(e.text, Options{Zone: zone, Seconds: e.unit == 1})
		if err != nil {
			if !strings.Contains(err.Error(), "never matches") || e.ever() {
				t.Fatalf("%q: %v", e.text, err)
			}
			return
		}
		nanoseconds := int64(pick(2) * 999_999_999)
		got, ok := s.Next(time.Unix(after, nanoseconds))
		want := startCron(zone, after).first(e, after)
		if !ok || got.Unix() != want || got.Nanosecond() != 0 || got.Location() != zone {
			t.Fatalf("%q in %s after %v:\ngot  %v\nwant %v", e.text, name, clock([]int64{after}, zone),
				clock([]int64{got.Unix()}, zone), clock([]int64{want}, zone))
		}
	})
}

// ever reports whether a day of 400 years matches, after which the calendar repeats.
func (e *expression) ever() bool {
	for day := range int64(146097) {
		if e.day(civil{time.Unix(day*daySeconds, 0).UTC()}) {
			return true
		}
	}
	return false
}
