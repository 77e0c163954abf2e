package restart

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a moment as a reading of CLOCK_MONOTONIC in nanoseconds. This clock is the same for
// the old and the new process. A time.Time cannot be handed off: its monotonic reading is not
// exported by package time, and counts from the start of the process.
type Instant int64

// At returns the instant of t, or 0 for the zero time. t must have a monotonic reading, or be a
// reading of the wall clock as it is set now. At and Time are exact to the time between two
// readings of the clock, a fraction of a microsecond.
func At(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	i, now := clocks()
	return i - Instant(now.Sub(t))
}

// Time returns the moment in this process, with its monotonic reading; the zero time for 0.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	at, now := clocks()
	return now.Add(time.Duration(i - at))
}

// readClocks reads both clocks at the same moment. If the thread waits for a processor between two
// readings, that wait is the error of the result, so it uses the closest of several readings.
func readClocks() (at Instant, now time.Time) {
	const near, attempts = 2 * time.Microsecond, 20
	closest := Instant(math.MaxInt64)
	for range attempts {
		before := monotonic()
		t := time.Now()
		if apart := monotonic() - before; apart < closest {
			closest, at, now = apart, before+apart/2, t
		}
		if closest <= Instant(near) {
			break
		}
	}
	return at, now
}

func monotonic() Instant {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(fmt.Errorf("restart: cannot read the monotonic clock: %w", err)) // by POSIX it cannot fail
	}
	return Instant(t.Nano())
}
