//go:build !linux

package status

import "syscall"

// memoryNow knows only the peak on this system, from getrusage(2), which counts bytes on macOS and
// KiB on the BSDs.
func memoryNow() (m Memory) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		m.Peak = int64(u.Maxrss) * maxrssUnit
	}
	return m
}
