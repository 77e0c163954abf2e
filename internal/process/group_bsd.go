//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package process

import (
	"golang.org/x/sys/unix"
)

// adoptOrphans does nothing: orphans go to init, which collects them.
func adoptOrphans() error { return nil }

func (s *Spawner) collectOrphans() {}

// Inherit does nothing, for the same reason.
func (s *Spawner) Inherit(...int) {}

// sweep does nothing, for the same reason.
func (p *Process) sweep() {}

// leaveEndsAlone does nothing: SIGCHLD wakes a thread here, which costs no more than that.
func leaveEndsAlone() {}

// openMask does nothing: the mask of a thread cannot be set without the C library here, and a command
// inherits it as it is.
func openMask() (restore func()) { return func() {} }

// observe blocks until the child has ended, and leaves it uncollected. Whatever keeps kqueue(2) from
// watching it, an end before the watch began above all, is left to wait4.
func observe(pid int, _ func() bool, _ func()) {
	kq, err := unix.Kqueue()
	if err != nil {
		return
	}
	defer unix.Close(kq)
	var watch unix.Kevent_t
	unix.SetKevent(&watch, pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	watch.Fflags = unix.NOTE_EXIT
	got := make([]unix.Kevent_t, 1)
	for {
		if _, err := unix.Kevent(kq, []unix.Kevent_t{watch}, got, nil); err != unix.EINTR {
			return
		}
	}
}

// groupAlive says whether the group has a living member: kill(2) does not count zombies here.
func groupAlive(group int, _ bool) (alive, others bool) { return unix.Kill(-group, 0) == nil, false }
