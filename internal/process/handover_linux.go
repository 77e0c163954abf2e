package process

import (
	"os"

	"gophd/internal/procfs"
)

// birth is the start of a child of this program in clock ticks since the boot: 0 when there is no such child, or no
// /proc.
func birth(pid int) uint64 {
	s, err := procfs.ReadStat(pid)
	if err != nil || s.Parent != os.Getpid() {
		return 0
	}
	return s.Start
}
