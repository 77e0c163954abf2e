//go:build !linux

package safefile

import "golang.org/x/sys/unix"

// pathOnly opens a directory, which must be readable here.
const pathOnly = unix.O_RDONLY
