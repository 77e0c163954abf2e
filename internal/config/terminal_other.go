//go:build !linux

package config

import "os"

// isSessionTerminal reports whether the file at path is /dev/tty, the terminal of the session, which
// a daemon leaves. It opens nothing.
func isSessionTerminal(path string) bool {
	terminal, err := os.Stat("/dev/tty")
	if err != nil {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, terminal)
}
