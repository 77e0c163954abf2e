//go:build !linux

package process

import (
	"errors"
	"os"
	"syscall"

	"gophd/internal/credentials"
)

const linuxOnly = "its user, umask, niceness and limits can be set on Linux only: leave them out"

// Permitted returns an error if c is not nil: only Linux can set credentials.
func Permitted(c *credentials.Credentials) error {
	if c == nil {
		return nil
	}
	return errors.New(linuxOnly)
}

// MayGive returns nil: no command has another user than gophd.
func MayGive(*credentials.Credentials) error { return nil }

func (s *Spawner) startShim(c Command, _ []*os.File, _ *leaf) (int, error) {
	return 0, &startError{c.Argv[0], linuxOnly, syscall.ENOTSUP, true}
}

func checkByShim(all []Command) (checked []Checked) {
	for _, c := range all {
		checked = append(checked, Checked{Err: &startError{c.Argv[0], linuxOnly, syscall.ENOTSUP, true}})
	}
	return checked
}

// Shim is never executed on this system.
func Shim() error { return errors.New(ShimCommand + " is for Linux") }
