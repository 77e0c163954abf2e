package timer

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
)

// Timer expires at a moment. Only one goroutine at a time may call Set, Stop and Close.
type Timer struct {
	file    *os.File // the timerfd, in the runtime's poller: waiting costs no thread
	control func(func(fd uintptr)) error
	expired chan struct{}
	reader  goroutine.Group

	mu    sync.Mutex // between the owner and the reader
	armed bool       // set, and not expired yet
}

// New creates a timer that is not set. Close it when done.
func New(c Clock) (*Timer, error) {
	fd, err := unix.TimerfdCreate(int(c.id()), unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot create a timer: %w", err)
	}
	t := &Timer{file: os.NewFile(uintptr(fd), "timerfd"), expired: make(chan struct{}, 1)}
	raw, err := t.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use a timer: %w", err), t.file.Close())
	}
	t.control = raw.Control
	t.reader.Go(t.read)
	return t, nil
}

// id returns the kernel's number of the clock.
func (c Clock) id() int32 {
	if c == Boot {
		return unix.CLOCK_BOOTTIME
	}
	return unix.CLOCK_MONOTONIC
}

// C delivers a value when the timer expires.
func (t *Timer) C() <-chan struct{} { return t.expired }

// Set makes the timer expire once, d from now, or at once if d is not positive. It replaces the
// last Set: after it has returned, C delivers only the new expiration. Do not call it after Close.
func (t *Timer) Set(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop()
	if d <= 0 {
		t.expired <- struct{}{}
		return
	}
	t.armed = true
	t.settime(d)
}

// Stop cancels the timer: it does not expire until the next Set.
func (t *Timer) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop()
}

// drop disarms the timer, and removes an expiration that was not received.
func (t *Timer) drop() {
	if t.armed {
		t.armed = false
		t.settime(0)
	}
	select {
	case <-t.expired:
	default:
	}
}

// settime arms the timer, or disarms it with 0.
func (t *Timer) settime(d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	var err error
	if t.control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), 0, &spec, nil) }) != nil {
		return // closed
	}
	if err != nil {
		panic(fmt.Errorf("timer: cannot set the timer to %v: %w", d, err)) // otherwise the loop would stop silently
	}
}

// Close closes the timer and waits for its goroutine. The timer does not expire after it.
func (t *Timer) Close() error {
	t.Stop()
	err := t.file.Close()
	t.reader.Wait()
	return err
}

// read waits for expirations until the file is closed.
func (t *Timer) read() {
	var count [8]byte
	for {
		if _, err := t.file.Read(count[:]); errors.Is(err, os.ErrClosed) {
			return
		} else if err != nil {
			panic(fmt.Errorf("timer: cannot read the timer: %w", err))
		}
		t.deliver()
	}
}

// deliver sends the expiration to C if the timer, as it is set now, has expired. The expiration
// that the reader has read may be that of an earlier Set that was replaced meanwhile.
func (t *Timer) deliver() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.armed {
		return
	}
	var left unix.ItimerSpec
	var err error
	if t.control(func(fd uintptr) { err = unix.TimerfdGettime(int(fd), &left) }) != nil {
		return // closed
	}
	if err != nil {
		panic(fmt.Errorf("timer: cannot read the time left: %w", err))
	}
	if left.Value.Nano() == 0 {
		t.armed = false
		t.expired <- struct{}{} // it has room: otherwise only a Set to now fills it, and that does not arm
	}
}
