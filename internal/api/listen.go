package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/lockfile"
	"gophd/internal/safefile"
)

// socket is a socket that this daemon listens on.
type socket struct {
	listener *net.UnixListener
	Place
}

// Place is where a daemon listens, for the handoff: Path, and the file that its socket has there.
type Place struct {
	Path string `json:"path"`
	File fileID `json:"file"`
}

// fileID identifies a file on this host.
type fileID struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

func idOf(path string) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{uint64(st.Dev), st.Ino}, nil
}

// listen creates the socket of a daemon, and writes its record. A socket of a daemon that is alive is
// never replaced.
func listen(dir string, group *int, record Record) (*socket, error) {
	path, lock, err := lockRecord(dir, group, record.Daemon)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	path += socketSuffix
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w: %s", err, safefile.Fix(err, "set GOPHD_RUNTIME_DIR to another directory"))
	}
	listener.SetUnlinkOnClose(false) // the socket stays in a re-exec
	s := &socket{listener: listener, Place: Place{Path: path}}
	// Until its mode is set, the credentials of the peers are checked all the same.
	err = errors.Join(setMode(path, group), record.write(lock))
	if err == nil {
		s.File, err = idOf(path)
	}
	if err != nil {
		_ = s.remove()
		return nil, err
	}
	return s, nil
}

// adopt continues to listen on a socket of the old process. It is an error if the socket at that path
// is another one now, or none.
func adopt(dir string, handed *os.File, at Place, group *int, record Record) (*socket, error) {
	path, lock, err := lockRecord(dir, group, record.Daemon)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if id, err := idOf(at.Path); err != nil || id != at.File || path+socketSuffix != at.Path {
		return nil, fmt.Errorf("%s was removed or replaced", at.Path)
	}
	listener, err := net.FileListener(handed)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", at.Path, err)
	}
	l, ok := listener.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s is no socket of gophd", at.Path), listener.Close())
	}
	l.SetUnlinkOnClose(false)
	return &socket{listener: l, Place: at}, errors.Join(setMode(at.Path, group), record.write(lock))
}

// remove closes the socket, and removes it unless another one is there now.
func (s *socket) remove() error {
	return errors.Join(s.listener.Close(), s.Place.Remove())
}

// Remove removes the socket, unless another one is there.
func (p Place) Remove() error {
	if id, err := idOf(p.Path); err != nil || id != p.File {
		return nil // it is not ours any more
	}
	return os.Remove(p.Path)
}

// lockTime is how long another gophd may hold the lock of a record: it only creates its socket
// meanwhile.
const lockTime = 5 * time.Second

// lockRecord creates the runtime directory, and opens and locks the record. It returns the path of the
// record without its suffix. Nobody else replaces the socket until the record is closed.
func lockRecord(dir string, group *int, name string) (path string, record *os.File, err error) {
	const choose = "set GOPHD_RUNTIME_DIR to another directory"
	if path, err = base(dir, name); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("cannot create the runtime directory: %w: %s", err, safefile.Fix(err, choose))
	}
	if err := safefile.Check(dir); err != nil {
		return "", nil, fmt.Errorf("runtime directory %w, or %s", err, choose)
	}
	at := path + recordSuffix
	record, err = safefile.Create(at, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600, func(*os.File) error { return nil })
	if err != nil {
		return "", nil, fmt.Errorf("cannot open %s: %w: %s", filepath.Base(at), err, safefile.Fix(err, choose))
	}
	if err = setMode(at, group); err == nil {
		err = lockWithin(record, lockTime)
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("%s: %w", at, err), record.Close())
	}
	return path, record, nil
}

func lockWithin(f *os.File, most time.Duration) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for end := time.Now().Add(most); ; time.Sleep(5 * time.Millisecond) {
		locked := errors.New("closed")
		_ = conn.Control(func(fd uintptr) { locked = lockfile.TryLock(int(fd), unix.LOCK_EX) })
		if locked == nil || !errors.Is(locked, lockfile.ErrLocked) || time.Now().After(end) {
			return locked
		}
	}
}

// setMode lets the own user use a file, and the group if there is one.
func setMode(path string, group *int) error {
	if group == nil {
		return os.Chmod(path, 0o600)
	}
	if err := os.Lchown(path, -1, *group); err != nil {
		return fmt.Errorf("%w: start gophd as root or as a member of the group, or leave out api.group", err)
	}
	return os.Chmod(path, 0o660)
}

// removeStale removes a socket that nobody listens on. It returns an error if somebody does, or if the
// file is no socket.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is no socket; remove it", path)
	}
	alive, err := listening(path)
	if err != nil {
		return err
	}
	if alive {
		return fmt.Errorf("another process listens on %s; give this gophd another --name, or GOPHD_RUNTIME_DIR", path)
	}
	return os.Remove(path)
}

// listening reports whether a process listens on a socket. It does not block: on a socket whose queue
// is full, connect(2) fails with EAGAIN.
func listening(path string) (bool, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return false, fmt.Errorf("cannot create a socket: %w", err)
	}
	defer unix.Close(fd)
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return false, err
	}
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINPROGRESS):
		return true, nil
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return false, nil
	default:
		return false, &fs.PathError{Op: "connect to", Path: path, Err: err}
	}
}
