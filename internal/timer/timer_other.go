//go:build unix && !linux

package timer

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemTimer is Go's timer: it may be a millisecond late, and a suspend of the machine delays it on
// the other clocks than Wall.
type systemTimer struct {
	clock  Clock
	timer  *time.Timer
	closed chan struct{}
	ahead  time.Duration // WallAhead when wait returned last
}

// lookAgain is how often the wall clock is compared with the other.
const lookAgain = time.Minute

func openSystemTimer(c Clock) (*systemTimer, error) {
	s := &systemTimer{clock: c, timer: time.NewTimer(time.Hour), closed: make(chan struct{}), ahead: WallAhead()}
	s.timer.Stop()
	return s, nil
}

// id returns the system's number of the clock. It has only one that cannot be set.
func (c Clock) id() int32 {
	if c == Wall {
		return unix.CLOCK_REALTIME
	}
	return unix.CLOCK_MONOTONIC
}

// set makes wait return at that moment of the clock, or never if it is 0.
func (s *systemTimer) set(at time.Duration) {
	s.timer.Stop()
	if at == 0 {
		return
	}
	wait := at - Now(s.clock)
	if s.clock == Wall {
		wait = min(wait, lookAgain)
	}
	s.timer.Reset(wait)
}

// wait blocks until the timer expires, or for lookAgain. It returns false when the timer is closed.
func (s *systemTimer) wait() (clockSet, open bool) {
	select {
	case <-s.timer.C:
	case <-s.closed:
		return false, false
	}
	before := s.ahead
	s.ahead = WallAhead()
	return s.clock == Wall && (s.ahead-before).Abs() > time.Second, true
}

func (s *systemTimer) close() error {
	s.timer.Stop()
	close(s.closed)
	return nil
}
