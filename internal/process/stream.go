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
)

const (
	bufferSize = 64 << 10 // one read; also the usual capacity of a pipe

	// pipeMax is the greatest capacity that an unprivileged process can give a pipe (pipe(7)), and so
	// the most that a dead group can have left in it. It bounds the draining of a pipe that a stray
	// keeps filling.
	pipeMax = 1 << 20

	maxStrays = 16 // pipes of strays that are read at the same time
)

// stream is the reading end of one captured output.
type stream struct {
	r      *os.File
	conn   syscall.RawConn
	number int // 1 or 2
	pid    int // of the command
	open   func(pid int) io.WriteCloser

	leaving atomic.Bool   // the deadline asks the reader to leave it to the next image
	done    chan struct{} // closed when the reader has ended; then the fields below may be read
	left    bool          // r is still open
	rest    []byte        // of an unfinished line
}

// report is what a stream tells the owner of its process, once: what the group wrote is delivered.
type report struct{ panic *goroutine.Panic }

func newStream(r *os.File, number int, open func(int) io.WriteCloser) (*stream, error) {
	conn, err := r.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &stream{r: r, conn: conn, number: number, open: open, done: make(chan struct{})}, nil
}

// hurry makes the reader stop waiting and fetch what is there. On a stream that has come to its end
// it does nothing.
func (st *stream) hurry() { _ = st.r.SetReadDeadline(time.Unix(1, 0)) }

// held says whether any process has the writing end: poll(2) reports POLLHUP when the last is gone,
// before the reader has seen the end.
func (st *stream) held() bool {
	held := false
	_ = st.conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		held = err != nil || n == 0 || fds[0].Revents&unix.POLLHUP == 0
	})
	return held
}

// serve carries a stream to its writer until the end of the stream, or until it is left to the next image.
// When the group is gone and a stray still holds the pipe, the process is told that all is delivered
// and serve goes on. Without reports it is a stray's from the start.
func (s *Spawner) serve(st *stream, reports chan<- report) {
	defer close(st.done)
	out := &sink{}
	out.try(func() { out.w = st.open(st.pid) })

	err := s.pass(st, out, true)
	stray := reports == nil
	if errors.Is(err, os.ErrDeadlineExceeded) && !st.leaving.Load() {
		_ = st.r.SetReadDeadline(time.Time{})
		if st.leaving.Load() { // meanwhile
			st.hurry()
		}
		stray = s.pass(st, out, false) == nil
		if stray {
			s.keep(st)
			reports <- report{out.take()}
			err = s.pass(st, out, true)
		}
	}
	st.left = st.leaving.Load() && errors.Is(err, os.ErrDeadlineExceeded)
	if stray && !st.left {
		s.drop(st)
	}
	if !st.left {
		_ = st.r.Close()
	}
	out.try(func() { st.rest = finish(out.w, st.left) })
	if p := out.take(); !stray && !st.left {
		reports <- report{p}
	} else if p != nil {
		panic(p)
	}
}

// finish is the last word to a writer. What it returns is for the writer that goes on, if the stream does.
func finish(w io.WriteCloser, left bool) []byte {
	if r, ok := w.(Rester); ok && left {
		return r.Rest()
	}
	_ = w.Close()
	return nil
}

// pass hands chunks on. Waiting, it returns only with an error: io.EOF, the deadline that hurry set,
// or that the stream was closed. Not waiting, it returns nil once a reading finds the pipe empty or
// more was read than a pipe can hold.
func (s *Spawner) pass(st *stream, out *sink, wait bool) error {
	for total := 0; wait || total <= pipeMax; {
		var buf *[bufferSize]byte
		var n int
		var failed error
		err := st.conn.Read(func(fd uintptr) bool {
			// The buffer is taken when there is something to read, so an idle stream costs none.
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
		out.try(func() { _, _ = out.w.Write(buf[:n]) })
		s.buffers.Put(buf)
		total += n
	}
	return nil
}

// sink is a writer that cannot harm the command: an error is the writer's own to count, the next
// chunk is offered again; after a panic the rest is read and discarded.
type sink struct {
	w      io.WriteCloser
	broken bool
	panic  *goroutine.Panic
}

func (k *sink) try(f func()) {
	if k.broken {
		return
	}
	if p := goroutine.Catch(f); p != nil {
		k.broken, k.panic = true, p
	}
}

// take returns the panic to whom it may concern, once.
func (k *sink) take() *goroutine.Panic {
	p := k.panic
	k.panic = nil
	return p
}

// keep notes a stream that outlives its process. If there are too many, the oldest is closed; its
// stray gets SIGPIPE or EPIPE when it writes next.
func (s *Spawner) keep(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strays = append(s.strays, st)
	if len(s.strays) > maxStrays {
		_ = s.strays[0].r.Close()
		s.strays = slices.Delete(s.strays, 0, 1)
	}
}

func (s *Spawner) drop(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.strays, st); i >= 0 {
		s.strays = slices.Delete(s.strays, i, i+1)
	}
}
