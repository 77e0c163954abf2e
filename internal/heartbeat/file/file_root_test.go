//go:build root && linux

package file

import (
	"runtime"
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
