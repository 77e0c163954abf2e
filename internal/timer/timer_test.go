package timer_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/timer"
)

func newQueue(t testing.TB, c timer.Clock) *timer.Queue {
	t.Helper()
	q, err := timer.NewQueue(c)
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

// testTimer is a timer with its owner. Its expirations are sent to expired.
type testTimer struct {
	*timer.Timer
	mu      sync.Mutex
	expired chan struct{}
}

func newTimer(q *timer.Queue) *testTimer {
	a := &testTimer{expired: make(chan struct{}, 10)}
	a.Timer = q.AfterFunc(&a.mu, func() { a.expired <- struct{}{} })
	return a
}

func (a *testTimer) Set(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Timer.Set(d)
}

func (a *testTimer) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Timer.Stop()
}

// wantNoMore waits until another timer of the queue that is set now has expired, and fails if a has
// expired before that.
func (a *testTimer) wantNoMore(t *testing.T, q *timer.Queue) {
	t.Helper()
	later := newTimer(q)
	later.Set(0)
	<-later.expired
	if len(a.expired) > 0 {
		t.Error("it expired once more")
	}
}

func TestExpiresOnceAndNeverEarly(t *testing.T) {
	for _, c := range []timer.Clock{timer.Monotonic, timer.Boot, timer.Wall} {
		q := newQueue(t, c)
		a := newTimer(q)
		for _, d := range []time.Duration{1, time.Microsecond, 300 * time.Microsecond, 5 * time.Millisecond} {
			from := timer.Now(c)
			a.Set(d)
			<-a.expired
			if late := timer.Now(c) - from - d; late < 0 {
				t.Errorf("clock %d: set to %v, it expired %v early", c, d, -late)
			}
			a.wantNoMore(t, q)
		}
	}
}

func TestPastMomentExpiresAtOnce(t *testing.T) {
	q := newQueue(t, timer.Monotonic)
	a := newTimer(q)
	for _, d := range []time.Duration{0, -1, -time.Hour, math.MinInt64} {
		a.Set(d)
		<-a.expired
	}
	a.wantNoMore(t, q)
}

func TestMomentBeyondTheEndOfTheClockDoesNotExpire(t *testing.T) {
	q := newQueue(t, timer.Monotonic)
	a := newTimer(q)
	a.Set(math.MaxInt64)
	a.wantNoMore(t, q)
}

func TestStoppedTimerDoesNotExpireUntilItIsSetAgain(t *testing.T) {
	q := newQueue(t, timer.Monotonic)
	a := newTimer(q)
	a.Stop() // with nothing set
	a.mu.Lock()
	a.Timer.Set(0) // the queue cannot call it yet
	a.Timer.Stop()
	a.mu.Unlock()
	a.wantNoMore(t, q)
	a.Stop()
	a.Set(time.Microsecond)
	<-a.expired
}

// The queue may be anywhere between the kernel and the call when the owner sets the timer again. The
// call for the replaced setting must not come after that.
func TestReplacedSettingIsNeverDelivered(t *testing.T) {
	q, other := newQueue(t, timer.Monotonic), newTimer(newQueue(t, timer.Monotonic))
	var mu sync.Mutex
	var long bool // how the timer is set, guarded by mu
	a := q.AfterFunc(&mu, func() {
		if long {
			t.Error("the timer set to an hour expired")
		}
	})
	set := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		long = d == time.Hour
		a.Set(d)
	}
	for i := range 2000 {
		set(time.Duration(i%60) * time.Microsecond)
		other.Set(time.Duration(i%70) * time.Microsecond)
		<-other.expired // takes about as long as the race needs
		set(time.Hour)
	}
	newTimer(q).wantNoMore(t, q)
}

// Ten thousand timers have no goroutine of their own, and expire in the sequence of their moments,
// however they were set, replaced and stopped.
func TestManyTimersExpireInSequence(t *testing.T) {
	const n = 10_000
	type moment struct{ first, last time.Duration } // a timer is due between these
	q := newQueue(t, timer.Boot)
	goroutines := runtime.NumGoroutine()
	var mu sync.Mutex
	var expired, due [n]moment
	done, count := make(chan struct{}), 0
	var all [n]*timer.Timer
	for i := range all {
		all[i] = q.AfterFunc(&mu, func() {
			expired[count] = due[i]
			if count++; count == n/2 {
				close(done)
			}
		})
	}
	set := func(i int, d time.Duration) {
		due[i].first = timer.Now(timer.Boot) + d
		all[i].Set(d)
		due[i].last = timer.Now(timer.Boot) + d
	}
	mu.Lock() // so that none expires before all are set
	for _, i := range rand.Perm(n) {
		set(i, time.Hour)
		set(i, time.Duration(rand.IntN(n)))
	}
	for _, i := range rand.Perm(n) {
		if i%2 == 1 {
			all[i].Stop()
		} else {
			set(i, time.Duration(rand.IntN(n))*10*time.Microsecond)
		}
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d timers have %d goroutines", n, now-goroutines)
	}
	mu.Unlock()
	<-done
	mu.Lock()
	defer mu.Unlock()
	var latest time.Duration
	for i, m := range expired[:count] {
		if latest = max(latest, m.first); m.last < latest {
			t.Fatalf("timer %d in the sequence was due at %v, and one before it at %v", i, m.last, latest)
		}
	}
	if count != n/2 {
		t.Errorf("%d timers expired, want the %d that were not stopped", count, n/2)
	}
}

// A function may set and stop timers, its own too.
func TestFunctionSetsTimers(t *testing.T) {
	q := newQueue(t, timer.Monotonic)
	var mu sync.Mutex
	var a, b *timer.Timer
	calls := 0
	done := make(chan struct{})
	a = q.AfterFunc(&mu, func() {
		b.Stop()
		if calls++; calls < 100 {
			a.Set(time.Duration(calls%3) * time.Microsecond)
			b.Set(time.Hour)
			return
		}
		b.Set(0)
	})
	b = q.AfterFunc(&mu, func() { close(done) })
	mu.Lock()
	b.Set(time.Hour)
	a.Set(0)
	mu.Unlock()
	<-done
	if calls != 100 {
		t.Errorf("it was called %d times", calls)
	}
}

func TestQueuesAreIndependentAndCloseStopsTheTimers(t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			q, err := timer.NewQueue(timer.Boot)
			if err != nil {
				t.Error(err)
				return
			}
			a := newTimer(q)
			for range 50 {
				a.Set(20 * time.Microsecond)
				<-a.expired
			}
			a.Set(time.Hour)
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			a.Set(0) // no effect
			if len(a.expired) > 0 {
				t.Error("a timer of a closed queue expired")
			}
		})
	}
	all.Wait()
}

func TestCloseRepeatsThePanicOfAFunction(t *testing.T) {
	q, err := timer.NewQueue(timer.Monotonic)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	called := make(chan struct{})
	mu.Lock()
	q.AfterFunc(&mu, func() { close(called); panic("the function panicked") }).Set(0)
	mu.Unlock()
	<-called
	if p := goroutine.Catch(func() { err = q.Close() }); p == nil || p.Value != "the function panicked" || err != nil {
		t.Errorf("Close returned %v and panicked with %v", err, p)
	}
	if !mu.TryLock() {
		t.Error("the owner is still locked")
	}
}

func TestNowNeverDecreases(t *testing.T) {
	for _, c := range []timer.Clock{timer.Monotonic, timer.Boot, timer.Wall} {
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
	a := newTimer(newQueue(b, timer.Monotonic))
	var worst, sum time.Duration
	for b.Loop() {
		const d = 1300 * time.Microsecond
		from := time.Now()
		a.Set(d)
		<-a.expired
		late := time.Since(from) - d
		worst, sum = max(worst, late), sum+late
	}
	b.ReportMetric(float64(sum.Nanoseconds())/float64(b.N), "late-ns/op")
	b.ReportMetric(float64(worst.Nanoseconds()), "worst-ns")
}

// BenchmarkSet sets one of many timers, never the first and always the first.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			q := newQueue(b, timer.Monotonic)
			var mu sync.Mutex
			all := make([]*timer.Timer, n)
			for i := range all {
				all[i] = q.AfterFunc(&mu, func() {})
				all[i].Set(time.Hour + time.Duration(i)*time.Second)
			}
			last := all[n-1]
			for i := 0; b.Loop(); i++ {
				last.Set(time.Hour + time.Duration(i%2)*time.Minute)
			}
		})
	}
}
