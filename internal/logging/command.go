package logging

import (
	"bytes"
	"io"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// Capture returns a function that opens a Stream for the named stream ("stdout", "stderr") of the
// command with the given PID.
func (l *Log) Capture(name string) func(pid int) io.WriteCloser { return l.Job("").Capture(name) }

// Job is a Log for the lines of one job: its own, or that of several jobs, in which they begin with its
// name.
type Job struct {
	log   *Log
	name  string
	sinks []*sink
}

// Job returns the Log for one of several jobs; "" for the only one, and for the daemon itself.
func (l *Log) Job(name string) Job {
	if own, ok := l.own[name]; ok {
		return Job{l, name, own}
	}
	return Job{l, name, l.common}
}

// Own reports whether the job has a log of its own.
func (j Job) Own() bool { return j.log.own[j.name] != nil }

// Path is Log.Path for the job's log.
func (j Job) Path() string {
	if len(j.sinks) == 0 {
		return ""
	}
	j.log.mu.Lock()
	defer j.log.mu.Unlock()
	return j.sinks[0].path
}

// Logger is Log.Logger for lines about the job.
func (j Job) Logger() zerolog.Logger {
	return zerolog.New(own{job: j.name, sinks: j.sinks}).Level(j.log.level)
}

// FileLogger is Logger without Echo.
func (j Job) FileLogger() zerolog.Logger {
	return zerolog.New(own{job: j.name, sinks: j.sinks, file: true}).Level(j.log.level)
}

// EchoLogger is Log.EchoLogger for lines about the log of the job.
func (j Job) EchoLogger() zerolog.Logger {
	return zerolog.New(own{job: j.name, sinks: j.sinks, echo: true})
}

// CommonLogger returns a logger for the lines about a job with a log of its own that the log of the
// daemon has too. Without a log of its own nothing is written.
func (j Job) CommonLogger() zerolog.Logger {
	if !j.Own() {
		return zerolog.Nop()
	}
	return zerolog.New(own{job: j.name, sinks: j.log.common, file: true}).Level(j.log.level)
}

// Capture returns a function that opens a Stream for the named stream of the job's command with the
// given PID.
func (j Job) Capture(name string) func(pid int) io.WriteCloser {
	return func(pid int) io.WriteCloser { return j.stream(name, pid) }
}

func (j Job) stream(name string, pid int) *Stream {
	s := &Stream{log: j.log, job: j.name, name: name, pid: pid, busy: make(chan struct{}, 1)}
	for _, k := range j.sinks {
		if !k.command {
			continue
		}
		label := k.label(j.name)
		i := slices.IndexFunc(s.forms, func(r rendering) bool { return r.format == k.format && r.job == label })
		if i < 0 {
			i = len(s.forms)
			s.forms = append(s.forms, rendering{format: k.format, job: label, head: k.format.head(label, name, pid)})
		}
		s.sinks = append(s.sinks, destination{k, i})
	}
	return s
}

// destination is a sink for the lines of a stream.
type destination struct {
	*sink
	form int // index of its rendering
}

// Show writes text to Echo unchanged, between two lines. It adds a newline if there is none at the
// end. It never blocks: text that does not fit is dropped completely, and its lines are counted.
func (l *Log) Show(text []byte) {
	for _, k := range l.common {
		if k.isEcho() && len(text) > 0 {
			if text[len(text)-1] != '\n' {
				text = append(slices.Clip(text), '\n')
			}
			k.offer(text, uint64(bytes.Count(text, []byte{'\n'})))
		}
	}
}

// takeCommand waits for space in the sinks of a stream and then adds its records.
func (l *Log) takeCommand(s *Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == running && !l.leaving {
		wait, full := s.full()
		if !full {
			break
		}
		s.rouse()
		l.waitForSpace(wait)
	}
	for _, k := range s.sinks {
		out := s.forms[k.form].out
		switch {
		case l.state != running || k.exited:
			k.drop(s.records, errClosed)
		case k.full(s.job, len(out)) && !l.leaving:
			k.drop(s.records, errStuck)
			k.overflow += s.records
		default:
			k.takeShare(s.job, len(out))
			k.buf = append(k.buf, out...)
			k.records += s.records
		}
	}
	s.rouse()
}

// full reports whether to wait for a sink, and the maximum wait; 0 is no limit.
func (s *Stream) full() (wait time.Duration, full bool) {
	for _, k := range s.sinks {
		if !k.full(s.job, len(s.forms[k.form].out)) {
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

// rouse rouses the sinks that have pending data. The caller holds Log.mu.
func (s *Stream) rouse() {
	for _, k := range s.sinks {
		if len(k.buf) > 0 {
			k.rouse()
		}
	}
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
