//go:build root && linux

package preflight

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
