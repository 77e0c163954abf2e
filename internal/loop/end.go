package loop

import (
	"context"
	"slices"
	"time"

	"gophd/internal/job"
)

// runEnded reports the result of the run and decides what follows it.
func (l *Loop) runEnded(p *slot, r job.Result) {
	now := time.Now()
	missed, passed := l.missed(p, now), l.grid.passed(now)
	p.cancel(nil)
	p.cancel, p.late.At = nil, time.Time{}
	l.active--
	r.Run = p.run
	r.Verdict = l.Spec.Judge(r)
	tick := job.Tick{Result: r, Interval: p.period, Missed: missed}
	if missed > p.missed {
		l.grid.pass(now)
	}
	l.report(Report{Kind: Ended, At: now, State: l.state, Run: r.Run, Tick: tick})
	switch {
	case l.state == job.Draining:
		if l.active == 0 {
			l.transition(job.Done, Report{})
		}
	case l.givesUp(p, r, now):
		l.dropDue()
		if l.active == 0 {
			l.transition(job.Done, Report{})
		} else {
			l.transition(job.Draining, Report{Run: l.oldest().run})
		}
	case l.opened != nil:
		if l.active == 0 {
			l.transition(job.Held, Report{Next: l.due.run.Due})
		}
	case l.active >= l.maxParallel: // the old process allowed more
	case len(l.requested) > 0 && !l.Spec.Once:
		l.startRequested()
	case passed > 0 && (l.mayOverlap() || l.grid.each):
		l.tick(now)
	case passed > 0 && l.Spec.Overlap != job.OverlapSkip && now.Sub(l.grid.last(now)) <= l.startDeadline():
		l.startOrHold(due{run: job.Run{Due: l.grid.last(now)}})
	case l.Spec.Service:
		l.restart(now, now.Sub(p.started))
	case l.retry(p, r.Verdict, now):
	case l.Spec.Once:
		l.transition(job.Done, Report{})
	case l.active > 0:
	case l.grid.hasTicks():
		l.await(due{})
	case r.Failed():
		wait := l.slow.NextBackOff()
		l.await(due{at: now.Add(wait), slowed: wait})
	default:
		l.slow.Reset()
		l.startOrHold(due{})
	}
}

// givesUp returns true if the loop ends by itself after a run with this Result in p. All attempts
// of a tick count as one failure, and not before the last: otherwise the start limit would prevent
// the retries of the job.
func (l *Loop) givesUp(p *slot, r job.Result, now time.Time) bool {
	switch {
	case r.OK():
		l.failed = nil
	case r.Verdict == job.Fatal:
		l.end = Fatal
	case l.Spec.StartLimit > 0 && r.Failed():
		if p.run.Attempt == 0 || len(l.failed) == 0 { // the old process may have made the first attempt
			l.failed = append(l.failed, p.started)
		}
		newest := l.failed[len(l.failed)-1]
		l.failed = slices.DeleteFunc(l.failed, func(at time.Time) bool {
			return newest.Sub(at) > l.Spec.StartLimitInterval
		})
		if _, again := l.nextRetry(p, r.Verdict, now); !again && len(l.failed) >= l.Spec.StartLimit {
			l.end = GaveUp
		}
	}
	return l.end != 0
}

// restart restarts a service that exited after uptime: at once if it was up long enough, else after
// a back-off.
func (l *Loop) restart(now time.Time, uptime time.Duration) {
	if uptime >= max(healthyMin, l.slowed) {
		l.slow.Reset()
		l.slowed = 0
	}
	if uptime >= l.Spec.StableAfter() || l.paused { // then it waits until it is resumed
		l.startOrHold(due{})
		return
	}
	l.slowed = l.slow.NextBackOff()
	wait := max(l.slowed, l.Spec.Interval-uptime)
	l.await(due{at: now.Add(wait), slowed: wait})
}

// nextRetry returns the retry of the run that ended in p, if there is one. A retry starts before
// the next tick.
func (l *Loop) nextRetry(p *slot, v job.Verdict, now time.Time) (due, bool) {
	if v != job.Retryable || p.run.Attempt >= l.Spec.Retries || !l.due.at.IsZero() {
		return due{}, false
	}
	delay := l.Spec.RetryDelay
	for range p.run.Attempt {
		delay = min(2*delay, max(retryMax, l.Spec.RetryDelay))
	}
	d := due{run: job.Run{Due: p.run.Due, Attempt: p.run.Attempt + 1, Request: p.run.Request}, at: now.Add(delay),
		slowed: delay}
	return d, p.nextTick.IsZero() || d.at.Before(p.nextTick)
}

// retry schedules the retry of the run that ended in p, if there is one.
func (l *Loop) retry(p *slot, v job.Verdict, now time.Time) bool {
	d, ok := l.nextRetry(p, v, now)
	switch {
	case !ok:
		return false
	case d.slowed == 0:
		l.startOrHold(d)
	case l.active > 0:
		l.due = d
	default:
		l.await(d)
	}
	return true
}

func (l *Loop) stop() {
	l.stopped = true
	if l.opened != nil && l.due.ticks > 0 { // the next process may serve it
		l.grid.goBack(l.due.before)
	}
	switch l.state {
	case job.Waiting, job.Held:
		l.dropDue()
		l.transition(job.Done, Report{})
	case job.Running:
		l.dropDue()
		l.transition(job.Draining, Report{Run: l.oldest().run})
		if l.Spec.Service {
			l.cancelRuns(job.ErrStopped)
		}
	}
}

// cancelRuns stops all runs. If the loop's context has ended, its cause is used: the runs may not
// have seen that yet.
func (l *Loop) cancelRuns(cause error) {
	if l.ctx.Err() != nil {
		cause = context.Cause(l.ctx)
	}
	for i := range l.slots {
		if cancel := l.slots[i].cancel; cancel != nil {
			cancel(cause)
		}
	}
}

// dropDue forgets what is due.
func (l *Loop) dropDue() { l.due, l.opened = due{}, nil }

// handOff ends the loop for that of the next process. A tick that is held stays due there.
func (l *Loop) handOff(detach func() error) error {
	r := Report{HandedOff: true}
	switch l.state {
	case job.Waiting, job.Held, job.Running, job.Draining:
	default:
		return ErrEnds
	}
	if err := detach(); err != nil {
		return err
	}
	l.grid.Failures = slices.Clone(l.failed)
	if l.active > 0 {
		l.handedOff = true
		for i := range l.slots {
			if p := &l.slots[i]; p.cancel != nil {
				l.grid.ActiveRuns = append(l.grid.ActiveRuns, ActiveRun{Run: p.run, Started: p.started, Missed: p.missed, Late: p.late})
			}
		}
		l.grid.Requested = l.requested
		r.Run = l.oldest().run
	}
	switch {
	case l.due.ticks > 0:
		l.grid.goBack(l.due.before)
	case l.opened != nil:
		l.grid.Wait = &Delay{Run: l.due.run, Until: time.Now()}
	case !l.due.at.IsZero():
		l.grid.Wait = &Delay{Run: l.due.run, Until: l.due.at, Slowed: l.due.slowed}
	}
	l.dropDue()
	l.transition(job.Done, r)
	return nil
}
