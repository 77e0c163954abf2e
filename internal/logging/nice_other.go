//go:build !linux

package logging

// lowestPriority does nothing where a nice value applies to the whole process.
func lowestPriority() {}
