package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"gophd/internal/job"
	"gophd/internal/jobfile"
	"gophd/internal/procfs"
	"gophd/internal/schedule"
)

// This file keeps the record of the job: whether it is paused, how many of its next runs are skipped, and the
// last due time of its calendar. The next gophd continues from it. It is in a file on this host, and with
// a lease in a shared store that keeps it for the next holder. A re-exec needs neither.
//
// The order is: the store, the file, the command. A run of a calendar starts when the store keeps its due time
// (gate.Shut), and when the file has it, if the disk answers (runStarts). So if this process dies:
//
//   - before the store keeps the due time: the next holder catches up with the due time.
//   - after that, and before the command is started: no other host runs it, and neither did this one. That is
//     the time of an answer of the store and a fork. The next gophd on this host runs it if the file does
//     not have it yet.
//   - during the run: it is not run again.
//
// An interval has no due times to catch up with.

// record is the record of the job, as it was kept last.
type record struct {
	schedule string // schedule.Schedule.ID of the job's calendar

	mu       sync.Mutex // guards the rest
	position jobfile.Position
	resumes  bool // the loop that is started next continues from position
	fresh    bool // the first lease of a new daemon was not held yet
	early    bool // something was requested while the lease was not held
	hangs    bool // the disk did not answer before the last run
	saving   *jobfile.Saving
}

var bootID = sync.OnceValue(func() string { return procfs.Self().Boot })

// now returns the record of this moment. last is the last due time that is over; zero for the one that
// is known. A job that is due at each boot is not over before its run is started.
func (s *Supervisor) now(last time.Time, started bool) jobfile.Record {
	r := &s.record
	r.mu.Lock()
	defer r.mu.Unlock()
	if due := s.loopRun.due.Load(); last.IsZero() && due != nil {
		last = *due
	}
	if c := s.spec.Calendar; c != nil && !last.IsZero() {
		r.position.Schedule, r.position.Due = r.schedule, last
		if c.Kind() != schedule.Reboot || started {
			r.position.Boot = bootID()
		}
	}
	if s.o.Shared {
		r.position.Fence = max(r.position.Fence, s.o.Lease.Fence())
	}
	now := s.steering.read()
	return jobfile.Record{Requested: jobfile.Requested{Paused: now.Paused, Skip: now.Skip}, Position: r.position}
}

// saveRecord writes the record of this moment to the file, and makes the store keep it. It does not block.
func (s *Supervisor) saveRecord(started bool) *jobfile.Saving {
	now := s.now(time.Time{}, started)
	s.keep(now)
	if s.o.RecordPath == "" {
		return nil
	}
	saving := s.o.Records.Save(s.o.RecordPath, now)
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	s.record.saving = saving
	return saving
}

// keep makes the store of the lease keep a record for the next holder; see lease.Lease.Keep. The boot is one of
// this host.
func (s *Supervisor) keep(r jobfile.Record) <-chan struct{} {
	if !s.o.Shared {
		return nil
	}
	r.Boot = ""
	text, err := json.Marshal(r)
	if err != nil { // the year is after 9999
		return nil
	}
	return s.o.Lease.Keep(s.spec.Name, text)
}

// keepDue makes the store of the lease keep the last due time that is over when a run starts. It returns nil
// if the run may start, and otherwise a channel that is closed when it is worth asking again.
func (s *Supervisor) keepDue(last time.Time) <-chan struct{} {
	if !s.o.Shared || s.spec.Calendar == nil {
		return nil
	}
	return s.keep(s.now(last, false))
}

// runStarts is called before a run is started. It waits until the file has the last due time, as long as
// the disk answers.
func (s *Supervisor) runStarts() {
	if s.spec.Calendar == nil {
		return
	}
	err := s.saveRecord(true).Wait() // why it was not written is an event of the writer
	s.record.mu.Lock()
	reported := s.record.hangs
	s.record.hangs = jobfile.Hangs(err)
	report := s.record.hangs && !reported
	s.record.mu.Unlock()
	if report {
		s.problem(fmt.Errorf("%w: after a restart a run may be missing, or start twice", err))
	}
}

// AwaitRecord waits until the file has what was requested last, as long as the disk answers. It returns why it
// does not have it.
func (s *Supervisor) AwaitRecord() error {
	s.record.mu.Lock()
	saving := s.record.saving
	s.record.mu.Unlock()
	return saving.Wait()
}

// takeOver continues from the record of the last holder, if that may have been another instance. That of this
// host counts unless the lease was held elsewhere since. It blocks for a second at most.
func (s *Supervisor) takeOver() {
	r := &s.record
	took, is := s.loopRun.gate.takenOver()
	r.mu.Lock()
	is, r.fresh = is || r.fresh, false
	r.mu.Unlock()
	if !is {
		return
	}
	last, elsewhere := s.lastRecord()
	r.mu.Lock()
	early := r.early
	r.position, r.resumes, r.early = last.Position, s.loopRun.loop == nil, false
	r.mu.Unlock()
	before, now := s.steering.change(func(now *Steered) {
		if !early {
			now.Paused, now.Skip = last.Paused, last.Skip
		}
	})
	if before != now && (s.loopRun.loop != nil || s.o.Handed.Name != "" || now == Steered{}) { // otherwise the start of the loop does
		s.publish(now.Event(s.spec.Name))
	}
	if l := s.loopRun.loop; l != nil {
		due := s.loopRun.due.Load()
		if r.schedule != "" && last.Schedule == r.schedule && (due == nil || last.Due.After(*due)) {
			s.loopRun.due.Store(&last.Due)
			l.Served(last.Due)
		}
		l.Skip(now.Skip)
		l.Pause(now.holds())
	}
	s.loopRun.gate.resume(took)
	if early || elsewhere || s.loopRun.loop != nil {
		s.saveRecord(false)
	}
}

// lastRecord returns the record of the last holder, and whether that is the one that the store has kept.
func (s *Supervisor) lastRecord() (last jobfile.Record, elsewhere bool) {
	s.record.mu.Lock()
	last.Position = s.record.position
	s.record.mu.Unlock()
	now := s.steering.read()
	last.Paused, last.Skip = now.Paused, now.Skip
	if s.o.RecordPath != "" {
		if file, err := s.o.Records.Read(s.o.RecordPath); err == nil {
			last = file
		} else if !s.o.Fresh { // the start has warned
			s.problem(err)
		}
	}
	var kept jobfile.Record
	if err := json.Unmarshal(s.o.Lease.Kept(s.spec.Name), &kept); err != nil || kept.Skip < 0 {
		kept = jobfile.Record{}
	}
	if kept.Fence > last.Fence {
		kept.Boot = last.Boot
		return kept, true
	}
	if last.Boot != bootID() && last.Schedule == kept.Schedule && kept.Due.After(last.Due) {
		last.Due = kept.Due // the machine has crashed, and the file was not synced
	}
	return last, false
}

// resumeCalendar returns since when due times count that are over, and whether a job that is due at each
// boot is due now. Neither applies to a job that a re-exec or a reload has started.
func (s *Supervisor) resumeCalendar() (since time.Time, booted bool) {
	s.record.mu.Lock()
	if c := s.spec.Calendar; !s.o.Fresh && s.o.Handed.Name == "" && c != nil && c.Kind() == schedule.Reboot {
		s.record.position.Boot = bootID() // a job that a reload adds: the next start is no boot either
	}
	last, resumes := s.record.position, s.record.resumes
	s.record.resumes = false
	s.record.mu.Unlock()
	if !resumes || s.spec.Calendar == nil {
		return time.Time{}, false
	}
	booted = last.Boot != bootID() || s.o.Fresh && (os.Getpid() == 1 || bootID() == "")
	if last.Schedule != s.record.schedule {
		return time.Time{}, booted // they are those of another schedule
	}
	since, now := last.Due, time.Now()
	if oldest := now.Add(-s.spec.CatchUpWindow); s.spec.CatchUpWindow > 0 && since.Before(oldest) {
		since = oldest
	}
	switch s.spec.CatchUp {
	case job.CatchUpNone:
		since = now
	case job.CatchUpOne:
		since = beforeLast(s.spec.Calendar, since, now)
	}
	s.reportMissed(last.Due, since)
	return since, booted
}

// beforeLast returns an instant from since on, after which the last due time up to now is the only one, if there is
// one at all. It does not walk: a job that is due each second may have missed millions.
func beforeLast(c *schedule.Schedule, since, now time.Time) time.Time {
	missed := func(after time.Time) bool {
		due, ok := c.Next(after)
		return ok && !due.After(now)
	}
	if !missed(since) {
		return since
	}
	for over := now; over.Sub(since) > 1; { // one is due after since, and none after over
		if middle := since.Add(over.Sub(since) / 2); missed(middle) {
			since = middle
		} else {
			over = middle
		}
	}
	return since
}

// maxMissed is how many due times are counted that were missed before a start.
const maxMissed = 10_000

// reportMissed reports the due times between two instants, which are not caught up.
func (s *Supervisor) reportMissed(after, until time.Time) {
	n, last, why := uint64(0), time.Time{}, notRunning
	for due, ok := s.spec.Calendar.Next(after); ok && !due.After(until) && n < maxMissed; due, ok = s.spec.Calendar.Next(due) {
		n, last = n+1, due
	}
	if n == maxMissed {
		why += ", and perhaps more"
	}
	if n > 0 {
		s.missed(job.Run{}, last, n, job.MissedNotRunning, why)
	}
}
