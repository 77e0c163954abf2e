package daemon

import (
	"fmt"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/request"
	"gophd/internal/supervisor"
)

// state is what the daemon is doing. Only machine.transition changes it.
type state uint8

const (
	starting    state = iota + 1 // no job is served yet
	serving                      // a job is served
	validating                   // as starting or serving, while the next program is checked
	reexecuting                  // the jobs are frozen, and the next process starts
	draining                     // active runs may finish, then gophd exits
	stopping                     // active runs are stopped, then gophd exits
)

var states = [...]state{starting, serving, validating, reexecuting, draining, stopping}

func (s state) String() string {
	return [...]string{"none", "starting", "serving", "validating", "re-executing", "draining", "stopping"}[s]
}

// A stop counts as the next step only after some time. A process that sends stop signals often
// sends more than one and means one: timeout(1) sends TERM to gophd and then to its process group.
// A burst shorter than both times together is at most two steps, and does not kill the command.
const (
	stopRepeat  = 100 * time.Millisecond // from the first stop to the one that stops the runs
	forceRepeat = 500 * time.Millisecond // from that to the one that kills them
)

// actions are the effects of the machine. None of them blocks.
type actions struct {
	stop   func()                      // lets active runs finish
	force  func(cause error)           // stops them
	kill   func()                      // sends KILL to them
	runNow func() (ok bool, why error) // why is nil if the state is the reason
	// freeze leaves the active runs to the next process. An error says what prevents that now; then
	// no run starts.
	freeze       func() error
	thaw         func()              // ends a freeze that failed
	check        func()              // checks the next program; checked receives the answer
	retryAfter   func(time.Duration) // calls retry after that time
	pauseWrites  func() error        // pauses writes to files; an error says what execve would wait for
	resume       func()              // resumes them
	dump         func()
	reopen       func()
	stateChanged func(to state) // after each change of the state
	publish      func(event.Event)
}

// machine decides what to do. The goroutine of Daemon.Run owns it. The table is in doc.go.
type machine struct {
	actions
	state  state
	alive  bool // a job has not ended
	active bool // its runs may start, or could earlier
	// Used in validating. validated is when the next program was found to be valid while the jobs
	// could not be frozen yet; otherwise zero. busy is why they could not. If thawed is set, runs
	// start until the check is repeated. blockedSince is when a re-exec was first blocked by
	// blockedBy; zero if it is not. delayReported says that there was an event about busy or
	// blockedBy.
	validated     time.Time
	busy          error
	thawed        bool
	blockedSince  time.Time
	blockedBy     error
	delayReported bool

	entered time.Time // when the state was entered
	err     error     // why gophd exits, if that was not requested
}

// transition is the only place where the state changes.
func (m *machine) transition(to state) {
	from := m.state
	if from == validating && to != reexecuting {
		m.resume()
		if m.busy != nil {
			m.thaw()
		}
	}
	m.state, m.entered, m.blockedSince, m.blockedBy = to, time.Now(), time.Time{}, nil
	m.busy, m.thawed, m.delayReported = nil, false, false
	m.publish(event.State(from.String(), to.String()))
	m.stateChanged(to)
}

// String returns the state, and what a re-exec waits for.
func (m *machine) String() string {
	switch {
	case m.blockedBy != nil:
		return fmt.Sprintf("%s, for %s: %v", m.state, time.Since(m.blockedSince).Round(time.Second), m.blockedBy)
	case m.busy != nil:
		return fmt.Sprintf("%s, for %s: %v", m.state, time.Since(m.entered).Round(time.Second), m.busy)
	}
	return m.state.String()
}

// over returns true if there is nothing left to wait for.
func (m *machine) over() bool { return m.state >= reexecuting && !m.alive }

// request serves a request.
func (m *machine) request(o request.Request) {
	if o.Verb == request.Stop && m.duplicateStop() {
		return
	}
	m.publish(event.Request(o.Verb.String(), o.From, m.state.String()))
	switch o.Verb {
	case request.Stop:
		m.stopRequested()
	case request.Reload:
		if m.state == starting || m.state == serving {
			m.validated = time.Time{}
			m.transition(validating)
			m.check()
		}
	case request.RunNow:
		ok, why := false, error(nil)
		if m.state == serving || m.state == validating {
			ok, why = m.runNow()
		}
		if !ok {
			m.publish(event.RequestRejected(o.Verb.String(), o.From, m.state.String(), why))
		}
	case request.Dump:
		m.dump()
	case request.Reopen:
		m.reopen()
	}
}

// duplicateStop returns true if a stop counts as the same as the one before it.
func (m *machine) duplicateStop() bool {
	switch m.state {
	case draining:
		return time.Since(m.entered) < stopRepeat
	case stopping:
		return time.Since(m.entered) < forceRepeat
	}
	return false
}

func (m *machine) stopRequested() {
	switch m.state {
	case starting, serving, validating:
		m.stop()
		m.transition(draining)
	case draining:
		m.force(job.ErrInsisted)
		m.transition(stopping)
	case stopping:
		m.kill()
	}
}

// served is called when a job is served.
func (m *machine) served() {
	m.active = true
	if m.state == starting {
		m.transition(serving)
	}
}

// failing is called when a job stops its runs because it must not run any more.
func (m *machine) failing(err error) {
	if m.state != stopping {
		m.err = err
		m.transition(stopping)
	}
}

// ended is called when no job is left. err is the reason, if a job had one of its own.
func (m *machine) ended(err error) {
	if !m.alive {
		return
	}
	m.alive = false
	if m.state >= reexecuting {
		return
	}
	m.err = err
	m.transition(draining)
}

// panicked is called when a goroutine of the daemon failed.
func (m *machine) panicked(err error) {
	m.force(supervisor.ErrFault)
	m.publish(event.Fatal(err))
	if m.state != stopping {
		m.err = supervisor.Fatal(err)
		m.transition(stopping)
	}
}

// checked receives the answer of check: nil says that the next program is valid.
func (m *machine) checked(err error) {
	switch {
	case m.state != validating:
	case err == nil:
		m.publish(event.ReloadValidated())
		m.validated = time.Now()
		m.retry()
	default:
		m.publish(event.ReloadRejected(err))
		if m.active {
			m.transition(serving)
		} else {
			m.transition(starting)
		}
	}
}

// validFor is how long the answer for the next program counts: what was checked may change, and
// after execve there is no way back. It is also how long no run starts while the jobs are being
// frozen.
const validFor = 2 * time.Second

// The time from a freeze that failed to the next one: while no run starts, and after a thaw.
const (
	freezeRetry = 20 * time.Millisecond
	thawedFor   = 5 * time.Second
)

// How long a re-exec may be blocked, and after what time there is an event.
const (
	blockedLimit  = time.Minute
	blockedNotice = time.Second
)

// retry is called by retryAfter. A run that is being started, or whose last output is being
// written, cannot be frozen now, but soon: no run starts until then. If that takes longer than
// validFor, there is an event, runs start again for thawedFor, and then the re-exec is attempted
// again from its check on. While a write to a disk hangs everything continues. If it hangs too
// long, the re-exec is rejected.
func (m *machine) retry() {
	switch {
	case m.state != validating:
	case m.thawed:
		m.thawed = false
		m.check()
	case !m.validated.IsZero():
		m.attemptReexec()
	}
}

// attemptReexec is repeated while the next program counts as valid.
func (m *machine) attemptReexec() {
	m.blockedBy = m.pauseWrites()
	switch {
	case m.blockedBy == nil:
		m.blockedSince = time.Time{}
	case m.blockedSince.IsZero():
		m.blockedSince = time.Now()
	}
	if m.blockedBy != nil && m.busy != nil { // everything continues while a disk hangs
		m.busy = nil
		m.thaw()
	}
	switch {
	case m.blockedBy != nil && time.Since(m.blockedSince) >= blockedLimit:
		m.reportDelay(blockedLimit, m.blockedBy)
		m.checked(fmt.Errorf("%w, for %s", m.blockedBy, blockedLimit))
	case m.blockedBy != nil:
		if time.Since(m.blockedSince) >= blockedNotice {
			m.reportDelay(blockedLimit, m.blockedBy)
		}
		m.retryAfter(freezeRetry)
	case time.Since(m.validated) > validFor:
		m.giveUpFreeze()
	default:
		m.busy = nil
		if m.alive {
			m.busy = m.freeze()
		}
		if m.busy != nil {
			m.resume()
			m.retryAfter(freezeRetry)
			return
		}
		m.alive = false
		m.transition(reexecuting)
	}
}

// giveUpFreeze repeats the check of the next program: at once, unless the re-exec has waited for
// the jobs.
func (m *machine) giveUpFreeze() {
	m.validated = time.Time{}
	m.resume()
	if m.busy == nil {
		m.check()
		return
	}
	m.reportDelay(0, m.busy)
	m.thaw()
	m.thawed = true
	m.retryAfter(thawedFor)
}

// reportDelay publishes once what a re-exec waits for.
func (m *machine) reportDelay(most time.Duration, why error) {
	if !m.delayReported {
		m.delayReported = true
		m.publish(event.ReloadDelayed(most, why))
	}
}
