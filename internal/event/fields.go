package event

import (
	"time"

	"gophd/internal/job"
)

// field is a field that programs read: in the JSON log, later in the API.
type field struct {
	name, meaning string
	value         func(Event) any // returns nil if the event does not have the field
}

// fields lists all fields. Their names are stable.
var fields = [...]field{
	{"run", "number of the run", func(e Event) any { return unlessZero(e.Tick.Number) }},
	{"attempt", "how many runs for the same due time failed before it",
		func(e Event) any { return unlessZero(e.Tick.Attempt) }},
	{"due", "when the run was due", func(e Event) any {
		if e.Tick.Due.IsZero() {
			return nil
		}
		return e.Tick.Due.Format(time.RFC3339Nano)
	}},
	{"request", "of the API that has requested the run",
		func(e Event) any {
			if e.Tick.Request == nil {
				return nil
			}
			return unlessZero(e.Tick.Request.ID)
		}},
	{"run_pid", "process of the run", func(e Event) any { return unlessZero(e.Tick.PID) }},
	{"outcome", "success, failure, timeout, stopped, killed, start_error or lease_lost: see [api.md](api.md)",
		func(e Event) any {
			if e.Tick.Outcome == 0 {
				return nil
			}
			return string(e.Tick.Ending())
		}},
	{"exit_code", "exit code of the command", func(e Event) any {
		if e.Tick.Outcome != job.Exited {
			return nil
		}
		return e.Tick.Code
	}},
	{"signal", "signal that ended the command", func(e Event) any {
		if e.Tick.Outcome != job.Signaled {
			return nil
		}
		return job.SignalName(e.Tick.Signal)
	}},
	{"duration_seconds", "duration of the run, or of what the message is about, so far", func(e Event) any {
		if e.Tick.Outcome != 0 {
			return e.Tick.Length().Seconds()
		}
		return unlessZero(e.Duration.Seconds())
	}},
	{"missed", "ticks that were due meanwhile and were skipped",
		func(e Event) any { return unlessZero(e.Tick.Missed) }},
	{"process_pid", "a process that is not the run's own", func(e Event) any { return unlessZero(e.Process.PID) }},
	{"process_name", "its name", func(e Event) any { return unlessZero(e.Process.Name) }},
	{"store", "URL of the lease's store", func(e Event) any { return unlessZero(e.Lease.Store) }},
	{"fencing_token", "of the lease", func(e Event) any { return unlessZero(e.Lease.Fence) }},
	{"holder", "the instance that holds the lease", func(e Event) any { return unlessZero(e.Lease.Holder) }},
	{"state", "of the daemon, or of the job", func(e Event) any { return unlessZero(e.State) }},
	{"count", "how many the message is about", func(e Event) any { return unlessZero(e.Count) }},
	{"reason", "why", func(e Event) any {
		switch {
		case e.Err != nil:
			return e.Err.Error()
		case e.Tick.Cause != nil:
			return e.Tick.Cause.Error()
		case e.Tick.Err != nil:
			return e.Tick.Err.Error()
		case e.Missed != "":
			return string(e.Missed)
		}
		return nil
	}},
	{"stack", "stack of the goroutine that panicked", func(e Event) any { return unlessZero(e.Stack()) }},
}

// Fields calls yield with the name and value of each field of the event, except type, time, level,
// job and message.
func (e Event) Fields(yield func(name string, value any)) {
	for _, f := range fields {
		if v := f.value(e); v != nil {
			yield(f.name, v)
		}
	}
}

func unlessZero[T comparable](v T) any {
	if v == *new(T) {
		return nil
	}
	return v
}
