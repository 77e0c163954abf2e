package self

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// initSignals are the stops that container runtimes send to process 1: QUIT, PWR and RTMIN+3.
var initSignals = []syscall.Signal{syscall.SIGQUIT, syscall.SIGPWR, 34 + 3}

// unusedSignals returns the signals that have no meaning for gophd and that Go catches and drops.
// They would end a program that does not catch them yet.
func unusedSignals() []syscall.Signal {
	all := []syscall.Signal{syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGVTALRM,
		syscall.SIGIO, syscall.SIGPWR}
	for s := syscall.Signal(35); s <= 64; s++ { // the realtime signals that no C library reserves
		all = append(all, s)
	}
	return all
}

// HoldSignals blocks the control signals and the unused ones in the calling thread, and locks the
// goroutine to it, until the same goroutine calls release. A program that is executed or forked
// meanwhile starts with them blocked.
//
// The Go runtime of that program keeps them blocked in all its threads except the one that serves
// os/signal. A signal that comes before signal.Notify or after signal.Stop stays pending in the
// kernel, across execve too (signal(7)), and is delivered to the next Notify. This does not hold
// for INT, TERM, HUP and QUIT: the runtime unblocks them before main, whatever was inherited
// (runtime.blockableSig). Go has no way to prevent that; package restart does what else is
// possible.
func HoldSignals() (release func(), err error) {
	var set, old unix.Sigset_t
	word := uint(8 * unsafe.Sizeof(set.Val[0]))
	for _, s := range append(ControlSignals(), unusedSignals()...) {
		n := uint(s) - 1
		set.Val[n/word] |= 1 << (n % word)
	}
	runtime.LockOSThread()
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("cannot block signals: %v", err)
	}
	return func() {
		// A thread whose mask cannot be restored must not run other goroutines. It stays locked,
		// and the runtime ends it with its goroutine.
		if unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}

// markInherited marks every descriptor above 2 close-on-exec. The runtime's own are marked already.
func markInherited() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return markListed() // before Linux 5.11, or a sandbox that does not allow the call
	}
	return err
}

// markListed does the same with the list of descriptors in /proc.
func markListed() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
