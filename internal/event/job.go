package event

import (
	"fmt"
	"strings"
	"time"

	"gophd/internal/job"
)

// The types of events about a job as a whole.
const (
	TypeJobServing    Type = "job.serving"
	TypeJobFailed     Type = "job.failed"
	TypeJobSteered    Type = "job.steered"
	TypeJobRecovers   Type = "job.recovers"
	TypeJobAdded      Type = "job.added"
	TypeJobRemoved    Type = "job.removed"
	TypeJobChanged    Type = "job.changed"
	TypeJobsUnchanged Type = "jobs.unchanged"
)

// JobServing says that runs may start. The message has the schedule.
func JobServing(name, schedule string) Event {
	return Event{Type: TypeJobServing, Level: Info, Job: name, Text: schedule, message: func(e Event) string {
		return fmt.Sprintf("%s runs %s", e.Job, e.Text)
	}}
}

// JobScheduled is JobServing for one of several jobs, whose log lines begin with its name.
func JobScheduled(name, schedule string) Event {
	return Event{Type: TypeJobServing, Level: Info, Job: name, Text: schedule, message: func(e Event) string {
		return "runs " + e.Text
	}}
}

// JobFailed says that no run of the job will start any more. The message says why.
func JobFailed(name string, err error) Event {
	return Event{Type: TypeJobFailed, Level: Error, Job: name, Err: err, message: func(e Event) string { return e.Err.Error() }}
}

// JobSteered says what was requested for the runs of a job: that it is paused or stopped, or that its next
// ticks are skipped; or none of it any more. The field count is the number of ticks.
func JobSteered(name string, paused, stopped bool, skip int) Event {
	state := "active"
	switch {
	case stopped:
		state = "stopped"
	case paused:
		state = "paused"
	}
	return Event{Type: TypeJobSteered, Level: Info, Job: name, State: state, Count: uint64(skip), message: func(e Event) string {
		text := "the job is " + e.State + ": no run starts by itself"
		if e.State == "active" {
			text = "the job is active"
		}
		switch {
		case e.Count == 1:
			text += "; the next scheduled run is skipped"
		case e.Count > 1:
			text += fmt.Sprintf("; the next %d scheduled runs are skipped", e.Count)
		}
		return text
	}}
}

// JobRecovers says that gophd panicked in one of several jobs, and when it will re-exec to start that
// job again.
func JobRecovers(name string, wait time.Duration) Event {
	return Event{Type: TypeJobRecovers, Level: Warn, Job: name, Duration: wait.Round(time.Millisecond), message: func(e Event) string {
		return fmt.Sprintf("gophd panicked: re-executing in %s to start this job again", job.FormatDuration(e.Duration))
	}}
}

// JobAdded says that a reload has added the job.
func JobAdded(name string) Event {
	return Event{Type: TypeJobAdded, Level: Info, Job: name, Text: "added"}
}

// JobRemoved says that a reload has removed the job. The message says if a run is still active.
func JobRemoved(name string, active bool) Event {
	text := "removed"
	if active {
		text = "removed; its run may finish"
	}
	return Event{Type: TypeJobRemoved, Level: Info, Job: name, Text: text}
}

// JobChanged says that a reload has changed the job. The message lists the settings. Those of a
// service apply when it is started again.
func JobChanged(name string, settings []string, service bool) Event {
	return Event{Type: TypeJobChanged, Level: Info, Job: name, Count: uint64(len(settings)),
		Text: strings.Join(settings, ", "), message: func(e Event) string {
			if service {
				return "changed " + e.Text + ", takes effect at its next start"
			}
			return "changed " + e.Text + ", takes effect from its next run"
		}}
}

// JobsUnchanged says how many jobs a reload has not changed. Events of their own name the others.
func JobsUnchanged(n int) Event {
	return Event{Type: TypeJobsUnchanged, Level: Info, Count: uint64(n), message: func(e Event) string {
		if e.Count == 1 {
			return "1 job unchanged"
		}
		return fmt.Sprintf("%d jobs unchanged", e.Count)
	}}
}
