// Package line answers: where does a line of the command's output end, and what of it has no end
// yet?
//
// A newline ends a line, with or without a carriage return before it. A carriage return that no
// newline follows ends one too: a progress bar writes it to start again. For a carriage return at
// the end of the data that is not known yet.
//
// The package splits and counts. It keeps no line and writes none.
package line

import (
	"bytes"
	"time"
)

// startSize is the number of bytes in Part.Start: enough for 60 characters in UTF-8.
const startSize = 240

// Lone returns the position of the first carriage return in p that is not followed by a newline,
// or len(p) if there is none. One at the end of p counts.
func Lone(p []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(p[from:], '\r')
		if i < 0 {
			return len(p)
		}
		if from += i + 1; from == len(p) || p[from] != '\n' {
			return from - 1
		}
	}
}

// First returns the length of the first complete line of p, with its end; 0 if there is none.
func First(p []byte) int {
	lone := Lone(p)
	if i := bytes.IndexByte(p[:lone], '\n'); i >= 0 {
		return i + 1
	}
	if lone+1 < len(p) {
		return lone + 1
	}
	return 0
}

// Last returns the length of all complete lines at the start of p.
func Last(p []byte) int {
	n := bytes.LastIndexByte(p, '\n') + 1
	if n == len(p) {
		return n
	}
	return n + bytes.LastIndexByte(p[n:len(p)-1], '\r') + 1
}

// Returns reports whether p ends in a carriage return.
func Returns(p []byte) bool { return len(p) > 0 && p[len(p)-1] == '\r' }

// Part is what there is of a line that has no end yet. The zero value is nothing.
type Part struct {
	Bytes int    `json:",omitempty"`
	Start []byte `json:",omitempty"` // its beginning, for people
}

// Add appends b to the line.
func (p *Part) Add(b []byte) {
	p.Bytes += len(b)
	if space := startSize - len(p.Start); space > 0 {
		p.Start = append(p.Start, b[:min(space, len(b))]...)
	}
}

// Reset makes p the start of a line of which there is nothing yet.
func (p *Part) Reset() { p.Bytes, p.Start = 0, p.Start[:0] }

// Rest is an unfinished line that one writer leaves to the next. The zero value is nothing.
type Rest struct {
	Bytes   []byte    // what is not written of the line
	Since   time.Time // when they began to arrive; zero is not known
	Written Part      // what is written of it
}

// Unfinished is a Part and where it comes from.
type Unfinished struct {
	PID    int    // of the command
	Stream string // stdout or stderr; "" if it is not known which
	Part
}
