// Package timer answers: how does gophd wait for an exact moment on a clock?
//
// A Queue has any number of Timers of one clock, monotonic, boot or wall, which expire once, each at its
// own moment. Go's own timers are not enough: they round to the millisecond, as the poller sleeps,
// and do not count while the machine is suspended. On Linux a Queue is one timerfd
// (timerfd_create(2)), set to the first of all moments, and one goroutine: a Timer is late by a few
// tens of microseconds, costs no descriptor, and wakes nobody while it is not due. On the boot clock
// it expires at the resume. Timers do not repeat.
//
// Only the wall clock can be set. Then all Timers of its Queue expire at once, so that their owners can
// compute new moments. On Linux the kernel says that it was set (TFD_TIMER_CANCEL_ON_SET in
// timerfd_create(2)), at a resume too. Other systems do not: there the queue compares the clocks once a
// minute.
package timer

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the clock of a Queue.
type Clock uint8

// The clocks.
const (
	Monotonic Clock = iota + 1 // stops while the machine is suspended; Go's own time on Linux
	Boot                       // continues while the machine is suspended
	Wall                       // the time of day in UTC, since 1970; it can be set
)

// Now reads the clock. Readings of Monotonic and Boot are about the time since the boot of the machine:
// they can be compared across processes and across exec, but not across boots.
func Now(c Clock) time.Duration {
	var t unix.Timespec
	// It fails only for a clock that the system does not have, for which NewQueue already returned an
	// error.
	if err := unix.ClockGettime(c.id(), &t); err != nil {
		panic(fmt.Errorf("timer: cannot read the clock %d: %w", c, err))
	}
	return time.Duration(t.Nano())
}

// WallAhead returns how far the wall clock is ahead of the boot clock. It changes only when the wall
// clock is set: both run at the same rate, in suspend too. It is exact to the time between two readings.
func WallAhead() time.Duration { return Now(Wall) - Now(Boot) }
