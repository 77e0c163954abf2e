package job

// State is what the loop of a job is doing.
type State uint8

// The states of a job's loop; the table of what happens in which stands in package loop.
const (
	Waiting  State = iota + 1 // for the next tick
	Held                      // a tick is due and may not run yet
	Running                   // the command runs
	Draining                  // the command runs; nothing follows it
	Done                      // the loop has ended
)

// States lists every state, for the tests that walk tables.
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
