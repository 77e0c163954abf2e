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

// What the instances of this package run with. The time is virtual, so a long lease costs nothing. A
// real server counts real time: its entries outlast each test, so that none expires on a slow machine.
const (
	LeaseTTL   = time.Minute
	LeaseRenew = 12 * time.Second

	leaseGrace   = 12 * time.Second
	leaseTimeout = 3 * time.Second
)

// patience is far more than any wait of a test should take on a busy machine.
const patience = 5 * time.Minute

// Instance is the heartbeat of one gophd. It runs in a bubble of virtual time (testing/synctest).
// An operation of a real store takes no virtual time: a bubble's clock stands still during I/O.
type Instance struct {
	*heartbeat.Heartbeat
	t      testing.TB
	cancel context.CancelFunc
	result chan error
}

// Launch runs a heartbeat for key on store until Stop, or the end of the test. change, if not nil,
// changes the options first. Call it in a bubble. All instances of a bubble have the same boot clock.
func Launch(t testing.TB, store heartbeat.Store, key string, change func(*heartbeat.Options)) *Instance {
	t.Helper()
	o := heartbeat.Options{
		Key:  key,
		Self: heartbeat.Record{PID: 1, Host: "host", Job: "job", Boot: "boot", Started: time.Now()},
		TTL:  LeaseTTL, Renew: LeaseRenew, StopGrace: leaseGrace, Timeout: leaseTimeout,
		AcquireTimeout: patience,
		Boot:           boot,
		Alarm:          newAlarm(),
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

// Await returns the lease when it is in state, and fails the test when that does not come, or Run ends before.
func (i *Instance) Await(state heartbeat.State) heartbeat.Lease {
	i.t.Helper()
	if err := i.await(state); err != nil {
		i.t.Fatalf("Run ended with %v; the heartbeat was to be %v", err, state)
	}
	lease, _ := i.Watch()
	return lease
}

// settled returns nil when the lease is held, else what Run returned.
func (i *Instance) settled() error {
	i.t.Helper()
	return i.await(heartbeat.Held)
}

func (i *Instance) await(state heartbeat.State) error {
	i.t.Helper()
	limit := time.NewTimer(patience)
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
			i.t.Fatalf("the heartbeat is %v (%v); it was to be %v", lease.State, lease.Err, state)
		}
	}
}

// Keeps fails the test when the lease leaves the states that hold it, or changes its fence, within d.
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
			i.t.Fatalf("the heartbeat is %v (%v); it was to be kept", lease.State, lease.Err)
		}
		if lease.Fence != first.Fence {
			i.t.Fatalf("the fence went from %d to %d without a change of holder", first.Fence, lease.Fence)
		}
		select {
		case <-changed:
		case <-limit.C:
			return
		}
	}
}

// Wait returns what Run returned.
func (i *Instance) Wait() error {
	i.t.Helper()
	select {
	case err := <-i.result:
		i.result <- err
		return err
	case <-time.After(patience):
		lease, _ := i.Watch()
		i.t.Fatalf("Run goes on; the heartbeat is %v (%v)", lease.State, lease.Err)
		return nil
	}
}

// Stop ends Run in order, as after the command's end.
func (i *Instance) Stop() {
	i.t.Helper()
	i.cancel()
	if err := i.Wait(); err != nil {
		i.t.Errorf("Run, stopped in order: %v; want nil", err)
	}
}

// Cut is a store behind a cable that can be pulled.
type Cut struct {
	heartbeat.Store
	pulled atomic.Bool
}

// ErrCut is the answer of a store whose cable is pulled: unknown.
var ErrCut = errors.New("the cable is pulled")

// Pull cuts the store off, or joins it again.
func (c *Cut) Pull(pulled bool) { c.pulled.Store(pulled) }

// Get is Store's.
func (c *Cut) Get(ctx context.Context, key string) (heartbeat.Entry, error) {
	if c.pulled.Load() {
		return heartbeat.Entry{}, ErrCut
	}
	return c.Store.Get(ctx, key)
}

// Add is Store's.
func (c *Cut) Add(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if c.pulled.Load() {
		return ErrCut
	}
	return c.Store.Add(ctx, key, value, ttl)
}

// Swap is Store's.
func (c *Cut) Swap(ctx context.Context, key string, old heartbeat.Entry, value []byte, ttl time.Duration) error {
	if c.pulled.Load() {
		return ErrCut
	}
	return c.Store.Swap(ctx, key, old, value, ttl)
}

// Expire is Store's.
func (c *Cut) Expire(ctx context.Context, key string, old heartbeat.Entry) error {
	if c.pulled.Load() {
		return ErrCut
	}
	return c.Store.Expire(ctx, key, old)
}

// boot stands in for the boot clock; nobody sets the clock of a bubble or suspends it.
func boot() time.Duration { return time.Duration(time.Now().UnixNano()) }

type alarm struct {
	c     chan struct{}
	timer *time.Timer
}

func newAlarm() *alarm {
	a := &alarm{c: make(chan struct{}, 1)}
	a.timer = time.AfterFunc(time.Hour, func() {
		select {
		case a.c <- struct{}{}:
		default:
		}
	})
	return a
}

func (a *alarm) Set(d time.Duration) { a.timer.Reset(max(d, 0)) }
func (a *alarm) C() <-chan struct{}  { return a.c }
