package process

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gophd/internal/procfs"
	"gophd/internal/safefile"
)

// RunID is the environment variable that marks the descendants of a run.
const RunID = "GOPHD_RUN_ID"

// Leftover returns the processes that a gophd which was killed has left of its runs: those whose
// RunID begins with mark but not with ours, lowest PID first. They belong to root, to gophd's own
// user or to one of users: any other user could start a process with such an environment to keep
// the job from running. A process that hides its environment, or has cleared it, is missed. The
// error is that there is no /proc.
func Leftover(mark, ours string, users ...int) ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(names) == 0 {
		return nil, errors.New("no /proc to search for processes in")
	}
	marked := func(env []byte, mark string) bool {
		return mark != "" && bytes.Contains(env, []byte("\x00"+RunID+"="+mark))
	}
	var pids []int
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		env, err := os.ReadFile(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		env = append([]byte{0}, env...)
		if !marked(env, mark) || marked(env, ours) {
			continue
		}
		// Both users: the environment of a set-user-ID program is that of the user who has started it.
		real, effective, err := procfs.UIDs(pid)
		if err == nil && safefile.Trusted(real, users...) && safefile.Trusted(effective, users...) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids) // a command mostly before what it has started
	return pids, nil
}
