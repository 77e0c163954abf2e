package supervisor

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"time"

	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/loop"
	"gophd/internal/order"
	"gophd/internal/process"
	"gophd/internal/status"
)

// This file is what the rig hears: from the loop (Recorder, Gate), from the runner, from the machine
// (says). It writes to the board and lets the speaker speak.

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
		r.board.Job(r.spec.Name, func(j *status.Job) {
			j.State, j.Next = rep.State, rep.Next
			if rep.State == job.Running {
				j.Counts.Missed += rep.Missed
			}
		})
		if rep.State == job.Running && rep.Run.Number > 0 {
			r.board.Began(r.spec.Name, status.Going{Run: rep.Run, Since: rep.At})
		}
		switch {
		case rep.Slowed > 0:
			r.say.slowed(rep.Slowed, rep.Run, r.spec)
		case rep.State == job.Held:
			r.say.held(rep.Next)
		}
	case loop.Late:
		if rep.Missed == 0 && r.spec.Overrun == job.OverrunOverlap {
			return // to go on past the next tick is what overlap is for
		}
		r.say.late(rep, r.spec.Interval, r.runner.starting(rep.Run.Number))
	case loop.Ended:
		r.underWay.Add(-1)
		if r.draining.Load() {
			r.runner.tell()
		}
		r.lastTick = rep.Tick
		r.board.Ended(r.spec.Name, rep.Tick)
		r.say.ended(rep.Tick)
		r.lease.Beat(rep.Run.Number, 0)
		if r.spec.Once {
			last := rep.Tick.Result
			r.last = &last // read by Run when the loop has ended
		}
	}
}

// runStarted is called in the goroutine of the run.
func (r *rig) runStarted(run job.Run, p *process.Process, adopted bool) {
	r.board.Began(r.spec.Name, status.Going{Run: run, PID: p.PID(), Since: p.Started()})
	r.lease.Beat(run.Number, p.PID())
	if adopted {
		if fault.On {
			fault.At("run adopted")
		}
		r.say.adopted(run, p)
	} else {
		r.say.started(run, p)
	}
	if r.spec.User != "" && untouchable(-p.PID()) {
		r.say.unstoppable(run, p)
	}
}

// stray is called in the goroutine of the run.
func (r *rig) stray(run job.Run, pid int, name string, killed bool) {
	r.say.stray(run, pid, name, killed)
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

func (r *rig) turned(from, to state) {
	r.board.Update(func(s *status.Snapshot) { s.State = to.String() })
	r.say.turned(from, to)
	switch to {
	case restarting:
		r.notifyReloading()
		r.reminder()
	case stopping, killing:
		r.notify(sdStopping)
		r.reminder()
	}
}

func (r *rig) ordered(o order.Order, from state) { r.say.ordered(o, from) }
func (r *rig) refused(o order.Order, why string) { r.say.refused(o, why) }
func (r *rig) hangs(why error)                   { r.say.hangs(why) }
func (r *rig) checkFailed(err error)             { r.say.checkFailed(err) }
func (r *rig) gone(err error)                    { r.say.gone(err) }
func (r *rig) fell(err error)                    { r.say.fell(err) }

// reminder speaks of what is waited for, asks the service manager for as long as it may take, and comes
// again while that lasts.
func (r *rig) reminder() {
	switch {
	case r.machine.state >= restarting && r.machine.looping:
		snap := r.board.Snapshot()
		for _, g := range snap.Jobs[0].Going {
			r.say.waits(r.machine.state, g, snap.Taken, r.spec.Keep)
		}
		r.notify(sdExtend)
		r.remind.Reset(remindAfter)
	case r.machine.state == claiming && r.lease.Shared().Seen().State == heartbeat.Proving:
		r.say.proving(r.lease.Shared().Store, r.lease.Shared().Seen())
		r.remind.Reset(proofRemind)
	}
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
	r.say.dump(r.board.Snapshot())
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
		r.say.astray(s.Stray)
	}
	if s.Dropped > r.dropped {
		r.dropped = s.Dropped
		r.say.lost(s)
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
	r.say.reopened(err)
	if r.reopenAgain {
		r.reopenAgain = false
		r.reopen()
	}
}
