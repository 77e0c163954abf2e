package supervisor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/lease"
)

func (r *rig) beginClaim(c *lease.Claim) {
	c.Begin()
	if c.Begun() {
		r.leaseChanged(c)
	}
}

// leaseChanged reads the claim's lease and acts on what is new in it.
func (r *rig) leaseChanged(c *lease.Claim) {
	was, l := c.Read()
	if r.released {
		return
	}
	if r.machine.looping {
		switch l.State {
		case heartbeat.Held, heartbeat.Doubtful:
		case heartbeat.Seeking, heartbeat.Proving: // of a run that was adopted while the lease is claimed anew
		default: // the run before the words
			r.machine.leaseEnding(&leaseError{
				why: "the heartbeat could not be renewed in time", grace: c.Grace()})
		}
	}
	if c == r.lease.Local() && l.State == heartbeat.Held {
		r.begins()
	}
	if e, ok := c.Event(was, l); ok {
		r.events.Publish(e)
	}
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
	if c := r.lease.Local(); c != nil {
		r.beginClaim(c)
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
			e := event.Started(r.o.Version, os.Getpid())
			if r.o.Handoff != nil {
				e = event.Resumed(r.o.Version, os.Getpid())
			}
			r.events.Publish(e)
		}
	}
}

// nextClaim goes on from a claim that was won: local lock, PID file, the end of orphans, shared heartbeat, loop.
func (r *rig) nextClaim(c *lease.Claim) {
	if r.machine.state != claiming && r.machine.state != checking {
		return
	}
	local, shared := r.lease.Local(), r.lease.Shared()
	if c == local && !r.prepared {
		r.prepared = true
		lock := r.lease.Lock()
		if lock != nil {
			r.mark(lease.Mark(lock))
		}
		if err := r.takePIDFile(); err != nil {
			r.machine.gone(err, err)
			return
		}
		if lock != nil && lock.Unclean() && r.orphaned() {
			return
		}
	}
	if r.vigil != nil {
		return
	}
	if c == local && shared != nil && !shared.Begun() {
		r.beginClaim(shared)
		return
	}
	if r.lease.Held() {
		r.machine.claimed()
	}
}

// claimEnded hears that a heartbeat gave up, or fell.
func (r *rig) claimEnded(c *lease.Claim) {
	err := c.Err()
	var fallen *goroutine.Panic
	var held *heartbeat.HeldError
	switch {
	case err == nil: // it was told to
		return
	case r.released:
		r.notReleased(err)
		return
	case errors.As(err, &fallen):
		r.machine.roomFell(fallen)
		return
	case !errors.As(err, &held):
	case c == r.lease.Local() && r.heard < heldTries && r.machine.state == claiming:
		r.heard++
		r.reclaim.Reset(heldAgain)
		return
	case lease.Exited(held.Holder, lease.Self()):
		err = fmt.Errorf("heartbeat %s is still that of PID %d, which is gone and has left what it ran behind: "+
			"end that, or start with --wait", c.Key, held.Holder.PID)
	}
	r.machine.gone(err, &leaseError{why: "the heartbeat was lost", grace: c.Grace()})
}

// A gophd that ends removes its PID file, then lets go of the local lock. Who has waited for the one must not be
// turned away by the other, so a lock that is held is asked for again, for so long.
const (
	heldTries = 2
	heldAgain = 100 * time.Millisecond
)

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
	r.lease.Shared().Stop()
	r.removePIDFile()
	r.lease.Local().Stop()
	if r.lease.Local() != nil {
		r.events.Publish(event.LeaseReleased(r.spec.Name))
	}
}

// removePIDFile comes before the release of the local lock: whoever waits for that on this host may
// want the same PID file.
func (r *rig) removePIDFile() {
	if r.pidFile == nil {
		return
	}
	if err := r.pidFile.Remove(); err != nil {
		r.trouble(err)
	}
	r.pidFile = nil
}

func (r *rig) notReleased(err error) {
	r.trouble(fmt.Errorf("the heartbeat was not released: %w", err))
}
