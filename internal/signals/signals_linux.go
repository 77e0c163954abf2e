package signals

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"gophd/internal/request"
)

// systemdHalt is RTMIN+3, which makes systemd(1) as process 1 halt. Container runtimes count from
// glibc's RTMIN, which is 34, whatever C library the container has.
const systemdHalt = syscall.Signal(34 + 3)

// initTable lists what process 1 handles in addition.
var initTable = []row{
	{syscall.SIGQUIT, request.Stop},
	{syscall.SIGPWR, request.Stop},
	{systemdHalt, request.Stop},
}

// unusedHere lists those of unused that only Linux has: PWR, and the realtime
// ones that no C library reserves.
func unusedHere() []syscall.Signal {
	all := []syscall.Signal{syscall.SIGPWR}
	for s := syscall.Signal(35); s <= 64; s++ {
		all = append(all, s)
	}
	return all
}

// continued takes a CONT that has waited in the kernel during a re-exec, and returns whether there
// was one. signal.Notify would lose it: it unblocks CONT before it installs the handler, and the
// default action of CONT is nothing.
func continued() bool {
	var set unix.Sigset_t
	const n = uint(syscall.SIGCONT) - 1
	word := uint(8 * unsafe.Sizeof(set.Val[0]))
	set.Val[n/word] = 1 << (n % word)
	var now unix.Timespec
	sig, _, errno := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0,
		uintptr(unsafe.Pointer(&now)), 8, 0, 0) // the kernel's set has 64 signals, 8 bytes
	return errno == 0 && syscall.Signal(sig) == syscall.SIGCONT
}
