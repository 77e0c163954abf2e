package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/goroutine"
)

// fake is a Store in memory with an exact clock. before may fail an operation with an error. after
// may lose the reply of one that was done. Both get "get", "add", "swap" or "expire", and the key.
type fake struct {
	mu            sync.Mutex
	items         map[string]fakeItem
	cas, ops      int
	traits        Traits
	before, after func(op, key string) error
}

type fakeItem struct {
	Entry
	until time.Time
}

var _ Store = (*fake)(nil)

func newFake() *fake {
	return &fake{
		items:  map[string]fakeItem{},
		traits: Traits{Margin: 2 * time.Second, MinTTL: 5 * time.Second, Granularity: time.Second},
	}
}

func (f *fake) do(op, key string, act func(fakeItem, bool) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops++
	if f.before != nil {
		if err := f.before(op, key); err != nil {
			return err
		}
	}
	it, ok := f.items[key]
	if ok && !it.until.IsZero() && !it.until.After(time.Now()) {
		delete(f.items, key)
		ok = false
	}
	err := act(it, ok)
	if f.after != nil {
		if lost := f.after(op, key); lost != nil {
			return lost
		}
	}
	return err
}

func (f *fake) set(key string, value []byte, ttl time.Duration) {
	f.cas++
	it := fakeItem{Entry: Entry{value, f.cas}}
	if ttl > 0 && !f.traits.Lock {
		it.until = time.Now().Add(ttl)
	}
	f.items[key] = it
}

func (f *fake) Get(_ context.Context, key string) (e Entry, err error) {
	err = f.do("get", key, func(it fakeItem, ok bool) error {
		if e = it.Entry; !ok {
			e = Entry{}
			return ErrAbsent
		}
		return nil
	})
	return e, err
}

func (f *fake) Add(_ context.Context, key string, value []byte, ttl time.Duration) error {
	return f.do("add", key, func(_ fakeItem, ok bool) error {
		if ok {
			return ErrExists
		}
		f.set(key, value, ttl)
		return nil
	})
}

func (f *fake) replace(op, key string, old Entry, act func()) error {
	return f.do(op, key, func(it fakeItem, ok bool) error {
		switch {
		case !ok:
			return ErrAbsent
		case it.Token != old.Token:
			return ErrChanged
		}
		act()
		return nil
	})
}

func (f *fake) Swap(_ context.Context, key string, old Entry, value []byte, ttl time.Duration) error {
	return f.replace("swap", key, old, func() { f.set(key, value, ttl) })
}

func (f *fake) Expire(_ context.Context, key string, old Entry) error {
	return f.replace("expire", key, old, func() { delete(f.items, key) })
}

func (f *fake) Traits() Traits { return f.traits }
func (f *fake) Close() error   { return nil }

// The methods below let a test access the store directly.

func (f *fake) put(key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(key, []byte(value), 0)
}

func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.items)
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

func (f *fake) value(key string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items[key].Value
}

func (f *fake) record() Record { return ParseRecord(f.value(testKey)) }

func (f *fake) hook(before, after func(op, key string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

var errSilent = errors.New("connection refused")

func silent(string, string) error { return errSilent }

const (
	testKey = "job_process_heartbeat"
	validT  = 7850 * time.Millisecond // validity with the options below: 10 s - 2 s - 1 % - 50 ms
)

// host is a machine: a boot clock with a timer. It implements Alarm.
type host struct {
	start time.Time
	slept atomic.Int64
	mu    sync.Mutex
	at    time.Duration
	timer *time.Timer
	c     chan struct{}
}

func newHost() *host { return &host{start: time.Now(), c: make(chan struct{}, 1)} }

func (m *host) boot() time.Duration {
	return time.Hour + time.Since(m.start) + time.Duration(m.slept.Load())
}

func (m *host) C() <-chan struct{} { return m.c }

func (m *host) Set(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer != nil {
		m.timer.Stop()
	}
	m.at, m.timer = m.boot()+d, time.AfterFunc(d, m.fire)
}

func (m *host) fire() {
	select {
	case m.c <- struct{}{}:
	default:
	}
}

// suspend suspends the machine: the boot clock advances, the clock of the bubble does not.
func (m *host) suspend(d time.Duration) {
	m.slept.Add(int64(d))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer != nil && m.at <= m.boot() {
		m.fire()
	}
}

func (m *host) options(pid int) Options {
	return Options{
		Key:  testKey,
		Self: Record{PID: pid, Host: "a1", Boot: "boot", Started: time.Now(), Interval: 300},
		TTL:  10 * time.Second, Renew: 2 * time.Second, StopGrace: 2 * time.Second, Timeout: 500 * time.Millisecond,
		AcquireTimeout: 5 * time.Second, Boot: m.boot, Timer: m,
	}
}

// instance is a Heartbeat whose Run is active.
type instance struct {
	*Heartbeat
	t      *testing.T
	cancel context.CancelFunc
	err    chan error
}

func run(t *testing.T, o Options, s Store) *instance {
	t.Helper()
	h, err := New(o, s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	i := &instance{h, t, cancel, make(chan error, 1)}
	go func() { i.err <- h.Run(ctx) }()
	return i
}

// reach waits at most a minute for the state, and returns the lease.
func (i *instance) reach(want State) Lease {
	i.t.Helper()
	limit := time.After(time.Minute)
	for {
		l, changed := i.Watch()
		if l.State == want {
			return l
		}
		select {
		case <-changed:
		case <-limit:
			i.t.Fatalf("still %v (%v) after a minute, want %v", l.State, l.Err, want)
		}
	}
}

func (i *instance) state() State {
	l, _ := i.Watch()
	return l.State
}

// stop stops the instance gracefully.
func (i *instance) stop() {
	i.t.Helper()
	i.cancel()
	if err := <-i.err; err != nil {
		i.t.Errorf("Run returned %v after a stop", err)
	}
}

// held returns an instance that has acquired the lease in an empty store.
func held(t *testing.T, o Options, f *fake) *instance {
	t.Helper()
	i := run(t, o, f)
	i.reach(Held)
	return i
}

func TestTransitionTable(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(doc)) {
		if cells, ok := strings.CutPrefix(strings.TrimSpace(line), "//\t|"); ok {
			rows = append(rows, strings.Fields(strings.ReplaceAll(cells, "|", " ")))
		}
	}
	if got, want := len(rows), int(states)+1; got != want {
		t.Fatalf("doc.go has %d rows, want %d", got, want)
	}
	if diff := cmp.Diff(eventNames[:], rows[0]); diff != "" {
		t.Fatalf("events in doc.go: %s", diff)
	}
	for from := range states {
		row := rows[from+1]
		if row[0] != from.String() || len(row) != int(events)+1 {
			t.Fatalf("row %d of doc.go is %v, want %v with %d cells", from+1, row, from, events)
		}
		for e := range events {
			h, err := New(newHost().options(1), newFake())
			if err != nil {
				t.Fatal(err)
			}
			h.engine.state = from
			h.publish()
			_, changed := h.Watch()
			h.transition(e)
			l, _ := h.Watch()
			if l.State.String() != row[e+1] {
				t.Errorf("%v, %s: is %v, want %s", from, eventNames[e], l.State, row[e+1])
			}
			select {
			case <-changed:
				if l.State == from {
					t.Errorf("%v, %s: signals a change without one", from, eventNames[e])
				}
			default:
				if l.State != from {
					t.Errorf("%v, %s: does not signal the change", from, eventNames[e])
				}
			}
		}
	}
}

func TestFirstInstanceWaitsForProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		start := time.Now()
		i := run(t, m.options(4711), f)
		l := i.reach(Proving)
		if i.MayStart() {
			t.Error("a command may start before the proof")
		}
		if got, want := time.Since(start), 2*time.Second+restoreWait; got != want {
			t.Errorf("claimed after %v, want %v", got, want)
		}
		if got, want := l.Until.Sub(start), 2*time.Second+restoreWait+validT+proofExtra; got != want {
			t.Errorf("Until is after %v, want %v", got, want)
		}
		if r := f.record(); r.State != Pending || r.PID != 4711 {
			t.Errorf("the record is %+v during the proof", r)
		}
		l = i.reach(Held)
		if got := time.Since(start); got < 10*time.Second || got > 11*time.Second {
			t.Errorf("held after %v, want about 10.65 s", got)
		}
		if !i.MayStart() || l.Fence == 0 || l.Deadline != m.boot()-serverDelay+validT {
			t.Errorf("fencing token %d, deadline in %v", l.Fence, l.Deadline-m.boot())
		}
		r := f.record()
		want := Record{
			V: 1, PID: 4711, Timestamp: time.Now().Unix(), Host: "a1", ID: l.ID, Op: r.Op, State: Active,
			Started: start, Renewed: time.Now(), Seq: r.Seq, Fence: l.Fence, TTL: 10, Interval: 300, Boot: "boot",
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("record: %s", diff)
		}
		time.Sleep(10 * time.Minute) // two intervals of the loop and many ttls
		if got, _ := i.Watch(); got.State != Held || got.Fence != l.Fence {
			t.Errorf("after ten minutes: %+v", got)
		}
		i.stop()
		if f.value(testKey) != nil {
			t.Errorf("the key was not removed: %s", f.value(testKey))
		}
		if s, _ := parseStateRecord(f.value(testKey + ".state")); !s.Clean || s.Fence != l.Fence {
			t.Errorf("state %+v after the release", s)
		}
	})
}

func TestStandbyTakesOverAtOnceAfterCleanRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		a := held(t, m.options(1), f)
		o := newHost().options(1) // the same PID on another host
		o.Standby = true
		b := run(t, o, f)
		if l := b.reach(Standby); l.Holder.PID != 1 || l.Holder.Host != "a1" {
			t.Errorf("the standby reports holder %+v", l.Holder)
		}
		time.Sleep(time.Minute)
		if b.state() != Standby || b.MayStart() {
			t.Fatalf("standby became %v beside a holder", b.state())
		}
		la, _ := a.Watch()
		a.stop()
		start := time.Now()
		if lb := b.reach(Held); lb.Fence != la.Fence+1 {
			t.Errorf("fencing token %d after %d", lb.Fence, la.Fence)
		}
		if d := time.Since(start); d < cleanWait || d > 1100*time.Millisecond {
			t.Errorf("taken over after %v", d)
		}
		b.stop()
	})
}

func TestHeldErrorNamesTheHolder(t *testing.T) {
	for value, want := range map[string]string{
		`{"v":1,"id":"x","pid":812,"host":"b","started":"2026-01-02T10:04:31Z"}`: "PID 812 on b since 2026-01-02 10:04:31",
		"4711": "PID 4711 (a value that gophd did not write)",
		`a:2:{s:3:"pid";i:4712;s:9:"timestamp";i:1790000000;}`: "PID 4712 (",
		`{"v":2,"id":"x","pid":9}`:                             "PID 9 (",
		"":                                                     "a value that gophd did not write",
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.put(testKey, value)
			i := run(t, newHost().options(1), f)
			err := <-i.err
			var he *HeldError
			if !errors.As(err, &he) || he.Key != testKey || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want a HeldError with %q", err, want)
			}
			if got := string(f.value(testKey)); got != value || len(f.items) != 1 {
				t.Errorf("the store was written: %q", got)
			}
		})
	}
}

func TestStandbyStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(testKey, "4711")
		o := newHost().options(1)
		o.Standby = true
		i := run(t, o, f)
		i.reach(Standby)
		start := time.Now()
		i.stop()
		if d := time.Since(start); d > 0 {
			t.Errorf("stopped after %v", d)
		}
		if i.state() != Released {
			t.Errorf("is %v", i.state())
		}
	})
}

func TestForeignValueEndsLease(t *testing.T) {
	for _, wait := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, m := newFake(), newHost()
			o := m.options(1)
			o.Standby = wait
			i := held(t, o, f)
			state := string(f.value(testKey + ".state"))
			f.put(testKey, "4711") // a PHP-Daemon, or an administrator who evicts the holder
			if l := i.reach(Lost); l.Holder.PID != 4711 || i.MayStart() {
				t.Errorf("lost to %+v", l.Holder)
			}
			if wait {
				i.reach(Standby)
				i.stop()
			} else {
				var lost *LostError
				if err := <-i.err; !errors.As(err, &lost) || lost.By.PID != 4711 {
					t.Errorf("Run returned %v, want a LostError", err)
				}
			}
			if string(f.value(testKey)) != "4711" || string(f.value(testKey+".state")) != state {
				t.Error("something was written after the loss")
			}
		})
	}
}

func TestReleaseKeepsRecordOfSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		i := held(t, newHost().options(1), f)
		once := true
		f.hook(func(op, key string) error {
			if op == "expire" && once {
				once = false
				f.set(testKey, []byte("4711"), 0) // between the read and the removal
			}
			return nil
		}, nil)
		i.stop()
		if got := string(f.value(testKey)); got != "4711" || once {
			t.Errorf("the successor's key is %q", got)
		}
	})
}

func TestHolderRestoresForgottenKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		i := held(t, newHost().options(1), f)
		before, changed := i.Watch()
		f.forget() // a restart of the server
		time.Sleep(3 * time.Second)
		if r := f.record(); r.ID != before.ID || r.State != Active || r.Fence != before.Fence {
			t.Errorf("the key is %+v", r)
		}
		select {
		case <-changed:
			l, _ := i.Watch()
			t.Errorf("became %+v", l)
		default:
		}
		i.stop()
	})
}

// TestNewInstanceWaitsForHolderAfterServerRestart: a new instance waits for the holder to restore
// the key that the server forgot.
func TestNewInstanceWaitsForHolderAfterServerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		a := held(t, newHost().options(1), f)
		time.Sleep(100 * time.Millisecond)
		f.forget()
		o := newHost().options(2)
		o.Standby = true
		b := run(t, o, f)
		b.reach(Standby)
		la, _ := a.Watch()
		if la.State != Held {
			t.Fatalf("the holder is %v", la.State)
		}

		// The holder has restored its key: a third instance finds it.
		link := partition{Store: f}
		c := run(t, newHost().options(3), &link)
		if err := <-c.err; !errors.As(err, new(*HeldError)) {
			t.Fatalf("got %v", err)
		}
		a.stop()
		lb := b.reach(Held)
		if lb.Fence <= la.Fence {
			t.Errorf("fencing token %d after %d", lb.Fence, la.Fence)
		}
		b.stop()
	})
}

// partition is a Store behind a link that can be cut.
type partition struct {
	Store
	cut atomic.Bool
}

func (c *partition) Get(ctx context.Context, key string) (Entry, error) {
	if c.cut.Load() {
		return Entry{}, errSilent
	}
	return c.Store.Get(ctx, key)
}

func TestPartitionedHolderIsOutBeforeStandbyHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		link := &partition{Store: f}
		a := run(t, m.options(1), link)
		a.reach(Held)
		time.Sleep(100 * time.Millisecond)
		o := newHost().options(2)
		o.Standby = true
		b := run(t, o, f)
		b.reach(Standby)
		link.cut.Store(true)
		f.forget() // the server loses its data at the same moment
		la := a.reach(Out)
		if b.state() == Held {
			t.Error("two instances hold the lease")
		}
		if lb := b.reach(Held); lb.Fence <= la.Fence {
			t.Errorf("fencing token %d after %d", lb.Fence, la.Fence)
		}
		link.cut.Store(false)
		if err := <-a.err; !errors.As(err, new(*LostError)) {
			t.Errorf("Run returned %v", err)
		}
		b.stop()
	})
}

func TestLeaseExpiresDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		i := held(t, m.options(1), f)
		first, _ := i.Watch()
		f.hook(silent, nil)
		for _, step := range []struct {
			state State
			left  time.Duration
			may   bool
		}{{Doubtful, 3*time.Second - 1, false}, {Ending, 2 * time.Second, false}, {Out, 0, false}} {
			l := i.reach(step.state)
			if left := first.Deadline - m.boot(); left != step.left || i.MayStart() != step.may {
				t.Errorf("%v with %v left, may start: %v; want %v, %v",
					step.state, left, i.MayStart(), step.left, step.may)
			}
			if l.Err != errSilent {
				t.Errorf("%v: the error is %v", step.state, l.Err)
			}
		}
		ops := f.count()
		time.Sleep(10 * time.Minute) // longer than AcquireTimeout: a former holder never gives up
		if rate := float64(f.count()-ops) / 600; rate > 2.5 {
			t.Errorf("%.1f operations a second on an unreachable store", rate)
		}
		start := time.Now()
		f.hook(nil, nil)
		if l := i.reach(Held); l.Fence != first.Fence+1 || l.ID != first.ID {
			t.Errorf("came back with %+v", l)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("held again after %v, although nobody else held the lease", d)
		}
		i.stop()
	})
}

func TestLeaseSurvivesShortOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		i := held(t, newHost().options(1), f)
		first, _ := i.Watch()
		f.hook(silent, nil)
		i.reach(Doubtful)
		f.hook(nil, nil)
		if l := i.reach(Held); l.Fence != first.Fence || !i.MayStart() {
			t.Errorf("came back with %+v", l)
		}
		i.stop()
	})
}

// TestWriteWithoutAnswerIsReadBack: a write that was done is renewed, and one that was not is
// repeated.
func TestWriteWithoutAnswerIsReadBack(t *testing.T) {
	for _, op := range []string{"add L", "swap L", "add S", "swap S"} {
		for _, done := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, done %v", op, done), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					if op == "swap S" {
						f.put(testKey+".state", `{"v":1,"fence":41,"owner":"x","op":"y","clean":true,"ttl":10}`)
					}
					lost := 0
					lose := func(o, key string) error {
						if (key == testKey) == strings.HasSuffix(op, "L") && strings.HasPrefix(op, o) && lost == 0 {
							lost++
							return errSilent
						}
						return nil
					}
					if done {
						f.hook(nil, lose)
					} else {
						f.hook(lose, nil)
					}
					i := run(t, newHost().options(1), f)
					l := i.reach(Held)
					if lost != 1 {
						t.Fatal("nothing was lost")
					}
					if r := f.record(); r.ID != l.ID || r.Fence != l.Fence || r.State != Active {
						t.Errorf("the key is %+v", r)
					}
					m, _ := parseStateRecord(f.value(testKey + ".state"))
					if m.Owner != l.ID || m.Fence != l.Fence || m.Clean {
						t.Errorf("the state is %+v, the fencing token %d", m, l.Fence)
					}
					if op == "swap S" && l.Fence != 42 {
						t.Errorf("fencing token %d, want 42", l.Fence)
					}
					i.stop()
				})
			})
		}
	}
}

// TestProofRestartsWhenChainIsBroken: our own id in the key does not prove that nobody else wrote
// in between. It may come from a write that had timed out.
func TestProofRestartsWhenChainIsBroken(t *testing.T) {
	for name, after := range map[string]time.Duration{
		"in the proof":    4 * time.Second,
		"before the last": validT + proofExtra - time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				i := run(t, newHost().options(1), f)
				i.reach(Proving)
				time.Sleep(after)
				stale := f.record()
				stale.Op = "stale"
				f.mu.Lock()
				f.set(testKey, encode(stale), 10*time.Second)
				f.mu.Unlock()
				start := time.Now()
				i.reach(Held)
				if d := time.Since(start); d < validT {
					t.Errorf("held %v after the chain was broken", d)
				}
				i.stop()
			})
		})
	}
}

// TestProcedureRestartsWhenChainIsBrokenAtConfirmation: the value that the last read of the
// procedure returns must be of the chain too.
func TestProcedureRestartsWhenChainIsBrokenAtConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var wasted uint64
		f.hook(nil, func(op, key string) error {
			if op == "add" && key != testKey { // the fencing token is written
				stale := ParseRecord(f.items[testKey].Value)
				stale.Op = "stale"
				f.set(testKey, encode(stale), 10*time.Second)
				m, _ := parseStateRecord(f.items[key].Value)
				wasted = m.Fence
			}
			return nil
		})
		i := run(t, newHost().options(1), f)
		l := i.reach(Held)
		if wasted == 0 || l.Fence != wasted+1 || f.record().Op == "stale" {
			t.Errorf("fencing token %d after %d", l.Fence, wasted)
		}
		i.stop()
	})
}

// TestProofWaitsForLongestTTL: a proof waits for the longest ttl that was read, not only for its
// own.
func TestProofWaitsForLongestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(testKey+".state", `{"v":1,"fence":41,"owner":"x","op":"y","ttl":20}`)
		i := run(t, newHost().options(1), f)
		if l := i.reach(Proving); l.Until.Sub(l.Since) != 17750*time.Millisecond+proofExtra {
			t.Errorf("waits %v", l.Until.Sub(l.Since))
		}
		i.reach(Held)
		i.stop()
	})
}

// TestStaleOwnStateDoesNotShortenProof: S may have our id from a write that timed out long ago.
// That does not show that nobody else has held the lease since.
func TestStaleOwnStateDoesNotShortenProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		i := held(t, newHost().options(1), f)
		f.hook(silent, nil)
		l := i.reach(Out)
		f.forget()
		f.put(testKey+".state", fmt.Sprintf(`{"v":1,"fence":5,"owner":%q,"op":"stale","ttl":10}`, l.ID))
		f.hook(nil, nil)
		start := time.Now()
		i.reach(Held)
		if d := time.Since(start); d < validT {
			t.Errorf("held after %v", d)
		}
		i.stop()
	})
}

// TestAnswerAfterDeadlineIsNoRenewal: a renewal that is acknowledged after the deadline is too
// late, even if the new deadline has not passed.
func TestAnswerAfterDeadlineIsNoRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		slow := &slowStore{fake: f}
		i := run(t, m.options(1), slow)
		first := i.reach(Held)
		f.hook(silent, nil)
		i.reach(Ending)
		l, _ := i.Watch()
		time.Sleep(l.Deadline - m.boot() - 300*time.Millisecond)
		slow.delay.Store(int64(900 * time.Millisecond)) // within the time of one operation
		f.hook(nil, nil)
		i.reach(Out)
		slow.delay.Store(0)
		if l := i.reach(Held); l.Fence != first.Fence+1 {
			t.Errorf("held with fencing token %d after %d", l.Fence, first.Fence)
		}
		i.stop()
	})
}

// slowStore is a Store that delays its answers to a Swap.
type slowStore struct {
	*fake
	delay atomic.Int64
}

func (s *slowStore) Swap(ctx context.Context, key string, old Entry, value []byte, ttl time.Duration) error {
	defer time.Sleep(time.Duration(s.delay.Load()))
	return s.fake.Swap(ctx, key, old, value, ttl)
}

// TestProcedureRestartsAfterFreezeInLastStep: an instance that was frozen during its last step has
// a deadline in the past, so it does not hold the lease.
func TestProcedureRestartsAfterFreezeInLastStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		var frozen time.Time
		f.hook(nil, func(op, key string) error {
			if op == "swap" && key == testKey && ParseRecord(f.items[key].Value).State == Active && frozen.IsZero() {
				frozen = time.Now()
				m.suspend(time.Minute)
			}
			return nil
		})
		i := run(t, m.options(1), f)
		if l := i.reach(Held); frozen.IsZero() || l.Deadline <= m.boot() || !i.MayStart() {
			t.Errorf("held with %v left", l.Deadline-m.boot())
		}
		if d := time.Since(frozen); d > time.Second { // it restarts without a pause
			t.Errorf("held %v later", d)
		}
		i.stop()
	})
}

func TestUnreachableStoreAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.hook(silent, nil)
		start := time.Now()
		i := run(t, newHost().options(1), f)
		var u *UnreachableError
		if err := <-i.err; !errors.As(err, &u) || !errors.Is(err, errSilent) {
			t.Errorf("Run returned %v", err)
		}
		if d := time.Since(start); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("gave up after %v", d)
		}

		o := newHost().options(1)
		o.Standby = true
		i = run(t, o, f)
		time.Sleep(time.Hour)
		f.hook(nil, nil)
		i.reach(Held)
		i.stop()
	})
}

func TestContinueHoldsWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := newFake(), newHost().options(1)
		o.Continue = true
		f.hook(silent, nil)
		i := run(t, o, f)
		if l := i.reach(Held); l.Fence != 0 || !l.Unproven || !i.MayStart() || l.Deadline != 0 || l.Err == nil {
			t.Errorf("without a store: %+v", l)
		}
		f.hook(nil, nil)
		time.Sleep(20 * time.Second)
		l, _ := i.Watch()
		if l.State != Held || l.Unproven || l.Fence == 0 || l.Deadline == 0 {
			t.Errorf("with a store: %+v", l)
		}
		f.hook(silent, nil)
		time.Sleep(time.Hour)
		if l, _ := i.Watch(); l.State != Held || !l.Unproven || !i.MayStart() {
			t.Errorf("during an outage: %+v", l)
		}
		ho, err := i.HandOff(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-i.err
		o.Adopt = &ho
		i = run(t, o, f)
		time.Sleep(time.Minute)
		if l, _ := i.Watch(); l.State != Held || !l.Unproven || !i.MayStart() {
			t.Errorf("the new process: %+v", l)
		}
		f.hook(nil, nil)
		f.put(testKey, "4711")
		if err := <-i.err; !errors.As(err, new(*LostError)) {
			t.Errorf("Run returned %v with another's value", err)
		}
		if i.MayStart() {
			t.Error("a command may start with another's value in the key")
		}
	})
}

// TestContinueDoesNotApplyToFrozenInstance: Continue is for a store that gives no answer, not for
// an instance that is late.
func TestContinueDoesNotApplyToFrozenInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		o := m.options(1)
		o.Continue = true
		i := held(t, o, f)
		m.suspend(time.Minute)
		if l := i.reach(Out); l.Unproven {
			t.Errorf("continues without a proof: %+v", l)
		}
		i.stop()
	})
}

func TestSuspendBlocksStartsUntilRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		i := held(t, m.options(1), f)
		m.suspend(time.Second) // not long enough for the timer
		if i.MayStart() {
			t.Error("a command may start after a suspend, before a renewal")
		}
		ops := f.count()
		time.Sleep(serverDelay)
		synctest.Wait()
		if f.count() == ops || !i.MayStart() || i.state() != Held {
			t.Errorf("%d operations after MayStart, state %v", f.count()-ops, i.state())
		}
		m.suspend(5 * time.Second) // the timer fires: too little is left
		i.reach(Doubtful)
		start := time.Now()
		i.reach(Held)
		if d := time.Since(start); d != serverDelay {
			t.Errorf("renewed %v after the timer", d)
		}
		m.suspend(time.Hour)
		synctest.Wait()
		if i.state() != Out || i.MayStart() {
			t.Errorf("is %v after a suspend of an hour", i.state())
		}
		i.reach(Held)
		i.stop()
	})
}

func TestDeadOwnerOnThisHostIsReplacedAtOnce(t *testing.T) {
	for _, dead := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f, m := newFake(), newHost()
			link := &partition{Store: f}
			a := run(t, m.options(1), link)
			la := a.reach(Held)
			link.cut.Store(true) // killed
			o := m.options(2)
			o.Timer = newHost()
			o.Standby = true
			o.Dead = func(r Record) bool { return dead && r.PID == 1 }
			start := time.Now()
			b := run(t, o, f)
			l := b.reach(Held)
			if d := time.Since(start); dead != (d < time.Second) {
				t.Errorf("dead %v: held after %v", dead, d)
			}
			if l.Fence <= la.Fence {
				t.Errorf("fencing token %d after %d", l.Fence, la.Fence)
			}
			a.cancel()
			<-a.err
			b.stop()
		})
	}
}

func TestHandoffKeepsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := newFake(), newHost()
		a := held(t, m.options(1), f)
		a.Beat(Pulse{Tick: 7, Child: 99})
		la, _ := a.Watch()
		time.Sleep(1500 * time.Millisecond)
		ho, err := a.HandOff(t.Context())
		if err != nil || <-a.err != nil {
			t.Fatalf("HandOff: %v", err)
		}
		if r := f.record(); r.Tick != 7 || r.Child != 99 || r.State != Active {
			t.Errorf("the renewal before the handoff wrote %+v", r)
		}
		if got, want := ho.Deadline-m.boot(), validT-serverDelay; got != want {
			t.Errorf("handed off with %v left, want %v", got, want)
		}
		if _, err := a.HandOff(t.Context()); err == nil {
			t.Error("handed off twice")
		}
		o := m.options(1)
		o.Adopt = &ho
		time.Sleep(200 * time.Millisecond)
		b := run(t, o, f)
		if l, _ := b.Watch(); l.State != Held || l.ID != la.ID || l.Fence != la.Fence || !b.MayStart() {
			t.Errorf("the new process starts with %+v", l)
		}
		time.Sleep(time.Second)
		if r := f.record(); !r.Started.Equal(ho.Started) || r.Seq <= ho.Seq {
			t.Errorf("the new process wrote %+v", r)
		}
		b.stop()
		if f.value(testKey) != nil {
			t.Error("the new process did not release the key")
		}
	})
}

// A reload while the new holder waits for the proof does not begin that wait anew, however often, if
// only its own values were in the key meanwhile.
func TestHandoffContinuesProof(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(*fake)
		anew      bool
	}{
		"its own value": {func(*fake) {}, false},
		"expired": {func(f *fake) {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.items, testKey)
		}, true},
		"an earlier value of its own": {func(f *fake) {
			r := f.record()
			r.Op = nonce()
			f.put(testKey, string(encode(r)))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, m := newFake(), newHost()
				i := run(t, m.options(1), f)
				until := i.reach(Proving).Until
				for range 3 {
					time.Sleep(2 * time.Second)
					ho, err := i.HandOff(t.Context())
					if err != nil || ho.Held {
						t.Fatalf("%+v, %v", ho, err)
					}
					tc.meanwhile(f)
					o := m.options(1)
					o.Adopt = &ho
					i = run(t, o, f)
					if l := i.reach(Proving); l.Until.Equal(until) == tc.anew {
						t.Fatalf("the proof lasts until %v, before the handoff until %v", l.Until, until)
					} else {
						until = l.Until
					}
				}
				i.reach(Held)
				if late := time.Since(until); late < 0 || late > time.Second {
					t.Errorf("held %v after the end of the proof", late)
				}
				i.stop()
			})
		})
	}
}

func TestHandoffOfAnotherProcessIsNotAdopted(t *testing.T) {
	for name, change := range map[string]func(*Handoff){
		"pid":  func(h *Handoff) { h.PID++ },
		"boot": func(h *Handoff) { h.Boot = "other" },
		"key":  func(h *Handoff) { h.Key = "other" },
		"id":   func(h *Handoff) { h.ID = "" },
		"late": func(h *Handoff) { h.Deadline = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, m := newFake(), newHost()
				a := held(t, m.options(1), f)
				ho, err := a.HandOff(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				change(&ho)
				o := m.options(1)
				o.Adopt = &ho
				h, err := New(o, f)
				if err != nil {
					t.Fatal(err)
				}
				if l, _ := h.Watch(); l.State.Holding() || h.MayStart() {
					t.Errorf("adopted: %+v", l)
				}
			})
		})
	}
}

// TestHandoffDuringOutageKeepsDeadline: the new process renews the lease if the store answers in
// time. If not, it keeps the deadline of the old process.
func TestHandoffDuringOutageKeepsDeadline(t *testing.T) {
	for name, back := range map[string]bool{"the store answers again": true, "the store stays silent": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, m := newFake(), newHost()
				a := held(t, m.options(1), f)
				before, _ := a.Watch()
				f.hook(silent, nil)
				start := time.Now()
				ho, err := a.HandOff(t.Context())
				if err != nil || <-a.err != nil || !ho.Held || ho.Deadline > before.Deadline {
					t.Fatalf("HandOff: %+v, %v, of a lease until %v", ho, err, before.Deadline)
				}
				if d := time.Since(start); d > 2*time.Second {
					t.Errorf("the handoff took %v", d)
				}
				o := m.options(1)
				o.Adopt = &ho
				b := run(t, o, f)
				if back {
					f.hook(nil, nil)
					time.Sleep(20 * time.Second)
					if b.state() != Held {
						t.Errorf("is %v", b.state())
					}
				} else {
					b.reach(Ending)
					if left := ho.Deadline - m.boot(); left < o.StopGrace-time.Second || left > o.StopGrace {
						t.Errorf("is ending %v before the deadline, want %v", left, o.StopGrace)
					}
					b.reach(Out)
					f.hook(nil, nil)
				}
				b.stop()
			})
		})
	}
}

func TestHandoffWithoutLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(testKey, "4711")
		o := newHost().options(1)
		o.Standby = true
		i := run(t, o, f)
		i.reach(Standby)
		ho, err := i.HandOff(t.Context())
		if err != nil || <-i.err != nil || ho.Held {
			t.Fatalf("HandOff: %+v, %v", ho, err)
		}
		o.Adopt = &ho
		b := run(t, o, f)
		if l := b.reach(Standby); l.ID != ho.ID {
			t.Errorf("another instance: %+v", l)
		}
		b.stop()
	})
}

// TestHandoffAfterExpiryWaitsForStore: a handoff during an outage, after the lease has expired, is
// not a new start. The new process waits for the store as the old one did.
func TestHandoffAfterExpiryWaitsForStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		o := newHost().options(1)
		o.AcquireTimeout = time.Second
		i := held(t, o, f)
		f.hook(silent, nil)
		i.reach(Out)
		ho, err := i.HandOff(t.Context())
		if err != nil || <-i.err != nil || ho.Held {
			t.Fatalf("HandOff: %+v, %v", ho, err)
		}
		o.Adopt = &ho
		b := run(t, o, f)
		time.Sleep(time.Hour)
		select {
		case err := <-b.err:
			t.Fatalf("Run returned: %v", err)
		default:
		}
		f.hook(nil, nil)
		if l := b.reach(Held); l.Fence <= ho.Fence {
			t.Errorf("held again with fencing token %d after %d", l.Fence, ho.Fence)
		}
		b.stop()
	})
}

func TestReleaseDoesNotWaitForASilentStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		i := held(t, newHost().options(1), f)
		f.hook(silent, nil)
		start := time.Now()
		i.stop()
		if d := time.Since(start); d > 2500*time.Millisecond {
			t.Errorf("stopped after %v", d)
		}
	})
}

func TestForeignStateIsNotOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for _, foreign := range []string{
			`{"v":2,"fence":9,"owner":"x"}`, "0", `{"v":1,"fence":18446744073709551615,"owner":"x"}`,
		} {
			f.put(testKey+".state", foreign)
			i := run(t, newHost().options(1), f)
			if err := <-i.err; err == nil || !strings.Contains(err.Error(), testKey+".state") {
				t.Errorf("Run returned %v with the value %s", err, foreign)
			}
			if string(f.value(testKey+".state")) != foreign {
				t.Error("the value was overwritten")
			}
		}
	})
}

func TestStorePanicReachesCallerOfRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		h, err := New(newHost().options(1), panicker{f})
		if err != nil {
			t.Fatal(err)
		}
		p := goroutine.Catch(func() { _ = h.Run(t.Context()) })
		if p == nil || p.Value != "the store is broken" {
			t.Errorf("caught %v", p)
		}
	})
}

type panicker struct{ *fake }

func (panicker) Get(context.Context, string) (Entry, error) { panic("the store is broken") }

func TestLockStoreNeedsNoProofAndNoRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.traits = Traits{Lock: true, FenceDurable: true}
		o := newHost().options(1)
		o.Timer, o.TTL, o.Renew = nil, 0, 0
		start := time.Now()
		a := held(t, o, f)
		l, _ := a.Watch()
		if d := time.Since(start); d > 0 || l.Fence != 1 || l.Deadline != 0 || !a.MayStart() {
			t.Errorf("held after %v: %+v", d, l)
		}
		ops := f.count()
		time.Sleep(time.Hour)
		if f.count() != ops {
			t.Errorf("%d operations while idle", f.count()-ops)
		}
		for tick := range 100 {
			a.Beat(Pulse{Tick: uint64(tick), Time: time.Now()})
			synctest.Wait()
			if tick == 0 && f.record().LastTick.IsZero() {
				t.Error("the first beat was not written at once")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := f.count() - ops; n < 18 || n > 22 { // a read and a write each second
			t.Errorf("%d operations for a hundred beats in ten seconds", n)
		}
		time.Sleep(time.Second)
		if r := f.record(); r.Tick != 99 {
			t.Errorf("the last beat written is %d", r.Tick)
		}

		b := run(t, o, f)
		if err := <-b.err; !errors.As(err, new(*HeldError)) {
			t.Errorf("the second instance: %v", err)
		}
		ho, err := a.HandOff(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.Adopt = &ho
		c := run(t, o, f)
		if l := c.reach(Held); l.Fence != 1 {
			t.Errorf("the new process has %+v", l)
		}
		c.stop()
		o.Adopt = nil
		d := held(t, o, f)
		if l, _ := d.Watch(); l.Fence != 2 {
			t.Errorf("the next holder has %+v", l)
		}
		f.put(testKey, "4711")
		d.Beat(Pulse{})
		if err := <-d.err; !errors.As(err, new(*LostError)) {
			t.Errorf("after another value was written: %v", err)
		}
	})
}

// TestLockStoreHoldsWhenRecordCannotBeWritten: on a full disk the record is out of date, but the
// lock is held.
func TestLockStoreHoldsWhenRecordCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.traits = Traits{Lock: true, FenceDurable: true}
		i := held(t, newHost().options(1), f)
		f.hook(func(op, _ string) error {
			if op == "swap" {
				return errSilent
			}
			return nil
		}, nil)
		i.Beat(Pulse{Tick: 1})
		synctest.Wait()
		if l, _ := i.Watch(); l.State != Held || l.Err == nil || !i.MayStart() {
			t.Errorf("became %+v", l)
		}
		i.stop()
	})
}

func TestManyStandbysElectOneHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		first := held(t, newHost().options(1), f)
		var standbys []*instance
		for n := range 50 {
			o := newHost().options(n + 2)
			o.Standby = true
			o.Jitter = func() float64 { return float64(n)/25 - 1 }
			standbys = append(standbys, run(t, o, f))
		}
		time.Sleep(10 * time.Second)
		ops := f.count()
		first.stop()
		time.Sleep(10 * time.Second)
		if rate := (f.count() - ops) / 10; rate > 200 {
			t.Errorf("%d operations a second", rate)
		}
		winners := 0
		for _, i := range standbys {
			if i.state() == Held {
				winners++
			}
		}
		if winners != 1 {
			t.Errorf("%d winners", winners)
		}
		for _, i := range standbys {
			i.stop()
		}
	})
}

func TestNewValidatesOptions(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string // "" is no error
	}{
		{"defaults", func(*Options) {}, ""},
		{"short", func(o *Options) { o.TTL = 7 * time.Second }, "use at least 8s"},
		{"least", func(o *Options) { o.TTL = 8 * time.Second }, ""},
		{"five seconds", func(o *Options) {
			o.TTL, o.Renew, o.StopGrace, o.Timeout = 5*time.Second, time.Second, time.Second, 250*time.Millisecond
		}, ""},
		{"below the store's", func(o *Options) {
			o.TTL, o.Renew = 4*time.Second, 100*time.Millisecond
			o.StopGrace, o.Timeout = 100*time.Millisecond, 10*time.Millisecond
		}, "use at least 5s"},
		{"fraction", func(o *Options) { o.TTL = 10500 * time.Millisecond }, "use 11s"},
		{"no key", func(o *Options) { o.Key = "" }, "no key"},
		{"no clock", func(o *Options) { o.Boot = nil }, "no boot clock"},
		{"no timer", func(o *Options) { o.Timer = nil }, "no timer"},
		{"renew", func(o *Options) { o.Renew = 0 }, "not positive"},
		{"timeout", func(o *Options) { o.Timeout = 0 }, "not positive"},
		{"grace", func(o *Options) { o.StopGrace = -1 }, "negative"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newHost().options(1)
			c.change(&o)
			_, err := New(o, newFake())
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestErrorsNameTheKey(t *testing.T) {
	for _, err := range []error{
		&HeldError{Key: testKey}, &LostError{Key: testKey}, &LostError{Key: testKey, By: Record{PID: 3, Host: "x"}},
		&UnreachableError{Key: testKey, Err: errSilent}, &foreignValueError{testKey},
	} {
		s := err.Error()
		if !regexp.MustCompile(`^[a-z].*`+testKey+`.*[^.\n]$`).MatchString(s) || strings.Contains(s, "\n") {
			t.Errorf("%T: %q", err, s)
		}
	}
}
