package alarm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
)

// Alarm rings at a moment. Set, Stop and Close belong to one goroutine at a time.
type Alarm struct {
	file    *os.File // the timerfd, in the runtime's poller: waiting costs no thread
	control func(func(fd uintptr)) error
	rings   chan struct{}
	reader  goroutine.Group

	mu    sync.Mutex // between the owner and the reader
	armed bool       // a ring is owed
}

// New makes an alarm with nothing set. Close it.
func New(c Clock) (*Alarm, error) {
	fd, err := unix.TimerfdCreate(int(c.id()), unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make a timer: %w", err)
	}
	a := &Alarm{file: os.NewFile(uintptr(fd), "timerfd"), rings: make(chan struct{}, 1)}
	raw, err := a.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use a timer: %w", err), a.file.Close())
	}
	a.control = raw.Control
	a.reader.Go(a.read)
	return a, nil
}

// id is the kernel's number of the clock.
func (c Clock) id() int32 {
	if c == Boot {
		return unix.CLOCK_BOOTTIME
	}
	return unix.CLOCK_MONOTONIC
}

// C delivers the ring.
func (a *Alarm) C() <-chan struct{} { return a.rings }

// Set makes the alarm ring once, d from now, or at once if d is not positive. It replaces what was set
// before: once it has returned, a ring that C delivers is the new one's. Not after Close.
func (a *Alarm) Set(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop()
	if d <= 0 {
		a.rings <- struct{}{}
		return
	}
	a.armed = true
	a.settime(d)
}

// Stop takes back what was set: nothing rings until the next Set.
func (a *Alarm) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop()
}

// drop forgets what was set, a ring that was not collected included.
func (a *Alarm) drop() {
	if a.armed {
		a.armed = false
		a.settime(0)
	}
	select {
	case <-a.rings:
	default:
	}
}

// settime arms the timer, or disarms it with 0.
func (a *Alarm) settime(d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	var err error
	if a.control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), 0, &spec, nil) }) != nil {
		return // closed
	}
	if err != nil {
		panic(fmt.Errorf("alarm: cannot set the timer to %v: %w", d, err)) // an alarm that fails in silence stops the loop
	}
}

// Close ends the alarm and waits for its goroutine. Nothing rings after it.
func (a *Alarm) Close() error {
	a.Stop()
	err := a.file.Close()
	a.reader.Wait()
	return err
}

// read turns expirations into rings until the file is closed.
func (a *Alarm) read() {
	var count [8]byte
	for {
		if _, err := a.file.Read(count[:]); errors.Is(err, os.ErrClosed) {
			return
		} else if err != nil {
			panic(fmt.Errorf("alarm: cannot read the timer: %w", err))
		}
		a.expired()
	}
}

// expired delivers the ring that is owed, if the timer as it is set now has run out. The expiration
// that woke the reader may be that of an earlier Set, overtaken while it was on its way.
func (a *Alarm) expired() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.armed {
		return
	}
	var left unix.ItimerSpec
	var err error
	if a.control(func(fd uintptr) { err = unix.TimerfdGettime(int(fd), &left) }) != nil {
		return // closed
	}
	if err != nil {
		panic(fmt.Errorf("alarm: cannot ask the timer: %w", err))
	}
	if left.Value.Nano() == 0 {
		a.armed = false
		a.rings <- struct{}{} // empty: only a Set that was not armed fills it otherwise
	}
}
