package api

import (
	"time"

	"gophd/internal/job"
	"gophd/internal/status"
)

// Status is the state of a daemon. In the shapes of this file a field that does not apply is omitted.
// Their names are stable; more may be added.
type Status struct {
	Daemon  string    `json:"daemon"`
	PID     int       `json:"pid"`
	State   string    `json:"state"` // starting, serving, validating, re-executing, draining or stopping
	Started time.Time `json:"started"`
	Version string    `json:"version"`
	Config  string    `json:"config,omitempty"` // path of the config file
	Log     string    `json:"log,omitempty"`    // path of the log file
	Jobs    []Job     `json:"jobs"`
}

// Job is the state of a job.
type Job struct {
	Name     string     `json:"name"`
	State    JobState   `json:"state"`
	Failed   string     `json:"failed,omitempty"` // why, if the state is failed
	Ended    bool       `json:"ended,omitempty"`  // by itself, as with once: then the state is stopped
	Schedule string     `json:"schedule"`
	NextRun  *time.Time `json:"next_run,omitempty"`
	Paused   bool       `json:"paused"`
	Skip     int        `json:"skip,omitempty"` // scheduled runs that are skipped next
	Running  []Run      `json:"running,omitempty"`
	Last     *Last      `json:"last,omitempty"`
	Runs     uint64     `json:"runs"` // that have ended
	Failures uint64     `json:"failures"`
	Late     uint64     `json:"late"`
	Missed   uint64     `json:"missed"` // ticks without a run of their own
	Interval float64    `json:"interval_seconds,omitempty"`
	Lengths  *Lengths   `json:"durations,omitempty"`
	Lease    *Lease     `json:"lease,omitempty"`
	Pending  bool       `json:"log_pending,omitempty"` // lines were taken that are not in the log yet
}

// JobState is what a job is doing.
type JobState string

// The states of a job.
const (
	Starting JobState = "starting" // it does not hold its lease yet
	Waiting  JobState = "waiting"  // for its next run
	Running  JobState = "running"
	Paused   JobState = "paused"   // no scheduled run starts
	Standby  JobState = "standby"  // another instance holds the lease
	Stopping JobState = "stopping" // no run follows the active one
	Stopped  JobState = "stopped"
	Failed   JobState = "failed" // it does not start again by itself
)

// Run is a run that is active.
type Run struct {
	Run     uint64    `json:"run"`
	PID     int       `json:"pid,omitempty"` // none while it is being started
	Started time.Time `json:"started"`

	Suspended *Suspended `json:"suspended,omitempty"`
}

// Suspended is a process of a run that a signal has suspended.
type Suspended struct {
	PID    int    `json:"pid"`
	Name   string `json:"name,omitempty"`   // if it is not the command itself
	Signal string `json:"signal,omitempty"` // STOP, TSTP, TTIN or TTOU, if it is known
}

// Last is the last run that has ended.
type Last struct {
	Run      uint64     `json:"run"`
	Outcome  job.Ending `json:"outcome"`
	ExitCode *int       `json:"exit_code,omitempty"`
	Started  time.Time  `json:"started"`
	Ended    time.Time  `json:"ended"`
	Length   float64    `json:"duration_seconds"`
	Text     string     `json:"text"` // the outcome as the log has it
}

// Lengths is how long the last runs took.
type Lengths struct {
	Runs int     `json:"runs"`
	P50  float64 `json:"p50_seconds"`
	P99  float64 `json:"p99_seconds"`
}

// Lease is the right to run the job.
type Lease struct {
	Store  string `json:"store"`
	State  string `json:"state"` // held, standby, seeking, ...
	Fence  uint64 `json:"fence,omitempty"`
	Holder string `json:"holder,omitempty"`
}

// Failure is the body of an answer with a code of 400 or more.
type Failure struct {
	Error string `json:"error"`
}

// statusOf returns a Snapshot in its shape.
func statusOf(s status.Snapshot) Status {
	all := Status{Daemon: s.Name, PID: s.PID, State: s.State, Started: s.Born.UTC().Round(time.Millisecond), Version: s.Version, Config: s.Config,
		Log: s.Log.File, Jobs: make([]Job, 0, len(s.Jobs))}
	for _, j := range s.Jobs {
		all.Jobs = append(all.Jobs, jobOf(j))
	}
	return all
}

func jobOf(j status.Job) Job {
	shape := Job{Name: j.Name, State: stateOf(j), Schedule: j.Schedule, Interval: j.Every.Seconds(),
		Pending: j.LogPending, Paused: j.Held == "paused", Ended: j.State == job.Done && j.Failed == "", Skip: j.Skip, Runs: j.Counts.Runs, Failures: j.Counts.Failures}
	shape.Late, shape.Missed = j.Late()
	if shape.State == Failed {
		shape.Failed = j.Failed
	}
	if !j.Next.IsZero() && j.Held != "stopped" {
		next := j.Next.UTC()
		shape.NextRun = &next
	}
	for _, r := range j.Active {
		run := Run{Run: r.Run.Number, PID: r.PID, Started: r.Since.UTC()}
		if by := r.Suspended; by.PID != 0 {
			run.Suspended = &Suspended{PID: by.PID, Name: by.Name}
			if by.By != 0 {
				run.Suspended.Signal = job.SignalName(by.By)
			}
		}
		shape.Running = append(shape.Running, run)
	}
	if l := j.Last; l != nil {
		shape.Last = &Last{Run: l.Run, Outcome: l.Outcome, ExitCode: l.ExitCode, Started: l.Started.UTC(), Ended: l.Ended.UTC(),
			Length: l.Length.Seconds(), Text: l.Text}
	}
	if l := j.Lengths; l.Of > 0 {
		shape.Lengths = &Lengths{Runs: l.Of, P50: l.P50.Seconds(), P99: l.P99.Seconds()}
	}
	if j.Lease.State != "" {
		shape.Lease = &Lease{Store: j.Lease.Store, State: j.Lease.State, Fence: j.Lease.Fence, Holder: j.Lease.Holder}
	}
	return shape
}

func stateOf(j status.Job) JobState {
	switch {
	case j.State == job.Draining, j.Held == "stopped" && len(j.Active) > 0:
		return Stopping
	case len(j.Active) > 0:
		return Running
	case j.Failed != "":
		return Failed
	case j.State == job.Done, j.Held == "stopped":
		return Stopped
	case j.Held == "paused":
		return Paused
	case j.Lease.State == "standby":
		return Standby
	case j.State == job.Waiting, j.State == job.Held, j.State == job.Running:
		return Waiting
	}
	return Starting
}
