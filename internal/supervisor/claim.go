package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"gophd/internal/alarm"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/lease"
)

// claim is one heartbeat of the job: the local lock that every store takes first, or the shared one.
// Its fields belong to the goroutine of Run, but for what Heartbeat itself makes safe.
type claim struct {
	name  string // in the hand-over
	url   string // for the log, without secrets
	key   string
	store heartbeat.Store
	lock  *file.Store  // the same store, of the local lock only
	alarm *alarm.Alarm // nil for the local lock
	adopt *heartbeat.Handover

	hb     *heartbeat.Heartbeat
	cancel context.CancelFunc
	room   goroutine.Group
	done   chan struct{} // closed when Run of the Heartbeat has returned; nil before and after it was heard
	err    error
	watch  <-chan struct{}
	seen   heartbeat.Lease
}

// begin starts the claim, once.
func (c *claim) begin(r *rig) {
	c.watch = nil
	hb, err := heartbeat.New(r.claimOptions(c), c.store)
	if err != nil {
		c.err = err
		c.done = make(chan struct{})
		close(c.done)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.hb, c.cancel, c.done = hb, cancel, make(chan struct{})
	done := c.done
	c.room.Go(func() {
		defer close(done)
		if p := goroutine.Catch(func() { c.err = hb.Run(ctx) }); p != nil {
			c.err = p
		}
	})
	_, c.watch = hb.Watch()
	r.leaseChanged(c)
}

// changed and ended are nil channels for a claim that is not there, or not there yet.
func (c *claim) changed() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.watch
}

func (c *claim) ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.done
}

func (c *claim) held() bool { return c == nil || c.hb != nil && c.seen.State == heartbeat.Held }

// leaseChanged reads the claim's lease and acts on what is new in it.
func (r *rig) leaseChanged(c *claim) {
	var l heartbeat.Lease
	l, c.watch = c.hb.Watch()
	was := c.seen
	c.seen = l
	if r.released {
		return
	}
	if r.machine.looping {
		switch l.State {
		case heartbeat.Held, heartbeat.Doubtful:
		case heartbeat.Seeking, heartbeat.Proving: // of a run that was adopted while the lease is claimed anew
		default: // the run before the words
			r.machine.leaseEnding(&leaseError{
				why: "the heartbeat could not be renewed in time", grace: lastWord(l, r.boot(), r.o.Config.Heartbeat.StopGrace)})
		}
	}
	if c == r.local && l.State == heartbeat.Held {
		r.begins()
	}
	r.say.lease(c.url, was, l)
	r.showLease()
	switch l.State {
	case heartbeat.Held:
		r.nextClaim(c)
	case heartbeat.Standby:
		r.serving("standing by: " + l.Holder.String() + " runs " + r.spec.Name)
	case heartbeat.Proving:
		r.remind.Reset(proofRemind)
	}
}

// firstClaim begins with the local lock, where there is to be one.
func (r *rig) firstClaim() {
	r.claiming = true
	if r.local != nil {
		r.local.begin(r)
		return
	}
	r.begins()
	r.nextClaim(nil)
}

// begins says once that this daemon begins: not before no other can be in its way on this host.
func (r *rig) begins() {
	if !r.begun {
		r.begun = true
		if r.o.Trouble == nil { // else it goes on as it was, which is said
			r.say.begins(r.o.Version, os.Getpid(), r.o.Handoff != nil)
		}
	}
}

// nextClaim goes on from a claim that was won: local lock, PID file, the end of orphans, shared heartbeat, loop.
func (r *rig) nextClaim(c *claim) {
	if r.machine.state != claiming && r.machine.state != checking {
		return
	}
	if c == r.local && !r.prepared {
		r.prepared = true
		if c != nil {
			r.mark(lease.Mark(c.lock))
		}
		if err := r.takePIDFile(); err != nil {
			r.machine.gone(err, err)
			return
		}
		if c != nil && c.lock.Unclean() && r.orphaned() {
			return
		}
	}
	if r.vigil != nil {
		return
	}
	if c == r.local && r.remote != nil && r.remote.hb == nil {
		r.remote.begin(r)
		return
	}
	if r.local.held() && r.remote.held() {
		r.machine.claimed()
	}
}

// claimEnded hears that a heartbeat gave up, or fell.
func (r *rig) claimEnded(c *claim) {
	c.done, c.watch = nil, nil
	var fallen *goroutine.Panic
	var held *heartbeat.HeldError
	switch {
	case c.err == nil: // it was told to
		return
	case r.released:
		r.notReleased(c.err)
		return
	case errors.As(c.err, &fallen):
		r.machine.roomFell(fallen)
		return
	case !errors.As(c.err, &held):
	case c == r.local && r.heard < heldTries && r.machine.state == claiming:
		r.heard++
		r.reclaim.Reset(heldAgain)
		return
	case lease.Exited(held.Holder, lease.Self()):
		c.err = fmt.Errorf("heartbeat %s is still that of PID %d, which is gone and has left what it ran behind: "+
			"end that, or start with --wait", c.key, held.Holder.PID)
	}
	l, _ := c.lease()
	r.machine.gone(c.err, &leaseError{why: "the heartbeat was lost", grace: lastWord(l, r.boot(), r.o.Config.Heartbeat.StopGrace)})
}

// A gophd that ends removes its PID file, then lets go of the local lock. Who has waited for the one must not be
// turned away by the other, so a lock that is held is asked for again, for so long.
const (
	heldTries = 2
	heldAgain = 100 * time.Millisecond
)

func (c *claim) lease() (heartbeat.Lease, bool) {
	if c == nil || c.hb == nil {
		return heartbeat.Lease{}, false
	}
	l, _ := c.hb.Watch()
	return l, true
}

// releaseEarly releases the lease when gophd shuts down and no command is alive, although the output
// of the last one may still wait for a log that is stuck: another gophd need not wait for that. It does
// not wait for the store; end does. After a fatal error the new process may need the lease.
func (r *rig) releaseEarly() {
	if r.released || r.machine.state < stopping || errors.As(r.machine.err, new(*fatalError)) || !r.draining.Load() {
		return // a run may still start
	}
	// In this order: while the loop drains, runs only become fewer.
	if runs := int(r.underWay.Load()); r.runner.dead() < runs {
		return
	}
	r.released = true
	if r.remote != nil && r.remote.hb != nil {
		r.remote.cancel()
	}
	r.removePIDFile()
	if r.local != nil && r.local.hb != nil {
		r.local.cancel()
	}
	if r.local != nil {
		r.say.released()
	}
}

// removePIDFile comes before the release of the local lock: whoever waits for that on this host may
// want the same PID file.
func (r *rig) removePIDFile() {
	if r.pidFile == nil {
		return
	}
	if err := r.pidFile.Remove(); err != nil {
		r.say.trouble(err)
	}
	r.pidFile = nil
}

func (r *rig) notReleased(err error) {
	r.say.trouble(fmt.Errorf("the heartbeat was not released: %w", err))
}

// release ends the claim in order and waits for it.
func (c *claim) release() error {
	if c == nil || c.hb == nil {
		return nil
	}
	c.cancel()
	c.room.Wait()
	if c.done == nil {
		return nil // its error was heard
	}
	return c.err
}
