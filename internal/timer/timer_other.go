//go:build unix && !linux

package timer

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemTimer is Go's timer: it may be a millisecond late, and a suspend of the machine delays it on
// either clock.
type systemTimer struct {
	clock  Clock
	timer  *time.Timer
	closed chan struct{}
}

func openSystemTimer(c Clock) (*systemTimer, error) {
	s := &systemTimer{c, time.NewTimer(time.Hour), make(chan struct{})}
	s.timer.Stop()
	return s, nil
}

// id returns the system's number of the clock. It has only one that cannot be set.
func (c Clock) id() int32 { return unix.CLOCK_MONOTONIC }

// set makes wait return at that moment of the clock, or never if it is 0.
func (s *systemTimer) set(at time.Duration) {
	s.timer.Stop()
	if at > 0 {
		s.timer.Reset(at - Now(s.clock))
	}
}

// wait blocks until the timer expires. It returns false when the timer is closed.
func (s *systemTimer) wait() bool {
	select {
	case <-s.timer.C:
		return true
	case <-s.closed:
		return false
	}
}

func (s *systemTimer) close() error {
	s.timer.Stop()
	close(s.closed)
	return nil
}
