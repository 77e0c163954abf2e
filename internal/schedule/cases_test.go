package schedule

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// runs returns the first due times from a local time on, as the clock shows them.
func runs(t *testing.T, text, zoneName, from, layout string, count int) string {
	t.Helper()
	zone := load(t, zoneName)
	s, err := Parse(text, Options{Zone: zone})
	if err != nil {
		t.Error(err)
		return ""
	}
	after, err := time.ParseInLocation("2006-01-02T15:04", from, zone)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for due, ok := s.Next(after.Add(-1)); ok && len(list) < count; due, ok = s.Next(due) {
		list = append(list, due.Format(layout))
	}
	return strings.Join(list, ", ")
}

// TestExamplesOfTheDocs computes the runs in the table of docs/schedule.md.
func TestExamplesOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/schedule.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(.+)` \\| (\\S+) \\| (\\d\\S+) \\| (.+) \\|$").FindAllStringSubmatch(string(text), -1)
	for _, row := range rows {
		if got := runs(t, row[1], row[2], row[3], "01-02 15:04 MST", 1+strings.Count(row[4], ",")); got != row[4] {
			t.Errorf("%s in %s: got %s, want %s", row[1], row[2], got, row[4])
		}
	}
	if len(rows) < 10 {
		t.Errorf("%d examples found", len(rows))
	}
}

// TestCasesThatPeersGetWrong has expressions, zones and times of the test suites and bug reports of
// others, with the run by the rule of cron(8), and what others answer.
func TestCasesThatPeersGetWrong(t *testing.T) {
	for _, c := range []struct{ text, zone, from, want, peers string }{
		{"30 2 * * *", "America/New_York", "2026-03-08T00:00", "2026-03-08 03:00 EDT",
			"robfig, gronx, cronexpr: the next day; go-cron: 03:30; go-quartz and supercronic: 01:30"},
		{"*/20 * * * *", "America/New_York", "2026-03-08T01:50", "2026-03-08 03:00 EDT", "go-quartz: an error"},
		{"0 * * * *", "America/New_York", "2026-11-01T01:01", "2026-11-01 01:00 EST", "gronx, go-quartz: 02:00"},
		{"30 1 * * *", "America/New_York", "2026-11-01T01:31", "2026-11-02 01:30 EST", "robfig, go-cron, cronexpr: again at 01:30"},
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03T01:00", "2018-11-04 01:00 -02",
			"robfig, go-cron, gronx, cronexpr: the day is lost; go-quartz: 23:00 of the day before"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-05T01:46", "2026-04-06 01:45 +1030", "robfig, go-cron, cronexpr: again"},
		{"0 0 13 * 5", "UTC", "2026-11-01T00:00", "2026-11-06 00:00 UTC", "go-cron: both must match; go-quartz: refused"},
		{"0 0 */2 * 1", "UTC", "2026-11-03T00:00", "2026-11-09 00:00 UTC", "robfig, cronexpr: the day of month alone is enough"},
		{"0 0 29 2 *", "UTC", "2096-03-01T00:00", "2104-02-29 00:00 UTC",
			"robfig, go-cron, cronexpr: none; go-quartz: 1 March 2097"},
		{"0 0 30 12 *", "Pacific/Apia", "2011-12-01T00:00", "2012-12-30 00:00 +14", "robfig, go-cron: Next does not return beside that day"},
		{"0 0 * * 5-7", "UTC", "2026-11-28T12:00", "2026-11-29 00:00 UTC", "robfig, supercronic: refused; cronexpr: Sunday is lost"},
		{"*/7 * * * *", "UTC", "2026-11-29T00:50", "2026-11-29 00:56 UTC", "all agree, and on 01:00 after it"},
		{"0 0 L * *", "UTC", "2026-02-01T00:00", "2026-02-28 00:00 UTC", "robfig: refused"},
		{"30 8 * * *", "America/Los_Angeles", "2040-12-31T12:00", "2041-01-01 08:30 PST",
			"package time: the offset of that day has a bound in the past"},
		{"0 3 * * *", "Antarctica/Casey", "2009-10-17T12:00", "2009-10-18 05:00 +11", "a gap of exactly 3 hours is no correction"},
	} {
		if got := runs(t, c.text, c.zone, c.from, "2006-01-02 15:04 MST", 1); got != c.want {
			t.Errorf("%s in %s from %s: got %s, want %s (%s)", c.text, c.zone, c.from, got, c.want, c.peers)
		}
	}
}

func TestNotes(t *testing.T) {
	for _, c := range []struct{ text, zone, due, want string }{
		{"30 2 * * *", "America/New_York", "2026-03-08T07:00:00Z", "02:30 does not exist on this day; runs right after the clock change"},
		{"30 2 * * *", "America/New_York", "2026-03-09T06:30:00Z", ""},
		{"*/30 * * * *", "America/New_York", "2026-03-08T07:00:00Z", "02:00 does not exist; wildcards follow the clock"},
		{"*/30 * * * *", "America/New_York", "2026-03-08T07:30:00Z", ""},
		{"*/30 2 * * *", "America/New_York", "2026-03-09T06:00:00Z", "2026-03-08 02:00 does not exist; wildcards follow the clock"},
		{"30 1 * * *", "America/New_York", "2026-11-01T05:30:00Z", "01:30 comes twice on this day; runs the first time only"},
		{"30 * * * *", "America/New_York", "2026-11-01T05:30:00Z", "01:30 comes twice; runs both times"},
		{"30 * * * *", "America/New_York", "2026-11-01T06:30:00Z", "01:30 comes twice; runs for the second time"},
		{"30 * * * *", "America/New_York", "2026-11-01T07:30:00Z", ""},
		{"10 30 1 * * *", "America/New_York", "2026-11-01T05:30:10Z", "01:30:10 comes twice on this day; runs the first time only"},
		{"0 0 * * *", "Pacific/Apia", "2011-12-30T10:00:00Z",
			"2011-12-30 00:00 does not exist; the change is longer than 3 hours, so nothing is made up"},
		{"0 12 * * *", "Pacific/Kwajalein", "1969-09-30T01:00:00Z", "12:00 comes twice; runs both times"},
		{"0 12 * * *", "Pacific/Kwajalein", "1969-10-01T00:00:00Z", "12:00 comes twice; runs for the second time"},
		{"@at 2026-03-08T02:30", "America/New_York", "2026-03-08T07:00:00Z",
			"02:30 does not exist on this day; runs right after the clock change"},
		{"@every 30m", "America/New_York", "2026-11-01T06:30:00Z", ""},
		{"0 * * * *", "UTC", "2026-11-01T06:00:00Z", ""},
	} {
		s, err := Parse(c.text, Options{Zone: load(t, c.zone), Seconds: true})
		if err != nil {
			t.Fatal(err)
		}
		due, err := time.Parse(time.RFC3339, c.due)
		if err != nil {
			t.Fatal(err)
		}
		if next, _ := s.Next(due.Add(-1)); !next.Equal(due) {
			t.Errorf("%s in %s: %v is not due; the next is %v", c.text, c.zone, due, next)
		}
		if got := s.Note(due); got != c.want {
			t.Errorf("%s in %s at %s:\ngot  %q\nwant %q", c.text, c.zone, c.due, got, c.want)
		}
	}
}
