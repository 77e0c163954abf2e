package lease

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
)

// claim is the part of a Lease in one store. The methods begun, changed, ended, now and stop may be
// called on a nil claim, which never changes or ends. Any goroutine may call begun and now.
type claim struct {
	store string // URL of the store, without secrets
	key   string

	lease  *Lease
	opened heartbeat.Store
	lock   *file.Store // the same store, of the local lock only
	handed *heartbeat.Handoff

	hb     atomic.Pointer[heartbeat.Heartbeat] // nil before begin
	cancel context.CancelFunc
	group  goroutine.Group
	done   chan struct{} // closed when the claim has ended; nil before begin and after reason
	err    error
	watch  <-chan struct{}
	seen   heartbeat.Lease // at the last read
}

// begin starts a goroutine that acquires the claim and then renews it, until stop, release or
// handOff. It does not block: changed and ended report the progress. It may be called again after
// the claim has ended with an error.
func (c *claim) begin() {
	c.watch, c.done = nil, make(chan struct{})
	hb, err := heartbeat.New(c.options(), c.opened)
	if err != nil {
		c.err = err
		close(c.done)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.hb.Store(hb)
	done := c.done
	c.group.Go(func() {
		defer close(done)
		if p := goroutine.Catch(func() { c.err = hb.Run(ctx) }); p != nil {
			c.err = p
		}
	})
	_, c.watch = hb.Watch()
}

func (c *claim) options() heartbeat.Options {
	o, lock := c.lease.o, c.lease.lock
	h := o.Config.Heartbeat
	self := Self()
	self.Job, self.Started, self.Interval = o.Name, o.Started, o.Interval.Seconds()
	self.Lock = FileID(lock.Descriptor())
	options := heartbeat.Options{
		Key: c.key, Self: self, TTL: h.TTL, Renew: h.Renew, StopGrace: h.StopGrace, Timeout: h.Timeout,
		Standby: c.lease.o.Standby, Continue: c.lock == nil && h.OnUnreachable == "continue",
		AcquireTimeout: h.AcquireTimeout, Adopt: c.handed,
		Dead: func(other heartbeat.Record) bool { return Dead(other, self, Mark(lock)+".", lock.Users()) },
		Boot: boot, Jitter: func() float64 { return 2*rand.Float64() - 1 },
	}
	if c.lock == nil {
		options.Timer, options.Keep = c.lease.timer, c.lease.keeping.value
	}
	return options
}

// begun returns true after begin was called.
func (c *claim) begun() bool { return c != nil && c.hb.Load() != nil }

// changed returns a channel that is closed when read has something new.
func (c *claim) changed() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.watch
}

// read returns the state of the claim at the last read, and the current one.
func (c *claim) read() (was, now heartbeat.Lease) {
	was = c.seen
	c.seen, c.watch = c.hb.Load().Watch()
	return was, c.seen
}

// now returns the current state of the claim, and false before begin.
func (c *claim) now() (heartbeat.Lease, bool) {
	if !c.begun() {
		return heartbeat.Lease{}, false
	}
	now, _ := c.hb.Load().Watch()
	return now, true
}

// ended returns a channel that is closed when the claim has ended: see reason.
func (c *claim) ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.done
}

// reason returns why the claim has ended, after ended is closed: nil if it was released or handed
// off, otherwise an error of heartbeat.Heartbeat.Run or a *goroutine.Panic. From then on, changed
// and ended return nil.
func (c *claim) reason() error {
	c.done, c.watch = nil, nil
	return c.err
}

// grace returns how long a run may take to stop before another instance may hold the claim.
func (c *claim) grace() time.Duration {
	now, _ := c.now()
	if now.Deadline == 0 {
		return c.lease.o.Config.Heartbeat.StopGrace
	}
	return c.lease.grace(now.Deadline)
}

// stop starts the release of the claim. It does not wait for it: release does.
func (c *claim) stop() {
	if c.begun() {
		c.cancel()
	}
}

// release releases the claim, so that another instance can start at once. It blocks for at most
// twice the store's timeout. It returns the error with which the claim ended, unless reason has
// returned it already.
func (c *claim) release() error {
	if !c.begun() {
		return nil
	}
	c.cancel()
	c.group.Wait()
	if c.done == nil {
		return nil
	}
	return c.err
}

// handOff renews the claim once more and ends it without a release. It blocks until the renewal is
// done or has failed: each operation of the store takes at most twice the store's timeout. ctx
// limits only how long the claim may take to accept the request. If the error is not nil, the new
// process must acquire the claim again. With keep, the claim is then renewed until this process
// exits, because a command is active under it.
func (c *claim) handOff(ctx context.Context, keep bool) (heartbeat.Handoff, error) {
	handoff, err := c.hb.Load().HandOff(ctx)
	if err == nil || !keep {
		c.cancel()
		_ = goroutine.Catch(c.group.Wait) // ignore a panic: the claim has ended
	}
	return handoff, err
}
