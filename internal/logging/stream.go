package logging

import (
	"bytes"
	"math"
	"time"
	"unicode/utf8"
)

// batchSize is the number of rendered bytes that a stream collects before it takes the Log's lock.
const batchSize = 1 << 16

// Stream splits the chunks of one stream of a command into lines. Only one goroutine may use it.
type Stream struct {
	log     *Log
	forms   []rendering // one per format that the sinks use; usually one
	records uint64      // rendered and not yet given to the sinks
	rest    []byte      // the unfinished line; at most log.maxLine
}

// rendering has the records of a stream in one format.
type rendering struct {
	format format
	head   []byte // the part between time and text
	stamp  stamp
	lead   []byte // time and head: the start of each record of this moment
	out    []byte // records; rendered outside the Log's lock
}

// Write takes a chunk, which may start and end anywhere in a line. It does not keep p. It waits
// while the sinks are full, and never returns an error: the Log counts losses.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	if len(s.forms) == 0 {
		return n, nil
	}
	s.setTime()
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
	s.flush()
	return n, nil
}

// Close writes the bytes after the last newline, if any, as a partial record.
func (s *Stream) Close() error {
	if len(s.rest) > 0 {
		s.setTime()
		s.record(s.rest, true)
		s.rest = nil
		s.flush()
	}
	return nil
}

// Rest removes the unfinished line from the stream and returns it, so that Close has nothing to
// write. A Stream that starts with these bytes continues the line. So the old process passes a line
// to the new process.
func (s *Stream) Rest() []byte {
	rest := s.rest
	s.rest = nil
	return rest
}

// setTime sets the time of the next records.
func (s *Stream) setTime() {
	now := time.Now()
	for i := range s.forms {
		r := &s.forms[i]
		if r.stamp.set(now, r.format.name) {
			r.lead = r.format.lead(r.lead[:0], r.stamp.text, r.head)
		}
	}
}

// add appends b to the line. The cuts depend only on the bytes of the line, so the borders of
// chunks make no difference.
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

// lines renders the complete lines at the start of p, up to one batch, and returns their length. It
// returns 0 if the first line is too long or has no newline yet.
func (s *Stream) lines(p []byte) int {
	length, n := s.forms[0].lines(p, s.log.maxLine, batchSize)
	for i := range s.forms[1:] {
		s.forms[i+1].lines(p[:length], s.log.maxLine, math.MaxInt)
	}
	s.records += n
	s.flushFull()
	return length
}

// lines is the hot path: for each line it appends the lead and the text.
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

// record renders one record in each format.
func (s *Stream) record(line []byte, partial bool) {
	s.records++
	for i := range s.forms {
		r := &s.forms[i]
		r.out = r.format.command(r.out, r.lead, line, partial)
	}
	s.flushFull()
}

func (s *Stream) flushFull() {
	for i := range s.forms {
		if len(s.forms[i].out) >= batchSize {
			s.flush()
		}
	}
}

// flush gives the rendered records to the sinks, and waits while they are full.
func (s *Stream) flush() {
	if s.records == 0 {
		return
	}
	s.log.takeCommand(s.forms, s.records)
	s.records = 0
	for i := range s.forms {
		s.forms[i].out = reuse(s.forms[i].out)
	}
}

// cut returns the length of b without an unfinished UTF-8 sequence at its end.
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

// reuse returns the buffer with length 0. After a burst it returns nil instead, to free the memory.
// It does not free it between two uses in the same burst.
func reuse(b []byte) []byte {
	if cap(b) <= commandLimit/4 || len(b) > cap(b)/16 {
		return b[:0]
	}
	return nil
}
