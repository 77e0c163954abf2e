// Package request answers: what can be requested from a running gophd, and where does it come from?
//
// A request has a verb, and is the same from each source: a signal, the uptime limit, later a
// socket. This package decides nothing: the daemon's table says what a request does in each state.
package request

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
