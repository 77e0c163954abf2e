package supervisor

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"time"

	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/loop"
	"gophd/internal/process"
	"gophd/internal/status"
)

// This file turns what the loop, the runner and the machine report into events, and acts on it.

// Record is called in the loop's goroutine.
func (r *rig) Record(rep loop.Report) {
	r.grid = rep.Grid // read by Run's goroutine when the loop has ended, even by a panic
	if fault.On {
		fault.At("loop")
	}
	switch rep.Kind {
	case loop.Turned:
		if rep.End != 0 && !r.spec.Once { // the only run has nothing to end but itself
			r.loopEnd = rep.End // read by Run's goroutine, like grid
		}
		switch rep.State {
		case job.Running:
			r.underWay.Add(1)
		case job.Draining:
			r.draining.Store(true)
			r.runner.tell()
		}
		r.events.Publish(event.JobState(r.spec.Name, rep.State, rep.Run, rep.At, rep.Next, rep.Missed))
		switch {
		case rep.Slowed > 0:
			r.events.Publish(event.RunDelayed(r.spec.Name, rep.Run, rep.Slowed, r.spec.Retries, r.spec.Keep))
		case rep.State == job.Held:
			r.events.Publish(event.TickHeld(r.spec.Name, rep.Next))
		}
	case loop.Late:
		if rep.Missed == 0 && r.spec.Overrun == job.OverrunOverlap {
			return // to go on past the next tick is what overlap is for
		}
		e := event.RunLate(r.spec.Name, rep.Run, rep.Length, r.spec.Interval, rep.Missed)
		if r.runner.starting(rep.Run.Number) {
			e = event.RunNotStarted(r.spec.Name, rep.Run, rep.Length, rep.Missed)
		}
		r.events.Publish(e)
	case loop.Ended:
		r.underWay.Add(-1)
		if r.draining.Load() {
			r.runner.tell()
		}
		r.lastTick = rep.Tick
		r.events.Publish(event.RunEnded(r.spec.Name, rep.Tick))
		r.lease.Beat(rep.Run.Number, 0)
		if r.spec.Once {
			last := rep.Tick.Result
			r.last = &last // read by Run when the loop has ended
		}
	}
}

// runStarted is called in the goroutine of the run.
func (r *rig) runStarted(run job.Run, p *process.Process, adopted bool) {
	r.lease.Beat(run.Number, p.PID())
	if adopted {
		if fault.On {
			fault.At("run adopted")
		}
		r.events.Publish(event.RunAdopted(r.spec.Name, run, p.PID(), p.Started()))
	} else {
		r.events.Publish(event.RunStarted(r.spec.Name, run, p.PID(), p.Started()))
	}
	if r.spec.User != "" && untouchable(-p.PID()) {
		r.events.Publish(event.RunNotStoppable(r.spec.Name, run, p.PID()))
	}
}

// stray is called in the goroutine of the run.
func (r *rig) stray(run job.Run, pid int, name string, killed bool) {
	r.events.Publish(event.ProcessEscaped(r.spec.Name, run, pid, name, !killed))
}

// showLease puts the lease on the board.
func (r *rig) showLease() {
	c := r.lease.Visible()
	l, ok := c.Now()
	if !ok {
		return
	}
	shown := status.Lease{Store: c.Store, State: l.State.String(), Fence: l.Fence}
	switch l.State {
	case heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending:
		shown.Holder = "this instance"
		if l.Deadline > 0 {
			shown.Until = time.Now().Add(l.Deadline - r.boot())
		}
	case heartbeat.Standby, heartbeat.Lost:
		shown.Holder = l.Holder.String()
	}
	r.board.Update(func(s *status.Snapshot) { s.Instance = l.ID })
	r.board.Job(r.spec.Name, func(j *status.Job) { j.Lease = shown })
}

// turned acts on a new state of the machine.
func (r *rig) turned(to state) {
	switch to {
	case restarting:
		r.notifyReloading()
		r.reminder()
	case stopping, killing:
		r.notify(sdStopping)
		r.reminder()
	}
}

// reminder speaks of what is waited for, asks the service manager for as long as it may take, and comes
// again while that lasts.
func (r *rig) reminder() {
	switch {
	case r.machine.state >= restarting && r.machine.looping:
		snap := r.board.Snapshot()
		for _, g := range snap.Jobs[0].Going {
			r.events.Publish(waitEvent(r.spec, r.machine.state, g, snap.Taken))
		}
		r.notify(sdExtend)
		r.remind.Reset(remindAfter)
	case r.machine.state == claiming && r.lease.Shared().Seen().State == heartbeat.Proving:
		if e, ok := r.lease.Shared().ProvingEvent(); ok {
			r.events.Publish(e)
		}
		r.remind.Reset(proofRemind)
	}
}

// waitEvent says which run is waited for, so that no wait is silent.
func waitEvent(spec job.Spec, in state, g status.Going, now time.Time) event.Event {
	hint := "ask again to stop it now"
	if in == killing || spec.Keep {
		hint = "it was told to stop; ask again to kill it"
	}
	if g.PID != 0 && untouchable(-g.PID) {
		hint = event.NotPermitted
	}
	return event.RunWaitedFor(spec.Name, in.String(), g.Run, g.PID, now.Sub(g.Since), hint)
}

// dump shows a Snapshot in the log, and on the terminal where there is one.
func (r *rig) dump() {
	r.showLease()
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	r.board.Update(func(s *status.Snapshot) {
		log := r.log.Stats()
		s.User, s.Log, s.State = name, r.log.Path(), r.machine.String()
		s.Dropped, s.DroppedFor, s.LogStalled, s.LogAstray = log.Dropped, log.Lost, log.Stalled, log.Stray
	})
	var dump []event.Variable
	for _, v := range r.board.Snapshot().Variables() {
		dump = append(dump, event.Variable(v))
	}
	r.events.Publish(event.Dump(dump))
}

// logTrouble says what the log itself cannot tell: that lines are lost, or go to a file that nobody will find. It
// is called when that is new, and a while after it was said.
func (r *rig) logTrouble() {
	s := r.log.Stats()
	r.logFails = r.log.Trouble()
	if r.log.Path() == "" {
		return // it is stderr itself
	}
	switch {
	case s.Stray == nil:
		r.astray = "" // the next time is news again
	case s.Stray.Error() != r.astray:
		r.astray = s.Stray.Error()
		r.events.Publish(event.LogMisplaced(s.Stray))
	}
	if s.Dropped > r.dropped {
		r.dropped = s.Dropped
		r.events.Publish(event.LogLost(s.Dropped, s.Lost))
		r.logFails = nil
		r.losses.Reset(lossesAgain)
	}
}

// reopen opens the log files anew, in a goroutine of its own: to create a file on a disk that hangs may take as long as
// the disk hangs. A second request meanwhile is served after the first. The goroutine is waited for as long as the
// process lives, and no longer: an open(2) cannot be called back.
func (r *rig) reopen() {
	if r.reopening != nil {
		r.reopenAgain = true
		return
	}
	done := make(chan error, 1)
	r.reopening = done
	go func() {
		var err error
		if p := goroutine.Catch(func() { err = r.log.Reopen() }); p != nil {
			err = p
		}
		done <- err
	}()
}

// reopened ends what reopen has begun.
func (r *rig) reopened(err error) {
	r.reopening = nil
	if p := (*goroutine.Panic)(nil); errors.As(err, &p) {
		r.machine.roomFell(p)
		return
	}
	r.events.Publish(event.LogReopened(err))
	if r.reopenAgain {
		r.reopenAgain = false
		r.reopen()
	}
}
