package logging

import (
	"bytes"
	"time"
	"unicode/utf8"
)

// stream makes lines of the chunks of one of a command's streams.
type stream struct {
	log  *Log
	head []byte // what stands between the time and the text of each record
	rest []byte // the line so far; at most maxLine
}

// Write takes a chunk with its borders anywhere. It keeps nothing of p.
func (s *stream) Write(p []byte) (int, error) {
	n := len(p)
	l := s.log
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stamp.set(now, l.format.name)
	for len(p) > 0 {
		line, more, ended := bytes.Cut(p, []byte{'\n'})
		s.add(line, ended)
		p = more
	}
	l.wake()
	return n, nil
}

// Close writes the bytes after the last newline, if there are any.
func (s *stream) Close() error {
	l := s.log
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(s.rest) > 0 {
		l.stamp.set(now, l.format.name)
		l.takeCommand(s, s.rest, true)
		s.rest = nil
		l.wake()
	}
	return nil
}

// add continues the line with b, and ends it if a newline followed. Whether a piece is cut off depends
// on the bytes of the line alone, so the borders of chunks never show.
func (s *stream) add(b []byte, ended bool) {
	for len(s.rest)+len(b) > maxLine {
		if len(s.rest) == 0 {
			n := cut(b[:maxLine])
			s.log.takeCommand(s, b[:n], true)
			b = b[n:]
			continue
		}
		n := maxLine - len(s.rest)
		s.rest, b = append(s.rest, b[:n]...), b[n:]
		n = cut(s.rest)
		s.log.takeCommand(s, s.rest[:n], true)
		s.rest = append(s.rest[:0], s.rest[n:]...)
	}
	if ended && len(s.rest) == 0 {
		s.log.takeCommand(s, b, false)
		return
	}
	s.rest = append(s.rest, b...)
	if ended {
		s.log.takeCommand(s, s.rest, false)
		s.rest = s.rest[:0]
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
