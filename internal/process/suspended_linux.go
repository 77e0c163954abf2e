package process

import (
	"os"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
)

// suspendedBy returns the signal that has suspended a child of this program; 0 if it is not
// suspended. The report of the suspension remains until the child continues (waitid(2), WNOWAIT).
func suspendedBy(pid int) syscall.Signal {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil || info.Signo == 0 {
		return 0
	}
	// The fields of SIGCHLD begin where a pointer could be: si_pid, si_uid, si_status (sigaction(2)).
	const pointer = unsafe.Sizeof(uintptr(0))
	fields := (3*4 + pointer - 1) / pointer * pointer
	return syscall.Signal(*(*int32)(unsafe.Add(unsafe.Pointer(&info), fields+2*4)))
}

// searchSuspended calls report with the index of a command and a process of its run that is
// suspended: a descendant of the command, or of an orphan of the run, which is a child of this program.
// It does not look at the other commands: each of many jobs searches for its own.
func searchSuspended(all []*Process, report func(int, Suspended)) {
	self := os.Getpid()
	children := procfs.Children()
	var found []Suspended
	var search func(procfs.Stat)
	search = func(s procfs.Stat) {
		for _, pid := range children(s.PID) {
			if child, err := procfs.ReadStat(pid); err == nil {
				search(child)
			}
		}
		if s.State == 'T' {
			found = append(found, Suspended{PID: s.PID, Name: s.Name, Group: s.Group,
				Signal: syscall.Signal(s.StopSignal), Switches: procfs.Switches(s.PID)})
		}
	}
	for of, p := range all {
		command, err := procfs.ReadStat(p.pid)
		if err != nil || command.Parent != self {
			continue
		}
		found = found[:0]
		search(command)
		for _, s := range found {
			if s.PID != p.pid {
				report(of, s)
			}
		}
	}
	for _, pid := range procfs.Orphans() {
		if all[0].spawner.isCommand(pid) {
			continue
		}
		orphan, err := procfs.ReadStat(pid)
		if err != nil {
			continue
		}
		found = found[:0]
		if search(orphan); len(found) == 0 {
			continue
		}
		if of := slices.IndexFunc(all, func(p *Process) bool { return p.owns(orphan) }); of >= 0 {
			for _, s := range found {
				report(of, s)
			}
		}
	}
}

// owns reports whether a child of this program, which is no command, is an orphan of the run of p.
func (p *Process) owns(child procfs.Stat) bool {
	if child.Group == p.pid {
		return true
	}
	if p.leaf != nil {
		member := false
		p.leaf.each(func(pid, _ int) { member = member || pid == child.PID })
		return member
	}
	env, _ := os.ReadFile("/proc/" + strconv.Itoa(child.PID) + "/environ") // of another user's it is not known
	return p.escapes.marks(append([]byte{0}, env...))
}
