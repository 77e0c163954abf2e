package logging

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// run writes until the log is closed and everything is written, or given up.
func (k *sink) run() {
	defer close(k.done)
	defer k.bury()
	for {
		b, more := k.take()
		if !more {
			break
		}
		if b.next != nil || b.records > 0 || b.over > 0 || k.lost > 0 {
			k.put(b)
		}
		k.sync(b)
	}
	if k.unsynced != nil {
		k.unsynced.Stop()
	}
	k.err = errors.Join(k.unsafe, k.target.close())
}

// take waits for something to do and swaps the buffers. It returns false at the end.
func (k *sink) take() (batch, bool) {
	l := k.log
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == running && !k.drain && !k.quit && (k.paused() || len(k.buf) == 0 && k.next == nil && !k.due) {
		k.idle = true
		k.wake.Wait()
	}
	k.idle = false
	// The losses that nobody has been told of yet are a reason for one more try while there is time.
	if l.state == closed || k.quit || l.leaving || (l.state == draining || k.drain) && len(k.buf) == 0 && k.lost == 0 && k.over == 0 {
		return batch{}, false
	}
	b := batch{buf: k.buf, records: k.records, over: k.over, next: k.next, sync: k.due, midway: k.midway}
	k.writing = k.records
	k.buf, k.spare, k.records, k.over, k.next, k.due, k.midway = k.spare, nil, 0, 0, nil, false, false
	k.since = time.Now()
	l.room.Broadcast()
	return b, true
}

// put writes a batch, preceded by what the reader must know, and counts.
func (k *sink) put(b batch) {
	now := time.Now()
	k.ready(now, b.next)
	var head []byte
	if k.lost > 0 {
		head = k.notice(head, now, k.lost, k.why)
	}
	if k.warning != nil {
		head = k.say(head, now, "the log file could not be changed", k.warning)
	}
	if k.archives != nil {
		head = k.say(head, now, "the log archives are not in order", k.archives)
	}
	if k.unsafe != nil {
		head = k.say(head, now, "log lines may not survive a crash of the machine", k.unsafe)
	}
	k.warning, k.archives, k.unsafe = nil, nil, nil
	told := uint64(0)
	_, err := k.insist(head, false)
	if err == nil {
		told, k.lost, k.why = k.lost, 0, nil
	}

	n, body := 0, len(b.buf)
	if b.over > 0 {
		b.buf = k.notice(b.buf, now, b.over, errSlow)
	}
	if err == nil {
		n, err = k.insist(b.buf, b.midway)
	}
	if err == nil {
		told += b.over
	}
	lines := b.records
	if err != nil {
		lines = min(lines, uint64(bytes.Count(b.buf[:n], []byte{'\n'})))
	}

	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.since = time.Time{}
	if k.left {
		return
	}
	if err != nil && k.paused() && !k.quit { // what was called back is not lost
		n = min(n, body)
		k.midway = n > 0 && b.buf[n-1] != '\n' || n == 0 && b.midway
		k.buf = slices.Concat(b.buf[n:body], k.buf)
		k.records += b.records - lines
		k.over += b.over
		k.stats.Lines += lines - min(b.records-k.writing, lines)
		k.writing = 0
		return
	}
	if err != nil {
		k.lost += b.records - lines + b.over
		k.why = err
	}
	k.stats.Err = err
	k.stats.Lines += lines - min(b.records-k.writing, lines) // less those that were counted on the way
	k.drop(b.records-lines, err)
	k.told += told
	k.writing = 0
	if (k.log.state == draining || k.drain) && b.records == 0 {
		k.lost = 0 // this was the last try to tell
	}
	k.spare = reuse(b.buf)
}

// ready makes the target ready, and remembers what is torn and where the lines go.
func (k *sink) ready(now time.Time, next *opened) turn {
	t := k.target.ready(now, next)
	if t.changed {
		k.torn = t.torn
	}
	k.warning, k.archives = errors.Join(k.warning, t.warning), errors.Join(k.archives, t.archives)
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	if f, ok := k.target.(*file); ok {
		k.regular = f.info != nil
	}
	if k.next == nil {
		k.path = t.path
	}
	switch stray := errors.Join(t.warning, t.archives); {
	case stray != nil:
		k.stats.Stray = stray
		k.alert()
	case t.changed && k.stats.Stray != nil:
		k.stats.Stray = nil
		k.alert()
	}
	return t
}

// insist writes all of p, which is whole records, but for the first if that goes on midway. Where the sink blocks it
// does not give up before the Log is closed. A record that broke off goes on where it did; in another file it begins
// anew.
func (k *sink) insist(p []byte, midway bool) (n int, err error) {
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

// pause waits until it is time to try again, or Reopen has found another file. It returns false when
// that is never.
func (k *sink) pause(why error) (next *opened, more bool) {
	l := k.log
	l.mu.Lock()
	defer l.mu.Unlock()
	k.stats.Err = why
	over := false
	timer := time.AfterFunc(lookTime, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		over = true
		k.wake.Signal()
	})
	defer timer.Stop()
	ends := func() bool { return l.state == closed || k.quit || k.paused() }
	for !over && k.next == nil && !ends() {
		k.wake.Wait()
	}
	next, k.next = k.next, nil
	return next, !ends()
}

// sync keeps the promise of the policy after a batch was written. The timer exists only while there is
// something to sync, so an idle log wakes nobody up.
func (k *sink) sync(b batch) {
	switch {
	case k.policy == syncAlways && b.records > 0, b.sync:
		k.unsynced = nil
		k.mark(time.Now()) // a disk that hangs here must show
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

// gotOn says that the write that is under way has brought out so many more lines, and returns whether to pause.
func (k *sink) gotOn(lines uint64) (pause bool) {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.since = time.Now()
	if !k.left {
		lines = min(lines, k.writing)
		k.writing -= lines
		k.stats.Lines += lines
	}
	return k.paused()
}

// leave counts what a goroutine has that is not waited for any more.
func (k *sink) leave() {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.left = true
	k.drop(k.writing+k.records, errStuck)
	k.buf, k.records, k.writing = nil, 0, 0
}

func (k *sink) mark(since time.Time) {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.since = since
}

// write writes all of p; a short write is continued where it ended. In a Pause it ends after the piece that is under way.
func (k *sink) write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = k.target.Write(p[n : n+k.piece(p[n:])])
		n += m
		switch {
		case m == 0 && err == nil:
			err = io.ErrNoProgress
		case m > 0 && n < len(p):
			if k.gotOn(uint64(bytes.Count(p[n-m:n], []byte{'\n'}))) && err == nil {
				err = errPaused
			}
		}
	}
	if n > 0 {
		k.torn = p[n-1] != '\n'
	}
	return n, err
}

// pieceSize is what is written at once to a sink that somebody reads, so that one who reads slowly can be
// told from one who does not. It is PIPE_BUF of Linux: a pipe takes it as a whole or not at all (pipe(7)), so
// others who write to the same pipe tear no line, and what is lost can be counted when a write is given up.
const pieceSize = 4 << 10

// piece is how much of p is to be written at once: whole lines where it is not all.
func (k *sink) piece(p []byte) int {
	if len(p) <= pieceSize || !k.target.hasReader() {
		return len(p)
	}
	if i := bytes.LastIndexByte(p[:pieceSize], '\n'); i >= 0 {
		return i + 1
	}
	return pieceSize
}

// notice says that lines were lost, but not in the midst of what is to be exact.
func (k *sink) notice(dst []byte, now time.Time, n uint64, why error) []byte {
	if k.format.name == exact {
		return dst
	}
	return k.render(dst, now, func(z *zerolog.Event) { z.Uint64("lines", n).Err(why).Msg("log lines were lost") })
}

// say says what is wrong.
func (k *sink) say(dst []byte, now time.Time, what string, why error) []byte {
	return k.render(dst, now, func(z *zerolog.Event) { z.Err(why).Msg(what) })
}

// render makes a line of the sink's own.
func (k *sink) render(dst []byte, now time.Time, f func(*zerolog.Event)) []byte {
	var raw bytes.Buffer
	z := zerolog.New(&raw)
	f(z.Warn())
	return k.format.own(dst, now, zerolog.WarnLevel, raw.Bytes(), k.color)
}

// bury is run's last act, also when a target panicked: nobody may wait for this sink any more.
func (k *sink) bury() {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	k.dead = true
	k.drop(k.records, errClosed)
	k.buf, k.spare, k.records = nil, nil, 0
	if k.next != nil {
		k.err = errors.Join(k.err, k.next.close())
		k.next = nil
	}
	k.log.room.Broadcast()
}

func (echo) ready(time.Time, *opened) turn { return turn{} }

func (echo) sync() error { return nil }
