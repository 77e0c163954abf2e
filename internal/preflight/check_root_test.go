//go:build root && linux

package preflight

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/job"
	"gophd/internal/self"
)

// TestRootMissingRightsAreErrors checks that a missing right of the calling user is an error, as it
// is at a start by that user. The test changes the user ID that the kernel checks for files, which
// each thread has for itself on Linux (setfsuid(2)).
func TestRootMissingRightsAreErrors(t *testing.T) {
	dir := t.TempDir()
	for _, at := range []string{dir, filepath.Dir(dir)} { // only the owner can access a TempDir
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir+"/closed", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/secret", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/closed", 0o555); err != nil {
		t.Fatal(err)
	}
	c := configured(t, dir+"/closed", "GOPHD_LOG_FILE=l", "GOPHD_JOB_OUTPUT=o", "GOPHD_CONFIG_PID_FILE=p",
		"GOPHD_JOB_STDIN=../secret")
	runtime.LockOSThread() // never unlocked, so that the thread ends with the test
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	_, err := Check(c, nil)
	if err == nil {
		t.Fatal("the config is accepted")
	}
	for _, name := range []string{"log.file", "job.output", "pid file", "job.stdin", "lock file"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("nothing about the %s in %v", name, err)
		}
	}
}

// TestRootCheckTriesToCreate checks each path that a start creates, in directories where only an
// attempt tells root that it cannot: Check and CheckNext return an error, and change nothing.
func TestRootCheckTriesToCreate(t *testing.T) {
	base, immutable, readOnly := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.WriteFile(immutable+"/old.pid", []byte("4194305\n"), 0o644); err != nil { // above the greatest PID
		t.Fatal(err)
	}
	command(t, "chattr", "+i", immutable, immutable+"/old.pid")
	t.Cleanup(func() { command(t, "chattr", "-i", immutable, immutable+"/old.pid") })
	command(t, "mount", "--bind", "-r", readOnly, readOnly)
	t.Cleanup(func() { command(t, "umount", readOnly) })

	for _, dir := range []string{immutable, readOnly, "/proc", "/sys"} {
		before, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for want, settings := range map[string][]string{
			"log.file " + dir + "/x":                          {"GOPHD_LOG_FILE=" + dir + "/x"},
			"log.file " + dir + "/20":                         {"GOPHD_LOG_FILE=" + dir + "/%Y"},
			"job.output " + dir + "/x":                        {"GOPHD_JOB_OUTPUT=" + dir + "/x"},
			"cannot create pid file " + dir + "/x":            {"GOPHD_CONFIG_PID_FILE=" + dir + "/x"},
			"cannot create pid file " + immutable + "/old":    {"GOPHD_CONFIG_PID_FILE=" + immutable + "/old.pid"},
			"cannot create the state directory " + dir + "/x": {"GOPHD_STATE_DIR=" + dir + "/x"},
			"lock file " + dir:                                {"GOPHD_STATE_DIR=" + dir},
			"cannot create the log directory " + dir + "/x": {"GOPHD_STATE_DIR=" + dir + "/x",
				"GOPHD_HEARTBEAT_URL=none:", "GOPHD_CONFIG_DAEMON=yes"},
			"log.file " + dir + "/j.log": {"GOPHD_STATE_DIR=" + dir, "GOPHD_HEARTBEAT_URL=none:",
				"GOPHD_CONFIG_DAEMON=yes", "GOPHD_JOB_NAME=j"},
		} {
			c := configured(t, base, settings...)
			_, err := Check(c, nil)
			for _, err := range []error{err, CheckNext(t.Context(), c, self.Self{})} {
				if err == nil || !strings.HasPrefix(err.Error(), want) || job.StartCode(err) != 1 {
					t.Errorf("%q: %v; want %q", settings, err, want)
				}
			}
		}
		if after, err := os.ReadDir(dir); len(after) != len(before) && dir != "/proc" || err != nil {
			t.Errorf("%s has %v, %v; had %v", dir, after, err, before)
		}
	}
	if entries, err := os.ReadDir(base); len(entries) > 0 || err != nil {
		t.Errorf("the state directory has %v, %v", entries, err)
	}
}

// TestRootOwnerOfTheLogIsTried checks that a log file is rejected which a start could create, but
// not give to log.owner.
func TestRootOwnerOfTheLogIsTried(t *testing.T) {
	dir := t.TempDir()
	for _, at := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(at, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	c := configured(t, dir, "GOPHD_LOG_FILE=l", "GOPHD_LOG_OWNER=root")
	if _, err := Check(c, nil); err != nil {
		t.Error(err)
	}
	runtime.LockOSThread() // never unlocked, so that the thread ends with the test
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	_, err := Check(c, nil)
	if err == nil || !strings.Contains(err.Error(), "/l: cannot give it to user 0 and group") {
		t.Errorf("%v; want that the owner cannot be changed", err)
	}
	if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", name, err, out)
	}
}
