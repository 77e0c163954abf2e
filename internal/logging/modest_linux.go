package logging

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// modest lets everybody else go first, until the goroutine ends: on Linux a nice value belongs to a
// thread (setpriority(2)). The thread ends with the goroutine, since nobody unlocks it.
func modest() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
}
