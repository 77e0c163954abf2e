package loop

import (
	"context"
	"time"

	"gophd/internal/job"
)

func (s *scheduler) timerFired() {
	now := time.Now()
	s.timerAt = time.Time{}
	switch {
	case s.opened != nil:
		if s.state == job.Held || !now.Before(s.due.at) {
			s.open()
		}
	case !s.due.at.IsZero() && !now.Before(s.due.at) && s.grid.passed(now) == 0:
		s.startOrHold(s.due)
	case s.state == job.Waiting || s.mayOverlap():
		s.tick(now)
	}
	for i := range s.slots {
		s.late(&s.slots[i], now)
	}
}

// tick serves the last of the ticks that are due on the grid.
func (s *scheduler) tick(now time.Time) {
	passed := s.grid.passed(now)
	s.grid.Tick += passed
	switch {
	case passed == 0: // the timer fired for something that is no longer due
	case s.active < s.maxParallel:
		s.startOrHold(due{run: job.Run{Due: s.lastDue(now)}, ticks: passed})
	default:
		s.oldest().missed += passed
	}
}

// lastDue returns the tick that was due last: a run that starts now serves it, however many have
// passed.
func (s *scheduler) lastDue(now time.Time) time.Time {
	last := s.grid
	last.Tick--
	return rebase(now, last.Due())
}

// oldest returns the slot of the run that started first. There must be one.
func (s *scheduler) oldest() (first *slot) {
	for i := range s.slots {
		if p := &s.slots[i]; p.cancel != nil && (first == nil || p.run.Number < first.run.Number) {
			first = p
		}
	}
	return first
}

// startOrHold starts the run, for which a slot is free, or holds it while the gate is shut.
func (s *scheduler) startOrHold(d due) {
	s.due, s.opened = due{}, nil
	if s.stopRequested() {
		if s.active == 0 {
			s.transition(job.Done, Report{})
		}
		return
	}
	now := time.Now()
	if d.run.Due.IsZero() {
		d.run.Due = now
	}
	if s.opened = s.Gate.Shut(); s.opened != nil {
		d.at = now.Add(gateRetry)
		s.due = d
		if s.state != job.Held && s.active == 0 {
			s.transition(job.Held, Report{Next: d.run.Due})
		}
		return
	}
	passed := s.grid.passed(now) // while it was held
	s.grid.Tick += passed
	if passed > 0 && d.run.Attempt > 0 { // its tick is over
		d.run = job.Run{Due: s.lastDue(now)}
		passed--
	}
	s.grid.Runs++
	d.run.Number = s.grid.Runs
	d.rebase(now)
	for i := range s.slots {
		if s.slots[i].cancel == nil {
			d.run.Slot = i
			break
		}
	}
	s.runAgain = false
	s.addRun(d.run, now, max(d.ticks, 1)-1+passed)
}

// addRun enters running with a run that starts now, or that the old process handed off.
func (s *scheduler) addRun(run job.Run, started time.Time, missed uint64) {
	p := &s.slots[run.Slot]
	if p.work == nil {
		p.work = make(chan work, 1)
		s.runners.Go(func() { s.runSlot(p) })
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	p.run, p.started, p.cancel, p.missed = run, started, cancel, 0
	s.active++
	r := Report{Run: run, Missed: missed}
	if s.grid.Interval > 0 {
		p.nextTick = s.nextTickAfter(started)
		p.lateGap = max(s.grid.Interval, lateGapMin)
		p.lateAt = earlier(started.Add(time.Duration(lateShare*float64(s.grid.Interval))), p.nextTick)
		r.Next = rebase(time.Now(), p.nextTick)
	}
	s.transition(job.Running, r)
	p.work <- work{ctx, run}
}

// nextTickAfter returns the first moment of the grid after started.
func (s *scheduler) nextTickAfter(started time.Time) time.Time {
	if started.Before(s.grid.Anchor) { // on another grid
		return s.grid.Due()
	}
	g := s.grid
	g.Tick = 0
	g.Tick = g.passed(started)
	return g.Due()
}

// stopRequested returns true if a stop was requested whose event was not served yet. Without it, a
// tick that is due at the same moment would start one more run.
func (s *scheduler) stopRequested() bool {
	select {
	case <-s.Loop.stop:
		return true
	case <-s.ctx.Done():
		return true
	default:
		return false
	}
}

// late reports a run that is late, and stops it if the overlap policy is replace.
func (s *scheduler) late(p *slot, now time.Time) {
	if p.lateAt.IsZero() || now.Before(p.lateAt) {
		return
	}
	s.report(Report{Kind: Late, At: now, State: s.state, Run: p.run, Length: now.Sub(p.started),
		Missed: s.missed(p, now)})
	switch {
	case now.Before(p.nextTick):
		p.lateAt = p.nextTick
	case s.Spec.Overlap == job.OverlapReplace && s.state == job.Running:
		p.lateAt = time.Time{}
		p.cancel(job.ErrReplaced)
	default:
		p.lateAt = now.Add(p.lateGap)
		p.lateGap = min(2*p.lateGap, lateGapMax)
	}
}

// missed returns the ticks that an active run has cost so far. If no run may start beside the active
// ones, all ticks that are due are those of the oldest.
func (s *scheduler) missed(p *slot, now time.Time) uint64 {
	if s.mayOverlap() || p != s.oldest() {
		return p.missed
	}
	return p.missed + s.grid.passed(now)
}

// countMissed reports the ticks that each active run has cost so far.
func (s *scheduler) countMissed() {
	now := time.Now()
	for i := range s.slots {
		if p := &s.slots[i]; p.cancel != nil {
			s.report(Report{Kind: Counted, At: now, State: s.state, Run: p.run, Missed: s.missed(p, now)})
		}
	}
}
