package status

import (
	"gophd/internal/event"
	"gophd/internal/job"
)

// Read updates the board with an event. It is a reader of event.Stream.
func (b *Board) Read(e event.Event) {
	switch e.Type {
	case event.TypeState:
		b.Update(func(s *Snapshot) { s.State = e.State })
	case event.TypeJobState:
		b.Job(e.Job, func(j *Job) {
			j.State, j.Next = e.JobState, e.Next
		})
		if e.JobState == job.Running && e.Tick.Number > 0 {
			b.runStarted(e.Job, ActiveRun{Run: e.Tick.Run, Since: e.Tick.Started})
		}
	case event.TypeRunStarted, event.TypeRunAdopted:
		b.runStarted(e.Job, ActiveRun{Run: e.Tick.Run, PID: e.Tick.PID, Since: e.Tick.Started})
	case event.TypeRunLate, event.TypeTicksMissed:
		b.active(e.Job, e.Tick.Number, func(r *ActiveRun) { r.Missed = e.Tick.Missed })
	case event.TypeRunSuspended:
		b.active(e.Job, e.Tick.Number, func(r *ActiveRun) { r.Suspended = suspended(e) })
	case event.TypeRunContinued:
		b.active(e.Job, e.Tick.Number, func(r *ActiveRun) { r.Suspended = Suspended{} })
	case event.TypeRunStatus:
		b.statusSent(e.Job, e.Tick.Number, e.Text)
	case event.TypeTicksSkipped:
		b.Job(e.Job, func(j *Job) { j.Counts.Missed += e.Tick.Missed })
		b.active(e.Job, e.Tick.Number, func(r *ActiveRun) { r.Missed = 0 })
	case event.TypeJobFailed:
		b.Job(e.Job, func(j *Job) { j.Failed = e.Err.Error() })
	case event.TypeRunMissed:
		if e.Missed == job.MissedSkipped {
			b.Job(e.Job, func(j *Job) {
				j.Counts.Missed += e.Tick.Missed
				j.Skip = int(e.Count)
			})
		}
	case event.TypeJobSteered:
		b.Job(e.Job, func(j *Job) { j.Held, j.Skip = e.State, int(e.Count) })
	case event.TypeRunEnded:
		b.runEnded(e.Job, e.Tick)
	}
}

// suspended returns the process that the event is about.
func suspended(e event.Event) Suspended {
	if e.Process.PID != 0 {
		return Suspended{PID: e.Process.PID, Name: e.Process.Name, By: e.Tick.Signal}
	}
	return Suspended{PID: e.Tick.PID, By: e.Tick.Signal}
}
