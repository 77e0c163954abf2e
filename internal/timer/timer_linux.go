package timer

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// systemTimer is a timerfd. It is in the runtime's poller: waiting costs no thread.
type systemTimer struct {
	file    *os.File
	control func(func(fd uintptr)) error
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
	return &systemTimer{file, raw.Control}, nil
}

// id returns the kernel's number of the clock.
func (c Clock) id() int32 {
	if c == Boot {
		return unix.CLOCK_BOOTTIME
	}
	return unix.CLOCK_MONOTONIC
}

// set makes wait return at that moment of the clock, or never if it is 0.
func (s *systemTimer) set(at time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	var err error
	if s.control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil) }) != nil {
		return // closed
	}
	if err != nil {
		panic(fmt.Errorf("timer: cannot set the timer to %v: %w", at, err)) // otherwise the loops would stop silently
	}
}

// wait blocks until the timer expires. It returns false when the timer is closed.
func (s *systemTimer) wait() bool {
	var count [8]byte
	_, err := s.file.Read(count[:])
	if err != nil && !errors.Is(err, os.ErrClosed) {
		panic(fmt.Errorf("timer: cannot read the timer: %w", err))
	}
	return err == nil
}

func (s *systemTimer) close() error { return s.file.Close() }
