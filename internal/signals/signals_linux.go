package signals

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// continued takes a CONT that has waited in the kernel while one image became another. It cannot be
// left to signal.Notify, which lets CONT through before it installs the handler: the default action of
// CONT is nothing, and the signal would be lost.
func continued() bool {
	var set unix.Sigset_t
	const n = uint(syscall.SIGCONT) - 1
	word := uint(8 * unsafe.Sizeof(set.Val[0]))
	set.Val[n/word] = 1 << (n % word)
	var now unix.Timespec
	sig, _, errno := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0,
		uintptr(unsafe.Pointer(&now)), 8, 0, 0) // the kernel's own set has 64 signals
	return errno == 0 && syscall.Signal(sig) == syscall.SIGCONT
}
