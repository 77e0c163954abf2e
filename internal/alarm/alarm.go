// Package alarm answers: when is it exactly then, on this clock?
//
// An Alarm rings once, at a moment set on the monotonic or on the boot clock. It is here because Go's
// own timers round to the millisecond in which the poller sleeps, and do not go on while the machine
// is suspended: on Linux an Alarm is a timerfd (timerfd_create(2)), which is late by a few tens of
// microseconds and, on the boot clock, rings at the resume. It does not repeat and knows no wall clock.
package alarm

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is what an Alarm counts on. Neither is moved by a change of the wall clock.
type Clock uint8

// The clocks.
const (
	Monotonic Clock = iota + 1 // stands still while the machine is suspended; Go's own time on Linux
	Boot                       // goes on while the machine is suspended
)

// Now is the reading of the clock, the time since about the boot of the machine. Readings compare
// across processes and across exec, not across boots.
func Now(c Clock) time.Duration {
	var t unix.Timespec
	// It fails only for a clock that the system lacks, and New has refused that.
	if err := unix.ClockGettime(c.id(), &t); err != nil {
		panic(fmt.Errorf("alarm: cannot read the clock %d: %w", c, err))
	}
	return time.Duration(t.Nano())
}
