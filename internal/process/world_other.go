//go:build !linux

package process

import (
	"errors"
	"os"
	"syscall"

	"gophd/internal/world"
)

const linuxOnly = "its user, umask, niceness and limits can be set on Linux only: leave them out"

// Permitted says that commands cannot be started in a world of their own on this system.
func Permitted(w *world.World) error {
	if w == nil {
		return nil
	}
	return errors.New(linuxOnly)
}

func (s *Spawner) enter(c Command, _ []*os.File, _ *leaf) (int, error) {
	return 0, &startError{c.Argv[0], linuxOnly, syscall.ENOTSUP, true}
}

// Shim is never executed on this system.
func Shim() error { return errors.New(ShimCommand + " is for Linux") }
