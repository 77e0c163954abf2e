// Package headtail answers: what did a run write, if it turns out to matter?
//
// A Buffer takes the output of one run and keeps its head and its tail, in bounded memory. The
// caller dumps it if the run failed. Between head and tail it leaves out whole lines and reports
// the number of bytes. Lines of the two streams are not mixed: each line is stored when it is
// complete. A line of more than 64 KiB is stored in pieces of 64 KiB. Package line says what ends a
// line.
//
// The package adds no time and no name to lines. It does not know runs, files or logs.
package headtail

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"

	"gophd/internal/line"
)

// maxLine is the largest part of an unfinished line that a writer holds.
const maxLine = 64 << 10

// Buffer keeps the head and the tail of the data that its writers get.
type Buffer struct {
	headSize, tailSize int

	mu      sync.Mutex // guards the fields below and those of the writers
	writers []*writer  // that are not closed
	head    []byte     // whole pieces; at most headSize
	tail    []byte     // a ring once it has tailSize bytes
	next    int        // where the next byte goes in the ring; its oldest byte
	full    bool       // head takes no more
	out     int64      // bytes that were overwritten in the ring
	last    *writer    // of the last stored piece
	torn    bool       // that piece does not end its line
}

// New returns a Buffer for the first head bytes and the last tail bytes.
func New(head, tail int) *Buffer { return &Buffer{headSize: head, tailSize: tail} }

// Writer returns a writer for one stream. Only one goroutine may use it. Close stores an unfinished
// line. Close and Write never block and never fail.
func (b *Buffer) Writer() io.WriteCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &writer{buffer: b}
	b.writers = append(b.writers, w)
	return w
}

// Restore stores the Dump of another Buffer. A writer then continues its last line.
func (b *Buffer) Restore(dump []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(dump)
}

// Unfinished returns the lines of all writers that have no end yet.
func (b *Buffer) Unfinished() (all []line.Part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.writers {
		p := line.Part{Start: bytes.Clone(w.stored.Start)}
		p.Add(w.line)
		if p.Bytes += w.stored.Bytes; p.Bytes > 0 && !line.Returns(w.line) {
			all = append(all, p)
		}
	}
	return all
}

// Dump writes the content of the buffer: byte for byte if nothing is left out, otherwise with a
// line that says how many bytes are left out. It returns the write error of to.
func (b *Buffer) Dump(to io.Writer) error {
	b.mu.Lock()
	head := bytes.Clone(b.head)
	tail := append(bytes.Clone(b.tail[b.next:]), b.tail[:b.next]...)
	out := b.out
	b.mu.Unlock()

	if out > 0 {
		// Cut at line ends, if there are any.
		whole := lastEnd(head)
		if whole == 0 {
			whole = len(head)
		}
		cut := line.First(tail)
		if cut == len(tail) {
			cut = 0
		}
		out += int64(len(head) - whole + cut)
		mark := fmt.Sprintf("... %d bytes left out ...\n", out)
		if head, tail = head[:whole], tail[cut:]; whole > 0 && head[whole-1] != '\n' {
			mark = "\n" + mark
		}
		head = append(head, mark...)
	}
	for _, part := range [][]byte{head, tail} {
		if len(part) > 0 {
			if _, err := to.Write(part); err != nil {
				return err
			}
		}
	}
	return nil
}

// writer is one stream with its unfinished line.
type writer struct {
	buffer *Buffer
	stored line.Part // the pieces of the line that are stored
	line   []byte    // the rest of it; at most maxLine
}

func (w *writer) Write(p []byte) (int, error) {
	w.buffer.mu.Lock()
	defer w.buffer.mu.Unlock()
	n := len(p)
	if line.Returns(w.line) && n > 0 && p[0] != '\n' {
		w.end()
	}
	if i := line.Last(p); i > 0 {
		w.buffer.store(w, w.line, p[:i])
		w.line, p = w.line[:0], p[i:]
		w.stored.Reset()
	}
	for len(w.line)+len(p) > maxLine {
		m := maxLine - len(w.line)
		w.line, p = append(w.line, p[:m]...), p[m:]
		w.stored.Add(w.line)
		w.buffer.store(w, w.line)
		w.line = w.line[:0]
	}
	w.line = append(w.line, p...)
	return n, nil
}

func (w *writer) Close() error {
	w.buffer.mu.Lock()
	defer w.buffer.mu.Unlock()
	w.end()
	w.forget()
	return nil
}

// Rest removes the unfinished line from the writer and returns it. Continue of another Buffer's
// writer continues the line there.
func (w *writer) Rest() line.Rest {
	w.buffer.mu.Lock()
	defer w.buffer.mu.Unlock()
	w.forget()
	rest := line.Rest{Bytes: w.line, Written: w.stored}
	w.line, w.stored = nil, line.Part{}
	return rest
}

// Continue is called before the first Write, with the line that Write continues.
func (w *writer) Continue(rest line.Rest) {
	w.buffer.mu.Lock()
	w.stored = rest.Written
	w.buffer.mu.Unlock()
	_, _ = w.Write(rest.Bytes)
}

// end stores the line.
func (w *writer) end() {
	w.buffer.store(w, w.line)
	w.line = w.line[:0]
	w.stored.Reset()
}

func (w *writer) forget() {
	w.buffer.writers = slices.DeleteFunc(w.buffer.writers, func(o *writer) bool { return o == w })
}

// store adds pieces that belong together.
func (b *Buffer) store(from *writer, pieces ...[]byte) {
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		if b.torn && b.last != from {
			b.add([]byte{'\n'}) // the unfinished line belongs to the other stream
		}
		b.add(p)
		end := p[len(p)-1]
		b.last, b.torn = from, end != '\n' && end != '\r'
	}
}

// lastEnd is line.Last where it does not matter that a newline may follow a carriage return.
func lastEnd(p []byte) int {
	if line.Returns(p) {
		return len(p)
	}
	return line.Last(p)
}

func (b *Buffer) add(p []byte) {
	if !b.full {
		n := len(p)
		if space := b.headSize - len(b.head); n > space {
			b.full = true
			n = lastEnd(p[:space])
			if n == 0 && len(b.head) == 0 {
				n = space
			}
		}
		b.head, p = append(b.head, p[:n]...), p[n:]
	}
	if skip := len(p) - b.tailSize; skip > 0 {
		b.out += int64(len(b.tail) + skip)
		b.tail, b.next, p = b.tail[:0], 0, p[skip:]
	}
	n := min(len(p), b.tailSize-len(b.tail))
	b.tail = append(b.tail, p[:n]...)
	for p = p[n:]; len(p) > 0; p = p[n:] {
		n = copy(b.tail[b.next:], p)
		b.out += int64(n)
		b.next = (b.next + n) % b.tailSize
	}
}
