package job

// State is the state of a job's loop.
type State uint8

// The states of a job's loop. Package loop has the table of transitions.
const (
	Waiting  State = iota + 1 // waiting for the next tick
	Held                      // a tick is due and may not run yet
	Running                   // the command is running
	Draining                  // the command is running, and no run follows
	Done                      // the loop has ended
)

// States lists every state, for tests of tables.
var States = [...]State{Waiting, Held, Running, Draining, Done}

func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Held:
		return "held"
	case Running:
		return "running"
	case Draining:
		return "draining"
	case Done:
		return "done"
	}
	return "starting"
}
