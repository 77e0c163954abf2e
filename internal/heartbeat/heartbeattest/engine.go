package heartbeattest

import (
	"errors"
	"testing"
	"time"

	"gophd/internal/heartbeat"
)

// engine is the part of the suite in which the engine works with the store. The rules of the engine
// themselves are proven by its simulation.
func (s suite) engine(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"AcquireHeldReportsHolder", s.acquireHeldReportsHolder},
		{"StartsAtOnceOneWinner", s.startsAtOnceOneWinner},
		{"KeepsForTwoTTL", s.keepsForTwoTTL},
		{"ReleaseFreesAtOnceAndFenceIncreases", s.releaseFreesAtOnce},
		{"StandbyTakesOver", s.standbyTakesOver},
		{"StandbyStops", s.standbyStops},
		{"HandOver", s.handOver},
		{"PulseIsShown", s.pulseIsShown},
	} {
		bubble(t, c.name, c.test)
	}
	t.Run("ForeignValueIsHeld", s.foreignValueIsHeld)
}

// acquireHeldReportsHolder has the same PID on both sides, as in two containers: the PID is nobody's identity.
func (s suite) acquireHeldReportsHolder(t *testing.T) {
	k := key(t)
	a := Launch(t, s.store(t), k, nil)
	lease := a.Await(heartbeat.Held)
	b := Launch(t, s.store(t), k, nil)
	var held *heartbeat.HeldError
	if err := b.Wait(); !errors.As(err, &held) {
		t.Fatalf("Run beside a holder: %v; want *HeldError", err)
	}
	if held.Key != k || held.Holder.ID != lease.ID || held.Holder.PID != 1 || held.Holder.Fence != lease.Fence {
		t.Errorf("HeldError: key %s, holder %+v; want %s, and the holder %+v", held.Key, held.Holder, k, lease)
	}
	a.Keeps(100 * time.Millisecond)
}

func (s suite) startsAtOnceOneWinner(t *testing.T) {
	k := key(t)
	instances := make([]*Instance, 5)
	for i := range instances {
		instances[i] = Launch(t, s.store(t), k, nil)
	}
	winners := 0
	for _, i := range instances {
		var held *heartbeat.HeldError
		switch err := i.settled(); {
		case err == nil:
			winners++
		case !errors.As(err, &held):
			t.Errorf("Run of a loser: %v; want *HeldError", err)
		}
	}
	if winners != 1 {
		t.Errorf("%d winners; want 1", winners)
	}
}

func (s suite) keepsForTwoTTL(t *testing.T) {
	k, other := key(t), s.store(t)
	a := Launch(t, s.store(t), k, nil)
	a.Await(heartbeat.Held)
	before, err := other.Get(t.Context(), k)
	must(t, err)
	if other.Traits().Lock {
		a.Keeps(time.Hour) // long enough for a renewal that must not be
	} else {
		a.Keeps(2*LeaseTTL + LeaseRenew)
	}
	if !a.MayStart() {
		t.Error("MayStart of a healthy holder is false")
	}
	e, err := other.Get(t.Context(), k)
	must(t, err)
	r, old := heartbeat.ParseRecord(e.Value), heartbeat.ParseRecord(before.Value)
	if r.State != heartbeat.Active || r.ID != old.ID {
		t.Errorf("record after that: %s; want an active one of the same instance", e.Value)
	}
	if idle := r.Seq == old.Seq; idle != other.Traits().Lock {
		t.Errorf("seq went from %d to %d; a lock is not renewed, all else is", old.Seq, r.Seq)
	}
}

func (s suite) releaseFreesAtOnce(t *testing.T) {
	k, fence := key(t), uint64(0)
	for n := range 3 {
		began := time.Now()
		i := Launch(t, s.store(t), k, nil)
		lease := i.Await(heartbeat.Held)
		if took := time.Since(began); n > 0 && took > 2*time.Second {
			t.Errorf("claimed %s after a clean release; want at once", took)
		}
		if lease.Fence <= fence {
			t.Errorf("fence %d after fence %d", lease.Fence, fence)
		}
		fence = lease.Fence
		i.Stop()
	}
	if _, err := s.store(t).Get(t.Context(), k); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get after the release: %v; want ErrAbsent", err)
	}
}

func (s suite) standbyTakesOver(t *testing.T) {
	k := key(t)
	a := Launch(t, s.store(t), k, nil)
	fence := a.Await(heartbeat.Held).Fence
	b := Launch(t, s.store(t), k, func(o *heartbeat.Options) { o.Wait = true })
	if holder := b.Await(heartbeat.Standby).Holder; holder.Fence != fence {
		t.Errorf("the standby sees holder %+v; want the one with fence %d", holder, fence)
	}
	a.Stop()
	if lease := b.Await(heartbeat.Held); lease.Fence <= fence {
		t.Errorf("fence %d after fence %d", lease.Fence, fence)
	}
}

func (s suite) standbyStops(t *testing.T) {
	k := key(t)
	a := Launch(t, s.store(t), k, nil)
	a.Await(heartbeat.Held)
	b := Launch(t, s.store(t), k, func(o *heartbeat.Options) { o.Wait = true })
	b.Await(heartbeat.Standby)
	began := time.Now()
	b.Stop()
	if took := time.Since(began); took > time.Second {
		t.Errorf("a standby took %s to stop", took)
	}
	a.Keeps(100 * time.Millisecond)
}

// handOver passes the lease on within the process; a lock's own way over exec is the store's to test.
func (s suite) handOver(t *testing.T) {
	k, store, thief := key(t), s.store(t), s.store(t)
	a := Launch(t, store, k, nil)
	before := a.Await(heartbeat.Held)
	for range 3 {
		handover, err := a.HandOver(t.Context())
		must(t, err)
		must(t, a.Wait())
		if err := thief.Add(t.Context(), k, []byte("thief"), ttl); !errors.Is(err, heartbeat.ErrExists) {
			t.Fatalf("Add between two images: %v; want ErrExists", err)
		}
		a = Launch(t, store, k, func(o *heartbeat.Options) { o.Adopt = &handover })
		if lease, _ := a.Watch(); lease.State != heartbeat.Held || lease.Fence != before.Fence || lease.ID != before.ID {
			t.Fatalf("lease of the next image: %+v; want it held as before: %+v", lease, before)
		}
		a.Keeps(2 * LeaseRenew)
	}
	a.Stop()
}

func (s suite) pulseIsShown(t *testing.T) {
	k, other := key(t), s.store(t)
	a := Launch(t, s.store(t), k, nil)
	a.Await(heartbeat.Held)
	a.Beat(heartbeat.Pulse{Tick: 900, Time: time.Now(), Child: 4720})
	var r heartbeat.Record
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		e, err := other.Get(t.Context(), k)
		must(t, err)
		if r = heartbeat.ParseRecord(e.Value); r.Tick == 900 {
			break
		}
	}
	if r.Tick != 900 || r.Child != 4720 || r.LastTick.IsZero() {
		t.Errorf("record after a pulse: %+v; want tick 900 and child 4720", r)
	}
}

// foreignValueIsHeld: what gophd does not understand belongs to somebody, who is named and left alone.
func (s suite) foreignValueIsHeld(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		pid   int
	}{
		"digits":            {"4711", 4711},
		"serialised array":  {`a:2:{s:3:"pid";i:4711;s:9:"timestamp";i:1790000000;}`, 4711},
		"version to come":   {`{"v":2,"pid":4711,"id":"x"}`, 4711},
		"nothing":           {"", 0},
		"neither PID nor v": {"\x00\xffhello", 0},
	} {
		bubble(t, name, func(t *testing.T) {
			k, other := key(t), s.store(t)
			must(t, other.Add(t.Context(), k, []byte(c.value), ttl))
			var held *heartbeat.HeldError
			if err := Launch(t, s.store(t), k, nil).Wait(); !errors.As(err, &held) {
				t.Fatalf("Run: %v; want *HeldError", err)
			}
			if !held.Holder.Foreign || held.Holder.PID != c.pid {
				t.Errorf("holder %+v; want a foreign one with PID %d", held.Holder, c.pid)
			}
			want(t, other, k, c.value)
		})
	}
}
