package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Creatable returns nil if path is a directory, or if os.MkdirAll would create it with the
// permissions of this process, and the error otherwise. The missing directories would be created in
// parent, which is path itself if that exists. Creatable changes nothing.
func Creatable(path string) (parent string, err error) {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			if _, err := os.Lstat(at); err == nil {
				return "", fmt.Errorf("%s is a symbolic link to nothing: %w", at, fs.ErrExist)
			}
			continue
		case err != nil:
			return "", err
		case !info.IsDir():
			return "", fmt.Errorf("%s: %w", at, unix.ENOTDIR)
		case at == path:
			return at, nil
		}
		if err := unix.Faccessat(unix.AT_FDCWD, at, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return "", &fs.PathError{Op: "mkdir in", Path: at, Err: err}
		}
		return at, nil
	}
}

// TryCreate returns nil if this process can create a file in dir and setUp returns nil for it, and
// the error otherwise. Only an attempt tells: the permissions do not show an immutable directory,
// a full disk, or a file system like /proc. The file has no name where the file system allows that
// (O_TMPFILE in open(2)), so nothing is left if this process is killed, no other process sees the
// file, and the time of the directory stays. Elsewhere it has an unpredictable name and is removed
// at once. setUp may be nil.
//
// The error is a *fs.PathError, or that of setUp. TryCreate blocks for as long as the file system
// does.
func TryCreate(dir string, setUp func(*os.File) error) error {
	f, err := os.OpenFile(dir, unnamed|os.O_WRONLY, 0o600)
	if err != nil {
		if f, err = os.CreateTemp(dir, ".gophd-probe-*"); err == nil {
			err = os.Remove(f.Name())
		}
	}
	if f == nil {
		return &fs.PathError{Op: "create a file in", Path: dir, Err: cause(err)}
	}
	if setUp != nil {
		err = errors.Join(err, setUp(f))
	}
	return errors.Join(err, f.Close())
}

// TryWrite is TryCreate for a file of that many bytes: a full disk may have room for the name of a file
// and not for its content. The space is free again when it returns.
func TryWrite(dir string, size int) error {
	return TryCreate(dir, func(f *os.File) error {
		if _, err := f.Write(make([]byte, size)); err != nil {
			return &fs.PathError{Op: "write a file in", Path: dir, Err: cause(err)}
		}
		return nil
	})
}

// Reopens returns an error, fs.ErrPermission, if this process may not open the file of f again for
// appending: after it has given the file to another user, root needs CAP_DAC_OVERRIDE for that. It
// returns nil if that cannot be known.
func Reopens(f *os.File) error {
	conn, err := f.SyscallConn() // Fd would make the file blocking
	if err != nil {
		return err
	}
	var denied error
	err = conn.Control(func(fd uintptr) {
		again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_APPEND|unix.O_NONBLOCK|
			unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			_ = unix.Close(again)
		case errors.Is(err, fs.ErrPermission):
			denied = fmt.Errorf("gophd could not open it again (%w) without the capability CAP_DAC_OVERRIDE", err)
		}
	})
	return errors.Join(denied, err)
}

// Fix returns what to do about an error of an operation on the file at a path: what removes its
// cause, and choose, which names the setting that chooses another path, as in "choose another
// --pid-file".
func Fix(err error, choose string) string {
	for _, cause := range []struct {
		errno unix.Errno
		fix   string
	}{
		{unix.EACCES, "allow gophd to use it"},
		{unix.EPERM, "allow gophd to use it"},
		{unix.ENOSPC, "free some space or inodes (df, df -i)"},
		{unix.EDQUOT, "free some space of that user, raise the quota"},
		{unix.EFBIG, "raise the limit of file sizes (ulimit -f, LimitFSIZE= of a unit)"},
		{unix.EROFS, "mount its file system for writing"},
		{unix.ENAMETOOLONG, "shorten the path"},
		{unix.ELOOP, "correct its symbolic links"},
	} {
		if errors.Is(err, cause.errno) {
			return cause.fix + ", or " + choose
		}
	}
	switch {
	case errors.Is(err, unix.EMFILE):
		return "raise the limit of open files (ulimit -n, LimitNOFILE= of a unit)"
	case errors.Is(err, unix.ENFILE):
		return "raise the system's limit of open files (fs.file-max)"
	}
	return choose
}

// Elsewhere reports whether err is one of a file operation that may succeed at another path.
func Elsewhere(err error) bool {
	return errors.As(err, new(unix.Errno)) && !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE)
}

// TryReplace returns nil if this process can remove or replace the file at path, as far as the file
// itself and its directory's sticky bit decide that, or if no file is there. It changes nothing.
// The caller knows that path is not a directory.
func TryReplace(path string) error {
	// rmdir(2) fails for every file. It checks first whether the file may be removed.
	switch err := unix.Rmdir(path); err {
	case nil, unix.ENOTDIR, unix.ENOENT:
		return nil
	default:
		return &fs.PathError{Op: "replace", Path: path, Err: err}
	}
}

func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
