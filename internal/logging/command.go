package logging

import (
	"bytes"
	"io"
	"slices"
	"time"
)

// Capture returns a function that opens a Stream for the named stream ("stdout", "stderr") of the
// command with the given PID.
func (l *Log) Capture(name string) func(pid int) io.WriteCloser { return l.Job("").Capture(name) }

// Job is a Log for the lines of one job. If the log is that of several jobs, they begin with its name.
type Job struct {
	log  *Log
	name string
}

// Job returns the Log for one of several jobs; "" for the only one.
func (l *Log) Job(name string) Job { return Job{l, name} }

// Capture returns a function that opens a Stream for the named stream of the job's command with the
// given PID.
func (j Job) Capture(name string) func(pid int) io.WriteCloser {
	return func(pid int) io.WriteCloser { return j.log.stream(j.name, name, pid) }
}

// Show writes text to Echo unchanged, between two lines. It adds a newline if there is none at the
// end. It never blocks: text that does not fit is dropped completely, and its lines are counted.
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

// takeCommand waits for space in the sinks and then adds the command's records.
func (l *Log) takeCommand(forms []rendering, records uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == running && !l.leaving {
		wait, full := l.full()
		if !full {
			break
		}
		l.wake()
		l.waitForSpace(wait)
	}
	for _, k := range l.sinks {
		switch {
		case !k.command:
		case l.state != running || k.exited:
			k.drop(records, errClosed)
		case k.full() && !l.leaving:
			k.drop(records, errStuck)
			k.overflow += records
		default:
			k.buf = append(k.buf, forms[k.form].out...)
			k.records += records
		}
	}
	l.wake()
}

// full reports whether to wait for a sink, and the maximum wait; 0 is no limit.
func (l *Log) full() (wait time.Duration, full bool) {
	for _, k := range l.sinks {
		if !k.full() {
			continue
		}
		switch d := k.commandWaitLeft(); {
		case d < 0:
			return 0, true
		case d > 0:
			wait, full = max(wait, d), true
		}
	}
	return wait, full
}

// waitForSpace waits until a sink takes its buffer, for at most the given time; 0 is no limit.
func (l *Log) waitForSpace(most time.Duration) {
	if most > 0 {
		timer := time.AfterFunc(most, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.space.Broadcast()
		})
		defer timer.Stop()
	}
	l.space.Wait()
}

// wake wakes the writers that have pending data. The caller holds mu.
func (l *Log) wake() {
	for _, k := range l.sinks {
		if len(k.buf) > 0 {
			k.wake.Signal()
		}
	}
}
