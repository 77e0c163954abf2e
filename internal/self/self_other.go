//go:build unix && !linux

package self

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

var initSignals []syscall.Signal // gophd is never process 1 on this system

// HoldSignals does nothing on this system: Go cannot set the signal mask of a thread. A signal that
// comes during a re-exec may end the program.
func HoldSignals() (release func(), err error) { return func() {}, nil }

// markInherited marks every descriptor above 2 close-on-exec, up to the limit of open files. It
// misses an inherited one above a limit that was lowered later, or above 65536.
func markInherited() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %v", err)
	}
	for fd := 3; fd < int(min(uint64(limit.Cur), 65536)); fd++ {
		unix.CloseOnExec(fd)
	}
	return nil
}
