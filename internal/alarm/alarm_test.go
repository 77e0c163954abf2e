package alarm_test

import (
	"sync"
	"testing"
	"time"

	"gophd/internal/alarm"
)

func newAlarm(t testing.TB, c alarm.Clock) *alarm.Alarm {
	t.Helper()
	a, err := alarm.New(c)
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

func silent(a *alarm.Alarm) bool {
	select {
	case <-a.C():
		return false
	default:
		return true
	}
}

func TestRingsOnceAndNeverEarly(t *testing.T) {
	for _, c := range []alarm.Clock{alarm.Monotonic, alarm.Boot} {
		a := newAlarm(t, c)
		for _, d := range []time.Duration{1, time.Microsecond, 300 * time.Microsecond, 5 * time.Millisecond} {
			from := alarm.Now(c)
			a.Set(d)
			<-a.C()
			if late := alarm.Now(c) - from - d; late < 0 {
				t.Errorf("clock %d: set to %v, it rang %v early", c, d, -late)
			}
			if !silent(a) {
				t.Errorf("clock %d: set to %v once, it rang twice", c, d)
			}
		}
	}
}

func TestPastMomentRingsBeforeSetReturns(t *testing.T) {
	a := newAlarm(t, alarm.Monotonic)
	for _, d := range []time.Duration{0, -1, -time.Hour} {
		a.Set(d)
		if silent(a) {
			t.Errorf("set to %v, it did not ring at once", d)
		}
	}
	a.Set(0)
	a.Set(0) // the first ring was not collected: the second must not block
	<-a.C()
	if !silent(a) {
		t.Error("two Sets gave two rings")
	}
}

func TestStopTakesBackARingThatWasNotCollected(t *testing.T) {
	a := newAlarm(t, alarm.Monotonic)
	a.Set(0)
	a.Stop()
	if !silent(a) {
		t.Error("it rang after Stop")
	}
	a.Stop() // with nothing set
	a.Set(time.Microsecond)
	<-a.C()
}

// The reader may be anywhere between the kernel and the channel when the owner sets the alarm anew;
// the ring of the overtaken Set must not arrive as the new one's.
func TestOvertakenRingIsNeverDelivered(t *testing.T) {
	a := newAlarm(t, alarm.Monotonic)
	other := newAlarm(t, alarm.Monotonic)
	for i := range 2000 {
		a.Set(time.Duration(i%60) * time.Microsecond)
		other.Set(time.Duration(i%70) * time.Microsecond)
		<-other.C() // a time about as long as the race needs
		a.Set(time.Hour)
		if !silent(a) {
			t.Fatalf("round %d: the alarm set to an hour rang at once", i)
		}
	}
	other.Set(2 * time.Millisecond)
	<-other.C()
	if !silent(a) {
		t.Fatal("the alarm set to an hour rang")
	}
}

func TestManyAtOnceDoNotDisturbEachOtherAndCloseTakesBackARing(t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			a, err := alarm.New(alarm.Boot)
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
			if !silent(a) {
				t.Error("a closed alarm rang")
			}
		})
	}
	all.Wait()
}

func TestNowGoesOnlyForward(t *testing.T) {
	for _, c := range []alarm.Clock{alarm.Monotonic, alarm.Boot} {
		last := alarm.Now(c)
		if last <= 0 {
			t.Errorf("clock %d reads %v", c, last)
		}
		for range 1000 {
			now := alarm.Now(c)
			if now < last {
				t.Fatalf("clock %d went back from %v to %v", c, last, now)
			}
			last = now
		}
	}
	if m, b := alarm.Now(alarm.Monotonic), alarm.Now(alarm.Boot); b < m {
		t.Error("the boot clock is behind the one that stands still in a suspend")
	}
}

func BenchmarkLateness(b *testing.B) {
	a := newAlarm(b, alarm.Monotonic)
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
	a := newAlarm(b, alarm.Monotonic)
	for b.Loop() {
		a.Set(0)
		<-a.C()
	}
}
