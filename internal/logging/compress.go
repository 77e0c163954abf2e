package logging

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// tempSuffix ends the name of a compressed file that is not complete yet.
const tempSuffix = ".gz.tmp"

var errStopped = errors.New("the log is being closed")

// pack compresses an archive. At every moment the archive or its compressed form is complete and on
// the disk. A file that a gophd has open as its log is skipped until the next sweep.
func (a *archives) pack(f archive) error {
	err := a.packFile(f)
	if err == nil || errors.Is(err, errStopped) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("cannot compress log archive %s: %w: free some space, and allow gophd to read it", f, cause(err))
}

func (a *archives) packFile(f archive) error {
	r, err := os.OpenFile(f.String(), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	if !lock(r, unix.LOCK_EX) {
		return nil
	}
	target := f.String() + ".gz"
	if exists(target) {
		same, err := a.same(r, target)
		switch {
		case err != nil:
			return err
		case same: // a gophd was stopped just before it removed the file
			return a.remove(f)
		}
		// The clock was set back, and the file was written again. Rename it, so that the next
		// sweep finds it.
		a.mu.Lock()
		defer a.mu.Unlock()
		if f.String() == a.active {
			return nil
		}
		a.again = true
		return os.Rename(f.String(), free(f.file, f.when()).String())
	}
	part := f.String() + tempSuffix
	w, err := safefile.Open(part, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	if !lock(w, unix.LOCK_EX) {
		return nil // another gophd compresses it
	}
	n, err := a.write(w, r, f)
	if err == nil {
		err = w.Sync()
	}
	if err == nil {
		err = os.Rename(part, target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := syncDirectory(target); err != nil {
		return err
	}
	if info, err := r.Stat(); err != nil || info.Size() != n {
		return errors.Join(err, os.Remove(target)) // another program wrote to it without our locks
	}
	return a.remove(f)
}

// write compresses r to w, sets time, owner and mode, and returns the length of r.
func (a *archives) write(w *os.File, r io.Reader, f archive) (int64, error) {
	if err := w.Truncate(0); err != nil {
		return 0, err
	}
	z := gzip.NewWriter(w)
	z.Name, z.ModTime = latin(filepath.Base(f.String())), f.info.ModTime()
	n, err := io.Copy(z, stoppable{a, r})
	if err = errors.Join(err, z.Close()); err != nil {
		return n, err
	}
	if uid, gid, ok := ownerOf(f.info); ok {
		_ = w.Chown(uid, gid) // only root can; for other users it is theirs already
	}
	at := unix.NsecToTimeval(f.info.ModTime().UnixNano())
	return n, errors.Join(w.Chmod(f.info.Mode().Perm()), unix.Futimes(int(w.Fd()), []unix.Timeval{at, at}))
}

// latin returns name if the header of a gzip file can hold it (RFC 1952, 2.3.1.2), otherwise "".
func latin(name string) string {
	for _, c := range name {
		if c == 0 || c > 0xff {
			return ""
		}
	}
	return name
}

// same reports whether a compressed file has the bytes of r.
func (a *archives) same(r *os.File, packed string) (bool, error) {
	p, err := os.OpenFile(packed, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer p.Close()
	z, err := gzip.NewReader(p)
	if err != nil {
		return false, nil
	}
	x, y := make([]byte, 1<<15), make([]byte, 1<<15)
	in := stoppable{a, r}
	for {
		n, err1 := io.ReadFull(in, x)
		m, err2 := io.ReadFull(z, y)
		if errors.Is(err1, errStopped) {
			return false, err1
		}
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if err1 != nil || err2 != nil {
			return ended(err1) && ended(err2), nil
		}
	}
}

func ended(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// stoppable is a reader that returns errStopped when the log is closed.
type stoppable struct {
	a *archives
	r io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if s.a.quit.Load() {
		return 0, errStopped
	}
	return s.r.Read(p)
}
