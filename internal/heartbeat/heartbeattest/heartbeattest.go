// Package heartbeattest answers: is this a heartbeat.Store that the engine can rely on?
//
// Run is the suite that every store must pass, with a real server and not a fake: first the
// promises of the Store interface, then the engine with the store. The tests run in bubbles of
// virtual time (testing/synctest), so that no machine is too slow for them. Memcached starts a real
// server that a test can pause, kill and restart. The suite does not test the rules of the engine
// that need no store; the simulation in package heartbeat does.
package heartbeattest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/heartbeat"
)

// Run runs the suite on the stores that open returns, and closes them. Two stores that were opened
// with tests of the same name must be two clients of the same file or server; with different names
// they need not be. A store should have a timeout that no machine exceeds, because every operation
// of the suite gets an answer. The test that calls Run must not be parallel, because Run counts
// leaks. The tests of the suite are parallel.
func Run(t *testing.T, open func(t *testing.T) heartbeat.Store) {
	s := suite{open}
	t.Run("NoGoroutineOrDescriptorLeak", s.noLeak) // first and alone
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"AddOfFreeKey", s.addOfFreeKey},
		{"AddOfHeldKey", s.addOfHeldKey},
		{"ConcurrentAddHasOneWinner", s.concurrentAddHasOneWinner},
		{"OneStoreManyCallers", s.oneStoreManyCallers},
		{"ConcurrentSwapHasOneWinner", s.concurrentSwapHasOneWinner},
		{"SwapOfChangedEntry", s.swapOfChangedEntry},
		{"SwapOfAbsentEntry", s.swapOfAbsentEntry},
		{"ExpireOfChangedEntry", s.expireOfChangedEntry},
		{"StateOutlivesRelease", s.stateOutlivesRelease},
		{"TwoKeysIndependent", s.twoKeysIndependent},
		{"ValuesRoundTrip", s.valuesRoundTrip},
		{"RejectedBeforeSending", s.rejectedBeforeSending},
		{"ContextCancelled", s.contextCancelled},
		{"ClosedStoreIsUnknown", s.closedStoreIsUnknown},
	} {
		bubble(t, c.name, c.test)
	}
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{ // in real time, which the clock of the store counts
		{"SwapAfterExpiry", s.swapAfterExpiry},
		{"SwapRestartsTTL", s.swapRestartsTTL},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
	t.Run("Engine", s.engine)
}

type suite struct {
	open func(t *testing.T) heartbeat.Store
}

// bubble runs a parallel subtest in virtual time.
func bubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, test)
	})
}

// ttl is longer than any test that uses it.
const ttl = time.Hour

func (s suite) store(t *testing.T) heartbeat.Store {
	t.Helper()
	store := s.open(t)
	t.Cleanup(func() { store.Close() })
	return store
}

// key returns a different key for each test, so that tests can share a server.
func key(t *testing.T) string {
	return strings.NewReplacer("/", "_", " ", "_").Replace(t.Name()) + "_process_heartbeat"
}

func (s suite) addOfFreeKey(t *testing.T) {
	ctx, a, b, k := t.Context(), s.store(t), s.store(t), key(t)
	if e, err := a.Get(ctx, k); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Fatalf("Get of a free key: %q, %v; want ErrAbsent", e.Value, err)
	}
	must(t, a.Add(ctx, k, []byte("a"), ttl))
	for name, store := range map[string]heartbeat.Store{"the same": a, "the other": b} {
		if e, err := store.Get(ctx, k); err != nil || string(e.Value) != "a" {
			t.Errorf("Get by %s store: %q, %v; want the value that was added", name, e.Value, err)
		}
	}
}

func (s suite) addOfHeldKey(t *testing.T) {
	ctx, a, b, k := t.Context(), s.store(t), s.store(t), key(t)
	must(t, a.Add(ctx, k, []byte("a"), ttl))
	for name, store := range map[string]heartbeat.Store{"the same": a, "the other": b} {
		if err := store.Add(ctx, k, []byte("b"), ttl); !errors.Is(err, heartbeat.ErrExists) {
			t.Errorf("second Add by %s store: %v; want ErrExists", name, err)
		}
	}
	want(t, b, k, "a")
}

func (s suite) concurrentAddHasOneWinner(t *testing.T) {
	ctx, k := t.Context(), key(t)
	const instances = 200
	stores := make([]heartbeat.Store, instances)
	for i := range stores {
		stores[i] = s.store(t)
	}
	results := make([]error, instances)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			// As instances do: Get first. The Gets of others must not make an Add fail when no one
			// holds the key.
			if _, err := stores[i].Get(ctx, k); err != nil && !errors.Is(err, heartbeat.ErrAbsent) {
				results[i] = err
				return
			}
			results[i] = stores[i].Add(ctx, k, fmt.Appendf(nil, "%d", i), ttl)
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range results {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("Add returned nil to both %d and %d", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, heartbeat.ErrExists):
			t.Errorf("Add by a loser: %v; want ErrExists", err)
		}
	}
	if winner < 0 {
		t.Fatal("no Add of a free key succeeded")
	}
	want(t, stores[(winner+1)%instances], k, fmt.Sprint(winner))
}

// The engine has one operation under way at a time. Other callers may use the store meanwhile.
func (s suite) oneStoreManyCallers(t *testing.T) {
	ctx, a, k := t.Context(), s.store(t), key(t)
	must(t, a.Add(ctx, k, []byte("0"), ttl))
	var wg sync.WaitGroup
	var swaps atomic.Int64
	for n := range 20 {
		wg.Go(func() {
			e, err := a.Get(ctx, k)
			if err != nil {
				t.Errorf("Get: %v", err)
				return
			}
			switch err := a.Swap(ctx, k, e, fmt.Appendf(nil, "%d", n), ttl); {
			case err == nil:
				swaps.Add(1)
			case !errors.Is(err, heartbeat.ErrChanged):
				t.Errorf("Swap: %v; want nil or ErrChanged", err)
			}
		})
	}
	wg.Wait()
	if swaps.Load() == 0 {
		t.Error("none of the concurrent Swaps succeeded")
	}
}

func (s suite) concurrentSwapHasOneWinner(t *testing.T) {
	ctx, k := t.Context(), key(t)
	const instances = 50
	stores, old := make([]heartbeat.Store, instances), make([]heartbeat.Entry, instances)
	for i := range stores {
		stores[i] = s.store(t)
		if i == 0 {
			must(t, stores[0].Add(ctx, k, []byte("first"), ttl))
		}
		old[i] = want(t, stores[i], k, "first")
	}
	results := make([]error, instances)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() { results[i] = stores[i].Swap(ctx, k, old[i], fmt.Appendf(nil, "%d", i), ttl) })
	}
	wg.Wait()
	winner := -1
	for i, err := range results {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("Swap returned nil to both %d and %d", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, heartbeat.ErrChanged):
			t.Errorf("Swap by a loser: %v; want ErrChanged", err)
		}
	}
	if winner < 0 {
		t.Fatal("no Swap succeeded")
	}
	want(t, stores[0], k, fmt.Sprint(winner))
}

// An entry expires with its ttl, or with its process for a lock. No Swap may restore it.
func (s suite) swapAfterExpiry(t *testing.T) {
	ctx, a, b, k := t.Context(), s.store(t), s.store(t), key(t)
	var old heartbeat.Entry
	for short := 2 * max(b.Traits().Granularity, time.Second); ; short *= 2 {
		must(t, a.Add(ctx, k, []byte("a"), short))
		var err error
		if old, err = b.Get(ctx, k); err == nil {
			break
		}
		if !errors.Is(err, heartbeat.ErrAbsent) { // ErrAbsent: it expired before this machine read it
			t.Fatalf("Get after Add: %v", err)
		}
	}
	if a.Traits().Lock {
		must(t, a.Close())
	} else {
		awaitAbsent(t, b, k)
	}
	if e, err := b.Get(ctx, k); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get after the expiry: %q, %v; want ErrAbsent", e.Value, err)
	}
	if err := b.Swap(ctx, k, old, []byte("b"), ttl); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Swap after the expiry: %v; want ErrAbsent", err)
	}
	if err := b.Expire(ctx, k, old); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Expire after the expiry: %v; want ErrAbsent", err)
	}
	must(t, b.Add(ctx, k, []byte("b"), ttl))
	want(t, b, k, "b")
}

// An entry expires by the ttl of its last write, not by the one of Add.
func (s suite) swapRestartsTTL(t *testing.T) {
	ctx, a, b, k := t.Context(), s.store(t), s.store(t), key(t)
	if a.Traits().Lock {
		must(t, a.Add(ctx, k, []byte("1"), time.Second))
		must(t, a.Swap(ctx, k, want(t, a, k, "1"), []byte("2"), time.Second))
		want(t, b, k, "2") // no entry of a lock expires, so there is nothing to wait for
		return
	}
	must(t, a.Add(ctx, k, []byte("1"), ttl))
	e := want(t, a, k, "1")
	short := 2 * max(b.Traits().Granularity, time.Second)
	must(t, a.Swap(ctx, k, e, []byte("2"), short))
	awaitAbsent(t, b, k)

	for ; ; short *= 2 {
		must(t, a.Add(ctx, k, []byte("3"), short))
		e, err := a.Get(ctx, k)
		if err == nil {
			err = a.Swap(ctx, k, e, []byte("4"), ttl)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, heartbeat.ErrAbsent) { // ErrAbsent: it expired before this machine wrote it
			t.Fatalf("Get or Swap after Add: %v", err)
		}
	}
	must(t, a.Add(ctx, k+"2", []byte("later"), short))
	awaitAbsent(t, b, k+"2") // it was added later than k, with the ttl of the Add of k
	want(t, b, k, "4")
}

// awaitAbsent returns when key has no entry.
func awaitAbsent(t *testing.T, store heartbeat.Store, key string) {
	t.Helper()
	for {
		_, err := store.Get(t.Context(), key)
		if errors.Is(err, heartbeat.ErrAbsent) {
			return
		}
		must(t, err)
		time.Sleep(20 * time.Millisecond)
	}
}

func (s suite) swapOfChangedEntry(t *testing.T) {
	ctx, a, k := t.Context(), s.store(t), key(t)
	must(t, a.Add(ctx, k, []byte("1"), ttl))
	old := want(t, a, k, "1")
	must(t, a.Swap(ctx, k, old, []byte("2"), ttl))
	if err := a.Swap(ctx, k, old, []byte("3"), ttl); !errors.Is(err, heartbeat.ErrChanged) {
		t.Errorf("Swap of an entry that was written since: %v; want ErrChanged", err)
	}
	// An entry with the same value as before is still a different entry.
	must(t, a.Swap(ctx, k, want(t, a, k, "2"), []byte("1"), ttl))
	if err := a.Swap(ctx, k, old, []byte("3"), ttl); !errors.Is(err, heartbeat.ErrChanged) {
		t.Errorf("Swap of an entry that was written since, to the same value: %v; want ErrChanged", err)
	}
	want(t, a, k, "1")
}

func (s suite) swapOfAbsentEntry(t *testing.T) {
	ctx, a, k := t.Context(), s.store(t), key(t)
	must(t, a.Add(ctx, k, []byte("a"), ttl))
	old := want(t, a, k, "a")
	must(t, a.Expire(ctx, k, old))
	if err := a.Swap(ctx, k, old, []byte("b"), ttl); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Swap after Expire: %v; want ErrAbsent", err)
	}
	if err := a.Swap(ctx, k, heartbeat.Entry{}, []byte("b"), ttl); err == nil {
		t.Error("Swap of an entry that was never read succeeded")
	}
	if e, err := a.Get(ctx, k); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("after rejected Swaps: %q, %v; want ErrAbsent", e.Value, err)
	}
}

func (s suite) expireOfChangedEntry(t *testing.T) {
	ctx, a, b, k := t.Context(), s.store(t), s.store(t), key(t)
	must(t, a.Add(ctx, k, []byte("1"), ttl))
	old := want(t, a, k, "1")
	must(t, a.Swap(ctx, k, old, []byte("2"), ttl))
	if err := a.Expire(ctx, k, old); !errors.Is(err, heartbeat.ErrChanged) {
		t.Errorf("Expire of an entry that was written since: %v; want ErrChanged", err)
	}
	fresh := want(t, b, k, "2")
	must(t, a.Expire(ctx, k, want(t, a, k, "2")))
	if err := a.Expire(ctx, k, fresh); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("second Expire: %v; want ErrAbsent", err)
	}
	must(t, b.Add(ctx, k, []byte("3"), ttl)) // the key is free at once
	if err := a.Expire(ctx, k, fresh); !errors.Is(err, heartbeat.ErrChanged) {
		t.Errorf("Expire of an entry that another client has replaced: %v; want ErrChanged", err)
	}
	want(t, a, k, "3")
}

func (s suite) stateOutlivesRelease(t *testing.T) {
	ctx, a, b, k := t.Context(), s.store(t), s.store(t), key(t)
	state := k + ".state"
	must(t, a.Add(ctx, k, []byte("a"), ttl))
	if e, err := a.Get(ctx, state); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Fatalf("Get of S before it was written: %q, %v; want ErrAbsent", e.Value, err)
	}
	must(t, a.Add(ctx, state, []byte("17"), 0))
	if err := a.Add(ctx, state, []byte("18"), 0); !errors.Is(err, heartbeat.ErrExists) {
		t.Errorf("second Add of S: %v; want ErrExists", err)
	}
	old := want(t, a, state, "17")
	must(t, a.Swap(ctx, state, old, []byte("19"), 0))
	if err := a.Swap(ctx, state, old, []byte("18"), 0); !errors.Is(err, heartbeat.ErrChanged) {
		t.Errorf("Swap of the old entry of S: %v; want ErrChanged", err)
	}
	must(t, a.Expire(ctx, k, want(t, a, k, "a")))
	if _, err := b.Get(ctx, k); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Fatalf("Get of L after its release: %v; want ErrAbsent", err)
	}
	must(t, b.Add(ctx, k, []byte("b"), ttl))
	must(t, b.Swap(ctx, state, want(t, b, state, "19"), []byte("20"), 0))
	must(t, b.Expire(ctx, state, want(t, b, state, "20")))
	if _, err := b.Get(ctx, state); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get of S after Expire: %v; want ErrAbsent", err)
	}
}

// A store with only one key must return an error for a second one, and never mix them up.
func (s suite) twoKeysIndependent(t *testing.T) {
	ctx, a, k := t.Context(), s.store(t), key(t)
	must(t, a.Add(ctx, k, []byte("1"), ttl))
	err := a.Add(ctx, k+"2", []byte("2"), ttl)
	if a.Traits().Lock {
		if err == nil || isRejection(err) {
			t.Errorf("Add of a second key to a lock: %v; want an unknown answer", err)
		}
		want(t, a, k, "1")
		return
	}
	must(t, err)
	must(t, a.Expire(ctx, k, want(t, a, k, "1")))
	want(t, a, k+"2", "2")
}

func (s suite) valuesRoundTrip(t *testing.T) {
	ctx, a, b, k := t.Context(), s.store(t), s.store(t), key(t)
	must(t, a.Add(ctx, k, []byte("x"), ttl))
	for _, value := range []string{
		`{"v":1}`,
		"with\x00NUL\x00",
		"two\nlines\n",
		"\r\nEND\r\n",
		"VALUE " + k + " 0 3 7\r\nabc\r\nEND\r\n",
		strings.Repeat("long ", 10_000),
		"short after long",
		"grüße \xff\xfe",
	} {
		e, err := a.Get(ctx, k)
		must(t, err)
		must(t, a.Swap(ctx, k, e, []byte(value), ttl))
		for _, store := range []heartbeat.Store{a, b} {
			if e, err := store.Get(ctx, k); err != nil || !bytes.Equal(e.Value, []byte(value)) {
				t.Errorf("Get after Swap of %.40q: %.40q, %v", value, e.Value, err)
			}
		}
	}
}

func (s suite) rejectedBeforeSending(t *testing.T) {
	ctx, a, k := t.Context(), s.store(t), key(t)
	reject := func(what string, err error) {
		t.Helper()
		if err == nil || isRejection(err) {
			t.Errorf("%s: %v; want an error other than ErrAbsent, ErrExists and ErrChanged", what, err)
		}
	}
	huge := make([]byte, 2<<20)
	reject("value of 2 MiB", a.Add(ctx, k, huge, ttl))
	if _, err := a.Get(ctx, k); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get after a rejected Add: %v; want ErrAbsent", err)
	}
	if a.Traits().Lock {
		return // a lock sends no keys and ignores ttls
	}
	for _, bad := range []string{"", "two words", "a\r\nflush_all", "tab\t", strings.Repeat("k", 5000)} {
		_, err := a.Get(ctx, bad)
		reject(fmt.Sprintf("Get of key %.20q", bad), err)
		reject(fmt.Sprintf("Add of key %.20q", bad), a.Add(ctx, bad, []byte("x"), ttl))
	}
	for _, bad := range []time.Duration{-time.Second, a.Traits().Granularity * 3 / 2, 366 * 24 * time.Hour} {
		reject(fmt.Sprintf("Add with ttl %s", bad), a.Add(ctx, k, []byte("x"), bad))
	}
}

func (s suite) contextCancelled(t *testing.T) {
	a, k := s.store(t), key(t)
	must(t, a.Add(t.Context(), k, []byte("1"), ttl))
	old := want(t, a, k, "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, get := a.Get(ctx, k)
	for name, err := range map[string]error{
		"Get":    get,
		"Add":    a.Add(ctx, k, []byte("2"), ttl),
		"Swap":   a.Swap(ctx, k, old, []byte("2"), ttl),
		"Expire": a.Expire(ctx, k, old),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a canceled context: %v; want context.Canceled", name, err)
		}
	}
	want(t, a, k, "1")
}

func (s suite) closedStoreIsUnknown(t *testing.T) {
	ctx, a, k := t.Context(), s.store(t), key(t)
	must(t, a.Close())
	_, get := a.Get(ctx, k)
	for name, err := range map[string]error{"Get": get, "Add": a.Add(ctx, k, []byte("1"), ttl)} {
		if err == nil || isRejection(err) {
			t.Errorf("%s on a closed store: %v; want an unknown answer", name, err)
		}
	}
	must(t, a.Close())
}

func (s suite) noLeak(t *testing.T) {
	ctx, k := t.Context(), key(t)
	useStore := func() {
		store := s.open(t)
		defer store.Close()
		must(t, store.Add(ctx, k, []byte("x"), ttl))
		must(t, store.Swap(ctx, k, want(t, store, k, "x"), []byte("y"), ttl))
		must(t, store.Expire(ctx, k, want(t, store, k, "y")))
	}
	useStore() // what is created once and kept (the poller) is not a leak
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)
	for range 20 {
		useStore()
	}
	noMore(t, "goroutines", runtime.NumGoroutine, goroutines)
	noMore(t, "descriptors", func() int { return openFiles(t) }, descriptors)
}

// noMore fails the test unless count falls to before. It retries, because goroutines may exit a
// moment later and the runtime may have some of its own.
func noMore(t *testing.T, what string, count func() int, before int) {
	t.Helper()
	for start := time.Now(); count() > before; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > maxWait {
			t.Errorf("%d %s, %d before", count(), what, before)
			return
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd") // on Linux a link to /proc/self/fd
	must(t, err)
	return len(entries)
}

// want reads key and fails the test unless it has value.
func want(t *testing.T, store heartbeat.Store, key, value string) heartbeat.Entry {
	t.Helper()
	e, err := store.Get(t.Context(), key)
	if err != nil || string(e.Value) != value {
		t.Fatalf("Get: %q, %v; want %q", e.Value, err, value)
	}
	return e
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// isRejection reports whether err says that the operation certainly did not happen.
func isRejection(err error) bool {
	return errors.Is(err, heartbeat.ErrAbsent) || errors.Is(err, heartbeat.ErrExists) ||
		errors.Is(err, heartbeat.ErrChanged)
}
