// Package eventlog answers: which events are log lines, and which are suppressed?
//
// A Reader writes the events of a Stream to the log. Events that repeat quickly are suppressed after
// a burst, and counted. A failed run and an escaped process are never lost that way: they are listed
// in a line for several.
package eventlog

import (
	"fmt"

	"github.com/rs/zerolog"

	"gophd/internal/event"
	"gophd/internal/logging"
)

// Reader writes events to a log. It may be used by any goroutine, and does not block: the log drops
// rather than waits.
type Reader struct {
	log, echo zerolog.Logger
	fields    bool
	limit     limiter
	failed    failedRuns
	escaped   escapedProcesses
}

// New returns a Reader that writes to log, and to echo what is about the log itself. With fields,
// each line has type and fields of the event; without, its message.
func New(log, echo zerolog.Logger, fields bool) *Reader {
	return &Reader{log: log, echo: echo, fields: fields}
}

// Read writes an event, or suppresses it.
func (r *Reader) Read(e event.Event) {
	switch e.Type {
	case event.TypeRunEnded:
		r.listEscaped(e, func(f fate) bool { return f.job == e.Job && f.run == e.Tick.Number })
		written := r.write(e)
		if e.Repeat == "failure" || e.Repeat == "overrun" {
			r.afterFailure(e, written)
		}
	case event.TypeProcessEscaped:
		if !r.write(e) {
			r.escaped.add(e)
		}
	case event.TypeLogLost, event.TypeLogMisplaced: // stderr may still work when a disk is full
		r.line(r.echo, e, "")
	case event.TypeDump:
		r.dump(e)
	case event.TypeExiting: // the counts would be lost otherwise
		r.listFailed(e.Job)
		r.listEscaped(e, func(fate) bool { return true })
		if counts := r.limit.rest(); counts != "" {
			r.write(event.LogSuppressed(counts))
		}
		r.write(e)
	default:
		r.write(e)
	}
}

// write returns false if the event was suppressed.
func (r *Reader) write(e event.Event) bool {
	if e.Level == event.Never {
		return true
	}
	more := ""
	if e.Repeat != "" {
		skipped, ok := r.limit.allow(e.Repeat, e.Time)
		if !ok {
			return false
		}
		if skipped > 0 {
			more = fmt.Sprintf(" (and %d more like this since the last such line)", skipped)
		}
	}
	r.line(r.log, e, more)
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

// dump writes one line with fields, or a block to read.
func (r *Reader) dump(e event.Event) {
	if r.fields {
		line := r.log.Log()
		for _, v := range e.Dump {
			line.Str(v.Name, v.Text)
		}
		line.Msg(e.Message())
		return
	}
	r.log.Log().Msg("dump of gophd:")
	for _, v := range e.Dump {
		r.log.Log().Msgf("  %-18s %s", v.Name, v.Text)
	}
}
