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

// open opens a regular file on a local disk and rejects everything else. It does not block on a
// FIFO, and the file is closed on exec. With O_CREATE the mode of an existing file is corrected.
func open(path string, flags int) (*os.File, error) {
	f, err := safefile.Open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode)
	switch unsafe := (*safefile.Error)(nil); {
	case err == nil:
		err := checkFile(path, f)
		if err == nil && flags&os.O_CREATE != 0 {
			err = closeToOthers(path, f)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	case errors.As(err, &unsafe):
		return nil, &contentError{rejected("lock file", path, unsafe).Error()}
	case errors.Is(err, fs.ErrNotExist) && flags&os.O_CREATE != 0:
		return nil, noDirectory(path)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EMLINK): // open(2) of Linux and of FreeBSD
		return nil, fmt.Errorf("lock file %s is a symbolic link, which is not followed: remove it, or %s",
			path, otherDirectory)
	}
	return nil, failed("lock file "+path, err)
}

// The path of each file is made from the state directory and the job's name. So the fix for a file
// in the wrong place is another state directory.
const otherDirectory = "set GOPHD_STATE_DIR to another directory"

// failed is the error of an operation on a file, with the fix.
func failed(what string, err error) error {
	choose := fmt.Sprintf("set GOPHD_STATE_DIR to a directory that user %d can write to", os.Geteuid())
	if errors.Is(err, fs.ErrNotExist) {
		choose = "create its directory, or " + choose
	}
	return fmt.Errorf("%s: %w: %s", what, cause(err), safefile.Fix(err, choose))
}

// rejected is the error of an open by package safefile.
func rejected(what, path string, err error) error {
	if unsafe := (*safefile.Error)(nil); errors.As(err, &unsafe) {
		return fmt.Errorf("%s %w, or %s", what, unsafe, otherDirectory)
	}
	return failed(what+" "+path, err)
}

// cause returns the error without operation and path, because the message names them.
func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// checkFile returns an error if f must not be used as a lock file or state file.
func checkFile(path string, f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("lock file %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("lock file %s is not a regular file: remove it, or %s", path, otherDirectory)
	case st.Nlink > 1: // through a hard link that another user created, gophd would write to the link's target
		return fmt.Errorf("lock file %s has %d hard links, and may have only one: remove it, or %s",
			path, st.Nlink, otherDirectory)
	}
	return checkLocal(path, f)
}

// closeToOthers removes the permission of other users to open the file, because they could lock it.
func closeToOthers(path string, f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(mode)
	}
	if err != nil {
		return openToOthers(path, err)
	}
	return nil
}

// mayCloseToOthers returns the error that closeToOthers would return.
func mayCloseToOthers(path string, f *os.File) error {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Mode&0o077 != 0 && os.Geteuid() != 0 && int(st.Uid) != os.Geteuid() {
		err = unix.EPERM // chmod(2)
	}
	if err != nil {
		return openToOthers(path, err)
	}
	return nil
}

func openToOthers(path string, err error) error {
	return fmt.Errorf("lock file %s can be locked by other users: %w: chmod it to 0600", path, cause(err))
}

// checkDirectory returns an error if no file can be created next to path.
func checkDirectory(path string) error {
	dir := filepath.Dir(path)
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return noDirectory(path)
	case err != nil:
		return failed("lock file "+path, err)
	}
	defer f.Close()
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return failed("lock file "+path+": directory "+dir, err)
	}
	return checkLocal(path, f)
}

func noDirectory(path string) error {
	return fmt.Errorf("lock file %s: its directory %s does not exist: create it, or %s",
		path, filepath.Dir(path), otherDirectory)
}

// checkLocal returns an error if f is on a file system that other hosts can use. f is the file at
// path, or its directory.
func checkLocal(path string, f *os.File) error {
	switch kind, err := remote(int(f.Fd())); {
	case err != nil:
		return fmt.Errorf("lock file %s: %w", path, err)
	case kind != "":
		return fmt.Errorf("lock file %s is on %s, where locks are not reliable: "+
			"set GOPHD_STATE_DIR to a directory on a local disk; for several hosts set --heartbeat memcached://HOST too",
			path, kind)
	}
	return nil
}

// write replaces the content of f with "value NL spaces NL", padded to whole blocks. So the file
// usually keeps its size from one record to the next: no reader gets the new record cut at the
// length of the old one, and the content stays valid JSON when the value becomes shorter.
func write(f *os.File, value []byte) error {
	if len(value) > maxValue {
		return fmt.Errorf("a value of %d bytes is too long: the maximum is %d", len(value), maxValue)
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

// read returns the value that write wrote. It uses a single read call, so that the result is never
// a mix of two records. Content of other programs is returned as it is, or cut if it is longer than
// anything that write writes.
func read(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// A writer may extend the file by a block or two between the two calls.
	b := make([]byte, min(info.Size()+2*block, maxSize))
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	b = bytes.TrimSuffix(b[:n], []byte{'\n'})
	return bytes.Clone(bytes.TrimSuffix(bytes.TrimRight(b, " "), []byte{'\n'})), nil
}
