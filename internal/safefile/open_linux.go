package safefile

import "golang.org/x/sys/unix"

// pathOnly opens a directory that need not be readable (open(2)).
const pathOnly = unix.O_PATH

// unnamed creates a file without a name in a directory (open(2)).
const unnamed = unix.O_TMPFILE
