// Package event answers: what does gophd report about itself, and in which words?
//
// An Event is a plain value. Its constructors (daemon.go, run.go, lease.go) define type, level,
// message and fields. All of gophd's own log lines are events. A Stream passes each event to its
// readers: the log, the status board. An event is made without allocation, and its text only when a
// reader needs it.
package event

import (
	"errors"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

// Type names a kind of event, as in "run.ended". It is stable: programs that read the log match it.
type Type string

// Level is the importance of an event to the reader of the log.
type Level uint8

// The levels. Always is for events that were requested, which no log level hides. Never is for
// events that only readers other than the log need.
const (
	Never Level = iota
	Debug
	Info
	Warn
	Error
	Always
)

// Event is one thing that happened. Fields that do not belong to its Type are zero.
type Event struct {
	Type  Type
	Level Level
	Time  time.Time // set by Stream.Publish

	// Repeat is not empty if the event may repeat many times a second. A reader may suppress most
	// events with the same Repeat, if it counts them.
	Repeat string

	Job          string
	Tick         job.Tick  // what is known about the run
	Next         time.Time // JobState: the next tick, zero if none is scheduled
	JobState     job.State // JobState
	Process      Process
	KeepsRunning bool // ProcessEscaped: gophd does not stop it
	Lease        Lease
	State        string // of the daemon
	Count        uint64
	Duration     time.Duration
	Missed       job.Missed // RunMissed
	Err          error
	Text         string
	Dump         []Variable // TypeDump

	message func(Event) string
}

// Variable is one line of a dump.
type Variable struct{ Name, Text string }

// Process is a process that is not the leader of a run.
type Process struct {
	PID  int
	Name string
}

// Lease is a claim of the job's lease: the local lock or the shared heartbeat.
type Lease struct {
	Store  string // its URL, without secrets
	Fence  uint64 // fencing token; 0 if there is none yet
	Holder string // the other instance that holds it
}

// Message returns the event in one sentence.
func (e Event) Message() string {
	if e.message == nil {
		return e.Text
	}
	return e.message(e)
}

// Failure reports whether something failed: an error, or a failed run. With config.quiet only these
// are printed.
func (e Event) Failure() bool {
	return e.Level == Error || e.Type == TypeRunsFailed || e.Type == TypeRunEnded && e.Level == Warn && e.Tick.Failed()
}

// Stack returns the stack of a panic; "" for any other event.
func (e Event) Stack() string {
	if p := (*goroutine.Panic)(nil); e.Type == TypeFatal && errors.As(e.Err, &p) {
		return string(p.Stack)
	}
	return ""
}

// Stream passes events to its readers.
type Stream struct{ readers []func(Event) }

// NewStream returns a Stream with those readers. They are called in this order, by the goroutine
// that publishes, so they must not block and must be safe for concurrent use.
func NewStream(readers ...func(Event)) *Stream { return &Stream{readers} }

// Publish passes e to every reader. It may be called from any goroutine.
func (s *Stream) Publish(e Event) {
	e.Time = time.Now()
	for _, read := range s.readers {
		read(e)
	}
}

// because returns the reason as the end of a message, or nothing if there is none.
func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}
