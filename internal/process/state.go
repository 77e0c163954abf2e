package process

// state is where a Process stands; see the table in doc.go.
type state uint8

const (
	running  state = iota
	stopping       // a signal was sent that asks it to end, KILL is due later
	killing        // KILL was sent, the leader has not ended yet
	leaving        // the leader has ended, others of its group are still there
	purging        // the leader has ended, the others were sent KILL
	draining       // the group is gone, its output is being delivered
	sweeping       // the group is gone, processes that escaped from it are being stopped
	ended          // collected
	handed         // left to the next process, which goes on with it
)

// event is what changes the state.
type event uint8

const (
	stopAsked   event = iota
	nextDue           // the grace of a signal is over, and another follows
	killDue           // the earliest moment of KILL that was asked for, or the end of the courtesy
	leaderEnded       // observed, not collected
	groupGone
	escapeesFound // and they are to be stopped
	swept         // no escaped process is left
	delivered     // every stream has handed over what the group wrote
	left          // to the next process
)

// action is what the owner of the state has to do at a change.
type action uint8

const (
	nothing  action = iota
	ask             // the signal that asks it to end, then CONT, to the group
	next            // the same with the signal that follows
	kill            // KILL to the group
	courtesy        // let the group end by itself for a moment
	drain           // fetch what is left in the pipes
	reap            // collect the leader
	give            // send no more signals
)

// transition is the table of doc.go.
func transition(s state, e event) (state, action) {
	if e == left && s != draining && s < ended {
		return handed, give
	}
	switch s {
	case running:
		switch e {
		case stopAsked:
			return stopping, ask
		case killDue:
			return killing, kill
		case leaderEnded:
			return leaving, courtesy
		}
	case stopping:
		switch e {
		case nextDue:
			return stopping, next
		case killDue:
			return killing, kill
		case leaderEnded:
			return leaving, nothing
		}
	case killing:
		if e == leaderEnded {
			return purging, kill
		}
	case leaving:
		switch e {
		case stopAsked:
			return leaving, ask
		case nextDue:
			return leaving, next
		case killDue:
			return purging, kill
		case groupGone:
			return draining, drain
		}
	case purging:
		if e == groupGone {
			return draining, drain
		}
	case draining:
		switch e {
		case escapeesFound:
			return sweeping, nothing
		case delivered:
			return ended, reap
		}
	case sweeping:
		if e == swept {
			return draining, nothing
		}
	}
	return s, nothing
}
