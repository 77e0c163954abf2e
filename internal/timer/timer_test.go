package timer_test

import (
	"sync"
	"testing"
	"time"

	"gophd/internal/timer"
)

func newTimer(t testing.TB, c timer.Clock) *timer.Timer {
	t.Helper()
	a, err := timer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// expired returns true if the timer has delivered an expiration.
func expired(a *timer.Timer) bool {
	select {
	case <-a.C():
		return true
	default:
		return false
	}
}

func TestExpiresOnceAndNeverEarly(t *testing.T) {
	for _, c := range []timer.Clock{timer.Monotonic, timer.Boot} {
		a := newTimer(t, c)
		for _, d := range []time.Duration{1, time.Microsecond, 300 * time.Microsecond, 5 * time.Millisecond} {
			from := timer.Now(c)
			a.Set(d)
			<-a.C()
			if late := timer.Now(c) - from - d; late < 0 {
				t.Errorf("clock %d: set to %v, it expired %v early", c, d, -late)
			}
			if expired(a) {
				t.Errorf("clock %d: set to %v once, it expired twice", c, d)
			}
		}
	}
}

func TestPastMomentExpiresBeforeSetReturns(t *testing.T) {
	a := newTimer(t, timer.Monotonic)
	for _, d := range []time.Duration{0, -1, -time.Hour} {
		a.Set(d)
		if !expired(a) {
			t.Errorf("set to %v, it did not expire at once", d)
		}
	}
	a.Set(0)
	a.Set(0) // the first expiration was not received: the second must not block
	<-a.C()
	if expired(a) {
		t.Error("two Sets caused two expirations")
	}
}

func TestStopRemovesAnExpirationThatWasNotReceived(t *testing.T) {
	a := newTimer(t, timer.Monotonic)
	a.Set(0)
	a.Stop()
	if expired(a) {
		t.Error("it expired after Stop")
	}
	a.Stop() // with nothing set
	a.Set(time.Microsecond)
	<-a.C()
}

// The reader may be anywhere between the kernel and the channel when the owner sets the timer
// again. The expiration of the replaced Set must not arrive as the new one's.
func TestExpirationOfAReplacedSetIsNeverDelivered(t *testing.T) {
	a := newTimer(t, timer.Monotonic)
	other := newTimer(t, timer.Monotonic)
	for i := range 2000 {
		a.Set(time.Duration(i%60) * time.Microsecond)
		other.Set(time.Duration(i%70) * time.Microsecond)
		<-other.C() // takes about as long as the race needs
		a.Set(time.Hour)
		if expired(a) {
			t.Fatalf("round %d: the timer set to an hour expired at once", i)
		}
	}
	other.Set(2 * time.Millisecond)
	<-other.C()
	if expired(a) {
		t.Fatal("the timer set to an hour expired")
	}
}

func TestManyTimersAreIndependentAndCloseRemovesAnExpiration(t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			a, err := timer.New(timer.Boot)
			if err != nil {
				t.Error(err)
				return
			}
			for range 50 {
				a.Set(20 * time.Microsecond)
				<-a.C()
			}
			a.Set(0)
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if expired(a) {
				t.Error("a closed timer expired")
			}
		})
	}
	all.Wait()
}

func TestNowNeverDecreases(t *testing.T) {
	for _, c := range []timer.Clock{timer.Monotonic, timer.Boot} {
		last := timer.Now(c)
		if last <= 0 {
			t.Errorf("clock %d reads %v", c, last)
		}
		for range 1000 {
			now := timer.Now(c)
			if now < last {
				t.Fatalf("clock %d went back from %v to %v", c, last, now)
			}
			last = now
		}
	}
	if m, b := timer.Now(timer.Monotonic), timer.Now(timer.Boot); b < m {
		t.Error("the boot clock is behind the one that stops during a suspend")
	}
}

func BenchmarkLateness(b *testing.B) {
	a := newTimer(b, timer.Monotonic)
	var worst, sum time.Duration
	for b.Loop() {
		const d = 1300 * time.Microsecond
		from := time.Now()
		a.Set(d)
		<-a.C()
		late := time.Since(from) - d
		worst, sum = max(worst, late), sum+late
	}
	b.ReportMetric(float64(sum.Nanoseconds())/float64(b.N), "late-ns/op")
	b.ReportMetric(float64(worst.Nanoseconds()), "worst-ns")
}

func BenchmarkSetAtOnce(b *testing.B) {
	a := newTimer(b, timer.Monotonic)
	for b.Loop() {
		a.Set(0)
		<-a.C()
	}
}
