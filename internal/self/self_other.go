//go:build unix && !linux

package self

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

var initSignals []syscall.Signal // process 1 is the system's own

// HoldSignals does nothing here: the system library has no per-thread mask that Go can reach. A
// signal that comes while one image becomes another may end the program.
func HoldSignals() (release func(), err error) { return func() {}, nil }

// shutInherited marks every descriptor above 2 close-on-exec, up to the limit of open files; an
// inherited one above a limit that was lowered later, or above 65536, is missed.
func shutInherited() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %v", err)
	}
	for fd := 3; fd < int(min(uint64(limit.Cur), 65536)); fd++ {
		unix.CloseOnExec(fd)
	}
	return nil
}
