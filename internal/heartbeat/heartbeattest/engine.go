package heartbeattest

import (
	"errors"
	"testing"
	"time"

	"gophd/internal/heartbeat"
)

// engine is the part of the suite that tests the engine with the store. The simulation in package
// heartbeat tests the rules of the engine.
func (s suite) engine(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"SecondInstanceReportsHolder", s.secondInstanceReportsHolder},
		{"SimultaneousStartsHaveOneWinner", s.simultaneousStartsHaveOneWinner},
		{"LeaseIsKeptForTwoTTLs", s.leaseIsKeptForTwoTTLs},
		{"ReleaseFreesKeyAndNextFencingTokenIsHigher", s.releaseFreesKey},
		{"StandbyTakesOver", s.standbyTakesOver},
		{"StandbyStops", s.standbyStops},
		{"Handoff", s.handoff},
		{"PulseIsInTheRecord", s.pulseIsInTheRecord},
	} {
		bubble(t, c.name, c.test)
	}
	t.Run("ForeignValueIsAHolder", s.foreignValueIsAHolder)
}

// Both instances have the same PID, as in two containers: a PID does not identify an instance.
func (s suite) secondInstanceReportsHolder(t *testing.T) {
	k := key(t)
	a := Launch(t, s.store(t), k, nil)
	lease := a.Await(heartbeat.Held)
	b := Launch(t, s.store(t), k, nil)
	var held *heartbeat.HeldError
	if err := b.Wait(); !errors.As(err, &held) {
		t.Fatalf("Run of a second instance: %v; want *HeldError", err)
	}
	if held.Key != k || held.Holder.ID != lease.ID || held.Holder.PID != 1 || held.Holder.Fence != lease.Fence {
		t.Errorf("HeldError: key %s, holder %+v; want %s and the holder of %+v", held.Key, held.Holder, k, lease)
	}
	a.Keeps(100 * time.Millisecond)
}

func (s suite) simultaneousStartsHaveOneWinner(t *testing.T) {
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

func (s suite) leaseIsKeptForTwoTTLs(t *testing.T) {
	k, other := key(t), s.store(t)
	a := Launch(t, s.store(t), k, nil)
	a.Await(heartbeat.Held)
	before, err := other.Get(t.Context(), k)
	must(t, err)
	if other.Traits().Lock {
		a.Keeps(time.Hour) // long enough to detect a renewal, which a lock does not need
	} else {
		a.Keeps(2*LeaseTTL + LeaseRenew)
	}
	if !a.MayStart() {
		t.Error("MayStart of a holder is false")
	}
	e, err := other.Get(t.Context(), k)
	must(t, err)
	r, old := heartbeat.ParseRecord(e.Value), heartbeat.ParseRecord(before.Value)
	if r.State != heartbeat.Active || r.ID != old.ID {
		t.Errorf("the record: %s; want an active one of the same instance", e.Value)
	}
	if idle := r.Seq == old.Seq; idle != other.Traits().Lock {
		t.Errorf("seq changed from %d to %d; a lock must not be renewed, other stores must", old.Seq, r.Seq)
	}
}

func (s suite) releaseFreesKey(t *testing.T) {
	k, token := key(t), uint64(0)
	for n := range 3 {
		start := time.Now()
		i := Launch(t, s.store(t), k, nil)
		lease := i.Await(heartbeat.Held)
		if took := time.Since(start); n > 0 && took > 2*time.Second {
			t.Errorf("claimed %s after a clean release; want at once", took)
		}
		if lease.Fence <= token {
			t.Errorf("fencing token %d after %d", lease.Fence, token)
		}
		token = lease.Fence
		i.Stop()
	}
	if _, err := s.store(t).Get(t.Context(), k); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get after the release: %v; want ErrAbsent", err)
	}
}

func (s suite) standbyTakesOver(t *testing.T) {
	k := key(t)
	a := Launch(t, s.store(t), k, nil)
	token := a.Await(heartbeat.Held).Fence
	b := Launch(t, s.store(t), k, func(o *heartbeat.Options) { o.Standby = true })
	if holder := b.Await(heartbeat.Standby).Holder; holder.Fence != token {
		t.Errorf("the standby reports holder %+v; want the one with fencing token %d", holder, token)
	}
	a.Stop()
	if lease := b.Await(heartbeat.Held); lease.Fence <= token {
		t.Errorf("fencing token %d after %d", lease.Fence, token)
	}
}

func (s suite) standbyStops(t *testing.T) {
	k := key(t)
	a := Launch(t, s.store(t), k, nil)
	a.Await(heartbeat.Held)
	b := Launch(t, s.store(t), k, func(o *heartbeat.Options) { o.Standby = true })
	b.Await(heartbeat.Standby)
	start := time.Now()
	b.Stop()
	if took := time.Since(start); took > time.Second {
		t.Errorf("a standby took %s to stop", took)
	}
	a.Keeps(100 * time.Millisecond)
}

// The handoff is within one process. The tests of a lock store must test its handoff across exec.
func (s suite) handoff(t *testing.T) {
	k, store, thief := key(t), s.store(t), s.store(t)
	a := Launch(t, store, k, nil)
	before := a.Await(heartbeat.Held)
	for range 3 {
		handoff, err := a.HandOff(t.Context())
		must(t, err)
		must(t, a.Wait())
		if err := thief.Add(t.Context(), k, []byte("thief"), ttl); !errors.Is(err, heartbeat.ErrExists) {
			t.Fatalf("Add during the handoff: %v; want ErrExists", err)
		}
		a = Launch(t, store, k, func(o *heartbeat.Options) { o.Adopt = &handoff })
		lease, _ := a.Watch()
		if lease.State != heartbeat.Held || lease.Fence != before.Fence || lease.ID != before.ID {
			t.Fatalf("lease after the handoff: %+v; want it held as before: %+v", lease, before)
		}
		a.Keeps(2 * LeaseRenew)
	}
	a.Stop()
}

func (s suite) pulseIsInTheRecord(t *testing.T) {
	k, other := key(t), s.store(t)
	a := Launch(t, s.store(t), k, nil)
	a.Await(heartbeat.Held)
	a.Beat(heartbeat.Pulse{Tick: 900, Time: time.Now(), Child: 4720})
	var r heartbeat.Record
	for deadline := time.Now().Add(maxWait); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
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

// A value that gophd cannot parse belongs to another program. Run reports it as the holder and does
// not overwrite it.
func (s suite) foreignValueIsAHolder(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		pid   int
	}{
		"digits":            {"4711", 4711},
		"serialised array":  {`a:2:{s:3:"pid";i:4711;s:9:"timestamp";i:1790000000;}`, 4711},
		"later version":     {`{"v":2,"pid":4711,"id":"x"}`, 4711},
		"empty":             {"", 0},
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
