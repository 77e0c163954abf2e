package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
)

// Query selects runs of a history. The zero value selects all.
type Query struct {
	Last   int       // the last ones only, if it is not 0
	Failed bool      // those that failed
	Since  time.Time // those that ended then or later, and those that are active
}

// Runs are runs of a history, the oldest first: in the order of their end, and at its start a run that
// did not end.
type Runs struct {
	Runs []Run
	Lost uint64 // runs that are missing among them, because the file could not be written then
}

// Read returns the selected runs of the history at path, the newer of its two files. It reads backwards
// from the end, and no more than it needs. A line that is no record is skipped: a write may have been cut
// short. A run without an end is active if its gophd may be alive, and otherwise it was interrupted. The
// error of a history that does not exist is fs.ErrNotExist.
func Read(path string, q Query) (Runs, error) {
	files, err := openFiles(path)
	if err != nil {
		return Runs{}, err
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	s := selection{Query: q, ended: map[startedRun]bool{}}
	for _, f := range files {
		if err := s.read(f); err != nil {
			return Runs{}, err
		}
	}
	slices.Reverse(s.found.Runs)
	return s.found, nil
}

// openFiles opens the newer file of a history and the older one, as far as there are both. While they
// are opened, the newer may become the older.
func openFiles(path string) (files []*os.File, err error) {
	for range maxAttempts {
		files = nil
		var newer fs.FileInfo
		for _, p := range []string{path, path + older} {
			f, info, err := openFile(p)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				closeAll(files)
				return nil, err
			}
			files = append(files, f)
			if p == path {
				newer = info
			}
		}
		now, err := os.Lstat(path)
		switch {
		case len(files) == 0 && err != nil:
			return nil, err
		case newer == nil && err != nil, newer != nil && err == nil && os.SameFile(now, newer):
			return files, nil
		}
		closeAll(files)
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: unix.EAGAIN}
}

// maxAttempts limits the attempts of openFiles: a writer needs some time for each file.
const maxAttempts = 100

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func openFile(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// startedRun names a run in a history: after the next start of gophd the numbers begin again.
type startedRun struct {
	run     uint64
	started int64
}

// selection is the state of Read, which sees the newest record first.
type selection struct {
	Query
	found Runs
	ended map[startedRun]bool // runs whose start was not seen yet
	gophd *procfs.Identity    // of the newest record that names one
}

func (s *selection) enough() bool { return s.Last > 0 && len(s.found.Runs) >= s.Last }

// read adds the runs of one file.
func (s *selection) read(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	lines := backward{file: f, at: size}
	for !s.enough() {
		line, err := lines.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var r record
		if json.Unmarshal(line, &r) == nil {
			s.add(r)
		}
	}
	return nil
}

func (s *selection) add(r record) {
	id := startedRun{r.Number, r.Started.UnixNano()}
	switch r.Type {
	case typeLost:
		if s.Since.IsZero() || !r.Time.Before(s.Since) {
			s.found.Lost += r.Count
		}
	case typeEnded:
		s.ended[id] = true
		s.offer(r.Run, r.Ended)
	case typeStarted:
		if s.ended[id] {
			delete(s.ended, id)
			return
		}
		if s.gophd == nil {
			s.gophd = r.Gophd
		}
		switch {
		case r.Gophd == nil || !s.mayLive(*r.Gophd):
			r.Outcome = Interrupted
		case s.found.Lost > 0 && !procfs.Alive(r.PID, 0): // its end is among the lost ones
			return
		}
		s.offer(r.Run, r.Started)
	}
}

// mayLive returns false if a gophd is dead. One that cannot be seen from here, as in another container, is
// dead if another one has written later; several that write at the same time are possible without a lease.
func (s *selection) mayLive(gophd procfs.Identity) bool {
	seen := gophd.Boot != "" && gophd.PIDNS == procfs.Self().PIDNS
	return gophd.MayLive() && (seen || gophd == *s.gophd)
}

// offer adds a run if it is selected. at is the last moment that is known of it.
func (s *selection) offer(r Run, at time.Time) {
	active := r.Outcome == ""
	if s.Failed && !r.Failed() || !active && at.Before(s.Since) {
		return
	}
	s.found.Runs = append(s.found.Runs, r)
}

// backward reads the lines of a file, the last one first.
type backward struct {
	file io.ReaderAt
	at   int64  // everything from here on was read
	rest []byte // from at on, and not returned yet
}

// chunk is how much is read at first; a longer line takes twice as much each time.
const chunk = 16 << 10

// next returns the line before the last one that it returned, without its end, which the last line need
// not have. After the first line of the file it returns io.EOF. The line is valid until the next call.
func (b *backward) next() ([]byte, error) {
	searched := 0 // bytes at the end of rest without a line end
	for {
		if i := bytes.LastIndexByte(b.rest[:len(b.rest)-searched], '\n'); i >= 0 {
			line := b.rest[i+1:]
			b.rest = b.rest[:i]
			return line, nil
		}
		searched = len(b.rest)
		if b.at == 0 {
			if searched == 0 {
				return nil, io.EOF
			}
			line := b.rest
			b.rest = nil
			return line, nil
		}
		n := min(max(chunk, int64(searched)), b.at)
		more := make([]byte, n, n+int64(searched))
		if _, err := b.file.ReadAt(more, b.at-n); err != nil {
			return nil, err
		}
		b.rest, b.at = append(more, b.rest...), b.at-n
	}
}
