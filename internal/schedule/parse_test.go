package schedule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestErrorsNameThePositionAndWhatWasExpected has an expression, and the error that Parse returns for it.
func TestErrorsNameThePositionAndWhatWasExpected(t *testing.T) {
	apia := load(t, "Pacific/Apia")
	for _, c := range [][2]string{
		{"", "column 1: empty: expected 5 fields: minute, hour, day of month, month, day of week, or a name such as @daily"},
		{" * * * *", "column 8: 4 fields: expected 5 fields: minute, hour, day of month, month, day of week"},
		{"* * * * * *", "column 11: 6 fields: expected 5 fields: minute, hour, day of month, month, day of week; " +
			"a sixth, the second, needs the option seconds"},
		{"60 * * * *", `column 1: minute "60": expected 0 to 59`},
		{"\t*  25 * * *", `column 5: hour "25": expected 0 to 23`},
		{"* * 0 * *", `column 5: day of month "0": expected 1 to 31`},
		{"* * * foo *", `column 7: month "foo": expected 1 to 12 or jan to dec`},
		{"* * * * 8", `column 9: day of week "8": expected 0 to 7 or sun to sat`},
		{"* * * * L", `column 9: day of week "L": expected 0 to 7 or sun to sat`},
		{"1,,2 * * * *", `column 3: minute ",": expected 0 to 59`},
		{"1, * * * *", `column 3: minute: expected 0 to 59`},
		{"*-5 * * * *", `column 2: minute "-": expected a comma or a blank after *`},
		{"*/0 * * * *", `column 3: minute "0": expected a step from 1 to 60`},
		{"*/61 * * * *", `column 3: minute "61": expected a step from 1 to 60`},
		{"* 22-2 * * *", `column 6: hour "2": expected an end from 22 to 23; two ranges are 22-23,0-2`},
		{"* * * nov-feb *", `column 11: month "feb": expected an end from 11 to 12; two ranges are 11-12,1-2`},
		{"1-2-3 * * * *", `column 4: minute "-": expected a comma or a blank after 1-2`},
		{"? * * * *", `column 1: minute "?": expected 0 to 59; ? is for a day`},
		{"5~3 * * * *", `column 3: minute "3": expected an end from 5 to 59 after ~`},
		{"1é * * * *", `column 2: minute "é": expected a comma or a blank after 1`},
		{"* * L-31 * *", `column 7: day of month "31": expected 1 to 30 days before the last day`},
		{"* * * * 5#6", `column 11: day of week "6": expected a week of the month from 1 to 5`},
		{"99999999999999999999 * * * *", `column 1: minute "99999999999999999999": expected 0 to 59`},
		{"* * * * *\n", `column 10: day of week "\n": expected a comma or a blank after *`},
		{"0 0 31 2 *", "column 5: never matches: expected a day of month that exists in month 2, not 31"},
		{"0 0 31 4,6,9,11 *", "column 5: never matches: expected a day of month that exists in month 4,6,9,11, not 31"},
		{"0 0 20~31 2 *", "column 5: never matches: expected a day of month that exists in month 2, not 20~31"},
		{"@dayly", `column 1: "@dayly": expected @daily`},
		{"@", `column 1: "@": expected one of @hourly @daily @midnight @weekly @monthly @yearly @annually @every @at @reboot @manual`},
		{"@daily 1", `column 8: "1": expected nothing more`},
		{"@EVERY 90s", `column 1: "@EVERY": expected @every`},
		{"@every", `column 8: "" after @every: expected a duration of at least 1ms, such as 90s or 1h30m`},
		{"@every -5m", `column 8: "-5m" after @every: expected a duration of at least 1ms, such as 90s or 1h30m`},
		{"@at 2026-02-30T12:00", `column 5: "2026-02-30T12:00" after @at: expected a local time such as 2026-12-24T18:00`},
		{"@at 2011-12-30T12:00", `column 5: 2011-12-30T12:00 does not exist in Pacific/Apia: expected a time that the clock shows`},
	} {
		_, err := Parse(c[0], Options{Zone: apia})
		if got := fmt.Sprint(err); got != c[1] {
			t.Errorf("%q:\ngot  %s\nwant %s", c[0], got, c[1])
		}
	}
}

// TestEqualExpressions has two spellings of the same schedule in each line.
func TestEqualExpressions(t *testing.T) {
	for _, c := range [][2]string{
		{"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
		{"@daily", "0 0 * * *"}, {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
		{"5 4 * * *", "0 5 4 * * *"}, {" 5\t4  * * * ", "5 4 * * *"},
		{"0 0 * JAN,mar-May Mon", "0 0 * 1,3-5 1"}, {"0 0 * * 5-7", "0 0 * * 0,5,6"}, {"0 0 * * fri-sun", "0 0 * * 0,5,6"},
		{"0 0 * * 7", "0 0 * * 0"}, {"0 0 * * 7L", "0 0 * * SUNl"}, {"0 0 * * fri#2", "0 0 * * 5#2"},
		{"50/5 * * * *", "50,55 * * * *"}, {"1,1,1-1 * * * *", "1 * * * *"}, {"0 0 lw,L * *", "0 0 L,LW * *"},
		{"0 0 ? * 1", "0 0 * * 1"}, {"0 0 1 * ?", "0 0 1 * *"},
	} {
		first, err := Parse(c[0], Options{Seconds: true})
		second, err2 := Parse(c[1], Options{Seconds: true})
		first.source = second.source
		if err := errors.Join(err, err2); err != nil || first != second {
			t.Errorf("%q and %q differ: %v\n%+v\n%+v", c[0], c[1], err, first, second)
		}
	}
}

// TestDraws checks that ~ draws from its whole range and from nothing else, always the same for a seed.
func TestDraws(t *testing.T) {
	for text, low := range map[string]int{"0~59": 0, "~": 0, "10~": 10, "~20": 0, "30~30": 30} {
		high := map[string]int{"~20": 20, "30~30": 30}[text]
		if high == 0 {
			high = 59
		}
		seen := map[int]bool{}
		for i := range 2000 {
			o := Options{Seed: fmt.Sprint("host", i)}
			s, err := Parse(text+" 0~23 * * *", o)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := Parse(text+" 0~23 * * *", o); again != s {
				t.Fatalf("%s draws differently for %s", text, o.Seed)
			}
			seen[s.minute.from(0)] = true
		}
		for n := range 64 {
			if inside := n >= low && n <= high; seen[n] != inside {
				t.Errorf("%s: %d is drawn: %t", text, n, seen[n])
			}
		}
	}
	// A change of this value would move the runs of every job that uses ~.
	s, err := Parse("~ ~ ~ * *", Options{Seed: "db1 nightly"})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); got.Format("02 15:04") != "12 17:46" {
		t.Errorf("the draw of a seed has changed to %s", got.Format("02 15:04"))
	}
}

// TestKinds checks what has due times and what has none.
func TestKinds(t *testing.T) {
	from := time.Date(2026, 12, 24, 17, 59, 30, 0, time.UTC)
	for text, c := range map[string]struct {
		kind Kind
		next string
	}{
		"@reboot":                 {Reboot, ""},
		"@manual":                 {Manual, ""},
		"@at 2026-12-24T18:00":    {At, "2026-12-24T18:00:00Z"},
		"@at 2026-12-24T17:59:30": {At, ""},
		"@every 90s":              {Every, "2026-12-24T18:00:00Z"},
		"@every 500ms":            {Every, "2026-12-24T17:59:30.5Z"},
		"@every 24h":              {Every, "2026-12-25T00:00:00Z"},
		"0 18 * * *":              {Calendar, "2026-12-24T18:00:00Z"},
	} {
		s, err := Parse(text, Options{})
		next, ok := s.Next(from)
		got := ""
		if ok {
			got = next.Format(time.RFC3339Nano)
		}
		if err != nil || s.Kind() != c.kind || got != c.next {
			t.Errorf("%s: kind %d, next %q, error %v", text, s.Kind(), got, err)
		}
	}
}

func TestLoadZoneNamesSimilarZones(t *testing.T) {
	for name, want := range map[string]string{
		"Europe/Berln": "did you mean Europe/Berlin?", "europe/berlin": "did you mean Europe/Berlin?",
		"Berlin": "did you mean Europe/Berlin?", "New York": "did you mean America/New_York?",
		"Louisville": "did you mean America/Kentucky/Louisville or America/Louisville?",
		"Local":      "write a name such as Europe/Berlin", "": "write a name such as Europe/Berlin",
	} {
		if _, err := LoadZone(name); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// FuzzParse checks that any text is either refused with a column, or has due times that grow.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"*/5 0-23/2 L-3,15W * fri#2", "@every 90s", "@at 2026-12-24T18:00", "~ 1~5 * jan 7L", "0 0 29 2 *",
		"30 2 LW ? MON-fri", "1,,2 * * * *", "* * * * * *"} {
		f.Add(text, int64(1e9), true)
	}
	zone := load(f, "America/New_York")
	f.Fuzz(func(t *testing.T, text string, at int64, seconds bool) {
		s, err := Parse(text, Options{Zone: zone, Seconds: seconds})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "column ") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		after := time.Unix(at%1e11, 0)
		for range 3 {
			next, ok := s.Next(after)
			if ok && !next.After(after) || !ok && s.Kind() >= Every {
				t.Fatalf("%q after %v: %v, %t", text, after, next, ok)
			}
			if ok {
				s.Note(next)
				after = next
			}
		}
	})
}
