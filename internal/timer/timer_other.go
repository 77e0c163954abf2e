//go:build unix && !linux

package timer

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Timer expires at a moment. Only one goroutine at a time may call Set, Stop and Close.
//
// On this system it is Go's timer: it may be a millisecond late, and a suspend of the machine
// delays it on either clock.
type Timer struct {
	expired chan struct{}

	mu    sync.Mutex // between the owner and the timer's goroutine
	timer *time.Timer
	turn  uint64 // counts Set, Stop and Close, so that deliver recognizes a replaced Set
}

// New creates a timer that is not set. Close it when done.
func New(Clock) (*Timer, error) { return &Timer{expired: make(chan struct{}, 1)}, nil }

// id returns the system's number of the clock. It has only one that cannot be set.
func (c Clock) id() int32 { return unix.CLOCK_MONOTONIC }

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
	turn := t.turn
	t.timer = time.AfterFunc(d, func() { t.deliver(turn) })
}

// Stop cancels the timer: it does not expire until the next Set.
func (t *Timer) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop()
}

// Close closes the timer. It does not expire after it.
func (t *Timer) Close() error {
	t.Stop()
	return nil
}

// drop disarms the timer, and removes an expiration that was not received.
func (t *Timer) drop() {
	t.turn++
	if t.timer != nil {
		t.timer.Stop()
	}
	select {
	case <-t.expired:
	default:
	}
}

// deliver sends the expiration to C, unless that Set was replaced meanwhile.
func (t *Timer) deliver(turn uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if turn == t.turn {
		t.expired <- struct{}{}
	}
}
