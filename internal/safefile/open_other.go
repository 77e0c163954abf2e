//go:build !linux

package safefile

import "golang.org/x/sys/unix"

// pathOnly opens a directory, which must be readable here.
const pathOnly = unix.O_RDONLY

// unnamed makes each open fail: a file without a name is not possible here.
const unnamed = unix.O_DIRECTORY
