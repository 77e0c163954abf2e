package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errNoReader is the error of a write to a FIFO that nobody has open for reading.
var errNoReader = errors.New("no process reads this FIFO")

// file is the target that is a file, under a name that may change with the time. Its fields belong to
// the sink's goroutine, but for those that are atomic.
type file struct {
	pattern pattern
	path    string
	from    time.Time // the name holds in [from, until) of the wall clock
	until   time.Time
	warned  bool // that the next file cannot be opened; once is enough
	why     error
	torn    bool // when it was first opened

	current atomic.Pointer[os.File] // nil while a FIFO has no reader
	crash   atomic.Bool             // the runtime's fatal errors go here too
}

// opened is a file that was opened; f is nil for a FIFO that has to wait for its reader.
type opened struct {
	path string
	f    *os.File
	torn bool // its last byte is not a newline: somebody died, or ran out of disk, in mid-line
}

func newFile(name string, now time.Time) (*file, error) {
	p, err := parsePattern(name)
	if err != nil {
		return nil, fmt.Errorf("log file %s: %w", name, err)
	}
	t := &file{pattern: p, path: p.name(now)}
	t.from, t.until = p.window(now)
	o, err := openFile(t.path)
	if err != nil {
		return nil, err
	}
	t.current.Store(o.f)
	t.torn = o.torn
	return t, nil
}

// ready opens the file that the time asks for. The wall clock may step either way.
func (t *file) ready(now time.Time, next *opened) turn {
	var did turn
	use := func(o *opened) {
		did.changed, did.torn = true, o.torn
		did.warning = errors.Join(did.warning, t.use(o))
	}
	if next != nil {
		use(next)
	}
	if t.pattern.step > 0 && (now.Before(t.from) || !now.Before(t.until)) {
		t.from, t.until = t.pattern.window(now)
		if name := t.pattern.name(now); name != t.path {
			o, err := openFile(name)
			switch {
			case err == nil:
				use(o)
			case !t.warned:
				did.warning = errors.Join(did.warning, err)
				fallthrough
			default:
				t.warned = true
				t.until = now.Add(time.Second).Round(0) // then it is tried again
			}
		}
	}
	if t.current.Load() == nil {
		var o *opened
		if o, t.why = openFile(t.path); o != nil {
			use(o)
		}
	}
	did.path = t.path
	return did
}

// use puts a file in the place of the one in use. Its error is about the old one, whose last bytes a
// network file system may refuse as late as now.
func (t *file) use(o *opened) error {
	old := opened{f: t.current.Swap(o.f)}
	t.path, t.warned = o.path, false
	var err error
	if t.crash.Load() {
		err = o.takeCrashes()
	}
	return errors.Join(err, old.close())
}

func (t *file) Write(p []byte) (int, error) {
	f := t.current.Load()
	if f == nil {
		if t.why != nil {
			return 0, t.why
		}
		return 0, errNoReader
	}
	n, err := f.Write(p)
	return n, cause(err)
}

func (t *file) close() error {
	o := opened{f: t.current.Load()}
	return o.close()
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

// openFile opens a log file for appending. It is non-blocking for the sake of a FIFO: its open does
// not wait for a reader (open(2), ENXIO), and a write to it can be called back. Where the runtime does
// not poll FIFOs (the BSDs), a full one is a write error and costs lines.
func openFile(name string) (*opened, error) {
	// These two are gophd's own descriptors. To open them anew would fail for a socket and would write
	// over what others append to a file.
	switch name {
	case "/dev/stdout":
		return duplicate(1, name)
	case "/dev/stderr":
		return duplicate(2, name)
	}
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE | syscall.O_NONBLOCK | syscall.O_NOCTTY
	f, err := os.OpenFile(name, flags, 0o640)
	if err == nil {
		return &opened{path: name, f: f, torn: torn(f)}, nil
	}
	if errors.Is(err, syscall.ENXIO) {
		if info, err := os.Stat(name); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
			return &opened{path: name}, nil
		}
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

// torn looks at the last byte of a regular file, if it may be read.
func torn(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	r, err := os.Open(f.Name())
	if err != nil {
		return false
	}
	defer r.Close()
	var last [1]byte
	_, err = r.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
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
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
