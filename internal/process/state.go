package process

// state is the state of a Process; see the table in doc.go.
type state uint8

const (
	running     state = iota
	stopping          // a stop signal was sent, KILL is due later
	killing           // KILL was sent, the leader has not exited yet
	lingering         // the leader has exited, others of its group are still alive
	killingRest       // the leader has exited, the others were sent KILL
	draining          // the group is gone, its output is being delivered
	sweeping          // the group is gone, processes that escaped from it are being stopped
	exited            // reaped
	detached          // given up for the new process, which adopts it
)

// event is what changes the state.
type event uint8

const (
	stopRequested event = iota
	nextDue             // the grace of a signal is over, and another signal follows
	killDue             // the earliest KILL that was requested is due, or the group's grace is over
	leaderExited        // observed, not reaped
	groupGone
	escapedFound // and they are to be stopped
	swept        // no escaped process is left
	delivered    // every stream has delivered what the group wrote
	detach       // for the new process
)

// action is what has to be done at a change of the state.
type action uint8

const (
	nothing      action = iota
	sendFirst           // the first stop signal, then CONT, to the group
	sendNext            // the next stop signal, then CONT, to the group
	kill                // KILL to the group
	grantGrace          // let the rest of the group exit by itself for a moment
	drain               // read what is left in the pipes
	reap                // reap the leader
	cancelTimers        // send no more signals
)

// transition implements the table in doc.go.
func transition(s state, e event) (state, action) {
	if e == detach && s != draining && s < exited {
		return detached, cancelTimers
	}
	switch s {
	case running:
		switch e {
		case stopRequested:
			return stopping, sendFirst
		case killDue:
			return killing, kill
		case leaderExited:
			return lingering, grantGrace
		}
	case stopping:
		switch e {
		case nextDue:
			return stopping, sendNext
		case killDue:
			return killing, kill
		case leaderExited:
			return lingering, nothing
		}
	case killing:
		if e == leaderExited {
			return killingRest, kill
		}
	case lingering:
		switch e {
		case stopRequested:
			return lingering, sendFirst
		case nextDue:
			return lingering, sendNext
		case killDue:
			return killingRest, kill
		case groupGone:
			return draining, drain
		}
	case killingRest:
		if e == groupGone {
			return draining, drain
		}
	case draining:
		switch e {
		case escapedFound:
			return sweeping, nothing
		case delivered:
			return exited, reap
		}
	case sweeping:
		if e == swept {
			return draining, nothing
		}
	}
	return s, nothing
}
