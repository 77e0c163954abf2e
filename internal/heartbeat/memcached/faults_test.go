package memcached

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

// The engine on a real server that breaks, in virtual time. Each test has a server of its own. Virtual
// time passes only while no operation is under way, so that an operation is never cut short because
// the machine is slow, and the test acts on the server between two operations.

const job = "job_process_heartbeat"

func TestServerGoneAtStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		server.Stop()
		began := time.Now()
		var unreachable *heartbeat.UnreachableError
		err := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) { o.AcquireTimeout = time.Second }).Wait()
		if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), server.Addr()) {
			t.Errorf("Run without a server: %v; want *UnreachableError that names %s", err, server.Addr())
		}
		if took := time.Since(began); took < time.Second || took > 5*time.Second {
			t.Errorf("Run without a server took %s; want the time that was granted, 1s", took)
		}
		standby := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) {
			o.Wait = true
			o.AcquireTimeout = time.Second
		})
		time.Sleep(time.Minute)
		if lease, _ := standby.Watch(); lease.Err == nil {
			t.Errorf("a standby without a server: %+v; want the reason why it waits", lease)
		}
		must(t, server.Restart())
		standby.Await(heartbeat.Held)
	})
}

func TestServerGoneMidway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		i := heartbeattest.Launch(t, opened(t, server.Addr()), job, nil)
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
	})
}

func TestServerHungForLessThanTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		s := &hanging{Store: opened(t, server.Addr()), server: server}
		i := heartbeattest.Launch(t, s, job, nil)
		i.Await(heartbeat.Held)
		for range 3 {
			timeouts := s.timeouts.Load()
			s.pause(t)
			i.Keeps(heartbeattest.LeaseRenew + 8*time.Second)
			s.resume(t)
			i.Keeps(2 * heartbeattest.LeaseRenew)
			if s.timeouts.Load() == timeouts {
				t.Error("no operation met the hung server")
			}
		}
		i.Await(heartbeat.Held)
	})
}

// The entry may have expired when the server runs again, or be there still: a paused clock counts nothing.
func TestServerHungForMoreThanTheTTL(t *testing.T) {
	t.Parallel()
	for name, expired := range map[string]bool{"entry expired": true, "entry still there": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := heartbeattest.Memcached(t)
				s := &hanging{Store: opened(t, server.Addr()), server: server}
				i := heartbeattest.Launch(t, s, job, nil)
				before := i.Await(heartbeat.Held)
				s.pause(t)
				paused := time.Now()
				i.Await(heartbeat.Out)
				time.Sleep(time.Until(paused.Add(heartbeattest.LeaseTTL + time.Second)))
				s.resume(t)
				if expired {
					expireEntry(t, server)
				}
				if after := i.Await(heartbeat.Held); after.Fence <= before.Fence {
					t.Errorf("fence %d after fence %d", after.Fence, before.Fence)
				}
			})
		})
	}
}

// The server forgets all; whoever held goes on, and a newcomer in the same moment stands back.
func TestServerRestartedEmpty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		i := heartbeattest.Launch(t, opened(t, server.Addr()), job, nil)
		lease := i.Await(heartbeat.Held)
		must(t, server.Restart())
		newcomer := heartbeattest.Launch(t, opened(t, server.Addr()), job, nil)
		i.Keeps(2 * heartbeattest.LeaseTTL)
		var held *heartbeat.HeldError
		if err := newcomer.Wait(); !errors.As(err, &held) || held.Holder.ID != lease.ID {
			t.Errorf("Run of a newcomer: %v; want *HeldError for the one who was there", err)
		}
	})
}

func TestServerRestartedEmptyAndBeaten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		cut := &heartbeattest.Cut{Store: opened(t, server.Addr())}
		i := heartbeattest.Launch(t, cut, job, nil)
		i.Await(heartbeat.Held)
		cut.Pull(true)
		must(t, server.Restart())
		command(t, server, "STORED", "add "+job+" 0 0 7", "another")
		cut.Pull(false)
		wantLost(t, i, 0)
		wantValue(t, server, "another")
	})
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
			synctest.Test(t, func(t *testing.T) {
				server := heartbeattest.Memcached(t)
				i := heartbeattest.Launch(t, opened(t, server.Addr()), job, nil)
				i.Await(heartbeat.Held)
				set(t, server, value.flags, value.value)
				wantLost(t, i, value.pid)
				if i.MayStart() {
					t.Error("MayStart after the loss")
				}
				wantValue(t, server, value.value)
			})
		})
	}
}

// Continue is about a server that does not answer; one that says "another" is believed.
func TestKeyStolenWithContinue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		i := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) { o.Continue = true })
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
	})
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
			synctest.Test(t, func(t *testing.T) {
				server := heartbeattest.Memcached(t)
				i := heartbeattest.Launch(t, opened(t, server.Addr()), job, nil)
				lease := i.Await(heartbeat.Held)
				_, err := server.Command(lines...)
				must(t, err)
				i.Keeps(2 * heartbeattest.LeaseRenew)
				e, err := opened(t, server.Addr()).Get(t.Context(), job)
				must(t, err)
				if r := heartbeat.ParseRecord(e.Value); r.ID != lease.ID {
					t.Errorf("the key has %s; want it back as it was", e.Value)
				}
				i.Stop()
			})
		})
	}
}

// The holder dies without a word. Nobody may hold before its lease is over and the proof has passed. The
// test ends the entry, when the server may do so at the earliest: the server itself counts real time.
func TestHolderCrashed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		cut := &heartbeattest.Cut{Store: opened(t, server.Addr())}
		i := heartbeattest.Launch(t, cut, job, nil)
		before := i.Await(heartbeat.Held)
		standby := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) { o.Wait = true })
		standby.Await(heartbeat.Standby)
		cut.Pull(true)
		out := i.Await(heartbeat.Out)
		if lease, _ := standby.Watch(); lease.State != heartbeat.Standby {
			t.Errorf("the standby is %v beside an entry that lives", lease.State)
		}
		time.Sleep(heartbeattest.LeaseTTL / 50) // what the deadline is before the earliest end of the entry, and more
		expireEntry(t, server)
		if lease := standby.Await(heartbeat.Proving); time.Until(lease.Until) > heartbeattest.LeaseTTL {
			t.Errorf("the proof is to end in %s", time.Until(lease.Until))
		}
		lease := standby.Await(heartbeat.Held)
		if lease.Fence <= before.Fence {
			t.Errorf("fence %d after fence %d", lease.Fence, before.Fence)
		}
		if !lease.Since.After(out.Since) {
			t.Errorf("two held: one until %s, the other since %s", out.Since, lease.Since)
		}
		cut.Pull(false)
		wantLostTo(t, i, standby)
	})
}

// An interval of 300 s has nothing to do with a ttl of 5 s: nobody beats, and the lease is kept.
func TestHeldThroughIdleLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		i := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) { o.Self.Interval = 300 })
		i.Await(heartbeat.Held)
		i.Keeps(3 * heartbeattest.LeaseTTL)
		command(t, server, `"interval":300`, "get "+job)
	})
}

// hanging is the store of a server that the test pauses and resumes. An operation on a hung server
// takes all the virtual time that the engine grants it.
type hanging struct {
	*Store
	server   *heartbeattest.Server
	hung     atomic.Bool
	timeouts atomic.Int64
}

// pause hangs the server between two operations of the engine: one that was under way already would
// wait for the patience of the store.
func (h *hanging) pause(t *testing.T) {
	t.Helper()
	synctest.Wait()
	grant(h.Store, brief)
	h.hung.Store(true)
	must(t, h.server.Pause())
}

func (h *hanging) resume(t *testing.T) {
	t.Helper()
	synctest.Wait()
	must(t, h.server.Resume())
	h.hung.Store(false)
	grant(h.Store, patience)
}

func (h *hanging) lag(ctx context.Context) {
	if h.hung.Load() {
		h.timeouts.Add(1)
		<-ctx.Done()
	}
}

func (h *hanging) Get(ctx context.Context, key string) (heartbeat.Entry, error) {
	defer h.lag(ctx)
	return h.Store.Get(ctx, key)
}

func (h *hanging) Add(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	defer h.lag(ctx)
	return h.Store.Add(ctx, key, value, ttl)
}

func (h *hanging) Swap(ctx context.Context, key string, old heartbeat.Entry, value []byte, ttl time.Duration) error {
	defer h.lag(ctx)
	return h.Store.Swap(ctx, key, old, value, ttl)
}

func (h *hanging) Expire(ctx context.Context, key string, old heartbeat.Entry) error {
	defer h.lag(ctx)
	return h.Store.Expire(ctx, key, old)
}

// expireEntry ends the entry as its ttl would.
func expireEntry(t *testing.T, server *heartbeattest.Server) {
	t.Helper()
	command(t, server, "TOUCHED", "touch "+job+" -1")
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
