package heartbeat

// State is the state of an instance's lease. A command may start in Held only, and only if MayStart
// returns true. It may continue in Held and Doubtful, and must be stopping in Ending and Lost. It
// must be dead in every other state.
type State uint8

// The states; doc.go has the table of their changes.
const (
	Seeking  State = iota // nothing claimed yet, or the store cannot be reached
	Standby               // another holds the lease; this instance waits
	Proving               // the key is ours; the instance waits until no other can still be at work
	Held                  // the lease is ours
	Doubtful              // still ours, but too little is left to start a run
	Ending                // the grace before the deadline has started: the command must be stopping
	Out                   // the lease expired; the full procedure has started again
	Lost                  // another instance took the lease
	Released              // released, and not sought again
	states
)

var stateNames = [states]string{
	"seeking", "standby", "proving", "held", "doubtful", "ending", "out", "lost", "released",
}

func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return "unknown state"
}

// Holding returns true if the lease is ours by the local deadline.
func (s State) Holding() bool { return s == Held || s == Doubtful || s == Ending }

// event is what can happen to a lease.
type event uint8

const (
	taken    event = iota // the key has another's value
	missed                // the full procedure has to start again, or waits for an absent key; see doc.go
	claimed               // the key is ours, and the proof has started
	acquired              // the proof is complete, and the fencing token is written
	ample                 // enough of the lease is left to start a run
	short                 // too little is left to start a run
	late                  // no more than the grace is left
	expired               // nothing is left
	released              // the lease was released
	events
)

var eventNames = [events]string{
	"taken", "missed", "claimed", "acquired", "ample", "short", "late", "expired", "released",
}

// next is the table of doc.go.
var next = [states][events]State{
	Seeking:  {Standby, Seeking, Proving, Held, Seeking, Seeking, Seeking, Seeking, Released},
	Standby:  {Standby, Seeking, Proving, Held, Standby, Standby, Standby, Standby, Released},
	Proving:  {Standby, Seeking, Proving, Held, Proving, Proving, Proving, Proving, Released},
	Held:     {Lost, Held, Held, Held, Held, Doubtful, Ending, Out, Released},
	Doubtful: {Lost, Doubtful, Doubtful, Held, Held, Doubtful, Ending, Out, Released},
	Ending:   {Lost, Ending, Ending, Held, Held, Ending, Ending, Out, Released},
	Out:      {Lost, Out, Proving, Held, Out, Out, Out, Out, Released},
	Lost:     {Standby, Seeking, Proving, Held, Lost, Lost, Lost, Lost, Released},
	Released: {Released, Released, Released, Released, Released, Released, Released, Released, Released},
}
