package supervisor

import (
	"errors"
	"fmt"
	"time"

	"gophd/internal/event"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/order"
)

// state is what the daemon as a whole is doing. It is changed in machine.transition only.
type state uint8

const (
	claiming   state = iota + 1 // the lease is not ours yet; no loop
	serving                     // the loop turns
	checking                    // as serving, or claiming, while the next image is being tried
	restarting                  // the loop was left, the next image begins
	stopping                    // the loop ends, then gophd
	killing                     // the run is being ended, then the loop, then gophd
)

var states = [...]state{claiming, serving, checking, restarting, stopping, killing}

func (s state) String() string {
	switch s {
	case claiming:
		return "claiming"
	case serving:
		return "serving"
	case checking:
		return "checking the next image"
	case restarting:
		return "restarting"
	case stopping:
		return "stopping"
	case killing:
		return "killing"
	}
	return "starting"
}

// A stop counts as the next step only so long after the one before it. Who stops by signal often sends more
// than one and means one: timeout(1) sends TERM to gophd and once more to its process group. And a burst, of
// whatever length, is two steps at most before the command has had its chance: it is not killed.
const (
	stopAgain   = 100 * time.Millisecond // from the first stop to the one that ends the run
	insistAgain = 500 * time.Millisecond // from that to the one that kills it
)

// hands is everything that the machine does to the world. None of it blocks.
type hands struct {
	startLoop func()
	stopLoop  func()            // asks: the run may finish
	wakeLoop  func()            // asks for a run now
	interrupt func(cause error) // ends the run that is going on; the loop goes on
	insist    func(cause error) // ends the run and the loop
	kill      func()            // KILL to the run that is going on
	check     func()            // tries the next image; the answer comes as the event checked
	leaveLoop func() bool       // ends the loop and leaves its run, if it can be left now, to the next image
	again     func()            // brings the event again in a moment
	quiet     func() error      // lets no write to the log begin; an error says what an exec would wait for
	resume    func()            // ends that
	dump      func()
	reopen    func()
	turned    func(to state) // after each change of the state
	publish   func(event.Event)
}

// machine decides. It is owned by the goroutine of Supervisor.Run; the table stands in doc.go.
type machine struct {
	hands
	state   state
	looping bool      // the loop was started and has not ended
	sound   time.Time // while checking: when the next image was found to be, and only the loop could not be left yet; else zero
	hangs   time.Time // while checking: since when something goes on that an exec would wait for; else zero
	waits   error     // what that is
	told    bool      // and it was said
	entered time.Time // when the state was
	err     error     // why it ends, when that is not because it was asked to
}

// transition is the only place where the state changes.
func (m *machine) transition(to state) {
	from := m.state
	if from == checking && to != restarting {
		m.resume()
	}
	m.state, m.entered, m.hangs, m.waits, m.told = to, time.Now(), time.Time{}, nil, false
	m.publish(event.State(from.String(), to.String()))
	m.turned(to)
}

// String is the state, and what a restart waits for.
func (m *machine) String() string {
	if m.waits == nil {
		return m.state.String()
	}
	return fmt.Sprintf("%s, for %s: %v", m.state, time.Since(m.hangs).Round(time.Second), m.waits)
}

// over says that nothing is left to wait for.
func (m *machine) over() bool { return m.state >= restarting && !m.looping }

func (m *machine) order(o order.Order) {
	m.publish(event.Request(o.String(), m.state.String()))
	switch o.Verb {
	case order.Stop:
		m.stop()
	case order.Restart:
		if m.state == claiming || m.state == serving {
			m.sound = time.Time{}
			m.transition(checking)
			m.check()
		}
	case order.Wake:
		if m.looping && (m.state == serving || m.state == checking) {
			m.wakeLoop()
		} else {
			m.publish(event.RequestRejected(o.String(), m.state.String()))
		}
	case order.Dump:
		m.dump()
	case order.Reopen:
		m.reopen()
	}
}

func (m *machine) stop() {
	switch m.state {
	case claiming, serving, checking:
		m.stopLoop()
		m.transition(stopping)
	case stopping:
		if time.Since(m.entered) >= stopAgain {
			m.insist(job.ErrInsisted)
			m.transition(killing)
		}
	case killing:
		if time.Since(m.entered) >= insistAgain {
			m.kill()
		}
	}
}

// claimed says that the lease is ours.
func (m *machine) claimed() {
	if m.state != claiming && m.state != checking {
		return
	}
	if !m.looping {
		m.looping = true
		m.startLoop()
	}
	if m.state == claiming {
		m.transition(serving)
	}
}

// leaseEnding says that the command may not go on, for cause's reason. The loop goes on: its gate is shut.
func (m *machine) leaseEnding(cause error) {
	if m.looping {
		m.interrupt(cause)
	}
}

// gone says that something is gone, or cannot be had, without which the job must not run: a heartbeat
// gave up, the PID file is another's. err is what gophd ends with, cause what the run is ended with.
func (m *machine) gone(err, cause error) {
	if m.looping {
		m.interrupt(cause) // the run first, and the words after
	}
	if m.state != killing {
		m.insist(cause)
		m.err = err
		m.transition(killing)
	}
	m.publish(endEvent(err))
}

// endEvent says why gophd ends by itself.
func endEvent(err error) event.Event {
	if errors.As(err, new(*heartbeat.HeldError)) {
		return event.LeaseHeldElsewhere(err)
	}
	return event.Problem(err)
}

// checked is the answer of check: nil says that the next image is sound.
func (m *machine) checked(err error) {
	switch {
	case m.state != checking:
	case err == nil:
		m.sound = time.Now()
		m.retried()
	default:
		m.publish(event.ReloadRejected(err))
		if m.looping {
			m.transition(serving)
		} else {
			m.transition(claiming)
		}
	}
}

// soundFor is how long the next image counts as sound: what it was asked about may change, and once it begins there
// is no way back.
const soundFor = time.Second

// How long a restart waits for what an exec would wait for, and when that is said.
const (
	hangsFor  = time.Minute
	hangsTold = time.Second
)

// retried is the event that again brings. A run that is just being started or stopped cannot be left, and is
// so in a moment, or when its grace is over: the loop goes on until then. The same holds for a write to a disk that
// hangs, but for its end: then the restart is refused.
func (m *machine) retried() {
	if m.state != checking || m.sound.IsZero() {
		return
	}
	m.waits = m.quiet()
	switch {
	case m.waits == nil:
		m.hangs = time.Time{}
	case m.hangs.IsZero():
		m.hangs = time.Now()
	}
	if m.waits != nil && !m.told && time.Since(m.hangs) >= hangsTold {
		m.told = true
		m.publish(event.ReloadDelayed(hangsFor, m.waits))
	}
	switch {
	case m.waits != nil && time.Since(m.hangs) >= hangsFor:
		m.checked(fmt.Errorf("%w, for %s", m.waits, hangsFor))
	case m.waits != nil:
		m.again()
	case time.Since(m.sound) > soundFor:
		m.sound = time.Time{}
		m.resume()
		m.check()
	case m.looping && !m.leaveLoop():
		m.resume()
		m.again()
	default:
		m.looping = false
		m.transition(restarting)
	}
}

// loopEnded says that no run is left and none will come; err is why, when the loop had a reason of its own.
func (m *machine) loopEnded(err error) {
	if !m.looping {
		return
	}
	m.looping = false
	if m.state >= restarting {
		return
	}
	if m.err = err; err != nil {
		m.publish(endEvent(err))
	}
	m.transition(stopping)
}

// roomFell says that a goroutine of gophd's own panicked, or that a room broke its contract.
func (m *machine) roomFell(err error) {
	m.insist(&leaseError{why: "gophd had a fatal error"})
	m.publish(event.Fatal(err))
	if m.state != killing {
		m.err = &fatalError{err}
		m.transition(killing)
	}
}

// fatalError is a fault of gophd itself: the road of the storm guard.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return "fatal error: " + e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }
