//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeSubreaper does nothing: orphans go to init, which collects them.
func becomeSubreaper() error { return nil }

// reapOrphansNow does nothing, for the same reason.
func (s *Spawner) reapOrphansNow() {}

// Inherit does nothing, for the same reason.
func (s *Spawner) Inherit(runs, reported []int) {}

// Reported returns none, for the same reason.
func (s *Spawner) Reported() []int { return nil }

// sweep does nothing, for the same reason.
func (p *Process) sweep() {}

// ignoreSIGCHLD does nothing: SIGCHLD only wakes a thread here.
func ignoreSIGCHLD() {}

func handleSIGCHLD() {}

// emptySignalMask does nothing: without the C library the mask of a thread cannot be set here, and
// a command inherits it unchanged.
func emptySignalMask() (restore func()) { return func() {} }

// observe blocks until the child has exited, and does not reap it. If kqueue(2) cannot watch the
// child, mostly because it has already exited, observe returns at once and wait4 does the waiting.
func (p *Process) observe() {
	p.read()
	kq, err := unix.Kqueue()
	if err != nil {
		return
	}
	defer unix.Close(kq)
	var watch unix.Kevent_t
	unix.SetKevent(&watch, p.pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	watch.Fflags = unix.NOTE_EXIT
	got := make([]unix.Kevent_t, 1)
	for {
		if _, err := unix.Kevent(kq, []unix.Kevent_t{watch}, got, nil); err != unix.EINTR {
			return
		}
	}
}

// suspendedBy returns 0: without waitid(2) a look at a suspended child could reap it.
func suspendedBy(int) syscall.Signal { return 0 }

// searchSuspended finds nothing: there is no /proc.
func searchSuspended([]*Process, func(int, Suspended)) {}

// groupAlive reports whether the group has a living member: kill(2) does not count zombies here.
func groupAlive(group int, _ bool) (alive, others bool) { return unix.Kill(-group, 0) == nil, false }
