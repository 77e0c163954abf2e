//go:build !linux

package process

// Forget does nothing: the Wait of a detached command returns when the command exits.
func Forget(...*Process) {}
