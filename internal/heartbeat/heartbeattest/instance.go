package heartbeattest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
)

// The settings of the instances of this package. The time is virtual, so a long lease does not slow
// down a test. A real server counts real time: its entries outlast each test, so that none expires
// on a slow machine.
const (
	LeaseTTL   = time.Minute
	LeaseRenew = 12 * time.Second

	leaseGrace   = 12 * time.Second
	leaseTimeout = 3 * time.Second
)

// maxWait is much longer than any wait of a test should take on a busy machine.
const maxWait = 5 * time.Minute

// Instance is the Heartbeat of one gophd. It runs in a bubble of virtual time (testing/synctest).
// An operation of a real store takes no virtual time: the clock of a bubble stands still during
// I/O.
type Instance struct {
	*heartbeat.Heartbeat
	t      testing.TB
	cancel context.CancelFunc
	result chan error
}

// Launch runs a Heartbeat for key on store until Stop or the end of the test. If change is not nil,
// it changes the options first. Call Launch in a bubble. All instances of a bubble have the same
// boot clock.
func Launch(t testing.TB, store heartbeat.Store, key string, change func(*heartbeat.Options)) *Instance {
	t.Helper()
	o := heartbeat.Options{
		Key:  key,
		Self: heartbeat.Record{PID: 1, Host: "host", Job: "job", Boot: "boot", Started: time.Now()},
		TTL:  LeaseTTL, Renew: LeaseRenew, StopGrace: leaseGrace, Timeout: leaseTimeout,
		AcquireTimeout: maxWait,
		Boot:           boot,
		Timer:          newTimer(),
	}
	if change != nil {
		change(&o)
	}
	h, err := heartbeat.New(o, store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	i := &Instance{Heartbeat: h, t: t, cancel: cancel, result: make(chan error, 1)}
	var group goroutine.Group
	group.Go(func() { i.result <- h.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return i
}

// Await waits until the lease is in state and returns it. It fails the test when that does not
// happen, or when Run returns first.
func (i *Instance) Await(state heartbeat.State) heartbeat.Lease {
	i.t.Helper()
	if err := i.await(state); err != nil {
		i.t.Fatalf("Run returned %v; want a lease that is %v", err, state)
	}
	lease, _ := i.Watch()
	return lease
}

// settled waits for a decision: it returns nil when the lease is held, or the result of Run.
func (i *Instance) settled() error {
	i.t.Helper()
	return i.await(heartbeat.Held)
}

func (i *Instance) await(state heartbeat.State) error {
	i.t.Helper()
	limit := time.NewTimer(maxWait)
	defer limit.Stop()
	for {
		lease, changed := i.Watch()
		if lease.State == state {
			return nil
		}
		select {
		case <-changed:
		case err := <-i.result:
			i.result <- err
			if lease, _ := i.Watch(); lease.State == state {
				return nil
			}
			return err
		case <-limit.C:
			i.t.Fatalf("the lease is %v (%v); want %v", lease.State, lease.Err, state)
		}
	}
}

// Keeps fails the test if the lease is lost or expires, or its fencing token changes, within d.
func (i *Instance) Keeps(d time.Duration) {
	i.t.Helper()
	first, _ := i.Watch()
	limit := time.NewTimer(d)
	defer limit.Stop()
	for {
		lease, changed := i.Watch()
		switch lease.State {
		case heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending:
		default:
			i.t.Fatalf("the lease is %v (%v); want it kept", lease.State, lease.Err)
		}
		if lease.Fence != first.Fence {
			i.t.Fatalf("the fencing token changed from %d to %d without a new holder", first.Fence, lease.Fence)
		}
		select {
		case <-changed:
		case <-limit.C:
			return
		}
	}
}

// Wait waits until Run returns, and returns its result.
func (i *Instance) Wait() error {
	i.t.Helper()
	select {
	case err := <-i.result:
		i.result <- err
		return err
	case <-time.After(maxWait):
		lease, _ := i.Watch()
		i.t.Fatalf("Run does not return; the lease is %v (%v)", lease.State, lease.Err)
		return nil
	}
}

// Stop stops Run gracefully, as gophd does after the command has exited.
func (i *Instance) Stop() {
	i.t.Helper()
	i.cancel()
	if err := i.Wait(); err != nil {
		i.t.Errorf("Run, stopped gracefully: %v; want nil", err)
	}
}

// Cut is a store whose network connection a test can cut.
type Cut struct {
	heartbeat.Store
	unreachable atomic.Bool
}

// ErrCut is the error of an operation while the store is cut off. It is an unknown answer.
var ErrCut = errors.New("the store is cut off")

// Pull cuts the store off if pulled is true, and reconnects it otherwise.
func (c *Cut) Pull(pulled bool) { c.unreachable.Store(pulled) }

// Get implements heartbeat.Store.
func (c *Cut) Get(ctx context.Context, key string) (heartbeat.Entry, error) {
	if c.unreachable.Load() {
		return heartbeat.Entry{}, ErrCut
	}
	return c.Store.Get(ctx, key)
}

// Add implements heartbeat.Store.
func (c *Cut) Add(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if c.unreachable.Load() {
		return ErrCut
	}
	return c.Store.Add(ctx, key, value, ttl)
}

// Swap implements heartbeat.Store.
func (c *Cut) Swap(ctx context.Context, key string, old heartbeat.Entry, value []byte, ttl time.Duration) error {
	if c.unreachable.Load() {
		return ErrCut
	}
	return c.Store.Swap(ctx, key, old, value, ttl)
}

// Expire implements heartbeat.Store.
func (c *Cut) Expire(ctx context.Context, key string, old heartbeat.Entry) error {
	if c.unreachable.Load() {
		return ErrCut
	}
	return c.Store.Expire(ctx, key, old)
}

// boot replaces the boot clock. The clock of a bubble is never set or suspended.
func boot() time.Duration { return time.Duration(time.Now().UnixNano()) }

// timer is the Options.Timer of an instance, in virtual time.
type timer struct {
	c     chan struct{}
	timer *time.Timer
}

func newTimer() *timer {
	t := &timer{c: make(chan struct{}, 1)}
	t.timer = time.AfterFunc(time.Hour, func() {
		select {
		case t.c <- struct{}{}:
		default:
		}
	})
	return t
}

func (t *timer) Set(d time.Duration) { t.timer.Reset(max(d, 0)) }
func (t *timer) C() <-chan struct{}  { return t.c }
