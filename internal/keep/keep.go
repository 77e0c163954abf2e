// Package keep answers: what did a run say, once it turns out to matter?
//
// A Keeper takes the output of one run and keeps its beginning and its end, in bounded memory, until
// somebody wants to see it or the run went well and nobody does. In between it leaves out whole lines and
// says how many bytes. Lines of the two streams are not mixed: each is kept when it has ended, in the order
// of the ends. A line of more than 64 KiB counts as ended there, and goes on in the next.
//
// It puts no time or name before lines and knows nothing of runs, files and logs.
package keep

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxLine bounds the line that a writer holds until its end.
const maxLine = 64 << 10

// Keeper keeps the beginning and the end of what its writers are given.
type Keeper struct {
	headSize, tailSize int

	mu   sync.Mutex
	head []byte // whole pieces; at most headSize
	tail []byte // a ring once it has tailSize bytes
	next int    // where the ring is written to; its oldest byte
	full bool   // head takes no more
	out  int64  // bytes that were in the ring and are no longer
	last *writer
	torn bool // what was kept last does not end with a newline
}

// New makes a Keeper of so many bytes of the beginning and so many of the end.
func New(head, tail int) *Keeper { return &Keeper{headSize: head, tailSize: tail} }

// Writer takes one stream; each belongs to one goroutine. Its Close keeps what has no newline after it.
// Neither it nor Write blocks or fails.
func (k *Keeper) Writer() io.WriteCloser { return &writer{keeper: k} }

// Dump writes what was kept: byte for byte if it is all, else with a line in the place of what is left out.
// Its error is that of to.
func (k *Keeper) Dump(to io.Writer) error {
	k.mu.Lock()
	head := bytes.Clone(k.head)
	tail := append(bytes.Clone(k.tail[k.next:]), k.tail[:k.next]...)
	out := k.out
	k.mu.Unlock()

	if out > 0 {
		// Whole lines, as far as there are any.
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

// writer is one stream and its unfinished line.
type writer struct {
	keeper *Keeper
	line   []byte // at most maxLine
}

func (w *writer) Write(p []byte) (int, error) {
	n := len(p)
	if i := bytes.LastIndexByte(p, '\n') + 1; i > 0 {
		w.keeper.keep(w, w.line, p[:i])
		w.line, p = w.line[:0], p[i:]
	}
	for len(w.line)+len(p) > maxLine {
		m := maxLine - len(w.line)
		w.keeper.keep(w, w.line, p[:m])
		w.line, p = w.line[:0], p[m:]
	}
	w.line = append(w.line, p...)
	return n, nil
}

func (w *writer) Close() error {
	w.keeper.keep(w, w.line)
	w.line = nil
	return nil
}

// Rest takes the unfinished line out of the writer. Another Keeper's writer that is given it goes on with it.
func (w *writer) Rest() []byte {
	line := w.line
	w.line = nil
	return line
}

// keep takes pieces that belong together.
func (k *Keeper) keep(from *writer, pieces ...[]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		if k.torn && k.last != from {
			k.add([]byte{'\n'}) // the other stream's line is not ours
		}
		k.add(p)
		k.last, k.torn = from, p[len(p)-1] != '\n'
	}
}

func (k *Keeper) add(p []byte) {
	if !k.full {
		n := len(p)
		if room := k.headSize - len(k.head); n > room {
			k.full = true
			n = bytes.LastIndexByte(p[:room], '\n') + 1
			if n == 0 && len(k.head) == 0 {
				n = room
			}
		}
		k.head, p = append(k.head, p[:n]...), p[n:]
	}
	if skip := len(p) - k.tailSize; skip > 0 {
		k.out += int64(len(k.tail) + skip)
		k.tail, k.next, p = k.tail[:0], 0, p[skip:]
	}
	n := min(len(p), k.tailSize-len(k.tail))
	k.tail = append(k.tail, p[:n]...)
	for p = p[n:]; len(p) > 0; p = p[n:] {
		n = copy(k.tail[k.next:], p)
		k.out += int64(n)
		k.next = (k.next + n) % k.tailSize
	}
}
