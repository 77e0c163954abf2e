// Package headtail answers: what did a run write, if it turns out to matter?
//
// A Buffer takes the output of one run and keeps its head and its tail, in bounded memory. The
// caller dumps it if the run failed. Between head and tail it leaves out whole lines and reports
// the number of bytes. Lines of the two streams are not mixed: each line is stored when it is
// complete. A line of more than 64 KiB is stored in pieces of 64 KiB.
//
// The package adds no time and no name to lines. It does not know runs, files or logs.
package headtail

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxLine is the largest part of an unfinished line that a writer holds.
const maxLine = 64 << 10

// Buffer keeps the head and the tail of the data that its writers get.
type Buffer struct {
	headSize, tailSize int

	mu   sync.Mutex
	head []byte // whole pieces; at most headSize
	tail []byte // a ring once it has tailSize bytes
	next int    // where the next byte goes in the ring; its oldest byte
	full bool   // head takes no more
	out  int64  // bytes that were overwritten in the ring
	last *writer
	torn bool // the last stored piece does not end with a newline
}

// New returns a Buffer for the first head bytes and the last tail bytes.
func New(head, tail int) *Buffer { return &Buffer{headSize: head, tailSize: tail} }

// Writer returns a writer for one stream. Only one goroutine may use it. Close stores an unfinished
// line. Close and Write never block and never fail.
func (b *Buffer) Writer() io.WriteCloser { return &writer{buffer: b} }

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
		whole := bytes.LastIndexByte(head, '\n') + 1
		if whole == 0 {
			whole = len(head)
		}
		cut := bytes.IndexByte(tail, '\n') + 1
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
	line   []byte // at most maxLine
}

func (w *writer) Write(p []byte) (int, error) {
	n := len(p)
	if i := bytes.LastIndexByte(p, '\n') + 1; i > 0 {
		w.buffer.store(w, w.line, p[:i])
		w.line, p = w.line[:0], p[i:]
	}
	for len(w.line)+len(p) > maxLine {
		m := maxLine - len(w.line)
		w.buffer.store(w, w.line, p[:m])
		w.line, p = w.line[:0], p[m:]
	}
	w.line = append(w.line, p...)
	return n, nil
}

func (w *writer) Close() error {
	w.buffer.store(w, w.line)
	w.line = nil
	return nil
}

// Rest removes the unfinished line from the writer and returns it. Write it to the writer of
// another Buffer to continue the line there.
func (w *writer) Rest() []byte {
	line := w.line
	w.line = nil
	return line
}

// store adds pieces that belong together.
func (b *Buffer) store(from *writer, pieces ...[]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		if b.torn && b.last != from {
			b.add([]byte{'\n'}) // the unfinished line belongs to the other stream
		}
		b.add(p)
		b.last, b.torn = from, p[len(p)-1] != '\n'
	}
}

func (b *Buffer) add(p []byte) {
	if !b.full {
		n := len(p)
		if space := b.headSize - len(b.head); n > space {
			b.full = true
			n = bytes.LastIndexByte(p[:space], '\n') + 1
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
