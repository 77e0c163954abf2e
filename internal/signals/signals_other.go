//go:build unix && !linux

package signals

import "syscall"

// There are no PID namespaces on this system, so gophd is never process 1.
const systemdHalt syscall.Signal = 0

var initTable []row

func unusedHere() []syscall.Signal { return nil }

// continued is not available on this system: a CONT that came during a re-exec is lost.
func continued() bool { return false }
