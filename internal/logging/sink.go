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

// target is the destination of a sink. Only the sink's goroutine calls it.
type target interface {
	// ready is called before each write, with nil or the file that Reopen opened. It opens or
	// changes the file if necessary.
	ready(now time.Time, next *opened) readyResult
	io.Writer
	hasReader() bool // another process reads at its own speed: a terminal, a pipe
	sync() error
	close() error
}

// readyResult is the result of ready.
type readyResult struct {
	path    string
	changed bool // to another file
	torn    bool // the new file ends in the middle of a line
	// To report in the log; the target can be written anyway.
	warning  error
	archives error
}

// sink is one target with its buffers and the goroutine that writes.
type sink struct {
	sinkOptions
	log    *Log
	target target
	done   chan struct{} // closed when the goroutine exited
	err    error         // of closing the target; read it after done

	// Guarded by log.mu.
	wake *sync.Cond // signaled when there is something to do
	pending
	condition

	// Used by the goroutine only.
	unreported
	torn     bool        // the last written byte is not a newline
	unsynced *time.Timer // makes a sync due; nil if everything is synced
	used     time.Time   // the last work; of a lazy sink
	nap      *time.Timer // sets unused; nil before the first work, and if the sink is not lazy
}

// sinkOptions select what a sink takes and how it writes.
type sinkOptions struct {
	job     string // of several jobs, the one whose own log this is; "" for a log of all
	format  format
	level   zerolog.Level
	command bool // takes the command's lines
	lazy    bool // the file is closed, and the goroutine ends, while there are no lines
	color   bool
	block   bool   // failed writes are retried, not dropped
	policy  string // sync policy
}

// pending is the work that the goroutine takes next.
type pending struct {
	buf      []byte         // records
	spare    []byte         // the other buffer, empty
	records  uint64         // in buf
	shares   map[string]int // bytes of each of several jobs in buf, if the log is that of all
	overflow uint64         // lines that did not fit since the last swap
	next     *opened        // the file that Reopen opened
	due      bool           // a sync is due
	unused   bool           // there was no line for some time
	midway   bool           // buf continues the torn line
}

// condition is the current state of a sink.
type condition struct {
	path      string
	reported  uint64    // of stats.Dropped, those that the log itself reports
	since     time.Time // start or last progress of the active write
	stats     Stats
	writing   uint64 // records that are being written
	regular   bool   // the target is a regular file
	exited    bool   // the goroutine exited or panicked
	idle      bool   // the goroutine waits, or there is none
	asleep    bool   // there is no goroutine, and the file is closed
	drain     bool   // exit when everything pending is written
	quit      bool   // give up everything pending
	abandoned bool   // Close gave up waiting for the goroutine and counted its lines
}

// unreported is what the next write reports first.
type unreported struct {
	lost     uint64 // lines lost by errors
	why      error  // the last error
	warning  error  // see readyResult
	archives error  // see readyResult
	unsafe   error  // why the last sync failed
}

// batch is the work that the goroutine does at once.
type batch struct {
	buf      []byte
	records  uint64
	overflow uint64 // lost after the last record
	next     *opened
	sync     bool
	midway   bool // buf continues the torn line
	unused   bool // see pending
}

// Reasons for lost lines other than a failed write.
var (
	errStuck  = errors.New("write stalled: the disk is full or slow, or the reader is blocked")
	errSlow   = errors.New("the log could not be written fast enough")
	errClosed = errors.New("the log was closed")
	errPaused = errors.New("the log is paused")
	errMoved  = errors.New("the log changed from a file to a service, or from a service to a file")
)

// inherit takes over the losses of the previous Log.
func (k *sink) inherit(o Losses) {
	if o.Lines > 0 {
		k.stats.Dropped, k.reported = o.Lines, o.Lines-min(o.Unreported, o.Lines)
		k.lost, k.why = o.Unreported, errors.New(o.Why)
		k.stats.Lost = k.why
	}
	if o.Unreported > 0 {
		k.alert()
	}
}

// drop counts lost lines. The caller holds log.mu.
func (k *sink) drop(lines uint64, why error) {
	if lines > 0 {
		k.stats.Dropped += lines
		k.stats.Lost = why
		k.alert()
	}
}

// alert reports a change of Stats. The caller holds log.mu.
func (k *sink) alert() {
	if k == k.log.sinks[0] || k.job != "" {
		select {
		case k.log.trouble <- struct{}{}:
		default: // the previous alert is not read yet
		}
	}
}

// offer takes or drops text of gophd's own, which has the given number of complete lines.
func (k *sink) offer(text []byte, lines uint64) {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	if k.log.state != running || k.drain || k.exited || len(k.buf)+len(text) > ownLimit {
		why := errClosed
		if k.log.state == running && !k.drain {
			why = errSlow
			k.overflow += lines
		}
		k.drop(lines, why)
		return
	}
	k.buf = append(k.buf, text...)
	k.records += lines
	k.rouse()
}

// rouse makes the goroutine look for work, and starts it if there is none. The caller holds log.mu.
func (k *sink) rouse() {
	if !k.asleep {
		k.wake.Signal()
		return
	}
	k.asleep, k.idle, k.done = false, false, make(chan struct{})
	k.log.writers.Go(k.run)
}

// label returns what lines about a job begin with: nothing in its own log.
func (k *sink) label(job string) string {
	if k.job != "" {
		return ""
	}
	return job
}

// paused reports that no write may start. The caller holds log.mu.
func (k *sink) paused() bool { return k.log.leaving || k.log.paused && k.regular }

// full reports that n bytes of a command of a job do not fit. A job that fills the log of several jobs
// leaves some space for each of the others. The caller holds log.mu, also in the next methods.
func (k *sink) full(job string, n int) bool {
	if k.exited || len(k.buf) < commandLimit {
		return false
	}
	return k.label(job) == "" || len(k.buf)+n > sharedLimit || k.shares[job]+n > jobShare
}

// takeShare counts n bytes of a job in buf.
func (k *sink) takeShare(job string, n int) {
	if k.label(job) == "" {
		return
	}
	if k.shares == nil {
		k.shares = map[string]int{}
	}
	k.shares[job] += n
}

// commandWaitLeft returns how much longer the command waits for this sink: 0 if the sink is
// stalled, a negative value if there is no limit.
func (k *sink) commandWaitLeft() time.Duration {
	l := k.log
	switch {
	case l.stopRequests == 0 && k.block:
		return -1
	case l.stopRequests == 0:
		return k.remaining(l.stallTime, time.Time{})
	case k.block:
		return k.closeWaitLeft()
	}
	return min(k.remaining(l.stallTime, time.Time{}), k.closeWaitLeft())
}

// closeWaitLeft returns how much longer Close waits for this sink: 0 if it must be given up.
func (k *sink) closeWaitLeft() time.Duration {
	l := k.log
	most := l.readerTime
	switch {
	case l.stopRequests >= 3:
		most = 0
	case l.stopRequests <= 1 && k.regular:
		most = l.fileTime
	}
	return k.remaining(most, l.stopSince)
}

// remaining returns how much is left of the time limit most. The limit counts from the last
// progress of the sink, but not from before start.
func (k *sink) remaining(most time.Duration, start time.Time) time.Duration {
	if k.since.IsZero() { // not stalled: its goroutine is about to take the buffer
		return max(most, k.log.abort)
	}
	if k.since.After(start) {
		start = k.since
	}
	return max(most-time.Since(start), 0)
}

func (k *sink) isEcho() bool {
	_, ok := k.target.(echo)
	return ok
}

// file returns the target if it is a file, else nil.
func (k *sink) file() *file {
	t, _ := k.target.(*file)
	return t
}

// reopen is Log.Reopen for one file.
func (k *sink) reopen(t *file) error {
	l := k.log
	l.mu.Lock()
	state, asleep := l.state, k.asleep
	l.mu.Unlock()
	switch {
	case state != running:
		return os.ErrClosed
	case asleep: // the next line opens it
		return nil
	}
	next, err := t.open(t.pattern.name(time.Now()))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != running {
		return errors.Join(os.ErrClosed, next.close())
	}
	if k.asleep {
		return next.close()
	}
	if k.next != nil {
		err = k.next.close()
	}
	k.next, k.path = next, next.path
	k.wake.Signal()
	return err
}

func (k *sink) isService() bool {
	_, ok := k.target.(*socket)
	return ok
}

// isRegular reports whether w is a regular file.
func isRegular(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// takeUnwritten takes the unwritten lines of the previous Log, before the sink starts.
func (k *sink) takeUnwritten(u Unwritten) {
	if k.isService() != u.Service {
		k.drop(u.Lines, errMoved)
		k.overflow += u.Lines
		return
	}
	k.midway = len(k.buf) == 0 && u.Midway
	k.buf, k.records = append(k.buf, u.Records...), k.records+u.Lines
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

// echo is the target of Options.Echo.
type echo struct{ io.Writer }

func (echo) hasReader() bool { return true }
func (echo) close() error    { return nil }

// isIdle reports whether the sink writes nothing.
func (k *sink) isIdle() bool {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	return k.idle || k.exited
}

// interrupt makes an active write return, if the target can do that. It returns how long to wait
// for the write.
func (k *sink) interrupt() time.Duration {
	if deadline(k.target, time.Now()) {
		return k.log.returns
	}
	return k.log.abort
}

// deadline sets the write deadline of a target. It returns false if the target has none. A FIFO, a
// pipe or a socket in the runtime's poller has one.
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
		return w != nil && w.SetWriteDeadline(at) == nil // without one: the known gap of Close
	case *net.UnixConn:
		return w != nil && w.SetWriteDeadline(at) == nil
	case interface{ SetWriteDeadline(time.Time) error }:
		return w.SetWriteDeadline(at) == nil
	}
	return false
}
