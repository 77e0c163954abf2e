package main

import "gophd/internal/process"

// become is the hidden command by which gophd starts a command in a world of its own; see process.Shim. It is
// no command of cobra's: it runs before each such run, and nobody is there to read help or usage.
func become() error {
	if err := process.Shim(); err != nil {
		return &usageError{err}
	}
	return codeError(codeFailed)
}
