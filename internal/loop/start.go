package loop

import (
	"context"
	"time"

	"gophd/internal/job"
)

func (t *turner) rang() {
	now := time.Now()
	t.alarm = time.Time{}
	switch {
	case t.opened != nil:
		if t.state == job.Held || !now.Before(t.due.at) {
			t.open()
		}
	case !t.due.at.IsZero() && !now.Before(t.due.at) && t.grid.passed(now) == 0:
		t.tryStart(t.due)
	case t.state == job.Waiting || t.beside():
		t.tick(now)
	}
	for i := range t.places {
		t.late(&t.places[i], now)
	}
}

// tick serves what is due on the grid: the last tick of those that are.
func (t *turner) tick(now time.Time) {
	passed := t.grid.passed(now)
	t.grid.Tick += passed
	switch {
	case passed == 0: // it rang for something that no longer is
	case t.going < t.most:
		t.tryStart(due{run: job.Run{Due: t.lastDue(now)}, ticks: passed})
	default:
		t.oldest().missed += passed
	}
}

// lastDue is the tick that was due last: the one that a run started now serves, however many passed.
func (t *turner) lastDue(now time.Time) time.Time {
	last := t.grid
	last.Tick--
	return present(now, last.Due())
}

// oldest is the place of the run that began first; there is one.
func (t *turner) oldest() (first *place) {
	for i := range t.places {
		if p := &t.places[i]; p.endRun != nil && (first == nil || p.run.Number < first.run.Number) {
			first = p
		}
	}
	return first
}

// tryStart starts the run, for which there is a place, or holds it while the gate is shut.
func (t *turner) tryStart(d due) {
	t.due, t.opened = due{}, nil
	if t.endAsked() {
		if t.going == 0 {
			t.transition(job.Done, Report{})
		}
		return
	}
	now := time.Now()
	if d.run.Due.IsZero() {
		d.run.Due = now
	}
	if t.opened = t.Gate.Shut(); t.opened != nil {
		d.at = now.Add(askAgain)
		t.due = d
		if t.state != job.Held && t.going == 0 {
			t.transition(job.Held, Report{Next: d.run.Due})
		}
		return
	}
	passed := t.grid.passed(now) // while it was held
	t.grid.Tick += passed
	if passed > 0 && d.run.Try > 0 { // its tick is over
		d.run = job.Run{Due: t.lastDue(now)}
		passed--
	}
	t.grid.Runs++
	d.run.Number = t.grid.Runs
	d.present(now)
	for i := range t.places {
		if t.places[i].endRun == nil {
			d.run.Place = i
			break
		}
	}
	t.woken = false
	t.begun(d.run, now, max(d.ticks, 1)-1+passed)
}

// begun enters running with a run that has just been started, or that was left to us under way.
func (t *turner) begun(run job.Run, started time.Time, missed uint64) {
	p := &t.places[run.Place]
	if p.work == nil {
		p.work = make(chan work, 1)
		t.runners.Go(func() { t.runs(p) })
	}
	ctx, cancel := context.WithCancelCause(t.ctx)
	p.run, p.started, p.endRun, p.missed = run, started, cancel, 0
	t.going++
	r := Report{Run: run, Missed: missed}
	if t.grid.Interval > 0 {
		p.over = t.after(started)
		p.lateGap = max(t.grid.Interval, lateGapMin)
		p.lateAt = sooner(started.Add(time.Duration(warnShare*float64(t.grid.Interval))), p.over)
		r.Next = present(time.Now(), p.over)
	}
	t.transition(job.Running, r)
	p.work <- work{ctx, run}
}

// after is the first moment of the grid after that of a start.
func (t *turner) after(started time.Time) time.Time {
	if started.Before(t.grid.Anchor) { // on another grid
		return t.grid.Due()
	}
	g := t.grid
	g.Tick = 0
	g.Tick = g.passed(started)
	return g.Due()
}

// endAsked says that the end was asked for and only its event is still to come, so that a tick that is
// due in the same moment does not start one more run.
func (t *turner) endAsked() bool {
	select {
	case <-t.Loop.stop:
		return true
	case <-t.ctx.Done():
		return true
	default:
		return false
	}
}

// late speaks of a run that is late, and stops it where that is the rule.
func (t *turner) late(p *place, now time.Time) {
	if p.lateAt.IsZero() || now.Before(p.lateAt) {
		return
	}
	missed := p.missed
	if !t.beside() {
		missed += t.grid.passed(now)
	}
	t.report(Report{Kind: Late, At: now, State: t.state, Run: p.run, Length: now.Sub(p.started), Missed: missed})
	switch {
	case now.Before(p.over):
		p.lateAt = p.over
	case t.Spec.Overrun == job.OverrunKill && t.state == job.Running:
		p.lateAt = time.Time{}
		p.endRun(job.ErrOverrun)
	default:
		p.lateAt = now.Add(p.lateGap)
		p.lateGap = min(2*p.lateGap, lateGapMax)
	}
}
