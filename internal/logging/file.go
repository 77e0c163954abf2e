package logging

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// errNoReader is the error of a write to a FIFO that nobody has open for reading.
var errNoReader = errors.New("no process reads this FIFO")

const (
	lookTime  = time.Second // how often the file is looked for under its name, and a failure tried again
	firstLine = 64          // bytes in which the time of a file's first line stands
)

// file is the target that is a file, under a name that may change with the time. It becomes an archive
// when it is too large or too old. Its fields belong to the sink's goroutine, but for those that are
// atomic or never change.
type file struct {
	options  Options
	pattern  pattern
	archives *archives

	present
	window struct{ from, until time.Time } // of the wall clock, in which the name holds
	warned bool                            // that the next file cannot be opened; once is enough
	why    error
	now    time.Time // of the batch
	looked time.Time // for the file under its name
	retry  time.Time // when a rotation that failed is tried again
	late   error     // of a rotation in the middle of a batch

	current atomic.Pointer[os.File] // nil while a FIFO has no reader
	crash   atomic.Bool             // the runtime's fatal errors go here too

	unsynced atomic.Bool // what is left to be synced is left to the next Log
}

// present is the file that is written now.
type present struct {
	path  string
	info  fs.FileInfo // which file it is; nil for what is no regular file, and stays where it is
	size  int64
	first time.Time // of its first line; without one, zero
	torn  bool      // its last byte is not a newline
}

// opened is a file that was opened; f is nil for a FIFO that has to wait for its reader.
type opened struct {
	path  string
	f     *os.File
	info  fs.FileInfo // of a regular file
	first time.Time   // of its first line
	torn  bool        // its last byte is not a newline: somebody died, or ran out of disk, in mid-line
}

func newFile(o Options, now time.Time) (*file, error) {
	p, err := parsePattern(o.File)
	if err != nil {
		return nil, fmt.Errorf("log file %s: %w", o.File, err)
	}
	t := &file{options: o, pattern: p, archives: newArchives(o, p)}
	t.window.from, t.window.until = p.window(now)
	first, err := t.open(p.name(now))
	if err != nil {
		return nil, err
	}
	t.now = now
	return t, t.use(first)
}

// ready opens the file that the time asks for. The wall clock may step either way.
func (t *file) ready(now time.Time, next *opened) turn {
	var did turn
	use := func(o *opened) {
		did.changed, did.torn = true, o.torn
		did.warning = errors.Join(did.warning, t.use(o))
	}
	replace := func(name string) bool {
		o, err := t.open(name)
		if err == nil {
			use(o)
		} else if !t.warned {
			t.warned = true
			did.warning = errors.Join(did.warning, err)
		}
		return err == nil
	}
	t.now = now
	if next != nil {
		use(next)
	}
	if t.pattern.step > 0 && (now.Before(t.window.from) || !now.Before(t.window.until)) {
		t.window.from, t.window.until = t.pattern.window(now)
		if name := t.pattern.name(now); name != t.path && !replace(name) {
			t.window.until = now.Add(lookTime).Round(0) // then it is tried again
		}
	}
	if t.current.Load() == nil {
		var o *opened
		if o, t.why = t.open(t.path); o != nil {
			use(o)
		}
	}
	if t.info != nil && now.Sub(t.looked).Abs() >= lookTime {
		t.looked = now
		if !t.look() {
			replace(t.path)
		}
	}
	if age := t.options.RotateAge; age > 0 && t.size > 0 && now.Sub(t.first) >= age {
		did.warning = errors.Join(did.warning, t.rotate())
	}
	did.warning = errors.Join(did.warning, t.late)
	t.late = nil
	did.path, did.archives = t.path, t.archives.trouble()
	return did
}

// look says whether the file is still there under its name, and learns what others did to its size.
func (t *file) look() bool {
	info, err := os.Stat(t.path)
	if err != nil || !os.SameFile(info, t.info) {
		return err != nil && !errors.Is(err, fs.ErrNotExist)
	}
	t.size = info.Size()
	return true
}

// use puts a file in the place of the one in use. Its error is about the old one, whose last bytes a
// network file system may refuse as late as now.
func (t *file) use(o *opened) error {
	before := t.current.Swap(o.f)
	err := t.finish(before)
	t.path, t.warned, t.info, t.first, t.torn, t.size = o.path, false, o.info, o.first, o.torn, 0
	t.looked, t.retry = t.now, time.Time{}
	if t.info != nil {
		t.size = o.info.Size()
		t.archives.use(t.path)
		t.archives.tidy()
	}
	if t.crash.Load() {
		err = errors.Join(err, o.takeCrashes())
	}
	return err
}

// finish closes a file that nothing more is written to.
func (t *file) finish(f *os.File) error {
	if f == nil {
		return nil
	}
	var err error
	if t.info != nil && t.options.Sync != syncNever && !t.unsynced.Load() {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// rotate makes an archive of the file and begins a new one. When somebody else has moved the file, his
// is left alone. After a failure the lines go to the old file, until it is tried again.
func (t *file) rotate() error {
	if t.info == nil || t.now.Before(t.retry) {
		return nil
	}
	t.retry = t.now.Add(lookTime)
	var next *opened
	open := func() (err error) {
		next, err = t.open(t.path)
		return err
	}
	var err error
	if info, gone := os.Stat(t.path); gone == nil && os.SameFile(info, t.info) {
		if t.torn {
			_, _ = t.current.Load().Write([]byte{'\n'}) // so that archives can be put together
		}
		err = t.archives.setAside(t.path, time.Now(), open)
	} else {
		err = open()
	}
	switch {
	case err == nil:
		return t.use(next)
	case t.warned:
		return nil
	}
	t.warned = true
	return err
}

// Write writes records, and changes the file between two of them when it has no room left. A record
// that was begun ends in its own file.
func (t *file) Write(p []byte) (n int, err error) {
	f := t.current.Load()
	if f == nil {
		if t.why != nil {
			return 0, t.why
		}
		return 0, errNoReader
	}
	for n < len(p) && err == nil {
		piece := p[n : n+t.room(p[n:])]
		if len(piece) == 0 {
			if err := t.rotate(); err != nil {
				t.late = errors.Join(t.late, err)
			}
			f = t.current.Load()
			continue
		}
		if t.first.IsZero() {
			t.first = t.now
		}
		var m int
		midway := t.torn
		m, err = f.Write(piece)
		if err != nil && t.info != nil {
			m -= untear(f, piece[:m], midway)
		}
		n += m
		t.size += int64(m)
		if m > 0 {
			t.torn = piece[m-1] != '\n'
		}
	}
	return n, cause(err)
}

// untear removes the beginning of a record from the end of f and returns its length: the disk was full before the
// record was written whole. Nothing is removed if another process has written after it, or if written begins midway in
// a record.
func untear(f *os.File, written []byte, midway bool) int {
	end := bytes.LastIndexByte(written, '\n') + 1
	n := len(written) - end
	if n == 0 || end == 0 && midway {
		return 0
	}
	at, err := f.Seek(0, io.SeekCurrent) // with O_APPEND a write moves it to the end of what was written (open(2))
	if err != nil {
		return 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != at || f.Truncate(at-int64(n)) != nil {
		return 0
	}
	return n
}

// room is how much of p, which ends with a record, the file still takes: 0 when it is to be rotated. A
// record that is larger than a file may be has one of its own.
func (t *file) room(p []byte) int {
	size := t.options.RotateSize
	if size == 0 || t.info == nil || t.size+int64(len(p)) <= size || t.now.Before(t.retry) {
		return len(p)
	}
	n := bytes.LastIndexByte(p[:max(0, size-t.size)], '\n') + 1
	if n == 0 && (t.size == 0 || t.torn) {
		n = bytes.IndexByte(p, '\n') + 1
	}
	return n
}

func (t *file) hasReader() bool { return t.info == nil }

// sync brings what was written to the disk.
func (t *file) sync() error {
	f := t.current.Load()
	if f == nil || t.info == nil {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot bring log file %s to the disk: %w: see that the disk is sound", t.path, cause(err))
	}
	return nil
}

func (t *file) close() error {
	err := t.finish(t.current.Load())
	t.archives.close()
	return err
}

func (o *opened) close() error {
	if o.f == nil {
		return nil
	}
	return o.f.Close()
}

func (o *opened) takeCrashes() error {
	if o.f == nil {
		return nil
	}
	return debug.SetCrashOutput(o.f, debug.CrashOptions{})
}

func ignoreCrashes() error { return debug.SetCrashOutput(nil, debug.CrashOptions{}) }

// open opens a log file for appending; any goroutine may do that. It is non-blocking for the sake of a
// FIFO: its open does not wait for a reader (open(2), ENXIO), and a write to it can be called back. Where
// the runtime does not poll FIFOs (the BSDs), a full one is a write error and costs lines.
func (t *file) open(name string) (*opened, error) {
	// These two are gophd's own descriptors. To open them anew would fail for a socket and would write
	// over what others append to a file.
	switch name {
	case "/dev/stdout":
		return duplicate(1, name)
	case "/dev/stderr":
		return duplicate(2, name)
	}
	const flags = os.O_WRONLY | os.O_APPEND | syscall.O_NONBLOCK | syscall.O_NOCTTY
	f, err := safefile.Open(name, flags, 0, t.options.Owners()...)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = safefile.Open(name, flags|os.O_CREATE, cmp.Or(t.options.Mode, 0o640), t.options.Owners()...); err == nil {
			if err := t.give(f); err != nil {
				return nil, errors.Join(err, os.Remove(name), f.Close())
			}
		}
	}
	if err == nil {
		return examine(name, f), nil
	}
	if errors.Is(err, syscall.ENXIO) {
		if info, err := os.Stat(name); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
			return &opened{path: name}, nil
		}
	}
	if refused := (*safefile.Error)(nil); errors.As(err, &refused) {
		return nil, fmt.Errorf("log file %w", refused)
	}
	if errors.Is(err, syscall.EISDIR) {
		return nil, fmt.Errorf("log file %s is a folder: name a file in it", name)
	}
	if dir := filepath.Dir(name); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot open log file %s: there is no folder %s: make it or choose another file", name, dir)
		}
	}
	return nil, fmt.Errorf("cannot open log file %s: %w: see that gophd may write there or choose another file", name, cause(err))
}

// give gives a new file the mode and owner that were asked for, whatever the umask.
func (t *file) give(f *os.File) error {
	if o := t.options.Owner; o != nil {
		if err := f.Chown(o.UID, o.GID); err != nil {
			return fmt.Errorf("cannot give log file %s to user %d and group %d: %w: run gophd as root or ask for no owner", f.Name(), o.UID, o.GID, cause(err))
		}
	}
	if t.options.Mode == 0 {
		return nil
	}
	return f.Chmod(t.options.Mode)
}

// examine looks at a file that was opened: at the time of its first line and at its last byte, if it is a
// regular file, and may be read.
func examine(name string, f *os.File) *opened {
	o := &opened{path: name, f: f}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return o
	}
	o.info = info
	lock(f, unix.LOCK_SH) // for those who compress archives
	if info.Size() == 0 {
		return o
	}
	o.first = info.ModTime()
	r, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return o
	}
	defer r.Close()
	if again, err := r.Stat(); err != nil || !os.SameFile(info, again) {
		return o
	}
	head := make([]byte, firstLine)
	n, _ := r.ReadAt(head, 0)
	if at, ok := firstTime(head[:n]); ok && at.Before(o.first) {
		o.first = at
	}
	var last [1]byte
	_, err = r.ReadAt(last[:], info.Size()-1)
	o.torn = err == nil && last[0] != '\n'
	return o
}

// firstTime is the time of the record that a file begins with, in any of the formats.
func firstTime(head []byte) (time.Time, bool) {
	if text, ok := bytes.CutPrefix(head, []byte(`{"time":"`)); ok {
		text, _, _ = bytes.Cut(text, []byte{'"'})
		at, err := time.Parse(jsonTime, string(text))
		return at, err == nil
	}
	at, err := time.ParseInLocation(simpleTime, string(head[:min(len(head), len(simpleTime))]), time.Local)
	return at, err == nil
}

func duplicate(fd uintptr, name string) (*opened, error) {
	n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("cannot write the log to %s: %w: choose another file", name, err)
	}
	return &opened{path: name, f: os.NewFile(uintptr(n), name)}, nil
}

// cause is the error without the operation and the path, which the message around it names.
func cause(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}
