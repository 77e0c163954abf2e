package main_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// handoffPoints are the fault points of a handoff, in order. See package fault.
var handoffPoints = []string{"hand off the loop", "loop handed off", "reading stopped", "log closed",
	"shared lease handed off", "local lease handed off", "signals closed", "exec", "inherited", "listening",
	"run adopted", "all runs adopted", "ready"}

// otherPoints are the fault points of the scripts restart_fatal_*, restart_slow_start and top.
var otherPoints = []string{"select", "loop", "run", "start", "top"}

// TestRunIsFoundAfterKillDuringHandoff checks that the next start finds the leftover run after kill
// -9 between any two steps of a handoff, see testdata/fault/killed.txtar. The test of a point that
// is never passed fails, because gophd is not killed then.
func TestRunIsFoundAfterKillDuringHandoff(t *testing.T) {
	t.Parallel()
	template, err := os.ReadFile("../../testdata/fault/killed.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i, point := range handoffPoints {
		mode := []string{"wait", "kill"}[i%2]
		name := "killed-" + strings.ReplaceAll(point, " ", "-")
		cases := map[string][2]string{name: {"", ""}}
		shared := [2]string{"memcached start\nmemcached released shared-" + name +
			"\nenv GOPHD_HEARTBEAT_URL=memcached://$MEMCACHED",
			"memcached say 'get shared-" + name + "_process_heartbeat'\n! grep VALUE answer"}
		switch point {
		case "shared lease handed off":
			cases = map[string][2]string{"shared-" + name: shared}
		case "exec":
			cases["shared-"+name] = shared
		}
		for name, c := range cases {
			script := strings.NewReplacer("@POINT@", point, "@NAME@", name, "@MODE@", mode,
				"@BEFORE@", c[0], "@AFTER@", c[1]).Replace(string(template))
			if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	runScripts(t, dir)
}

// TestRunIsFoundAfterPanicDuringHandoff is the same for a panic of gophd, see
// testdata/fault/panicked.txtar.
func TestRunIsFoundAfterPanicDuringHandoff(t *testing.T) {
	t.Parallel()
	template, err := os.ReadFile("../../testdata/fault/panicked.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, point := range handoffPoints {
		if point == "shared lease handed off" {
			continue // as with the local one
		}
		name := "panicked-" + strings.ReplaceAll(point, " ", "-")
		script := strings.NewReplacer("@POINT@", point, "@NAME@", name).Replace(string(template))
		if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runScripts(t, dir)
}

// TestSignalsDuringHandoffDoNotKill checks that a signal between any two steps of a handoff, while
// another one is handled, does not kill gophd, see testdata/fault/signalled.txtar. HUP requests the
// restart in progress, or one more. INT requests a stop, or has no effect in the gap between old
// and new process. PIPE, ALRM, IO and the realtime signals have no effect.
func TestSignalsDuringHandoffDoNotKill(t *testing.T) {
	t.Parallel()
	template, err := os.ReadFile("../../testdata/fault/signalled.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var gap, after bool // the point is in the gap, or after it
	for _, point := range handoffPoints {
		if point == "shared lease handed off" {
			continue // as with the local one
		}
		gap = gap && point != "listening" || point == "signals closed"
		after = after || point == "listening"
		restarts, end := "1", "waitfor x.err 'signal INT'"
		if after {
			restarts = "2"
		}
		if gap { // INT may have been received nevertheless
			end = "exec sh -c 'until test -e x.code; do kill -TERM $(cat x.pid); sleep 0.2; done'"
		}
		for name, c := range map[string]struct{ signals, restarts, end string }{
			"hup": {"13 14 29 45 1", restarts, "exec sh settled.sh\nsignal TERM x.pid"},
			"int": {"2", "1", end},
		} {
			name = "signalled-" + strings.ReplaceAll(point, " ", "-") + "-" + name
			script := strings.NewReplacer("@POINT@", point, "@NAME@", name, "@SIGNALS@", c.signals,
				"@RESTARTS@", c.restarts, "@END@", c.end).Replace(string(template))
			if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	runScripts(t, dir)
}

// TestReleaseHasNoFaultPoints checks that fault points are only in the build for tests.
func TestReleaseHasNoFaultPoints(t *testing.T) {
	for name, want := range map[string]bool{"gophd": false, "gophd-faults": true} {
		program, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"GOPHD_FAULTS", "fault in "} {
			if got := bytes.Contains(program, []byte(word)); got != want {
				t.Errorf("%s contains %q: %t", name, word, got)
			}
		}
	}
}

// TestEveryFaultPointIsTested reads the source and checks that a test uses each fault point.
func TestEveryFaultPointIsTested(t *testing.T) {
	uses := map[string]int{}
	for _, point := range append(handoffPoints, otherPoints...) {
		uses[point] = 0
	}
	call := regexp.MustCompile(`(?m)^\s*fault\.At\("([^"]*)"\)`)
	for _, root := range []string{"../../internal", "."} {
		err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(name) != ".go" {
				return err
			}
			text, err := os.ReadFile(name)
			for _, m := range call.FindAllSubmatch(text, -1) {
				if _, known := uses[string(m[1])]; !known {
					t.Errorf("%s: no test uses the fault point %q", name, m[1])
				}
				uses[string(m[1])]++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for point, n := range uses {
		if n != 1 {
			t.Errorf("the fault point %q is in the source %d times, want once", point, n)
		}
	}
}
