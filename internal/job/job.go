// Package job answers: what is run, and what is the result?
//
// It defines the data types of a job and its runs: Spec, Run, Result and Tick. They are plain
// values that do not change once they are created. The package runs nothing and has no clock.
package job

import (
	"slices"
	"strings"
	"syscall"
	"time"

	"gophd/internal/schedule"
)

// Spec is a job as it is configured. A limit of 0 is no limit.
type Spec struct {
	Name string // identifies the lease, the log and the state files

	Exec
	Schedule
	Stop
	Retry
	Mail
	Output Output
}

// Mail is who gets the output of a run by mail, if it has one and goes through gophd.
type Mail struct {
	MailTo   string `json:",omitempty"` // the header To; "" is nobody
	MailFrom string `json:",omitempty"` // address of the sender; "" is the user of the command
}

// Exec is the command and its exec environment.
type Exec struct {
	Command  []string // executed argument by argument; never empty
	Dir      string   // absolute working directory of the command
	Env      []string // KEY=VALUE, each KEY once; they override gophd's own environment
	ClearEnv bool     // gophd's own environment is not passed on; then PATH is always in Env
	Stdin    string   // null, inherit, or the absolute path of a file; never empty
	// StdinText is the standard input instead, if it is not empty. Then Stdin is null.
	StdinText string   `json:",omitempty"`
	User      string   // USER or USER:GROUP, names or numbers; "" is gophd's own
	Umask     *int     // 0 to 0777; nil is gophd's own
	Nice      *int     // the niceness itself, -20 to 19, not a difference; nil is gophd's own
	Rlimits   []Rlimit // each Name once

	MemoryMax int64 // memory limit of a run with all its descendants, in bytes
	CPUMax    int   // CPU limit of them, in percent of one CPU
	TasksMax  int   // limit of their processes and threads
}

// Schedule is when runs start.
type Schedule struct {
	// Calendar has the due times of the job, by the wall clock. Then Interval is 0, and neither Once
	// nor Service is set. Nil means that there is no calendar.
	Calendar *schedule.Schedule `json:",omitempty"`
	// CatchUp is which due times run that no run could serve when they were due, those while gophd did not
	// run included. Those before CatchUpWindow are over, and those for which StartDeadline has passed.
	CatchUp       CatchUpPolicy
	CatchUpWindow time.Duration
	StartDeadline time.Duration // the latest start of a run after its due time
	// A run starts Splay after its due time, which differs between hosts and jobs, and up to Jitter later,
	// which differs between runs. Both are 0 without a calendar.
	Splay, Jitter time.Duration

	Interval   time.Duration // start to start on a fixed grid; 0 is back to back
	Once       bool          // run once, then exit
	RunAtStart bool          // the first tick is immediate, not one interval or due time later
	Overlap    OverlapPolicy // what happens when a tick is due during a run

	// Service restarts the command when it exits, at the earliest Interval after its start. It is
	// never set with Once.
	Service bool
	// MaxParallel is how many runs may be active at a time: at least 2 with OverlapAllow, otherwise
	// 1.
	MaxParallel int
}

// Cadence returns the schedule in a few words: once, as a service, back to back, every 5s, on 17 3 * * 1-5.
func (s Schedule) Cadence() string {
	switch {
	case s.Calendar != nil:
		return s.cadenceOfCalendar()
	case s.Once:
		return "once"
	case s.Service:
		return "as a service"
	case s.Interval == 0:
		return "back to back"
	}
	return "every " + FormatDuration(s.Interval)
}

// FormatDuration returns d as time.Duration.String does, without the zeros at its end: 1h and not 1h0m0s.
func FormatDuration(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-len(zero)+1]
		}
	}
	return text
}

// HasTicks reports whether runs are due at certain times, and not when another has ended or on request.
func (s Schedule) HasTicks() bool {
	if s.Calendar != nil {
		return s.Calendar.Kind() != schedule.Manual && s.Calendar.Kind() != schedule.Reboot
	}
	return s.Interval > 0 && !s.Once && !s.Service
}

func (s Schedule) cadenceOfCalendar() string {
	c := s.Calendar
	switch c.Kind() {
	case schedule.Manual:
		return "on request"
	case schedule.Reboot:
		return "at boot"
	}
	if c.Kind() == schedule.Every || c.Zone() == time.Local {
		return "on " + c.String()
	}
	return "on " + c.String() + " " + c.Zone().String()
}

// Stop is how a run is stopped, and what happens to processes that outlive it.
type Stop struct {
	Timeout     time.Duration    // a longer run is stopped, unless it asks for more time
	StopSignals []syscall.Signal // stop signals, sent one after the other; never empty, never KILL
	Grace       time.Duration    // time after each signal before the next, and finally KILL
	Escaped     EscapedPolicy    // what happens to escaped processes
	OnLeftover  LeftoverPolicy   // what happens to a leftover run
}

// Retry is the meaning of exit codes, and what happens after a failure.
type Retry struct {
	SuccessCodes []int         // exit codes that count as success; by default 0, see Judge
	FatalCodes   []int         // exit codes after which gophd re-execs, or exits
	RetryCodes   []int         // exit codes that are retried; empty is every failure
	Retries      int           // how many retries a failed run has within its tick
	RetryDelay   time.Duration // delay before the first retry; doubles with each

	// gophd exits when StartLimit runs that started within StartLimitInterval failed, with all
	// their retries.
	StartLimit         int
	StartLimitInterval time.Duration
}

// Output is where the output of a run goes: one of the policies below, or the absolute path of a
// file, which may lead to gophd's own stdout or stderr.
type Output string

// Rlimit is a resource limit in the units of getrlimit(2): bytes, seconds or a count.
type Rlimit struct {
	Name       string // lower case, as in getrlimit(2) after RLIMIT_
	Resource   int    // its number in the kernel
	Soft, Hard uint64 // math.MaxUint64 is unlimited
}

// OverlapPolicy is what happens to a tick that is due during a run.
type OverlapPolicy string

// The overlap policies.
const (
	// OverlapQueue runs the tick as soon as the run has ended. Several due ticks count as one.
	OverlapQueue OverlapPolicy = "queue"
	// OverlapSkip skips the tick.
	OverlapSkip OverlapPolicy = "skip"
	// OverlapReplace stops the run and then runs the tick.
	OverlapReplace OverlapPolicy = "replace"
	// OverlapAllow starts another run. The tick is skipped when Spec.MaxParallel runs are active.
	OverlapAllow OverlapPolicy = "allow"
)

// CatchUpPolicy is which of the due times run that were missed.
type CatchUpPolicy string

// The policies for missed due times.
const (
	CatchUpNone CatchUpPolicy = "none" // none of those while gophd did not run
	CatchUpOne  CatchUpPolicy = "one"  // the last one
	CatchUpAll  CatchUpPolicy = "all"  // each, one after the other
)

// EscapedPolicy is what happens to the descendants of a run that left its process group and
// outlived it.
type EscapedPolicy string

// The policies for escaped processes.
const (
	EscapedReport EscapedPolicy = "report" // they are logged, and continue
	EscapedKill   EscapedPolicy = "kill"   // they are logged, and stopped like a run
	EscapedIgnore EscapedPolicy = "ignore" // they are not logged, and continue
)

// LeftoverPolicy is what a start does when a run of the same job is left over from a gophd that was
// killed.
type LeftoverPolicy string

// The policies for leftover runs.
const (
	LeftoverWait   LeftoverPolicy = "wait"   // wait until it exits
	LeftoverKill   LeftoverPolicy = "kill"   // stop it like a run
	LeftoverRefuse LeftoverPolicy = "refuse" // do not start
)

// Inputs that are policies and not files.
const (
	StdinNull    = "null"    // /dev/null
	StdinInherit = "inherit" // gophd's own stdin
)

// Outputs that are policies and not files.
const (
	OutputLog       = "log"        // captured line by line into gophd's log
	OutputInherit   = "inherit"    // gophd's own stdout and stderr, untouched
	OutputDiscard   = "discard"    // /dev/null
	OutputOnFailure = "on-failure" // head and tail are buffered, and logged only if the run failed
)

// Run is one execution of the command that the loop asks for.
type Run struct {
	Number  uint64    // 1 for the first run of this daemon; continues after a re-exec
	Due     time.Time // its tick
	Slot    int       // index among overlapping runs, below Spec.MaxParallel; 0 without overlap
	Attempt int       // how many runs for the same tick failed before it, see Spec.Retries
	// Request is what has requested the run; nil for one of the schedule. Retries have it too.
	Request *Request `json:",omitempty"`
	Trigger Trigger  // why it was started; "" if that is not known
}

// Request is a request for a run.
type Request struct {
	ID   uint64   `json:",omitempty"` // finds the run in the events; 0 if nobody looks for it
	Args []string `json:",omitempty"` // are added to the command
}

// Same reports whether one run can serve both requests.
func (r *Request) Same(as *Request) bool { return slices.Equal(r.Args, as.Args) }

// Tick is one tick that was run: the result, and the ticks missed meanwhile.
type Tick struct {
	Result
	Missed   uint64 // ticks that were due during the run and got no run of their own
	Interval time.Duration
}

// Length returns the duration of the run.
func (r Result) Length() time.Duration { return r.Ended.Sub(r.Started) }

// Late reports whether a tick was due during the run.
func (t Tick) Late() bool { return t.Missed > 0 }
