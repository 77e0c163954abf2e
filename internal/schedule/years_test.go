package schedule

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestYears(t *testing.T) {
	for _, c := range []struct{ text, from, want string }{
		{"0 0 1 1 * 2030", "2026-11-30T00:00:00Z", "2030-01-01T00:00:00Z"},
		{"0 0 1 1 * 2020-2028/4", "2026-11-30T00:00:00Z", "2028-01-01T00:00:00Z"},
		{"30 0 0 1 1 * 2027,2099", "2027-01-01T00:00:30Z", "2099-01-01T00:00:30Z"},
		{"15 0 0 1 1 * *", "2099-06-01T00:00:00Z", "2100-01-01T00:00:15Z"},
		{"0 0 29 2 * 2027-2032", "2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"},
		{"@hourly", "2026-11-30T00:00:00Z", "2026-11-30T01:00:00Z"},
		{"0 0 * * *", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"},
		{"0 0 1 1 * */30", "2031-01-01T00:00:00Z", "2060-01-01T00:00:00Z"},
		{"0 0 1 1 * 2098", "2098-01-01T00:00:00Z", "none"},
	} {
		s, err := Parse(c.text, Options{Year: true})
		if err != nil {
			t.Fatal(err)
		}
		from, _ := time.Parse(time.RFC3339, c.from)
		got := "none"
		if due, ok := s.Next(from); ok {
			got = due.Format(time.RFC3339)
		}
		if got != c.want {
			t.Errorf("%s after %s: %s, want %s", c.text, c.from, got, c.want)
		}
	}
}

func TestYearErrors(t *testing.T) {
	for text, want := range map[string]string{
		"0 0 1 1 * 1969":      `column 11: year "1969": expected 1970 to 2099`,
		"0 0 1 1 * 2100":      `column 11: year "2100": expected 1970 to 2099`,
		"0 0 1 1 * 2030-2029": `expected an end from 2030 to 2099`,
		"0 0 29 2 * 2027":     `column 5: never matches: expected a day of month that exists in month 2 of 2027, not 29`,
		"0 0 0 29 2 * 2027":   `column 7: never matches: expected a day of month that exists in month 2 of 2027, not 29`,
		"0 0 0 1 1 * 2027 x":  `8 fields: expected 5 fields`,
		"0 0 1 1 * mon":       `column 11: year "mon": expected 1970 to 2099`,
		"0 0 1 1 * 2027,*,?":  `? is for a day`,
		"0 0 1 1 * 2027 2027": `column 11: day of week "2027": expected 0 to 7`, // seven fields
	} {
		_, err := Parse(text, Options{Year: true})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := Parse("0 0 1 1 * 2027", Options{}); err == nil {
		t.Error("a year without the option")
	}
}

// The years of a schedule are those of its runs, and without a year it has the same runs in them.
func TestYearsSelectRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"*/7 3 * * 1", "0 0 29 2 *", "5 4 1 */5 *", "0 12 L * *", "0 0 1 1 *"}).Draw(t, "fields")
		low := rapid.IntRange(1970, 2090).Draw(t, "low")
		high := rapid.IntRange(low+8, 2099).Draw(t, "high") // there is a 29 February
		years := time.Date(low, 1, 1, 0, 0, 0, 0, time.UTC).Format("2006") + "-" +
			time.Date(high, 1, 1, 0, 0, 0, 0, time.UTC).Format("2006")
		with, err := Parse(text+" "+years, Options{Year: true})
		if err != nil {
			t.Fatal(err)
		}
		encoded, _ := json.Marshal(&with)
		var decoded Schedule
		if err := json.Unmarshal(encoded, &decoded); err != nil || !decoded.Equal(&with) {
			t.Fatalf("%s: %v", encoded, err)
		}
		without, _ := Parse(text, Options{})
		after := time.Date(rapid.IntRange(1965, 2099).Draw(t, "from"), 5, 17, 0, 0, 0, 0, time.UTC)
		for range 20 {
			due, ok := without.Next(after)
			for ok && due.Year() < low {
				due, ok = without.Next(time.Date(low, 1, 1, 0, 0, 0, -1, time.UTC))
			}
			ok = ok && due.Year() <= high
			got, found := with.Next(after)
			if ok != found || ok && !got.Equal(due) {
				t.Fatalf("after %s: %s %v, want %s %v", after, got, found, due, ok)
			}
			if !ok {
				return
			}
			after = due
		}
	})
}
