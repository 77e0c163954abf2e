package logging

import (
	"errors"
	"io"
	"net"
	"os"
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
	hasReader() bool // somebody takes what is written at a pace of his own: a terminal, a pipe
	sync() error
	close() error
}

// turn is what ready did.
type turn struct {
	path    string
	changed bool // to another file
	torn    bool // that file ends in the middle of a line
	// For the reader of the log; the target can be written to all the same.
	warning  error
	archives error
}

// sink is one target with its buffers and the goroutine that writes.
type sink struct {
	sinkOptions
	log    *Log
	target target
	done   chan struct{} // closed when the goroutine has ended
	err    error         // of closing the target; read it after done

	// Guarded by log.mu.
	wake *sync.Cond // signalled when there is something to do
	pending
	condition

	// The goroutine's own.
	unreported
	torn     bool        // the last byte that was written is not a newline
	unsynced *time.Timer // makes a sync due; nil when all is on the disk
}

// sinkOptions say what a sink takes and how it writes.
type sinkOptions struct {
	format  format
	level   zerolog.Level
	form    int  // which of the Log's forms the command's lines have here
	command bool // takes the command's lines
	color   bool
	block   bool   // what cannot be written is tried again, and not dropped
	policy  string // of sync
}

// pending is what the goroutine takes next.
type pending struct {
	buf     []byte  // records
	spare   []byte  // the buffer that is not in use, empty
	records uint64  // in buf
	over    uint64  // own lines that found no room since the last swap
	next    *opened // the file that Reopen wants to be used
	due     bool    // it is time to sync
	midway  bool    // buf continues the line that is torn where it broke off
}

// condition is how a sink does.
type condition struct {
	path    string
	told    uint64    // of stats.Dropped, where the log itself tells it
	since   time.Time // when the write that is under way began, or last made progress
	stats   Stats
	writing uint64 // records that are being written
	regular bool   // the target is a regular file
	dead    bool   // the goroutine has ended, or panicked
	idle    bool   // the goroutine waits
	drain   bool   // it ends when all that is pending is written
	quit    bool   // what is pending is given up
	left    bool   // Close has given up waiting for the goroutine, and counted what it has
}

// unreported is what the next write says first.
type unreported struct {
	lost     uint64 // lines lost by errors
	why      error  // the last of them
	warning  error  // see turn
	archives error  // see turn
	unsafe   error  // why the last sync failed
}

// batch is what the goroutine writes at once.
type batch struct {
	buf     []byte
	records uint64
	over    uint64 // lost after the last of records
	next    *opened
	sync    bool
	midway  bool // buf goes on where the line that is torn broke off
}

// Why lines are lost that no write has failed for.
var (
	errStuck  = errors.New("it takes nothing: free its reader or its disk")
	errSlow   = errors.New("the log could not be written fast enough")
	errClosed = errors.New("the log took nothing any more when it was closed")
	errPaused = errors.New("the log pauses")
	errMoved  = errors.New("they were for a file, and the log is now a service, or the other way round")
)

// inherit takes over what was lost before.
func (k *sink) inherit(o Losses) {
	if o.Lines > 0 {
		k.stats.Dropped, k.told = o.Lines, o.Lines-min(o.Untold, o.Lines)
		k.lost, k.why = o.Untold, errors.New(o.Why)
		k.stats.Lost = k.why
	}
	if o.Untold > 0 {
		k.alert()
	}
}

// drop counts lines that are lost. The caller holds log.mu.
func (k *sink) drop(lines uint64, why error) {
	if lines > 0 {
		k.stats.Dropped += lines
		k.stats.Lost = why
		k.alert()
	}
}

// alert lets Stats be looked at. The caller holds log.mu.
func (k *sink) alert() {
	if k == k.log.sinks[0] {
		select {
		case k.log.trouble <- struct{}{}:
		default: // it was not heard yet
		}
	}
}

// offer takes what is to be written for gophd itself, which is so many whole lines, or drops it.
func (k *sink) offer(text []byte, lines uint64) {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	if k.log.state != running || k.drain || k.dead || len(k.buf)+len(text) > ownLimit {
		why := errClosed
		if k.log.state == running && !k.drain {
			why = errSlow
			k.over += lines
		}
		k.drop(lines, why)
		return
	}
	k.buf = append(k.buf, text...)
	k.records += lines
	k.wake.Signal()
}

// paused says that no write is to begin. The caller holds log.mu.
func (k *sink) paused() bool { return k.log.leaving || k.log.paused && k.regular }

// full says that the command's lines find no room. The caller holds log.mu, as for the next.
func (k *sink) full() bool { return k.command && !k.dead && len(k.buf) >= commandLimit }

// patienceLeft is how long the command still waits for this sink: 0 when it is stuck, negative if it does not stop waiting.
func (k *sink) patienceLeft() time.Duration {
	l := k.log
	switch {
	case l.hurry == 0 && k.block:
		return -1
	case l.hurry == 0:
		return k.leftOf(l.stuckTime, time.Time{})
	case k.block:
		return k.endLeft()
	}
	return min(k.leftOf(l.stuckTime, time.Time{}), k.endLeft())
}

// endLeft is how long a program that is about to end still waits for this sink: 0 when it is to be given up.
func (k *sink) endLeft() time.Duration {
	l := k.log
	most := l.readerTime
	switch {
	case l.hurry >= 3:
		most = 0
	case l.hurry <= 1 && k.regular:
		most = l.fileTime
	}
	return k.leftOf(most, l.hurried)
}

// leftOf is what is left of the time in which the sink has to get on, which counts from a moment on at most.
func (k *sink) leftOf(most time.Duration, from time.Time) time.Duration {
	if k.since.IsZero() { // it is not stuck: its goroutine is about to take the buffer
		return max(most, k.log.abort)
	}
	if k.since.After(from) {
		from = k.since
	}
	return max(most-time.Since(from), 0)
}

func (k *sink) isEcho() bool {
	_, ok := k.target.(echo)
	return ok
}

func (k *sink) isService() bool {
	_, ok := k.target.(*socket)
	return ok
}

// isRegular says that w is a regular file.
func isRegular(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// goOn takes what was left, before the sink begins.
func (k *sink) goOn(left Left) {
	if k.isService() != left.Service {
		k.drop(left.Lines, errMoved)
		k.over += left.Lines
		return
	}
	k.midway = len(k.buf) == 0 && left.Midway
	k.buf, k.records = append(k.buf, left.Records...), k.records+left.Lines
}

func (k *sink) name() string {
	if k.isEcho() {
		return k.log.echoName
	}
	if k.isService() {
		return "the log to " + k.path
	}
	return "log file " + k.path
}

// echo is the target that the caller gave.
type echo struct{ io.Writer }

func (echo) hasReader() bool { return true }
func (echo) close() error    { return nil }

// rests says that the sink writes nothing.
func (k *sink) rests() bool {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	return k.idle || k.dead
}

// callBack makes a write that is under way return, where the target can do that, and says how long to wait for it.
func (k *sink) callBack() time.Duration {
	if deadline(k.target, time.Now()) {
		return k.log.returns
	}
	return k.log.abort
}

// deadline sets that of writes, where the target has one, and says whether it has: a FIFO, a pipe or a socket in the
// runtime's poller.
func deadline(t target, at time.Time) bool {
	var w any = t
	switch t := t.(type) {
	case echo:
		w = t.Writer
	case *file:
		w = t.current.Load()
	case *socket:
		w = t.current.Load()
	}
	switch w := w.(type) {
	case *os.File:
		return w != nil && w.SetWriteDeadline(at) == nil // a file without deadlines is the known gap of Close
	case *net.UnixConn:
		return w != nil && w.SetWriteDeadline(at) == nil
	case interface{ SetWriteDeadline(time.Time) error }:
		return w.SetWriteDeadline(at) == nil
	}
	return false
}
