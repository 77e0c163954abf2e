package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gophd/internal/heartbeat"
	"gophd/internal/procfs"
	"gophd/internal/safefile"
)

// ourselves is what the heartbeat's record says about this process. What the system does not tell
// stays empty, and then nobody may conclude from it that we are dead.
func ourselves() heartbeat.Record {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	self := procfs.Self()
	return heartbeat.Record{PID: self.PID, Host: host, Boot: self.Boot, PIDNS: self.PIDNS, PIDStart: self.Start}
}

// dead says that the owner of r ran on this host, is gone, and that nothing it started is left, so that
// its heartbeat may be taken over at once. That we hold the very lock it held is the proof that it is
// gone; the rest is for what it may have left behind. For mark and users see orphans.
func dead(r, we heartbeat.Record, mark string, users []int) bool {
	switch {
	case !widowed(r, we):
		return false
	case r.Lock == "" || r.Lock != we.Lock:
		return false
	case r.Child > 0 && procfs.Alive(r.Child, 0):
		return false
	}
	left, err := orphans(mark, "", users)
	return err == nil && len(left) == 0
}

// widowed says that the owner of r ran on this host and is gone, whatever may be left of its command:
// then "it is run elsewhere" would be a lie, and a service manager must not take it for success.
func widowed(r, we heartbeat.Record) bool {
	return r.Boot != "" && r.Boot == we.Boot && r.PIDNS != "" && r.PIDNS == we.PIDNS && !procfs.Alive(r.PID, r.PIDStart)
}

// orphans lists the processes that a gophd which is gone has left of the job: those whose GOPHD_RUN_ID begins with that
// mark, but for those with the mark of our own runs. They belong to root, to our own
// user or to one of users: any other user could start a process with such an environment to keep the job from running.
// A process that hides its environment, or has cleared it, is missed.
func orphans(mark, ours string, users []int) ([]int, error) {
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
		if !marked(env, mark) || marked(env, ours) {
			continue
		}
		n, _ := strconv.Atoi(pid)
		// Both users: the environment of a set-user-ID program is that of the user who has started it.
		real, effective, err := procfs.UIDs(n)
		if err == nil && safefile.Trusted(real, users...) && safefile.Trusted(effective, users...) {
			pids = append(pids, n)
		}
	}
	slices.Sort(pids) // a command mostly before what it has started
	return pids, nil
}
