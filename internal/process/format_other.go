//go:build !linux

package process

import "syscall"

// formatError returns "": the formats that this system executes are not known here.
func formatError(string, string, []string) (string, syscall.Errno) { return "", 0 }
