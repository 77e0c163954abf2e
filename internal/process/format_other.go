//go:build !linux

package process

import "syscall"

// formatError returns "": the formats that this system executes are not known here.
func formatError(string, string, []string) (string, syscall.Errno) { return "", 0 }

// ReadByShell returns true: a file that is no script is not known here.
func ReadByShell(string) bool { return true }

// explainFormat returns "", as formatError does.
func explainFormat(string, string, syscall.Errno) (string, syscall.Errno) { return "", 0 }

// mountedNoexec returns false: mounts of this system are not known here.
func mountedNoexec(string) bool { return false }
