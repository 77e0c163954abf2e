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

// ownGroup is the group into which this program moves itself: a group that gives controllers to others may
// hold no process ("no internal processes", cgroups(7)).
const ownGroup = "gophd.self"

// jobGroup begins the name of each job's group.
const jobGroup = "job-"

// Cgroup is the control group (cgroup v2) of a job. Each of its runs gets one of its own below it, so that who
// belongs to a run is certain, whatever session or environment it has; and each has the limits.
type Cgroup struct {
	path   string
	limits []value

	mu    sync.Mutex
	count int // of runs
}

// OpenCgroup makes a group for the job in the group parent, or takes up the one that is there. Without parent
// it is the group that this program is in, which has to be delegated to it; if that must be given
// controllers first, the program moves into a group below it, and must be alone to do so. The parent is a
// path in the file system. An error says what is missing.
func OpenCgroup(parent, name string, l Limits) (*Cgroup, error) {
	if name == "" || strings.ContainsAny(name, "/\x00\n") {
		return nil, fmt.Errorf("cannot make a control group for the job %q: its name must hold no slash", name)
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
	if err := enable(parent, own, values); err != nil {
		return nil, err
	}
	c := &Cgroup{path: filepath.Join(parent, jobGroup+name), limits: values}
	if err := os.Mkdir(c.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, notDelegated(parent, err)
	}
	if err := enable(c.path, false, values); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// CheckCgroup says what OpenCgroup would refuse, and changes nothing. leaving are processes that would not be in the
// way: the one that asks and is asked for.
func CheckCgroup(parent string, l Limits, leaving ...int) error {
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
	needed, err := lacking(parent, values)
	if err == nil && needed != nil && own {
		err = alone(parent, leaving...)
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

// value is what one file of a group is to hold.
type value struct{ controller, file, text string }

// values are those of the limits that there are; a new group has no other.
func (l Limits) values() (all []value, err error) {
	const period = 100000 // microseconds, the kernel's own
	if l.Memory < 0 || l.Tasks < 0 || l.CPU < 0 {
		return nil, fmt.Errorf("memory %d, cpu %d and tasks %d are no limits: none of them may be negative", l.Memory, l.CPU, l.Tasks)
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

// lacking are the controllers, as they are to be written, that groups below dir have not yet and can have.
func lacking(dir string, values []value) (needed []string, err error) {
	there, err := words(dir, "cgroup.controllers")
	if err != nil {
		return nil, notDelegated(dir, err)
	}
	on, err := words(dir, "cgroup.subtree_control")
	if err != nil {
		return nil, notDelegated(dir, err)
	}
	var missing []string
	for _, v := range values {
		switch {
		case slices.Contains(on, v.controller):
		case slices.Contains(there, v.controller):
			needed = append(needed, "+"+v.controller)
		default:
			missing = append(missing, v.controller)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("cannot limit %s: the control group %s has no such controller: delegate it (systemd: Delegate=yes in the unit), or leave the limit out",
			strings.Join(missing, " and "), dir)
	}
	return needed, nil
}

// enable sees to it that groups below dir have the controllers that are needed.
func enable(dir string, own bool, values []value) error {
	needed, err := lacking(dir, values)
	if err != nil || needed == nil {
		return err
	}
	if own {
		if err := moveDown(dir); err != nil {
			return err
		}
	}
	err = put(filepath.Join(dir, "cgroup.subtree_control"), strings.Join(needed, " "))
	switch {
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("cannot limit the job: there are processes in the control group %s itself: name one that has none", dir)
	case err != nil:
		return notDelegated(dir, err)
	}
	return nil
}

// topmost says that dir is the root of all groups: only that has no type, and it may hold processes.
func topmost(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// alone refuses a group of our own in which there are others than this program and known.
func alone(dir string, known ...int) error {
	if topmost(dir) {
		return nil
	}
	pids, err := words(dir, "cgroup.procs")
	if err != nil {
		return notDelegated(dir, err)
	}
	others := slices.DeleteFunc(pids, func(s string) bool {
		pid, err := strconv.Atoi(s)
		return err == nil && (pid == os.Getpid() || slices.Contains(known, pid))
	})
	if len(others) > 0 {
		return fmt.Errorf("cannot limit the job: gophd is not alone in its control group %s (there are processes %s): start it in one of its own (systemd: Delegate=yes in the unit), or name one",
			dir, strings.Join(others, " "))
	}
	return nil
}

// moveDown puts this program into a group below its own, unless that is the root of all.
func moveDown(dir string) error {
	if topmost(dir) {
		return nil
	}
	if err := alone(dir); err != nil {
		return err
	}
	below := filepath.Join(dir, ownGroup)
	if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return notDelegated(dir, err)
	}
	if err := put(filepath.Join(below, "cgroup.procs"), "0"); err != nil {
		return notDelegated(dir, err)
	}
	return nil
}

func notDelegated(dir string, err error) error {
	return fmt.Errorf("the control group %s is not gophd's to use (%w): delegate one to it (systemd: Delegate=yes in the unit), or leave out what needs it", dir, err)
}

// currentGroup is the folder of the group that this program is in, or of the one above when it has moved itself.
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

// groupDir reads proc_pid_mountinfo(5) and cgroups(7).
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
		// Of the hierarchy only what is below the root of the mount can be seen.
		root, mount := strings.TrimSuffix(fields[3], "/"), fields[4]
		if below, ok := strings.CutPrefix(path, root); ok && strings.HasPrefix(below+"/", "/") && !strings.Contains(path+"/", "/../") {
			return filepath.Join(mount, below), nil
		}
	}
	return "", errors.New("gophd's control group cannot be found: mount cgroup v2, on /sys/fs/cgroup by custom")
}

// Close removes the group if nothing is left in it.
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
		return nil // a stray lives on in it
	}
	return err
}

// SweepCgroups removes the groups in the group parent, which is as for OpenCgroup, that a program has made which was
// killed: those with a name that gone knows, as far as nobody is in them. What cannot be removed stays, to be swept
// another time.
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

// leaf makes the group of the next run. One that an earlier image has left is taken if nobody is in it.
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

// limit writes the limits of the group, which removes itself when it cannot have them.
func (l *leaf) limit(values []value) error {
	for _, v := range values {
		if err := put(filepath.Join(l.path, v.file), v.text); err != nil {
			l.drop()
			return err
		}
	}
	return nil
}

// drop removes the group, with those that the command has made in it, if no process is left there.
func (l *leaf) drop() {
	dirs := l.dirs()
	slices.Reverse(dirs)
	for _, dir := range dirs {
		_ = unix.Rmdir(dir)
	}
}

// dirs are the group and those below it, each after the one that it is in.
func (l *leaf) dirs() (dirs []string) {
	_ = filepath.WalkDir(l.path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

// populated says whether any process lives in the group or below.
func (l *leaf) populated() bool {
	b, err := os.ReadFile(filepath.Join(l.path, "cgroup.events"))
	return err == nil && bytes.Contains(b, []byte("populated 1"))
}

// kill ends all of it, at once and whoever is being forked meanwhile; before Linux 5.14 one by one.
func (l *leaf) kill() {
	if put(filepath.Join(l.path, "cgroup.kill"), "1") != nil {
		l.each(func(_, pidfd int) { _ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) })
	}
}

// each shows the processes of the group and below, each with a descriptor that is surely its own: a number
// may be another's by the time it is used.
func (l *leaf) each(see func(pid, pidfd int)) {
	for _, dir := range l.dirs() {
		pids, _ := words(dir, "cgroup.procs")
		for _, s := range pids {
			pid, err := strconv.Atoi(s)
			if err != nil || pid <= 0 {
				continue
			}
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			if now, _ := words(dir, "cgroup.procs"); slices.Contains(now, s) {
				see(pid, fd)
			}
			_ = unix.Close(fd)
		}
	}
}

// put writes to a file of the kernel, which is never created.
func put(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func words(dir, file string) ([]string, error) {
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
	return forkAttr(path, c, files, &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())})
}
