package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipe returns a pipe for the output of a command. os.Pipe would add both ends to the poller of Go's
// runtime: the writing end for nothing, and since an empty pipe can be written at once, that would
// wake a thread while the command needs the processor. See stream for the reading end.
func pipe() (r int, w *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return 0, nil, os.NewSyscallError("pipe2", err)
	}
	return ends[0], os.NewFile(uintptr(ends[1]), "|1"), nil
}
