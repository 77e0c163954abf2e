package logging

import (
	"bytes"
	"math"
	"time"
	"unicode/utf8"

	"gophd/internal/goroutine"
	"gophd/internal/line"
)

// batchSize is the number of rendered bytes that a stream collects before it takes the Log's lock.
const batchSize = 1 << 16

// Stream splits the chunks of one stream of a command into lines. An unfinished line is written
// after a second, as a partial record, by a timer. Only one goroutine may call the methods; a panic
// of the timer is raised again there.
type Stream struct {
	log  *Log
	job  string // of several; "" for the only one
	name string
	pid  int // of the command

	busy chan struct{} // see lock; guards the fields below
	rendered
	now time.Time // of the next records

	written line.Part   // what the records have of the unfinished line
	rest    []byte      // the rest of it; at most log.maxLine
	since   time.Time   // when the rest began to arrive
	timer   *time.Timer // writes the rest when it is due; nil before the first unfinished line
	armed   bool        // the timer runs
	panic   *goroutine.Panic
	shown   bool // log.open has the line
}

// rendered has the records that are not given to the sinks yet.
type rendered struct {
	sinks   []destination
	forms   []rendering // one per format that the sinks use; usually one
	records uint64
}

// rendering has the records of a stream in one format.
type rendering struct {
	format format
	job    string // at the start of each line; "" for none
	head   []byte // the part between time and text
	stamp  stamp
	lead   []byte // time and head: the start of each record of this moment
	out    []byte // records; rendered outside the Log's lock
}

// Write takes a chunk, which may start and end anywhere in a line. It does not keep p. It waits
// while the sinks are full, and never returns an error: the Log counts losses.
func (s *Stream) Write(p []byte) (int, error) {
	if len(s.forms) == 0 {
		return len(p), nil
	}
	s.lock()
	defer s.unlock()
	s.raise()
	s.setTime()
	if len(s.rest) == 0 {
		s.since = s.now
	}
	s.split(p)
	s.flush()
	s.wait()
	return len(p), nil
}

// Close writes the bytes after the last line end, if any, as a partial record.
func (s *Stream) Close() error {
	s.lock()
	defer s.unlock()
	s.raise()
	if len(s.rest) > 0 {
		s.setTime()
		s.record(s.rest, true)
		s.flush()
	}
	s.forget()
	return nil
}

// Rest removes the unfinished line from the stream, so that Close has nothing to write, and returns
// it. A Stream that continues with it continues the line. So the old process passes a line to the
// new process.
func (s *Stream) Rest() line.Rest {
	s.lock()
	defer s.unlock()
	s.raise()
	rest := line.Rest{Bytes: s.rest, Since: s.since, Written: s.written}
	s.written = line.Part{}
	s.forget()
	return rest
}

// Continue is called before the first Write, with the line that Write continues. It waits as Write
// does. The second after which the line is written counts from when it began to arrive, however
// many Streams have had it.
func (s *Stream) Continue(rest line.Rest) {
	if len(s.forms) == 0 {
		return
	}
	s.lock()
	defer s.unlock()
	s.setTime()
	s.written, s.since = rest.Written, rest.Since
	if s.since.IsZero() {
		s.since = s.now
	}
	s.split(rest.Bytes)
	s.flush()
	s.wait()
}

// lock is held while records are made and given to the sinks, which may take long. It is a channel
// of capacity 1, because virtual time (testing/synctest) stops while a goroutine waits for a mutex.
func (s *Stream) lock()   { s.busy <- struct{}{} }
func (s *Stream) unlock() { <-s.busy }

// raise repeats a panic of the timer.
func (s *Stream) raise() {
	if p := s.panic; p != nil {
		s.panic = nil
		panic(p)
	}
}

// forget drops the unfinished line.
func (s *Stream) forget() {
	s.rest = nil
	s.written.Reset()
	s.wait()
	if s.armed && s.timer.Stop() {
		s.armed = false
	}
}

// wait shows the unfinished line in the Log, and starts the timer if it does not run. A running
// timer is left alone: when it fires, it is started again for the rest of that time.
func (s *Stream) wait() {
	s.log.open.show(s)
	if len(s.rest) == 0 || s.armed {
		return
	}
	s.armed = true
	left := time.Until(s.since.Add(s.log.lineTime))
	if s.timer == nil {
		s.timer = time.AfterFunc(left, s.due)
	} else {
		s.timer.Reset(left)
	}
}

// due is the timer's function.
func (s *Stream) due() {
	s.lock()
	defer s.unlock()
	s.armed = false
	if p := goroutine.Catch(s.writeRest); p != nil {
		s.panic = p
	}
}

// writeRest writes the unfinished line if it is due. An unfinished UTF-8 sequence stays for another
// second.
func (s *Stream) writeRest() {
	if len(s.rest) == 0 {
		return
	}
	if time.Since(s.since) >= s.log.lineTime {
		s.setTime()
		n := cut(s.rest)
		if n == 0 {
			n = len(s.rest)
		}
		s.part(n)
		s.flush()
	}
	s.wait()
}

// setTime sets the time of the next records.
func (s *Stream) setTime() {
	s.now = time.Now()
	for i := range s.forms {
		r := &s.forms[i]
		if r.stamp.set(s.now, r.format.name) {
			r.lead = r.format.lead(r.lead[:0], r.stamp.text, r.head)
		}
	}
}

// split makes records of the lines in p.
func (s *Stream) split(p []byte) {
	for lone := line.Lone(p); len(p) > 0; {
		if line.Returns(s.rest) && p[0] != '\n' {
			s.end(true)
		}
		if len(s.rest) == 0 {
			if n := s.lines(p[:lone]); n > 0 {
				p, lone = p[n:], lone-n
				s.written.Reset()
				continue
			}
		}
		switch i := bytes.IndexByte(p[:lone], '\n'); {
		case i >= 0:
			s.add(p[:i])
			s.end(false)
			p, lone = p[i+1:], lone-i-1
		case lone < len(p): // the next byte tells whether the line ends with it
			s.add(p[:lone+1])
			p = p[lone+1:]
			lone = line.Lone(p)
		default:
			s.add(p)
			p = nil
		}
	}
}

// end ends the line. A line that ends in a lone carriage return has it in its text, and is partial.
func (s *Stream) end(partial bool) {
	s.record(s.rest, partial)
	s.rest = s.rest[:0]
	s.written.Reset()
}

// part makes a partial record of the first n bytes of the rest.
func (s *Stream) part(n int) {
	s.record(s.rest[:n], true)
	s.written.Add(s.rest[:n])
	if line.Returns(s.rest[:n]) { // usually a step of a progress bar; a newline that comes now follows it
		s.written.Reset()
	}
	s.rest = append(s.rest[:0], s.rest[n:]...)
}

// add appends b to the line. The cuts depend only on the bytes since the start of the line or the
// last part that was due, so the borders of chunks make no difference.
func (s *Stream) add(b []byte) {
	for most := s.log.maxLine; len(s.rest)+len(b) > most; {
		n := most - len(s.rest)
		s.rest, b = append(s.rest, b[:n]...), b[n:]
		s.part(cut(s.rest))
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
func (s *Stream) record(text []byte, partial bool) {
	s.records++
	s.since = s.now
	for i := range s.forms {
		r := &s.forms[i]
		r.out = r.format.command(r.out, r.lead, text, partial)
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
	s.log.takeCommand(s)
	s.records = 0
	for i := range s.forms {
		s.forms[i].out = reuse(s.forms[i].out)
	}
}

// cut returns the length of b without an unfinished UTF-8 sequence at its end.
func cut(b []byte) int {
	for i := len(b) - 1; i >= max(0, len(b)-utf8.UTFMax+1); i-- {
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
