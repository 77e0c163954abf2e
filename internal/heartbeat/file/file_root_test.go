//go:build root && linux

package file

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test opens root's files as another user. It sets the user ID that the kernel checks for file
// access, which on Linux is an attribute of the thread (setfsuid(2)).
func TestRootOtherUserCanReadButNotLock(t *testing.T) {
	path, holder := heldForAll(t)
	runtime.LockOSThread() // and never unlocked: the thread exits with the test
	must(t, unix.Setfsuid(65534))
	defer unix.Setfsuid(0)
	wantDenied(t, path, holder)
}

// A file that the next holder replaces may be one that no process may remove. Only an attempt tells
// root. While the lock is held nothing is replaced.
func TestRootCheckFindsFilesThatCannotBeReplaced(t *testing.T) {
	path := lockPath(t)
	for _, immutable := range []string{RecordPath(path), path + suffix} {
		must(t, os.WriteFile(immutable, nil, 0o600))
		must(t, Check(path))
		must(t, exec.Command("chattr", "+i", immutable).Run())
		t.Cleanup(func() { must(t, exec.Command("chattr", "-i", immutable).Run()) })
		if err := Check(path); err == nil || !strings.HasPrefix(err.Error(), "file "+immutable+" next to the lock file: ") {
			t.Errorf("%s: %v", immutable, err)
		}
		must(t, exec.Command("chattr", "-i", immutable).Run())
	}
	holder := opened(t, path)
	must(t, holder.Add(t.Context(), key, []byte("theirs"), 0))
	must(t, exec.Command("chattr", "+i", RecordPath(path)).Run())
	must(t, Check(path))
}
