// Package order answers: what may be asked of a running gophd, and who asked?
//
// It is the verbs of the program, one value for each, whatever road they came by: a signal, the
// uptime limit, later a socket. It decides nothing: the daemon's table says what an order
// means in which state.
package order

// Verb is what is asked.
type Verb uint8

// The verbs. Stop, asked again, insists: see the daemon's table.
const (
	Stop    Verb = iota + 1 // end in order
	Restart                 // become a new image of the program, in place
	Wake                    // run now, do not wait for the tick
	Dump                    // say what is going on
	Reopen                  // open the log files anew
)

// Verbs lists every verb, for the tests that walk tables.
var Verbs = [...]Verb{Stop, Restart, Wake, Dump, Reopen}

func (v Verb) String() string {
	switch v {
	case Stop:
		return "stop"
	case Restart:
		return "restart"
	case Wake:
		return "wake"
	case Dump:
		return "dump"
	case Reopen:
		return "reopen"
	}
	return "unknown order"
}

// Order is one verb and its sender in words for the log, as in "signal HUP".
type Order struct {
	Verb Verb
	From string
}

func (o Order) String() string { return o.Verb.String() + " (" + o.From + ")" }
