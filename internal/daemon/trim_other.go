//go:build !linux

package daemon

// unmapProgram is for Linux, where what a program has mapped counts as its memory.
func unmapProgram() {}
