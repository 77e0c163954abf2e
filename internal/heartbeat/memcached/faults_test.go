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

// The engine with a real server that fails, in virtual time. Each test has its own server. Virtual
// time passes only while no operation is under way. So an operation never times out because the
// machine is slow, and the test acts on the server between two operations.

const job = "job_process_heartbeat"

func TestServerDownAtStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		server.Stop()
		start := time.Now()
		var unreachable *heartbeat.UnreachableError
		err := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) {
			o.AcquireTimeout = time.Second
		}).Wait()
		if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), server.Addr()) {
			t.Errorf("Run without a server: %v; want *UnreachableError that names %s", err, server.Addr())
		}
		if took := time.Since(start); took < time.Second || took > 5*time.Second {
			t.Errorf("Run without a server took %s; want the AcquireTimeout, 1s", took)
		}
		standby := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) {
			o.Standby = true
			o.AcquireTimeout = time.Second
		})
		time.Sleep(time.Minute)
		if lease, _ := standby.Watch(); lease.Err == nil {
			t.Errorf("a standby without a server: %+v; want the error of the store", lease)
		}
		must(t, server.Restart())
		standby.Await(heartbeat.Held)
	})
}

func TestServerDownWhileHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		i := heartbeattest.Launch(t, opened(t, server.Addr()), job, nil)
		before := i.Await(heartbeat.Held)
		server.Stop()
		i.Await(heartbeat.Ending)
		if i.MayStart() {
			t.Error("MayStart shortly before the deadline")
		}
		if lease := i.Await(heartbeat.Out); lease.Err == nil || !strings.Contains(lease.Err.Error(), server.Addr()) {
			t.Errorf("error of an expired lease: %v; want one that names %s", lease.Err, server.Addr())
		}
		if i.MayStart() {
			t.Error("MayStart after the deadline")
		}
		must(t, server.Restart())
		if after := i.Await(heartbeat.Held); after.Fence <= before.Fence {
			t.Errorf("fencing token %d after %d, which the server lost", after.Fence, before.Fence)
		}
	})
}

func TestServerHungForLessThanTheLeaseTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		s := &pausable{Store: opened(t, server.Addr()), server: server}
		i := heartbeattest.Launch(t, s, job, nil)
		i.Await(heartbeat.Held)
		for range 3 {
			timeouts := s.timeouts.Load()
			s.pause(t)
			i.Keeps(heartbeattest.LeaseRenew + 8*time.Second)
			s.resume(t)
			i.Keeps(2 * heartbeattest.LeaseRenew)
			if s.timeouts.Load() == timeouts {
				t.Error("no operation was sent to the hung server")
			}
		}
		i.Await(heartbeat.Held)
	})
}

// When the server runs again, the entry may have expired or not: its clock may stand still in a
// pause.
func TestServerHungForMoreThanTheTTL(t *testing.T) {
	t.Parallel()
	for name, expired := range map[string]bool{"entry expired": true, "entry still there": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := heartbeattest.Memcached(t)
				s := &pausable{Store: opened(t, server.Addr()), server: server}
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
					t.Errorf("fencing token %d after %d", after.Fence, before.Fence)
				}
			})
		})
	}
}

// The server loses all entries. The holder keeps the lease, also against an instance that starts at
// the same moment.
func TestHolderKeepsLeaseWhenServerRestartsEmpty(t *testing.T) {
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
			t.Errorf("Run of a new instance: %v; want *HeldError for the holder", err)
		}
	})
}

func TestServerRestartsEmptyAndAnotherClaims(t *testing.T) {
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

func TestKeyOverwrittenByAnotherProgram(t *testing.T) {
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

// Continue applies only while the server does not answer. A value of another program still counts.
func TestKeyOverwrittenByAnotherProgramWithContinue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		i := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) { o.Continue = true })
		i.Await(heartbeat.Held)
		server.Stop()
		i.Keeps(heartbeattest.LeaseTTL)
		if lease, _ := i.Watch(); !lease.Unproven {
			t.Errorf("lease while the server is down: %+v; want it unproven", lease)
		}
		must(t, server.Restart())
		set(t, server, "0", "revoked")
		wantLost(t, i, 0)
		wantValue(t, server, "revoked")
	})
}

func TestHolderRestoresDeletedKey(t *testing.T) {
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
					t.Errorf("the key has %s; want the holder's record", e.Value)
				}
				i.Stop()
			})
		})
	}
}

// The holder is cut off without a release. No other instance may hold the lease before it has
// expired and the proof has passed. The test expires the entry at the earliest time at which the
// server may do so, because the server itself counts real time.
func TestStandbyTakesOverAfterCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		cut := &heartbeattest.Cut{Store: opened(t, server.Addr())}
		i := heartbeattest.Launch(t, cut, job, nil)
		before := i.Await(heartbeat.Held)
		standby := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) {
			o.Standby = true
		})
		standby.Await(heartbeat.Standby)
		cut.Pull(true)
		out := i.Await(heartbeat.Out)
		if lease, _ := standby.Watch(); lease.State != heartbeat.Standby {
			t.Errorf("the standby is %v although the entry exists", lease.State)
		}
		// This is longer than the time from the deadline to the earliest expiry of the entry.
		time.Sleep(heartbeattest.LeaseTTL / 50)
		expireEntry(t, server)
		if lease := standby.Await(heartbeat.Proving); time.Until(lease.Until) > heartbeattest.LeaseTTL {
			t.Errorf("the proof takes another %s", time.Until(lease.Until))
		}
		lease := standby.Await(heartbeat.Held)
		if lease.Fence <= before.Fence {
			t.Errorf("fencing token %d after %d", lease.Fence, before.Fence)
		}
		if !lease.Since.After(out.Since) {
			t.Errorf("two holders: one until %s, the other since %s", out.Since, lease.Since)
		}
		cut.Pull(false)
		wantLostTo(t, i, standby)
	})
}

// An interval may be longer than the ttl: the lease is kept without calls of Beat.
func TestLeaseIsKeptBetweenTicks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := heartbeattest.Memcached(t)
		i := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) {
			o.Self.Interval = 300
		})
		i.Await(heartbeat.Held)
		i.Keeps(3 * heartbeattest.LeaseTTL)
		command(t, server, `"interval":300`, "get "+job)
	})
}

// pausable is the store of a server that the test pauses and resumes. An operation on a paused
// server takes all the virtual time that the engine allows for it.
type pausable struct {
	*Store
	server   *heartbeattest.Server
	hung     atomic.Bool
	timeouts atomic.Int64
}

// pause stops the server between two operations of the engine. An operation that was already under
// way would wait for the long timeout of the store.
func (h *pausable) pause(t *testing.T) {
	t.Helper()
	synctest.Wait()
	setTimeout(h.Store, shortTimeout)
	h.hung.Store(true)
	must(t, h.server.Pause())
}

func (h *pausable) resume(t *testing.T) {
	t.Helper()
	synctest.Wait()
	must(t, h.server.Resume())
	h.hung.Store(false)
	setTimeout(h.Store, longTimeout)
}

func (h *pausable) delay(ctx context.Context) {
	if h.hung.Load() {
		h.timeouts.Add(1)
		<-ctx.Done()
	}
}

func (h *pausable) Get(ctx context.Context, key string) (heartbeat.Entry, error) {
	defer h.delay(ctx)
	return h.Store.Get(ctx, key)
}

func (h *pausable) Add(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	defer h.delay(ctx)
	return h.Store.Add(ctx, key, value, ttl)
}

func (h *pausable) Swap(ctx context.Context, key string, old heartbeat.Entry, value []byte, ttl time.Duration) error {
	defer h.delay(ctx)
	return h.Store.Swap(ctx, key, old, value, ttl)
}

func (h *pausable) Expire(ctx context.Context, key string, old heartbeat.Entry) error {
	defer h.delay(ctx)
	return h.Store.Expire(ctx, key, old)
}

// expireEntry removes the entry as its ttl would.
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
		t.Errorf("the lease is %v; want it lost", lease.State)
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

// wantValue fails unless the key has value: the entry of another program must stay as it is, also
// after a release.
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
		t.Errorf("the server answers %q, %v; want %q", got, err, want)
	}
}
