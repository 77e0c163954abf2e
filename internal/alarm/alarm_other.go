//go:build unix && !linux

package alarm

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Alarm rings at a moment. Set, Stop and Close belong to one goroutine at a time.
//
// On this system it is Go's timer: it may ring a millisecond late, and a suspend of the machine delays
// it on either clock.
type Alarm struct {
	rings chan struct{}

	mu    sync.Mutex // between the owner and the timer's call
	timer *time.Timer
	turn  uint64 // counts Set, Stop and Close, so that an overtaken call knows itself
}

// New makes an alarm with nothing set. Close it.
func New(Clock) (*Alarm, error) { return &Alarm{rings: make(chan struct{}, 1)}, nil }

// id is the system's number of the clock: there is one only that cannot be set.
func (c Clock) id() int32 { return unix.CLOCK_MONOTONIC }

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
	turn := a.turn
	a.timer = time.AfterFunc(d, func() { a.expired(turn) })
}

// Stop takes back what was set: nothing rings until the next Set.
func (a *Alarm) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop()
}

// Close ends the alarm. Nothing rings after it.
func (a *Alarm) Close() error {
	a.Stop()
	return nil
}

// drop forgets what was set, a ring that was not collected included.
func (a *Alarm) drop() {
	a.turn++
	if a.timer != nil {
		a.timer.Stop()
	}
	select {
	case <-a.rings:
	default:
	}
}

func (a *Alarm) expired(turn uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if turn == a.turn {
		a.rings <- struct{}{}
	}
}
