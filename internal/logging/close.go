package logging

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Unwritten has lines for one sink that a Log took and did not write.
type Unwritten struct {
	Job     string `json:",omitempty"` // they are for the log of this job
	Echo    bool   `json:",omitempty"` // they are for Echo, not for the file
	Service bool   `json:",omitempty"` // they are in the format of journald or syslog
	Records []byte `json:"-"`          // as they are to be written
	Lines   uint64
	Midway  bool `json:",omitempty"` // Records continues a line whose start is written
}

// Close writes the lines that were taken and closes the file. A sink without progress is given up,
// and the error says so: a regular file after 30 seconds, any other sink after 10, and earlier
// after a SetStopRequests, which may be called during Close. A write(2) that cannot be interrupted
// (a hung disk, a stalled pipe of Echo) keeps its goroutine until it returns. This is the one known
// gap, and only in a process that is about to exit.
func (l *Log) Close() error {
	if !l.startClose(draining) {
		return os.ErrClosed
	}
	var err error
	for _, k := range l.sinks {
		err = errors.Join(err, l.await(k))
	}
	return errors.Join(err, l.finishClose())
}

// CloseFile is Close for the files alone, so that their errors can still be written to Echo.
func (l *Log) CloseFile() (err error) {
	l.mu.Lock()
	l.setStopRequestsLocked(max(l.stopRequests, 1))
	for _, k := range l.sinks {
		k.drain = !k.isEcho()
	}
	l.lastReports()
	l.wakeAll()
	l.mu.Unlock()
	for _, k := range l.sinks {
		if k.drain {
			err = errors.Join(err, l.await(k))
		}
	}
	return err
}

// lastReports starts the sinks that sleep and have not reported their losses. The caller holds mu.
func (l *Log) lastReports() {
	for _, k := range l.sinks {
		if k.asleep && (k.lost > 0 || k.overflow > 0) {
			k.rouse()
		}
	}
}

// Pause stops new writes to regular files, and work on archives. Writes to Echo continue, so that
// gophd can report the pause, except to a regular file with EchoExact. Lines are taken as before.
// Pause does not block.
func (l *Log) Pause() { l.pause(true) }

// Resume ends a Pause.
func (l *Log) Resume() { l.pause(false) }

func (l *Log) pause(yes bool) {
	for _, k := range l.sinks {
		if t := k.file(); t != nil {
			t.archives.pause(yes)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = yes
	l.wakeAll()
}

// Idle is called during a Pause. It returns nil if nothing is active that can hang with a disk.
// Otherwise the error says what is active.
func (l *Log) Idle() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.sinks {
		if t := k.file(); t != nil && !t.archives.idle() {
			return fmt.Errorf("work on the archives of log file %s is still active: check its disk", k.path)
		}
		if k.regular && !k.idle && !k.exited {
			return fmt.Errorf("a write to %s has not returned: check its disk", k.name())
		}
	}
	return nil
}

// Leave and Left are the two steps of the Log in a re-exec. From Leave on no write starts,
// and an active write is interrupted if the target can do that. Lines are still taken, and a Stream
// does not wait for space.
func (l *Log) Leave() {
	l.Pause()
	l.mu.Lock()
	l.leaving = true
	l.wakeAll()
	l.mu.Unlock()
	for _, k := range l.sinks {
		k.interrupt()
	}
}

// Left closes the Log after Leave, and returns the unwritten lines, for the Options of the next
// Log. It waits for an active write. A write to a FIFO or a socket was interrupted and returns. A
// write that cannot be interrupted, to an Echo without a reader, is given up after a second, and
// its lines are lost.
func (l *Log) Left() ([]Unwritten, error) {
	for _, k := range l.sinks {
		for deadline := time.Now().Add(k.interrupt()); !k.isIdle() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	l.mu.Lock()
	var unwritten []Unwritten
	for _, k := range l.sinks {
		if t := k.file(); t != nil {
			t.unsynced.Store(true)
		}
		if k.job != "" && k.records == 0 && len(k.buf) == 0 {
			continue
		}
		unwritten = append(unwritten, Unwritten{
			Job: k.job, Echo: k.isEcho(), Service: k.isService(), Records: k.buf, Lines: k.records, Midway: k.midway,
		})
		k.buf, k.records = nil, 0
	}
	l.mu.Unlock()
	if !l.startClose(closed) {
		return nil, os.ErrClosed
	}
	for _, k := range l.sinks {
		select {
		case <-k.done:
		case <-time.After(k.interrupt()):
		}
	}
	return unwritten, l.finishClose()
}

// startClose leaves the state running. It returns false if that happened before.
func (l *Log) startClose(to state) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != running {
		return false
	}
	l.setStopRequestsLocked(max(l.stopRequests, 1))
	if to == draining {
		l.lastReports()
	}
	l.transition(to)
	return true
}

// await waits until a sink exits. It gives up a sink without progress and returns an error.
func (l *Log) await(k *sink) error {
	for {
		l.mu.Lock()
		wait := k.closeWaitLeft()
		l.mu.Unlock()
		if wait <= 0 {
			break
		}
		select {
		case <-k.done:
			return k.err
		case <-time.After(min(wait, awaitInterval)): // a new write may have less time
		case <-l.stopsChanged:
		}
	}
	l.mu.Lock()
	k.quit = true
	l.wakeAll()
	l.mu.Unlock()
	select {
	case <-k.done:
	case <-time.After(k.interrupt()):
	}
	return fmt.Errorf("%s accepted no more data: its last lines are lost: check its disk or its reader", k.name())
}

// finishClose ends the Log. The lines of a sink that has not exited are lost.
func (l *Log) finishClose() error {
	l.mu.Lock()
	l.transition(closed)
	l.mu.Unlock()
	var err error
	if l.file != nil && l.file.crash.Load() {
		err = ignoreCrashes()
	}
	stalled := false
	for _, k := range l.sinks {
		select {
		case <-k.done:
			if k.isEcho() {
				deadline(k.target, time.Time{}) // the caller may still write to Echo
			}
		default:
			stalled = true
			k.abandon()
		}
	}
	if !stalled {
		l.writers.Wait()
	}
	return err
}

// transition is the only place where the state changes.
func (l *Log) transition(to state) {
	l.state = to
	l.wakeAll()
}

// SetStopRequests sets how often a stop of gophd was requested. That limits how long the command
// and Close wait for a sink that makes no progress, whatever OnFull says:
//   - 0: no stop is requested, or the stop was canceled; OnFull decides
//   - 1: 30 seconds for a regular file, 10 for any other sink
//   - 2: 10 seconds
//   - 3 or more: they do not wait
//
// SetStopRequests does not block.
func (l *Log) SetStopRequests(times int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setStopRequestsLocked(times)
}

// setStopRequestsLocked is SetStopRequests for a caller that holds mu.
func (l *Log) setStopRequestsLocked(times int) {
	if l.stopRequests == 0 && times > 0 {
		l.stopSince = time.Now()
	}
	l.stopRequests = times
	l.space.Broadcast()
	select {
	case l.stopsChanged <- struct{}{}:
	default:
	}
}
