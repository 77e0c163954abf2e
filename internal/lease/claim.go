package lease

import (
	"context"
	"math/rand/v2"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
)

// Claim is one heartbeat of a Lease. The methods that return a channel, Held, Now and Release may be
// called on nil, which never changes or ends.
type Claim struct {
	Store string // its URL, without secrets
	Key   string

	lease  *Lease
	store  heartbeat.Store
	lock   *file.Store // the same store, of the local lock only
	handed *heartbeat.Handover

	hb     *heartbeat.Heartbeat // nil before Begin
	cancel context.CancelFunc
	room   goroutine.Group
	done   chan struct{} // closed when the heartbeat has ended; nil before Begin and after Err
	err    error
	watch  <-chan struct{}
	seen   heartbeat.Lease
}

// Begin starts to acquire the claim, and from then on renews it. Its progress is told by Changed and
// Ended. A claim that has ended with an error may begin again.
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
	c.room.Go(func() {
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
		Wait: h.Wait, Continue: c.lock == nil && h.OnUnreachable == "continue", AcquireTimeout: h.AcquireTimeout,
		Dead: func(other heartbeat.Record) bool { return Dead(other, self, Mark(lock)+".", lock.Users()) },
		Boot: boot, Jitter: func() float64 { return 2*rand.Float64() - 1 }, Adopt: c.handed,
	}
	if c.lock == nil {
		options.Alarm = c.lease.timer
	}
	return options
}

// Begun returns true once Begin was called.
func (c *Claim) Begun() bool { return c != nil && c.hb != nil }

// Changed returns a channel that is closed when there is something new for Read.
func (c *Claim) Changed() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.watch
}

// Read returns where the claim stands and where it stood at the last Read.
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

// Now returns where the claim stands, without a Read; false before Begin. Any goroutine may call it.
func (c *Claim) Now() (heartbeat.Lease, bool) {
	if !c.Begun() {
		return heartbeat.Lease{}, false
	}
	now, _ := c.hb.Watch()
	return now, true
}

// Ended returns a channel that is closed when the heartbeat has ended: see Err.
func (c *Claim) Ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.done
}

// Err returns why the heartbeat has ended, once Ended is closed: nil if it was released or handed off,
// else an error of heartbeat.Heartbeat.Run or a *goroutine.Panic. Changed and Ended are nil from then on.
func (c *Claim) Err() error {
	c.done, c.watch = nil, nil
	return c.err
}

// Grace returns how long a run may take to stop before the claim could belong to another.
func (c *Claim) Grace() time.Duration {
	now, _ := c.Now()
	if now.Deadline == 0 {
		return c.lease.o.Config.Heartbeat.StopGrace
	}
	return c.lease.grace(now.Deadline)
}

// Stop lets the claim be released. It does not wait for that: Release does.
func (c *Claim) Stop() {
	if c.Begun() {
		c.cancel()
	}
}

// Release gives the claim up, so that another can start at once. The command must have exited. It
// blocks for at most twice the store's timeout, and returns why the claim could not be released, if
// Err has not.
func (c *Claim) Release() error {
	if !c.Begun() {
		return nil
	}
	c.cancel()
	c.room.Wait()
	if c.done == nil {
		return nil
	}
	return c.err
}

// HandedOff returns true if the claim was handed off to this process and has not begun here.
func (c *Claim) HandedOff() bool { return c != nil && c.hb == nil && c.handed != nil }

// HandOff renews the claim once more and ends its heartbeat without a release. It blocks until ctx
// ends at most. If the error is not nil, the next process must acquire the claim again. With keep,
// the heartbeat then goes on until this process ends, because a command is active under it.
func (c *Claim) HandOff(ctx context.Context, keep bool) (heartbeat.Handover, error) {
	over, err := c.hb.HandOver(ctx)
	if err == nil || !keep {
		c.cancel()
		_ = goroutine.Catch(c.room.Wait) // a panic of a heartbeat that is over
	}
	return over, err
}
