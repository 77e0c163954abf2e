//go:build !linux

package process

import (
	"os"
	"syscall"
)

// pipe returns a pipe for the output of a command.
func pipe() (r int, w *os.File, err error) {
	var ends [2]int
	syscall.ForkLock.RLock() // a fork between the calls would pass the ends on
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(ends[:]); err != nil {
		return 0, nil, os.NewSyscallError("pipe", err)
	}
	for _, fd := range ends {
		syscall.CloseOnExec(fd)
	}
	return ends[0], os.NewFile(uintptr(ends[1]), "|1"), nil
}
