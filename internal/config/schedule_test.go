package config

import (
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
			"excluded days; see job.between and job.exclude"},
		{"schedule: '@daily', exclude: [01-01..12-31]", "job.schedule @daily: every due time is left out by the window and the " +
			"excluded days; see job.between and job.exclude"},
		{"schedule: '@daily', exclude: [12-24, tuesday]", `job.exclude: "tuesday" is not a day; write one such as 2026-12-24, ` +
			"12-24 for each year, or 2026-12-24..2027-01-02"},
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
