package process

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
	"gophd/internal/safefile"
)

// ErrNoProc means that there is no /proc to search for processes in.
var ErrNoProc = errors.New("no /proc to search for processes in")

// RunID is the environment variable that marks the descendants of a run.
const RunID = "GOPHD_RUN_ID"

// Leftover returns the processes of leftover runs: those whose RunID begins with mark, unless ours
// returns true for the rest of it, lowest PID first. They belong to root, to gophd's own user or to one of users: any other
// user could start a process with such an environment to keep the job from running. A process that
// hides or has cleared its environment is missed.
//
// An error means that not all processes could be checked, for example because no descriptors were
// free, or ErrNoProc.
func Leftover(mark string, ours func(rest string) bool, users ...int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	isProcess := func(e os.DirEntry) bool { return e.Name()[0] >= '1' && e.Name()[0] <= '9' }
	if !slices.ContainsFunc(entries, isProcess) {
		return nil, ErrNoProc
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH): // it has exited
			continue
		case errors.Is(err, fs.ErrPermission): // it is another user's
			continue
		case err != nil:
			return nil, err
		}
		_, rest, marked := bytes.Cut(append([]byte{0}, env...), []byte("\x00"+RunID+"="+mark))
		rest, _, _ = bytes.Cut(rest, []byte{0})
		if !marked || mark == "" || ours(string(rest)) {
			continue
		}
		// Check both users: a set-user-ID program has the environment of the user that started it.
		real, effective, err := procfs.UIDs(pid)
		if err == nil && safefile.Trusted(real, users...) && safefile.Trusted(effective, users...) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids) // a command is usually before the processes that it started
	return pids, nil
}
