//go:build root && linux

package file

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRootOtherUser looks at root's files as another user does, by the user ID that the kernel checks
// for files, which on Linux each thread has for itself (setfsuid(2)).
func TestRootOtherUser(t *testing.T) {
	path, holder := heldForAll(t)
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	must(t, unix.Setfsuid(65534))
	defer unix.Setfsuid(0)
	wantDenied(t, path, holder)
}
