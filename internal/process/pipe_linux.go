package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipe returns a pipe for the output of a command. Only its reading end is in the poller of Go's
// runtime. os.Pipe adds the writing end too, and since an empty pipe can be written at once, that
// wakes a thread for nothing, while the command needs the processor.
func pipe() (r, w *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	w = os.NewFile(uintptr(ends[1]), "|1")
	if _, err := unix.FcntlInt(uintptr(ends[0]), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		_ = w.Close()
		_ = unix.Close(ends[0])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(ends[0]), "|0"), w, nil
}
