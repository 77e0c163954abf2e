package supervisor

import (
	"errors"

	"gophd/internal/event"
	"gophd/internal/goroutine"
)

// state is what the supervisor is doing. Only machine.transition changes it.
type state uint8

const (
	standby  state = iota + 1 // the lease is not held yet; adopted runs may be active
	active                    // the lease is held and the loop starts runs
	draining                  // the loop ends after the active runs
	failing                   // as draining, with an error: the runs are stopped
	frozen                    // the loop was handed off; the next process takes over
)

var states = [...]state{standby, active, draining, failing, frozen}

func (s state) String() string {
	return [...]string{"starting", "standby", "active", "draining", "failing", "frozen"}[s]
}

// actions are the effects of the machine. None of them blocks.
type actions struct {
	startLoop func()
	stopLoop  func()            // the active runs may finish
	wakeLoop  func()            // starts a run now
	interrupt func(cause error) // stops the active runs; the loop continues
	force     func(cause error) // stops the active runs and the loop
	kill      func()            // sends KILL to the active runs
	// handOffLoop ends the loop and leaves its runs to the next process, see Supervisor.Freeze.
	handOffLoop func(next func([]Leaving) error) error
	changed     func()      // the Report has changed
	failed      func(error) // publishes why the job has failed by itself
	publish     func(event.Event)
}

// machine decides what to do. The supervisor's goroutine owns it. The table is in doc.go.
type machine struct {
	actions
	state   state
	looping bool  // the loop was started and has not ended
	forced  bool  // a stop was forced by a request
	err     error // why the job ends, if that was not requested
}

func (m *machine) transition(to state) {
	m.state = to
	m.changed()
}

// over returns true if there is nothing left to wait for.
func (m *machine) over() bool { return m.state >= draining && !m.looping }

// stop lets active runs finish.
func (m *machine) stop() {
	if m.state <= active {
		m.stopLoop()
		m.transition(draining)
	}
}

// forceStop stops active runs.
func (m *machine) forceStop(cause error) {
	m.stop()
	m.forced = true
	if errors.Is(cause, ErrFault) { // a fault of the daemon
		m.err = Fatal(cause)
	}
	m.force(cause)
}

// runNow returns false if no run may start.
func (m *machine) runNow() bool {
	if m.state != active || !m.looping {
		return false
	}
	m.wakeLoop()
	return true
}

// leaseHeld starts the loop.
func (m *machine) leaseHeld() {
	if m.state != standby {
		return
	}
	m.transition(active) // first, because a reader of the log may request a run as soon as it reports the start
	if !m.looping {
		m.looping = true
		m.startLoop()
	}
}

// leaseEnding stops the active runs with the given cause. The loop continues with its gate shut.
func (m *machine) leaseEnding(cause error) {
	if m.looping {
		m.interrupt(cause)
	}
}

// leaseFailed ends the job because its lease is lost, or could not be acquired: err says why, and
// cause is why the runs are stopped.
func (m *machine) leaseFailed(err, cause error) {
	var panicked *goroutine.Panic
	switch {
	case errors.As(err, &panicked):
		m.panicked(panicked)
		return
	case m.looping:
		m.interrupt(cause)
	}
	if m.state != failing && !m.forced {
		m.force(cause)
		m.err = err
		m.transition(failing)
	}
}

// fail ends the job because something cannot be set up.
func (m *machine) fail(err error) {
	m.leaseFailed(err, err)
	m.failed(err)
}

// panicked ends the job because gophd itself failed.
func (m *machine) panicked(err error) {
	m.force(ErrFault)
	m.publish(event.Fatal(err))
	if m.state != failing && !m.forced {
		m.err = &FatalError{err}
		m.transition(failing)
	}
}

// loopEnded is called when no run is active and none will start. err is the loop's own reason, if
// it has one.
func (m *machine) loopEnded(err error) {
	if !m.looping {
		return
	}
	m.looping = false
	if m.state > active {
		return
	}
	if m.err = err; err != nil {
		m.failed(err)
	}
	m.transition(draining)
}

// gaveUp is called when the job had given up in the old process, and runs were still active.
func (m *machine) gaveUp(err error) {
	m.stop()
	m.err = err
	m.failed(err)
}

// freeze leaves the active runs to the next process, see Supervisor.Freeze.
func (m *machine) freeze(next func([]Leaving) error) error {
	if m.state > draining || m.state == draining && !m.looping {
		return errors.New("the job is ending")
	}
	handOff := func() error { return next(nil) }
	if m.looping {
		handOff = func() error { return m.handOffLoop(next) }
	}
	if err := handOff(); err != nil {
		return err
	}
	m.looping = false
	m.transition(frozen)
	return nil
}

// FatalError is a fault of gophd itself, or an exit code that counts as one. A re-exec may help.
type FatalError struct{ err error }

// Fatal returns err as a FatalError.
func Fatal(err error) error { return &FatalError{err} }

func (e *FatalError) Error() string { return "fatal error: " + e.err.Error() }
func (e *FatalError) Unwrap() error { return e.err }
