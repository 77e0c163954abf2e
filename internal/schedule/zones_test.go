package schedule

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clockChange is an instant at which the offset of a zone changes.
type clockChange struct{ at, before, after int64 }

// changes returns all changes of a zone before a year.
func changes(zone *time.Location, year int) (list []clockChange) {
	end := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for at := time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC).Unix(); at < end; {
		here := time.Unix(at, 0).In(zone)
		_, bound := here.ZoneBounds()
		if bound.IsZero() {
			break
		}
		at = max(bound.Unix(), at+3600) // ZoneBounds is wrong on some last days of a year
		_, before := here.Zone()
		if _, after := time.Unix(at, 0).In(zone).Zone(); before != after {
			list = append(list, clockChange{at, int64(before), int64(after)})
		}
	}
	return list
}

// zones returns all zones of the database whose clocks differ, each by one of its names. The names are
// those of zones.txt, which is generated from the database that Go links in.
func zones(t testing.TB) map[string][]clockChange {
	t.Helper()
	byChanges, all := map[string]string{}, map[string][]clockChange{}
	for name := range strings.Lines(zoneNames) {
		name = strings.TrimSpace(name)
		list := changes(load(t, name), 2046)
		if key := fmt.Sprint(list); byChanges[key] == "" {
			byChanges[key] = name
			all[name] = list
		}
	}
	return all
}

// TestEachClockChange compares Next with the oracle around each change of the clock in all zones of
// the database up to 2045. One that several zones make at once is looked at in the first of them; the
// soak test looks at all.
func TestEachClockChange(t *testing.T) {
	t.Parallel()
	all, seen := zones(t), map[clockChange]bool{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		all[name] = slices.DeleteFunc(all[name], func(c clockChange) bool {
			known := seen[c]
			seen[c] = true
			return known
		})
	}
	compareChanges(t, all, 3)
}

// compareChanges compares Next with the oracle, from four hours before to four hours after each change,
// for some expressions that differ from change to change.
func compareChanges(t *testing.T, all map[string][]clockChange, expressions int) {
	var wg sync.WaitGroup
	limit := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	for name, list := range all {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			zone := load(t, name)
			for i, c := range list {
				random := rand.New(rand.NewPCG(uint64(c.at), uint64(i)))
				var some []*expression
				for range expressions {
					some = append(some, anyTime(random.IntN, c))
				}
				compare(t, zone, c.at-4*3600, c.at+4*3600, some)
			}
		})
	}
	wg.Wait()
}

// TestSecondsAroundClockChanges looks at each second around one change of each length that is a multiple
// of ten minutes, with six fields.
func TestSecondsAroundClockChanges(t *testing.T) {
	t.Parallel()
	all, seen := zones(t), map[int64]bool{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, c := range all[name] {
			if length := c.after - c.before; length%600 == 0 && !seen[length] {
				seen[length] = true
				e := anyTime(rand.New(rand.NewPCG(1, uint64(c.at))).IntN, c)
				withSeconds := *e
				withSeconds.text, withSeconds.unit = "10,40 "+e.text, 1
				withSeconds.time = func(c civil) bool { return c.Second()%30 == 10 && e.time(c) }
				compare(t, load(t, name), c.at-3*3600-60, c.at+3*3600+60, []*expression{&withSeconds})
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("changes have only %d lengths", len(seen))
	}
}

// TestEachMinuteOfAYear looks at each minute of a leap year past the tables of the zones, in zones with different rules.
func TestEachMinuteOfAYear(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	from := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for _, name := range []string{"America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"} {
		var list []*expression
		for len(list) < 3 {
			e := anyExpression(random.IntN, false)
			if _, err := Parse(e.text, Options{}); err == nil {
				list = append(list, e)
			}
		}
		compare(t, load(t, name), from, from+370*daySeconds, list)
	}
}

// TestChangesAreComplete looks at each hour of three years for a change that the list of a zone lacks.
func TestChangesAreComplete(t *testing.T) {
	t.Parallel()
	from := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for name, list := range zones(t) {
		zone, found := load(t, name), 0
		before := wallTime(zone, from) - from
		for at := from; at < from+3*365*daySeconds; at += 3600 {
			if shift := wallTime(zone, at) - at; shift != before {
				before = shift
				found++
			}
		}
		listed := len(slices.DeleteFunc(list, func(c clockChange) bool { return c.at <= from || c.at >= from+3*365*daySeconds }))
		if found != listed {
			t.Errorf("%s changes its clock %d times, and the list has %d", name, found, listed)
		}
	}
}

func load(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := LoadZone(name)
	if err != nil {
		t.Error(err)
		return time.UTC
	}
	return zone
}

// anyTime makes an expression for each day, with hours around those that the change skips or repeats.
func anyTime(pick picker, c clockChange) *expression {
	low := time.Unix(c.at+min(c.before, c.after)-3600, 0).UTC().Hour()
	wrapped := func(c civil) int { return (c.Hour() - low + 24) % 24 }
	minute := number(pick, 0, 59, nil, civil.Minute)
	n := pick(5)
	hour := one(pick,
		part{"*", func(civil) bool { return true }},
		part{fmt.Sprint((low + n) % 24), func(c civil) bool { return wrapped(c) == n }},
		part{fmt.Sprint((low + n) % 24), func(c civil) bool { return wrapped(c) == n }},
		part{"0", func(c civil) bool { return c.Hour() == 0 }},
		number(pick, 0, 23, nil, civil.Hour))
	return &expression{text: minute.text + " " + hour.text + " * * *", unit: 60,
		time:     func(c civil) bool { return minute.has(c) && hour.has(c) },
		day:      func(civil) bool { return true },
		wildcard: minute.text[0] == '*' || hour.text[0] == '*'}
}

// compare compares the runs from one instant to another.
func compare(t *testing.T, zone *time.Location, from, to int64, list []*expression) {
	t.Helper()
	want := make([][]int64, len(list))
	unit := int64(60)
	for _, e := range list {
		unit = min(unit, e.unit)
	}
	for c := startCron(zone, from); ; c.done() {
		c.next(unit)
		if c.at > to {
			break
		}
		for i, e := range list {
			if c.runs(e) {
				want[i] = append(want[i], c.at)
			}
		}
	}
	for i, e := range list {
		s, err := Parse(e.text, Options{Zone: zone, Seconds: true})
		if err != nil {
			t.Errorf("%q: %v", e.text, err)
			continue
		}
		// After each due time, and after instants that have nothing to do with them.
		rest := append(want[i], to+1)
		for after := from; after <= to; {
			next, ok := s.Next(time.Unix(after, 0))
			got := min(next.Unix(), to+1)
			for rest[0] <= after {
				rest = rest[1:]
			}
			if !ok || got != rest[0] {
				t.Errorf("%q in %s: runs after %s\ngot  %s\nwant %s", e.text, zone, clock([]int64{after}, zone),
					clock([]int64{got}, zone), clock(rest, zone))
				break
			}
			after = min(got, after+(to-from)/16)
		}
	}
}

// clock formats instants as the clock of a zone shows them.
func clock(list []int64, zone *time.Location) (texts []string) {
	for _, at := range list {
		texts = append(texts, time.Unix(at, 0).In(zone).Format("2006-01-02T15:04:05-07:00:00"))
	}
	return texts
}
