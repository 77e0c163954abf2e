package supervisor

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
)

// suspendedLooks plans when the runs are looked at. A signal that suspends a command is no event for
// gophd, and the kernel sends one to a command that asks something on the terminal: without a look
// it would hang without a word. There is one timer for all runs: one for each would have to be
// started with each run, which wakes a thread.
type suspendedLooks struct {
	mu    sync.Mutex // held during a look, so that the reports are in sequence
	timer *time.Timer
	due   time.Time // when the timer fires; zero if it is not set
}

// nextLook returns when a run is looked at next: 1 s, 10 s and then every minute after its start.
func nextLook(started, now time.Time) time.Time {
	uptime := now.Sub(started)
	for _, at := range []time.Duration{time.Second, 10 * time.Second} {
		if uptime < at {
			return started.Add(at)
		}
	}
	return started.Add(uptime.Truncate(time.Minute) + time.Minute)
}

// planLook plans the next look at a run.
func (r *runner) planLook(started time.Time) {
	l := &r.looks
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.due.IsZero() || nextLook(started, now).Before(l.due) {
		l.set(nextLook(started, now), r.look)
	}
}

func (l *suspendedLooks) set(due time.Time, f func()) {
	l.due = due
	if l.timer == nil {
		l.timer = time.AfterFunc(time.Until(due), f)
		return
	}
	l.timer.Reset(time.Until(due))
}

// look reports each suspended run, and plans the next look.
func (r *runner) look() { r.lookAtRuns(true) }

// lookAtRuns reports what has changed, and with all what is still suspended too.
func (r *runner) lookAtRuns(all bool) {
	r.looks.mu.Lock()
	defer r.looks.mu.Unlock()
	r.mu.Lock()
	slots := slices.Clone(r.slots)
	r.mu.Unlock()
	var next time.Time
	for _, at := range slots {
		if at.process == nil {
			continue
		}
		by, ok := at.process.SuspendedBy()
		if !ok {
			continue
		}
		if last := syscall.Signal(at.suspended.Swap(int32(by))); last != by || all && by != 0 {
			r.hooks.suspended(at.run, at.process.PID(), by)
		}
		if due := nextLook(at.process.Started(), time.Now()); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	r.looks.due = time.Time{}
	if !next.IsZero() {
		r.looks.set(next, r.look)
	}
}

// LookForSuspended looks now which commands are suspended. It returns when the events of that are
// published.
func (s *Supervisor) LookForSuspended() { s.runner.lookAtRuns(false) }

// suspended is called while the runs are looked at. by is 0 if the command is no longer suspended.
func (s *Supervisor) suspended(run job.Run, pid int, by syscall.Signal) {
	if by == 0 {
		s.publish(event.RunContinued(s.spec.Name, run, pid))
		return
	}
	s.publish(event.RunSuspended(s.spec.Name, run, pid, by))
}
