package logging

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Left is what a Log had taken for one place and not written.
type Left struct {
	Echo    bool `json:",omitempty"` // it was for Echo, and not for the file
	Service bool `json:",omitempty"` // it was for journald or syslog, which understand no other format
	Records []byte
	Lines   uint64
	Midway  bool `json:",omitempty"` // Records goes on in the middle of a line whose beginning is written
}

// Close writes what was taken and closes the file. What does not get on is given up, and that is said: a regular file
// after 30 seconds without any progress, all else after 10, and earlier after a Hurry, which may come meanwhile. A
// write(2) that cannot be called back (a hung disk, a stuck pipe of Echo's) keeps its goroutine until it returns; this
// is the one known gap, for a process that ends.
func (l *Log) Close() error {
	if !l.end(draining) {
		return os.ErrClosed
	}
	var err error
	for _, k := range l.sinks {
		err = errors.Join(err, l.await(k))
	}
	return errors.Join(err, l.closed())
}

// CloseFile is Close for the file alone: what Echo is to be told of that can still be said.
func (l *Log) CloseFile() error {
	if len(l.sinks) == 0 {
		return nil
	}
	k := l.sinks[0]
	if k.isEcho() {
		return nil
	}
	l.mu.Lock()
	k.drain = true
	l.hasten(max(l.hurry, 1))
	l.look()
	l.mu.Unlock()
	return l.await(k)
}

// Pause lets no more writes to a regular file begin, or to its archives; to Echo they do, for the log's own word on the
// pause, but for an exact Echo. Lines are taken as ever. It does not block.
func (l *Log) Pause() { l.pause(true) }

// Resume ends a Pause.
func (l *Log) Resume() { l.pause(false) }

func (l *Log) pause(yes bool) {
	if l.file != nil {
		l.file.archives.pause(yes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = yes
	l.look()
}

// Idle returns nil if in a Pause nothing is under way any more that could hang with a disk, and else an error that
// says what is.
func (l *Log) Idle() error {
	if l.file != nil && !l.file.archives.idle() {
		return fmt.Errorf("work on the archives of log file %s has not ended: check its disk", l.Path())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.sinks {
		if k.regular && !k.idle && !k.dead {
			return fmt.Errorf("a write to %s has not returned: check its disk", k.name())
		}
	}
	return nil
}

// Leave is for a program that execs its successor: from now on no write begins, and those that can be called back are.
// A Stream never waits for room any more.
func (l *Log) Leave() {
	l.Pause()
	l.mu.Lock()
	l.leaving = true
	l.look()
	l.mu.Unlock()
	for _, k := range l.sinks {
		k.callBack()
	}
}

// Left closes the Log, after a Leave, and returns what it has not written, for the Options of its successor. It blocks
// for a write that is under way: one to a FIFO or a socket has been called back, and returns; one that cannot be, to an
// Echo that nobody reads, is given up after a second, and what it has is lost.
func (l *Log) Left() ([]Left, error) {
	for _, k := range l.sinks {
		for end := time.Now().Add(k.callBack()); !k.rests() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	if l.file != nil {
		l.file.unsynced.Store(true)
	}
	l.mu.Lock()
	var left []Left
	for _, k := range l.sinks {
		left = append(left, Left{Echo: k.isEcho(), Service: k.isService(), Records: k.buf, Lines: k.records, Midway: k.midway})
		k.buf, k.records = nil, 0
	}
	l.mu.Unlock()
	if !l.end(closed) {
		return nil, os.ErrClosed
	}
	for _, k := range l.sinks {
		select {
		case <-k.done:
		case <-time.After(k.callBack()):
		}
	}
	return left, l.closed()
}

// end begins the end, once.
func (l *Log) end(to state) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != running {
		return false
	}
	l.hasten(max(l.hurry, 1))
	l.transition(to)
	return true
}

// await waits for a sink that is to end, and gives it up when it does not get on; the error says so.
func (l *Log) await(k *sink) error {
	for {
		l.mu.Lock()
		left := k.endLeft()
		l.mu.Unlock()
		if left <= 0 {
			break
		}
		select {
		case <-k.done:
			return k.err
		case <-time.After(min(left, awaitTick)): // a write that begins meanwhile may have less
		case <-l.hasted:
		}
	}
	l.mu.Lock()
	k.quit = true
	l.look()
	l.mu.Unlock()
	select {
	case <-k.done:
	case <-time.After(k.callBack()):
	}
	return fmt.Errorf("%s took nothing any more: its last lines are lost: free its reader or its disk", k.name())
}

// closed is the end of the Log. What a sink has that has not ended by now is lost.
func (l *Log) closed() error {
	l.mu.Lock()
	l.transition(closed)
	l.mu.Unlock()
	var err error
	if l.file != nil && l.file.crash.Load() {
		err = ignoreCrashes()
	}
	stuck := false
	for _, k := range l.sinks {
		select {
		case <-k.done:
			if k.isEcho() {
				deadline(k.target, time.Time{}) // it is the caller's, and he may want to write to it
			}
		default:
			stuck = true
			k.leave()
		}
	}
	if !stuck {
		l.writers.Wait()
	}
	return err
}

// transition is the only place where the state changes.
func (l *Log) transition(to state) {
	l.state = to
	l.look()
}

// Hurry is for a program that is about to end, and has been told so that many times: 0 takes it back. After the first
// time a sink that does not get on keeps the command and Close waiting for 30 seconds if it is a regular file and for 10
// if not, whatever OnFull says; after the second for 10; after the third not at all. It does not block.
func (l *Log) Hurry(times int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hasten(times)
}

// hasten is Hurry for who has the lock.
func (l *Log) hasten(times int) {
	if l.hurry == 0 && times > 0 {
		l.hurried = time.Now()
	}
	l.hurry = times
	l.room.Broadcast()
	select {
	case l.hasted <- struct{}{}:
	default:
	}
}
