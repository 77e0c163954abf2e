package process

import "syscall"

// Suspended is a process that a signal has suspended.
type Suspended struct {
	PID    int            // 0 for none
	Name   string         // of the program, as in ps -o comm
	Group  int            // its process group
	Signal syscall.Signal // STOP, TSTP, TTIN or TTOU; 0 if it is not known
	// Switches tells apart a process that stays suspended from one that is continued and suspended
	// again: it grows when the process runs.
	Switches uint64
}

// SuspendedBy returns the signal that has suspended the command (STOP, TSTP, TTIN or TTOU); 0 if it
// is not suspended. ok is false once the command has exited or was detached. Only the command itself
// counts; see SuspendedBelow. SuspendedBy does not block. It works on Linux only; on other systems it
// returns 0.
func (p *Process) SuspendedBy() (by syscall.Signal, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now >= lingering { // its PID may be free
		return 0, false
	}
	return suspendedBy(p.pid), true
}

// SuspendedBelow returns for each of the commands the other processes of its run that are suspended,
// descendants before their ancestors. To a run belong the descendants of the command and the members
// of its group, and orphans of it that its EscapeRules or its control group identify. It searches
// the processes once for all commands, and does not block otherwise. It works on Linux only; on
// other systems it finds nothing.
func SuspendedBelow(all []*Process) [][]Suspended {
	found := make([][]Suspended, len(all))
	if len(all) > 0 {
		// No PID of an orphan is reused meanwhile. And if many jobs look at once, that needs the
		// memory of one search.
		reaping := &all[0].spawner.reaping
		reaping.Lock()
		defer reaping.Unlock()
		searchSuspended(all, func(i int, s Suspended) { found[i] = append(found[i], s) })
	}
	return found
}
