package logging

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// run writes until the log is closed and everything is written or given up, or until the sink falls
// asleep.
func (k *sink) run() {
	defer close(k.done)
	asleep := false
	defer func() {
		if !asleep {
			k.finish()
		}
	}()
	for {
		b, more := k.take()
		if !more {
			break
		}
		if b.unused {
			if asleep = k.sleep(); asleep {
				return
			}
			continue
		}
		if b.next != nil || b.records > 0 || b.overflow > 0 || k.lost > 0 {
			k.put(b)
			k.used = time.Now()
		}
		k.sync(b)
	}
	if k.unsynced != nil {
		k.unsynced.Stop()
	}
	if k.nap != nil {
		k.nap.Stop()
	}
	k.err = errors.Join(k.unsafe, k.target.close())
}

// napAfter makes take return in that time, if there is no work.
func (k *sink) napAfter(wait time.Duration) {
	if k.nap != nil {
		k.nap.Reset(wait)
		return
	}
	k.nap = time.AfterFunc(wait, func() {
		k.log.mu.Lock()
		defer k.log.mu.Unlock()
		k.unused = true
		k.wake.Signal()
	})
}

// sleep closes the file and frees the buffers. It returns false if there is work meanwhile, or if the
// last line is not old enough.
func (k *sink) sleep() bool {
	if wait := napTime - time.Since(k.used); wait > 0 {
		k.napAfter(wait)
		return false
	}
	t := k.file()
	if t != nil && !t.archives.idle() {
		k.napAfter(napTime)
		return false
	}
	if t != nil {
		k.warning = errors.Join(k.warning, t.rest())
	}
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	if k.log.state != running || k.drain || k.quit || k.hasWork() {
		k.napAfter(napTime)
		return false
	}
	k.asleep, k.idle, k.nap, k.unsynced = true, true, nil, nil
	k.buf, k.spare, k.shares = nil, nil, nil
	return true
}

// hasWork reports that there is something to write. The caller holds log.mu.
func (k *sink) hasWork() bool { return len(k.buf) > 0 || k.next != nil || k.due }

// take waits for work and swaps the buffers. It returns false when the sink must exit. A batch of an
// unused sink is empty.
func (k *sink) take() (batch, bool) {
	l := k.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.lazy && k.nap == nil {
		k.used = time.Now()
		k.napAfter(napTime)
	}
	for l.state == running && !k.drain && !k.quit && (k.paused() || !k.hasWork() && !k.unused) {
		k.idle = true
		k.wake.Wait()
	}
	k.idle = false
	if k.unused && l.state == running && !k.drain && !k.quit && !k.hasWork() {
		k.unused = false
		return batch{unused: true}, true
	}
	// Unreported losses are a reason for one more attempt while there is time.
	done := len(k.buf) == 0 && k.lost == 0 && k.overflow == 0
	if l.state == closed || k.quit || l.leaving || (l.state == draining || k.drain) && done {
		return batch{}, false
	}
	b := batch{
		buf: k.buf, records: k.records, overflow: k.overflow, next: k.next, sync: k.due, midway: k.midway,
	}
	k.writing = k.records
	k.buf, k.spare, k.records, k.overflow, k.next, k.due, k.midway = k.spare, nil, 0, 0, nil, false, false
	clear(k.shares)
	k.since = time.Now()
	l.space.Broadcast()
	return b, true
}

// put writes a batch, preceded by reports about the log itself, and counts the lines.
func (k *sink) put(b batch) {
	now := time.Now()
	k.ready(now, b.next)
	var head []byte
	if k.lost > 0 {
		head = k.notice(head, now, k.lost, k.why)
	}
	if k.warning != nil {
		head = k.warn(head, now, "switching the log file failed", k.warning)
	}
	if k.archives != nil {
		head = k.warn(head, now, "log rotation failed", k.archives)
	}
	if k.unsafe != nil {
		head = k.warn(head, now, "log lines may not survive a crash of the machine", k.unsafe)
	}
	k.warning, k.archives, k.unsafe = nil, nil, nil
	reported := uint64(0)
	_, err := k.writeAll(head, false)
	if err == nil {
		reported, k.lost, k.why = k.lost, 0, nil
	}

	n, body := 0, len(b.buf)
	if b.overflow > 0 {
		b.buf = k.notice(b.buf, now, b.overflow, errSlow)
	}
	if err == nil {
		n, err = k.writeAll(b.buf, b.midway)
	}
	if err == nil {
		reported += b.overflow
	}
	lines := b.records
	if err != nil {
		lines = min(lines, uint64(bytes.Count(b.buf[:n], []byte{'\n'})))
	}

	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.since = time.Time{}
	if k.abandoned {
		return
	}
	if err != nil && k.paused() && !k.quit { // interrupted lines are not lost
		n = min(n, body)
		k.midway = n > 0 && b.buf[n-1] != '\n' || n == 0 && b.midway
		k.buf = slices.Concat(b.buf[n:body], k.buf)
		k.records += b.records - lines
		k.overflow += b.overflow
		k.stats.Lines += lines - min(b.records-k.writing, lines)
		k.writing = 0
		return
	}
	if err != nil {
		k.lost += b.records - lines + b.overflow
		k.why = err
	}
	k.stats.Err = err
	k.stats.Lines += lines - min(b.records-k.writing, lines) // minus those counted during the write
	k.drop(b.records-lines, err)
	k.reported += reported
	k.writing = 0
	if (k.log.state == draining || k.drain) && b.records == 0 {
		k.lost = 0 // this was the last attempt to report it
	}
	k.spare = reuse(b.buf)
}

// ready prepares the target and stores its path, and whether it ends in a torn line.
func (k *sink) ready(now time.Time, next *opened) readyResult {
	t := k.target.ready(now, next)
	if t.changed {
		k.torn = t.torn
	}
	k.warning, k.archives = errors.Join(k.warning, t.warning), errors.Join(k.archives, t.archives)
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	if f, ok := k.target.(*file); ok {
		k.regular = f.regular
	}
	if k.next == nil {
		k.path = t.path
	}
	switch problem := errors.Join(t.warning, t.archives); {
	case problem != nil:
		k.stats.Misplaced = problem
		k.alert()
	case t.changed && k.stats.Misplaced != nil:
		k.stats.Misplaced = nil
		k.alert()
	}
	return t
}

// writeAll writes all of p. p has complete records, except for the first one if midway is true.
// With the policy block it retries until the Log is closed. It continues a torn record where it
// stopped. In another file it writes the record again from its start.
func (k *sink) writeAll(p []byte, midway bool) (n int, err error) {
	for n < len(p) {
		err = nil
		if k.torn && k.format.name != exact && (n == 0 && !midway || n > 0 && p[n-1] == '\n') {
			_, err = k.write([]byte{'\n'})
		}
		if err == nil {
			var m int
			m, err = k.write(p[n:])
			n += m
		}
		if err == nil || !k.block {
			break
		}
		next, more := k.pause(err)
		if !more {
			break
		}
		if t := k.ready(time.Now(), next); t.changed {
			n = bytes.LastIndexByte(p[:n], '\n') + 1
		}
	}
	return n, err
}

// pause waits until the time of the next attempt, or until Reopen opened another file. It returns
// false if there is no next attempt.
func (k *sink) pause(why error) (next *opened, more bool) {
	l := k.log
	l.mu.Lock()
	defer l.mu.Unlock()
	k.stats.Err = why
	elapsed := false
	timer := time.AfterFunc(checkInterval, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		elapsed = true
		k.wake.Signal()
	})
	defer timer.Stop()
	ends := func() bool { return l.state == closed || k.quit || k.paused() }
	for !elapsed && k.next == nil && !ends() {
		k.wake.Wait()
	}
	next, k.next = k.next, nil
	return next, !ends()
}

// sync syncs the target as the policy requires, after a batch was written. The timer exists only
// while there is something to sync, so an idle log causes no wakeups.
func (k *sink) sync(b batch) {
	switch {
	case k.policy == syncAlways && b.records > 0, b.sync:
		k.unsynced = nil
		k.mark(time.Now()) // Stalled must show a disk that hangs here
		k.unsafe = k.target.sync()
		k.mark(time.Time{})
	case k.policy == syncSecond && k.unsynced == nil && b.records > 0:
		k.unsynced = time.AfterFunc(time.Second, func() {
			k.log.mu.Lock()
			defer k.log.mu.Unlock()
			k.due = true
			k.wake.Signal()
		})
	}
}

// progress counts lines that the active write has written, and returns whether to pause.
func (k *sink) progress(lines uint64) (pause bool) {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.since = time.Now()
	if !k.abandoned {
		lines = min(lines, k.writing)
		k.writing -= lines
		k.stats.Lines += lines
	}
	return k.paused()
}

// abandon counts the lines of a goroutine that Close no longer waits for.
func (k *sink) abandon() {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.abandoned = true
	k.drop(k.writing+k.records, errStuck)
	k.buf, k.records, k.writing = nil, 0, 0
}

func (k *sink) mark(since time.Time) {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.since = since
}

// write writes all of p. It continues after a short write. During a Pause it stops after the
// current piece.
func (k *sink) write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = k.target.Write(p[n : n+k.piece(p[n:])])
		n += m
		switch {
		case m == 0 && err == nil:
			err = io.ErrNoProgress
		case m > 0 && n < len(p):
			if k.progress(uint64(bytes.Count(p[n-m:n], []byte{'\n'}))) && err == nil {
				err = errPaused
			}
		}
	}
	if n > 0 {
		k.torn = p[n-1] != '\n'
	}
	return n, err
}

// pieceSize is the size of one write to a sink with a reader, so that a slow reader can be
// distinguished from a blocked one. It is PIPE_BUF of Linux: a pipe takes it completely or not at
// all (pipe(7)). So other writers to the same pipe tear no line, and lost lines can be counted when
// a write is given up.
const pieceSize = 4 << 10

// piece returns how much of p to write at once: all of it, or complete lines if possible.
func (k *sink) piece(p []byte) int {
	if len(p) <= pieceSize || !k.target.hasReader() {
		return len(p)
	}
	if i := bytes.LastIndexByte(p[:pieceSize], '\n'); i >= 0 {
		return i + 1
	}
	return pieceSize
}

// notice appends a line about lost lines, except to an exact echo.
func (k *sink) notice(dst []byte, now time.Time, n uint64, why error) []byte {
	if k.format.name == exact {
		return dst
	}
	return k.render(dst, now, func(z *zerolog.Event) { z.Uint64("lines", n).Err(why).Msg("log lines were lost") })
}

// warn appends a warning.
func (k *sink) warn(dst []byte, now time.Time, what string, why error) []byte {
	return k.render(dst, now, func(z *zerolog.Event) { z.Err(why).Msg(what) })
}

// render appends a line of the sink's own.
func (k *sink) render(dst []byte, now time.Time, f func(*zerolog.Event)) []byte {
	var raw bytes.Buffer
	z := zerolog.New(&raw)
	f(z.Warn())
	return k.format.own(dst, now, zerolog.WarnLevel, "", raw.Bytes(), k.color)
}

// finish is the last step of run, also after a panic of a target: nothing waits for this sink after
// it.
func (k *sink) finish() {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.exited = true
	k.drop(k.records, errClosed)
	k.buf, k.spare, k.records = nil, nil, 0
	if k.next != nil {
		k.err = errors.Join(k.err, k.next.close())
		k.next = nil
	}
	k.log.space.Broadcast()
}

func (echo) ready(time.Time, *opened) readyResult { return readyResult{} }

func (echo) sync() error { return nil }
