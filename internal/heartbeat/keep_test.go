package heartbeat

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// kept is an Options.Keep that keeps a number, which is its version too.
type kept struct {
	n    atomic.Uint64
	took atomic.Uint64
}

func (k *kept) value(took uint64) (value []byte, version uint64, ok bool) {
	n := k.n.Load()
	return strconv.AppendUint(nil, n, 10), n, n > 0 && took == k.took.Load()
}

// keep keeps n, and waits until the store has it.
func (k *kept) keep(i *instance, n uint64) {
	i.t.Helper()
	k.n.Store(n)
	i.Keep()
	k.await(i, func(l Lease) bool { return l.Kept >= n })
}

func (k *kept) await(i *instance, is func(Lease) bool) Lease {
	i.t.Helper()
	limit := time.After(time.Minute)
	for {
		l, changed := i.Watch()
		if is(l) {
			return l
		}
		select {
		case <-changed:
		case <-limit:
			i.t.Fatalf("still %+v after a minute", l)
		}
	}
}

func (k *kept) in(f *fake) string {
	m, _ := parseStateRecord(f.value(testKey + ".state"))
	return string(m.Kept)
}

func TestNextHolderFindsWhatWasKept(t *testing.T) {
	for name, end := range map[string]func(*instance, *fake){
		"released": func(i *instance, _ *fake) { i.stop() },
		"killed":   func(_ *instance, f *fake) { f.hook(silent, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, m, k := newFake(), newHost(), &kept{}
				k.took.Store(1)
				o := m.options(1)
				o.Keep = k.value
				a := held(t, o, f)
				if l, _ := a.Watch(); l.Took != 1 || l.Found != nil {
					t.Errorf("the first holder has taken over %d times and found %q", l.Took, l.Found)
				}
				k.keep(a, 7)
				if k.in(f) != "7" {
					t.Errorf("the store keeps %q", k.in(f))
				}
				k.n.Store(8)
				if end(a, f); name == "killed" {
					a.reach(Out)
					a.cancel()
					<-a.err
					f.hook(nil, nil)
				}
				o = newHost().options(2)
				o.Standby = true
				b := run(t, o, f)
				l := b.reach(Held)
				want := map[string]string{"released": "8", "killed": "7"}[name]
				if string(l.Found) != want || l.Took != 1 || k.in(f) != want {
					t.Errorf("found %q after %d takeovers, want %s; the store keeps %s", l.Found, l.Took, want, k.in(f))
				}
				b.stop()
			})
		})
	}
}

// A value is not delayed by a renewal, nor by the time from one to the next.
func TestValueIsKeptAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m, k := newFake(), newHost(), &kept{}
		k.took.Store(1)
		o := m.options(1)
		o.Keep = k.value
		a := held(t, o, f)
		start := time.Now()
		for n := range uint64(500) {
			time.Sleep(9 * time.Millisecond)
			k.keep(a, n+1)
		}
		if took := time.Since(start); took != 4500*time.Millisecond { // of the bubble
			t.Errorf("it took %v", took)
		}
		a.stop()
	})
}

// A value of before the last takeover replaces none of another holder.
func TestOldValueIsNotKeptAfterATakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m, k := newFake(), newHost(), &kept{}
		o := m.options(1)
		o.Keep = k.value // of takeover 0
		k.n.Store(3)
		a := held(t, o, f)
		a.Keep()
		time.Sleep(10 * time.Second)
		if k.in(f) != "" {
			t.Errorf("the store keeps %q", k.in(f))
		}
		a.stop()
	})
}

// The server forgets key S: it is written again within a minute, with the fencing token.
func TestForgottenValueIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m, k := newFake(), newHost(), &kept{}
		k.took.Store(1)
		o := m.options(1)
		o.Keep = k.value
		a := held(t, o, f)
		k.keep(a, 5)
		for range 3 {
			f.mu.Lock()
			delete(f.items, testKey+".state")
			f.mu.Unlock()
			time.Sleep(keepCheck + 5*time.Second)
			s, _ := parseStateRecord(f.value(testKey + ".state"))
			if l, _ := a.Watch(); string(s.Kept) != "5" || s.Fence != l.Fence || s.Owner != l.ID {
				t.Errorf("key S has %+v, and the fencing token is %d", s, l.Fence)
			}
		}
		k.keep(a, 6)
		a.stop()
		if s, _ := parseStateRecord(f.value(testKey + ".state")); !s.Clean || string(s.Kept) != "6" {
			t.Errorf("after the release key S has %+v", s)
		}
	})
}

// The store renews the lease and takes no value: that is reported, and the lease is held. In an outage it is
// not: then the value may be kept later.
func TestStoreThatKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m, k := newFake(), newHost(), &kept{}
		k.took.Store(1)
		o := m.options(1)
		o.Keep = k.value
		a := held(t, o, f)
		full := errors.New("SERVER_ERROR out of memory storing object")
		f.hook(func(op, key string) error {
			if op == "swap" && key == testKey+".state" {
				return full
			}
			return nil
		}, nil)
		k.n.Store(1)
		a.Keep()
		l := k.await(a, func(l Lease) bool { return l.KeepErr != nil || l.Err != nil })
		if !errors.Is(l.KeepErr, full) || l.State != Held || l.Err != nil {
			t.Errorf("%+v", l)
		}
		f.hook(nil, nil)
		if l = k.await(a, func(l Lease) bool { return l.Kept == 1 }); l.KeepErr != nil {
			t.Errorf("%+v", l)
		}
		f.hook(silent, nil)
		k.n.Store(2)
		a.Keep()
		time.Sleep(4 * time.Second)
		if l, _ := a.Watch(); l.KeepErr != nil || l.Kept != 1 {
			t.Errorf("in an outage: %+v", l)
		}
		f.hook(nil, nil)
		k.await(a, func(l Lease) bool { return l.Kept == 2 })
		a.stop()
	})
}

// A store that takes no value takes the release all the same.
func TestReleaseWithoutTheValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m, k := newFake(), newHost(), &kept{}
		k.took.Store(1)
		o := m.options(1)
		o.Keep = k.value
		a := held(t, o, f)
		k.n.Store(1)
		failed := 0
		f.hook(func(op, key string) error {
			if op == "swap" && key == testKey+".state" && failed == 0 {
				failed++
				return errors.New("SERVER_ERROR object too large for cache")
			}
			return nil
		}, nil)
		a.stop()
		if s, _ := parseStateRecord(f.value(testKey + ".state")); !s.Clean || failed != 1 {
			t.Errorf("after the release key S has %+v; %d attempts failed", s, failed)
		}
	})
}

// A write without an answer may have happened: it is read back.
func TestValueWithoutAnAnswerIsReadBack(t *testing.T) {
	for _, forgotten := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, m, k := newFake(), newHost(), &kept{}
			k.took.Store(1)
			o := m.options(1)
			o.Keep = k.value
			a := held(t, o, f)
			if forgotten {
				f.mu.Lock()
				delete(f.items, testKey+".state")
				f.mu.Unlock()
			}
			lost := 0
			f.hook(nil, func(op, key string) error {
				if op != "get" && key == testKey+".state" && lost == 0 {
					lost++
					return errSilent
				}
				return nil
			})
			k.keep(a, 1)
			if k.in(f) != "1" || lost != 1 {
				t.Errorf("the store keeps %q, and %d answers were lost", k.in(f), lost)
			}
			a.stop()
			if s, _ := parseStateRecord(f.value(testKey + ".state")); !s.Clean {
				t.Errorf("after the release key S has %+v", s)
			}
		})
	}
}

// After a re-exec the value is written only if it is another one.
func TestHandoffKeepsTheValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m, k := newFake(), newHost(), &kept{}
		k.took.Store(1)
		o := m.options(1)
		o.Keep = k.value
		a := held(t, o, f)
		k.keep(a, 9)
		a.Continued(1)
		over, err := a.HandOff(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-a.err
		k.took.Store(0)
		o.Adopt = &over
		b := run(t, o, f)
		if l := k.await(b, func(l Lease) bool { return l.Kept == 9 }); l.Took != 0 || l.State != Held {
			t.Errorf("%+v", l)
		}
		k.keep(b, 10)
		b.stop()
		if k.in(f) != "10" {
			t.Errorf("the store keeps %q", k.in(f))
		}
	})
}
