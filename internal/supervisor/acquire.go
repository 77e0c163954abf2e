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

// acquisition is the progress of acquiring the lease: local lock, PID file, leftover runs, shared
// heartbeat.
type acquisition struct {
	started  bool
	locked   bool        // Host.OnLocked was called
	prepared bool        // the PID file was taken, and leftover runs were searched
	released bool        // see releaseEarly
	attempts int         // how often another instance held the local lock
	retry    *time.Timer // until the next attempt
	oldLease *time.Timer // until the end of the lease under which adopted runs were started
	remind   *time.Timer // while the previous holder may still run
}

func newAcquisition() acquisition {
	stopped := func() *time.Timer {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	return acquisition{retry: stopped(), oldLease: stopped(), remind: stopped()}
}

const (
	// A gophd that exits removes its PID file, then releases the local lock. An instance that
	// waited for the PID file must not fail because of the lock, so a held lock is retried.
	lockAttempts = 2
	lockPause    = 100 * time.Millisecond
	proofPause   = 2 * time.Second // between two events about a previous holder that may still run
)

// openLease opens the stores of the lease and adopts what was handed off.
func (s *Supervisor) openLease() (err error) {
	handed := s.o.Handed
	s.lease, err = lease.Open(lease.Options{
		Config: s.o.Config, Started: s.o.Started, Users: append(s.runner.credentials.UIDs(), os.Geteuid()),
		Lock: s.o.Files[localLock], Leftover: handed.Leftover, Local: handed.Local, Shared: handed.Shared,
	})
	if err != nil {
		return err
	}
	if lock := s.lease.Lock(); lock != nil && lock.Descriptor() != nil { // it was handed off
		s.mark(lease.Mark(lock))
	}
	return nil
}

// acquireLocal acquires the local lock first, if the job has one.
func (s *Supervisor) acquireLocal() {
	s.acquire.started = true
	if c := s.lease.Local(); c != nil {
		s.startClaim(c)
		return
	}
	s.locked()
	s.acquireNext(nil)
}

func (s *Supervisor) locked() {
	if !s.acquire.locked {
		s.acquire.locked = true
		s.o.Host.OnLocked()
	}
}

func (s *Supervisor) startClaim(c *lease.Claim) {
	c.Begin()
	if c.Begun() {
		s.leaseChanged(c)
	}
}

// leaseChanged reads a claim and acts on what has changed.
func (s *Supervisor) leaseChanged(c *lease.Claim) {
	was, now := c.Read()
	if s.acquire.released {
		return
	}
	if s.machine.looping {
		switch now.State {
		case heartbeat.Held, heartbeat.Doubtful:
		case heartbeat.Seeking, heartbeat.Proving: // for adopted runs, while the lease is acquired again
		default: // stop the runs before the event
			s.machine.leaseEnding(&leaseError{why: "the lease could not be renewed in time", grace: c.Grace()})
		}
	}
	if c == s.lease.Local() && now.State == heartbeat.Held {
		s.locked()
	}
	if e, ok := c.Event(was, now); ok {
		s.publish(e)
	}
	switch now.State {
	case heartbeat.Held:
		s.acquireNext(c)
	case heartbeat.Standby:
		s.serving("standing by: " + now.Holder.String() + " runs " + s.spec.Name)
	case heartbeat.Proving:
		s.acquire.remind.Reset(proofPause)
	}
}

// remindOfProof reports how long the previous holder may still run.
func (s *Supervisor) remindOfProof() {
	if s.machine.state != standby || s.lease.Shared().Seen().State != heartbeat.Proving {
		return
	}
	if e, ok := s.lease.Shared().ProvingEvent(); ok {
		s.publish(e)
	}
	s.acquire.remind.Reset(proofPause)
}

// acquireNext continues after a claim that is held, in this sequence: local lock, PID file,
// leftover runs, shared heartbeat, loop.
func (s *Supervisor) acquireNext(c *lease.Claim) {
	if s.machine.state != standby {
		return
	}
	local, shared := s.lease.Local(), s.lease.Shared()
	if c == local && !s.acquire.prepared {
		s.acquire.prepared = true
		lock := s.lease.Lock()
		if lock != nil {
			s.mark(lease.Mark(lock))
		}
		if err := s.o.Host.TakePIDFile(); err != nil {
			s.machine.fail(err, err)
			return
		}
		if lock != nil && lock.Unclean() && s.searchLeftover() {
			return
		}
	}
	if s.leftover != nil {
		return
	}
	if c == local && shared != nil && !shared.Begun() {
		s.startClaim(shared)
		return
	}
	if s.lease.Held() {
		s.machine.leaseHeld()
	}
}

// claimEnded acts on a claim that has ended.
func (s *Supervisor) claimEnded(c *lease.Claim) {
	err := c.Err()
	var panicked *goroutine.Panic
	var held *heartbeat.HeldError
	switch {
	case err == nil: // it was released
		return
	case s.acquire.released:
		s.notReleased(err)
		return
	case errors.As(err, &panicked):
		s.machine.panicked(panicked)
		return
	case !errors.As(err, &held):
	case c == s.lease.Local() && s.acquire.attempts < lockAttempts && s.machine.state == standby:
		s.acquire.attempts++
		s.acquire.retry.Reset(lockPause)
		return
	case lease.Exited(held.Holder, lease.Self()):
		err = fmt.Errorf("lease %s still belongs to PID %d, which was killed but whose run is still active: "+
			"stop that run, or start with --standby", c.Key, held.Holder.PID)
	}
	s.machine.fail(err, &leaseError{why: "the lease was lost", grace: c.Grace()})
}

// oldLeaseEnds stops adopted runs at the deadline of the lease under which they were started, if no
// lease was acquired since.
func (s *Supervisor) oldLeaseEnds() {
	switch s.lease.Shared().Seen().State {
	case heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending: // these have a deadline of their own
	default:
		s.machine.leaseEnding(&leaseError{why: "the lease could not be renewed during the re-exec",
			grace: s.lease.HandedGrace()})
	}
}

// releaseEarly releases the lease when the job is ending and no command is alive, so that another
// gophd need not wait while the last output is written to a log that is stalled. It does not wait
// for the store; Release does. After a fatal error the new process may need the lease.
func (s *Supervisor) releaseEarly() {
	if s.acquire.released || s.machine.state < draining || !s.loopRun.draining.Load() ||
		errors.As(s.machine.err, new(*FatalError)) {
		return // a run may still start
	}
	// Read the loop's count first: while the loop drains, runs only become fewer.
	if runs := int(s.loopRun.active.Load()); s.runner.dead() < runs {
		return
	}
	s.acquire.released = true
	s.lease.Shared().Stop()
	s.o.Host.RemovePIDFile()
	s.lease.Local().Stop()
	if s.lease.Local() != nil {
		s.publish(event.LeaseReleased(s.spec.Name))
	}
}

// Release ends the job after Done: runs that were not adopted are stopped, and the lease is
// released. It blocks for the grace of such runs, and for at most twice the store's timeout.
func (s *Supervisor) Release() {
	if runs := s.runner.handed.runs; len(runs) > 0 { // the job ended before the loop could adopt them
		stopRuns(s.o.Events, s.spec.Name, runs, s.o.Spawner, s.o.Files, s.runner.resume)
	}
	if len(s.runner.handedOff) > 0 { // gophd failed after they were handed off
		var state JobState
		files := map[string]*os.File{}
		s.handOffRuns(&state, files)
		stopRuns(s.o.Events, s.spec.Name, state.Runs, s.o.Spawner, files, s.runner.resume)
	}
	for _, c := range []*lease.Claim{s.lease.Local(), s.lease.Shared()} {
		if c.HandedOff() { // acquire it again, so that it is released like the others
			s.startClaim(c)
		}
	}
	s.release(s.lease.Shared())
	s.o.Host.RemovePIDFile()
	if s.cgroup != nil {
		if err := s.cgroup.Close(); err != nil {
			s.problem(err)
		}
	}
	s.release(s.lease.Local())
}

func (s *Supervisor) release(c *lease.Claim) {
	if err := c.Release(); err != nil {
		s.notReleased(err)
	}
}

func (s *Supervisor) notReleased(err error) {
	s.problem(fmt.Errorf("the lease was not released: %w", err))
}
