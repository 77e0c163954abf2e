//go:build faults && linux

package fault

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// send sends a signal to this thread, which has handled it when the call returns. A signal that is
// sent to the process may go to another thread, and arrive at any later time. send does that only
// if this thread blocks the signal.
func send(s syscall.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var held unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &held); err != nil || isMember(&held, s) {
		_ = unix.Kill(os.Getpid(), s)
		return
	}
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), s)
}

func isMember(set *unix.Sigset_t, s syscall.Signal) bool {
	n, word := uint(s)-1, uint(8*unsafe.Sizeof(set.Val[0]))
	return set.Val[n/word]>>(n%word)&1 != 0
}
