package event

import (
	"fmt"
	"strings"
	"time"
)

// The types of events about gophd. A type process.* is about gophd's own process, except for
// process.escaped and process.escaped_more (run.go): those are about processes of a run.
const (
	TypeStarted         Type = "process.started"
	TypeResumed         Type = "process.resumed"
	TypeNotResumed      Type = "process.not_resumed"
	TypeExiting         Type = "process.exiting"
	TypeReexecuting     Type = "process.reexecuting"
	TypeFatal           Type = "process.fatal"
	TypeState           Type = "process.state"
	TypeProblem         Type = "process.problem"
	TypeRequest         Type = "request.received"
	TypeRequestRejected Type = "request.rejected"
	TypeReloadValidated Type = "reload.validated"
	TypeReloadDelayed   Type = "reload.delayed"
	TypeReloadRejected  Type = "reload.rejected"
	TypeReloadApplied   Type = "reload.applied"
	TypeLogReopened     Type = "log.reopened"
	TypeLogLost         Type = "log.lines_lost"
	TypeLogMisplaced    Type = "log.misplaced"
	TypeLogSuppressed   Type = "log.suppressed"
	TypeDump            Type = "dump"
)

// Started says that gophd has started and holds the local lock.
func Started(version string, pid int) Event {
	return Event{Type: TypeStarted, Level: Info, Text: fmt.Sprintf("gophd %s started, pid %d", version, pid)}
}

// Resumed says that the new process has started after a re-exec.
func Resumed(version string, pid int) Event {
	return Event{Type: TypeResumed, Level: Info,
		Text: fmt.Sprintf("resumed after re-exec, gophd %s, pid %d", version, pid)}
}

// NotResumed says that the new process cannot use what the old one handed off.
func NotResumed(err error) Event {
	return Event{Type: TypeNotResumed, Level: Error, Err: err, message: func(e Event) string {
		return fmt.Sprintf("cannot resume after re-exec: %v", e.Err)
	}}
}

// Exiting says that gophd exits, and why if that was not requested.
func Exiting(why error) Event {
	return Event{Type: TypeExiting, Level: Info, Err: why,
		message: func(e Event) string { return "exiting" + because(e.Err) }}
}

// Reexecuting says that gophd re-execs: the next event is that of the new process.
func Reexecuting() Event { return Event{Type: TypeReexecuting, Level: Info, Text: "re-executing"} }

// Fatal says that gophd itself failed: a panic, or a broken contract.
func Fatal(err error) Event {
	return Event{Type: TypeFatal, Level: Error, Err: err,
		message: func(e Event) string { return fmt.Sprintf("fatal error: %v", e.Err) }}
}

// State says that the daemon's state changed.
func State(from, to string) Event {
	return Event{Type: TypeState, Level: Debug, State: to, Text: from, message: func(e Event) string {
		return fmt.Sprintf("state %s, was %s", e.State, e.Text)
	}}
}

// Problem says that something failed that has no event of its own.
func Problem(err error) Event {
	return Event{Type: TypeProblem, Level: Error, Err: err, message: func(e Event) string { return e.Err.Error() }}
}

// Warning says that something may go wrong.
func Warning(text string) Event { return Event{Type: TypeProblem, Level: Warn, Text: text} }

// Request says that a request came while the daemon was in that state.
func Request(what, from, state string) Event {
	return Event{Type: TypeRequest, Level: Info, Text: what + " requested (" + from + ")", State: state,
		message: func(e Event) string {
			return fmt.Sprintf("%s while %s", e.Text, e.State)
		}}
}

// RequestRejected says that a request cannot be served in that state.
func RequestRejected(what, from, state string) Event {
	return Event{Type: TypeRequestRejected, Level: Info, Text: what + " (" + from + ")", State: state,
		message: func(e Event) string {
			return fmt.Sprintf("%s rejected: gophd is %s", e.Text, e.State)
		}}
}

// ReloadValidated says that the new program can start with the new config.
func ReloadValidated() Event {
	return Event{Type: TypeReloadValidated, Level: Debug, message: func(Event) string {
		return "the new program and config are valid"
	}}
}

// ReloadDelayed says that the reload waits, why, and how long at most before it is rejected. 0
// means no limit.
func ReloadDelayed(most time.Duration, why error) Event {
	return Event{Type: TypeReloadDelayed, Level: Warn, Duration: most, Err: why, message: func(e Event) string {
		if e.Duration == 0 {
			return fmt.Sprintf("reload delayed: %v", e.Err)
		}
		return fmt.Sprintf("reload delayed, %s at most: %v", e.Duration, e.Err)
	}}
}

// ReloadRejected says that the new config or program is not used, and why.
func ReloadRejected(err error) Event {
	return Event{Type: TypeReloadRejected, Level: Error, Err: err, message: func(e Event) string {
		return fmt.Sprintf("reload rejected: %v", e.Err)
	}}
}

// ReloadApplied says that the new process uses the new config, and which settings have changed.
func ReloadApplied(changed []string) Event {
	if len(changed) == 0 {
		return Event{Type: TypeReloadApplied, Level: Debug, Text: "config applied: no setting has changed"}
	}
	return Event{Type: TypeReloadApplied, Level: Info, Count: uint64(len(changed)), Text: strings.Join(changed, ", "),
		message: func(e Event) string {
			return "config applied: changed " + e.Text
		}}
}

// LogReopened says that the log files were opened again, or could not be.
func LogReopened(err error) Event {
	if err != nil {
		return Event{Type: TypeLogReopened, Level: Error, Err: err, message: func(e Event) string {
			return fmt.Sprintf("log files not reopened: %v", e.Err)
		}}
	}
	return Event{Type: TypeLogReopened, Level: Info, Text: "log files reopened"}
}

// LogLost says that log lines were lost. The field count is their number since the start.
func LogLost(lines uint64, err error) Event {
	return Event{Type: TypeLogLost, Level: Error, Count: lines, Err: err, message: func(e Event) string {
		return fmt.Sprintf("the log cannot be written, %d lines lost so far: %v", e.Count, e.Err)
	}}
}

// LogMisplaced says that the log is not in the file of its name.
func LogMisplaced(err error) Event {
	return Event{Type: TypeLogMisplaced, Level: Error, Err: err, message: func(e Event) string {
		return fmt.Sprintf("the log is written to another file: %v", e.Err)
	}}
}

// LogSuppressed says that the log has suppressed events, and how many of each kind.
func LogSuppressed(counts string) Event {
	return Event{Type: TypeLogSuppressed, Level: Info, Text: counts,
		message: func(e Event) string { return "suppressed log lines: " + e.Text }}
}

// Dump says that a dump was requested. With log.format json each line of the dump is a field.
func Dump(variables []Variable) Event {
	return Event{Type: TypeDump, Level: Always, Text: "dump", Dump: variables}
}
