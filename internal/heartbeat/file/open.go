package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// open opens a regular file on a local disk, and nothing else. It does not block on a FIFO, and the
// file is closed on exec. With O_CREATE the mode of an old file is corrected.
func open(path string, flags int) (*os.File, error) {
	f, err := safefile.Open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode)
	switch refused := (*safefile.Error)(nil); {
	case err == nil:
		err := suits(path, f)
		if err == nil && flags&os.O_CREATE != 0 {
			err = closeToOthers(path, f)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	case errors.As(err, &refused):
		return nil, &contentError{"lock file " + refused.Error()}
	case errors.Is(err, fs.ErrNotExist) && flags&os.O_CREATE != 0:
		return nil, noFolder(path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return nil, denied(err)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EMLINK): // open(2) of Linux, of FreeBSD
		return nil, fmt.Errorf("lock file %s is a symbolic link, which is not followed: name the file itself", path)
	}
	return nil, fmt.Errorf("lock file: %w", err)
}

// suits refuses what a lock or a record must not be put into.
func suits(path string, f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("lock file %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("lock file %s is not a plain file: choose another", path)
	case st.Nlink > 1: // a planted one would have us write into the file it stands for
		return fmt.Errorf("lock file %s has %d names: choose a file with one", path, st.Nlink)
	}
	return local(path, f)
}

// closeToOthers takes from other users the right to open the file: they could lock it.
func closeToOthers(path string, f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(mode)
	}
	if err != nil {
		return fmt.Errorf("lock file %s can be locked by other users: %w: chmod it to 0600", path, err)
	}
	return nil
}

// folder says why no file could be made beside path.
func folder(path string) error {
	dir := filepath.Dir(path)
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return noFolder(path)
	case errors.Is(err, fs.ErrPermission):
		return denied(err)
	case err != nil:
		return fmt.Errorf("lock file %s: %w", path, err)
	}
	defer f.Close()
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return denied(&fs.PathError{Op: "write to", Path: dir, Err: err})
	}
	return local(path, f)
}

func noFolder(path string) error {
	return fmt.Errorf("lock file %s: its folder %s does not exist: create it or choose another file", path, filepath.Dir(path))
}

func denied(err error) error {
	return fmt.Errorf("lock file: %w: choose a file that this user can write", err)
}

// local refuses what is on a file system that other hosts see; f is the file at path, or its folder.
func local(path string, f *os.File) error {
	switch kind, err := remote(int(f.Fd())); {
	case err != nil:
		return fmt.Errorf("lock file %s: %w", path, err)
	case kind != "":
		return fmt.Errorf("lock file %s is on %s, where a lock may not hold: choose a file on a local disk, or another heartbeat for several hosts", path, kind)
	}
	return nil
}

// write puts value in the place of what is there, as "value NL spaces NL" of whole blocks: the file
// then keeps its size from one record to the next, so that no reader finds the new record cut at the
// old one's length, and JSON stays JSON when it becomes shorter.
func write(f *os.File, value []byte) error {
	if len(value) > maxValue {
		return fmt.Errorf("a value of %d bytes is refused: at most %d are taken", len(value), maxValue)
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	size := (len(value) + 2 + block - 1) / block * block
	padded := max(size, int(min(st.Size(), maxValue)))
	b := bytes.Repeat([]byte{' '}, padded)
	copy(b, value)
	b[len(value)], b[padded-1] = '\n', '\n'
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Truncate(int64(size))
}

// read returns the value that write wrote, by one read, so that it is not put together from two
// records. What somebody else wrote comes as it is, or cut when it is longer than all we write.
func read(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// A writer may make it longer by a block or two between the two calls.
	b := make([]byte, min(info.Size()+2*block, maxSize))
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	b = bytes.TrimSuffix(b[:n], []byte{'\n'})
	return bytes.Clone(bytes.TrimSuffix(bytes.TrimRight(b, " "), []byte{'\n'})), nil
}
