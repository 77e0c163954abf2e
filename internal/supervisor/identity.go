package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gophd/internal/heartbeat"
)

// ourselves is what the heartbeat's record says about this process. What the system does not tell
// stays empty, and then nobody may conclude from it that we are dead.
func ourselves() heartbeat.Record {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, _ := os.Readlink("/proc/self/ns/pid")
	start, _ := startTime(os.Getpid())
	return heartbeat.Record{PID: os.Getpid(), Host: host, Boot: strings.TrimSpace(string(boot)), PIDNS: space, PIDStart: start}
}

// startTime is when the process began, in clock ticks after boot: with the PID it names one process for
// ever (field 22 of proc_pid_stat(5)). The name in field 2 may hold anything, so it counts from its end.
// One that is dead and waits to be collected by its parent is no process: fs.ErrNotExist.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	if state := string(fields[0]); state == "Z" || state == "X" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// dead says that the owner of r ran on this host, is gone, and that nothing it started is left, so that
// its heartbeat may be taken over at once. That we hold the very lock it held is the proof that it is
// gone; the rest is for what it may have left behind.
func dead(r, we heartbeat.Record) bool {
	switch {
	case !widowed(r, we):
		return false
	case r.Lock == "" || r.Lock != we.Lock:
		return false
	case r.Child > 0 && alive(r.Child, 0):
		return false
	}
	left, err := orphans(we.Lock, "")
	return err == nil && len(left) == 0
}

// widowed says that the owner of r ran on this host and is gone, whatever may be left of its command:
// then "it is run elsewhere" would be a lie, and a service manager must not take it for success.
func widowed(r, we heartbeat.Record) bool {
	return r.Boot != "" && r.Boot == we.Boot && r.PIDNS != "" && r.PIDNS == we.PIDNS && !alive(r.PID, r.PIDStart)
}

// alive says that the process with that PID and start time may exist; without a start time, that any
// process with that PID may.
func alive(pid int, start uint64) bool {
	now, err := startTime(pid)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return start == 0 || now == start
}

// orphans lists the processes that a gophd which is gone has left of the job whose local lock is named: those
// with that lock in their environment, but for those with the mark of our own runs. A process that hides its
// environment, or has cleared it, is missed.
func orphans(lock, ours string) ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("no /proc to look for processes in")
	}
	marked := func(env []byte, mark string) bool {
		return mark != "" && bytes.Contains(env, []byte("\x00"+runID+"="+mark))
	}
	self := strconv.Itoa(os.Getpid())
	var pids []int
	for _, name := range names {
		pid := filepath.Base(filepath.Dir(name))
		env, err := os.ReadFile(name)
		if err != nil || pid == self {
			continue
		}
		env = append([]byte{0}, env...)
		if marked(env, lock+".") && !marked(env, ours) {
			n, _ := strconv.Atoi(pid)
			pids = append(pids, n)
		}
	}
	slices.Sort(pids) // a command mostly before what it has started
	return pids, nil
}
