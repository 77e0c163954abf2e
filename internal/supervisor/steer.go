package supervisor

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/jobfile"
	"gophd/internal/loop"
	"gophd/internal/request"
)

// Steered is what was requested for the runs of a job, until it is requested otherwise.
type Steered struct {
	Paused  bool `json:"paused,omitempty"`  // no run starts by itself
	Skip    int  `json:"skip,omitempty"`    // the next ticks that are skipped
	Stopped bool `json:"stopped,omitempty"` // as paused; not over a new start of the daemon
}

// holds returns true if no run starts by itself.
func (s Steered) holds() bool { return s.Paused || s.Stopped }

// openRecord sets what is requested, and the position in the calendar, at the start of this process.
func (s *Supervisor) openRecord() {
	handed, r := s.o.Handed, &s.record
	r.schedule = s.spec.Calendar.ID()
	if s.o.Fresh || handed.Name == "" {
		s.steering.now = Steered{Paused: s.o.Record.Paused, Skip: s.o.Record.Skip}
		r.position, r.fresh = s.o.Record.Position, s.o.Fresh
		return
	}
	s.steering.now = handed.Steered
	r.position = jobfile.Position{Boot: handed.Boot, Fence: handed.Fence}
	if g := handed.Grid; g != nil {
		r.position.Schedule, r.position.Due = g.Calendar.ID(), g.Last
	}
	due := r.position.Due
	if r.position.Schedule != r.schedule {
		due = time.Now()
	}
	s.keep(s.now(due, false)) // before the lease is acquired, so that the records of all jobs are there
}

// steering is what is Steered now.
type steering struct {
	mu  sync.Mutex
	now Steered
}

func (s *steering) read() Steered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// change changes it, and returns what it was before.
func (s *steering) change(f func(*Steered)) (before, now Steered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.now
	f(&s.now)
	return before, s.now
}

// Steered returns what is requested for the runs of the job.
func (s *Supervisor) Steered() Steered { return s.steering.read() }

// Event returns the event about it.
func (s Steered) Event(name string) event.Event {
	return event.JobSteered(name, s.Paused, s.Stopped, s.Skip)
}

func rejected(format string, args ...any) error {
	return &request.RejectedError{Why: fmt.Sprintf(format, args...)}
}

// Request requests a run now, by the overlap policy of the job, also while the job is paused. A job that
// was stopped is active again. It returns the request that the run will have: see loop.Loop.Request.
func (s *Supervisor) Request(r *job.Request) (as *job.Request, err error) {
	s.call(func() {
		if s.machine.state != active || !s.machine.looping {
			err = rejected("%s is %s", s.spec.Name, s.machine.state)
			if s.machine.state == standby { // of the supervisor: the daemon knows whether the instance is
				err = rejected("%s does not start runs yet: gophd why %s says why", s.spec.Name, s.spec.Name)
			}
			return
		}
		stopped := s.steering.read().Stopped
		if run := s.runner.active(); s.spec.Service && !stopped && len(run) > 0 {
			err = rejected("%s is active already: gophd restart %s starts it anew", s.spec.Name, s.spec.Name)
			return
		}
		switch as, err = s.loopRun.loop.Request(r); {
		case errors.Is(err, loop.ErrEnds):
			err = rejected("%s is ending", s.spec.Name)
		case err != nil:
			err = rejected("%s: %v", s.spec.Name, err)
		case stopped:
			s.steer(func(now *Steered) { now.Stopped = false })
		}
	})
	return as, err
}

// Pause lets no run start by itself until Unpause. An active run continues.
func (s *Supervisor) Pause() {
	s.call(func() { s.steer(func(now *Steered) { now.Paused = true }) })
}

// Halt is Pause until a run is requested, or the daemon starts anew. Runs that were requested and wait do not
// start.
func (s *Supervisor) Halt() {
	s.call(func() {
		s.steer(func(now *Steered) { now.Stopped = true })
		if s.loopRun.loop == nil {
			return
		}
		for _, r := range s.loopRun.loop.Withdraw() {
			if r.ID == 0 { // of a signal or a restart: nobody looks for its run
				continue
			}
			e := event.RequestRejected(request.Start.String(), "", "", errors.New("the job was stopped before the run could start"))
			e.Job, e.Tick.Request = s.spec.Name, r
			s.publish(e)
		}
	})
}

// Unpause ends Pause and Halt. Nothing that was skipped runs.
func (s *Supervisor) Unpause() {
	s.call(func() { s.steer(func(now *Steered) { now.Paused, now.Stopped = false, false }) })
}

// Skip skips the next n ticks. It is rejected if the job has none.
func (s *Supervisor) Skip(n int) (err error) {
	s.call(func() {
		if !s.spec.HasTicks() {
			err = rejected("%s runs %s, and has no scheduled run to skip; pause it instead", s.spec.Name, s.spec.Cadence())
			return
		}
		s.steer(func(now *Steered) { now.Skip = n })
	})
	return err
}

// steer changes what is requested, for the loop, the log and the record.
func (s *Supervisor) steer(f func(*Steered)) {
	before, now := s.steering.change(f)
	if before == now {
		return
	}
	if !now.holds() {
		s.missedEnd(notByOverlap)
	}
	s.publish(now.Event(s.spec.Name))
	if _, l, _ := s.o.Lease.Look(); !l.State.Holding() {
		s.record.mu.Lock()
		s.record.early = true
		s.record.mu.Unlock()
	}
	s.saveRecord(false)
	if l := s.loopRun.loop; l != nil {
		l.Skip(now.Skip)
		l.Pause(now.holds())
	}
}

// skipped is called by the loop when a run that was due does not start.
func (s *Supervisor) skipped(rep loop.Report) {
	if rep.Paused && rep.Missed == 0 {
		return // a retry, or a tick that was counted when the run that made it late ended
	}
	if rep.Paused {
		why, text := job.MissedPaused, "the job is paused"
		if s.steering.read().Stopped {
			why, text = job.MissedStopped, "the job is stopped"
		}
		s.missed(rep.Run, rep.Run.Due, rep.Missed, why, text)
		return
	}
	_, now := s.steering.change(func(now *Steered) { now.Skip = max(now.Skip-1, 0) })
	s.missedEnd(anyReason)
	s.publish(event.RunSkipped(s.spec.Name, rep.Run, rep.Missed, now.Skip))
	s.saveRecord(false)
}

// StopRuns stops the active runs. The job continues. It is rejected if none is active.
func (s *Supervisor) StopRuns() (err error) {
	s.call(func() {
		if len(s.runner.active()) == 0 {
			err = rejected("%s has no active run", s.spec.Name)
			return
		}
		s.runner.Interrupt(job.ErrStopped)
	})
	return err
}

// Restart stops the run of a service, and starts it again at once, also if the service was stopped.
func (s *Supervisor) Restart() (err error) {
	s.call(func() {
		switch {
		case !s.spec.Service:
			err = rejected("%s is no service; to run it now, start it", s.spec.Name)
		case s.machine.state != active || !s.machine.looping:
			err = rejected("%s is %s", s.spec.Name, s.machine.state)
		default:
			s.loopRun.loop.RunNow()
			s.runner.Interrupt(job.ErrStopped)
			s.steer(func(now *Steered) { now.Stopped = false })
		}
	})
	return err
}

// Signal sends a signal to the process group of each active run. It is rejected if there is none.
func (s *Supervisor) Signal(sig syscall.Signal) error {
	if s.runner.signalAll(sig) == 0 {
		return rejected("%s has no active run", s.spec.Name)
	}
	return nil
}
