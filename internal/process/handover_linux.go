package process

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
)

// Commands returns those children of this process that are commands of the old process, as far as
// that can be told without a handoff: each leads a process group in gophd's own session. They are not
// yet adopted.
func Commands() (commands []Handed) {
	self := os.Getpid()
	session, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	procfs.Processes(func(p procfs.Stat) {
		if p.Parent == self && p.Group == p.PID && p.Session == session {
			commands = append(commands, Handed{PID: p.PID, Birth: p.Start, Started: time.Now()})
		}
	})
	return commands
}

// birth is the start of a child of this program in clock ticks since the boot: 0 when there is no such child, or no
// /proc.
func birth(pid int) uint64 {
	s, err := procfs.ReadStat(pid)
	if err != nil || s.Parent != os.Getpid() {
		return 0
	}
	return s.Start
}
