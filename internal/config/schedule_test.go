package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestScheduleOfAJob(t *testing.T) {
	r := request(t)
	r.Env = []string{"GOPHD_JOB_TIMEZONE=America/New_York"}
	c := load(t, parsed(t, r, "--schedule", " 30  2 * * *", "x"))
	s := c.Jobs[0]
	if s.Calendar == nil || s.Calendar.String() != "30 2 * * *" || s.Calendar.Zone().String() != "America/New_York" ||
		s.Interval != 0 || s.RunAtStart || s.Cadence() != "on 30 2 * * * America/New_York" {
		t.Errorf("%+v, calendar %+v", s.Schedule, s.Calendar)
	}
	for key, want := range map[string]string{"job.interval": "", "job.run_at_start": "false", "job.schedule": " 30  2 * * *"} {
		if got := c.Shown(key); got != want {
			t.Errorf("%s is shown as %q, want %q", key, got, want)
		}
	}
	if c.Warnings != nil {
		t.Errorf("warnings %q", c.Warnings)
	}
	r.Env = []string{"GOPHD_JOB_SECONDS=yes", "GOPHD_JOB_RUN_AT_START=yes", "GOPHD_JOB_START_LIMIT=5"}
	c = load(t, parsed(t, r, "--schedule", "*/10 * * * * *", "--overlap", "allow", "x"))
	if s := c.Jobs[0]; s.Calendar.Zone() != time.Local || !s.RunAtStart || s.MaxParallel != 2 || c.Warnings != nil {
		t.Errorf("%+v, warnings %q", s.Schedule, c.Warnings)
	}
}

// ~ and the splay are the same for a job at each start, and differ between jobs.
func TestDrawnTimesDependOnTheJob(t *testing.T) {
	seen, splays := map[int64]string{}, map[time.Duration]string{}
	r := request(t)
	r.Env = []string{"GOPHD_JOB_SPLAY=1h", "GOPHD_JOB_JITTER=30s"}
	for _, name := range strings.Fields("a b c d") {
		for range 2 {
			s := load(t, parsed(t, r, "-n", name, "--schedule", "~ ~ ~ ~ *", "x")).Jobs[0]
			if other, ok := splays[s.Splay]; ok && other != name || s.Splay >= time.Hour || s.Jitter != 30*time.Second {
				t.Errorf("%s has the splay %v and the jitter %v", name, s.Splay, s.Jitter)
			}
			splays[s.Splay] = name
			due, _ := s.Calendar.Next(time.Unix(0, 0))
			if other, ok := seen[due.Unix()]; ok && other != name {
				t.Errorf("%s and %s have the same due time", name, other)
			}
			seen[due.Unix()] = name
		}
	}
	if len(seen) != 4 || len(splays) != 4 {
		t.Errorf("due times %v, splays %v", seen, splays)
	}
}

func TestRefusedSchedules(t *testing.T) {
	for _, tt := range []struct {
		file, want string // "" for an accepted one
	}{
		{"schedule: '0 4 * * *', interval: 5", `job.schedule "0 4 * * *": ` + "job.interval is set too, and each of them says when the " +
			"job runs; leave one of them out"},
		{"schedule: '0 4 * * *', once: yes", `job.schedule "0 4 * * *": ` + "job.once is set too, and each of them says when the " +
			"job runs; leave one of them out"},
		{"schedule: '0 4 * * *', service: yes", `job.schedule "0 4 * * *": ` + "job.service is set too, and each of them says when the " +
			"job runs; leave one of them out"},
		{"schedule: '0 4 * * *', service: no", ""},
		{"schedule: '0 25 * * *'", `job.schedule "0 25 * * *": column 3: hour "25": expected 0 to 23`},
		{"schedule: '0 0 30 2 *'", `job.schedule "0 0 30 2 *": ` + "column 5: never matches: expected a day of month that exists in " +
			"month 2, not 30"},
		{"schedule: '* * * * * *'", `job.schedule "* * * * * *": ` + "column 11: 6 fields: expected 5 fields: minute, hour, day of " +
			"month, month, day of week; a sixth, the second, needs job.seconds: true"},
		{"schedule: '@dayly'", `job.schedule @dayly: column 1: "@dayly": expected @daily`},
		{"schedule: '@daily', timezone: Europe/Berln", `job.timezone Europe/Berln: time zone "Europe/Berln" is not known; did ` +
			"you mean Europe/Berlin?"},
		{"timezone: Europe/Berlin", "job.timezone Europe/Berlin: there is no schedule; set job.schedule, or leave it out"},
		{"catch_up: none", "job.catch_up none: there is no schedule; set job.schedule, or leave it out"},
		{"schedule: '@daily', catch_up: all", "job.catch_up all: there may be thousands; set job.catch_up_window"},
		{"schedule: '@daily', catch_up: all, catch_up_window: 24h, overlap: skip", "job.catch_up all: each due time has its run, " +
			"so job.overlap must be queue; leave one of them out"},
		{"schedule: '@daily', catch_up: all, catch_up_window: 24h, start_deadline: 1h", ""},
		{"schedule: '@daily', between: 22-06", `job.between 22-06: not a time of day; write one such as 22:00-06:00, whose end ` +
			"is not in it"},
		{"schedule: '@daily', between: 01:00-06:00", "job.schedule @daily: every due time is left out by the window and the " +
			"exclusions; see job.between and job.exclude"},
		{"schedule: '@daily', exclude: [01-01..12-31]", "job.schedule @daily: every due time is left out by the window and the " +
			"exclusions; see job.between and job.exclude"},
		{"schedule: '@daily', exclude: [12-24, tuesday]", `job.exclude: "tuesday" is not a day; write one such as 2026-12-24, ` +
			"12-24 for each year, or 2026-12-24..2027-01-02; or an expression such as * * 24-26 12 *, or a file such as ./holidays"},
		{"schedule: '@daily', exclude: [12-24, '* * * * 5#6']", `job.exclude: "* * * * 5#6": column 11: day of week "6": ` +
			"expected a week of the month from 1 to 5"},
		{"schedule: '@daily', exclude: '0 * * * * *'", `job.exclude: "0 * * * * *": column 11: 6 fields: expected 5 fields: ` +
			"minute, hour, day of month, month, day of week; a sixth, the second, needs job.seconds: true"},
		{"schedule: '@daily', exclude: '0 * * * *; '", "job.exclude: an empty value; write one, or several with commas between them"},
		{"schedule: '@daily', exclude: '~/holidays'", "job.exclude: ~/holidays: ~ is expanded by shells only; write the full path"},
		{"schedule: '@daily', exclude: '* * * * *'", "job.schedule @daily: every due time is left out by the window and the " +
			"exclusions; see job.between and job.exclude"},
		{"schedule: '@daily', exclude: ['* * 24-26 12 *', '0 0 1,15 * *']", ""},
		{"schedule: '@daily', exclude: '12-24 , 12-25..12-26'", ""},
		{"schedule: '@daily', exclude: [12-24..12-26, 2027-01-01], between: 23:00-01:00", ""},
		{"exclude: 12-24", "job.exclude 12-24: there is no schedule; set job.schedule, or leave it out"},
		{"seconds: yes", "job.seconds yes: there is no schedule; set job.schedule, or leave it out"},
	} {
		r := request(t)
		file := write(t, filepath.Join(r.Dir, "x.yaml"), minimal+"job: {"+tt.file+"}\n")
		_, err := Load(parsed(t, r, "-c", file, "x"))
		got := ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), file+":2: ")
		}
		if got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.file, got, tt.want)
		}
	}
	_, err := Load(parsed(t, request(t), "--schedule", "@hourly", "-i", "5", "x"))
	if err == nil || !strings.HasPrefix(err.Error(), "--schedule @hourly: job.interval is set too") {
		t.Error(err)
	}
}

// TestExclusionsOfEachForm checks that a list and one text mean the same, and what of them is shown.
func TestExclusionsOfEachForm(t *testing.T) {
	for text, want := range map[string]string{
		"[12-24, 2027-05-17]":                      "12-24,2027-05-17",
		"'12-24, 2027-05-17'":                      "12-24,2027-05-17",
		"['12-24, 12-25', 12-31..01-01]":           "12-24,12-25,12-31..01-01",
		"'* * 1,15 * *'":                           "* * 1,15 * *",
		"['* * 1,15 * *', 12-24]":                  "* * 1,15 * *; 12-24",
		"'12-24,12-25; * * 1,15 * *;* 12 * * fri'": "12-24; 12-25; * * 1,15 * *; * 12 * * fri",
	} {
		r := request(t)
		write(t, filepath.Join(r.Dir, "x.yaml"), minimal+"job: {schedule: '0 12 * * *', between: '12:00-13:00', exclude: "+text+"}\n")
		c := load(t, parsed(t, r, "-c", "x.yaml", "x"))
		if got := c.Shown("job.exclude"); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		again := request(t)
		again.Env = []string{"GOPHD_JOB_SCHEDULE=0 12 * * *", "GOPHD_JOB_BETWEEN=12:00-13:00", "GOPHD_JOB_EXCLUDE=" + want}
		if other := load(t, parsed(t, again, "x")); !other.Jobs[0].Calendar.Equal(c.Jobs[0].Calendar) {
			t.Errorf("%s is not what %s means", want, text)
		}
	}
}

// TestFileOfDays checks that a file of days is read at each load, and that an error names it and its line.
func TestFileOfDays(t *testing.T) {
	r := request(t)
	days := write(t, filepath.Join(r.Dir, "holidays"), "# Hamburg\n12-25..12-26\n2027-03-26 # Good Friday\n")
	write(t, filepath.Join(r.Dir, "x.yaml"), minimal+"job: {schedule: '0 12 * * *', timezone: UTC, exclude: [./holidays, 12-24]}\n")
	from := time.Date(2026, 12, 23, 13, 0, 0, 0, time.UTC)
	before := load(t, parsed(t, r, "-c", "x.yaml", "x"))
	if due, _ := before.Jobs[0].Calendar.Next(from); due.Day() != 27 {
		t.Errorf("due on %v", due)
	}
	if got := before.Shown("job.exclude"); got != days+",12-24" {
		t.Errorf("shown as %s", got)
	}
	again, err := Decode(before.Encode())
	if err != nil || !again.Jobs[0].Calendar.Equal(before.Jobs[0].Calendar) {
		t.Errorf("after a handoff: %v", err)
	}
	write(t, days, "12-27")
	after := load(t, parsed(t, r, "-c", "x.yaml", "x"))
	if due, _ := after.Jobs[0].Calendar.Next(from); due.Day() != 25 {
		t.Errorf("after the change due on %v", due)
	}
	if got := Changed(before.Encode(), after.Encode()); len(got) != 1 || got[0] != "job.exclude" {
		t.Errorf("changed: %q", got)
	}
	for text, want := range map[string]string{
		"12-24\n\n2027-02-29\n": days + `:3: "2027-02-29" is not a day; write one such as 2026-12-24, 12-24 for each year, or ` +
			"2026-12-24..2027-01-02",
		"\xff\xfe1\x002\x00": filepath.Join(r.Dir, "x.yaml") + ":2: job.exclude " + days +
			": UTF-16 text, as some Windows editors save it; save the file as UTF-8",
	} {
		write(t, days, text)
		if _, err := Load(parsed(t, r, "-c", "x.yaml", "x")); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if err := os.Remove(days); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(r.Dir, "x.yaml") + ":2: job.exclude " + days + ": no such file or directory; create it, or leave it out"
	if _, err := Load(parsed(t, r, "-c", "x.yaml", "x")); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	get := parsed(t, r, "-c", "x.yaml", "x")
	get.NeedCommand = false
	if c := load(t, get); len(c.Warnings) != 1 || c.Warnings[0] != want+"; its days are not excluded here" {
		t.Errorf("warnings %q", c.Warnings)
	}
}

// A file of days of one of many jobs that cannot be read makes only that job unfit, and what is wrong in one
// that all have is reported once.
func TestFileOfDaysOfManyJobs(t *testing.T) {
	dir := t.TempDir()
	days := write(t, dir+"/days", "12-24\n12-32\n")
	c := jobsOf(t, "job: {command: x, schedule: '@daily'}\njobs:\n  a: {}\n  b: {exclude: [/none/days]}\n")
	if got := fmt.Sprint(c.Unfit(c.Jobs[1])); c.Unfit(c.Jobs[0]) != nil || !strings.Contains(got, "jobs.b.exclude /none/days: no such file") {
		t.Errorf("unfit: %s", got)
	}
	x := write(t, dir+"/x.yaml", minimal+"job: {command: x, schedule: '@daily', exclude: "+days+"}\njobs: {a: {}, b: {}, c: {}}\n")
	_, err := Load(parsed(t, request(t), "-c", x))
	if err == nil || strings.Count(err.Error(), days+`:2: "12-32" is not a day`) != 1 {
		t.Errorf("%v", err)
	}
}

// In YAML a plain value must not start as many schedules do. The library does not say so.
func TestScheduleWithoutQuotesInYAML(t *testing.T) {
	for text, want := range map[string]string{
		"job:\n  schedule: @daily\n":             "x.yaml:3: not YAML: a value that starts with @ needs quotes",
		"job:\n  schedule: */5 * * * *\n":        "x.yaml:3: not YAML: a value that starts with * needs quotes",
		"job:\n  schedule:  * * * * *\n":         "x.yaml:3: not YAML: a value that starts with * needs quotes",
		"job: {schedule: @daily}\n":              "x.yaml:2: not YAML: a value that starts with @ needs quotes",
		"job:\n  name: x\n  schedule: '@daily\n": "x.yaml:4: not YAML: found unexpected end of stream",
	} {
		r := request(t)
		write(t, filepath.Join(r.Dir, "x.yaml"), minimal+text)
		if _, err := Load(parsed(t, r, "-c", "x.yaml", "x")); err == nil || err.Error() != filepath.Join(r.Dir, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// gophd uses UTC if it does not know the zone of TZ. A schedule would run at other times than its user
// means.
func TestScheduleNeedsAKnownZone(t *testing.T) {
	before := time.Local
	t.Cleanup(func() { time.Local = before })
	t.Setenv("TZ", "Europe/Berln")
	time.Local = time.UTC // as package time does at the start of a program
	_, err := Load(parsed(t, request(t), "--schedule", "@daily", "x"))
	const want = `--schedule @daily: the zone of TZ: time zone "Europe/Berln" is not known; did you mean Europe/Berlin?; ` +
		"or set job.timezone"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	r := request(t)
	r.Env = []string{"GOPHD_JOB_TIMEZONE=Europe/Berlin"}
	load(t, parsed(t, r, "--schedule", "@daily", "x"))
	if err := os.Unsetenv("TZ"); err != nil {
		t.Fatal(err)
	}
	load(t, parsed(t, request(t), "--schedule", "@daily", "x"))
}
