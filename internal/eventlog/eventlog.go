// Package eventlog answers: which events are log lines, and which are suppressed?
//
// A Reader writes the events of a Stream to the log. Events that repeat quickly are suppressed
// after a burst, and counted. Failed runs and the escaped processes of a run are never lost that way: one
// line lists several of them.
package eventlog

import (
	"fmt"
	"slices"

	"github.com/rs/zerolog"

	"gophd/internal/event"
	"gophd/internal/logging"
)

// Reader writes events to a log. Any goroutine may use it. It does not block: the log drops lines
// and does not wait.
type Reader struct {
	Loggers
	fields  bool
	many    bool // it is that of a daemon with several jobs, see Jobs
	limit   limiter
	failed  failedRuns
	escaped escapedProcesses
}

// Loggers are where a Reader writes.
type Loggers struct {
	Failures zerolog.Logger // failures and dumps
	Rest     zerolog.Logger // all other events
	Echo     zerolog.Logger // events about the log itself
	Daemon   zerolog.Logger // of a job with a log of its own: the events that the log of the daemon has too
}

// New returns a Reader. With fields, each line has the type and the fields of the event; without, only
// its message.
func New(to Loggers, fields bool) *Reader { return &Reader{Loggers: to, fields: fields} }

// Read writes or suppresses an event.
func (r *Reader) Read(e event.Event) {
	switch e.Type {
	case event.TypeRunEnded:
		r.listEscaped(e, func(o outcome) bool { return o.job == e.Job && o.run == e.Tick.Number })
		written := r.write(e)
		if e.Repeat == "failure" || e.Repeat == "late" {
			r.afterFailure(e, written)
		}
	case event.TypeProcessEscaped:
		if !r.write(e) && e.Tick.Number > 0 {
			r.escaped.add(e)
		}
	case event.TypeLogLost, event.TypeLogMisplaced: // stderr may still work when a disk is full
		r.line(r.Echo, e, "")
	case event.TypeDump:
		r.dump(e)
	case event.TypeExiting, event.TypeReexecuting:
		r.finish(e)
		r.write(e)
	default:
		r.write(e)
	}
}

// finish lists and counts what was suppressed, before the process ends.
func (r *Reader) finish(e event.Event) {
	r.listFailed(e.Job)
	r.listEscaped(e, func(outcome) bool { return true })
	if counts := r.limit.rest(); counts != "" {
		r.write(event.LogSuppressed(counts))
	}
}

// Jobs writes the events of several jobs. Each has a Reader of its own, so that many events of one job
// suppress none of another.
type Jobs struct {
	daemon *Reader
	jobs   map[string]*Reader
	names  []string
}

// Jobs returns the readers of these jobs. r writes all other events.
func (r *Reader) Jobs(names []string, to func(job string) Loggers) *Jobs {
	r.many = true
	j := &Jobs{daemon: r, jobs: map[string]*Reader{}, names: names}
	for _, name := range names {
		j.jobs[name] = New(to(name), r.fields)
	}
	return j
}

// ofDaemon are the events about a job that the log of the daemon has too: which jobs there are, and
// what the log of a job cannot report itself.
var ofDaemon = []event.Type{event.TypeJobAdded, event.TypeJobRemoved, event.TypeJobChanged, event.TypeJobFailed,
	event.TypeLogLost, event.TypeLogMisplaced}

// Read writes or suppresses an event.
func (j *Jobs) Read(e event.Event) {
	if r := j.jobs[e.Job]; r != nil {
		r.Read(e)
		if slices.Contains(ofDaemon, e.Type) {
			r.line(r.Daemon, e, "")
		}
		return
	}
	if e.Type == event.TypeExiting || e.Type == event.TypeReexecuting {
		for _, name := range j.names {
			own := e
			own.Job = name
			j.jobs[name].finish(own)
		}
	}
	j.daemon.Read(e)
}

// write returns false if the event was suppressed.
func (r *Reader) write(e event.Event) bool {
	if e.Level == event.Never {
		return true
	}
	more := ""
	if e.Repeat != "" {
		suppressed, ok := r.limit.allow(e.Repeat, e.Time)
		if !ok {
			return false
		}
		if suppressed > 0 {
			more = fmt.Sprintf(" (and %d more like this since the last such line)", suppressed)
		}
	}
	to := r.Rest
	if e.Failure() {
		to = r.Failures
	}
	r.line(to, e, more)
	return true
}

var levels = [...]zerolog.Level{
	event.Debug: zerolog.DebugLevel, event.Info: zerolog.InfoLevel, event.Warn: zerolog.WarnLevel,
	event.Error: zerolog.ErrorLevel, event.Always: zerolog.NoLevel,
}

func (r *Reader) line(to zerolog.Logger, e event.Event, more string) {
	line := to.WithLevel(levels[e.Level])
	if !line.Enabled() {
		return
	}
	if r.fields {
		line.Str(logging.EventField, string(e.Type))
		e.Fields(func(name string, value any) { line.Interface(name, value) })
	} else if stack := e.Stack(); stack != "" {
		line.Str("stack", stack)
	}
	line.Msg(e.Message() + more)
}

// dump writes one line with all values as fields, or one line for each value. Each of several jobs has
// a line of its own with fields, because a parser keeps one field of a name only. For the same reason
// what is in every line is left out.
func (r *Reader) dump(e event.Event) {
	if r.fields {
		line := r.Failures.Log()
		for _, v := range e.Dump {
			switch {
			case v.Name == "pid", v.Name == "job" && !r.many:
				continue
			case v.Name == "job":
				line.Msg(e.Message())
				line = r.Failures.Log()
			}
			line.Str(v.Name, v.Text)
		}
		line.Msg(e.Message())
		return
	}
	r.Failures.Log().Msg("dump of gophd:")
	for _, v := range e.Dump {
		r.Failures.Log().Msgf("  %-18s %s", v.Name, v.Text)
	}
}
