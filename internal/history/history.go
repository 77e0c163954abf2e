// Package history answers: which runs has a job had, and how did they end?
//
// A Writer reads the events of a running gophd and appends a record for each run to the file of its
// job, in a goroutine that no run waits for. Read returns the runs of such a file, also without a
// gophd that runs. A history is two files of about the same size: the newer records and, with the
// suffix .1, the older ones. A record is one line of JSON, and goes to its file whole, in one write(2)
// that may have several. Nothing is synced to disk: after a power failure the last runs may be missing.
//
// The package knows no job except by its name, and decides nothing about runs.
package history

import (
	"cmp"
	"strconv"
	"time"
	"unicode/utf8"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/procfs"
)

// Run is one run of a job, as programs read it. The names of its fields are stable. A field that does not
// apply is zero. Times are in UTC.
type Run struct {
	Job     string    `json:"job"`
	Number  uint64    `json:"run"`               // starts at 1 again when gophd does
	Attempt int       `json:"attempt,omitempty"` // how many runs for the same due time failed before it
	Due     time.Time `json:"due,omitzero"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"` // zero while it is active, and if it was interrupted

	Duration   *float64    `json:"duration_seconds,omitempty"` // once it has ended
	Outcome    Outcome     `json:"outcome,omitempty"`          // "" while it is active
	ExitCode   *int        `json:"exit_code,omitempty"`        // nil unless the command exited
	Signal     string      `json:"signal,omitempty"`           // that ended the command
	CoreDumped bool        `json:"core_dumped,omitempty"`
	Reason     string      `json:"reason,omitempty"` // why gophd stopped it, or could not start it
	Trigger    job.Trigger `json:"trigger,omitempty"`
	PID        int         `json:"pid,omitempty"`
	Missed     uint64      `json:"missed,omitempty"` // ticks that were due meanwhile and were skipped

	MaxRSS int64   `json:"max_rss_bytes,omitempty"` // of the largest process that the run waited for
	User   float64 `json:"cpu_user_seconds,omitempty"`
	System float64 `json:"cpu_system_seconds,omitempty"`
	Output string  `json:"output,omitempty"` // the end of what it wrote, if it failed and gophd captured that
}

// Outcome is a job.Ending, or Interrupted.
type Outcome string

// Interrupted is the outcome of a run whose gophd was killed: how it ended is not known.
const Interrupted Outcome = "interrupted"

// Success reports whether the run succeeded.
func (r Run) Success() bool { return r.Outcome == Outcome(job.EndingSuccess) }

// Failed reports whether the run failed. A run that is active, or that gophd stopped for a request, the
// next tick or the lease, has neither succeeded nor failed.
func (r Run) Failed() bool {
	switch job.Ending(r.Outcome) {
	case "", job.EndingSuccess, job.EndingStopped, job.EndingLeaseLost:
		return false
	}
	return true
}

// The types of records. Those of runs are the types of their events.
const (
	typeStarted = string(event.TypeRunStarted)
	typeEnded   = string(event.TypeRunEnded)
	typeLost    = "runs.lost"
)

// record is one line of a history.
type record struct {
	Time time.Time `json:"time"`
	Type string    `json:"type"`
	Run
	Gophd *procfs.Identity `json:"gophd,omitempty"` // typeStarted: by which the run was started
	Count uint64           `json:"count,omitempty"` // typeLost: of runs
}

// Cause describes how the run ended, in a few words: "exit code 3", "signal KILL". It adds the reason
// if there is one.
func (r Run) Cause() string {
	text := ""
	switch {
	case r.ExitCode != nil:
		text = "exit code " + strconv.Itoa(*r.ExitCode)
	case r.Signal != "":
		text = "signal " + r.Signal
		if r.CoreDumped {
			text += " (core dumped)"
		}
	}
	switch {
	case r.Reason == "":
		return text
	case text == "":
		return r.Reason
	}
	return text + ": " + r.Reason
}

// appendStarted appends the record of a run that is active.
func appendStarted(b []byte, name string, number uint64, run activeRun, gophd procfs.Identity) []byte {
	b = appendHead(b, time.Now(), typeStarted, name)
	b = appendRun(b, number, run.attempt, run.due, run.started)
	b = appendEnd(b, run.trigger, run.pid)
	b = append(b, `,"gophd":{"pid":`...)
	b = strconv.AppendInt(b, int64(gophd.PID), 10)
	if gophd.Start > 0 {
		b = append(b, `,"pidstart":`...)
		b = strconv.AppendUint(b, gophd.Start, 10)
	}
	b = appendText(b, "boot", gophd.Boot)
	b = appendText(b, "pidns", gophd.PIDNS)
	return append(b, "}}\n"...)
}

// appendEnded appends the record of a run that has ended. It does not allocate, except for unusual text:
// it is called by the goroutine of the run.
func appendEnded(b []byte, e event.Event, outcome job.Ending, started time.Time) []byte {
	t := e.Tick
	b = appendHead(b, e.Time, typeEnded, e.Job)
	b = appendRun(b, t.Number, t.Attempt, t.Due, started)
	b = appendTime(b, "ended", t.Ended)
	b = append(b, `,"duration_seconds":`...)
	b = appendSeconds(b, t.Length())
	b = appendText(b, "outcome", string(outcome))
	switch t.Outcome {
	case job.Exited:
		b = append(b, `,"exit_code":`...)
		b = strconv.AppendInt(b, int64(t.Code), 10)
	case job.Signaled:
		b = appendText(b, "signal", job.SignalName(t.Signal))
		if t.Core {
			b = append(b, `,"core_dumped":true`...)
		}
	}
	if why := cmp.Or(t.Cause, t.Err); why != nil {
		b = appendText(b, "reason", why.Error())
	}
	b = appendEnd(b, t.Trigger, t.PID)
	b = appendCount(b, "missed", t.Missed)
	b = appendCount(b, "max_rss_bytes", uint64(max(t.Usage.MaxRSS, 0)))
	b = appendCPU(b, "cpu_user_seconds", t.Usage.User)
	b = appendCPU(b, "cpu_system_seconds", t.Usage.System)
	b = appendText(b, "output", t.Output)
	return append(b, "}\n"...)
}

// appendLost appends the record of runs that are missing.
func appendLost(b []byte, name string, runs uint64) []byte {
	b = appendHead(b, time.Now(), typeLost, name)
	b = appendCount(b, "count", runs)
	return append(b, "}\n"...)
}

func appendHead(b []byte, at time.Time, kind, name string) []byte {
	b = append(b, `{"time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = appendText(b, "type", kind)
	return appendText(b, "job", name)
}

func appendRun(b []byte, number uint64, attempt int, due, started time.Time) []byte {
	b = append(b, `,"run":`...)
	b = strconv.AppendUint(b, number, 10)
	b = appendCount(b, "attempt", uint64(max(attempt, 0)))
	b = appendTime(b, "due", due)
	return appendTime(b, "started", started)
}

func appendEnd(b []byte, trigger job.Trigger, pid int) []byte {
	b = appendText(b, "trigger", string(trigger))
	return appendCount(b, "pid", uint64(max(pid, 0)))
}

func appendTime(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	b = append(appendName(b, name), '"')
	return append(t.UTC().AppendFormat(b, time.RFC3339Nano), '"')
}

func appendCount(b []byte, name string, n uint64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendUint(appendName(b, name), n, 10)
}

func appendCPU(b []byte, name string, d time.Duration) []byte {
	if d < time.Microsecond {
		return b
	}
	return appendSeconds(appendName(b, name), d)
}

// appendSeconds appends d with a precision of a microsecond.
func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(d.Microseconds())/1e6, 'f', -1, 64)
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

const hex = "0123456789abcdef"

// appendText appends a string. Bytes that are not UTF-8 are replaced: a command may write any.
func appendText(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	b = append(appendName(b, name), '"')
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(text[i:])
			b = utf8.AppendRune(b, r)
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}
