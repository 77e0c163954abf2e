package loop

import (
	"context"
	"slices"
	"time"

	"gophd/internal/job"
)

// runEnded reports the result of the run and decides what follows it.
func (s *scheduler) runEnded(p *slot, r job.Result) {
	now := time.Now()
	missed, passed := s.missed(p, now), s.grid.passed(now)
	p.cancel(nil)
	p.cancel, p.lateAt = nil, time.Time{}
	s.active--
	r.Run = p.run
	r.Verdict = s.Spec.Judge(r)
	tick := job.Tick{Result: r, Interval: s.grid.Interval, Missed: missed}
	s.grid.Tick += missed - p.missed
	s.report(Report{Kind: Ended, At: now, State: s.state, Run: r.Run, Tick: tick})
	switch {
	case s.state == job.Draining:
		if s.active == 0 {
			s.transition(job.Done, Report{})
		}
	case s.givesUp(p, r, now):
		s.dropDue()
		if s.active == 0 {
			s.transition(job.Done, Report{})
		} else {
			s.transition(job.Draining, Report{Run: s.oldest().run})
		}
	case s.opened != nil:
		if s.active == 0 {
			s.transition(job.Held, Report{Next: s.due.run.Due})
		}
	case s.active >= s.maxParallel: // the old process allowed more
	case s.runAgain && !s.Spec.Once:
		s.startOrHold(due{})
	case s.mayOverlap() && passed > 0:
		s.tick(now)
	case passed > 0 && s.Spec.Overlap != job.OverlapSkip:
		s.startOrHold(due{run: job.Run{Due: s.lastDue(now)}})
	case s.Spec.Service:
		s.restart(now, now.Sub(p.started))
	case s.retry(p, r.Verdict, now):
	case s.Spec.Once:
		s.transition(job.Done, Report{})
	case s.active > 0:
	case s.grid.Interval > 0:
		s.await(due{})
	case r.Failed():
		wait := s.slow.NextBackOff()
		s.await(due{at: now.Add(wait), slowed: wait})
	default:
		s.slow.Reset()
		s.startOrHold(due{})
	}
}

// givesUp returns true if the loop ends by itself after a run with this Result in p. All attempts
// of a tick count as one failure, and not before the last: otherwise the start limit would prevent
// the retries of the job.
func (s *scheduler) givesUp(p *slot, r job.Result, now time.Time) bool {
	switch {
	case r.OK():
		s.failed = nil
	case r.Verdict == job.Fatal:
		s.end = Fatal
	case s.Spec.StartLimit > 0 && r.Failed():
		if p.run.Attempt == 0 || len(s.failed) == 0 { // the old process may have made the first attempt
			s.failed = append(s.failed, p.started)
		}
		newest := s.failed[len(s.failed)-1]
		s.failed = slices.DeleteFunc(s.failed, func(at time.Time) bool {
			return newest.Sub(at) > s.Spec.StartLimitInterval
		})
		if _, again := s.nextRetry(p, r.Verdict, now); !again && len(s.failed) >= s.Spec.StartLimit {
			s.end = GaveUp
		}
	}
	return s.end != 0
}

// restart restarts a service that exited after uptime: at once if it was up long enough, else after
// a back-off.
func (s *scheduler) restart(now time.Time, uptime time.Duration) {
	if uptime >= max(healthyMin, s.slowed) {
		s.slow.Reset()
		s.slowed = 0
	}
	if uptime >= s.Spec.StableAfter() {
		s.startOrHold(due{})
		return
	}
	s.slowed = s.slow.NextBackOff()
	wait := max(s.slowed, s.Spec.Interval-uptime)
	s.await(due{at: now.Add(wait), slowed: wait})
}

// nextRetry returns the retry of the run that ended in p, if there is one. A retry starts before
// the next tick.
func (s *scheduler) nextRetry(p *slot, v job.Verdict, now time.Time) (due, bool) {
	if v != job.Retryable || p.run.Attempt >= s.Spec.Retries || !s.due.at.IsZero() {
		return due{}, false
	}
	delay := s.Spec.RetryDelay
	for range p.run.Attempt {
		delay = min(2*delay, max(retryMax, s.Spec.RetryDelay))
	}
	d := due{run: job.Run{Due: p.run.Due, Attempt: p.run.Attempt + 1}, at: now.Add(delay), slowed: delay}
	return d, s.grid.Interval == 0 || d.at.Before(p.nextTick)
}

// retry schedules the retry of the run that ended in p, if there is one.
func (s *scheduler) retry(p *slot, v job.Verdict, now time.Time) bool {
	d, ok := s.nextRetry(p, v, now)
	switch {
	case !ok:
		return false
	case d.slowed == 0:
		s.startOrHold(d)
	case s.active > 0:
		s.due = d
	default:
		s.await(d)
	}
	return true
}

func (s *scheduler) stop() {
	switch s.state {
	case job.Waiting, job.Held:
		s.dropDue()
		s.transition(job.Done, Report{})
	case job.Running:
		s.dropDue()
		s.transition(job.Draining, Report{Run: s.oldest().run})
		if s.Spec.Service {
			s.cancelRuns(job.ErrStopped)
		}
	}
}

// cancelRuns stops all runs. If the loop's context has ended, its cause is used: the runs may not
// have seen that yet.
func (s *scheduler) cancelRuns(cause error) {
	if s.ctx.Err() != nil {
		cause = context.Cause(s.ctx)
	}
	for i := range s.slots {
		if cancel := s.slots[i].cancel; cancel != nil {
			cancel(cause)
		}
	}
}

// dropDue forgets what is due.
func (s *scheduler) dropDue() { s.due, s.opened = due{}, nil }

// handOff ends the loop for that of the next process. A tick that is held stays due there.
func (s *scheduler) handOff(detach func() error) error {
	r := Report{}
	switch s.state {
	case job.Waiting, job.Held:
	case job.Running:
		if err := detach(); err != nil {
			return err
		}
		s.handedOff = true
		for i := range s.slots {
			if p := &s.slots[i]; p.cancel != nil {
				s.grid.ActiveRuns = append(s.grid.ActiveRuns, ActiveRun{Run: p.run, Started: p.started, Missed: p.missed})
			}
		}
		s.grid.RunRequested = s.runAgain
		r.Run = s.oldest().run
	default:
		return ErrEnds
	}
	switch {
	case s.due.ticks > 0:
		s.grid.Tick -= s.due.ticks
	case s.opened != nil:
		s.grid.Wait = &Delay{Run: s.due.run, Until: time.Now()}
	case !s.due.at.IsZero():
		s.grid.Wait = &Delay{Run: s.due.run, Until: s.due.at, Slowed: s.due.slowed}
	}
	s.dropDue()
	s.transition(job.Done, r)
	return nil
}
