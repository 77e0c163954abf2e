package main

import "gophd/internal/process"

// shim runs the hidden command with which gophd starts a command in its own exec environment; see
// process.Shim. It is not a cobra command, because it runs before each such run and needs no help
// or usage.
func shim() error {
	if err := process.Shim(); err != nil {
		return &usageError{err}
	}
	return codeError(codeFailed)
}
