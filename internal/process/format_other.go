//go:build !linux

package process

import "syscall"

// formatError returns "": the formats that this system executes are not known here.
func formatError(string, string, []string) (string, syscall.Errno) { return "", 0 }

// explainFormat returns "", as formatError does.
func explainFormat(string, string, syscall.Errno) (string, syscall.Errno) { return "", 0 }

// mountedNoexec returns false: mounts of this system are not known here.
func mountedNoexec(string) bool { return false }
