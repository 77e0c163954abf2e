package safefile

import "golang.org/x/sys/unix"

// pathOnly opens a directory that need not be readable (open(2)).
const pathOnly = unix.O_PATH
