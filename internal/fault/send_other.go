//go:build faults && !linux

package fault

import (
	"os"
	"syscall"
)

func send(s syscall.Signal) { _ = syscall.Kill(os.Getpid(), s) }
