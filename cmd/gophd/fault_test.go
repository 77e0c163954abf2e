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

// handOverPoints are those of package fault that the hand-over passes, in their order.
var handOverPoints = []string{"leave the loop", "loop left", "reading stopped", "log closed", "shared claim handed over",
	"local claim handed over", "signals closed", "exec", "inherited", "listening", "gone on", "run adopted", "ready"}

// otherPoints are those of the scripts restart_fatal_* and restart_slow_start.
var otherPoints = []string{"select", "loop", "run", "start"}

// TestKilledInTheHandOver: kill -9 between any two steps of a restart leaves a run that the next start finds, as
// testdata/fault/killed.txtar tells. A point that is never passed fails, for gophd is not killed then.
func TestKilledInTheHandOver(t *testing.T) {
	t.Parallel()
	template, err := os.ReadFile("../../testdata/fault/killed.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i, point := range handOverPoints {
		mode := []string{"wait", "kill"}[i%2]
		name := "killed-" + strings.ReplaceAll(point, " ", "-")
		cases := map[string][2]string{name: {"", ""}}
		shared := [2]string{"memcached start\nmemcached released shared-" + name + "\nenv GOPHD_HEARTBEAT_URL=memcached://$MEMCACHED",
			"memcached say 'get shared-" + name + "_process_heartbeat'\n! grep VALUE answer"}
		switch point {
		case "shared claim handed over":
			cases = map[string][2]string{"shared-" + name: shared}
		case "exec":
			cases["shared-"+name] = shared
		}
		for name, c := range cases {
			script := strings.NewReplacer("@POINT@", point, "@NAME@", name, "@MODE@", mode, "@BEFORE@", c[0], "@AFTER@", c[1]).
				Replace(string(template))
			if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	runScripts(t, dir)
}

// TestPanicInTheHandOver is the same for a fault of gophd's own, as testdata/fault/panicked.txtar tells.
func TestPanicInTheHandOver(t *testing.T) {
	t.Parallel()
	template, err := os.ReadFile("../../testdata/fault/panicked.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, point := range handOverPoints {
		if point == "shared claim handed over" {
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

// TestSignalInTheHandOver: a signal between any two steps of a restart, while another is served, does not end gophd, as
// testdata/fault/signalled.txtar tells. HUP asks for the restart that is under way, or for one more; INT is a stop, or
// comes to nothing in the gap between two images; PIPE, ALRM, IO and the realtime signals mean nothing.
func TestSignalInTheHandOver(t *testing.T) {
	t.Parallel()
	template, err := os.ReadFile("../../testdata/fault/signalled.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var gap, after bool // the point is in the gap, or after it
	for _, point := range handOverPoints {
		if point == "shared claim handed over" {
			continue // as with the local one
		}
		gap = gap && point != "listening" || point == "signals closed"
		after = after || point == "listening"
		restarts, end := "1", "waitfor x.err 'signal INT'"
		if after {
			restarts = "2"
		}
		if gap { // INT may have been heard all the same
			end = "exec sh -c 'until test -e x.code; do kill -TERM $(cat x.pid); sleep 0.2; done'"
		}
		for name, c := range map[string]struct{ signals, restarts, end string }{
			"hup": {"13 14 29 45 1", restarts, "exec sh settled.sh\nsignal TERM x.pid"},
			"int": {"2", "1", end},
		} {
			name = "signalled-" + strings.ReplaceAll(point, " ", "-") + "-" + name
			script := strings.NewReplacer("@POINT@", point, "@NAME@", name, "@SIGNALS@", c.signals, "@RESTARTS@", c.restarts,
				"@END@", c.end).Replace(string(template))
			if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	runScripts(t, dir)
}

// TestReleaseHasNoFaults: what tests can do to gophd, nobody can do to a release.
func TestReleaseHasNoFaults(t *testing.T) {
	for name, want := range map[string]bool{"gophd": false, "gophd-faults": true} {
		program, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"GOPHD_FAULTS", "fault in "} {
			if got := bytes.Contains(program, []byte(word)); got != want {
				t.Errorf("%s has the word %q: %t", name, word, got)
			}
		}
	}
}

// TestEveryFaultPointIsTried reads the source: a point that no test names is none.
func TestEveryFaultPointIsTried(t *testing.T) {
	tried := map[string]int{}
	for _, point := range append(handOverPoints, otherPoints...) {
		tried[point] = 0
	}
	call := regexp.MustCompile(`(?m)^\s*fault\.At\("([^"]*)"\)`)
	for _, root := range []string{"../../internal", "."} {
		err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(name) != ".go" {
				return err
			}
			text, err := os.ReadFile(name)
			for _, m := range call.FindAllSubmatch(text, -1) {
				if _, known := tried[string(m[1])]; !known {
					t.Errorf("%s: no test tries the fault %q", name, m[1])
				}
				tried[string(m[1])]++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for point, n := range tried {
		if n != 1 {
			t.Errorf("the fault point %q is there %d times, want once", point, n)
		}
	}
}
