package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/api"
	"gophd/internal/history"
	"gophd/internal/job"
)

var topNow = time.Date(2026, 11, 27, 10, 3, 17, 0, time.Local)

// topOf returns a model with two daemons of four jobs.
func topOf() *topModel {
	m := &topModel{}
	next, exit := topNow.Add(3800*time.Millisecond), 3
	nightly := api.Job{Name: "nightly", State: api.Waiting, Schedule: "17 3 * * 1-5", Runs: 2, Failures: 1,
		NextRun: new(topNow.Add(17 * time.Hour)), Lengths: &api.Lengths{Runs: 2, P50: 5.8, P99: 9.1},
		Lease: &api.Lease{Store: "file:/var/lib/gophd/nightly.heartbeat", State: "held", Fence: 41},
		Last: &api.Last{Run: 2, Outcome: job.EndingFailure, ExitCode: &exit, Started: topNow.Add(-2 * time.Hour),
			Ended: topNow.Add(-2 * time.Hour), Length: 5, Text: "exit code 3"}}
	poll := api.Job{Name: "poll", State: api.Running, Schedule: "every 5s", Interval: 5, NextRun: &next, Runs: 9,
		Running: []api.Run{{Run: 10, PID: 901, Started: topNow.Add(-1200 * time.Millisecond)}},
		Lengths: &api.Lengths{Runs: 9, P50: 1.2, P99: 1.9}}
	imports := api.Job{Name: "import", State: api.Paused, Paused: true, Schedule: "every 10m", Interval: 600}
	web := api.Job{Name: "a-name-that-is-long-and-does-not-fit", State: api.Failed, Failed: "it exited 5 times", Schedule: "as a service"}
	one := api.Found{Name: "nightly", Socket: "/run/gophd/nightly.sock",
		Status: api.Status{Daemon: "nightly", PID: 812, Jobs: []api.Job{nightly}}}
	many := api.Found{Name: "jobs", Socket: "/run/gophd/jobs.sock",
		Status: api.Status{Daemon: "jobs", PID: 813, Jobs: []api.Job{poll, imports, web}}}
	var events []api.Event
	for i, outcome := range []job.Ending{job.EndingSuccess, job.EndingSuccess, job.EndingFailure, job.EndingStopped, job.EndingSuccess} {
		events = append(events, api.Event{ID: uint64(i + 1), Type: "run.ended", Job: "poll", Run: uint64(i + 5), Outcome: outcome,
			Time: topNow.Add(time.Duration(i-5) * time.Second), Length: float64(i), Message: "run ended", Level: "info"})
	}
	m.add(topNews{daemon: one, at: topNow})
	m.add(topNews{daemon: many, at: topNow, events: events})
	return m
}

func TestTopScreen(t *testing.T) {
	v := &topView{usage: topUsage{cpu: map[int]float64{901: 0.125}, bytes: map[int]int64{901: 5 << 20}}}
	want := `gophd top  10:03:17  2 daemons, 4 jobs, 1 running, 1 paused, 1 failed
JOB               STATE      NEXT RUN    LAST RUNS      HEADROOM     CPU  MEMORY
jobs/poll         running    3.8s        ▁▂xx█              62 %    12 %   5.0 M
jobs/import       paused     paused                            -       -       -
jobs/a-name-tha…  failed     -                                 -       -       -
nightly           waiting    17h                               -       -       -











────────────────────────────────────────────────────────────────────────────────
jobs/poll (pid 813): every 5s
  running   run 10, pid 901, for 1.2s
  last run  none yet
  runs      9, 0 failed, 0 late, 0 missed; p50 1.2s, p99 1.9s
  ▁▂xx█
s start  p pause  n skip  x stop  l log  / filter  q quit`
	compareTop(t, v, topOf(), 80, 24, want)
}

func compareTop(t *testing.T, v *topView, m *topModel, width, height int, want string) {
	t.Helper()
	lines := v.lines(m, width, height, topNow)
	for i, line := range lines {
		line = regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(line, "")
		if lines[i] = strings.TrimRight(line, " "); utf8.RuneCountInString(line) > width {
			t.Errorf("wider than the terminal: %q", line)
		}
	}
	if len(lines) != height {
		t.Errorf("%d lines for %d", len(lines), height)
	}
	if diff := cmp.Diff(want, strings.Join(lines, "\n")); diff != "" {
		t.Error(diff)
	}
}

// The selected job is always on the screen, whatever the size; no line is wider than the terminal.
func TestTopFitsEachTerminal(t *testing.T) {
	m := topOf()
	for _, r := range m.rows("") {
		for width := 1; width < 200; width += 7 {
			for height := 1; height < 40; height++ {
				v := &topView{color: true, selected: r.id()}
				lines := v.lines(m, width, height, topNow)
				if len(lines) != height {
					t.Fatalf("%dx%d: %d lines", width, height, len(lines))
				}
				selected := 0
				for i, line := range lines {
					shown := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(line, "")
					if utf8.RuneCountInString(shown) > width {
						t.Fatalf("%dx%d: %q", width, height, line)
					}
					if i > 1 && strings.HasPrefix(line, reverse) && strings.HasPrefix(shown, cut(r.label(), min(width, 12))[:1]) {
						selected++
					}
				}
				if height > 3 && selected != 1 {
					t.Fatalf("%dx%d: %d lines are selected:\n%s", width, height, selected, strings.Join(lines, "\n"))
				}
			}
		}
	}
}

// Jobs that do not fit the screen are announced, and counted by each of their states.
func TestTopSaysThatThereAreMoreJobs(t *testing.T) {
	m := topOf()
	many := api.Found{Name: "m", Socket: "/run/gophd/m.sock", Status: api.Status{Daemon: "m", PID: 9}}
	for i := range 30 {
		many.Status.Jobs = append(many.Status.Jobs, api.Job{Name: fmt.Sprintf("j%02d", i), State: api.Stopping})
	}
	m.add(topNews{daemon: many, at: topNow})
	v := &topView{selected: many.Socket + "\x00j29"}
	text := strings.Join(v.lines(m, 80, 24, topNow), "\n")
	for _, want := range []string{" 30 stopping,", "\n── 19 to 33 of 34 ───"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if text := strings.Join((&topView{}).lines(topOf(), 80, 24, topNow), "\n"); strings.Contains(text, " to 4") {
		t.Errorf("all are shown:\n%s", text)
	}
}

// A daemon of another user may answer anything.
func TestTopShowsAnyAnswer(t *testing.T) {
	m := topOf()
	odd := api.Found{Name: "odd\x1b[2J\u202e", Socket: "/run/gophd/odd.sock", Status: api.Status{Daemon: "odd", PID: -1, Jobs: []api.Job{
		{Name: "a\nb\x1b[31m", State: "x\x07", Schedule: "\x1b]0;title\x07", Interval: 1e-300, Failed: "\r\n", Lengths: &api.Lengths{P99: 1e300},
			NextRun: new(time.Time), Running: []api.Run{{PID: -5}}, Last: &api.Last{Length: -1e300, Text: "\x9b2J"},
			Lease: &api.Lease{Store: "\x1b", State: "standby", Holder: "\u2028"}}}}}
	m.add(topNews{daemon: odd, at: topNow, events: []api.Event{
		{ID: 1, Type: "run.ended", Run: 1 << 63, Length: 1e300, Job: "a\nb\x1b[31m", Message: strings.Repeat("\x1b\n", 1<<20), Outcome: "\x1b"},
		{ID: 2, Type: "run.ended", Length: -1e300, Job: "a\nb\x1b[31m"}}})
	for _, log := range []bool{false, true} {
		v := &topView{selected: odd.Socket + "\x00" + odd.Status.Jobs[0].Name, log: log}
		for i, line := range v.lines(m, 80, 24, topNow) {
			line = strings.ReplaceAll(strings.ReplaceAll(line, reverse, ""), plain, "")
			if line != printable(line) || utf8.RuneCountInString(line) > 80 {
				t.Errorf("line %d: %q", i, line)
			}
		}
	}
}

func TestTopColorsOutcomes(t *testing.T) {
	v := &topView{color: true, at: 1}
	line := v.lines(topOf(), 100, 24, topNow)[2]
	for _, want := range []string{green + "▁▂" + plain, red + "▄" + plain, yellow + "▆" + plain, green + "█" + plain} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %q", want, line)
		}
	}
	if v.color = false; strings.Contains(v.lines(topOf(), 100, 24, topNow)[2], green) {
		t.Error("a color without color")
	}
}

func TestTopLog(t *testing.T) {
	m := topOf()
	failed := history.Run{Job: "poll", Number: 7, Output: "one\ttab\n\x1b[31mtwo\n", Ended: topNow.Add(-3 * time.Second), Outcome: "failure"}
	m.add(topNews{daemon: m.daemons[0].Found, output: &failed})
	v := &topView{log: true, selected: m.rows("")[0].id()}
	want := `jobs/poll: what happened
10:03:12 run ended
10:03:13 run ended
10:03:14 run ended
output of run 7, which failed 3.0s ago:
  │ one    tab
  │ two
10:03:15 run ended
10:03:16 run ended

j, k scroll  l, q back`
	compareTop(t, v, m, 80, 11, want)
	v.back = 100
	compareTop(t, v, m, 80, 4, `jobs/poll: what happened
10:03:12 run ended
10:03:13 run ended
j, k scroll  l, q back`)
}

// Runs of the history are before those of the events, and each is there once.
func TestTopRunsOfHistoryAndEvents(t *testing.T) {
	m := topOf()
	var runs []history.Run
	for i := range 70 {
		length := 1.0
		runs = append(runs, history.Run{Job: "poll", Number: uint64(i - 60), Outcome: "success", Duration: &length,
			Ended: topNow.Add(time.Duration(i-70)*time.Second - time.Millisecond)})
	}
	runs = append(runs, history.Run{Job: "poll", Number: 10}) // active
	m.add(topNews{daemon: m.daemons[0].Found, history: map[string][]history.Run{"poll": runs}})
	got := m.daemons[0].job("poll").runs
	if len(got) != topRuns || got[topRuns-1].number != 9 || got[topRuns-5].number != 5 || got[topRuns-6].number != 4 {
		t.Errorf("%d runs: %v", len(got), got[max(0, len(got)-8):])
	}
}

// A daemon that does not answer keeps its jobs on the screen; one that has exited does not.
func TestTopShowsASilentDaemon(t *testing.T) {
	m := topOf()
	silent := m.daemons[0].Found
	silent.Err, silent.Status = errors.New("no answer from x"), api.Status{}
	m.add(topNews{daemon: silent, at: topNow})
	v := &topView{}
	lines := v.lines(m, 100, 24, topNow)
	if !strings.HasSuffix(lines[0], ", 1 without an answer") || !strings.HasPrefix(lines[3], "jobs/import") ||
		!strings.Contains(lines[3], "no answer") {
		t.Error(strings.Join(lines[:5], "\n"))
	}
	silent.Err = api.ErrNotRunning
	m.add(topNews{daemon: silent, at: topNow})
	if rows := m.rows(""); len(rows) != 1 || rows[0].Name != "nightly" {
		t.Errorf("%d rows", len(rows))
	}
	if rows := m.rows("NIGHT"); len(rows) != 1 {
		t.Error("the filter is about case")
	}
	v.filter = "x"
	if lines = v.lines(m, 100, 24, topNow); lines[2] != "  no job has such a name" {
		t.Errorf("%q", lines[2])
	}
}

func TestTopMeasuresRuns(t *testing.T) {
	before := topUsage{at: topNow, ticks: map[int]uint64{1 << 23: 5}}
	if u := before.measure([]int{1 << 23}, topNow.Add(time.Second)); len(u.cpu) != 0 || len(u.bytes) != 0 {
		t.Errorf("a group that does not exist: %+v", u)
	}
}
