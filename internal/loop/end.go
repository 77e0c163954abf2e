package loop

import (
	"context"
	"slices"
	"time"

	"gophd/internal/job"
)

// ended reports what came of the run and turns to what follows it.
func (t *turner) ended(p *place, r job.Result) {
	p.endRun(nil)
	p.endRun, p.lateAt = nil, time.Time{}
	t.going--
	r.Run = p.run
	r.Verdict = t.Spec.Judge(r)
	now := time.Now()
	tick := job.Tick{Result: r, Interval: t.grid.Interval, Missed: p.missed}
	passed := t.grid.passed(now)
	if !t.beside() {
		tick.Missed += passed
		t.grid.Tick += passed
	}
	t.report(Report{Kind: Ended, At: now, State: t.state, Run: r.Run, Tick: tick})
	switch {
	case t.state == job.Draining:
		if t.going == 0 {
			t.transition(job.Done, Report{})
		}
	case t.enough(p, r, now):
		t.drop()
		if t.going == 0 {
			t.transition(job.Done, Report{})
		} else {
			t.transition(job.Draining, Report{Run: t.oldest().run})
		}
	case t.opened != nil:
		if t.going == 0 {
			t.transition(job.Held, Report{Next: t.due.run.Due})
		}
	case t.going >= t.most: // the image before us allowed more
	case t.woken && !t.Spec.Once:
		t.tryStart(due{})
	case t.beside() && passed > 0:
		t.tick(now)
	case passed > 0 && t.Spec.Overrun != job.OverrunSkip:
		t.tryStart(due{run: job.Run{Due: t.lastDue(now)}})
	case t.Spec.Keep:
		t.restart(now, now.Sub(p.started))
	case t.retry(p, r.Verdict, now):
	case t.Spec.Once:
		t.transition(job.Done, Report{})
	case t.going > 0:
	case t.grid.Interval > 0:
		t.await(due{})
	case r.Failed():
		wait := t.slow.NextBackOff()
		t.await(due{at: now.Add(wait), slowed: wait})
	default:
		t.slow.Reset()
		t.tryStart(due{})
	}
}

// enough says that the loop ends by itself after a run with this Result in p. All tries of a tick count as one, and
// not before the last: else the start limit would keep a job from the retries that it asks for.
func (t *turner) enough(p *place, r job.Result, now time.Time) bool {
	switch {
	case r.OK():
		t.failed = nil
	case r.Verdict == job.Fatal:
		t.end = Fatal
	case t.Spec.StartLimit > 0 && r.Failed():
		if p.run.Try == 0 || len(t.failed) == 0 { // the image before us may have made the first try
			t.failed = append(t.failed, p.started)
		}
		newest := t.failed[len(t.failed)-1]
		t.failed = slices.DeleteFunc(t.failed, func(at time.Time) bool { return newest.Sub(at) > t.Spec.StartLimitInterval })
		if _, again := t.nextTry(p, r.Verdict, now); !again && len(t.failed) >= t.Spec.StartLimit {
			t.end = GaveUp
		}
	}
	return t.end != 0
}

// restart starts a service again that has ended after so long: at once if it has stayed, else slowed. A service
// that ends is not well, whatever its code.
func (t *turner) restart(now time.Time, lived time.Duration) {
	if lived >= max(healthyMin, t.slowed) {
		t.slow.Reset()
		t.slowed = 0
	}
	if lived >= max(t.Spec.Interval, stayMin) {
		t.tryStart(due{})
		return
	}
	t.slowed = t.slow.NextBackOff()
	wait := max(t.slowed, t.Spec.Interval-lived)
	t.await(due{at: now.Add(wait), slowed: wait})
}

// nextTry is the other try of the run that ended in p, if there is to be one: as long as its tick lasts.
func (t *turner) nextTry(p *place, v job.Verdict, now time.Time) (due, bool) {
	if v != job.Retryable || p.run.Try >= t.Spec.Retries || !t.due.at.IsZero() {
		return due{}, false
	}
	delay := t.Spec.RetryDelay
	for range p.run.Try {
		delay = min(2*delay, max(retryMax, t.Spec.RetryDelay))
	}
	d := due{run: job.Run{Due: p.run.Due, Try: p.run.Try + 1}, at: now.Add(delay), slowed: delay}
	return d, t.grid.Interval == 0 || d.at.Before(p.over)
}

// retry begins to wait for the next try of the run that ended in p, if there is to be one.
func (t *turner) retry(p *place, v job.Verdict, now time.Time) bool {
	d, ok := t.nextTry(p, v, now)
	switch {
	case !ok:
		return false
	case d.slowed == 0:
		t.tryStart(d)
	case t.going > 0:
		t.due = d
	default:
		t.await(d)
	}
	return true
}

func (t *turner) stop() {
	switch t.state {
	case job.Waiting, job.Held:
		t.drop()
		t.transition(job.Done, Report{})
	case job.Running:
		t.drop()
		t.transition(job.Draining, Report{Run: t.oldest().run})
		if t.Spec.Keep {
			t.endRuns(job.ErrStopped)
		}
	}
}

// endRuns stops all runs, for the cause of the context if that has ended: its runs may not have heard of it yet.
func (t *turner) endRuns(cause error) {
	if t.ctx.Err() != nil {
		cause = context.Cause(t.ctx)
	}
	for i := range t.places {
		if end := t.places[i].endRun; end != nil {
			end(cause)
		}
	}
}

// drop forgets what is due.
func (t *turner) drop() { t.due, t.opened = due{}, nil }

// leave ends the loop for the sake of the next process's. A tick that is held stays due there.
func (t *turner) leave(l leaving) {
	err := ErrEnds
	defer func() { l.answer <- err }()
	r := Report{}
	switch t.state {
	case job.Waiting, job.Held:
	case job.Running:
		if err = l.let(); err != nil {
			return
		}
		t.left = true
		for i := range t.places {
			if p := &t.places[i]; p.endRun != nil {
				t.grid.Going = append(t.grid.Going, Going{Run: p.run, Started: p.started, Missed: p.missed})
			}
		}
		t.grid.Woken = t.woken
		r.Run = t.oldest().run
	default:
		return
	}
	switch {
	case t.due.ticks > 0:
		t.grid.Tick -= t.due.ticks
	case t.opened != nil:
		t.grid.Wait = &Wait{Run: t.due.run, Until: time.Now()}
	case !t.due.at.IsZero():
		t.grid.Wait = &Wait{Run: t.due.run, Until: t.due.at, Slowed: t.due.slowed}
	}
	t.drop()
	t.transition(job.Done, r)
	err = nil
}
