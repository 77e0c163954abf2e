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

// What only the user lacks who checks is no error: the daemon may be another. The user is told by the id that the kernel
// checks for files, which on Linux a thread has for itself (setfsuid(2)).
func TestRootRightsAreCautions(t *testing.T) {
	dir := t.TempDir()
	for _, at := range []string{dir, filepath.Dir(dir)} { // what TempDir makes is its owner's alone
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
	c := configured(t, dir+"/closed", "GOPHD_LOG_FILE=l", "GOPHD_JOB_OUTPUT=o", "GOPHD_CONFIG_PID_FILE=p", "GOPHD_JOB_STDIN=../secret")
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	cautions, err := Check(c)
	if err != nil {
		t.Errorf("it is refused: %v", err)
	}
	for _, name := range []string{"log.file", "job.output", "config.pid_file", "job.stdin", "lock file"} {
		if !strings.Contains(strings.Join(cautions, "\n"), name) {
			t.Errorf("no word of %s in %q", name, cautions)
		}
	}
}
