package logging

import (
	"bytes"
	"io"
	"slices"
	"time"
)

// Capture returns the opener of Streams for one stream ("stdout", "stderr") of a command with the given
// PID.
func (l *Log) Capture(name string) func(pid int) io.WriteCloser {
	return func(pid int) io.WriteCloser { return l.Stream(name, pid, nil) }
}

// Show writes text to Echo as it is, between two lines, and with a newline after it if it has none. It never
// blocks: text that finds no room is dropped as a whole, and its lines are counted.
func (l *Log) Show(text []byte) {
	for _, k := range l.sinks {
		if k.isEcho() && len(text) > 0 {
			if text[len(text)-1] != '\n' {
				text = append(slices.Clip(text), '\n')
			}
			k.offer(text, uint64(bytes.Count(text, []byte{'\n'})))
		}
	}
}

// takeCommand puts records of the command into the sinks, after having waited for room.
func (l *Log) takeCommand(forms []rendering, records uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == running && !l.leaving {
		left, full := l.full()
		if !full {
			break
		}
		l.wake()
		l.waitForRoom(left)
	}
	for _, k := range l.sinks {
		switch {
		case !k.command:
		case l.state != running || k.dead:
			k.drop(records, errClosed)
		case k.full() && !l.leaving:
			k.drop(records, errStuck)
			k.over += records
		default:
			k.buf = append(k.buf, forms[k.form].out...)
			k.records += records
		}
	}
	l.wake()
}

// full says whether there is a sink to be waited for, and for how long at most; 0 is without limit.
func (l *Log) full() (left time.Duration, full bool) {
	for _, k := range l.sinks {
		if !k.full() {
			continue
		}
		switch d := k.patienceLeft(); {
		case d < 0:
			return 0, true
		case d > 0:
			left, full = max(left, d), true
		}
	}
	return left, full
}

// waitForRoom waits for a sink to take its buffer, for so long at most; 0 is without limit.
func (l *Log) waitForRoom(most time.Duration) {
	if most > 0 {
		over := time.AfterFunc(most, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.room.Broadcast()
		})
		defer over.Stop()
	}
	l.room.Wait()
}

// wake sends the writers to work. The caller holds mu.
func (l *Log) wake() {
	for _, k := range l.sinks {
		if len(k.buf) > 0 {
			k.wake.Signal()
		}
	}
}
