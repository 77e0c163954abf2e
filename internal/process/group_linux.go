package process

import (
	"maps"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
)

func becomeSubreaper() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// sigaction is struct kernel_sigaction; the zero value is SIG_DFL without flags.
type sigaction [4]uint64

// runtimeAction is the disposition that the Go runtime gave SIGCHLD.
var runtimeAction = sync.OnceValue(func() (action sigaction) {
	_, _, _ = unix.RawSyscall6(
		unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
	return action
})

// ignoreSIGCHLD gives SIGCHLD its default disposition, which is to do nothing. The Go runtime has a
// handler for signal.Notify, whether it is used or not, so each exit of a child would wake a thread
// for nothing: 2 % of the time of runs back to back, measured.
func ignoreSIGCHLD() {
	_ = runtimeAction()
	setSIGCHLD(sigaction{})
}

// handleSIGCHLD undoes ignoreSIGCHLD. signal.Notify does not: it takes the handler for installed.
func handleSIGCHLD() { setSIGCHLD(runtimeAction()) }

func setSIGCHLD(action sigaction) {
	_, _, _ = unix.RawSyscall6(
		unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}

// emptySignalMask empties the signal mask of the calling thread and returns a function that
// restores it.
func emptySignalMask() (restore func()) {
	var empty, old unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &empty, &old)
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}

// observe blocks until the child has exited, and does not reap it. Once the child is detached,
// observe may return at any time, and after Forget it does.
//
// If many Waits begin at once, they open their pidfds one after another. The runtime adds a thread
// whenever one does not return from a system call at once, and on a busy machine that was a thread
// for each fifth Wait.
//
// Another process that traces the child (ptrace(2)) sees its exit first, and the pidfd shows it
// then. So waitid has the last word.
func (p *Process) observe() {
	p.spawner.opening.Lock()
	fd, err := unix.PidfdOpen(p.pid, 0)
	p.spawner.opening.Unlock()
	switch {
	case err != nil: // Linux before 5.3, a filter of system calls, or no descriptor is free
		p.read()
		p.spawner.watchExits()
		defer p.spawner.unwatchExits()
	case p.endsSoon(fd):
		_ = unix.Close(fd)
	default:
		p.spawner.watchExits()
		defer p.spawner.unwatchExits()
		p.read()
		p.park(fd)
	}
	if !p.isDetached() {
		_, _ = waitid(unix.P_PID, p.pid, unix.WEXITED|unix.WNOWAIT)
	}
}

// endsSoon blocks the thread until the process has exited, for blockTime at most. It returns false
// if the process has not exited, and at once if enough threads are blocked. Meanwhile it begins to
// read the streams when there is output, and closes those that end without.
func (p *Process) endsSoon(pidfd int) bool {
	select {
	case p.spawner.blocking <- struct{}{}:
		defer func() { <-p.spawner.blocking }()
	default:
		return false
	}
	fds := append(make([]unix.PollFd, 0, 3), unix.PollFd{Fd: int32(pidfd), Events: unix.POLLIN})
	for _, st := range p.streams {
		fd := unix.PollFd{Fd: -1} // ignored
		if st.phase == unread {
			fd = unix.PollFd{Fd: int32(st.fd), Events: unix.POLLIN}
		}
		fds = append(fds, fd)
	}
	closing := false // an output was closed, most likely because the command is exiting
	for end := time.Now().Add(blockTime); ; {
		all, until := fds, end
		if closing { // the other output is closed next, which need not wake this thread
			all, until = fds[:1], earlier(end, time.Now().Add(exitTime))
		}
		n := poll(all, until)
		switch {
		case n < 0:
			return false
		case fds[0].Revents != 0:
			if poll(fds[1:], time.Time{}) > 0 {
				p.look(fds[1:])
			}
			return true
		case n > 0:
			closing = p.look(fds[1:])
		case closing:
			closing = false
		default:
			return false
		}
	}
}

// look begins to read the streams if there is output, or else closes those that have ended and
// returns true.
func (p *Process) look(fds []unix.PollFd) (closed bool) {
	for i, fd := range fds {
		switch fd.Revents {
		case 0:
		case unix.POLLHUP:
			p.end(p.streams[i])
			fds[i].Fd, closed = -1, true
		default:
			p.read()
			for i := range fds {
				fds[i].Fd = -1
			}
			return false
		}
	}
	return closed
}

// park waits in the runtime's poller until the process has exited, or until Forget. It returns early
// if the child is detached already, and if the poller does not take the descriptor. It closes the
// descriptor.
func (p *Process) park(pidfd int) {
	p.spawner.opening.Lock()
	_ = unix.SetNonblock(pidfd, true) // NewFile requires it
	f := os.NewFile(uintptr(pidfd), "pidfd")
	p.spawner.opening.Unlock()
	defer f.Close()
	p.mu.Lock()
	p.pidfd = f
	gone := p.now == detached
	p.mu.Unlock()
	if gone {
		return
	}
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Read(func(fd uintptr) bool {
			return poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, time.Time{}) != 0
		})
	}
}

// poll is poll(2) until end, and negative after an error. Any signal to the thread interrupts poll(2),
// even if it does not wait.
func poll(fds []unix.PollFd, end time.Time) int {
	for {
		left := max(time.Until(end).Round(time.Millisecond), 0)
		if n, err := unix.Poll(fds, int(left/time.Millisecond)); err != unix.EINTR {
			return n
		}
	}
}

// groupAlive reports whether the group has a living member after its leader has exited, and whether
// any other child of this program is alive.
//
// A wait for stopped children fails with ECHILD if all children of this program are zombies
// (waitid(2)). Members that are not children of this program can only be seen in /proc. Scanning
// /proc is expensive, so it is done only if a process holds a pipe of the group.
func groupAlive(group int, held bool) (alive, others bool) {
	const stopped = unix.WSTOPPED | unix.WNOHANG | unix.WNOWAIT
	if _, err := waitid(unix.P_ALL, 0, stopped); err != unix.ECHILD {
		others = true
		if _, err := waitid(unix.P_PGID, group, stopped); err != unix.ECHILD {
			return true, others
		}
	}
	if held {
		procfs.Processes(func(p procfs.Stat) {
			alive = alive || p.Group == group && !p.Ended()
		})
	}
	return alive, others
}

// Inherit records the children of this program at the start of a new process, before any package
// has started a child of its own. Except for the runs that are to be adopted and the members of
// their groups, every child is an escaped process of an earlier run, to be reaped when it has
// exited. The members of the groups are not recorded: they are reaped with their run, and a
// recorded PID could be reused by a later run. reported are those that the old process has reported,
// see Reported.
func (s *Spawner) Inherit(runs, reported []int) {
	s.reaping.Lock()
	defer s.reaping.Unlock()
	for _, pid := range reported { // it is the same process: no other has reaped it since
		s.track(pid, nil)
	}
	s.inherited = map[int]bool{}
	self := os.Getpid()
	procfs.Processes(func(p procfs.Stat) {
		if p.Parent == self && !slices.Contains(runs, p.PID) && !slices.Contains(runs, p.Group) {
			s.inherited[p.PID] = true
		}
	})
}

// Reported returns the escaped processes that were reported, and may be alive.
func (s *Spawner) Reported() []int {
	s.reaping.Lock()
	defer s.reaping.Unlock()
	return slices.Sorted(maps.Keys(s.known))
}

// reapOrphansNow reaps the zombies among the children of this program that became its children as
// orphans: the known escaped processes, and others that isOrphan identifies.
func (s *Spawner) reapOrphansNow() {
	if found, err := waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT); err != nil || !found {
		return
	}
	self, group := os.Getpid(), unix.Getpgrp()
	session, err := unix.Getsid(0)
	if err != nil {
		return
	}
	procfs.Processes(func(p procfs.Stat) {
		_, known := s.known[p.PID]
		if p.Parent == self && p.Ended() && !s.isCommand(p.PID) && (known || s.inherited[p.PID] || isOrphan(p, session, group)) {
			s.reapEscaped(p.PID)
		}
	})
}

// reapEscaped reaps an escaped process if it has exited, and forgets its PID before the kernel can
// reuse it.
func (s *Spawner) reapEscaped(pid int) {
	if got, err := wait4(pid, nil, unix.WNOHANG, nil); got == pid || err == unix.ECHILD {
		delete(s.known, pid)
		delete(s.inherited, pid)
	}
}

// track records an escaped process. by is the sweep that is stopping it, or nil.
func (s *Spawner) track(pid int, by *sweep) {
	if s.known == nil {
		s.known = map[int]*sweep{}
	}
	s.known[pid] = by
}

// waitid reports whether a child was found in the requested state.
func waitid(kind, id, options int) (found bool, err error) {
	for {
		var info unix.Siginfo
		if err = unix.Waitid(kind, id, &info, options, nil); err != unix.EINTR {
			return info.Signo != 0, err
		}
	}
}

// isOrphan reports whether a child of this program cannot have been started by it.
//
// A child that this program started has the program's session, and is in the program's group or
// leads a group of its own. So a child that has another session, or is a plain member of another
// group, is an orphan. An escaped process that leads a group in the same session (a job of a shell
// with set -m) is identified by its mark or not at all, and then stays a zombie until the next
// re-exec.
func isOrphan(p procfs.Stat, session, group int) bool {
	return p.Session != session || p.Group != p.PID && p.Group != group
}
