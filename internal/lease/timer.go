package lease

import (
	"sync"
	"time"

	"gophd/internal/timer"
)

// channelTimer is a timer that delivers to a channel, for the goroutine of a heartbeat.
type channelTimer struct {
	mu      sync.Mutex
	timer   *timer.Timer
	expired chan struct{} // capacity 1
}

func newChannelTimer(q *timer.Queue) *channelTimer {
	t := &channelTimer{expired: make(chan struct{}, 1)}
	t.timer = q.AfterFunc(&t.mu, func() { t.expired <- struct{}{} }) // it has room: see drop
	return t
}

// C delivers when the timer expires.
func (t *channelTimer) C() <-chan struct{} { return t.expired }

// Set makes the timer expire once, d from now, or at once if d is not positive. After it has
// returned, C delivers only the new expiration.
func (t *channelTimer) Set(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop()
	t.timer.Set(d)
}

// Stop cancels the timer.
func (t *channelTimer) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer.Stop()
	t.drop()
}

// drop removes an expiration that was not received. Each Set causes at most one.
func (t *channelTimer) drop() {
	select {
	case <-t.expired:
	default:
	}
}
