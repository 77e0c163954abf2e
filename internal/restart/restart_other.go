//go:build unix && !linux

package restart

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openFolder opens a folder to return to; here it must be readable.
const openFolder = unix.O_RDONLY

// anonymous makes a file whose name is gone already.
func anonymous() (*os.File, error) {
	f, err := os.CreateTemp("", "gophd-handoff")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// bootID is unknown here: that the PID is ours must do.
func bootID() string { return "" }
