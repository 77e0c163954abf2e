// Package pidfile answers: which process owns this PID file, and is it alive?
//
// The content of a PID file is for readers. The lock on it (package lockfile) shows whether its
// owner is alive. gophd never signals a PID that it read from a file, and never relies on that
// process being alive.
//
// Readers get the whole file or none: it is written and locked under a temporary name and then gets
// its own. An old file is replaced only while its lock is held, so exactly one of several
// simultaneous starts wins. A user who may read the file may lock it too. The lock of another user
// on the file of a dead process does not count. Known gaps: two processes may both become owners if
// they start while another user holds such a lock, or if a user removes or renames the file by hand
// at the moment of a start.
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

// File is a PID file that this process owns. Only one goroutine may use it.
type File struct {
	path string
	// fd is a bare number, not an *os.File: the garbage collector cannot close it and release the
	// lock.
	fd int
}

// HeldError reports that a running process holds the file.
type HeldError struct {
	Path string
	PID  int // from the file; 0 if the file does not contain a PID
}

func (e *HeldError) Error() string {
	holder := "a running process"
	if e.PID != 0 {
		holder += " " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("pid file %s is held by %s: stop it or choose another --pid-file", e.Path, holder)
}

const (
	// maxAttempts limits the races that Take may lose in a row. Another process wins each of them.
	maxAttempts = 100
	// retryPause is the time between two attempts to lock, because flock(2) has no timeout.
	retryPause = 5 * time.Millisecond
)

// replaceTime is how long Take waits for a lock while the file does not contain the PID of a
// running process. This is the case while another start replaces the file of a dead process. Only
// tests change it.
var replaceTime = 100 * time.Millisecond

// Take creates the file with our PID and a newline, and locks it. Every user can read it as far as
// the umask allows. Take replaces an existing file that is not locked if it contains only a PID or
// is empty. Any other file is not a PID file and is not touched. If a running process holds the
// file, the error is a *HeldError, which may take a tenth of a second.
//
// The last element of path may be a symbolic link if it belongs to root or to our user.
func Take(path string) (*File, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	for start := time.Now(); ; {
		f, err := take(path)
		switch held := (*HeldError)(nil); {
		case err == nil:
			return f, nil
		case errors.As(err, &held):
			if time.Since(start) > replaceTime || alive(held.PID) {
				return nil, err
			}
			time.Sleep(retryPause)
		default:
			return nil, err
		}
	}
}

// Check returns the error that Take would return: nil, a *HeldError or another error. It leaves
// everything as it is: see safefile.TryWrite and TryReplace. It holds the lock of an unlocked file
// for a moment; a concurrent Take of another process retries for longer than that.
func Check(path string) error {
	path, err := resolve(path)
	if err != nil {
		return err
	}
	fd, err := open(path)
	switch {
	case err == nil:
		defer unix.Close(fd)
		locked, _ := lockfile.Locked(fd) // Take reports the error
		if pid := read(fd); locked && (alive(pid) || !lockedByOtherUsers(fd)) {
			return &HeldError{Path: path, PID: pid}
		}
		if err := checkReplaceable(path, fd); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	err = safefile.TryWrite(filepath.Dir(path), len(strconv.Itoa(os.Getpid())+"\n"))
	if err == nil {
		err = safefile.TryReplace(path)
	}
	if err != nil {
		return createError(path, err)
	}
	return nil
}

// take makes one attempt. It starts again as long as another process replaces the file meanwhile.
func take(path string) (*File, error) {
	for range maxAttempts {
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
		if !errors.Is(err, errReplaced) {
			return f, err
		}
	}
	return nil, fmt.Errorf("pid file %s is replaced again and again: choose another --pid-file", path)
}

// errReplaced reports that path no longer names the file that was opened.
var errReplaced = errors.New("the file was replaced")

// replace replaces the old file by ours, if no process has the old one locked.
func replace(path string, old int) (*File, error) {
	if err := lockfile.TryLock(old, unix.LOCK_EX); errors.Is(err, lockfile.ErrLocked) {
		if !lockfile.Names(path, old) {
			return nil, errReplaced
		}
		if pid := read(old); alive(pid) || !lockedByOtherUsers(old) {
			return nil, &HeldError{Path: path, PID: pid}
		}
	} else if err != nil {
		return nil, fmt.Errorf("cannot lock pid file %s: %v: choose a --pid-file on a local disk", path, err)
	}
	if !lockfile.Names(path, old) {
		return nil, errReplaced
	}
	if err := checkReplaceable(path, old); err != nil {
		return nil, err
	}
	return publish(path, os.Rename)
}

// lockedByOtherUsers reports whether the file is locked, and only by processes of users other than
// root and our own. The process that wrote the file is not one of these.
func lockedByOtherUsers(fd int) bool {
	pids := procfs.Lockers(fd)
	for _, pid := range pids {
		if user, _, err := procfs.UIDs(pid); err != nil || safefile.Trusted(user) {
			return false
		}
	}
	return len(pids) > 0
}

// checkReplaceable returns an error if the file is not a PID file and so must not be replaced. A
// file of zeros is accepted: some file systems leave it after a crash of the machine.
func checkReplaceable(path string, fd int) error {
	var text [32]byte
	n, err := retry(func() (int, error) { return unix.Pread(fd, text[:], 0) })
	if err != nil {
		return fmt.Errorf("cannot read pid file %s: %w: %s", path, err, safefile.Fix(err, chooseAnother))
	}
	content := strings.Trim(string(text[:n]), "\x00 \t\r\n")
	if n == len(text) || content != "" && parse(content) == 0 {
		return fmt.Errorf("pid file %s is not a PID file: choose another --pid-file, or remove it", path)
	}
	return nil
}

// open opens the file at path, without blocking or following a link. It returns an error if it is
// not a regular file.
func open(path string) (int, error) {
	fd, err := safefile.OpenFD(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	switch unsafe := (*safefile.Error)(nil); {
	case errors.As(err, &unsafe):
		return 0, fmt.Errorf("pid file %w, or choose another --pid-file", unsafe)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ELOOP): // a socket; a link that was created since resolve
		return 0, fmt.Errorf("pid file %s is not a regular file: choose another --pid-file", path)
	case errors.Is(err, unix.ENOENT):
		return 0, fs.ErrNotExist
	case err != nil:
		return 0, fmt.Errorf("cannot open pid file %s: %w: %s", path, err, safefile.Fix(err, chooseAnother))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("cannot stat pid file %s: %v", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("pid file %s is not a regular file: choose another --pid-file", path)
	}
	return fd, nil
}

// publish writes and locks a file under a temporary name, and then gives it the name path by a call
// of name.
func publish(path string, name func(from, to string) error) (*File, error) {
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".gophd-pid-%d-%08x", os.Getpid(), rand.Uint32()))
	fd, err := retry(func() (int, error) {
		return unix.Open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	})
	if err != nil {
		return nil, createError(path, err)
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
	return nil, createError(path, err)
}

// createError returns err without its operation and paths, which name a temporary file.
func createError(path string, err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		err = p.Err
	case errors.As(err, &l):
		err = l.Err
	}
	return fmt.Errorf("cannot create pid file %s: %w: %s", path, err,
		safefile.Fix(err, "choose a --pid-file in a directory that this user can write to"))
}

const chooseAnother = "choose another --pid-file"

// Adopt takes over the file of the old process. f is the Descriptor that was kept over exec. Adopt
// fails if path no longer names that file, or if another process has its lock. The caller then
// still owns f and must close it before another Take. On success f is closed and the lock is kept.
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
		return nil, fmt.Errorf("pid file %s was removed or replaced by another process: "+
			"make sure that no other program changes it", path)
	}
	return &File{path: path, fd: fd}, f.Close()
}

// Descriptor returns another descriptor of the locked file, which can be kept across exec. The
// caller closes it if there is no exec. The lock is held as long as one of the descriptors is open.
func (f *File) Descriptor() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("cannot duplicate the descriptor of pid file %s: %v", f.path, err)
	}
	return os.NewFile(uintptr(fd), f.path), nil
}

// Leave closes f but keeps the file, and keeps the lock for a Descriptor of f.
func (f *File) Leave() error {
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

// Remove removes the file if it is still ours, and releases the lock. If another process has
// replaced the file, or has written something other than a PID to it, Remove keeps the file and
// returns an error. It returns no error if the file does not exist.
func (f *File) Remove() error {
	var err error
	switch _, statErr := os.Lstat(f.path); {
	case lockfile.Names(f.path, f.fd):
		// We have its lock, so no other gophd replaces it between the check and the removal.
		if err = checkReplaceable(f.path, f.fd); err == nil {
			err = os.Remove(f.path)
		}
	case statErr == nil:
		err = fmt.Errorf("pid file %s was replaced by another process and is not removed", f.path)
	}
	return errors.Join(err, f.Close())
}

// Close releases the lock and keeps the file. A second Close does nothing.
func (f *File) Close() error {
	if f.fd < 0 {
		return nil
	}
	// Unlock explicitly, because a Descriptor may still hold the lock.
	err := errors.Join(lockfile.Unlock(f.fd), unix.Close(f.fd))
	f.fd = -1
	return err
}

// resolve makes path absolute and resolves all symbolic links. A link in the last element must
// belong to root or to our user: the owner of the link decides which file is replaced. The
// directory is resolved element by element, because a link and a ".." after it do not cancel out.
func resolve(given string) (string, error) {
	path := given
	if !filepath.IsAbs(path) {
		directory, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("pid file %s: %v: use its absolute path", given, err)
		}
		path = directory + "/" + path
	}
	for range 40 { // the number of links that Linux follows
		slash := strings.LastIndexByte(path, '/')
		dir, err := filepath.EvalSymlinks(path[:slash+1])
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("pid file %s: directory %s does not exist: create it or choose another --pid-file",
				given, path[:slash+1])
		}
		if err != nil {
			return "", fmt.Errorf("pid file %s: %w: %s", given, err, safefile.Fix(err, chooseAnother))
		}
		path = strings.TrimSuffix(dir, "/") + path[slash:]
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return path, nil // any other error is reported when the file is used
		}
		if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return "", fmt.Errorf("pid file %s is a symbolic link of user %d: remove it or choose another --pid-file",
				path, st.Uid)
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", fmt.Errorf("pid file %s: %w: %s", path, err, safefile.Fix(err, chooseAnother))
		}
		if !filepath.IsAbs(target) {
			target = strings.TrimSuffix(dir, "/") + "/" + target
		}
		path = target
	}
	return "", fmt.Errorf("pid file %s is a symbolic link to itself: remove it or choose another --pid-file", given)
}

// read returns the PID in the file, or 0 if the file contains anything else.
func read(fd int) int {
	var text [32]byte
	n, err := retry(func() (int, error) { return unix.Pread(fd, text[:], 0) })
	if err != nil || n == len(text) {
		return 0
	}
	return parse(string(text[:n]))
}

// parse returns the PID in text, with or without a newline as programs write it, or 0.
func parse(text string) int {
	pid, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31) // a sign is an error
	if err != nil {
		return 0
	}
	return int(pid)
}

// alive reports whether a process with that PID exists, no matter which program it runs.
func alive(pid int) bool {
	return pid > 0 && !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// retry repeats a call as long as signals interrupt it.
func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
