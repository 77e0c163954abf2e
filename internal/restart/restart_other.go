//go:build unix && !linux

package restart

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openDirectory opens a directory to return to. On this system it must be readable.
const openDirectory = unix.O_RDONLY

// anonymous creates a file and removes its name.
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

func clocks() (at Instant, now time.Time) { return readClocks() }

// bootID is unknown on this system; only the PID is compared.
func bootID() string { return "" }
