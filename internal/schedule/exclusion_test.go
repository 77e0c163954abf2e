package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestNextLeavesOutWhatIsExcluded compares Next with all due times of the expression, of which a test written
// without the package leaves out some: those outside the window, and those on a day or at a time that is excluded.
func TestNextLeavesOutWhatIsExcluded(t *testing.T) {
	t.Parallel()
	names := []string{"Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "UTC", "Pacific/Apia"}
	rapid.Check(t, func(t *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		zone, err := LoadZone(names[pick(len(names))])
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("@every %dm", 1+pick(500))
		if e := anyExpression(pick, pick(6) == 0); pick(5) > 0 {
			text = e.text
		}
		plain, err := Parse(text, Options{Zone: zone, Seconds: true})
		if err != nil {
			return
		}
		between, inWindow := anyWindow(t, pick)
		var exclude []Exclusion
		var excluded []func(time.Time) bool
		for range pick(4) {
			x, has := anyExclusion(t, pick, zone)
			exclude, excluded = append(exclude, x), append(excluded, has)
		}
		isLeft := func(due time.Time) bool {
			return inWindow(due) && !slices.ContainsFunc(excluded, func(has func(time.Time) bool) bool { return has(due) })
		}
		s, err := plain.Within(between, exclude)
		from := time.Date(2027, time.Month(1+pick(12)), 1+pick(31), pick(24), 0, 0, 0, zone)
		if pick(5) == 0 {
			from = time.Date(2011, 12, 29, 0, 0, 0, 0, zone) // a day later there is none in Apia
		}
		var got, want []time.Time
		all, due := 0, from
		for ok := true; all < 2000; all++ {
			if due, ok = plain.Next(due); !ok {
				break
			}
			if isLeft(due) {
				want = append(want, due)
			}
		}
		if err != nil {
			if len(want) > 0 {
				t.Fatalf("%s in %s, in %s without %v: %v is left, and the error is %v", text, zone, between, exclude, want[0], err)
			}
			return
		}
		for at, ok := s.Next(from); ok && !at.After(due); at, ok = s.Next(at) {
			got = append(got, at)
		}
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			n := 0
			for n < min(len(got), len(want)) && got[n].Equal(want[n]) {
				n++
			}
			t.Fatalf("%s in %s from %v, in %s without %v:\ngot  %v\nwant %v", text, zone, from, between, exclude,
				got[n:min(n+1, len(got))], want[n:min(n+1, len(want))])
		}
		if n, last := s.Count(from, due); n != uint64(len(want)) || n > 0 && !last.Equal(want[n-1]) {
			t.Fatalf("%s: counted %d up to %v, want %d", text, n, last, len(want))
		}
	})
}

func anyWindow(t *rapid.T, pick picker) (Window, func(time.Time) bool) {
	if pick(2) == 0 {
		return Window{}, func(time.Time) bool { return true }
	}
	from, to := pick(48)*30, pick(49)*30
	w, err := ParseWindow(fmt.Sprintf("%d:%02d-%d:%02d", from/60, from%60, to/60, to%60))
	if (err != nil) != (from == to) {
		t.Fatal(err)
	}
	return w, func(due time.Time) bool {
		minute := due.Hour()*60 + due.Minute()
		return minute >= from && minute < to || from > to && (minute >= from || minute < to) || from == to
	}
}

func anyExclusion(t *rapid.T, pick picker, zone *time.Location) (Exclusion, func(time.Time) bool) {
	var text string
	var has func(time.Time) bool
	switch e := anyExpression(pick, pick(4) == 0); pick(3) {
	case 0:
		day := time.Date(2027, 1, 1+pick(365), 0, 0, 0, 0, time.UTC)
		last := day.AddDate(0, 0, pick(20))
		text = day.Format(time.DateOnly) + ".." + last.Format(time.DateOnly)
		has = func(due time.Time) bool {
			y, m, d := due.Date()
			on := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
			return !on.Before(day) && !on.After(last)
		}
	case 1: // whole hours or days
		fields := strings.Fields(e.text)
		text = one(pick, "* * ", "* 1-22 ", "0-58 * ") + strings.Join(fields[len(fields)-3:], " ")
		start := strings.Fields(text)
		has = func(due time.Time) bool {
			c := civilOf(due)
			return e.day(c) && (start[1] == "*" || c.Hour() >= 1 && c.Hour() <= 22) && (start[0] == "*" || c.Minute() < 59)
		}
	default:
		text = e.text
		has = func(due time.Time) bool {
			wall := civilOf(due).Unix()
			return e.matches(wall - wall%e.unit)
		}
	}
	x, err := ParseExclusion(text, Options{Zone: zone, Seconds: true})
	if err != nil {
		if !strings.Contains(err.Error(), "never matches") {
			t.Fatalf("%q: %v", text, err)
		}
		return Exclusion{}, func(time.Time) bool { return false }
	}
	return x, has
}

// civilOf returns what the clock shows, to the second.
func civilOf(t time.Time) civil {
	year, month, day := t.Date()
	return civil{time.Date(year, month, day, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)}
}

func TestRefusedExclusions(t *testing.T) {
	for text, want := range map[string]string{
		"tuesday":       `"tuesday" is not a day`,
		"@daily":        `"@daily" is not a day`,
		"@every 5m":     `"@every 5m": an expression that excludes times has fields`,
		"~ * * * *":     `"~ * * * *": ~ draws a value`,
		"* 24 * * *":    `"* 24 * * *": column 3: hour "24": expected 0 to 23`,
		"* * * *":       `"* * * *": column 7: 4 fields`,
		"* * 30 2 *":    `"* * 30 2 *": column 5: never matches`,
		"0 * * 1 * * *": `"0 * * 1 * * *": column 11: 7 fields`,
	} {
		if _, err := ParseExclusion(text, Options{Seconds: true}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestDayFile(t *testing.T) {
	exclude, _, err := ParseDayFile("\ufeff# holidays\r\n\r\n  12-24..12-26  # each year\n2027-05-17\t\n#\n2026-12-31..2027-01-02")
	if got := fmt.Sprint(exclude); err == nil || got != "[]" {
		t.Errorf("a byte order mark is no day: %s, %v", got, err)
	}
	exclude, _, err = ParseDayFile("# holidays\r\n\r\n  12-24..12-26  # each year\n2027-05-17\t\n#\n2026-12-31..2027-01-02")
	if got := fmt.Sprint(exclude); err != nil || got != "[12-24..12-26 2027-05-17 2026-12-31..2027-01-02]" {
		t.Errorf("%s, %v", got, err)
	}
	for text, line := range map[string]int{"12-24\n12-24, 12-25\n": 2, "\n\nx": 3, "2027-02-29": 1, "12-24 holiday": 1,
		"* * 24 12 *": 1, strings.Repeat("12-24\n", maxDays+1): maxDays + 1, "12-24\x00": 1} {
		if exclude, at, err := ParseDayFile(text); err == nil || at != line || exclude != nil {
			t.Errorf("%.20q: line %d, %v", text, at, err)
		}
	}
}

// FuzzDayFile checks that any text is either refused with one of its lines, or is a list of days each of which
// is read again as it is shown.
func FuzzDayFile(f *testing.F) {
	for _, text := range []string{"12-24..12-26 # x\n\n2027-05-17", "\r\n02-29\r\n", "2027-01-02..2026-12-24", "#", "12-31..01-01",
		"9999-12-31..9999-12-31", "0000-01-01", "2026-12-24..12-26"} {
		f.Add(text, int64(1_800_000_000))
	}
	daily, err := Parse("0 12 * * *", Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		exclude, line, err := ParseDayFile(text)
		if err != nil {
			if line < 1 || line > 1+strings.Count(text, "\n") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("line %d: %v", line, err)
			}
			return
		}
		for _, x := range exclude {
			if again, err := ParseExclusion(x.String(), Options{}); err != nil || !again.equal(x) {
				t.Fatalf("%s is read again as %s: %v", x, again, err)
			}
		}
		s, err := daily.Within(Window{}, exclude)
		if err != nil {
			return
		}
		due, ok := s.Next(time.Unix(at%4e9, 0))
		for _, x := range exclude {
			if ok && x.days.has(dayOf(due)) {
				t.Fatalf("%s is due on %v", x, due)
			}
		}
	})
}
