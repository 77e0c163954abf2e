package timer

import (
	"container/heap"
	"math"
	"slices"
	"sync"
	"time"

	"gophd/internal/goroutine"
)

// Queue is the timers of one clock.
type Queue struct {
	clock     Clock
	system    *systemTimer
	goroutine goroutine.Group // the one that calls the functions of the timers

	mu         sync.Mutex
	timers     timers
	set        time.Duration // the moment for which system is set; 0 if it is not
	delivering bool          // until that is done, system is not set
}

// Timer is one moment of a Queue, at which a function is called.
type Timer struct {
	queue *Queue
	owner sync.Locker
	f     func()

	// Guarded by queue.mu.
	at    time.Duration // on the clock
	index int           // in queue.timers; -1 if the timer is not set
}

// NewQueue creates a queue without timers. Close it when done.
func NewQueue(c Clock) (*Queue, error) {
	system, err := openSystemTimer(c)
	if err != nil {
		return nil, err
	}
	q := &Queue{clock: c, system: system}
	q.goroutine.Go(func() {
		for {
			set, open := q.system.wait()
			if !open {
				return
			}
			q.deliver(set)
		}
	})
	return q, nil
}

// AfterFunc returns a timer that is not set. When it expires, the goroutine of the queue calls f,
// and holds owner meanwhile. The callers of Set and Stop hold owner too. So after they have
// returned, f is called for the new setting only, or not at all. All timers of the queue wait while
// f or another goroutine holds owner, so neither may block. f must not panic. On the wall clock a timer
// expires early when the clock is set.
func (q *Queue) AfterFunc(owner sync.Locker, f func()) *Timer {
	return &Timer{queue: q, owner: owner, f: f, index: -1}
}

// Close stops all timers, and waits until f of none of them is active. The callers must not hold
// their owners. A timer that is set after that does not expire.
func (q *Queue) Close() error {
	err := q.system.close()
	q.goroutine.Wait()
	return err
}

// Set makes the timer expire once, d from now, or at once if d is not positive. It replaces the last
// Set. It does not block.
func (t *Timer) Set(d time.Duration) {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	t.at = Now(q.clock)
	t.at += min(max(d, 0), math.MaxInt64-t.at)
	if t.index < 0 {
		heap.Push(&q.timers, t)
	} else {
		heap.Fix(&q.timers, t.index)
	}
	q.setSystem()
}

// Stop cancels the timer: it does not expire until the next Set. It does not block.
func (t *Timer) Stop() {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.index >= 0 {
		heap.Remove(&q.timers, t.index)
		q.setSystem()
	}
}

// setSystem sets the timer of the system for the first of the timers, if that has changed.
func (q *Queue) setSystem() {
	var first time.Duration
	if len(q.timers) > 0 {
		first = q.timers[0].at
	}
	if first != q.set && !q.delivering {
		q.set = first
		q.system.set(first)
	}
}

// deliver calls the functions of the timers that are due, or first of all if the clock was set.
func (q *Queue) deliver(clockSet bool) {
	q.begin()
	if clockSet {
		q.expireAll()
	}
	for t := q.due(); t != nil; t = q.due() {
		t.expire(Now(q.clock))
	}
}

// expireAll calls the functions of all timers that are set, due or not.
func (q *Queue) expireAll() {
	q.mu.Lock()
	all := slices.Clone(q.timers)
	q.mu.Unlock()
	for _, t := range all {
		t.expire(math.MaxInt64)
	}
}

func (q *Queue) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.delivering = true
	if q.clock == Wall || q.set <= Now(q.clock) { // otherwise it was set again after it had expired
		q.set = 0
	}
}

// due returns the first timer if it is due. If none is, it ends the delivery.
func (q *Queue) due() *Timer {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.timers) > 0 && q.timers[0].at <= Now(q.clock) {
		return q.timers[0]
	}
	q.delivering = false
	q.setSystem()
	return nil
}

// expire calls f, unless the timer is not due at now any more, because it was set again or stopped
// before its owner was locked.
func (t *Timer) expire(now time.Duration) {
	t.owner.Lock()
	defer t.owner.Unlock()
	if t.take(now) {
		t.f()
	}
}

// take removes the timer from the queue if it is due at now.
func (t *Timer) take(now time.Duration) bool {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.index < 0 || t.at > now {
		return false
	}
	heap.Remove(&q.timers, t.index)
	return true
}

// timers is a heap, the first moment at the top.
type timers []*Timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at < h[j].at }

func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for package heap.
func (h *timers) Push(t any) {
	timer := t.(*Timer)
	timer.index = len(*h)
	*h = append(*h, timer)
}

// Pop is for package heap.
func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h, t.index = (*h)[:last], -1
	return t
}
