// Package procfs answers: what does the kernel report about a process? It reads /proc (proc(5)).
//
// Where there is no /proc, everything is unknown: functions return errors and empty strings, and
// every process may be alive.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Identity names one process permanently. A PID alone does not: the kernel reuses it.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"pidstart,omitempty"` // see StartTime
	Boot  string `json:"boot,omitempty"`     // the boot id of the host
	PIDNS string `json:"pidns,omitempty"`    // the PID namespace
}

// SeesAll reports whether this PID namespace shows the processes of all others: it is the initial
// one of the host (PROC_PID_INIT_INO in Linux's include/linux/proc_ns.h), or the system has no such
// namespaces.
func (i Identity) SeesAll() bool { return i.PIDNS == "" || i.PIDNS == "pid:[4026531836]" }

// Self returns the identity of this process. It stays the same over execve(2).
func Self() Identity {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, _ := os.Readlink("/proc/self/ns/pid")
	start, _ := StartTime(os.Getpid())
	return Identity{PID: os.Getpid(), Start: start, Boot: strings.TrimSpace(string(boot)), PIDNS: space}
}

// MayLive returns false if the process has certainly exited. It returns true if the process is
// alive or cannot be seen from here.
func (i Identity) MayLive() bool {
	self := Self()
	switch {
	case i.Boot == "" || self.Boot == "":
		return true
	case i.Boot != self.Boot:
		return false
	case i.PIDNS != self.PIDNS:
		return true
	}
	return Alive(i.PID, i.Start)
}

// StartTime returns the time at which a process was started, in clock ticks after boot (field 22 of
// proc_pid_stat(5)). For a zombie it returns fs.ErrNotExist.
func StartTime(pid int) (uint64, error) {
	s, err := ReadStat(pid)
	switch {
	case err != nil:
		return 0, err
	case s.Ended():
		return 0, fs.ErrNotExist
	case s.Start == 0 && pid != 1: // only process 1 may have started at tick 0
		return 0, errStat
	}
	return s.Start, nil
}

// Alive reports whether a process with that PID and start time may exist. A start time of 0 matches
// any.
func Alive(pid int, start uint64) bool {
	now, err := StartTime(pid)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return start == 0 || now == start
}

// UIDs returns the real and the effective user of a process. They differ in a set-user-ID program.
func UIDs(pid int) (real, effective int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	_, line, ok := bytes.Cut(text, []byte("\nUid:"))
	if _, err := fmt.Sscan(string(line), &real, &effective); !ok || err != nil {
		return 0, 0, fmt.Errorf("/proc/%d/status has no Uid", pid)
	}
	return real, effective, nil
}
