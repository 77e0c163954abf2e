//go:build !linux

package procfs

// Lockers returns nil: no such list is known here.
func Lockers(int) []int { return nil }
