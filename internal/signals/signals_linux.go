package signals

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"gophd/internal/order"
)

// stopOfSystemd is RTMIN+3, by which systemd(1) as process 1 is told to halt. Runtimes count from the 34 of glibc,
// whatever C library the container has.
const stopOfSystemd = syscall.Signal(34 + 3)

// initTable is what else asks something of process 1.
var initTable = []row{
	{syscall.SIGQUIT, order.Stop},
	{syscall.SIGPWR, order.Stop},
	{stopOfSystemd, order.Stop},
}

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
