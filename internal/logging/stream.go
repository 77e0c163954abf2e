package logging

import (
	"bytes"
	"math"
	"time"
	"unicode/utf8"
)

// handOver is how many rendered bytes a stream collects before it takes the Log's lock.
const handOver = 1 << 16

// Stream makes lines of the chunks of one of a command's streams. It belongs to one goroutine.
type Stream struct {
	log     *Log
	forms   []rendering // what the sinks of the command's lines want; most often one
	records uint64      // rendered and not yet handed over
	rest    []byte      // the line so far; at most log.maxLine
}

// rendering is the records of a stream in one format.
type rendering struct {
	format format
	head   []byte // what stands between time and text
	stamp  stamp
	lead   []byte // the time and head: what each record of this moment begins with
	out    []byte // records, rendered outside the Log's lock
}

// Write takes a chunk with its borders anywhere, and keeps nothing of p. It waits while the sinks have
// no room, and returns no error: losses are counted by the Log.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	if len(s.forms) == 0 {
		return n, nil
	}
	s.begin()
	for len(p) > 0 {
		if len(s.rest) == 0 {
			if m := s.lines(p); m > 0 {
				p = p[m:]
				continue
			}
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.add(p)
			break
		}
		s.add(p[:i])
		s.record(s.rest, false)
		s.rest, p = s.rest[:0], p[i+1:]
	}
	s.hand()
	return n, nil
}

// Close writes the bytes after the last newline, if there are any, as a record that is marked.
func (s *Stream) Close() error {
	if len(s.rest) > 0 {
		s.begin()
		s.record(s.rest, true)
		s.rest = nil
		s.hand()
	}
	return nil
}

// Rest takes the unfinished line out of the stream, so that Close has nothing left to write. A Stream
// that begins with these bytes goes on as if there had been no other: that is how an image of gophd
// passes a line on to the next.
func (s *Stream) Rest() []byte {
	rest := s.rest
	s.rest = nil
	return rest
}

// begin gives the records to come their time.
func (s *Stream) begin() {
	now := time.Now()
	for i := range s.forms {
		r := &s.forms[i]
		if r.stamp.set(now, r.format.name) {
			r.lead = r.format.lead(r.lead[:0], r.stamp.text, r.head)
		}
	}
}

// add continues the line with b. Whether a piece is cut off depends on the bytes of the line alone, so
// the borders of chunks never show.
func (s *Stream) add(b []byte) {
	most := s.log.maxLine
	for len(s.rest)+len(b) > most {
		if len(s.rest) == 0 {
			n := cut(b[:most])
			s.record(b[:n], true)
			b = b[n:]
			continue
		}
		n := most - len(s.rest)
		s.rest, b = append(s.rest, b[:n]...), b[n:]
		n = cut(s.rest)
		s.record(s.rest[:n], true)
		s.rest = append(s.rest[:0], s.rest[n:]...)
	}
	s.rest = append(s.rest, b...)
}

// lines renders the lines that p begins with, as many as are to be handed over at once, and returns
// their length: 0 when the first is too long or has no end yet.
func (s *Stream) lines(p []byte) int {
	length, n := s.forms[0].lines(p, s.log.maxLine, handOver)
	for i := range s.forms[1:] {
		s.forms[i+1].lines(p[:length], s.log.maxLine, math.MaxInt)
	}
	s.records += n
	s.handFull()
	return length
}

// lines is the hot path: for each line an append of what is before it and one of its text.
func (r *rendering) lines(p []byte, longest, enough int) (length int, n uint64) {
	out, lead, plain := r.out, r.lead, r.format.name != inJSON
	for len(out) < enough {
		i := bytes.IndexByte(p[length:], '\n')
		if i < 0 || i > longest {
			break
		}
		end := length + i + 1
		if plain {
			out = append(append(out, lead...), p[length:end]...)
		} else {
			out = appendRecord(append(out, lead...), p[length:end-1], false)
		}
		length = end
		n++
	}
	r.out = out
	return length, n
}

// record renders one record in each form.
func (s *Stream) record(line []byte, partial bool) {
	s.records++
	for i := range s.forms {
		r := &s.forms[i]
		r.out = r.format.command(r.out, r.lead, line, partial)
	}
	s.handFull()
}

func (s *Stream) handFull() {
	for i := range s.forms {
		if len(s.forms[i].out) >= handOver {
			s.hand()
		}
	}
}

// hand gives the sinks what was rendered, and waits until they have room for it.
func (s *Stream) hand() {
	if s.records == 0 {
		return
	}
	s.log.takeCommand(s.forms, s.records)
	s.records = 0
	for i := range s.forms {
		s.forms[i].out = reuse(s.forms[i].out)
	}
}

// cut is the length of b without an unfinished UTF-8 sequence at its end.
func cut(b []byte) int {
	for i := len(b) - 1; i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}

// reuse is the buffer, emptied; or nil when a burst is over, so that its memory goes back to the heap,
// but not between two uses in the same burst.
func reuse(b []byte) []byte {
	if cap(b) <= commandLimit/4 || len(b) > cap(b)/16 {
		return b[:0]
	}
	return nil
}
