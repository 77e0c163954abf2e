//go:build !linux

package process

import "os"

// pipe returns a pipe for the output of a command.
func pipe() (r, w *os.File, err error) { return os.Pipe() }
