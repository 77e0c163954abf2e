package schedule

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWindowsAndDays(t *testing.T) {
	for text, ok := range map[string]bool{"22:00-06:00": true, "00:00-24:00": true, "9:30-17:00": true, "": false, "22-06": false,
		"22:00": false, "22:00-22:00": false, "24:00-06:00": false, "22:60-23:00": false, "22:00-24:01": false, "-1:00-02:00": false,
		"22:00-06:00-07:00": false, "a:00-06:00": false, "22:0-06:00": false, "+1:00-02:00": false} {
		w, err := ParseWindow(text)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		if again, err := ParseWindow(w.String()); ok && (err != nil || again != w) {
			t.Errorf("%q is shown as %q", text, w)
		}
	}
	for text, ok := range map[string]bool{"2026-12-24": true, "12-24": true, "2026-12-24..2027-01-02": true, "12-24..01-02": true,
		"02-29": true, "2028-02-29": true, "2027-02-29": false, "02-30": false, "": false, "..": false, "2026-12-24..": false,
		"2026-12-24..01-02": false, "2027-01-02..2026-12-24": false, "24.12.2026": false, "12-24..12-25..12-26": false} {
		d, err := ParseDays(text)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		if ok && d.String() != text {
			t.Errorf("%q is shown as %q", text, d)
		}
	}
}

// Next returns exactly the due times of the expression that are in the window and on no excluded day.
func TestWindowAndExcludedDaysLeaveOutDueTimes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	texts := []string{"*/7 * * * *", "30 2 * * *", "0 */3 * * *", "17 0,1,2,3,23 * * *", "@every 41m", "0 0 * * *"}
	windows := []string{"22:00-06:00", "02:15-02:45", "00:00-24:00", "09:00-17:00", "00:00-03:00", "23:00-24:00", ""}
	days := []string{"2027-03-28", "03-27..03-29", "2027-10-31", "12-31..01-01", "2027-10-30..2027-11-07"}
	for range 300 {
		zone, err := LoadZone([]string{"Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "UTC"}[rng.IntN(5)])
		if err != nil {
			t.Fatal(err)
		}
		text := texts[rng.IntN(len(texts))]
		plain, err := Parse(text, Options{Zone: zone})
		if err != nil {
			t.Fatal(err)
		}
		between, window := Window{}, windows[rng.IntN(len(windows))]
		if window != "" {
			if between, err = ParseWindow(window); err != nil {
				t.Fatal(err)
			}
		}
		var exclude []Days
		for _, text := range days {
			if d, err := ParseDays(text); err != nil {
				t.Fatal(err)
			} else if rng.IntN(3) == 0 {
				exclude = append(exclude, d)
			}
		}
		s, err := plain.Within(between, exclude)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "every due time") || window == "" {
				t.Errorf("%s in %s: %v", text, window, err)
			}
			continue
		}
		from := time.Date(2027, []time.Month{3, 4, 10, 11, 12}[rng.IntN(5)], 1+rng.IntN(31), rng.IntN(24), 0, 0, 0, zone)
		until := from.AddDate(0, 0, 9)
		var want, got []time.Time
		for due, _ := plain.Next(from); due.Before(until); due, _ = plain.Next(due) {
			minute := due.Hour()*60 + due.Minute()
			in := window == "" || between.from < between.to && minute >= between.from && minute < between.to ||
				between.from > between.to && (minute >= between.from || minute < between.to)
			if in && !slices.ContainsFunc(exclude, func(d Days) bool { return d.has(due) }) {
				want = append(want, due)
			}
		}
		for due, ok := s.Next(from); ok && due.Before(until); due, ok = s.Next(due) {
			got = append(got, due)
		}
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Errorf("%s in %s from %v, in %s without %v:\ngot  %v\nwant %v", text, zone, from, window, exclude, got, want)
		}
		if n, last := s.Count(from, until.Add(-1)); n != uint64(len(want)) || n > 0 && !last.Equal(want[n-1]) {
			t.Errorf("%s: counted %d up to %v", text, n, last)
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	window, err := ParseWindow("22:00-06:00")
	if err != nil {
		t.Fatal(err)
	}
	all, err := ParseDays("01-01..12-31")
	if err != nil {
		t.Fatal(err)
	}
	for text, left := range map[string]bool{"0 12 * * *": false, "0 3 * * *": true, "@at 2030-01-01T12:00": false,
		"@at 2030-01-01T03:00": true, "@reboot": true, "@manual": true, "* * * * * *": true} {
		s, err := Parse(text, Options{Seconds: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Within(window, nil); (err == nil) != left {
			t.Errorf("%s in the window: %v", text, err)
		}
		if _, err := s.Within(Window{}, []Days{all}); (err == nil) != (s.kind < At) {
			t.Errorf("%s without any day: %v", text, err)
		}
	}
}
