package preflight

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/config"
	"gophd/internal/credentials"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/safefile"
)

// This file checks the paths that a start opens. What exists is opened too, unless somebody would
// notice that. Where a start creates a file, a file is created and removed: see safefile.TryCreate.

// paths checks the paths of one config.
type paths struct {
	made []directory // those that a start creates if they are missing
}

func pathsOf(c *config.Config) paths { return paths{ownDirectories(c)} }

// pending reports whether path is in a directory that a start creates and that is missing, or has
// been found unfit: there is nothing to check yet.
func (p paths) pending(path string) bool {
	at := filepath.Dir(path)
	_, err := os.Stat(at)
	return slices.ContainsFunc(p.made, func(d directory) bool {
		return d.path == at && (d.unfit || errors.Is(err, fs.ErrNotExist))
	})
}

// lock is a local lock of a config.
type lock struct{ name, path, title string }

// locksOf returns the locks of a config: that of the only job, or that of the daemon and those of
// the jobs with their own lease.
func locksOf(c *config.Config) (all []lock) {
	path := lease.LockPath(c)
	switch {
	case path == "":
		return nil
	case !c.Many:
		return []lock{{c.Name, path, "the lock of job " + c.Name}}
	}
	all = append(all, lock{c.Name, path, "the lock of daemon " + c.Name})
	if c.OwnLeases() {
		for _, spec := range c.Jobs {
			all = append(all, jobLock(c, spec))
		}
	}
	return all
}

func jobLock(c *config.Config, spec job.Spec) lock {
	name := c.FileName(spec)
	return lock{name, lease.JobLockPath(c, name), "the lock of job " + spec.Name}
}

// Distinct returns an error if another setting names a file that gophd replaces, because gophd
// would overwrite the data of that setting, or if the output is the log file, which is gophd's own.
// So does gophd's stdout or stderr, if it leads to such a file.
// Of many jobs, Checker.Job does that for the settings of each.
func Distinct(c *config.Config) error {
	f := filesOf(c, streamsOf("self"))
	if err := f.daemon(c); err != nil || c.Many {
		return err
	}
	return f.job(c, c.Jobs[0])
}

// files are those that other settings of a config must not name.
type files struct {
	replaced map[string]string // by gophd; the settings by path, and by identity
	logs     map[string]log    // by identity
	twice    error             // two settings for one of them
	streams  streams
}

// log is a log file.
type log struct {
	title  string // whose it is
	stream bool   // it is stdout or stderr
}

// streams are the stdout and stderr of a gophd, by their numbers.
type streams [3]stream

// stream is one of them.
type stream struct {
	name    string
	id      string // see identity
	appends bool   // what is written there goes to the end of the file
}

// streamsOf returns those of the process with that PID, or "self". On a system without /proc they
// lead to no file.
func streamsOf(pid string) streams {
	all := streams{1: {name: "stdout"}, 2: {name: "stderr"}}
	for n := 1; n < len(all); n++ {
		file, flags := fmt.Sprintf("/proc/%s/fd/%d", pid, n), 0
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			continue
		}
		all[n].id = lease.PathID(file)
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%s/fdinfo/%d", pid, n)) // see proc_pid_fdinfo(5)
		if _, rest, ok := strings.Cut(string(text), "flags:"); ok {
			_, _ = fmt.Sscanf(rest, "%o", &flags)
		}
		all[n].appends = flags&unix.O_APPEND != 0
	}
	return all
}

// identity is the identity of the file at path. stream is true if path leads to stdout or stderr.
func (f files) identity(path string) (id string, stream bool) {
	if n, ok := safefile.Descriptor(path); ok && n > 0 && n < len(f.streams) {
		return f.streams[n].id, true
	}
	return identity(path), false
}

func filesOf(c *config.Config, s streams) files {
	f := files{replaced: map[string]string{}, logs: map[string]log{}, streams: s}
	add := func(setting, path string) {
		if f.twice == nil {
			f.twice = f.isReplaced(setting, path)
		}
		if filepath.IsAbs(path) {
			f.replaced[realPath(path)] = setting
			if id := identity(path); id != "" {
				f.replaced[id] = setting
			}
		}
	}
	add("config.pid_file", c.PIDFile)
	for _, lock := range locksOf(c) {
		for _, path := range file.Paths(lock.path) {
			add(lock.title, path)
		}
	}
	f.addLog(c, c.Name, "the log of daemon "+c.Name)
	for _, spec := range c.Jobs {
		if OwnLog(c, spec) {
			f.addLog(c, spec.Name, logTitle(c, spec))
		}
	}
	return f
}

// logTitle returns the name of the log in which the lines of a job are.
func logTitle(c *config.Config, spec job.Spec) string {
	if OwnLog(c, spec) {
		return "the log of job " + spec.Name
	}
	return "the log of daemon " + c.Name
}

// addLog adds a log, unless it is another one too.
func (f files) addLog(c *config.Config, name, title string) {
	id, stream := f.identity(logging.FileAt(c.LogFile(name), time.Now()))
	if _, known := f.logs[id]; id != "" && !known {
		f.logs[id] = log{title, stream}
	}
}

// isReplaced returns an error if gophd replaces the file at path for another setting.
func (f files) isReplaced(setting, path string) error {
	if !filepath.IsAbs(path) {
		return nil // not a file
	}
	id, stream := f.identity(path)
	if other, twice := f.replaced[id]; twice && stream {
		return fmt.Errorf("%s and %s have the same file: redirect the output of gophd to another file", other, setting)
	}
	if other, twice := f.replaced[realPath(path)]; twice {
		return fmt.Errorf("%s and %s have the same file %s: choose another file for one of them", other, setting, path)
	}
	if other, twice := f.replaced[id]; twice {
		return fmt.Errorf("%s and %s have the same file %s under two names (hard links): choose another file for one of them",
			other, setting, path)
	}
	return nil
}

// isOverwritten returns an error if what gophd writes to its stdout or stderr overwrites the file of a
// setting with that identity.
func (f files) isOverwritten(setting, path, id string) error {
	for _, s := range f.streams {
		if id != "" && s.id == id && !s.appends {
			return fmt.Errorf("%s %s is the file of gophd's %s too, and what is written there overwrites it: redirect %s to "+
				"another file, or append to it (>>)", setting, path, s.name, s.name)
		}
	}
	return nil
}

// daemon checks the settings of the daemon.
func (f files) daemon(c *config.Config) error {
	log := logging.FileAt(c.LogFile(c.Name), time.Now())
	for _, s := range f.streams {
		if other, twice := f.replaced[s.id]; twice && s.id != "" {
			return fmt.Errorf("%s and gophd's %s have the same file: redirect %s to another file", other, s.name, s.name)
		}
	}
	return cmp.Or(f.twice, f.isReplaced("log.file", log), f.isReplaced("heartbeat.password_file", c.Heartbeat.PasswordFile),
		f.logOverwritten(log))
}

func (f files) logOverwritten(log string) error {
	if id, stream := f.identity(log); !stream {
		return f.isOverwritten("log.file", log, id)
	}
	return nil
}

// job checks the settings of a job.
func (f files) job(c *config.Config, spec job.Spec) error {
	title := logTitle(c, spec)
	outputs := []string{string(spec.Output)}
	if spec.Output == job.OutputInherit {
		outputs = []string{"/dev/stdout", "/dev/stderr"}
	}
	for _, output := range outputs {
		id, stream := f.identity(output)
		switch other, ok := f.logs[id]; {
		case !ok || id == "" || stream && other.stream:
		case other.title == title:
			return fmt.Errorf("job.output %s is the log file itself: use job.output log", spec.Output)
		default:
			return fmt.Errorf("job.output %s is %s: choose another file", spec.Output, other.title)
		}
		if !stream {
			if err := f.isOverwritten("job.output", output, id); err != nil {
				return err
			}
		}
	}
	if OwnLog(c, spec) {
		log := logging.FileAt(c.LogFile(spec.Name), time.Now())
		if other, ok := f.logs[identity(log)]; ok && other.title != title {
			return fmt.Errorf("%s and %s have the same file %s: choose another log.file", other.title, title, log)
		}
		if err := cmp.Or(f.isReplaced("log.file", log), f.logOverwritten(log)); err != nil {
			return err
		}
	}
	return cmp.Or(f.isReplaced("job.output", string(spec.Output)), f.isReplaced("job.stdin", spec.Stdin))
}

// realPath returns path with its symlinks resolved. The file may be missing.
func realPath(path string) string {
	dir, base := filepath.Split(target(path))
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return filepath.Join(dir, base)
}

// identity returns a text that two paths share if they lead to one regular file, which may be
// missing. It is "" for a descriptor, a device or a FIFO, which may have several writers; see
// files.identity.
func identity(path string) string {
	if n, ok := safefile.Descriptor(path); ok && n != safefile.Others || !filepath.IsAbs(path) {
		return ""
	}
	switch info, err := os.Stat(path); {
	case err != nil:
		return realPath(path)
	case info.Mode().IsRegular():
		return lease.PathID(path)
	}
	return ""
}

func (p paths) log(l logging.Options, at time.Time) error {
	if !filepath.IsAbs(l.File) { // no file, or a log service, which may start later
		return nil
	}
	path := logging.FileAt(l.File, at)
	if err := p.writable("log.file", path, l.SetUp, l.Owners()...); err != nil || p.pending(path) {
		return err
	}
	return l.CheckRotation(path)
}

func (p paths) output(path string, w *credentials.Credentials) error {
	if !filepath.IsAbs(path) {
		return nil // not a file
	}
	return p.writable("job.output", path, nil, w.UIDs()...)
}

// mayGiveOutput returns the error of GiveOutput for an output file that a start would create.
func mayGiveOutput(path string, w *credentials.Credentials) (err error) {
	if !filepath.IsAbs(path) {
		return nil // not a file
	}
	if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) {
		_ = safefile.TryCreate(filepath.Dir(target(path)), func(f *os.File) error { // Checker.Job returns its errors
			err = GiveOutput(f, w)
			return nil
		})
	}
	return err
}

func (p paths) input(path string, w *credentials.Credentials) error {
	if path == "" || path == job.StdinNull || path == job.StdinInherit {
		return nil
	}
	if n, ok := safefile.Descriptor(path); ok {
		return pathError("job.stdin", path, descriptor(n, path))
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		err = errors.New("it is a directory: name a file in it")
	case err == nil && info.Mode()&fs.ModeSocket != 0:
		err = errors.New("it is a socket, which cannot be opened: name a file")
	case err == nil && noticed(info):
		if err = access(path, unix.R_OK); err == nil && w.UIDs() != nil {
			err = safefile.Check(path, w.UIDs()...)
		}
	case err == nil:
		err = opens(OpenInput(path, w))
	case errors.Is(err, fs.ErrNotExist) && filepath.Base(path) == "none":
		err = fmt.Errorf("%w: for no input use null", unix.ENOENT)
	case errors.Is(err, fs.ErrNotExist) && filepath.Base(path) == "stdin":
		err = fmt.Errorf("%w: for gophd's stdin use -", unix.ENOENT)
	}
	return pathError("job.stdin", path, err)
}

func (p paths) pidFile(path string) error {
	if path == "" || p.pending(path) {
		return nil
	}
	return pidfile.Check(path)
}

func (p paths) lock(path string) error {
	if p.pending(path) {
		return nil
	}
	return file.Check(path)
}

// writable returns an error if no file at path can be opened for appending. An existing file may
// belong to one of owners, as in safefile.Open. setUp is called for a new file, as in
// safefile.Create.
func (p paths) writable(key, path string, setUp func(*os.File) error, owners ...int) error {
	if n, ok := safefile.Descriptor(path); ok {
		return pathError(key, path, descriptor(n, path))
	}
	if p.pending(path) {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return pathError(key, path, errors.New("it is a directory: name a file in it"))
	case err == nil && info.Mode()&fs.ModeSocket != 0:
		return pathError(key, path, errors.New("it is a socket, which cannot be opened: name a file"))
	case err == nil && noticed(info):
		return pathError(key, path, cmp.Or(access(path, unix.W_OK), safefile.Check(path, owners...)))
	case err == nil:
		return pathError(key, path, opens(safefile.Open(path, os.O_WRONLY|os.O_APPEND|OpenFlags, 0, owners...)))
	case !errors.Is(err, fs.ErrNotExist):
		return pathError(key, path, err)
	}
	if err := safefile.Check(path, owners...); err != nil {
		return pathError(key, path, err)
	}
	dir := filepath.Dir(target(path))
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return pathError(key, path, fmt.Errorf("directory %s does not exist: create it, or choose another file", dir))
	case err != nil:
		return pathError(key, path, err)
	case !info.IsDir():
		return pathError(key, path, fmt.Errorf("%s is not a directory: choose another file", dir))
	}
	return pathError(key, path, safefile.TryCreate(dir, setUp))
}

// descriptor returns an error if path names a descriptor of another process that is missing, or that
// this process may not use. It is not opened: before a reload the other process may be gophd itself,
// which has it open.
func descriptor(n int, path string) error {
	if n != safefile.Others {
		return nil
	}
	_, err := os.Stat(path)
	return err
}

// target follows dangling symbolic links, as open(2) does when it creates a file.
func target(path string) string {
	for range 40 {
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path
}

// noticed reports whether somebody would notice that a file is opened. The reader of a FIFO would
// take the end of this for its end. So for a FIFO or a block device the permissions must do,
// although they do not show an immutable file, or /dev/tty without a terminal.
func noticed(info fs.FileInfo) bool {
	return info.Mode()&fs.ModeNamedPipe != 0 || info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
}

// opens takes the result of an open, closes the file, and returns the error.
func opens(f *os.File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

func access(path string, mode uint32) error {
	if err := unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// pathError prefixes an error with the setting and its path.
func pathError(key, path string, err error) error {
	if err == nil {
		return nil
	}
	if unsafe := (*safefile.Error)(nil); errors.As(err, &unsafe) {
		return fmt.Errorf("%s %w, or choose another file", key, unsafe)
	}
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return fmt.Errorf("%s %s: %w: %s", key, path, p.Err, safefile.Fix(err, "choose another file"))
	}
	return fmt.Errorf("%s %s: %w", key, path, err)
}
