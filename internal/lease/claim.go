package lease

import (
	"context"
	"math/rand/v2"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
)

// Claim is the part of a Lease in one store. These methods may be called on a nil Claim, which
// never changes or ends: Begun, Changed, Ended, Seen, Now, Stop, Release and HandedOff.
type Claim struct {
	Store string // URL of the store, without secrets
	Key   string

	lease  *Lease
	store  heartbeat.Store
	lock   *file.Store // the same store, of the local lock only
	handed *heartbeat.Handoff

	hb     *heartbeat.Heartbeat // nil before Begin
	cancel context.CancelFunc
	group  goroutine.Group
	done   chan struct{} // closed when the claim has ended; nil before Begin and after Err
	err    error
	watch  <-chan struct{}
	seen   heartbeat.Lease
}

// Begin starts a goroutine that acquires the claim and then renews it, until Stop, Release or
// HandOff. It does not block: Changed and Ended report the progress. Begin may be called again
// after the claim has ended with an error.
func (c *Claim) Begin() {
	c.watch, c.done = nil, make(chan struct{})
	hb, err := heartbeat.New(c.options(), c.store)
	if err != nil {
		c.err = err
		close(c.done)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.hb, c.cancel = hb, cancel
	done := c.done
	c.group.Go(func() {
		defer close(done)
		if p := goroutine.Catch(func() { c.err = hb.Run(ctx) }); p != nil {
			c.err = p
		}
	})
	_, c.watch = hb.Watch()
}

func (c *Claim) options() heartbeat.Options {
	o, lock := c.lease.o, c.lease.lock
	job, h := o.Config.Jobs[0], o.Config.Heartbeat
	self := Self()
	self.Job, self.Started, self.Interval = job.Name, o.Started, job.Interval.Seconds()
	self.Lock = FileID(lock.Descriptor())
	options := heartbeat.Options{
		Key: c.Key, Self: self, TTL: h.TTL, Renew: h.Renew, StopGrace: h.StopGrace, Timeout: h.Timeout,
		Standby: h.Standby, Continue: c.lock == nil && h.OnUnreachable == "continue",
		AcquireTimeout: h.AcquireTimeout, Adopt: c.handed,
		Dead: func(other heartbeat.Record) bool { return Dead(other, self, Mark(lock)+".", lock.Users()) },
		Boot: boot, Jitter: func() float64 { return 2*rand.Float64() - 1 },
	}
	if c.lock == nil {
		options.Timer = c.lease.timer
	}
	return options
}

// Begun returns true after Begin was called.
func (c *Claim) Begun() bool { return c != nil && c.hb != nil }

// Changed returns a channel that is closed when Read has something new.
func (c *Claim) Changed() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.watch
}

// Read returns the state of the claim at the last Read, and the current one.
func (c *Claim) Read() (was, now heartbeat.Lease) {
	was = c.seen
	c.seen, c.watch = c.hb.Watch()
	return was, c.seen
}

// Seen returns what Read returned last.
func (c *Claim) Seen() heartbeat.Lease {
	if c == nil {
		return heartbeat.Lease{}
	}
	return c.seen
}

// Now returns the current state of the claim without a Read, and false before Begin. Any goroutine
// may call it.
func (c *Claim) Now() (heartbeat.Lease, bool) {
	if !c.Begun() {
		return heartbeat.Lease{}, false
	}
	now, _ := c.hb.Watch()
	return now, true
}

// Ended returns a channel that is closed when the claim has ended: see Err.
func (c *Claim) Ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.done
}

// Err returns why the claim has ended, after Ended is closed: nil if it was released or handed off,
// otherwise an error of heartbeat.Heartbeat.Run or a *goroutine.Panic. From then on, Changed and
// Ended return nil.
func (c *Claim) Err() error {
	c.done, c.watch = nil, nil
	return c.err
}

// Grace returns how long a run may take to stop before another instance may hold the claim.
func (c *Claim) Grace() time.Duration {
	now, _ := c.Now()
	if now.Deadline == 0 {
		return c.lease.o.Config.Heartbeat.StopGrace
	}
	return c.lease.grace(now.Deadline)
}

// Stop starts the release of the claim. It does not wait for it: Release does.
func (c *Claim) Stop() {
	if c.Begun() {
		c.cancel()
	}
}

// Release releases the claim, so that another instance can start at once. The command must have
// exited. Release blocks for at most twice the store's timeout. It returns the error with which the
// claim ended, unless Err has returned it already.
func (c *Claim) Release() error {
	if !c.Begun() {
		return nil
	}
	c.cancel()
	c.group.Wait()
	if c.done == nil {
		return nil
	}
	return c.err
}

// HandedOff returns true if the claim was handed off to this process and Begin was not called yet.
func (c *Claim) HandedOff() bool { return c != nil && c.hb == nil && c.handed != nil }

// HandOff renews the claim once more and ends it without a release. It blocks until the renewal is
// done or has failed: each operation of the store takes at most twice the store's timeout. ctx
// limits only how long the claim may take to accept the request. If the error is not nil,
// the new process must acquire the claim again. With keep, the claim is then renewed until this
// process exits, because a command is active under it.
func (c *Claim) HandOff(ctx context.Context, keep bool) (heartbeat.Handoff, error) {
	handoff, err := c.hb.HandOff(ctx)
	if err == nil || !keep {
		c.cancel()
		_ = goroutine.Catch(c.group.Wait) // ignore a panic: the claim has ended
	}
	return handoff, err
}
