package process

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
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup is the group that this program moves itself into: a group that enables controllers for
// its children may hold no process ("no internal processes", cgroups(7)).
const ownGroup = "gophd.self"

// jobGroup is the prefix of the name of each job's group.
const jobGroup = "job-"

// Cgroup is the control group (cgroup v2) of a job. Each of its runs gets a group of its own below
// it, with the limits. So it is certain which processes belong to a run, whatever session or
// environment they have.
type Cgroup struct {
	path   string
	limits []value

	mu    sync.Mutex
	count int // the number of the last run's group
}

// OpenCgroup creates a group for the job in the group parent, or uses an existing one. parent is a
// path in the file system.
//
// An empty parent means the group of this program, which has to be delegated to it. If that group
// does not have the controllers enabled yet, the program first moves itself into a group below it,
// and for that it must be the only process in it. An error names what is missing.
func OpenCgroup(parent, name string, l Limits) (*Cgroup, error) {
	if name == "" || strings.ContainsAny(name, "/\x00\n") {
		return nil, fmt.Errorf("cannot make a control group for the job %q: its name must contain no slash", name)
	}
	values, err := l.values()
	if err != nil {
		return nil, err
	}
	own := parent == ""
	if own {
		if parent, err = currentGroup(); err != nil {
			return nil, err
		}
	}
	if err := enableControllers(parent, own, values); err != nil {
		return nil, err
	}
	c := &Cgroup{path: filepath.Join(parent, jobGroup+name), limits: values}
	if err := os.Mkdir(c.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, notDelegated(parent, err)
	}
	if err := enableControllers(c.path, false, values); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// CheckCgroup returns the error that OpenCgroup would return, and changes nothing. ignored are
// processes that may be in this program's group too: before a re-exec, the running gophd that
// requests the check, and the parent of this program.
func CheckCgroup(parent string, l Limits, ignored ...int) error {
	values, err := l.values()
	if err != nil {
		return err
	}
	own := parent == ""
	if own {
		if parent, err = currentGroup(); err != nil {
			return err
		}
	}
	needed, err := neededControllers(parent, values)
	if err == nil && needed != nil && own {
		err = checkAlone(parent, ignored...)
	}
	if err != nil {
		return err
	}
	paths := []string{parent}
	if needed != nil {
		paths = append(paths, filepath.Join(parent, "cgroup.subtree_control"))
	}
	for _, path := range paths {
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS); err != nil {
			return notDelegated(parent, &fs.PathError{Op: "write to", Path: path, Err: err})
		}
	}
	return nil
}

// value is the text to write to one file of a group.
type value struct{ controller, file, text string }

// values returns the values for the limits that are set. A new group has no other limits.
func (l Limits) values() (all []value, err error) {
	const period = 100000 // microseconds, the kernel's default
	if l.Memory < 0 || l.Tasks < 0 || l.CPU < 0 {
		return nil, fmt.Errorf("memory %d, cpu %d and tasks %d are not limits: none of them may be negative",
			l.Memory, l.CPU, l.Tasks)
	}
	if l.Memory > 0 {
		all = append(all, value{"memory", "memory.max", strconv.FormatInt(l.Memory, 10)})
	}
	if l.CPU > 0 {
		all = append(all, value{"cpu", "cpu.max", fmt.Sprintf("%d %d", int64(l.CPU)*period/100, period)})
	}
	if l.Tasks > 0 {
		all = append(all, value{"pids", "pids.max", strconv.Itoa(l.Tasks)})
	}
	return all, nil
}

// neededControllers returns the controllers that groups below dir do not have yet and can have, in
// the form in which they are written to cgroup.subtree_control.
func neededControllers(dir string, values []value) (needed []string, err error) {
	available, err := readFields(dir, "cgroup.controllers")
	if err != nil {
		return nil, notDelegated(dir, err)
	}
	enabled, err := readFields(dir, "cgroup.subtree_control")
	if err != nil {
		return nil, notDelegated(dir, err)
	}
	var missing []string
	for _, v := range values {
		switch {
		case slices.Contains(enabled, v.controller):
		case slices.Contains(available, v.controller):
			needed = append(needed, "+"+v.controller)
		default:
			missing = append(missing, v.controller)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("cannot limit %s: the control group %s has no such controller: "+
			"delegate it (systemd: Delegate=yes in the unit), or leave the limit out",
			strings.Join(missing, " and "), dir)
	}
	return needed, nil
}

// enableControllers enables the controllers that groups below dir need.
func enableControllers(dir string, own bool, values []value) error {
	needed, err := neededControllers(dir, values)
	if err != nil || needed == nil {
		return err
	}
	if own {
		if err := moveToChildGroup(dir); err != nil {
			return err
		}
	}
	err = writeFile(filepath.Join(dir, "cgroup.subtree_control"), strings.Join(needed, " "))
	switch {
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("cannot limit the job: there are processes in the control group %s itself: "+
			"name a group that has none", dir)
	case err != nil:
		return notDelegated(dir, err)
	}
	return nil
}

// isRootGroup reports whether dir is the root of all groups. Only the root has no cgroup.type, and
// it may hold processes.
func isRootGroup(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// checkAlone returns an error if this program's group has processes other than this program and
// known.
func checkAlone(dir string, known ...int) error {
	if isRootGroup(dir) {
		return nil
	}
	pids, err := readFields(dir, "cgroup.procs")
	if err != nil {
		return notDelegated(dir, err)
	}
	others := slices.DeleteFunc(pids, func(s string) bool {
		pid, err := strconv.Atoi(s)
		return err == nil && (pid == os.Getpid() || slices.Contains(known, pid))
	})
	if len(others) > 0 {
		return fmt.Errorf("cannot limit the job: gophd is not alone in its control group %s "+
			"(there are processes %s): start it in a group of its own (systemd: Delegate=yes in the unit), or name one",
			dir, strings.Join(others, " "))
	}
	return nil
}

// moveToChildGroup moves this program into a group below its own, unless its own is the root.
func moveToChildGroup(dir string) error {
	if isRootGroup(dir) {
		return nil
	}
	if err := checkAlone(dir); err != nil {
		return err
	}
	below := filepath.Join(dir, ownGroup)
	if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return notDelegated(dir, err)
	}
	if err := writeFile(filepath.Join(below, "cgroup.procs"), "0"); err != nil {
		return notDelegated(dir, err)
	}
	return nil
}

func notDelegated(dir string, err error) error {
	return fmt.Errorf("the control group %s is not gophd's to use (%w): "+
		"delegate one to it (systemd: Delegate=yes in the unit), or leave out what needs it", dir, err)
}

// currentGroup returns the directory of the group that this program is in, or of the group above if
// the program has moved itself.
func currentGroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	dir, err := groupDir(string(mounts), string(groups))
	if err == nil && filepath.Base(dir) == ownGroup {
		dir = filepath.Dir(dir)
	}
	return dir, err
}

// groupDir returns the directory of the group, from proc_pid_mountinfo(5) and cgroups(7).
func groupDir(mountinfo, cgroup string) (string, error) {
	path, found := "", false
	for line := range strings.Lines(cgroup) {
		if rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			path, found = rest, true
		}
	}
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if !found || dash < 6 || dash+1 >= len(fields) || fields[dash+1] != "cgroup2" {
			continue
		}
		// The mount shows only the part of the hierarchy that is below its root.
		root, mount := strings.TrimSuffix(fields[3], "/"), fields[4]
		below, ok := strings.CutPrefix(path, root)
		if ok && strings.HasPrefix(below+"/", "/") && !strings.Contains(path+"/", "/../") {
			return filepath.Join(mount, below), nil
		}
	}
	return "", errors.New("gophd's control group cannot be found: mount cgroup v2, usually on /sys/fs/cgroup")
}

// Close removes the group if no process is left in it.
func (c *Cgroup) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, _ := os.ReadDir(c.path)
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "run-") {
			leafAt(filepath.Join(c.path, e.Name())).drop()
		}
	}
	err := unix.Rmdir(c.path)
	if err == unix.EBUSY || err == unix.ENOENT || err == unix.ENOTEMPTY {
		return nil // an escaped process is still in it
	}
	return err
}

// SweepCgroups removes job groups that a killed gophd left. parent is the group that they are in,
// as in OpenCgroup. A group is removed if gone returns true for its name and no process is in it.
// One that cannot be removed stays for the next sweep.
func SweepCgroups(parent string, gone func(name string) bool) {
	if parent == "" {
		var err error
		if parent, err = currentGroup(); err != nil {
			return
		}
	}
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), jobGroup); ok && e.IsDir() && gone(name) {
			_ = (&Cgroup{path: filepath.Join(parent, e.Name())}).Close()
		}
	}
}

// leaf is the group of one run.
type leaf struct{ path string }

func leafAt(path string) *leaf {
	if path == "" {
		return nil
	}
	return &leaf{path}
}

func (l *leaf) String() string {
	if l == nil {
		return ""
	}
	return l.path
}

// leaf creates the group of the next run. It reuses one that an earlier process left if that holds
// no process.
func (c *Cgroup) leaf() (*leaf, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		c.count++
		l := &leaf{filepath.Join(c.path, "run-"+strconv.Itoa(c.count))}
		err := os.Mkdir(l.path, 0o755)
		if errors.Is(err, fs.ErrExist) {
			l.drop()
			err = os.Mkdir(l.path, 0o755)
		}
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err == nil:
			err = l.limit(c.limits)
		}
		return l, err
	}
}

// limit writes the limits of the group, and removes the group if that fails.
func (l *leaf) limit(values []value) error {
	for _, v := range values {
		if err := writeFile(filepath.Join(l.path, v.file), v.text); err != nil {
			l.drop()
			return err
		}
	}
	return nil
}

// drop removes the group, with those that the command created in it, if no process is left there.
func (l *leaf) drop() {
	dirs := l.dirs()
	slices.Reverse(dirs)
	for _, dir := range dirs {
		_ = unix.Rmdir(dir)
	}
}

// dirs returns the directories of the group and of those below it, each after its parent.
func (l *leaf) dirs() (dirs []string) {
	_ = filepath.WalkDir(l.path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

// populated reports whether a process is alive in the group or below.
func (l *leaf) populated() bool {
	b, err := os.ReadFile(filepath.Join(l.path, "cgroup.events"))
	return err == nil && bytes.Contains(b, []byte("populated 1"))
}

// kill kills all processes of the group at once, those that are being forked included. Before Linux
// 5.14 it kills them one by one.
func (l *leaf) kill() {
	if writeFile(filepath.Join(l.path, "cgroup.kill"), "1") != nil {
		l.each(func(_, pidfd int) { _ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) })
	}
}

// each calls see for the processes of the group and below. pidfd is certain to be the descriptor of
// that process; its PID may be reused before see uses it.
func (l *leaf) each(see func(pid, pidfd int)) {
	for _, dir := range l.dirs() {
		pids, _ := readFields(dir, "cgroup.procs")
		for _, s := range pids {
			pid, err := strconv.Atoi(s)
			if err != nil || pid <= 0 {
				continue
			}
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			if now, _ := readFields(dir, "cgroup.procs"); slices.Contains(now, s) {
				see(pid, fd)
			}
			_ = unix.Close(fd)
		}
	}
}

// writeFile writes to a file of the kernel and never creates it.
func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func readFields(dir, file string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	return strings.Fields(string(b)), err
}

// forkIn is fork into the group of the run.
func forkIn(l *leaf, path string, c Command, files []*os.File) (int, error) {
	dir, err := os.Open(l.path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	attr := &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return forkAttr(path, c, files, attr)
}
