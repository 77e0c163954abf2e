// Package safefile answers: can another user have prepared the file at this path?
//
// It opens files in directories where other users can create files as well, such as /tmp. Another
// user can create a file of the expected name there first, and can then read what gophd writes to
// it or hold a lock on it. The file can also be a symbolic link, which makes gophd write to another
// file of its own user. Both are rejected here. Everything is checked by descriptor, so a file
// cannot be exchanged between the check and its use.
//
// In a directory that only root and gophd's own user can change, nothing is rejected. Directories
// further up are not checked: the kernel protects symlinks in them (fs.protected_symlinks in
// proc_sys_fs(5)), and hard links (fs.protected_hardlinks).
//
// A path can also lead to a descriptor of a process, however it is spelled: see Descriptor. TryCreate
// and TryReplace find out what this process may do in a directory, and change nothing.
package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the number of symlinks that Linux follows in one path (path_resolution(7)).
const maxLinks = 40

// Open is os.OpenFile for a file that another user may have prepared. If other users can create
// files in its directory, the file must belong to gophd's own user, to root or to one of owners. A
// symlink is followed if it belongs to gophd's own user or to root, and its target is checked in
// the same way.
//
// If path leads to stdin, stdout or stderr of this process, Open duplicates that descriptor, unless
// flags has O_NOFOLLOW. Flags and perm do not apply then. To open it again would fail for a socket
// and for the terminal of another user, and in a file it would overwrite what others append.
//
// It returns a *fs.PathError, or an *Error for a file that is rejected. It may block for as long as
// the file system does, and on a FIFO without O_NONBLOCK.
func Open(path string, flags int, perm fs.FileMode, owners ...int) (*os.File, error) {
	f, _, err := open(path, flags, perm, owners)
	return f, err
}

// OpenFD is Open for a caller that keeps the bare descriptor. It is closed on exec.
func OpenFD(path string, flags int, perm fs.FileMode, owners ...int) (int, error) {
	fd, _, err := openFD(path, flags, perm, owners)
	return fd, err
}

// Create is Open for a file that may be missing. It passes a file that it has created, and no
// other, to setUp. If setUp returns an error, Create removes the file and returns the error.
func Create(path string, flags int, perm fs.FileMode, setUp func(*os.File) error, owners ...int) (*os.File, error) {
	for range maxAttempts {
		f, _, err := open(path, flags, 0, owners)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		f, at, err := open(path, flags|os.O_CREATE|os.O_EXCL, perm, owners)
		if errors.Is(err, fs.ErrExist) {
			continue // it was created meanwhile, and may be anything
		}
		if err != nil {
			return nil, err
		}
		if err := setUp(f); err != nil {
			return nil, errors.Join(err, os.Remove(at), f.Close())
		}
		return f, nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: unix.EAGAIN}
}

// maxAttempts limits the attempts of Create while another process creates and removes the file.
const maxAttempts = 100

func open(path string, flags int, perm fs.FileMode, owners []int) (f *os.File, at string, err error) {
	fd, at, err := openFD(path, flags, perm, owners)
	if err != nil {
		return nil, "", err
	}
	return os.NewFile(uintptr(fd), path), at, nil
}

// openFD also returns the path of the file to which path leads.
func openFD(path string, flags int, perm fs.FileMode, owners []int) (fd int, at string, err error) {
	for range maxLinks {
		if n, ok := descriptor(path); ok {
			fd, err = openDescriptor(n, path, flags, perm)
			return fd, path, err
		}
		dir, err := openDir(path)
		if err != nil {
			return 0, "", err
		}
		fd, next, err := openIn(dir, path, flags, perm, owners)
		dir.Close()
		if err != nil || next == "" {
			return fd, path, err
		}
		path = next
	}
	return 0, "", &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
}

// Error reports why a file is rejected although it can be opened. A caller that knows the setting
// adds it to the fix: ", or choose another ...".
type Error struct {
	Path   string
	Reason string // what is wrong, and the fix
}

func (e *Error) Error() string { return e.Path + " " + e.Reason }

// Check returns the *Error that Open would return, and nil for a file that does not exist. It opens
// no file, so path may also be a directory.
func Check(path string, owners ...int) error {
	for range maxLinks {
		if _, ok := descriptor(path); ok {
			return nil
		}
		dir, err := openDir(path)
		if err != nil {
			return nil // Open reports it
		}
		var st unix.Stat_t
		_, base := split(path)
		err = unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			err = checkOwner(path, dir, &st, owners)
		} else {
			st.Mode, err = 0, nil
		}
		next := ""
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			next = readlink(dir, path)
		}
		dir.Close()
		if err != nil || next == "" {
			return err
		}
		path = next
	}
	return nil
}

// openIn opens the last element of path in dir. If that is a symlink to follow, next is its target.
func openIn(dir *os.File, path string, flags int, perm fs.FileMode, owners []int) (fd int, next string, err error) {
	_, base := split(path)
	fd, err = retry(path, func() (int, error) {
		return unix.Openat(int(dir.Fd()), base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(perm.Perm()))
	})
	var st unix.Stat_t
	if err != nil {
		if unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return 0, "", err
		}
		if err := checkOwner(path, dir, &st, owners); err != nil { // the kernel may also reject it, without the reason
			return 0, "", err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK && flags&unix.O_NOFOLLOW == 0 {
			next = readlink(dir, path)
		}
		if next == "" {
			return 0, "", err
		}
		return 0, next, nil
	}
	if err = unix.Fstat(fd, &st); err == nil {
		err = checkOwner(path, dir, &st, owners)
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, "", err
	}
	return fd, "", nil
}

// checkOwner returns an error if other users can create files in dir and the file st in it does not
// belong to a trusted user.
func checkOwner(path string, dir *os.File, st *unix.Stat_t, owners []int) error {
	var d unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &d); err != nil {
		return &fs.PathError{Op: "fstat", Path: dir.Name(), Err: err}
	}
	what := "belongs to"
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		what, owners = "is a symbolic link of", nil // owners could make it point to a file of root
	}
	private := Trusted(int(d.Uid)) && d.Mode&0o022 == 0
	if private || Trusted(int(st.Uid), owners...) || st.Mode&unix.S_IFMT == unix.S_IFCHR {
		return nil
	}
	return &Error{path, fmt.Sprintf("%s user %d, and other users can create files in %s: "+
		"remove it or give it to the user of gophd", what, st.Uid, dir.Name())}
}

// Trusted reports whether uid is root, gophd's own user or one of owners. A file or process of such
// a user is trusted like gophd's own.
func Trusted(uid int, owners ...int) bool {
	return uid == 0 || uid == os.Geteuid() || slices.Contains(owners, uid)
}

func openDir(path string) (*os.File, error) {
	name, _ := split(path)
	return os.OpenFile(name, pathOnly|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// readlink returns the target of the symlink at path, whose directory is open in dir; "" if there
// is none.
func readlink(dir *os.File, path string) string {
	b := make([]byte, unix.PathMax)
	name, base := split(path)
	n, err := unix.Readlinkat(int(dir.Fd()), base, b)
	if err != nil || n == 0 {
		return ""
	}
	if target := string(b[:n]); filepath.IsAbs(target) {
		return target
	}
	return name + "/" + string(b[:n])
}

// split returns the directory and the last element of path. It does not clean the directory, unlike
// filepath.Dir: the kernel resolves "link/.." to the parent of the link's target.
func split(path string) (dir, base string) {
	switch i := strings.LastIndexByte(path, '/'); i {
	case -1:
		return ".", path
	case 0:
		return "/", path[1:]
	default:
		return path[:i], path[i+1:]
	}
}

func retry(path string, open func() (int, error)) (int, error) {
	for {
		fd, err := open()
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, &fs.PathError{Op: "open", Path: path, Err: err}
		default:
			return fd, nil
		}
	}
}
