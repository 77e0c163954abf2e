package lease

import (
	"testing"
	"time"

	"gophd/internal/timer"
)

func openTimers(t *testing.T) *timer.Queue {
	t.Helper()
	q, err := timer.NewQueue(timer.Boot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

// expired returns true if the timer has delivered an expiration.
func expired(a *channelTimer) bool {
	select {
	case <-a.C():
		return true
	default:
		return false
	}
}

func TestTimerDeliversEachExpirationOnce(t *testing.T) {
	q := openTimers(t)
	a, other := newChannelTimer(q), newChannelTimer(q)
	for _, d := range []time.Duration{-time.Hour, 0, time.Microsecond, 3 * time.Millisecond} {
		from := timer.Now(timer.Boot)
		a.Set(d)
		<-a.C()
		if late := timer.Now(timer.Boot) - from - d; late < 0 {
			t.Errorf("set to %v, it expired %v early", d, -late)
		}
		other.Set(0)
		<-other.C()
		if expired(a) {
			t.Errorf("set to %v once, it expired twice", d)
		}
	}
}

// An expiration of the replaced setting may be anywhere on its way when the owner sets the timer
// again or stops it. It must not arrive as the new one's.
func TestReplacedExpirationIsNotDelivered(t *testing.T) {
	q := openTimers(t)
	a, other := newChannelTimer(q), newChannelTimer(openTimers(t))
	for i := range 2000 {
		a.Set(time.Duration(i%60) * time.Microsecond)
		other.Set(time.Duration(i%70) * time.Microsecond)
		<-other.C() // takes about as long as the race needs
		if i%2 == 0 {
			a.Set(time.Hour)
		} else {
			a.Stop()
		}
		if expired(a) {
			t.Fatalf("round %d: it expired after it was replaced", i)
		}
	}
	later := newChannelTimer(q)
	later.Set(time.Millisecond)
	<-later.C()
	if expired(a) {
		t.Fatal("it expired after it was replaced")
	}
}
