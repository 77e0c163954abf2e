package jobfile

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gophd/internal/goroutine"
)

// Writer writes the records of the jobs of a daemon, in a goroutine of its own that ends when nothing is
// left. Any goroutine may use it.
type Writer struct {
	problem func(error)
	group   goroutine.Group
	unread  atomic.Bool // the disk has not answered a Read

	mu      sync.Mutex // guards the rest; never held while a file is written
	pending map[string]*Saving
	order   []string      // of pending
	since   time.Time     // when the write of now began
	writing chan struct{} // closed when the goroutine has ended; nil if there is none

	written map[string]Record // as far as it is known; the goroutine's own
	failed  map[string]string // why a file could not be written the last time; the goroutine's own
}

// NewWriter returns a Writer that calls problem with each new error.
func NewWriter(problem func(error)) *Writer {
	return &Writer{problem: problem, pending: map[string]*Saving{}, written: map[string]Record{}, failed: map[string]string{}}
}

// Saving is a record that is being written.
type Saving struct {
	record Record
	writer *Writer
	done   chan struct{} // closed when it, or a later one for the same file, was written
	err    error         // why not; to be read when done is closed
}

// Save writes a record soon. A later one for the same path replaces it. It does not block.
func (w *Writer) Save(path string, r Record) *Saving {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.pending[path]; s != nil {
		s.record = r
		return s
	}
	s := &Saving{record: r, writer: w, done: make(chan struct{})}
	w.pending[path] = s
	w.order = append(w.order, path)
	if w.writing == nil {
		w.writing, w.since = make(chan struct{}), time.Now()
		w.group.Go(w.write)
	}
	return s
}

// hungAfter is how long a write may take until nothing waits for the disk any more.
const hungAfter = time.Second

// errHangs means that the disk of the state directory does not answer.
var errHangs = errors.New("the disk of the state directory does not answer")

// Wait waits until the record is written, and returns why it is not. It waits for a second at most, and not at
// all while another write takes longer than that. A nil Saving is written.
func (s *Saving) Wait() error {
	if s == nil {
		return nil
	}
	select {
	case <-s.done:
		return s.err
	default:
	}
	limit := time.NewTimer(hungAfter - s.writer.busy())
	defer limit.Stop()
	select {
	case <-s.done:
		return s.err
	case <-limit.C:
		return errHangs
	}
}

// busy returns how long the write of now has taken.
func (w *Writer) busy() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writing == nil {
		return 0
	}
	return time.Since(w.since)
}

// next returns a record that is pending. When there is none, the goroutine ends.
func (w *Writer) next() (path string, s *Saving) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
	if len(w.order) == 0 {
		close(w.writing)
		w.writing = nil
		return "", nil
	}
	path = w.order[0]
	w.order = slices.Delete(w.order, 0, 1)
	s = w.pending[path]
	delete(w.pending, path)
	return path, s
}

func (w *Writer) write() {
	for path, s := w.next(); s != nil; path, s = w.next() {
		if s.err = w.save(path, s.record); s.err == nil {
			delete(w.failed, path)
		} else if text := s.err.Error(); w.failed[path] != text {
			w.failed[path] = text
			w.problem(fmt.Errorf("a pause or skip will be lost with this daemon, and a run may be missing or start twice after it: %w",
				s.err))
		}
		close(s.done)
	}
}

// save writes a record, if the file has another one.
func (w *Writer) save(path string, r Record) error {
	before, known := w.written[path]
	if !known {
		var err error
		before, err = Load(path)
		known = err == nil
	}
	var err error
	switch {
	case known && before.Equal(r):
	case known && before.Requested == r.Requested && !r.IsEmpty():
		err = rewrite(path, r)
	default:
		err = replace(path, r)
	}
	delete(w.written, path)
	if err == nil {
		w.written[path] = r
	}
	return err
}

// Close waits until everything is written, for a second at most: a write cannot be canceled while the disk
// hangs.
func (w *Writer) Close() error {
	w.mu.Lock()
	writing := w.writing
	w.mu.Unlock()
	if writing == nil {
		return nil
	}
	select {
	case <-writing:
		return nil
	case <-time.After(hungAfter):
		return fmt.Errorf("%w: a pause or skip may be lost with this daemon", errHangs)
	}
}

// Read returns the record at path, with the error of Load. It waits for the disk for a second at most, and
// then, and from then on, returns an error at once.
func (w *Writer) Read(path string) (r Record, err error) {
	if w.unread.Load() {
		return r, errHangs
	}
	type answer struct {
		record Record
		err    error
	}
	read := make(chan answer, 1)
	w.group.Go(func() {
		r, err := Load(path)
		read <- answer{r, err}
	})
	select {
	case a := <-read:
		return a.record, a.err
	case <-time.After(hungAfter):
		w.unread.Store(true)
		return r, errHangs
	}
}

// Hangs reports whether err means that the disk does not answer.
func Hangs(err error) bool { return errors.Is(err, errHangs) }
