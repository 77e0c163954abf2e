package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gophd/internal/api"
	"gophd/internal/history"
	"gophd/internal/job"
)

// TestListedRuns: what a row of gophd list says of the last run and of the next one.
func TestListedRuns(t *testing.T) {
	now := time.Now()
	next := now.Add(90 * time.Second)
	last := &api.Last{Outcome: job.EndingSuccess, Started: now.Add(-time.Minute), Length: 2}
	active := []api.Run{{Run: 1, Started: now.Add(-8 * time.Second)}}
	for want, j := range map[string]api.Job{
		"waiting | - | - | in 1min 30s":                    {State: api.Waiting, NextRun: &next},
		"waiting | 1min ago, 2.0s | success | in 1min 30s": {State: api.Waiting, NextRun: &next, Last: last},
		"running | 8.0s so far | running | -":              {State: api.Running, Running: active},
		"running | 1min ago, 2.0s | success | -":           {State: api.Running, Running: active, Last: last},
		"paused | - | - | paused":                          {State: api.Paused, NextRun: &next, Paused: true, Skip: 1},
		"waiting | - | - | in 1min 30s, skipped":           {State: api.Waiting, NextRun: &next, Skip: 1},
		"waiting | - | - | in 1min 30s, 3 skipped":         {State: api.Waiting, NextRun: &next, Skip: 3},
	} {
		var got []string
		for i, c := range listRows([]api.ListedJob{{Job: j}}, now)[1] {
			if i == 1 || i >= 3 && i <= 5 {
				got = append(got, c.text)
			}
		}
		if text := strings.Join(got, " | "); text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
}

// The list fits a narrow terminal: it leaves out columns before it cuts them to nothing.
func TestListFitsANarrowTerminal(t *testing.T) {
	next := time.Now().Add(90 * time.Second)
	j := api.ListedJob{Daemon: "jobs", Job: api.Job{Name: "nightly-import", State: api.Waiting, Schedule: "on 17 3 * * 1-5", NextRun: &next,
		Last: &api.Last{Outcome: job.EndingFailure, Started: next, Length: 90}}}
	for width, want := range map[int]string{
		0:  "JOB STATE SCHEDULE LAST RUN OUTCOME NEXT RUN HEADROOM",
		80: "JOB STATE SCHEDULE LAST RUN OUTCOME NEXT RUN HEADROOM",
		60: "JOB STATE SCHEDULE LAST RUN OUTCOME NEXT RUN",
		40: "JOB STATE OUTCOME NEXT RUN",
	} {
		var b strings.Builder
		if err := (screen{w: &b, width: width}).list([]api.ListedJob{j}, time.Now()); err != nil {
			t.Fatal(err)
		}
		title, _, _ := strings.Cut(b.String(), "\n")
		if got := strings.Join(strings.Fields(title), " "); got != want {
			t.Errorf("in %d columns: %s, want %s", width, got, want)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
				t.Errorf("in %d columns, %d: %s", width, n, line)
			}
		}
	}
}

// What is wrong with several daemons in the same way is one line.
func TestDaemonsThatAreNotListed(t *testing.T) {
	dir := t.TempDir()
	var all []api.Found
	for i := range 7 {
		f := api.Found{Name: fmt.Sprintf("d%d", i), Socket: filepath.Join(dir, fmt.Sprint(i)), Err: api.ErrPermission}
		all = append(all, f)
	}
	all[1].Err, all[2].Err = nil, api.ErrNotRunning // it has exited
	all[6].Err = api.ErrNotRunning
	if err := os.WriteFile(all[6].Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	extra := api.Found{Name: "x\x1b", Err: errors.New("no answer")}
	var b strings.Builder
	(&program{stderr: &b}).warnOf(append(all, extra, all[0], all[3]))
	want := "gophd: d0, d3, d4, d5, d0 and 1 more: " + api.ErrPermission.Error() + "\n" +
		"gophd: d6: not running: killed, or the machine went down; gophd why says more\ngophd: x?: no answer\n"
	if b.String() != want {
		t.Errorf("got\n%s, want\n%s", b.String(), want)
	}
}

// The status of a job has its last runs, also those from before the daemon was started.
func TestLastRunsOfAStatus(t *testing.T) {
	now, code := time.Now(), 3
	at := func(d time.Duration) time.Time { return now.Add(-d) }
	past := []history.Run{{Number: 1, Outcome: "success", Started: at(9 * time.Hour), Ended: at(9 * time.Hour)},
		{Number: 2, Outcome: "failure", ExitCode: &code, Started: at(8 * time.Hour), Ended: at(8 * time.Hour)},
		{Number: 1, Started: at(time.Minute)}}
	last := &api.Last{Run: 2, Outcome: job.EndingFailure, Text: "exit code 3", Started: past[1].Started, Ended: past[1].Ended, Length: 1}
	for want, c := range map[string]struct {
		runs []history.Run
		last *api.Last
	}{
		"none yet | ": {},
		"2, failure, before this start of gophd: exit code 3; 8h ago | 1 success": {past, nil},
		"2, failure after 1.0s: exit code 3; 8h ago | 1 success":                  {past, last},
		"2, failure after 1.0s: exit code 3; 8h ago | ":                           {nil, last},
	} {
		text, earlier := jobMore{runs: c.runs}.ended(c.last, now)
		if got := text + " | " + earlier; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
