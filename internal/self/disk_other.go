//go:build !linux

package self

// WaitsForDisk cannot be told here.
func WaitsForDisk() bool { return false }
