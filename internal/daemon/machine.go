package daemon

import (
	"fmt"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/order"
	"gophd/internal/supervisor"
)

// state is what the daemon is doing. It is changed in machine.transition only.
type state uint8

const (
	starting    state = iota + 1 // no job is served yet
	serving                      // a job is served
	validating                   // as starting or serving, while the next program is being tried
	reexecuting                  // the jobs are frozen, and the next process begins
	stopping                     // active runs may finish, then gophd exits
	killing                      // active runs are stopped, then gophd exits
)

var states = [...]state{starting, serving, validating, reexecuting, stopping, killing}

func (s state) String() string {
	return [...]string{"none", "claiming", "serving", "checking the next image", "restarting", "stopping", "killing"}[s]
}

// A stop counts as the next step only so long after the one before it. Who stops by signal often
// sends more than one and means one: timeout(1) sends TERM to gophd and once more to its process group.
// And a burst, of whatever length, is two steps at most before the command has had its chance: it is
// not killed.
const (
	stopAgain  = 100 * time.Millisecond // from the first stop to the one that stops the runs
	forceAgain = 500 * time.Millisecond // from that to the one that kills them
)

// hands is what the machine does to the world. None of it blocks.
type hands struct {
	stop    func()            // lets active runs finish
	force   func(cause error) // stops them
	kill    func()            // sends KILL to them
	runNow  func() bool
	freeze  func() error        // leaves active runs to the next process; an error says what is in the way, and no run starts then
	thaw    func()              // ends a freeze that did not succeed
	check   func()              // tries the next program; the answer comes as the event checked
	again   func(time.Duration) // brings the event again after that time
	quiet   func() error        // pauses writes to files; an error says what an exec would wait for
	resume  func()              // ends that
	dump    func()
	reopen  func()
	turned  func(to state) // after each change of the state
	publish func(event.Event)
}

// machine decides. It is owned by the goroutine of Daemon.Run; the table stands in doc.go.
type machine struct {
	hands
	state   state
	alive   bool      // a job has not ended
	active  bool      // its runs may start, or could
	sound   time.Time // while validating: when the next program was found to be, and only the jobs could not be frozen yet; else zero
	busy    error     // while validating: why they could not
	thawed  bool      // while validating: runs start, until the check is repeated
	hangs   time.Time // while validating: since when something continues that an exec would wait for; else zero
	waits   error     // what that is
	told    bool      // there was an event about it, or about busy
	entered time.Time // when the state was
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
	m.state, m.entered, m.hangs, m.waits, m.busy, m.thawed, m.told = to, time.Now(), time.Time{}, nil, nil, false, false
	m.publish(event.State(from.String(), to.String()))
	m.turned(to)
}

// String is the state, and what a re-exec waits for.
func (m *machine) String() string {
	switch {
	case m.waits != nil:
		return fmt.Sprintf("%s, for %s: %v", m.state, time.Since(m.hangs).Round(time.Second), m.waits)
	case m.busy != nil:
		return fmt.Sprintf("%s, for %s: %v", m.state, time.Since(m.entered).Round(time.Second), m.busy)
	}
	return m.state.String()
}

// over returns true if there is nothing to wait for.
func (m *machine) over() bool { return m.state >= reexecuting && !m.alive }

// request serves a request.
func (m *machine) request(o order.Order) {
	m.publish(event.Request(o.String(), m.state.String()))
	switch o.Verb {
	case order.Stop:
		m.stopRequested()
	case order.Restart:
		if m.state == starting || m.state == serving {
			m.sound = time.Time{}
			m.transition(validating)
			m.check()
		}
	case order.Wake:
		if m.state != serving && m.state != validating || !m.runNow() {
			m.publish(event.RequestRejected(o.String(), m.state.String()))
		}
	case order.Dump:
		m.dump()
	case order.Reopen:
		m.reopen()
	}
}

func (m *machine) stopRequested() {
	switch m.state {
	case starting, serving, validating:
		m.stop()
		m.transition(stopping)
	case stopping:
		if time.Since(m.entered) >= stopAgain {
			m.force(job.ErrInsisted)
			m.transition(killing)
		}
	case killing:
		if time.Since(m.entered) >= forceAgain {
			m.kill()
		}
	}
}

// served says that a job is served.
func (m *machine) served() {
	m.active = true
	if m.state == starting {
		m.transition(serving)
	}
}

// failing says that a job stops its runs, because it must not run any more.
func (m *machine) failing(err error) {
	if m.state != killing {
		m.err = err
		m.transition(killing)
	}
}

// ended says that no job is left. err is why, if a job had a reason of its own.
func (m *machine) ended(err error) {
	if !m.alive {
		return
	}
	m.alive = false
	if m.state >= reexecuting {
		return
	}
	m.err = err
	m.transition(stopping)
}

// panicked says that a goroutine of the daemon failed.
func (m *machine) panicked(err error) {
	m.force(supervisor.ErrFault)
	m.publish(event.Fatal(err))
	if m.state != killing {
		m.err = supervisor.Fatal(err)
		m.transition(killing)
	}
}

// checked is the answer of check: nil says that the next program is sound.
func (m *machine) checked(err error) {
	switch {
	case m.state != validating:
	case err == nil:
		m.publish(event.ReloadValidated())
		m.sound = time.Now()
		m.retried()
	default:
		m.publish(event.ReloadRejected(err))
		if m.active {
			m.transition(serving)
		} else {
			m.transition(starting)
		}
	}
}

// soundFor is how long the next program counts as sound: what it was asked about may change, and once
// it begins there is no way back. It is also how long no run starts while the jobs are being frozen.
const soundFor = 2 * time.Second

// How long after a freeze that did not succeed the next one comes: while no run starts, and after a thaw.
const (
	freezeAgain = 20 * time.Millisecond
	thawedFor   = 5 * time.Second
)

// How long a re-exec waits for what an exec would wait for, and when there is an event.
const (
	hangsFor  = time.Minute
	hangsTold = time.Second
)

// retried is the event that again brings. A run that is just being started, or whose last output is being
// written, cannot be frozen, and can in a moment: no run starts until then. If it takes longer than soundFor,
// there is an event, runs start again for thawedFor, and then the re-exec is tried anew from its check on. While
// a write to a disk hangs everything continues, and in the end the re-exec is rejected.
func (m *machine) retried() {
	switch {
	case m.state != validating:
	case m.thawed:
		m.thawed = false
		m.check()
	case !m.sound.IsZero():
		m.tryExec()
	}
}

// tryExec is retried while the next program counts as sound.
func (m *machine) tryExec() {
	m.waits = m.quiet()
	switch {
	case m.waits == nil:
		m.hangs = time.Time{}
	case m.hangs.IsZero():
		m.hangs = time.Now()
	}
	if m.waits != nil && m.busy != nil { // everything continues while a disk hangs
		m.busy = nil
		m.thaw()
	}
	switch {
	case m.waits != nil && time.Since(m.hangs) >= hangsFor:
		m.tellDelay(hangsFor, m.waits)
		m.checked(fmt.Errorf("%w, for %s", m.waits, hangsFor))
	case m.waits != nil:
		if time.Since(m.hangs) >= hangsTold {
			m.tellDelay(hangsFor, m.waits)
		}
		m.again(freezeAgain)
	case time.Since(m.sound) > soundFor:
		m.giveUpFreeze()
	default:
		m.busy = nil
		if m.alive {
			m.busy = m.freeze()
		}
		if m.busy != nil {
			m.resume()
			m.again(freezeAgain)
			return
		}
		m.alive = false
		m.transition(reexecuting)
	}
}

// giveUpFreeze has the next program checked again, at once if the jobs were not what the re-exec has waited for.
func (m *machine) giveUpFreeze() {
	m.sound = time.Time{}
	m.resume()
	if m.busy == nil {
		m.check()
		return
	}
	m.tellDelay(0, m.busy)
	m.thaw()
	m.thawed = true
	m.again(thawedFor)
}

// tellDelay says once what a re-exec waits for.
func (m *machine) tellDelay(most time.Duration, why error) {
	if !m.told {
		m.told = true
		m.publish(event.ReloadDelayed(most, why))
	}
}
