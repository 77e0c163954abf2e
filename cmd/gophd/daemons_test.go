package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gophd/internal/api"
)

func running(daemon string, jobs ...string) api.Found {
	f := api.Found{Name: daemon, Socket: "/run/gophd/" + daemon + ".sock", Status: api.Status{Daemon: daemon, PID: 812}}
	for _, name := range jobs {
		f.Status.Jobs = append(f.Status.Jobs, api.Job{Name: name})
	}
	return f
}

func TestNamesOfDaemonsAndJobs(t *testing.T) {
	all := []api.Found{running("nightly", "nightly"), running("jobs", "a", "b"), running("b", "b", "c"), running("d", "e")}
	for name, want := range map[string]string{
		"nightly": "nightly/nightly", "nightly/": "nightly/nightly", "nightly/nightly": "nightly/nightly",
		"jobs": "jobs/", "jobs/": "jobs/", "a": "jobs/a", "jobs/a": "jobs/a", "jobs/c": "", "x": "", "x/": "",
		"b": "jobs/b b/ b/b", "b/": "b/", "b/b": "b/b", "d": "d/", "e": "d/e", "/a": "",
	} {
		var got []string
		for _, t := range matching(all, name) {
			got = append(got, t.long())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s names %v, want %s", name, got, want)
		}
	}
	other := running("nightly", "nightly")
	other.Socket = "/run/user/7/gophd/nightly.sock"
	err := ambiguous("nightly", matching([]api.Found{all[0], other}, "nightly"))
	if want := "nightly names several daemons: set one of GOPHD_RUNTIME_DIR=/run/gophd (pid 812), " +
		"GOPHD_RUNTIME_DIR=/run/user/7/gophd (pid 812)"; err.Error() != want {
		t.Error(err)
	}
}

func TestMissingNames(t *testing.T) {
	dead := api.Found{Name: "old", Err: api.ErrNotRunning, Record: &api.Record{PID: 7, LogFile: "/var/log/old.log"}}
	closed := api.Found{Name: "closed", Err: api.ErrPermission}
	all := []api.Found{running("nightly", "nightly"), dead, closed}
	for name, want := range map[string]string{
		"old":     "old is not running; its pid was 7; log: /var/log/old.log",
		"closed":  "closed: no permission; be root, the user of the daemon, or a member of its api.group",
		"nightl":  "there is no daemon or job nightl; did you mean nightly?",
		"x\x1b[m": "there is no daemon or job x?[m; gophd list shows all",
	} {
		if err := missing(all, name); err.Error() != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A daemon that gives no answer may run.
func TestTheOnlyDaemonGivesNoAnswer(t *testing.T) {
	dead := api.Found{Name: "old", Err: api.ErrNotRunning}
	silent := api.Found{Name: "silent", Err: errors.New("no answer from silent.sock")}
	_, err := chooseTarget([]api.Found{dead, silent}, "")
	if !errors.As(err, new(*unknownError)) || err.Error() != "silent: no answer from silent.sock" {
		t.Error(err)
	}
	if _, err = chooseTarget([]api.Found{dead}, ""); !errors.As(err, new(*notRunningError)) {
		t.Error(err)
	}
	if got, err := chooseTarget([]api.Found{silent, running("one", "one")}, ""); err != nil || got.long() != "one/one" {
		t.Error(got.long(), err)
	}
}

// Another user's program may have written what is printed.
func TestNothingControlsTheTerminal(t *testing.T) {
	if got := printable("a\x1b]0;x\a\r\nb\u009bc\u202eé"); got != "a?]0;x???b?c?é" {
		t.Errorf("%q", got)
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	rows := [][]cell{{{text: "JOB"}, {text: "SCHEDULE"}, {text: "OUTCOME"}}, {{text: "nightly"}, {text: strings.Repeat("x", 40)},
		{text: "failure", color: red}}}
	var b strings.Builder
	if err := (screen{w: &b, width: 40}).table(rows); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 40 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(b.String(), "nightly  xxxxxxxxxxxxxxxxxxxxx…  failure\n") {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	if err := (screen{w: &b, color: true}).table(rows); err != nil || !strings.HasSuffix(b.String(), "x  "+red+"failure"+plain+"\n") {
		t.Errorf("%v %q", err, b.String())
	}
}

func TestBriefDurations(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0ms": -time.Second, "7ms": 7 * time.Millisecond, "5.8s": 5800 * time.Millisecond, "41s": 41900 * time.Millisecond,
		"3min": 3 * time.Minute, "3min 2s": 3*time.Minute + 2*time.Second, "17h 3min": 17*time.Hour + 3*time.Minute,
		"2d 4h": 52 * time.Hour,
	} {
		if got := brief(d); got != want {
			t.Errorf("%s is %s, want %s", d, got, want)
		}
	}
}
