package loop_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gophd/internal/job"
	"gophd/internal/loop"
	"gophd/internal/timer"
)

// realTimer returns the Timer of a loop in q.
func realTimer(q *timer.Queue) func(sync.Locker, func()) loop.Timer {
	return func(mu sync.Locker, f func()) loop.Timer { return q.AfterFunc(mu, f) }
}

func openQueue(t testing.TB) *timer.Queue {
	q, err := timer.NewQueue(timer.Monotonic)
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

// crowd is the environment of many loops: all their runs are active at the same time, or none.
type crowd struct {
	changed *sync.Cond // a state has changed
	active  sync.WaitGroup
	shut    chan struct{}
}

// member is one loop of a crowd.
type member struct {
	*crowd
	loop  *loop.Loop
	state job.State // guarded by changed.L
}

func (m *member) Run(context.Context, job.Run) job.Result {
	m.active.Done()
	m.active.Wait() // for all others: it would wait in vain if one of them was not started before this one ends
	return job.Result{Outcome: job.Exited}
}

func (m *member) Shut(time.Time) <-chan struct{} {
	select {
	case <-m.shut:
		return nil
	default:
		return m.shut
	}
}

func (m *member) Record(r loop.Report) {
	m.changed.L.Lock()
	defer m.changed.L.Unlock()
	m.state = r.State
	m.changed.Broadcast()
}

// await blocks until all are in that state.
func (c *crowd) await(all []*member, state job.State) {
	c.changed.L.Lock()
	defer c.changed.L.Unlock()
	for _, m := range all {
		for m.state != state {
			c.changed.Wait()
		}
	}
}

// awaitGoroutines blocks until there are at most n goroutines: one that has reported its last event
// still has to return.
func awaitGoroutines(n int) {
	for runtime.NumGoroutine() > n {
		runtime.Gosched()
	}
}

// descriptors returns how many descriptors this process has, and how many of them are timers. It is
// 0 on a system without /proc.
func descriptors(t *testing.T) (all, timers int) {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil {
			all++
			if strings.Contains(target, "timerfd") {
				timers++
			}
		}
	}
	return all, timers
}

// A thousand loops have one timer of the system between them. Each has a goroutine while its tick is
// held or its run is active, and none while it waits. All ticks are due at the same instant, and the
// goroutine of the timers waits for none of the runs.
func TestIdleLoopsHaveNoGoroutineAndOneTimer(t *testing.T) {
	const n = 1000
	q := openQueue(t)
	goroutines := runtime.NumGoroutine()
	before, timers := descriptors(t)
	c := &crowd{changed: sync.NewCond(new(sync.Mutex)), shut: make(chan struct{})}
	c.active.Add(n)
	all := make([]*member, n)
	for i := range all {
		m := &member{crowd: c}
		m.loop = loop.New(loop.Options{Spec: &job.Spec{Name: "idle", Schedule: job.Schedule{Interval: time.Hour,
			RunAtStart: true, Overlap: job.OverlapQueue}}, Runner: m, Recorder: m, Gate: m, Timer: realTimer(q)})
		all[i] = m
		m.loop.Start()
	}
	c.await(all, job.Held)
	if now := runtime.NumGoroutine() - goroutines; now > n {
		t.Errorf("%d loops whose tick is held have %d goroutines", n, now)
	}
	close(c.shut)
	c.await(all, job.Waiting)
	awaitGoroutines(goroutines)
	if after, now := descriptors(t); after != before || now != timers {
		t.Errorf("%d descriptors and %d timers became %d and %d", before, timers, after, now)
	}
	for _, m := range all {
		m.loop.Stop()
		m.loop.Wait()
	}
	awaitGoroutines(goroutines)
}

// busy is the environment of a loop whose runs take no time, and whose gate is shut and opened
// continuously.
type busy struct {
	t      *testing.T
	mu     sync.Mutex
	shut   chan struct{} // nil if the gate is open
	active int
	runs   int
	done   bool
}

func (b *busy) Run(context.Context, job.Run) job.Result {
	b.mu.Lock()
	if b.active++; b.active > 1 {
		b.t.Errorf("%d runs at a time", b.active)
	}
	b.runs++
	b.mu.Unlock()
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active--
	return job.Result{Outcome: job.Exited}
}

func (b *busy) Record(r loop.Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		b.t.Errorf("reported after the end: %+v", r)
	}
	b.done = r.State == job.Done
}

func (b *busy) Shut(time.Time) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shut
}

func (b *busy) isDone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}

func (b *busy) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.runs
}

// turn shuts the gate if it is open, and opens it if it is shut.
func (b *busy) turn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut != nil {
		close(b.shut)
		b.shut = nil
	} else {
		b.shut = make(chan struct{})
	}
}

// Requests, ticks, the gate and the ends of runs come from many goroutines at the same time.
func TestConcurrentEvents(t *testing.T) {
	q := openQueue(t)
	goroutines := runtime.NumGoroutine()
	for _, spec := range []job.Spec{
		{Schedule: job.Schedule{Interval: 100 * time.Microsecond, RunAtStart: true, Overlap: job.OverlapQueue}},
		{Schedule: job.Schedule{RunAtStart: true}},
		{Schedule: job.Schedule{Interval: 100 * time.Microsecond, Service: true}},
	} {
		for _, end := range []func(*loop.Loop){(*loop.Loop).Stop, func(l *loop.Loop) { l.Cancel(nil) },
			func(l *loop.Loop) {
				if err := l.HandOff(func() error { return nil }); err != nil {
					t.Error(err)
				}
			}} {
			b := &busy{t: t}
			l := loop.New(loop.Options{Spec: &spec, Runner: b, Recorder: b, Gate: b, Timer: realTimer(q)})
			l.Start()
			var requests sync.WaitGroup
			for _, f := range []func(){l.RunNow, b.turn} {
				requests.Go(func() {
					for !b.isDone() {
						f()
						runtime.Gosched()
					}
				})
			}
			for b.count() < 300 {
				runtime.Gosched()
			}
			end(l)
			l.Wait()
			if !b.isDone() {
				t.Error("it has ended and has not reported that")
			}
			requests.Wait()
		}
	}
	awaitGoroutines(goroutines)
}

// All loops or none are handed off, one within the other, while ticks and ends of runs come from other
// goroutines and wait for that.
func TestHandOffOfManyLoops(t *testing.T) {
	q := openQueue(t)
	goroutines := runtime.NumGoroutine()
	var all []*loop.Loop
	var environments []*busy
	for i := range 8 {
		b := &busy{t: t}
		interval := time.Duration(i%4) * time.Millisecond // some are back to back
		l := loop.New(loop.Options{Spec: &job.Spec{Schedule: job.Schedule{Interval: interval, RunAtStart: true,
			Overlap: job.OverlapQueue}}, Runner: b, Recorder: b, Gate: b, Timer: realTimer(q)})
		l.Start()
		all, environments = append(all, l), append(environments, b)
	}
	var handOff func(rest []*loop.Loop, last error) error
	handOff = func(rest []*loop.Loop, last error) error {
		if len(rest) == 0 {
			return last
		}
		return rest[0].HandOff(func() error { return handOff(rest[1:], last) })
	}
	for i := range 50 {
		for environments[0].count() < i || environments[1].count() < i {
			time.Sleep(time.Millisecond)
		}
		if err := handOff(all, errBusy); err != errBusy {
			t.Fatalf("the innermost refused, and the outermost returned %v", err)
		}
		for _, b := range environments {
			if b.isDone() {
				t.Fatal("a loop has ended although the innermost refused")
			}
		}
	}
	if err := handOff(all, nil); err != nil {
		t.Fatal(err)
	}
	for i, l := range all {
		l.Wait()
		if !environments[i].isDone() {
			t.Error("it has ended and has not reported that")
		}
		l.Cancel(nil)
	}
	awaitGoroutines(goroutines)
}

// BenchmarkIdleLoop measures the memory of a loop that waits.
func BenchmarkIdleLoop(b *testing.B) {
	q := openQueue(b)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var all []*loop.Loop
	for b.Loop() {
		m := &busy{}
		l := loop.New(loop.Options{Spec: &job.Spec{Schedule: job.Schedule{Interval: time.Hour}}, Runner: m, Recorder: m,
			Gate: m, Timer: realTimer(q)})
		l.Start()
		all = append(all, l)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/float64(len(all)), "B/loop")
	for _, l := range all {
		l.Stop()
	}
}
