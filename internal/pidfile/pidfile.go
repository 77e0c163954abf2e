// Package pidfile answers: which PID is this, and is it alive?
//
// The content of a PID file is for readers. The lock on it (package lockfile) tells whether its owner
// is alive. No PID that was read is ever signaled or believed to be alive.
//
// Readers see a whole file or none: it is written and locked under another name before it gets its
// own. An old file is replaced only while its lock is held, so of two at once exactly one wins. Whoever
// may read the file may lock it too: such a lock of another user on the file of a dead process does
// not count. Known gaps: two that start under such a lock, and someone who removes or renames the
// file by hand in the very moment of a start, can make two owners.
package pidfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/lockfile"
	"gophd/internal/procfs"
	"gophd/internal/safefile"
)

// File is a PID file that is ours. It is used by one goroutine.
type File struct {
	path string
	// fd is a bare number, not an *os.File: no garbage collection closes it and drops the lock.
	fd int
}

// HeldError says that a living process has the file.
type HeldError struct {
	Path string
	PID  int // as the file says; 0 when it says nothing sensible
}

func (e *HeldError) Error() string {
	who := "a running process"
	if e.PID != 0 {
		who += " " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("pid file %s is held by %s: stop that one or choose another file", e.Path, who)
}

const (
	// tries bounds the races that Take loses in a row; each means that another one has just won.
	tries = 100
	// pause is between two looks at a lock, because flock(2) has no wait with a limit.
	pause = 5 * time.Millisecond
)

// handover is how long a lock may be held by no process that the file names, as it is while
// another starter replaces the file of a dead one. Only tests change it.
var handover = 100 * time.Millisecond

// Take makes the file with our PID and a newline in it, for everyone to read as far as the umask
// allows, and locks it. A file that nobody has locked is replaced if there is a PID in it and nothing else, or nothing:
// any other is not a PID file but somebody's work. If a living process has it, the error is a *HeldError, possibly
// after a tenth of a second.
//
// The last element of path may be a symbolic link if root or we own it.
func Take(path string) (*File, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	for begin := time.Now(); ; {
		f, err := take(path)
		switch held := (*HeldError)(nil); {
		case err == nil:
			return f, nil
		case errors.As(err, &held):
			if time.Since(begin) > handover || alive(held.PID) {
				return nil, err
			}
			time.Sleep(pause)
		default:
			return nil, err
		}
	}
}

// Look says what Take would, as far as can be told without making a file: nil, a *HeldError, or what is wrong. It holds the
// lock of a file that is no one's for a moment, which another's Take outlasts.
func Look(path string) error {
	path, err := resolve(path)
	if err != nil {
		return err
	}
	fd, err := open(path)
	switch {
	case err == nil:
		defer unix.Close(fd)
		locked, _ := lockfile.Locked(fd) // where it fails, Take says why
		if pid := read(fd); locked && (alive(pid) || !othersLocked(fd)) {
			return &HeldError{Path: path, PID: pid}
		}
		if err := spare(path, fd); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, filepath.Dir(path), unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return notMade(path, err)
	}
	return nil
}

// take makes one attempt, repeated as long as the file is another at every look.
func take(path string) (*File, error) {
	for range tries {
		old, err := open(path)
		if errors.Is(err, fs.ErrNotExist) {
			f, err := publish(path, os.Link)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			return f, err
		}
		if err != nil {
			return nil, err
		}
		f, err := replace(path, old)
		_ = unix.Close(old)
		if !errors.Is(err, errOther) {
			return f, err
		}
	}
	return nil, fmt.Errorf("pid file %s is replaced by others all the time: choose another file", path)
}

// errOther says that path does not name the locked file any more.
var errOther = errors.New("another file has this name now")

// replace puts our file in the place of the old one, if nobody has that locked.
func replace(path string, old int) (*File, error) {
	if err := lockfile.TryLock(old, unix.LOCK_EX); errors.Is(err, lockfile.ErrLocked) {
		if !lockfile.Names(path, old) {
			return nil, errOther
		}
		if pid := read(old); alive(pid) || !othersLocked(old) {
			return nil, &HeldError{Path: path, PID: pid}
		}
	} else if err != nil {
		return nil, fmt.Errorf("cannot lock pid file %s: %v: choose a file on a local disk", path, err)
	}
	if !lockfile.Names(path, old) {
		return nil, errOther
	}
	if err := spare(path, old); err != nil {
		return nil, err
	}
	return publish(path, os.Rename)
}

// othersLocked says that all who have locked the file are other users than root and our own. Who has
// written it is none of them.
func othersLocked(fd int) bool {
	pids := procfs.Lockers(fd)
	for _, pid := range pids {
		if user, _, err := procfs.UIDs(pid); err != nil || safefile.Trusted(user) {
			return false
		}
	}
	return len(pids) > 0
}

// spare refuses a file that is not to be replaced, because it is no PID file. One of zeros is what some file systems
// leave of a file that was written just before the machine fell.
func spare(path string, fd int) error {
	var text [32]byte
	n, err := retry(func() (int, error) { return unix.Pread(fd, text[:], 0) })
	if err != nil {
		return fmt.Errorf("cannot read pid file %s: %w: choose another file", path, err)
	}
	if left := strings.Trim(string(text[:n]), "\x00 \t\r\n"); n == len(text) || left != "" && parse(left) == 0 {
		return fmt.Errorf("pid file %s holds something else than a PID: choose another file, or remove it", path)
	}
	return nil
}

// open opens what is at path without waiting or following a link, and makes sure that it is a file.
func open(path string) (int, error) {
	fd, err := safefile.OpenFD(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	switch refused := (*safefile.Error)(nil); {
	case errors.As(err, &refused):
		return 0, fmt.Errorf("pid file %w", refused)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ELOOP): // a socket; a link that was not there before
		return 0, fmt.Errorf("pid file %s is not a regular file: remove it or choose another file", path)
	case errors.Is(err, unix.ENOENT):
		return 0, fs.ErrNotExist
	case err != nil:
		return 0, fmt.Errorf("cannot open pid file %s: %w: choose a file that this user can write", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("cannot look at pid file %s: %v", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("pid file %s is not a regular file: choose another file", path)
	}
	return fd, nil
}

// publish writes and locks a file under a name of its own and gives it the name path by way of name.
func publish(path string, name func(from, to string) error) (*File, error) {
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".gophd-pid-%d-%08x", os.Getpid(), rand.Uint32()))
	fd, err := retry(func() (int, error) {
		return unix.Open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	})
	if err != nil {
		return nil, notMade(path, err)
	}
	text := []byte(strconv.Itoa(os.Getpid()) + "\n")
	n, err := retry(func() (int, error) { return unix.Write(fd, text) })
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	if err == nil {
		err = lockfile.TryLock(fd, unix.LOCK_EX)
	}
	if err == nil {
		err = name(temp, path)
	}
	_ = unix.Unlink(temp) // gone already after a rename
	if err == nil {
		return &File{path: path, fd: fd}, nil
	}
	_ = unix.Close(fd)
	if errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return nil, fmt.Errorf("cannot make pid file %s: %w", path, err)
}

func notMade(path string, err error) error {
	return fmt.Errorf("cannot make pid file %s: %w: choose a folder that this user can write to", path, err)
}

// Adopt takes over the file that the image before this one took, with the descriptor that it kept. It
// fails if path does not name that file any more, or if another process has got its lock; f stays the
// caller's then, to be closed before another Take. After success f is closed, and the lock stays.
func Adopt(path string, f *os.File) (*File, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("cannot adopt pid file %s: %v", path, err)
	}
	switch err := lockfile.TryLock(fd, unix.LOCK_EX); { // ours already, unless something is wrong
	case errors.Is(err, lockfile.ErrLocked):
		err = &HeldError{Path: path, PID: read(fd)}
		_ = unix.Close(fd)
		return nil, err
	case err != nil:
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot adopt pid file %s: %v", path, err)
	case !lockfile.Names(path, fd):
		_ = unix.Close(fd)
		return nil, fmt.Errorf("pid file %s was removed or replaced by someone else: stop them doing that", path)
	}
	return &File{path: path, fd: fd}, f.Close()
}

// Descriptor returns another descriptor of the locked file, to be kept across exec; the caller closes
// it when there is none. The lock holds as long as one of them is open.
func (f *File) Descriptor() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("cannot keep pid file %s: %v", f.path, err)
	}
	return os.NewFile(uintptr(fd), f.path), nil
}

// Leave is the end of f where a Descriptor of it goes on: lock and file stay.
func (f *File) Leave() error {
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

// Remove removes the file if it is still ours, and gives up the lock. If someone else has replaced it, or written
// into it what is no PID, it is left alone and the error says so; that it is gone already is no error.
func (f *File) Remove() error {
	var err error
	switch _, gone := os.Lstat(f.path); {
	case lockfile.Names(f.path, f.fd):
		// Nobody who plays by the rules replaces it between the look and the removal: we have its lock.
		if err = spare(f.path, f.fd); err == nil {
			err = os.Remove(f.path)
		}
	case gone == nil:
		err = fmt.Errorf("pid file %s was replaced by someone else and is left alone", f.path)
	}
	return errors.Join(err, f.Close())
}

// Close gives up the lock and leaves the file. It does nothing the second time.
func (f *File) Close() error {
	if f.fd < 0 {
		return nil
	}
	// Explicitly, since a descriptor that was made to be kept across exec may still hold it.
	err := errors.Join(lockfile.Unlock(f.fd), unix.Close(f.fd))
	f.fd = -1
	return err
}

// resolve makes path absolute and free of links, those in its last element included if they are root's
// or our own: through a link of another user it would be they who choose which file is replaced. Each
// folder is asked of the kernel, because a link and ".." after it do not cancel out.
func resolve(given string) (string, error) {
	path := given
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("pid file %s: %v: give its absolute path", given, err)
		}
		path = here + "/" + path
	}
	for range 40 { // as many links as Linux follows
		slash := strings.LastIndexByte(path, '/')
		dir, err := filepath.EvalSymlinks(path[:slash+1])
		if errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("pid file %s: %w: choose a file that this user can reach", given, err)
		}
		if err != nil {
			return "", fmt.Errorf("pid file %s: there is no folder %s: make it or choose another file", given, path[:slash+1])
		}
		path = strings.TrimSuffix(dir, "/") + path[slash:]
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return path, nil // what else is wrong with it shows when it is used
		}
		if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return "", fmt.Errorf("pid file %s is a symbolic link of user %d: remove it or choose another file", path, st.Uid)
		}
		to, err := os.Readlink(path)
		if err != nil {
			return "", fmt.Errorf("pid file %s: %v: choose another file", path, err)
		}
		if !filepath.IsAbs(to) {
			to = strings.TrimSuffix(dir, "/") + "/" + to
		}
		path = to
	}
	return "", fmt.Errorf("pid file %s is a symbolic link to itself: remove it or choose another file", given)
}

// read returns the PID in the file, or 0 when it holds anything else.
func read(fd int) int {
	var text [32]byte
	n, err := retry(func() (int, error) { return unix.Pread(fd, text[:], 0) })
	if err != nil || n == len(text) {
		return 0
	}
	return parse(string(text[:n]))
}

// parse reads a PID, as other programs write it too: with or without a newline.
func parse(text string) int {
	pid, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31) // no sign, which would be another's work
	if err != nil {
		return 0
	}
	return int(pid)
}

// alive says that there is a process of that number, whoever it is.
func alive(pid int) bool {
	return pid > 0 && !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// retry repeats a call that a signal has interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
