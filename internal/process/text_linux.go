package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// unnamed returns a new file without a name, in memory: it needs no directory, and no disk can be full.
func unnamed() (*os.File, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "stdin"), nil
}
