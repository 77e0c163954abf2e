//go:build !linux

package procfs

// Lockers returns nil: this system has no /proc/locks.
func Lockers(int) []int { return nil }
