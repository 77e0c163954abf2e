package main

import (
	"strings"
	"testing"
	"time"

	"gophd/internal/api"
	"gophd/internal/history"
)

// Each reason why no run starts has its word and its sentence.
func TestReasons(t *testing.T) {
	now := time.Date(2026, 11, 27, 7, 40, 0, 0, time.Local)
	next := now.Add(time.Hour)
	event := func(ago time.Duration, kind, message string) api.Event {
		return api.Event{Time: now.Add(-ago), Type: kind, Job: "x", Run: 7, Message: message}
	}
	waiting := api.Job{Name: "x", State: api.Waiting, Schedule: "every 2h0m0s", NextRun: &next}
	with := func(change func(*api.Job)) *api.Job {
		j := waiting
		change(&j)
		return &j
	}
	for _, tt := range []struct {
		name  string
		facts facts
		words string
		text  []string
	}{
		{"waiting", facts{job: &waiting}, "not_due", []string{"x is not due until 2026-11-27 08:40:00", "in 1h (every 2h0m0s)."}},
		{"due", facts{job: with(func(j *api.Job) { j.NextRun = &now })}, "due", []string{"x is due now."}},
		{"on request", facts{job: with(func(j *api.Job) { j.NextRun, j.Schedule = nil, "on request" })}, "not_scheduled",
			[]string{"x has no next run: it runs on request."}},
		{"paused", facts{job: with(func(j *api.Job) { j.State, j.Paused = api.Paused, true }),
			events: []api.Event{event(time.Hour, "request.received", "pause requested (user root, pid 5)")}}, "paused",
			[]string{"x is paused by user root, pid 5 at 06:40:00: no run", "gophd start x.", "gophd resume x."}},
		{"paused some time ago", facts{job: with(func(j *api.Job) { j.State, j.Paused = api.Paused, true })}, "paused", []string{"x is paused: no run"}},
		{"paused on standby", facts{job: with(func(j *api.Job) {
			j.State, j.Paused, j.Lease = api.Paused, true, &api.Lease{State: "standby", Holder: "PID 812 on db1"}
		})}, "paused lease", []string{"as far as its history goes. Resume it with: gophd resume x."}},
		{"stopped", facts{job: with(func(j *api.Job) { j.State = api.Stopped })}, "stopped", []string{"x was stopped: no run"}},
		{"stopped during a run", facts{job: with(func(j *api.Job) {
			j.State, j.Running = api.Stopping, []api.Run{{Run: 7, PID: 9, Started: now}}
		})}, "stopped running", []string{"x was stopped: no run", "Run 7 has been active"}},
		{"ended", facts{job: with(func(j *api.Job) { j.State, j.Ended, j.Schedule = api.Stopped, true, "once" })}, "ended",
			[]string{"x has ended by itself: it runs once.", "Run it again with: gophd start x."}},
		{"leftover", facts{job: with(func(j *api.Job) { j.State, j.NextRun = api.Starting, nil }), events: []api.Event{
			event(time.Minute, "leftover.found", "a previous gophd was killed and its run is still active: pid 7 (sh)")}}, "held",
			[]string{"x: a previous gophd was killed and its run is still active: pid 7 (sh)."}},
		{"failed", facts{job: with(func(j *api.Job) { j.State, j.Failed = api.Failed, "giving up" })}, "failed", []string{"by itself: giving up.", "gophd start x."}},
		{"standby", facts{job: with(func(j *api.Job) { j.Lease = &api.Lease{State: "standby", Holder: "PID 812 on db1"} })}, "lease",
			[]string{"on standby, the lease is held by PID 812 on db1."}},
		{"store", facts{job: with(func(j *api.Job) { j.Lease = &api.Lease{State: "seeking", Store: "memcached://m"} }), events: []api.Event{
			event(9*time.Hour, "lease.unreachable", "old"), event(8*time.Hour, "lease.reachable", "back"),
			event(2*time.Hour, "lease.unreachable", "first"), event(time.Minute, "lease.unreachable", "unreachable, retrying: refused"),
			event(time.Second, "lease.expired", "expired"),
		}}, "lease", []string{"the lease in memcached://m is not acquired yet. Since 05:40:00: unreachable, retrying: refused."}},
		{"running", facts{job: with(func(j *api.Job) {
			j.State, j.Running = api.Running, []api.Run{{Run: 7, PID: 9, Started: now.Add(-3 * time.Hour)}}
		}), events: []api.Event{event(time.Hour, "run.late", "run 7 is still active; ticks missed so far: 1")}}, "running overlap",
			[]string{"Run 7 has been active for 3h (pid 9).", "Because of that: run 7 is still active; ticks missed so far: 1."}},
		{"suspended", facts{job: with(func(j *api.Job) {
			j.State, j.Running = api.Running, []api.Run{{Run: 7, PID: 9, Started: now, Suspended: &api.Suspended{PID: 10, Name: "cat", Signal: "TTIN"}}}
		})}, "running suspended", []string{"its process 10 (cat) suspended by signal TTIN; kill -CONT 10 continues it. It does not proceed"}},
		{"skip", facts{job: with(func(j *api.Job) { j.Skip = 2 })}, "skip", []string{"The next 2 scheduled runs of x will be skipped, as requested.", "gophd skip -n 0 x."}},
		{"held", facts{job: with(func(j *api.Job) { j.NextRun = &now }), events: []api.Event{event(time.Minute, "run.ended", "old"),
			event(time.Second, "tick.held", "the tick of 07:40:00 waits: as many runs as config.max_running allows are active")}}, "held",
			[]string{"x: the tick of 07:40:00 waits: as many runs"}},
		{"gone", facts{killed: true, paused: true, ending: "last words"}, "not_running paused",
			[]string{"x does not run: its gophd, pid 812, ", "was killed or the machine went down. Its log ends with \"last words\".", "It is paused,"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.facts
			f.now, f.name = now, "x"
			f.daemon = api.Found{Name: "x", Record: &api.Record{Daemon: "x", PID: 812, Started: now}}
			if f.job == nil {
				f.daemon.Err = api.ErrNotRunning
			}
			e := f.explain()
			if got := strings.Join(e.Reasons, " "); got != tt.words {
				t.Errorf("the reasons are %s, want %s", got, tt.words)
			}
			for _, text := range append(tt.text, "No run of it has ended yet") {
				if !strings.Contains(e.Text, text) {
					t.Errorf("%q is not in %q", text, e.Text)
				}
			}
		})
	}
}

func TestHowTheLastRunEnded(t *testing.T) {
	now := time.Date(2026, 11, 27, 7, 40, 0, 0, time.Local)
	length, code := 41.0, 3
	run := func(number uint64, outcome history.Outcome, change func(*history.Run)) history.Run {
		r := history.Run{Job: "x", Number: number, Started: now.Add(-time.Hour), Ended: now.Add(-time.Minute), Duration: &length, Outcome: outcome, Due: now}
		if change != nil {
			change(&r)
		}
		return r
	}
	failed := run(96, "failure", func(r *history.Run) { r.ExitCode = &code })
	for want, f := range map[string]facts{
		`Its last run, 96, failed 1min ago after 41s with exit code 3; its output ends with "refused".`: {runs: []history.Run{failed}, output: []string{"refused"}},
		"Its last run, 97, succeeded 1min ago after 41s. Before it, run 96 failed 1min ago after 41s with exit code 3.": {
			runs: []history.Run{failed, run(97, "success", nil), {Number: 98, Started: now}}},
		"It was a retry: the 2 runs before it, due at the same time, failed too.": {runs: []history.Run{failed,
			run(97, "failure", nil), run(98, "failure", func(r *history.Run) { r.Attempt = 2 })}},
		"was killed 1min ago after 41s with signal KILL, and not by a stop.": {runs: []history.Run{run(1, "killed",
			func(r *history.Run) { r.Signal = "KILL" })}},
		"was stopped by its timeout 1min ago after 41s with signal TERM.": {runs: []history.Run{run(1, "timeout",
			func(r *history.Run) { r.Signal, r.Reason = "TERM", "it exceeded its timeout" })}},
		"could not be started 1min ago: no such file.": {runs: []history.Run{run(1, "start_error",
			func(r *history.Run) { r.Reason = "no such file" })}},
		"was stopped because the lease ended 1min ago after 41s: it expired.": {runs: []history.Run{run(1, "lease_lost",
			func(r *history.Run) { r.Reason = "it expired" })}},
		"was interrupted: gophd was killed, or the machine went down": {runs: []history.Run{run(1, "interrupted",
			func(r *history.Run) { r.Ended, r.Duration = time.Time{}, nil })}},
		"failed 1min ago after 41s with exit code 3. gophd then: retry 1 of 2 in 1s.": {runs: []history.Run{failed}, job: &api.Job{},
			events: []api.Event{{Type: "run.delayed", Message: "old"}, {Type: "run.ended", Run: 96}, {Type: "run.delayed", Message: "retry 1 of 2 in 1s"}}},
		"gophd then started run 97.": {runs: []history.Run{failed}, job: &api.Job{Running: []api.Run{{Run: 97}}}},
	} {
		f.now, f.name = now, "x"
		if got := f.lastText(); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "",
		"one":                  "one",
		"one two  three":       "one two\nthree",
		"unbreakablewordwhich": "unbreakablewordwhich",
		"ä ö ü ß a b":          "ä ö ü ß a\nb",
	} {
		if got := wrap(text, 9); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What a command writes cannot control the terminal.
func TestTerminalText(t *testing.T) {
	for text, want := range map[string]string{
		"\x1b[31mred\x1b[0m\tand \x1b]0;title\x07more\r": "red\tand more",
		"a\x1b[2Jb\x00\xff\u202ec\x9b":                   "ab??" + "?c?",
		"50%\rdone":                                      "50%?done",
	} {
		if got := terminalText([]byte(text)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
