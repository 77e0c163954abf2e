package event

import (
	"fmt"
	"strings"
	"time"

	"gophd/internal/job"
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

// Exiting says that gophd exits. It gives the reason, unless a graceful stop was requested.
func Exiting(why error) Event {
	return Event{Type: TypeExiting, Level: Info, Err: why,
		message: func(e Event) string { return "exiting" + because(e.Err) }}
}

// Reexecuting says that gophd re-execs: the next event is that of the new process.
func Reexecuting() Event { return Event{Type: TypeReexecuting, Level: Info, Text: "re-executing"} }

// Fatal says that gophd panicked, or a run ended with an exit code in job.fatal_exit_codes.
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

// Problem says that an action of gophd failed. The message says which, and why.
func Problem(err error) Event {
	return Event{Type: TypeProblem, Level: Error, Err: err, message: func(e Event) string { return e.Err.Error() }}
}

// Warning says that something needs attention. The message says what.
func Warning(text string) Event { return Event{Type: TypeProblem, Level: Warn, Text: text} }

// Request says that gophd received a request. The message has its source and the state of gophd.
func Request(what, from, state string) Event {
	return Event{Type: TypeRequest, Level: Info, Text: what + " requested (" + from + ")", State: state,
		message: func(e Event) string {
			return fmt.Sprintf("%s while %s", e.Text, e.State)
		}}
}

// RequestForJob says that gophd received a request for one job. The message has its source.
func RequestForJob(job, what, from string) Event {
	return Event{Type: TypeRequest, Level: Info, Job: job, Text: what + " requested (" + from + ")"}
}

// RequestRejected says that gophd does not serve a request in this state, or why else.
func RequestRejected(what, from, state string, why error) Event {
	if from != "" {
		what += " (" + from + ")"
	}
	if why != nil {
		return Event{Type: TypeRequestRejected, Level: Info, Text: what, Err: why,
			message: func(e Event) string { return fmt.Sprintf("%s rejected: %v", e.Text, e.Err) }}
	}
	return Event{Type: TypeRequestRejected, Level: Info, Text: what, State: state,
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

// ReloadDelayed says that the reload waits. The message has the reason, and the time after which
// the reload is rejected, if there is one.
func ReloadDelayed(most time.Duration, why error) Event {
	return Event{Type: TypeReloadDelayed, Level: Warn, Duration: most, Err: why, message: func(e Event) string {
		if e.Duration == 0 {
			return fmt.Sprintf("reload delayed: %v", e.Err)
		}
		return fmt.Sprintf("reload delayed, %s at most: %v", job.FormatDuration(e.Duration), e.Err)
	}}
}

// ReloadRejected says that gophd does not use the new config or program. The message has the
// reason.
func ReloadRejected(err error) Event {
	return Event{Type: TypeReloadRejected, Level: Error, Err: err, message: func(e Event) string {
		return fmt.Sprintf("reload rejected: %v", e.Err)
	}}
}

// ReloadApplied says that the new process uses the new config. The message lists the settings that
// have changed.
func ReloadApplied(changed []string) Event {
	if len(changed) == 0 {
		return Event{Type: TypeReloadApplied, Level: Debug, Text: "config applied: no setting has changed"}
	}
	return Event{Type: TypeReloadApplied, Level: Info, Count: uint64(len(changed)), Text: strings.Join(changed, ", "),
		message: func(e Event) string {
			return "config applied: changed " + e.Text
		}}
}

// LogReopened says that the log files were opened again. An error says that this failed.
func LogReopened(err error) Event {
	if err != nil {
		return Event{Type: TypeLogReopened, Level: Error, Err: err, message: func(e Event) string {
			return fmt.Sprintf("log files not reopened: %v", e.Err)
		}}
	}
	return Event{Type: TypeLogReopened, Level: Info, Text: "log files reopened"}
}

// LogLost says that lines of a log were lost. The field count is their number since the start. The event
// is about a job if that has a log of its own.
func LogLost(job string, lines uint64, err error) Event {
	return Event{Type: TypeLogLost, Level: Error, Job: job, Count: lines, Err: err, message: func(e Event) string {
		return fmt.Sprintf("the log cannot be written, %d lines lost so far: %v", e.Count, e.Err)
	}}
}

// LogMisplaced says that gophd cannot open, rotate or archive the log file as configured. Lines go
// to the file that is still open.
func LogMisplaced(job string, err error) Event {
	return Event{Type: TypeLogMisplaced, Level: Error, Job: job, Err: err, message: func(e Event) string {
		return fmt.Sprintf("log trouble: %v", e.Err)
	}}
}

// LogSuppressed says that the log has suppressed events. The message has the number of each kind. A
// kind is not always one event type: failure is run.ended, late is run.late or run.ended.
func LogSuppressed(counts string) Event {
	return Event{Type: TypeLogSuppressed, Level: Info, Text: counts,
		message: func(e Event) string { return "suppressed log lines: " + e.Text }}
}

// Dump says that a dump was requested. With log.format json each line of the dump is a field, and
// each of several jobs has a line of its own.
func Dump(variables []Variable) Event {
	return Event{Type: TypeDump, Level: Always, Text: "dump", Dump: variables}
}
