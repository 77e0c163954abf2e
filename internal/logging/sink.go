package logging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// target is where a sink's bytes end up. Only the sink's goroutine calls it.
type target interface {
	// ready is called before each write, with nil or the file that Reopen has opened; it opens or
	// changes the file if it is time to.
	ready(now time.Time, next *opened) turn
	io.Writer
	close() error
}

// turn is what ready did.
type turn struct {
	path    string
	changed bool  // to another file
	torn    bool  // that file ends in the middle of a line
	warning error // for the reader of the log; the target can be written to all the same
}

// sink is one target with its buffers and the goroutine that writes.
type sink struct {
	log     *Log
	target  target
	format  format
	level   zerolog.Level
	form    int  // which of the Log's forms the command's lines have here
	command bool // takes the command's lines
	color   bool
	done    chan struct{} // closed when the goroutine has ended
	err     error         // of closing the target; read it after done

	// Guarded by log.mu.
	ready   *sync.Cond // signalled when there is something to do
	buf     []byte     // records that are pending
	spare   []byte     // the buffer that is not in use, empty
	records uint64     // in buf
	over    uint64     // own lines that found no room since the last swap
	next    *opened    // the file that Reopen wants to be used
	path    string
	since   time.Time // start of the write that is under way
	stats   Stats
	dead    bool // the goroutine has ended, or panicked

	// The goroutine's own.
	lost uint64 // lines lost by errors and not yet reported
	why  error
	torn bool // the last byte that was written is not a newline
}

// batch is what the goroutine writes at once.
type batch struct {
	buf     []byte
	records uint64
	over    uint64 // lost after the last of records
	next    *opened
}

// offer takes one of gophd's own lines, or drops it.
func (k *sink) offer(line []byte) {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	if k.log.state != running || k.dead || len(k.buf)+len(line) > ownLimit {
		k.stats.Dropped++
		if k.log.state == running {
			k.over++
		}
		return
	}
	k.buf = append(k.buf, line...)
	k.records++
	k.ready.Signal()
}

// run writes until the log is closed and everything is written, or given up.
func (k *sink) run() {
	defer close(k.done)
	defer k.bury()
	for {
		b, more := k.take()
		if !more {
			break
		}
		k.put(b)
	}
	k.err = k.target.close()
}

// take waits for something to do and swaps the buffers. It returns false at the end.
func (k *sink) take() (batch, bool) {
	l := k.log
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == running && len(k.buf) == 0 && k.next == nil {
		k.ready.Wait()
	}
	// The losses that nobody has been told of yet are a reason for one more try while there is time.
	if l.state == closed || l.state == draining && len(k.buf) == 0 && k.lost == 0 && k.over == 0 {
		return batch{}, false
	}
	b := batch{buf: k.buf, records: k.records, over: k.over, next: k.next}
	k.buf, k.spare, k.records, k.over, k.next = k.spare, nil, 0, 0, nil
	k.since = time.Now()
	l.room.Broadcast()
	return b, true
}

// put writes a batch, preceded by what the reader must know, and counts.
func (k *sink) put(b batch) {
	now := time.Now()
	t := k.target.ready(now, b.next)
	var head []byte
	if t.changed {
		k.torn = t.torn
	}
	if k.torn {
		head = append(head, '\n')
	}
	if k.lost > 0 {
		head = k.notice(head, now, k.lost, k.why)
	}
	if t.warning != nil {
		head = k.say(head, now, func(z *zerolog.Logger) { z.Warn().Err(t.warning).Msg("the log file could not be changed") })
	}
	_, err := k.write(head)
	if err == nil {
		k.lost, k.why = 0, nil
	}

	n := 0
	if b.over > 0 {
		b.buf = k.notice(b.buf, now, b.over, errors.New("the log could not be written fast enough"))
	}
	if err == nil {
		n, err = k.write(b.buf)
	}
	lines := b.records
	if err != nil {
		lines = min(lines, uint64(bytes.Count(b.buf[:n], []byte{'\n'})))
		k.lost += b.records - lines + b.over
		k.why = err
	}

	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.since = time.Time{}
	if k.next == nil {
		k.path = t.path
	}
	k.stats.Err = err
	k.stats.Lines += lines
	k.stats.Dropped += b.records - lines
	if k.log.state == draining && b.records == 0 {
		k.lost = 0 // this was the last try to tell
	}
	k.spare = reuse(b.buf)
}

// write writes all of p; a short write is continued where it ended.
func (k *sink) write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = k.target.Write(p[n:])
		n += m
		if m == 0 && err == nil {
			err = io.ErrNoProgress
		}
	}
	if n > 0 {
		k.torn = p[n-1] != '\n'
	}
	return n, err
}

// notice says that lines were lost.
func (k *sink) notice(dst []byte, now time.Time, n uint64, why error) []byte {
	return k.say(dst, now, func(z *zerolog.Logger) { z.Warn().Uint64("lines", n).Err(why).Msg("log lines were lost") })
}

// say renders a line of the sink's own.
func (k *sink) say(dst []byte, now time.Time, f func(*zerolog.Logger)) []byte {
	var raw bytes.Buffer
	z := zerolog.New(&raw)
	f(&z)
	return k.format.own(dst, now, zerolog.WarnLevel, raw.Bytes(), k.color)
}

// bury is run's last act, also when a target panicked: nobody may wait for this sink any more.
func (k *sink) bury() {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.dead = true
	k.stats.Dropped += k.records
	k.buf, k.spare, k.records = nil, nil, 0
	if k.next != nil {
		k.err = errors.Join(k.err, k.next.close())
		k.next = nil
	}
	k.log.room.Broadcast()
}

// outcome is what Close reports about the sink: late holds those that had to be given up.
func (k *sink) outcome(late []*sink) error {
	if slices.Contains(late, k) {
		return fmt.Errorf("%s took nothing for %v: its last lines are lost: free its reader or its disk", k.name(), drainTime)
	}
	return k.err
}

func (k *sink) name() string {
	if k.path == "" {
		return "the echo of the log"
	}
	return "log file " + k.path
}

// echo is the target that the caller gave.
type echo struct{ io.Writer }

func (echo) ready(time.Time, *opened) turn { return turn{} }
func (echo) close() error                  { return nil }

// deadline calls back a write that is under way, where the target can do that: a FIFO, a pipe or a
// socket in the runtime's poller.
func deadline(t target, at time.Time) {
	var w any = t
	switch t := t.(type) {
	case echo:
		w = t.Writer
	case *file:
		w = t.current.Load()
	}
	switch w := w.(type) {
	case *os.File:
		if w != nil {
			_ = w.SetWriteDeadline(at) // a file without deadlines is the known gap of Close
		}
	case interface{ SetWriteDeadline(time.Time) error }:
		_ = w.SetWriteDeadline(at)
	}
}
