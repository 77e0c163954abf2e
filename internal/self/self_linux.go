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

// strangeSignals have no meaning for gophd, and Go catches them and does nothing. They would end a program that does
// not catch them yet.
func strangeSignals() []syscall.Signal {
	all := []syscall.Signal{syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGVTALRM,
		syscall.SIGIO, syscall.SIGPWR}
	for s := syscall.Signal(35); s <= 64; s++ { // the realtime signals that no C library keeps for itself
		all = append(all, s)
	}
	return all
}

// HoldSignals blocks the control signals, and all that mean nothing to gophd, in the calling thread, to which it locks
// the goroutine, until release is called by the same goroutine. A program that is exec'ed or forked meanwhile starts
// with them blocked.
//
// The Go runtime of that program leaves all of them but INT, TERM, HUP and QUIT blocked in all its threads but the one
// that serves os/signal: such a signal, if it comes before signal.Notify or after signal.Stop, stays pending
// in the kernel, across execve too (signal(7)), and is delivered to the next Notify. INT, TERM, HUP and
// QUIT it unblocks before main, whatever was inherited (runtime.blockableSig); there is no way round that
// in Go, and restart does what else can be done about them.
func HoldSignals() (release func(), err error) {
	var set, old unix.Sigset_t
	word := uint(8 * unsafe.Sizeof(set.Val[0]))
	for _, s := range append(ControlSignals(), strangeSignals()...) {
		n := uint(s) - 1
		set.Val[n/word] |= 1 << (n % word)
	}
	runtime.LockOSThread()
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("cannot hold signals back: %v", err)
	}
	return func() {
		// A thread whose mask cannot be restored must not serve other goroutines: it stays locked,
		// and the runtime ends it with its goroutine.
		if unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}

// shutInherited marks every descriptor above 2 close-on-exec. The runtime's own are already.
func shutInherited() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return shutListed() // before Linux 5.11, or a sandbox that does not know the call
	}
	return err
}

func shutListed() error {
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
