package heartbeat

// State says where an instance stands with its lease. A command may be started in Held only (and only
// if MayStart says so), may run on in Held and Doubtful, must be stopping in Ending, and must be dead
// in every other state.
type State uint8

// The states; doc.go has the table of their changes.
const (
	Seeking  State = iota // nothing yet, or the store cannot be reached
	Standby               // another holds it, we wait
	Proving               // the key is ours, and we wait until nobody else can still be at work
	Held                  // ours
	Doubtful              // still ours, but too little is left to start a run
	Ending                // the grace before the deadline has begun: the command must be stopping
	Out                   // the deadline passed unrenewed; seeking again through the full procedure
	Lost                  // another took it
	Released              // given back, or never to be sought again
	states
)

var stateNames = [states]string{"seeking", "standby", "proving", "held", "doubtful", "ending", "out", "lost", "released"}

func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return "unknown state"
}

// holding says that the lease is ours by the local deadline.
func (s State) holding() bool { return s == Held || s == Doubtful || s == Ending }

// event is what can happen to a lease.
type event uint8

const (
	heard    event = iota // the key has another's value
	missed                // the key is not, or no longer, ours, and nobody else was heard
	claimed               // the key is ours, and the proof has begun
	won                   // proven, and the fence is taken
	ample                 // enough of the lease is left to start a run
	short                 // too little is left to start a run
	late                  // no more than the grace is left
	passed                // nothing is left
	released              // given back
	events
)

var eventNames = [events]string{"heard", "missed", "claimed", "won", "ample", "short", "late", "passed", "released"}

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
