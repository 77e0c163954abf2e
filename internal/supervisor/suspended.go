package supervisor

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/process"
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

// firstLook is nextLook for a run that this process starts or adopts. It looks at an adopted one at
// once: a look may have been due during the re-exec, and the status board of this process is empty.
func firstLook(started, now time.Time, adopted bool) time.Time {
	if adopted && now.Sub(started) >= time.Second {
		return now
	}
	return nextLook(started, now)
}

// suspension is what the looks at one run have found. The mutex of suspendedLooks guards it.
type suspension struct {
	due      time.Time           // the next look; zero if none is planned
	seen     []process.Suspended // processes below the command, at the last planned look
	reported process.Suspended   // by the last event
}

// choose returns which of the suspended processes below the command to report, if any. A program may
// suspend and continue its children on purpose. So a process counts only if the terminal has
// suspended it, if it has not run since the last planned look, or if somebody asks with a dump.
func (s *suspension) choose(found []process.Suspended, dump bool) process.Suspended {
	rules := []func(process.Suspended) bool{
		func(p process.Suspended) bool { return p == s.reported },
		func(p process.Suspended) bool { return p.Signal == syscall.SIGTTIN || p.Signal == syscall.SIGTTOU },
		func(p process.Suspended) bool { return dump || slices.Contains(s.seen, p) },
	}
	for _, counts := range rules {
		if i := slices.IndexFunc(found, counts); i >= 0 {
			return found[i]
		}
	}
	return process.Suspended{}
}

// planLook plans the first look at a run.
func (r *runner) planLook(at slot, adopted bool) {
	l := &r.looks
	l.mu.Lock()
	defer l.mu.Unlock()
	at.suspended.due = firstLook(at.process.Started(), time.Now(), adopted)
	if l.due.IsZero() || at.suspended.due.Before(l.due) {
		l.set(at.suspended.due, r.look)
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

// look looks at the runs for which that is due, and plans the next look.
func (r *runner) look() { r.lookAtRuns(false) }

// lookAtRuns reports what has changed, and at a planned look what is still suspended too. For a dump
// it looks at all runs.
func (r *runner) lookAtRuns(dump bool) {
	r.looks.mu.Lock()
	defer r.looks.mu.Unlock()
	r.mu.Lock()
	slots := slices.Clone(r.slots)
	r.mu.Unlock()
	var runs []slot // to be searched for other processes
	var commands []*process.Process
	var next time.Time
	now := time.Now()
	for _, at := range slots {
		if at.process == nil || at.suspended.due.IsZero() {
			continue
		}
		by, ok := at.process.SuspendedBy()
		if !ok {
			continue
		}
		due := !at.suspended.due.After(now)
		if due {
			at.suspended.due = nextLook(at.process.Started(), now)
		}
		if next.IsZero() || at.suspended.due.Before(next) {
			next = at.suspended.due
		}
		switch pid := at.process.PID(); {
		case !due && !dump:
		case by != 0:
			r.reportSuspension(at, process.Suspended{PID: pid, Group: pid, Signal: by}, dump)
		default:
			runs, commands = append(runs, at), append(commands, at.process)
		}
	}
	for i, found := range process.SuspendedBelow(commands) {
		s := runs[i].suspended
		r.reportSuspension(runs[i], s.choose(found, dump), dump)
		if !dump {
			s.seen = found
		}
	}
	r.looks.due = time.Time{}
	if !next.IsZero() {
		r.looks.set(next, r.look)
	}
}

// reportSuspension reports the process that is suspended now, or that none is any more.
func (r *runner) reportSuspension(at slot, now process.Suspended, dump bool) {
	last := at.suspended.reported
	at.suspended.reported = now
	switch {
	case now.PID != 0 && (now != last || !dump):
		r.hooks.suspended(at.run, at.process.PID(), now, true)
	case now.PID == 0 && last.PID != 0:
		r.hooks.suspended(at.run, at.process.PID(), last, false)
	}
}

// LookForSuspended looks now which processes of the runs are suspended. It returns when the events
// of that are published. The event about a leftover run, suspended or not, follows.
func (s *Supervisor) LookForSuspended() {
	s.runner.lookAtRuns(true)
	s.call(func() {
		if w := s.leftover.watch; w != nil {
			select {
			case w.remind <- struct{}{}:
			default: // it was asked for already
			}
		}
	})
}

// suspended is called while the runs are looked at. is is false if p is no longer suspended.
func (s *Supervisor) suspended(run job.Run, pid int, p process.Suspended, is bool) {
	var below event.Process // none if p is the command itself
	if p.PID != pid {
		below = event.Process{PID: p.PID, Name: p.Name}
	}
	if is {
		s.publish(event.RunSuspended(s.spec.Name, run, pid, below, p.Signal, p.Group))
	} else {
		s.publish(event.RunContinued(s.spec.Name, run, pid, below))
	}
}
