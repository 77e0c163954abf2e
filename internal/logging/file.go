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
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// errNoReader is the error of a write to a FIFO that no process has open for reading.
var errNoReader = errors.New("no process reads this FIFO")

const (
	checkInterval = time.Second // between checks of the file's name, and between retries
	firstLine     = 64          // bytes that contain the time of a file's first line
)

// file is a target that writes to a file. The file's name may change with the time. It is rotated
// when it is too large or too old. Only the sink's goroutine uses the fields, except for those that
// are atomic or never change.
type file struct {
	options  Options
	pattern  pattern
	archives *archives

	activeFile
	window    struct{ from, until time.Time } // wall-clock time in which the name is valid
	warned    bool                            // an error of the next file was reported
	why       error
	now       time.Time // time of the batch
	checked   time.Time // when the file's name was checked
	retry     time.Time // when a failed rotation is retried
	rotateErr error     // error of a rotation in the middle of a batch

	current atomic.Pointer[os.File] // nil while a FIFO has no reader
	crash   atomic.Bool             // the runtime writes fatal errors here too

	unsynced atomic.Bool // the next Log syncs the file
}

// activeFile is the file in use.
type activeFile struct {
	path    string
	info    fs.FileInfo // identifies the file; nil if it is not a regular file, or a descriptor
	regular bool        // it is a regular file, which a descriptor such as /dev/stdout can be too
	size    int64
	first   time.Time // time of its first line; zero without one
	torn    bool      // its last byte is not a newline
}

// opened is an open file. f is nil for a FIFO without a reader.
type opened struct {
	path    string
	f       *os.File
	info    fs.FileInfo // of a regular file that is no descriptor
	regular bool        // it is a regular file
	first   time.Time   // time of its first line
	torn    bool        // its last byte is not a newline: the writer was killed or the disk was full
}

// newFile opens nothing. turn is held while archives are worked on.
func newFile(o Options, now time.Time, turn *sync.Mutex) (*file, error) {
	p, err := parsePattern(o.File)
	if err != nil {
		return nil, fmt.Errorf("log file %s: %w", o.File, err)
	}
	t := &file{options: o, pattern: p, archives: newArchives(o, p, turn), now: now}
	t.path, t.regular = p.name(now), true
	return t, nil
}

// start opens the file before the first line.
func (t *file) start() error {
	first, err := t.openNow()
	if err != nil {
		return err
	}
	return t.use(first)
}

// openNow opens the file whose name is that of the time of the batch.
func (t *file) openNow() (*opened, error) {
	t.window.from, t.window.until = t.pattern.window(t.now)
	t.path = t.pattern.name(t.now)
	return t.open(t.path)
}

// rest closes the file until the next line. The error is that of use.
func (t *file) rest() error {
	err := t.finish(t.current.Swap(nil))
	t.activeFile = activeFile{path: t.path, regular: t.regular}
	return err
}

// ready opens the file for the current time. The wall clock may step forward or back.
func (t *file) ready(now time.Time, next *opened) readyResult {
	var result readyResult
	use := func(o *opened) {
		result.changed, result.torn = true, o.torn
		result.warning = errors.Join(result.warning, t.use(o))
	}
	replace := func(name string) bool {
		o, err := t.open(name)
		if err == nil {
			use(o)
		} else if !t.warned {
			t.warned = true
			result.warning = errors.Join(result.warning, err)
		}
		return err == nil
	}
	t.now = now
	if next != nil {
		use(next)
	}
	if t.current.Load() == nil {
		var o *opened
		if o, t.why = t.openNow(); o != nil {
			use(o)
		}
	} else if t.pattern.step > 0 && (now.Before(t.window.from) || !now.Before(t.window.until)) {
		t.window.from, t.window.until = t.pattern.window(now)
		if name := t.pattern.name(now); name != t.path && !replace(name) {
			t.window.until = now.Add(checkInterval).Round(0) // time of the retry
		}
	}
	if t.info != nil && now.Sub(t.checked).Abs() >= checkInterval {
		t.checked = now
		if !t.check() {
			replace(t.path)
		}
	}
	if age := t.options.RotateAge; age > 0 && t.size > 0 && now.Sub(t.first) >= age {
		result.warning = errors.Join(result.warning, t.rotate())
	}
	result.warning = errors.Join(result.warning, t.rotateErr)
	t.rotateErr = nil
	result.path, result.archives = t.path, t.archives.trouble()
	return result
}

// check reports whether the file still has its name, and updates its size, which others may change.
func (t *file) check() bool {
	info, err := os.Stat(t.path)
	if err != nil || !os.SameFile(info, t.info) {
		return err != nil && !errors.Is(err, fs.ErrNotExist)
	}
	t.size = info.Size()
	return true
}

// use makes o the file in use. The error is about the old file: a network file system may report a
// failed write only at close.
func (t *file) use(o *opened) error {
	before := t.current.Swap(o.f)
	err := t.finish(before)
	t.path, t.warned, t.info, t.regular, t.first, t.torn = o.path, false, o.info, o.regular, o.first, o.torn
	t.size = 0
	t.checked, t.retry = t.now, time.Time{}
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

// finish syncs, if the policy says so, and closes a file.
func (t *file) finish(f *os.File) error {
	if f == nil {
		return nil
	}
	var err error
	if t.regular && t.options.Sync != syncNever && !t.unsynced.Load() {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// rotate renames the file to an archive and opens a new one. If another process has moved the file,
// rotate only opens the new one. After a failure the lines go to the old file until the retry.
func (t *file) rotate() error {
	if t.info == nil || t.now.Before(t.retry) {
		return nil
	}
	t.retry = t.now.Add(checkInterval)
	var next *opened
	open := func() (err error) {
		next, err = t.open(t.path)
		return err
	}
	var err error
	if info, gone := os.Stat(t.path); gone == nil && os.SameFile(info, t.info) {
		if t.torn {
			_, _ = t.current.Load().Write([]byte{'\n'}) // so that archives can be concatenated
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

// Write writes records. It rotates between two records if the next one does not fit. A torn record
// is completed in its own file.
func (t *file) Write(p []byte) (n int, err error) {
	f := t.current.Load()
	if f == nil {
		if t.why != nil {
			return 0, t.why
		}
		return 0, errNoReader
	}
	for n < len(p) && err == nil {
		piece := p[n : n+t.fitting(p[n:])]
		if len(piece) == 0 {
			if err := t.rotate(); err != nil {
				t.rotateErr = errors.Join(t.rotateErr, err)
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
			m -= removeTorn(f, piece[:m], midway)
		}
		n += m
		t.size += int64(m)
		if m > 0 {
			t.torn = piece[m-1] != '\n'
		}
	}
	return n, cause(err)
}

// removeTorn removes a torn record from the end of f and returns its length. A record is torn if
// the disk was full before it was complete. Nothing is removed if another process has written after
// it, or if all of written continues an older record (midway).
func removeTorn(f *os.File, written []byte, midway bool) int {
	end := bytes.LastIndexByte(written, '\n') + 1
	n := len(written) - end
	if n == 0 || end == 0 && midway {
		return 0
	}
	at, err := f.Seek(0, io.SeekCurrent) // with O_APPEND it is the end of the last write (open(2))
	if err != nil {
		return 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != at || f.Truncate(at-int64(n)) != nil {
		return 0
	}
	return n
}

// fitting returns how many bytes of p still fit in the file: 0 if it must be rotated. p ends with a
// complete record. A record that is larger than the limit gets its own file.
func (t *file) fitting(p []byte) int {
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

func (t *file) hasReader() bool { return !t.regular }

// sync syncs the file.
func (t *file) sync() error {
	f := t.current.Load()
	if f == nil || !t.regular {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot sync log file %s: %w: check the disk", t.path, cause(err))
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

// open opens a log file for appending. Any goroutine may call it. The file is non-blocking because
// of FIFOs: the open does not wait for a reader (open(2), ENXIO), and a write can be interrupted.
// If the runtime does not poll FIFOs (the BSDs), a write to a full FIFO fails and lines are lost.
func (t *file) open(name string) (*opened, error) {
	const flags = os.O_WRONLY | os.O_APPEND | syscall.O_NONBLOCK | syscall.O_NOCTTY
	var unset error
	f, err := safefile.Create(name, flags, cmp.Or(t.options.Mode, 0o640), func(f *os.File) error {
		unset = t.options.SetUp(f)
		return unset
	}, t.options.Owners()...)
	switch {
	case err == nil:
		return examine(name, f), nil
	case unset != nil:
		return nil, fmt.Errorf("log file %s: %w", name, err)
	}
	if errors.Is(err, syscall.ENXIO) {
		if info, err := os.Stat(name); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
			return &opened{path: name}, nil
		}
	}
	if unsafe := (*safefile.Error)(nil); errors.As(err, &unsafe) {
		return nil, fmt.Errorf("log file %w, or choose another --log-file", unsafe)
	}
	if errors.Is(err, syscall.EISDIR) {
		return nil, fmt.Errorf("log file %s is a directory: name a file in it with --log-file", name)
	}
	if dir := filepath.Dir(name); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf(
				"cannot open log file %s: directory %s does not exist: create it or choose another --log-file", name, dir)
		}
	}
	return nil, fmt.Errorf(
		"cannot open log file %s: %w: %s", name, cause(err),
		safefile.Fix(err, "choose another --log-file"))
}

// examine reads the time of the first line and the last byte of a file, if it is a regular file,
// readable and no descriptor.
func examine(name string, f *os.File) *opened {
	o := &opened{path: name, f: f}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return o
	}
	o.regular = true
	if _, ok := safefile.Descriptor(name); ok {
		return o // it belongs to who opened it, and is not rotated
	}
	o.info = info
	lock(f, unix.LOCK_SH) // so that no gophd compresses it
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

// firstTime returns the time of the first record of a file, in any of the formats.
func firstTime(head []byte) (time.Time, bool) {
	if text, ok := bytes.CutPrefix(head, []byte(`{"time":"`)); ok {
		text, _, _ = bytes.Cut(text, []byte{'"'})
		at, err := time.Parse(jsonTime, string(text))
		return at, err == nil
	}
	at, err := time.ParseInLocation(simpleTime, string(head[:min(len(head), len(simpleTime))]), time.Local)
	return at, err == nil
}

// cause returns the error without operation and path, because the outer message names them.
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
