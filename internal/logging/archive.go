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
)

// stampTime is what an archive's name has behind that of its log file: when it was set aside, in UTC.
// Such names sort by time, as text too.
const stampTime = "20060102T150405.000000Z"

// archiveName is the name of an archive in its parts: a log file's name, a stamp if it was set aside by
// age or size, and .gz if it is compressed.
type archiveName struct {
	file  string
	stamp time.Time // zero without one
	tail  string    // "", .gz, or packing
}

func splitArchive(name string) archiveName {
	var a archiveName
	a.file = name
	for _, tail := range []string{packing, ".gz"} {
		if file, ok := strings.CutSuffix(name, tail); ok {
			a.file, a.tail = file, tail
			break
		}
	}
	if i := len(a.file) - len(stampTime); i > 0 && a.file[i-1] == '.' {
		// Parsing is lenient where rendering is not.
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

// archives keeps the finished files of a log in order: it compresses them and removes the oldest. The
// work is done by a goroutine of its own, which is there only while there is some.
type archives struct {
	keep      int
	keepBytes int64
	compress  bool
	quit      atomic.Bool // what is under way is left, and nothing is begun
	work      goroutine.Group

	mu      sync.Mutex // guards the fields below, and that no file changes its name while they are listed
	pattern pattern    // of the log file
	active  string     // the file in use; it is no archive
	last    time.Time  // the stamp that was given last
	busy    bool
	again   bool  // there is new work
	failed  error // what went wrong, until somebody asks
}

func newArchives(o Options, p pattern) *archives {
	return &archives{keep: o.Keep, keepBytes: o.KeepBytes, compress: o.Compress, pattern: p}
}

// use says which file the lines go to now.
func (a *archives) use(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active = path
	if a.pattern.step == 0 {
		a.active = real(path) // archives stand beside the file, and not beside a symlink to it
		a.pattern = pattern{parts: []part{{text: a.active}}}
	}
}

// tidy sets the goroutine to work, if there can be some.
func (a *archives) tidy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.again = true
	if a.busy || a.quit.Load() || a.keep == 0 && a.keepBytes == 0 && !a.compress {
		return
	}
	a.busy = true
	a.work.Go(func() {
		modest()
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
	a.busy = a.again && !a.quit.Load()
	if a.busy {
		a.again = false
	}
	return a.busy
}

// trouble is what went wrong since it was asked for the last time.
func (a *archives) trouble() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.failed
	a.failed = nil
	return err
}

// close ends the work. What was begun is taken up again by the next Log.
func (a *archives) close() {
	a.quit.Store(true)
	a.work.Wait()
}

// pause makes the goroutine leave its work, or sets it to work again, and does not wait for it.
func (a *archives) pause(yes bool) {
	if a.quit.Swap(yes) && !yes {
		a.tidy()
	}
}

// idle says that the goroutine is not there.
func (a *archives) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.busy
}

// setAside gives the file a name with a stamp, which nobody else has, and calls open for the one that
// takes its place. If that fails the file has its name back.
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
		return fmt.Errorf("cannot set log file %s aside: %w: see that gophd may write in its folder", path, cause(err))
	}
	if err := open(); err != nil {
		// Link, unlike Rename, replaces nothing that somebody else has put there.
		if os.Link(aside.String(), path) == nil {
			_ = os.Remove(aside.String())
		}
		return err
	}
	return nil
}

// free is an archive's name that nobody has, with a stamp from the given time on.
func free(file string, from time.Time) archiveName {
	name := archiveName{file: file, stamp: from.UTC().Truncate(time.Microsecond)}
	for exists(name.String()) || exists(name.String()+".gz") {
		name.stamp = name.stamp.Add(time.Microsecond)
	}
	return name
}

// archive is a file whose name only this log's archives can have.
type archive struct {
	archiveName
	info fs.FileInfo
}

// when is the time to sort by: that of the last line, for a file that has no stamp.
func (f archive) when() time.Time {
	if f.stamp.IsZero() {
		return f.info.ModTime()
	}
	return f.stamp
}

// list finds the archives, oldest first. A name of the log file that holds no time is that of the file
// in use, and no archive.
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

// walk visits what may be an archive: the files in those folders that the levels of the pattern name.
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

// sweep does all that there is to do.
func (a *archives) sweep() error {
	files, err := a.list()
	for _, f := range files {
		if f.tail == packing {
			err = errors.Join(err, a.discard(f))
		}
	}
	tried := map[string]bool{}
	for {
		files, failed := a.prune()
		i := slices.IndexFunc(files, func(f archive) bool { return f.tail == "" && !tried[f.String()] })
		if failed != nil || !a.compress || i < 0 || a.quit.Load() {
			return errors.Join(err, failed)
		}
		tried[files[i].String()] = true
		err = errors.Join(err, a.pack(files[i]))
	}
}

// prune removes the oldest archives, and returns those that stay.
func (a *archives) prune() ([]archive, error) {
	files, err := a.list()
	files = slices.DeleteFunc(files, func(f archive) bool { return f.tail == packing })
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
		return fmt.Errorf("cannot remove log archive %s: %w: see that gophd may write in its folder", f, cause(err))
	}
	return nil
}

// discard removes the beginning of a compressed file that nobody goes on writing.
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

// lock reports whether f is locked now, or is on a file system without locks. The Log holds a shared
// lock on the file in use.
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

// real is the path without symlinks, or as it is when it leads nowhere.
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

// syncFolder brings the names in the folder of path to the disk, where the system can.
func syncFolder(path string) error {
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

// ownerOf is the user and group of a file.
func ownerOf(info fs.FileInfo) (uid, gid int, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(s.Uid), int(s.Gid), true
}
