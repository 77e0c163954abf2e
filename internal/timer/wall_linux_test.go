package timer

import (
	"sync"
	"testing"
	"time"
)

// When the wall clock is set, each timer of its queue expires once, however far away its moment is, and
// can be set again from there. The test does what the kernel's notice leads to, because it must not set
// the clock of the machine.
func TestAllTimersExpireWhenTheClockIsSet(t *testing.T) {
	q, err := NewQueue(Wall)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	expired := make(chan int, 10)
	var timers [3]*Timer
	for i := range timers {
		timers[i] = q.AfterFunc(&mu, func() {
			expired <- i
			timers[i].Set(time.Hour)
		})
	}
	mu.Lock()
	timers[0].Set(time.Hour)
	timers[1].Set(2 * time.Hour)
	mu.Unlock()
	for range 3 {
		q.mu.Lock()
		q.system.clockSet.Store(true)
		err := q.system.settime(1)
		q.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if sum := <-expired + <-expired; sum != 1 {
			t.Errorf("the sum of those that expired is %d", sum)
		}
	}
	mu.Lock()
	timers[2].Set(0) // it expires as usual after that, and no other does
	mu.Unlock()
	if i := <-expired; i != 2 || len(expired) > 0 {
		t.Errorf("timer %d expired, and %d more", i, len(expired))
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}
