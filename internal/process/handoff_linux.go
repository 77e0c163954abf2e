package process

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
)

// Commands returns those children of this process that are commands of the old process, as far as
// that can be determined without a handoff: each leads a process group in gophd's own session. They
// are not adopted yet.
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

// childStart returns the start time of a child of this program in clock ticks after boot. It is 0
// if there is no such child, or no /proc.
func childStart(pid int) uint64 {
	s, err := procfs.ReadStat(pid)
	if err != nil || s.Parent != os.Getpid() {
		return 0
	}
	return s.Start
}
