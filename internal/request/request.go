// Package request answers: what can be requested from a running gophd, and where does it come from?
//
// A Request is for the daemon, and is the same from each source: a signal, the uptime limit, the
// socket. A ForJob is for one job, and comes from the socket. This package decides nothing: the daemon's table says what a request does in each state.
package request

import "syscall"

// Verb is what is requested.
type Verb uint8

// The verbs. A repeated Stop is a forced stop: see the daemon's table.
const (
	Stop   Verb = iota + 1 // stop gracefully
	Reload                 // read the config and re-exec in place
	RunNow                 // run now, without waiting for the tick
	Dump                   // log the state
	Reopen                 // open the log files again
)

// Verbs lists every verb, for tests that go through tables.
var Verbs = [...]Verb{Stop, Reload, RunNow, Dump, Reopen}

func (v Verb) String() string {
	switch v {
	case Stop:
		return "stop"
	case Reload:
		return "reload"
	case RunNow:
		return "run now"
	case Dump:
		return "dump"
	case Reopen:
		return "reopen"
	}
	return "unknown request"
}

// Request is one verb and its source as the log names it, for example "signal HUP".
type Request struct {
	Verb Verb
	From string
}

func (r Request) String() string { return r.Verb.String() + " (" + r.From + ")" }

// JobVerb is what is requested for a job.
type JobVerb uint8

// The verbs for a job.
const (
	Start   JobVerb = iota + 1 // run now; a job that was stopped is active again
	Halt                       // no run starts by itself, until Start, Resume or a new start of the daemon
	StopRun                    // stop the active runs
	Pause                      // no run starts by itself, until Resume
	Resume                     // ends Pause and Halt
	Skip                       // skip the next Count ticks
	Restart                    // stop the run of a service and start it again
	Signal                     // send a signal to the active runs
)

// ForJob is a request for one job.
type ForJob struct {
	Verb   JobVerb
	Job    string
	From   string         // its source as the log names it
	Args   []string       // Start: added to the command
	Count  int            // Skip
	Signal syscall.Signal // Signal
}

func (v JobVerb) String() string {
	return [...]string{"unknown", "start", "stop", "stop of the run", "pause", "resume", "skip", "restart", "signal"}[v]
}

// IsKept reports whether what the verb requests outlives the daemon.
func (v JobVerb) IsKept() bool { return v == Pause || v == Resume || v == Skip }

func (r ForJob) String() string { return r.Verb.String() }

// RejectedError is why a request is not carried out in the state of the daemon or of the job.
type RejectedError struct{ Why string }

func (e *RejectedError) Error() string { return e.Why }

// UnknownJobError says that the daemon has no job of that name.
type UnknownJobError struct{ Name string }

func (e *UnknownJobError) Error() string { return "there is no job " + e.Name }
