package lease

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
)

// Client is the user of a Lease. Its methods are called by one goroutine at a time: by the lease's
// own, and by the callers of Begin and Release. They must not call the Lease, except Fence, Shut,
// Beat, Keep, Kept and Took.
type Client interface {
	// OnLocked is called once when the local lock is held, or if there is none: no other instance
	// runs here.
	OnLocked()
	// TakePIDFile is called after OnLocked. After an error nothing else is acquired.
	TakePIDFile() error
	// SearchLeftover is called after TakePIDFile if the last holder did not release the local lock.
	// If it returns true, nothing else is acquired before Continue.
	SearchLeftover() (wait bool)
	// Held is called once, when every claim is held. Runs may start while Shut returns nil.
	Held()
	// TakenOver is called when every claim is held again, and another instance may have held the lease since
	// Held, or since the last call. Runs may start then, but the Client must continue from what that has kept:
	// see Took and Kept.
	TakenOver()
	// Standby is called when the holder, another instance, has the lease.
	Standby(holder string)
	// Ending is called when the active runs must be stopped, before another instance may start
	// one. The lease may be held again later.
	Ending(cause error)
	// Failed is called when the lease could not be acquired, or when it is lost. err says why, and
	// cause is for the active runs. It is a *goroutine.Panic if gophd itself failed.
	Failed(err, cause error)
	// RemovePIDFile is called before the local lock is released: an instance that waits for the
	// lock may need the same PID file.
	RemovePIDFile()
}

// phase is how far a Lease is. Only enter changes it.
type phase uint8

const (
	opened    phase = iota // nothing was requested yet
	acquiring              // local lock, PID file and shared claim are acquired, in this sequence
	holding                // every claim was held; some may be doubtful now, or be acquired again
	failed                 // the lease could not be acquired, or was lost
	released               // it is being released, or was handed off
)

func (l *Lease) enter(to phase) { l.phase = to }

const (
	// A gophd that exits removes its PID file, then releases the local lock. An instance that
	// waited for the PID file must not fail because of the lock, so a held lock is retried.
	lockAttempts = 2
	lockPause    = 100 * time.Millisecond
	proofPause   = 2 * time.Second // between two events about a previous holder that may still run
)

// acquisition is what the acquisition needs apart from the claims.
type acquisition struct {
	onLocked bool        // Client.OnLocked was called
	pidFile  bool        // Client.TakePIDFile was called
	leftover bool        // Continue is waited for
	attempts int         // how often another instance held the local lock
	retry    *time.Timer // until the next attempt
	old      *time.Timer // until the end of the lease that was handed off
	remind   *time.Timer // while the previous holder may still run
}

func newAcquisition() acquisition {
	stopped := func() *time.Timer {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	return acquisition{retry: stopped(), old: stopped(), remind: stopped()}
}

// Begin acquires the lease as far as that is possible at once: a lease that was handed off is
// usually held when Begin returns. Runs that were handed off too are stopped at the deadline of
// their lease if it is not held again by then. Start continues. It does not block.
func (l *Lease) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase != opened {
		return
	}
	l.enter(acquiring)
	if l.local != nil {
		l.startClaim(l.local)
	} else {
		l.locked()
		l.next(nil)
	}
	if l.phase == acquiring && l.shared != nil && l.shared.handed != nil {
		if !l.shared.begun() {
			l.startClaim(l.shared)
		}
		if h := l.shared.handed; h.Held || h.Deadline > 0 { // else no run was started under it
			l.acquire.old.Reset(max(h.Deadline-l.o.Config.Heartbeat.StopGrace-boot(), 0))
		}
	}
}

// Start acquires the lease and keeps it, in a goroutine of g that ends with Release or HandOff.
func (l *Lease) Start(g *goroutine.Group) {
	l.serving = make(chan struct{})
	g.Go(func() {
		defer close(l.serving)
		if p := goroutine.Catch(l.serve); p != nil {
			l.o.Client.Failed(p, p)
		}
	})
}

func (l *Lease) serve() {
	l.Begin()
	for {
		var f func()
		select {
		case <-l.quit:
			return
		case <-l.local.changed():
			f = func() { l.claimChanged(l.local) }
		case <-l.shared.changed():
			f = func() { l.claimChanged(l.shared) }
		case <-l.local.ended():
			f = func() { l.claimEnded(l.local) }
		case <-l.shared.ended():
			f = func() { l.claimEnded(l.shared) }
		case <-l.proceed:
			f = func() {
				l.acquire.leftover = false
				l.next(l.local)
			}
		case <-l.acquire.retry.C:
			f = l.retryLock
		case <-l.acquire.old.C:
			f = l.oldLeaseEnds
		case <-l.acquire.remind.C:
			f = l.remindOfProof
		}
		l.mu.Lock()
		f()
		l.mu.Unlock()
	}
}

// end ends the goroutine of Start, if there is one, and waits for it.
func (l *Lease) end() {
	if l.serving != nil {
		l.quitOnce.Do(func() { close(l.quit) })
		<-l.serving
	}
}

// Continue continues the acquisition after SearchLeftover. It does not block.
func (l *Lease) Continue() {
	select {
	case l.proceed <- struct{}{}:
	default:
	}
}

func (l *Lease) locked() {
	if !l.acquire.onLocked {
		l.acquire.onLocked = true
		l.o.Client.OnLocked()
	}
}

func (l *Lease) startClaim(c *claim) {
	c.begin()
	if c.begun() {
		l.claimChanged(c)
	}
}

func (l *Lease) retryLock() {
	if l.phase == acquiring {
		l.startClaim(l.local)
	}
}

// claimChanged reads a claim and acts on what has changed.
func (l *Lease) claimChanged(c *claim) {
	was, now := c.read()
	if l.phase == released {
		return
	}
	switch now.State {
	case heartbeat.Held, heartbeat.Doubtful:
	case heartbeat.Seeking, heartbeat.Proving: // runs that were handed off have the deadline of their lease
	default: // stop the runs before the event
		l.ending(c)
	}
	if c == l.local && now.State == heartbeat.Held {
		l.locked()
	}
	if e, ok := eventOf(l.o.Name, c.store, was, now); ok {
		l.o.Events.Publish(e)
	}
	if now.KeepErr != nil && was.KeepErr == nil {
		l.o.Events.Publish(event.Problem(fmt.Errorf("%s does not keep the records of the jobs: after a failover a pause may "+
			"be lost, and a run may be missing or start twice: %w", c.store, now.KeepErr)))
	}
	switch now.State {
	case heartbeat.Held:
		l.next(c)
	case heartbeat.Standby:
		l.o.Client.Standby(now.Holder.String())
	case heartbeat.Proving:
		l.acquire.remind.Reset(proofPause)
	}
}

// ending makes the Client stop the runs that were started under a claim that is not held any more: this
// process's own, or while it acquires the lease those that were handed off.
func (l *Lease) ending(c *claim) {
	if l.phase == holding || l.phase == acquiring && c.handed != nil {
		l.o.Client.Ending(&job.UrgentError{Lease: true, Why: "the lease could not be renewed in time", Grace: c.grace()})
	}
}

// next continues after a claim that is held; nil if there is none.
func (l *Lease) next(c *claim) {
	if l.phase == holding && l.allHeld() && l.Took() != l.took {
		l.takeOver(l.o.Client.TakenOver)
	}
	if l.phase != acquiring {
		return
	}
	if c == l.local && !l.acquire.pidFile {
		l.acquire.pidFile = true
		if err := l.o.Client.TakePIDFile(); err != nil {
			l.fail(err, err)
			return
		}
		l.acquire.leftover = l.lock != nil && l.lock.Unclean() && l.o.Client.SearchLeftover()
	}
	if l.acquire.leftover {
		return
	}
	if c == l.local && l.shared != nil && !l.shared.begun() {
		l.startClaim(l.shared)
		return
	}
	if l.allHeld() {
		l.enter(holding)
		l.takeOver(l.o.Client.Held)
	}
}

func (l *Lease) allHeld() bool {
	return !slices.ContainsFunc(l.claims(), func(c *claim) bool { return c.seen.State != heartbeat.Held })
}

// takeOver lets the Client continue from what the last holder has kept. tell is its method.
func (l *Lease) takeOver(tell func()) {
	l.took = l.Took()
	now, ok := l.shared.now()
	if !ok {
		tell()
		return
	}
	if now.Took > 0 {
		l.keeping.takeOver(now.Took, now.Found)
	}
	tell()
	l.shared.hb.Load().Continued(now.Took)
}

// fail ends the lease. err is why, and cause is for the active runs: they are stopped before the
// event.
func (l *Lease) fail(err, cause error) {
	if l.phase != failed {
		l.enter(failed)
		l.o.Client.Failed(err, cause)
	}
	l.o.Events.Publish(endEvent(err))
}

// endEvent returns the event that says why a lease has ended.
func endEvent(err error) event.Event {
	if errors.As(err, new(*heartbeat.HeldError)) {
		return event.LeaseHeldElsewhere(err)
	}
	return event.Problem(err)
}

// claimEnded acts on a claim that has ended.
func (l *Lease) claimEnded(c *claim) {
	err := c.reason()
	var panicked *goroutine.Panic
	var held *heartbeat.HeldError
	switch {
	case err == nil: // it was released
		return
	case l.phase == released:
		l.notReleased(err)
		return
	case errors.As(err, &panicked):
		l.enter(failed)
		l.o.Client.Failed(panicked, panicked)
		return
	case !errors.As(err, &held):
	case c == l.local && l.acquire.attempts < lockAttempts && l.phase == acquiring:
		l.acquire.attempts++
		l.acquire.retry.Reset(lockPause)
		return
	case Exited(held.Holder, Self()):
		err = fmt.Errorf("lease %s still belongs to PID %d, which was killed but whose run is still active: "+
			"stop that run, or start with --standby", c.key, held.Holder.PID)
	}
	l.fail(err, &job.UrgentError{Lease: true, Why: "the lease was lost", Grace: c.grace()})
}

// oldLeaseEnds stops adopted runs at the deadline of the lease under which they were started, if no
// lease was acquired since.
func (l *Lease) oldLeaseEnds() {
	switch l.shared.seen.State {
	case heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending: // these have a deadline of their own
	default:
		l.o.Client.Ending(&job.UrgentError{Lease: true, Why: "the lease could not be renewed during the re-exec",
			Grace: l.grace(l.shared.handed.Deadline)})
	}
}

// remindOfProof reports how long the previous holder may still run.
func (l *Lease) remindOfProof() {
	seen := l.shared.seen
	if l.phase != acquiring || seen.State != heartbeat.Proving {
		return
	}
	if rest := time.Until(seen.Until).Round(time.Second); rest > 0 {
		l.o.Events.Publish(event.LeaseProvingStill(l.o.Name, l.shared.store, rest))
	}
	l.acquire.remind.Reset(proofPause)
}

// ReleaseEarly starts the release of the lease, so that another gophd need not wait while the last
// output is written to a log that is stalled. No command may be alive, and none may start. It does
// not wait for the store; Release does.
func (l *Lease) ReleaseEarly() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == released {
		return
	}
	l.enter(released)
	l.shared.stop()
	l.o.Client.RemovePIDFile()
	l.local.stop()
	if l.local != nil {
		l.o.Events.Publish(event.LeaseReleased(l.o.Name))
	}
}

// Released returns true after ReleaseEarly.
func (l *Lease) Released() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.phase == released
}

// Release releases the lease. No command may be alive. It blocks for at most twice the store's
// timeout.
func (l *Lease) Release() {
	l.end()
	l.enter(released)
	for _, c := range l.claims() {
		if c.handed != nil && !c.begun() { // acquire it again, so that it is released like the others
			c.begin()
		}
	}
	l.releaseClaim(l.shared)
	l.o.Client.RemovePIDFile()
	l.releaseClaim(l.local)
}

func (l *Lease) releaseClaim(c *claim) {
	if c == nil {
		return
	}
	if err := c.release(); err != nil {
		l.notReleased(err)
	}
}

func (l *Lease) notReleased(err error) {
	l.o.Events.Publish(event.Problem(fmt.Errorf("the lease was not released: %w", err)))
}
