package logging

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// lowestPriority gives the calling goroutine the lowest CPU priority until it returns. On Linux a
// nice value belongs to a thread (setpriority(2)). The thread exits with the goroutine, because it
// stays locked to it.
func lowestPriority() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
}
