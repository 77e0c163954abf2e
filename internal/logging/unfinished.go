package logging

import (
	"bytes"
	"cmp"
	"slices"
	"sync"

	"gophd/internal/line"
)

// openLines has the unfinished lines of the streams. Its mutex is never held while a sink is waited
// for.
type openLines struct {
	mu sync.Mutex
	of map[*Stream]line.Unfinished
}

// show sets the unfinished line of a stream. The caller holds the stream's lock.
func (o *openLines) show(s *Stream) {
	n := s.written.Bytes + len(s.rest)
	if line.Returns(s.rest) {
		n = 0
	}
	if n == 0 && !s.shown {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.shown = n > 0
	if !s.shown {
		delete(o.of, s)
		return
	}
	u := line.Unfinished{PID: s.pid, Stream: s.name, Part: o.of[s].Part}
	u.Reset()
	u.Add(s.written.Start)
	u.Add(s.rest)
	u.Bytes = n
	o.of[s] = u
}

// Unfinished returns the lines of the command that have no end yet, with the parts that are written
// already. It does not wait for a sink.
func (l *Log) Unfinished() []line.Unfinished { return l.Job("").Unfinished() }

// Unfinished is Log.Unfinished for the job's lines.
func (j Job) Unfinished() (all []line.Unfinished) {
	l := j.log
	l.open.mu.Lock()
	defer l.open.mu.Unlock()
	for s, u := range l.open.of {
		if s.job != j.name {
			continue
		}
		u.Start = bytes.Clone(u.Start)
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b line.Unfinished) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Stream, b.Stream))
	})
	return all
}
