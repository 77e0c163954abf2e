package supervisor

import (
	"fmt"
	"sync"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/loop"
)

// misses gathers the due runs that do not happen for the same reason: the first of them has an event at once,
// and those that follow have one together, at intervals that grow and at the end.
type misses struct {
	mu   sync.Mutex
	why  job.Missed // "" before the first
	text string
	due  time.Time     // of the last one
	runs uint64        // without an event yet
	next time.Time     // of the next event
	gap  time.Duration // from there to the one after it
}

// The time between two events about due runs that do not happen for the same reason.
const (
	missedGapMin = time.Minute
	missedGapMax = time.Hour
)

// add returns the events about runs that do not happen; text completes why.
func (m *misses) add(name string, due time.Time, runs uint64, why job.Missed, text string) (events []event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.why != why {
		events = m.flush(name)
		m.why, m.next, m.gap = why, now, missedGapMin
	}
	m.text, m.due = text, due
	if m.runs += runs; !now.Before(m.next) {
		events = append(events, m.flush(name)...)
		m.next, m.gap = now.Add(m.gap), min(2*m.gap, missedGapMax)
	}
	return events
}

// end returns the event about those that have none yet, if their reason ends: no more follow for now.
func (m *misses) end(name string, ends func(job.Missed) bool) (events []event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why == "" || !ends(m.why) {
		return nil
	}
	events = m.flush(name)
	m.why = ""
	return events
}

func (m *misses) flush(name string) []event.Event {
	if m.runs == 0 {
		return nil
	}
	e := event.RunMissed(name, m.due, m.runs, m.why, m.text)
	m.runs = 0
	return []event.Event{e}
}

// missed reports runs that were due and do not happen. run is the one that prevents them, if there is one.
func (s *Supervisor) missed(run job.Run, due time.Time, runs uint64, why job.Missed, text string) {
	s.publish(event.TicksSkipped(s.spec.Name, run, runs))
	for _, e := range s.misses.add(s.spec.Name, due, runs, why, text) {
		s.publish(e)
	}
}

func (s *Supervisor) missedEnd(ends func(job.Missed) bool) {
	for _, e := range s.misses.end(s.spec.Name, ends) {
		s.publish(e)
	}
}

func byOverlap(why job.Missed) bool    { return why == job.MissedOverlap }
func notByOverlap(why job.Missed) bool { return why != job.MissedOverlap }
func anyReason(job.Missed) bool        { return true }

// dropped reports what the loop has dropped.
func (s *Supervisor) dropped(rep loop.Report) {
	text := "no run could start within job.start_deadline"
	switch rep.Why {
	case job.MissedElsewhere:
		text = "another instance held the lease"
	case job.MissedClock:
		text = "the clock was set forward"
	}
	s.missed(job.Run{}, rep.Run.Due, rep.Missed, rep.Why, text)
}

// missedBefore reports the ticks before a run that starts, which no run serves.
func (s *Supervisor) missedBefore(rep loop.Report, held shutBy) {
	why, text := job.MissedLate, "gophd was too late for them: the machine was suspended, or busy"
	switch {
	case rep.Run.Trigger == job.TriggerCatchUp:
		why, text = job.MissedNotRunning, notRunning
	case held == shutByPlace:
		why, text = job.MissedMaxRunning, "as many runs as config.max_running allows were active"
	case held == shutByLease:
		why, text = job.MissedLease, "the lease did not allow a run"
	case held == shutByStore:
		why, text = job.MissedLease, "the store of the lease did not answer"
	}
	s.missed(rep.Run, rep.Run.Due, rep.Missed, why, text)
}

const notRunning = "gophd did not run when they were due"

// missedDuring reports the ticks that were due during a run that has ended.
func (s *Supervisor) missedDuring(rep loop.Report) {
	if rep.Tick.Missed > 0 {
		s.missed(rep.Run, rep.Grid.Last, rep.Tick.Missed, job.MissedOverlap, fmt.Sprintf("run %d was active", rep.Run.Number))
		return
	}
	s.missedEnd(byOverlap)
}
