package timer

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// systemTimer is a timerfd. It is in the runtime's poller: waiting costs no thread.
type systemTimer struct {
	file     *os.File
	control  func(func(fd uintptr)) error
	flags    int
	clockSet atomic.Bool // set has learned that the clock was set, and wait is to return that
}

func openSystemTimer(c Clock) (*systemTimer, error) {
	fd, err := unix.TimerfdCreate(int(c.id()), unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot create a timer: %w", err)
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use a timer: %w", err), file.Close())
	}
	flags := unix.TFD_TIMER_ABSTIME
	if c == Wall {
		flags |= unix.TFD_TIMER_CANCEL_ON_SET
	}
	return &systemTimer{file: file, control: raw.Control, flags: flags}, nil
}

// id returns the kernel's number of the clock.
func (c Clock) id() int32 {
	switch c {
	case Boot:
		return unix.CLOCK_BOOTTIME
	case Wall:
		return unix.CLOCK_REALTIME
	}
	return unix.CLOCK_MONOTONIC
}

// set makes wait return at that moment of the clock, or never if it is 0. If the clock was set since the
// last call, wait returns at once.
func (s *systemTimer) set(at time.Duration) {
	err := s.settime(at)
	if errors.Is(err, unix.ECANCELED) { // the timer is set all the same, and wait would not return that again
		s.clockSet.Store(true)
		err = s.settime(1)
	}
	if err != nil && !errors.Is(err, unix.ECANCELED) {
		panic(fmt.Errorf("timer: cannot set the timer to %v: %w", at, err)) // otherwise the loops would stop silently
	}
}

func (s *systemTimer) settime(at time.Duration) (err error) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	_ = s.control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), s.flags, &spec, nil) }) // else it is closed
	return err
}

// wait blocks until the timer expires, or the clock was set. It returns false when the timer is closed.
func (s *systemTimer) wait() (clockSet, open bool) {
	var count [8]byte
	_, err := s.file.Read(count[:])
	canceled := errors.Is(err, unix.ECANCELED)
	if err != nil && !canceled && !errors.Is(err, os.ErrClosed) {
		panic(fmt.Errorf("timer: cannot read the timer: %w", err))
	}
	return s.clockSet.Swap(false) || canceled, err == nil || canceled
}

func (s *systemTimer) close() error { return s.file.Close() }
