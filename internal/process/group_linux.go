package process

import (
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
)

// When a zombie was seen that is not the awaited child, the next is looked for after zombieMin, then
// after twice as long each time.
const (
	zombieMin = 10 * time.Millisecond
	zombieMax = 5 * time.Second
)

func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// leaveEndsAlone gives SIGCHLD its default disposition back, which is to do nothing. The Go runtime handles it for
// the sake of signal.Notify, so each end of a child woke a thread that had nothing to do: measured, 2 % of
// runs back to back. A signal.Notify for it would install the handler anew.
func leaveEndsAlone() {
	var action [4]uint64 // struct kernel_sigaction: SIG_DFL, no flags, no mask
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}

// openMask empties the signal mask of the calling thread and returns how to restore it.
func openMask() (restore func()) {
	var empty, old unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &empty, &old)
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}

// observe blocks until the child has ended, and leaves it uncollected; or until a child ends once it was given to
// the next image. It waits for any child, so that the end of an orphan is an event too, and calls collect for it. What then stays a zombie is somebody
// else's, who may take any time, and would be reported again at once; so for a while, longer each time,
// only the child itself is waited for.
func observe(pid int, given func() bool, collect func()) {
	const ended = unix.WEXITED | unix.WNOWAIT
	fd := -1
	for pause := zombieMin; ; pause = min(2*pause, zombieMax) {
		_, _ = waitid(unix.P_ALL, 0, ended)
		if found, err := waitid(unix.P_PID, pid, ended|unix.WNOHANG); found || err != nil || given() {
			return
		}
		collect()
		if fd < 0 {
			var err error
			if fd, err = unix.PidfdOpen(pid, 0); err != nil {
				_, _ = waitid(unix.P_PID, pid, ended) // Linux before 5.3, or no descriptor is free
				return
			}
			defer unix.Close(fd)
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(pause/time.Millisecond))
	}
}

// groupAlive says whether the group has a living member, once its leader has ended, and whether anybody else
// among the children of this program lives. A wait for stopped children finds none to wait for (ECHILD) when all
// that are children of this program are zombies (waitid(2)). Members that are not can only be seen in /proc,
// where looking is dear: it is done when somebody holds a pipe of the group.
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

// Inherit is for a new image, before any room has started a child of its own: but for the runs that are to be
// adopted and the members of their groups, whoever is a child already is a stray of an earlier run, to be collected when
// it has ended. The members are known without that, and collected with their run: then a PID that is kept in mind here could
// come to be a later run's.
func (s *Spawner) Inherit(runs ...int) {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	s.inherited = map[int]bool{}
	self := os.Getpid()
	procfs.Processes(func(p procfs.Stat) {
		if p.Parent == self && !slices.Contains(runs, p.PID) && !slices.Contains(runs, p.Group) {
			s.inherited[p.PID] = true
		}
	})
}

// collectOrphans collects the zombies among the children of this program that came to it as orphans.
// Those that were found as strays are known; others are told by orphan.
func (s *Spawner) collectOrphans() {
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
		if p.Parent == self && p.Ended() && (known || s.inherited[p.PID] || orphan(p, session, group)) {
			s.collectStray(p.PID)
		}
	})
}

// collectStray collects a stray if it has ended, and forgets it before its PID can be another's.
func (s *Spawner) collectStray(pid int) {
	if got, err := wait4(pid, nil, unix.WNOHANG, nil); got == pid || err == unix.ECHILD {
		delete(s.known, pid)
		delete(s.inherited, pid)
	}
}

// know notes a stray, by whom it is being ended if it is.
func (s *Spawner) know(pid int, by *hunt) {
	if s.known == nil {
		s.known = map[int]*hunt{}
	}
	s.known[pid] = by
}

// waitid says whether a child was found in the state that was asked for.
func waitid(kind, id, options int) (found bool, err error) {
	for {
		var info unix.Siginfo
		if err = unix.Waitid(kind, id, &info, options, nil); err != unix.EINTR {
			return info.Signo != 0, err
		}
	}
}

// orphan says that a child of this program cannot have been started by it. Whom this program starts itself is
// in its own session, and there in its own group or the leader of another, so an orphan is who has another
// session, or is a plain member of another group. A stray that leads a group in the same session (a job of
// a shell with set -m) is known by its mark or not at all, and then stays a zombie until the next image.
func orphan(p procfs.Stat, session, group int) bool {
	return p.Session != session || p.Group != p.PID && p.Group != group
}
