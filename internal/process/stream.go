package process

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/line"
)

const (
	bufferSize = 64 << 10 // one read; also the usual capacity of a pipe

	// pipeMax is the largest capacity that an unprivileged process can give a pipe (pipe(7)), and
	// so the most that a group can have left in it when it is gone. It bounds the draining of a
	// pipe that an escaped process keeps filling.
	pipeMax = 1 << 20

	maxEscapedStreams = 16 // pipes of escaped processes that are read at the same time
)

// stream is the reading end of one captured output. A goroutine reads it in the runtime's poller, from
// the first output on, or once the command has taken a moment (Process.observe). A short command that
// writes nothing is cheaper without: two goroutines would be woken at its exit, while it still needs
// the processor.
type stream struct {
	fd     int    // the reading end, before read
	job    string // of the command
	number int    // 1 or 2
	pid    int    // of the command
	open   func(pid int) io.WriteCloser

	// Set while the process is locked.
	phase phase
	r     *os.File // the reading end while it is read
	conn  syscall.RawConn

	owner     *Process      // nil for a stream of AdoptStreams
	ending    bool          // the reader closes the writer; guarded by owner.mu
	detaching atomic.Bool   // the reader has to leave the stream to the new process, also at its end
	done      chan struct{} // closed when the reader has returned; then the fields below may be read
	detached  bool          // r is still open, for the new process
	rest      line.Rest     // the unfinished line
}

// phase is how far a stream is.
type phase uint8

const (
	unread  phase = iota // no goroutine reads it
	reading              // a goroutine has begun to read it
	ended                // it has ended without output, and was never read
)

// report is sent by a stream to its process, once: what the group wrote is delivered.
type report struct{ panic *goroutine.Panic }

func newStream(fd int, job string, number int, open func(int) io.WriteCloser) *stream {
	return &stream{fd: fd, job: job, number: number, open: open, done: make(chan struct{})}
}

// file returns the reading end in the runtime's poller.
func (st *stream) file() *os.File {
	_ = unix.SetNonblock(st.fd, true) // NewFile requires it
	return os.NewFile(uintptr(st.fd), "|0")
}

// read begins to read a stream from its file; a goroutine has to serve it then. After an error the
// file is closed.
func (st *stream) read(r *os.File) error {
	conn, err := r.SyscallConn()
	if err != nil {
		st.phase = ended
		_ = r.Close()
		return err
	}
	st.phase, st.r, st.conn = reading, r, conn
	return nil
}

// end is called by the reader when it reads no more. It returns true if the reader has to close the
// writer, which can take any time, and false if the stream is left to the new process. A writer that is
// closed during a re-exec would lose what it has not written.
func (st *stream) end() bool {
	if st.owner != nil {
		st.owner.mu.Lock()
		defer st.owner.mu.Unlock()
	}
	st.ending = !st.detaching.Load()
	return st.ending
}

// closing reports that the reader is closing the writer. The caller holds owner.mu.
func (st *stream) closing() bool {
	select {
	case <-st.done:
		return false
	default:
		return st.ending
	}
}

// discard closes a stream that has ended before it was read.
func (st *stream) discard() {
	st.phase = ended
	_ = unix.Close(st.fd)
}

// escalate makes the reader stop waiting and read what is there. After the end of the stream it
// does nothing.
func (st *stream) escalate() {
	if st.phase == reading {
		_ = st.r.SetReadDeadline(time.Unix(1, 0))
	}
}

// held reports whether any process has the writing end open: poll(2) reports POLLHUP when the last
// one is closed, before the reader has seen the end.
func (st *stream) held() bool {
	if st.phase != reading {
		return false
	}
	held := false
	_ = st.conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		held = err != nil || n == 0 || fds[0].Revents&unix.POLLHUP == 0
	})
	return held
}

// serve copies a stream to its writer until the end of the stream, or until the stream is left to
// the new process. If the group is gone and an escaped process still holds the pipe, serve reports
// that all is delivered and continues. Without reports the stream belongs to an escaped process
// from the start.
func (s *Spawner) serve(st *stream, reports chan<- report) {
	defer close(st.done)
	out := &sink{}
	out.protect(func() { out.w = st.open(st.pid) })

	err := s.deliver(st, out, true)
	escaped := reports == nil
	if errors.Is(err, os.ErrDeadlineExceeded) && !st.detaching.Load() {
		_ = st.r.SetReadDeadline(time.Time{})
		if st.detaching.Load() { // it was set meanwhile
			st.escalate()
		}
		escaped = s.deliver(st, out, false) == nil
		if escaped {
			s.keep(st)
			reports <- report{out.take()}
			err = s.deliver(st, out, true)
		}
	}
	st.detached = !errors.Is(err, os.ErrClosed) && !st.end()
	if escaped && !st.detached {
		s.drop(st)
	}
	if !st.detached {
		_ = st.r.Close()
	}
	out.protect(func() { st.finish(out.w) })
	if p := out.take(); !escaped && !st.detached {
		reports <- report{p}
	} else if p != nil {
		panic(p)
	}
}

// finish closes the writer, or detaches it if the stream continues in the new process.
func (st *stream) finish(w io.WriteCloser) {
	if r, ok := w.(Rester); ok && st.detached {
		st.rest = r.Rest()
		return
	}
	_ = w.Close()
}

// deliver passes chunks to the writer. With wait it returns only with an error: io.EOF, the
// deadline that escalate set, or that the stream was closed. Without wait it returns nil when a
// read finds the pipe empty, or when more was read than a pipe can hold.
func (s *Spawner) deliver(st *stream, out *sink, wait bool) error {
	for total := 0; wait || total <= pipeMax; {
		var buf *[bufferSize]byte
		var n int
		var failed error
		err := st.conn.Read(func(fd uintptr) bool {
			// The buffer is taken when there is something to read, so an idle stream has none.
			buf = s.buffers.Get().(*[bufferSize]byte)
			for {
				if n, failed = unix.Read(int(fd), buf[:]); failed != unix.EINTR {
					break
				}
			}
			if n <= 0 {
				s.buffers.Put(buf)
			}
			return failed != unix.EAGAIN || !wait
		})
		switch {
		case err != nil:
			return err
		case failed == unix.EAGAIN:
			return nil
		case failed != nil:
			return failed
		case n == 0:
			return io.EOF
		}
		out.protect(func() { _, _ = out.w.Write(buf[:n]) })
		s.buffers.Put(buf)
		total += n
	}
	return nil
}

// sink is a writer that cannot harm the command. The writer counts its own errors, and gets the
// next chunk all the same. After a panic the rest is read and discarded.
type sink struct {
	w      io.WriteCloser
	broken bool
	panic  *goroutine.Panic
}

func (k *sink) protect(f func()) {
	if k.broken {
		return
	}
	if p := goroutine.Catch(f); p != nil {
		k.broken, k.panic = true, p
	}
}

// take returns the panic once, for the caller to report.
func (k *sink) take() *goroutine.Panic {
	p := k.panic
	k.panic = nil
	return p
}

// keep records a stream that outlives its process. If there are too many, it closes the oldest: its
// escaped process gets SIGPIPE or EPIPE at its next write.
func (s *Spawner) keep(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.escapedStreams = append(s.escapedStreams, st)
	if len(s.escapedStreams) > maxEscapedStreams {
		_ = s.escapedStreams[0].r.Close()
		s.escapedStreams = slices.Delete(s.escapedStreams, 0, 1)
	}
}

func (s *Spawner) drop(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.escapedStreams, st); i >= 0 {
		s.escapedStreams = slices.Delete(s.escapedStreams, i, i+1)
	}
}
