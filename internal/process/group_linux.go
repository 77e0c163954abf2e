package process

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// openMask empties the signal mask of the calling thread and returns how to restore it.
func openMask() (restore func()) {
	var empty, old unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &empty, &old)
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}

// observe blocks until the child has ended, and leaves it uncollected.
func observe(pid int) { _, _ = waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOWAIT) }

// groupAlive says whether the group has a living member, once its leader has ended. A wait for
// stopped children finds none to wait for (ECHILD) when all of the group that are children of this
// program are zombies (waitid(2)). Members that are not can only be seen in /proc, where looking is
// dear: it is done when somebody holds a pipe of the group.
func groupAlive(group int, held bool) bool {
	if _, err := waitid(unix.P_PGID, group, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT); err != unix.ECHILD {
		return true
	}
	alive := false
	if held {
		eachProcess(func(p procStat) {
			alive = alive || p.group == group && !p.dead()
		})
	}
	return alive
}

// collectOrphans collects the zombies among the children of this program that came to it as orphans.
// Whom this program starts itself is in its own session, and there in its own group or the leader of
// another, so an orphan is who has another session, or is a plain member of another group. A stray
// that leads a group in the same session (a job of a shell with set -m) cannot be told from a
// child of another room and stays a zombie.
func collectOrphans() {
	if found, err := waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT); err != nil || !found {
		return
	}
	self, group := os.Getpid(), unix.Getpgrp()
	session, err := unix.Getsid(0)
	if err != nil {
		return
	}
	eachProcess(func(p procStat) {
		if p.parent == self && p.dead() && (p.session != session || p.group != p.pid && p.group != group) {
			_, _ = wait4(p.pid, nil, unix.WNOHANG, nil)
		}
	})
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

// procStat is what is needed of /proc/PID/stat.
type procStat struct {
	pid, parent, group, session int
	state                       byte
}

func (p procStat) dead() bool { return p.state == 'Z' || p.state == 'X' }

// eachProcess shows every process that there is.
func eachProcess(see func(procStat)) {
	dir, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if name[0] < '1' || name[0] > '9' {
			continue
		}
		// An error is a process that ended in the meantime.
		if b, err := os.ReadFile("/proc/" + name + "/stat"); err == nil {
			if p, ok := parseStat(b); ok {
				see(p)
			}
		}
	}
}

// parseStat reads a line of proc_pid_stat(5): PID (NAME) STATE PPID PGRP SESSION and more. The name
// may hold anything, blanks and brackets too, so the last bracket counts.
func parseStat(b []byte) (p procStat, ok bool) {
	left, right := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if left < 0 || right < left {
		return procStat{}, false
	}
	rest := bytes.Fields(b[right+1:])
	if len(rest) < 4 || len(rest[0]) != 1 {
		return procStat{}, false
	}
	p.state = rest[0][0]
	for _, f := range []struct {
		to   *int
		from []byte
	}{{&p.pid, bytes.TrimSpace(b[:left])}, {&p.parent, rest[1]}, {&p.group, rest[2]}, {&p.session, rest[3]}} {
		n, err := strconv.Atoi(string(f.from))
		if err != nil {
			return procStat{}, false
		}
		*f.to = n
	}
	return p, true
}
