package history

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

// suffix is the end of the name of a history, and older that of the file with its older records.
const (
	suffix = ".history"
	older  = ".1"
)

// Path returns the path of the newer file of a history. name is that of the files of the job.
func Path(dir, name string) string { return filepath.Join(dir, name+suffix) }

// mode is that of a new file: output of the command may be in it, as in a log.
const mode = 0o640

// segment is a file of a history that is open for appending.
type segment interface {
	io.WriteCloser
	Truncate(size int64) error
}

// disk writes to the files of histories. The zero value does.
type disk struct {
	open func(path string) (f segment, size int64, torn bool, err error) // instead of openSegment; for tests
}

// append writes the records of a queue, and after them that of its loss. What it has written it removes
// from the queue.
func (d disk) append(path, name string, q *queue, most int64) error {
	err := d.appendRecords(path, &q.records, most)
	if err == nil && q.lost > 0 {
		lost := appendLost(nil, name, q.lost)
		if err = d.appendRecords(path, &lost, most); err == nil {
			q.lost = 0
		}
	}
	if err != nil {
		return fmt.Errorf("cannot write the history %s: %w: %s; until then its runs are kept in memory, "+
			"as far as they fit", path, cause(err), fix(err))
	}
	return nil
}

func (d disk) appendRecords(path string, records *[]byte, most int64) error {
	for len(*records) > 0 {
		full, err := d.fill(path, records, most)
		if err == nil && full {
			err = os.Rename(path, path+older)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill writes as many records as fit into the file, with one write(2), and removes them. It returns true
// if the next one does not fit.
func (d disk) fill(path string, records *[]byte, most int64) (full bool, err error) {
	open := d.open
	if open == nil {
		open = openSegment
	}
	f, size, torn, err := open(path)
	if err != nil {
		return false, err
	}
	defer f.Close() // each error of the data was one of Write: nothing is synced
	n := fitting(*records, most-size)
	if n == 0 && size > 0 {
		return true, nil
	}
	if n == 0 {
		n = bytes.IndexByte(*records, '\n') + 1
	}
	data := (*records)[:n]
	if torn { // gophd was killed during a write, or the machine lost power
		data = append([]byte{'\n'}, data...)
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Truncate(size) // otherwise these records are there twice, once they can be written
		return false, err
	}
	*records = (*records)[n:]
	return len(*records) > 0, nil
}

// fitting returns the length of the whole records at the start of b that fit into that many bytes.
func fitting(b []byte, space int64) int {
	if int64(len(b)) <= space {
		return len(b)
	}
	return bytes.LastIndexByte(b[:max(space, 0)], '\n') + 1
}

// runsIn returns how many runs have ended in these records.
func runsIn(records []byte) uint64 {
	return uint64(bytes.Count(records, []byte(`,"type":"`+typeEnded+`"`)))
}

// openSegment opens a file of a history for appending, and creates it if it is missing. torn is true if its
// last line has no end.
func openSegment(path string) (_ segment, size int64, torn bool, err error) {
	const flags = os.O_RDWR | os.O_APPEND | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	f, err := safefile.Open(path, flags, mode)
	if err != nil {
		return nil, 0, false, err
	}
	if size, torn, err = look(f); err != nil {
		f.Close()
		return nil, 0, false, err
	}
	return f, size, torn, nil
}

var errNotRegular = errors.New("not a regular file with one name")

// look returns the size of a file, and whether its last line has no end.
func look(f *os.File) (size int64, torn bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 { // another user may have made a hard link
		return 0, false, errNotRegular
	}
	if st.Size == 0 {
		return 0, false, nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], st.Size-1); err != nil {
		return 0, false, err
	}
	return st.Size, last[0] != '\n', nil
}

// cause returns the error without operation and path, because the message names them.
func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	if l := (*os.LinkError)(nil); errors.As(err, &l) {
		return l.Err
	}
	return err
}

// fix returns what to do about an error of a write.
func fix(err error) string {
	if errors.Is(err, errNotRegular) || errors.Is(err, unix.ELOOP) {
		return "remove it"
	}
	return safefile.Fix(err, fmt.Sprintf("set GOPHD_STATE_DIR to a directory that user %d can write to, "+
		"or history.size to 0", os.Geteuid()))
}
