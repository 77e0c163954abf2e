package logging

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/lockfile"
	"gophd/internal/safefile"
)

// stampTime is the layout of the timestamp in an archive's name: the time of the rotation, in UTC.
// The names sort by time, also as text.
const stampTime = "20060102T150405.000000Z"

// archiveName has the parts of an archive's name: the log file's name, a timestamp if it was
// rotated by age or size, and .gz if it is compressed.
type archiveName struct {
	file  string
	stamp time.Time // zero without one
	tail  string    // "", .gz, or tempSuffix
}

func splitArchive(name string) archiveName {
	var a archiveName
	a.file = name
	for _, tail := range []string{tempSuffix, ".gz"} {
		if file, ok := strings.CutSuffix(name, tail); ok {
			a.file, a.tail = file, tail
			break
		}
	}
	if i := len(a.file) - len(stampTime); i > 0 && a.file[i-1] == '.' {
		// Parse accepts more than Format produces.
		if t, err := time.Parse(stampTime, a.file[i:]); err == nil && t.Format(stampTime) == a.file[i:] {
			a.file, a.stamp = a.file[:i-1], t
		}
	}
	return a
}

func (a archiveName) String() string {
	if a.stamp.IsZero() {
		return a.file + a.tail
	}
	return a.file + "." + a.stamp.Format(stampTime) + a.tail
}

// archives compresses the finished files of a log and removes the oldest. A goroutine does the
// work. It exists only while there is work.
type archives struct {
	keep      int
	keepBytes int64
	compress  bool
	quit      atomic.Bool // stop active work and start none
	busy      atomic.Bool // there is a goroutine
	turn      *sync.Mutex // held by the goroutine that works, of all logs with this turn
	work      goroutine.Group

	mu      sync.Mutex // guards the fields below; held while files are renamed or listed
	pattern pattern    // of the log file
	active  string     // the file in use; not an archive
	last    time.Time  // the last timestamp
	again   bool       // there is new work
	failed  error      // the last error, until trouble returns it
}

func newArchives(o Options, p pattern, turn *sync.Mutex) *archives {
	return &archives{keep: o.Keep, keepBytes: o.KeepBytes, compress: o.Compress, turn: turn, pattern: p}
}

// use sets the file in use.
func (a *archives) use(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active = path
	if a.pattern.step == 0 {
		a.active = real(path) // archives are next to the file, not next to a symlink to it
		a.pattern = pattern{parts: []part{{text: a.active}}}
	}
}

// tidy starts the goroutine if there can be work.
func (a *archives) tidy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.again = true
	if a.busy.Load() || a.quit.Load() || a.keep == 0 && a.keepBytes == 0 && !a.compress {
		return
	}
	a.busy.Store(true)
	a.work.Go(func() {
		a.turn.Lock() // before it needs a thread
		defer a.turn.Unlock()
		lowestPriority()
		for a.more() {
			if err := a.sweep(); err != nil && !errors.Is(err, errStopped) {
				a.mu.Lock()
				a.failed = err
				a.mu.Unlock()
			}
		}
	})
}

func (a *archives) more() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	quit := a.quit.Load()
	busy := a.again && !quit
	a.again = quit // what was interrupted is done after a pause
	a.busy.Store(busy)
	return busy
}

// trouble returns the last error since the previous call.
func (a *archives) trouble() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.failed
	a.failed = nil
	return err
}

// close stops the work. The next Log does unfinished work again.
func (a *archives) close() {
	a.quit.Store(true)
	a.work.Wait()
}

// pause stops the goroutine or starts it again. It does not wait for it.
func (a *archives) pause(yes bool) {
	if !a.quit.Swap(yes) || yes {
		return
	}
	a.mu.Lock()
	needed := a.again || a.busy.Load()
	a.mu.Unlock()
	if needed {
		a.tidy()
	}
}

// idle reports whether there is no goroutine. It does not block.
func (a *archives) idle() bool { return !a.busy.Load() }

// setAside renames the file to a free name with a timestamp and calls open for the next file. If
// open fails the file gets its name back.
func (a *archives) setAside(path string, now time.Time, open func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	path = real(path)
	if !now.After(a.last) {
		now = a.last.Add(time.Microsecond)
	}
	aside := free(path, now)
	a.last = aside.stamp
	if err := os.Rename(path, aside.String()); err != nil {
		return rotateError(path, err)
	}
	if err := open(); err != nil {
		// Link, unlike Rename, does not replace a file that another process created there.
		if os.Link(aside.String(), path) == nil {
			_ = os.Remove(aside.String())
		}
		return err
	}
	return nil
}

// rotateError is the error of a rotation, with the fix.
func rotateError(path string, err error) error {
	fix := safefile.Fix(err, "choose another --log-file")
	if errors.Is(err, unix.ENAMETOOLONG) {
		fix = "the name of a rotated file has a timestamp too; choose a shorter --log-file"
	}
	return fmt.Errorf("cannot rotate log file %s: %w: %s", path, cause(err), fix)
}

// CheckRotation returns the error that a rotation of the file at path would have, if it is to be
// rotated. It changes nothing. A full disk is no error, because a rename may need no space.
func (o Options) CheckRotation(path string) error {
	if o.RotateSize == 0 && o.RotateAge == 0 {
		return nil
	}
	info, err := os.Stat(path)
	if _, ok := safefile.Descriptor(path); ok || err == nil && !info.Mode().IsRegular() {
		return nil // it is not rotated
	}
	path = real(path)
	aside := archiveName{file: path, stamp: time.Now()}
	if o.Compress {
		aside.tail = ".gz"
	}
	if _, err = os.Lstat(aside.String()); errors.Is(err, fs.ErrNotExist) {
		err = safefile.TryCreate(filepath.Dir(path), nil)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = nil
	}
	if err = cmp.Or(err, safefile.TryReplace(path)); err != nil {
		return fmt.Errorf("%w, or leave log.rotate_size and log.rotate_age out", rotateError(path, err))
	}
	return nil
}

// free returns an archive name that does not exist, with a timestamp at or after the given time.
func free(file string, from time.Time) archiveName {
	name := archiveName{file: file, stamp: from.UTC().Truncate(time.Microsecond)}
	for exists(name.String()) || exists(name.String()+".gz") {
		name.stamp = name.stamp.Add(time.Microsecond)
	}
	return name
}

// archive is a file with a name that only an archive of this log can have.
type archive struct {
	archiveName
	info fs.FileInfo
}

// when returns the time to sort by: for a file without a timestamp, the time of its last line.
func (f archive) when() time.Time {
	if f.stamp.IsZero() {
		return f.info.ModTime()
	}
	return f.stamp
}

// list returns the archives, oldest first. If the log file's name contains no time, that name is
// the file in use and not an archive.
func (a *archives) list() ([]archive, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []archive
	err := walk("", a.pattern.levels(), func(path string, info fs.FileInfo) {
		name := splitArchive(path)
		fixed := a.pattern.step == 0 && name.stamp.IsZero()
		if fixed || path == a.active || !info.Mode().IsRegular() || !a.pattern.matches(name.file) {
			return
		}
		found = append(found, archive{name, info})
	})
	slices.SortFunc(found, func(x, y archive) int {
		return cmp.Or(x.when().Compare(y.when()), strings.Compare(x.String(), y.String()))
	})
	return found, err
}

// walk visits the files that may be archives: those in the directories that match the levels of the
// pattern.
func walk(dir string, levels []pattern, visit func(string, fs.FileInfo)) error {
	if level := levels[0]; len(levels) > 1 && level.step == 0 {
		return walk(dir+level.name(time.Time{})+"/", levels[1:], visit)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if len(levels) == 1 {
			if info, gone := e.Info(); gone == nil {
				visit(dir+e.Name(), info)
			}
		} else if levels[0].matches(e.Name()) {
			err = errors.Join(err, walk(dir+e.Name()+"/", levels[1:], visit))
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// sweep does all the work that there is.
func (a *archives) sweep() error {
	files, err := a.list()
	for _, f := range files {
		if f.tail == tempSuffix {
			err = errors.Join(err, a.discard(f))
		}
	}
	attempted := map[string]bool{}
	for {
		files, failed := a.prune()
		i := slices.IndexFunc(files, func(f archive) bool { return f.tail == "" && !attempted[f.String()] })
		if failed != nil || !a.compress || i < 0 || a.quit.Load() {
			return errors.Join(err, failed)
		}
		attempted[files[i].String()] = true
		err = errors.Join(err, a.pack(files[i]))
	}
}

// prune removes the oldest archives and returns the others.
func (a *archives) prune() ([]archive, error) {
	files, err := a.list()
	files = slices.DeleteFunc(files, func(f archive) bool { return f.tail == tempSuffix })
	keep := len(files)
	var total int64
	for n, f := range slices.Backward(files) {
		total += f.info.Size()
		if a.keep > 0 && len(files)-n > a.keep || a.keepBytes > 0 && total > a.keepBytes {
			keep = len(files) - n - 1
			break
		}
	}
	old := files[:len(files)-keep]
	for _, f := range old {
		err = errors.Join(err, a.remove(f))
	}
	return files[len(old):], err
}

// remove removes an archive, unless it has become the file in use.
func (a *archives) remove(f archive) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.String() == a.active {
		return nil
	}
	err := os.Remove(f.String())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove log archive %s: %w: %s", f, cause(err),
			safefile.Fix(err, "choose another --log-file"))
	}
	return nil
}

// discard removes an incomplete compressed file that no process is writing.
func (a *archives) discard(f archive) error {
	w, err := os.OpenFile(f.String(), os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer w.Close()
		if !lock(w, unix.LOCK_EX) {
			return nil
		}
	}
	return a.remove(f)
}

// lock returns false if another process holds the lock. It returns true on a file system without
// locks. The Log holds a shared lock on the file in use.
func lock(f *os.File, how int) bool {
	c, err := f.SyscallConn() // Fd would take a FIFO out of non-blocking mode
	if err != nil {
		return true
	}
	if e := c.Control(func(fd uintptr) { err = lockfile.TryLock(int(fd), how) }); e != nil {
		return true
	}
	return !errors.Is(err, lockfile.ErrLocked)
}

// real returns the path with symlinks resolved, or unchanged if that fails.
func real(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// syncDirectory syncs the directory of path, if the system can.
func syncDirectory(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// ownerOf returns the user and group of a file.
func ownerOf(info fs.FileInfo) (uid, gid int, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(s.Uid), int(s.Gid), true
}
