package main

import (
	"os"
	"time"

	"gophd/internal/procfs"
)

// topUsage is what the active runs use, by the process group of each, which has the PID of its command.
type topUsage struct {
	at    time.Time
	ticks map[int]uint64
	cpu   map[int]float64 // of one CPU, since the measurement before; a new run has none yet
	bytes map[int]int64
}

// userTicks is the number of clock ticks in a second of proc_pid_stat(5): USER_HZ is 100 on all
// architectures that Go supports.
const userTicks = 100

// measure returns what the groups use now. Processes of another PID namespace or user may not be seen;
// without /proc none is.
func (u topUsage) measure(groups []int, now time.Time) topUsage {
	next := topUsage{at: now, ticks: map[int]uint64{}, cpu: map[int]float64{}, bytes: map[int]int64{}}
	if len(groups) == 0 {
		return next
	}
	for _, g := range groups {
		next.ticks[g] = 0
	}
	procfs.Processes(func(s procfs.Stat) {
		if _, ok := next.ticks[s.Group]; ok {
			next.ticks[s.Group] += s.CPU
			next.bytes[s.Group] += int64(s.Resident) * int64(os.Getpagesize())
		}
	})
	for _, g := range groups {
		before, ok := u.ticks[g]
		if _, seen := next.bytes[g]; ok && seen && next.ticks[g] >= before {
			next.cpu[g] = float64(next.ticks[g]-before) / userTicks / now.Sub(u.at).Seconds()
		}
	}
	return next
}
