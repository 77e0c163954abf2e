package memcached

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

// The engine on a real server that breaks. Instances have a ttl of 12 s, so these tests are slow and
// run side by side, each with a server of its own.

const job = "job_process_heartbeat"

func TestServerGoneAtStart(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	server.Stop()
	began := time.Now()
	var unreachable *heartbeat.UnreachableError
	err := heartbeattest.Launch(t, claimed(t, server), job, func(o *heartbeat.Options) { o.AcquireTimeout = time.Second }).Wait()
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), server.Addr()) {
		t.Errorf("Run without a server: %v; want *UnreachableError that names %s", err, server.Addr())
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("Run without a server took %s; want the time that was granted, 1s", took)
	}
	standby := heartbeattest.Launch(t, claimed(t, server), job, func(o *heartbeat.Options) {
		o.Wait = true
		o.AcquireTimeout = time.Second
	})
	must(t, server.Restart())
	standby.Await(heartbeat.Held)
}

func TestServerGoneMidway(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	i := heartbeattest.Launch(t, claimed(t, server), job, nil)
	before := i.Await(heartbeat.Held)
	server.Stop()
	i.Await(heartbeat.Ending)
	if i.MayStart() {
		t.Error("MayStart while the lease ends")
	}
	if lease := i.Await(heartbeat.Out); lease.Err == nil || !strings.Contains(lease.Err.Error(), server.Addr()) {
		t.Errorf("error of a lease that is out: %v; want one that names %s", lease.Err, server.Addr())
	}
	if i.MayStart() {
		t.Error("MayStart when the lease is out")
	}
	must(t, server.Restart())
	if after := i.Await(heartbeat.Held); after.Fence <= before.Fence {
		t.Errorf("fence %d after fence %d, which the server forgot", after.Fence, before.Fence)
	}
}

func TestServerHungForLessThanTheLease(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	i := heartbeattest.Launch(t, claimed(t, server), job, nil)
	i.Await(heartbeat.Held)
	for range 3 {
		must(t, server.Pause())
		i.Keeps(800 * time.Millisecond)
		must(t, server.Resume())
		i.Keeps(2 * time.Second)
	}
	i.Await(heartbeat.Held)
}

func TestServerHungForMoreThanTheTTL(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	i := heartbeattest.Launch(t, claimed(t, server), job, nil)
	before := i.Await(heartbeat.Held)
	must(t, server.Pause())
	paused := time.Now()
	i.Await(heartbeat.Out)
	time.Sleep(time.Until(paused.Add(heartbeattest.LeaseTTL + time.Second)))
	must(t, server.Resume())
	if after := i.Await(heartbeat.Held); after.Fence <= before.Fence {
		t.Errorf("fence %d after fence %d", after.Fence, before.Fence)
	}
}

// The server forgets all; whoever held goes on, and a newcomer in the same moment stands back.
func TestServerRestartedEmpty(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	i := heartbeattest.Launch(t, claimed(t, server), job, nil)
	lease := i.Await(heartbeat.Held)
	must(t, server.Restart())
	newcomer := heartbeattest.Launch(t, claimed(t, server), job, nil)
	i.Keeps(3 * time.Second)
	var held *heartbeat.HeldError
	if err := newcomer.Wait(); !errors.As(err, &held) || held.Holder.ID != lease.ID {
		t.Errorf("Run of a newcomer: %v; want *HeldError for the one who was there", err)
	}
}

func TestServerRestartedEmptyAndBeaten(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	cut := &heartbeattest.Cut{Store: claimed(t, server)}
	i := heartbeattest.Launch(t, cut, job, nil)
	i.Await(heartbeat.Held)
	cut.Pull(true)
	must(t, server.Restart())
	command(t, server, "STORED", "add "+job+" 0 0 7", "another")
	cut.Pull(false)
	wantLost(t, i, 0)
	wantValue(t, server, "another")
}

func TestKeyStolen(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]struct {
		flags, value string
		pid          int
	}{
		"PHP integer":   {"1", "4711", 4711},
		"PHP array":     {"4", `a:2:{s:3:"pid";i:4711;s:9:"timestamp";i:1790000000;}`, 4711},
		"administrator": {"0", "revoked", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := heartbeattest.Memcached(t)
			i := heartbeattest.Launch(t, claimed(t, server), job, nil)
			i.Await(heartbeat.Held)
			set(t, server, value.flags, value.value)
			wantLost(t, i, value.pid)
			if i.MayStart() {
				t.Error("MayStart after the loss")
			}
			wantValue(t, server, value.value)
		})
	}
}

// Continue is about a server that does not answer; one that says "another" is believed.
func TestKeyStolenWithContinue(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	i := heartbeattest.Launch(t, claimed(t, server), job, func(o *heartbeat.Options) { o.Continue = true })
	i.Await(heartbeat.Held)
	server.Stop()
	i.Keeps(heartbeattest.LeaseTTL)
	if lease, _ := i.Watch(); !lease.Unproven {
		t.Errorf("lease on a server that is gone: %+v; want it unproven", lease)
	}
	must(t, server.Restart())
	set(t, server, "0", "revoked")
	wantLost(t, i, 0)
	wantValue(t, server, "revoked")
}

func TestKeyForgotten(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"deleted":            {"delete " + job},
		"flushed":            {"flush_all"},
		"state deleted":      {"delete " + job + ".state"},
		"expired by a touch": {"touch " + job + " -1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := heartbeattest.Memcached(t)
			i := heartbeattest.Launch(t, claimed(t, server), job, nil)
			lease := i.Await(heartbeat.Held)
			if _, err := server.Command(lines...); err != nil {
				t.Fatal(err)
			}
			i.Keeps(3 * time.Second)
			e := eventually(t, opened(t, server.Addr()), job)
			if r := heartbeat.ParseRecord(e.Value); r.ID != lease.ID {
				t.Errorf("the key has %s; want it back as it was", e.Value)
			}
			i.Stop()
		})
	}
}

// The holder dies without a word. Nobody may hold before its ttl and the proof have passed.
func TestHolderCrashed(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	cut := &heartbeattest.Cut{Store: claimed(t, server)}
	i := heartbeattest.Launch(t, cut, job, nil)
	before := i.Await(heartbeat.Held)
	standby := heartbeattest.Launch(t, claimed(t, server), job, func(o *heartbeat.Options) { o.Wait = true })
	standby.Await(heartbeat.Standby)
	cut.Pull(true)
	i.Await(heartbeat.Out)
	if lease, _ := standby.Watch(); lease.State == heartbeat.Held {
		t.Error("two hold")
	}
	if lease := standby.Await(heartbeat.Proving); time.Until(lease.Until) > heartbeattest.LeaseTTL {
		t.Errorf("the proof is to end in %s", time.Until(lease.Until))
	}
	if lease := standby.Await(heartbeat.Held); lease.Fence <= before.Fence {
		t.Errorf("fence %d after fence %d", lease.Fence, before.Fence)
	}
	cut.Pull(false)
	wantLostTo(t, i, standby)
}

// An interval of 300 s has nothing to do with a ttl of 5 s: nobody beats, and the lease is kept.
func TestHeldThroughIdleLoop(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	i := heartbeattest.Launch(t, claimed(t, server), job, func(o *heartbeat.Options) { o.Self.Interval = 300 })
	i.Await(heartbeat.Held)
	i.Keeps(3 * heartbeattest.LeaseTTL)
	command(t, server, `"interval":300`, "get "+job)
}

// claimed is a store with the timeouts of an instance.
func claimed(t *testing.T, server *heartbeattest.Server) *Store {
	t.Helper()
	return within(t, server.Addr(), heartbeattest.LeaseTimeout)
}

func wantLost(t *testing.T, i *heartbeattest.Instance, pid int) {
	t.Helper()
	var lost *heartbeat.LostError
	if err := i.Wait(); !errors.As(err, &lost) {
		t.Fatalf("Run: %v; want *LostError", err)
	}
	if !lost.By.Foreign || lost.By.PID != pid {
		t.Errorf("lost to %+v; want a foreign one with PID %d", lost.By, pid)
	}
	if lease, _ := i.Watch(); lease.State != heartbeat.Lost && lease.State != heartbeat.Released {
		t.Errorf("the heartbeat is %v; want it lost", lease.State)
	}
}

func wantLostTo(t *testing.T, i, other *heartbeattest.Instance) {
	t.Helper()
	lease, _ := other.Watch()
	var lost *heartbeat.LostError
	if err := i.Wait(); !errors.As(err, &lost) || lost.By.ID != lease.ID {
		t.Errorf("Run: %v; want *LostError for %s", err, lease.ID)
	}
}

// wantValue fails unless the key has value: nothing of another's may be touched, not even by a release.
func wantValue(t *testing.T, server *heartbeattest.Server, value string) {
	t.Helper()
	command(t, server, "\r\n"+value+"\r\n", "get "+job)
}

func set(t *testing.T, server *heartbeattest.Server, flags, value string) {
	t.Helper()
	command(t, server, "STORED", "set "+job+" "+flags+" 0 "+strconv.Itoa(len(value)), value)
}

func command(t *testing.T, server *heartbeattest.Server, want string, lines ...string) {
	t.Helper()
	if got, err := server.Command(lines...); err != nil || !strings.Contains(got, want) {
		t.Errorf("the server says %q, %v; want %q", got, err, want)
	}
}
