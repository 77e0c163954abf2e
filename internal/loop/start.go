package loop

import (
	"context"
	"math"
	"slices"
	"time"

	"gophd/internal/job"
	"gophd/internal/schedule"
)

func (l *Loop) timerExpired() {
	now := time.Now()
	l.timerAt = time.Time{}
	switch {
	case l.opened != nil:
		if l.state == job.Held || !now.Before(l.due.at) {
			l.open()
		}
	case !l.due.at.IsZero() && !now.Before(l.due.at) && l.grid.passed(now) == 0:
		l.startOrHold(l.due)
	case l.state == job.Waiting || l.mayOverlap():
		l.tick(now)
	}
	for i := range l.slots {
		l.reportLate(&l.slots[i], now)
	}
}

// tick serves the last of the ticks that are due on the grid.
func (l *Loop) tick(now time.Time) {
	before := l.grid.position()
	passed := l.grid.pass(now)
	switch {
	case passed == 0: // the timer expired for something that is no longer due
	case l.tooLate(l.grid.last(now), passed, now):
	case l.active < l.maxParallel:
		l.startOrHold(due{run: job.Run{Due: l.grid.last(now)}, ticks: passed, before: before})
	default:
		l.oldest().missed += passed
	}
}

// startDeadline returns how long after its due time a run may start.
func (l *Loop) startDeadline() time.Duration {
	if l.Spec.StartDeadline == 0 {
		return math.MaxInt64
	}
	return l.Spec.StartDeadline + l.Spec.Splay + l.Spec.Jitter
}

// tooLate returns true if no run may start for a tick any more. Then it reports that, and waits for the
// next one.
func (l *Loop) tooLate(tick time.Time, ticks uint64, now time.Time) bool {
	if now.Sub(tick) <= l.startDeadline() {
		return false
	}
	l.report(Report{Kind: Dropped, At: now, State: l.state, Run: job.Run{Due: tick}, Missed: ticks, Why: job.MissedDeadline})
	if l.active == 0 {
		l.await(due{})
	}
	return true
}

// oldest returns the slot of the run that started first. There must be one.
func (l *Loop) oldest() (first *slot) {
	for i := range l.slots {
		if p := &l.slots[i]; p.cancel != nil && (first == nil || p.run.Number < first.run.Number) {
			first = p
		}
	}
	return first
}

// startOrHold starts the run, for which a slot is free, or holds it while the gate is shut.
func (l *Loop) startOrHold(d due) {
	l.due, l.opened = due{}, nil
	if l.panicked != nil || l.skips(d) {
		return
	}
	now := time.Now()
	if d.run.Due.IsZero() {
		d.run.Due = now
	}
	if d.ticks > 0 && l.tooLate(d.run.Due, d.ticks, now) { // it was held too long
		return
	}
	if l.opened = l.Gate.Shut(l.grid.Last); l.opened != nil {
		d.at = now.Add(gateRetry)
		l.due = d
		if l.state != job.Held && l.active == 0 {
			l.transition(job.Held, Report{Next: d.run.Due})
		}
		return
	}
	passed := uint64(0) // while it was held
	if !l.grid.each {
		passed = l.grid.pass(now)
	}
	if passed > 0 && d.run.Attempt > 0 { // its tick is over
		d.run = job.Run{Due: l.grid.last(now)}
		passed--
	}
	l.grid.Runs++
	d.run.Number = l.grid.Runs
	if d.run.Trigger == "" {
		d.run.Trigger = l.trigger(d.run)
	}
	d.rebase(now)
	for i := range l.slots {
		if l.slots[i].cancel == nil {
			d.run.Slot = i
			break
		}
	}
	l.requested = slices.DeleteFunc(l.requested, func(r *job.Request) bool { return r.ID == 0 && len(r.Args) == 0 })
	l.addRun(d.run, now, max(d.ticks, 1)-1+passed)
}

// trigger returns why a run is started.
func (l *Loop) trigger(run job.Run) job.Trigger {
	switch {
	case run.Attempt > 0:
		return job.TriggerRetry
	case run.Request != nil:
		return job.TriggerManual
	case run.Number == 1 && l.Spec.RunAtStart, l.Spec.Calendar != nil && l.Spec.Calendar.Kind() == schedule.Reboot:
		return job.TriggerAtStart
	case l.Spec.Calendar != nil && run.Due.Before(l.began):
		return job.TriggerCatchUp
	}
	return job.TriggerSchedule
}

// addRun enters running with a run that starts now, or that the old process handed off.
func (l *Loop) addRun(run job.Run, started time.Time, missed uint64) {
	p := &l.slots[run.Slot]
	ctx, cancel := context.WithCancelCause(l.ctx)
	p.run, p.started, p.cancel, p.missed = run, started, cancel, 0
	l.active++
	r := Report{Run: run, Missed: missed}
	p.late = Lateness{}
	if p.nextTick, p.period = l.grid.around(started); !p.nextTick.IsZero() {
		p.late.Gap = max(p.period, lateGapMin)
		p.late.At = earlier(started.Add(time.Duration(lateShare*float64(p.period))), p.nextTick)
		r.Next = rebase(time.Now(), p.nextTick)
	}
	l.transition(job.Running, r)
	l.startWork(p, work{ctx, run})
}

// reportLate reports a run that is late, and stops it if the overlap policy is replace.
func (l *Loop) reportLate(p *slot, now time.Time) {
	late := &p.late
	if late.At.IsZero() || now.Before(late.At) {
		return
	}
	l.report(Report{Kind: Late, At: now, State: l.state, Run: p.run, Length: now.Sub(p.started),
		Period: p.period, Missed: l.missed(p, now)})
	switch {
	case now.Before(p.nextTick):
		late.At = p.nextTick
	case l.Spec.Overlap == job.OverlapReplace && l.state == job.Running:
		late.At = time.Time{}
		p.cancel(job.ErrReplaced)
	default:
		late.At = now.Add(late.Gap)
		late.Gap = min(2*late.Gap, lateGapMax)
	}
}

// missed returns the ticks that an active run has cost so far. If no run may start beside the active
// ones, all ticks that are due are those of the oldest.
func (l *Loop) missed(p *slot, now time.Time) uint64 {
	if l.mayOverlap() || p != l.oldest() || l.grid.each {
		return p.missed
	}
	return p.missed + l.grid.passed(now)
}

// countMissed reports the ticks that each active run has cost so far.
func (l *Loop) countMissed() {
	if l.state == job.Done {
		return // the runs were handed off
	}
	now := time.Now()
	for i := range l.slots {
		if p := &l.slots[i]; p.cancel != nil {
			l.report(Report{Kind: Counted, At: now, State: l.state, Run: p.run, Missed: l.missed(p, now)})
		}
	}
}
