// Package job answers: what do we run, and what came of it?
//
// It is the nouns of the program: Spec, Run, Result, Tick. They are plain values; nobody changes
// one after it was made. It runs nothing and knows no clock.
package job

import (
	"syscall"
	"time"
)

// Spec is a job as its owner described it. A limit that is 0 is none.
type Spec struct {
	Name string // keys the heartbeat, the log and the state

	Exec
	Schedule
	Stop
	Retry
	Output Output
}

// Exec is what is executed, and in what surroundings.
type Exec struct {
	Command  []string // executed argument by argument; never empty
	Dir      string   // absolute working directory of the command
	Env      []string // KEY=VALUE, each KEY once; they cover those of gophd's own environment
	ClearEnv bool     // gophd's own environment is not passed on; then PATH is always in Env
	Stdin    string   // null, inherit, or the absolute path of a file; never empty
	User     string   // USER or USER:GROUP, names or numbers; "" is gophd's own
	Umask    *int     // 0 to 0777; nil is gophd's own
	Nice     *int     // the niceness itself, -20 to 19, not a difference; nil is gophd's own
	Rlimits  []Rlimit // each Name once

	MemoryMax int64 // bytes that a run and all its descendants may use together
	CPUMax    int   // what they may use of the processors, in percent of one
	TasksMax  int   // how many processes and threads they may be
}

// Schedule is when runs start.
type Schedule struct {
	Interval    time.Duration // start to start on a fixed grid; 0 is back to back
	Once        bool          // one run, then the end
	Keep        bool          // a service: a run is expected to stay, and follows another at least Interval after its start; never with Once
	RunAtStart  bool          // the first tick is at once, not one interval later
	Overrun     Overrun       // what happens when a tick is due during a run
	MaxParallel int           // how many runs may be active at a time: 1, and at least 2 with OverrunOverlap
}

// Stop is how a run is stopped, and what happens to what outlives it.
type Stop struct {
	Timeout     time.Duration    // a run longer than this is stopped, unless it asks for more time
	StopSignals []syscall.Signal // what a run gets that is stopped, one after the other; never empty, never KILL
	Grace       time.Duration    // how long each of them is given, before the next and at last KILL
	Strays      Strays           // what happens to processes that outlive their run outside of its group
	OnOrphan    OnOrphan         // what happens to a run that outlived a gophd that was killed
}

// Retry is what an exit code means, and what follows a failure.
type Retry struct {
	SuccessCodes []int         // exit codes that are a success; the usual one is 0, see Judge
	FatalCodes   []int         // exit codes after which gophd replaces itself, or exits
	RetryCodes   []int         // exit codes that are retried; empty is every failure
	Retries      int           // how many more times a run that failed is tried within its tick
	RetryDelay   time.Duration // before the first of them; doubles with each

	StartLimit         int           // gophd gives up when so many runs failed, with all their retries, that were started within
	StartLimitInterval time.Duration // this time
}

// Output is where the output of a run goes: one of the policies below, or the absolute path of a file.
type Output string

// Rlimit is a resource limit in the units of getrlimit(2): bytes, seconds or a count.
type Rlimit struct {
	Name       string // lower case, as in the man page after RLIMIT_
	Resource   int    // the number that the kernel has for it
	Soft, Hard uint64 // math.MaxUint64 is unlimited
}

// Overrun is what happens to a tick that is due while a run is still going.
type Overrun string

// The rules of overrun.
const (
	OverrunRun     Overrun = "run"     // the late tick runs as soon as the run ends; all missed ticks count as one
	OverrunSkip    Overrun = "skip"    // the tick is dropped; the next grid point is awaited
	OverrunKill    Overrun = "kill"    // the run is stopped, and the due tick runs
	OverrunOverlap Overrun = "overlap" // another run starts beside it; the tick is dropped when Spec.MaxParallel are going on
)

// Strays is what happens to the descendants of a run that left its process group and outlived it.
type Strays string

// The rules for strays.
const (
	StraysReport Strays = "report" // they are logged and live on
	StraysKill   Strays = "kill"   // they are logged, and stopped as a run is
	StraysIgnore Strays = "ignore" // they live on, and nothing is said
)

// OnOrphan is what happens at start to a run of the same job whose gophd was killed.
type OnOrphan string

// The rules for orphans.
const (
	OrphanWait   OnOrphan = "wait"   // no tick is served before it ends
	OrphanKill   OnOrphan = "kill"   // it is stopped as a run is
	OrphanRefuse OnOrphan = "refuse" // gophd does not start
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
	OutputOnFailure = "on-failure" // kept while it runs, head and tail, and shown only if it failed
)

// Run is one execution of the command that the loop asks for.
type Run struct {
	Number uint64    // 1 for the first run of this daemon; kept across restarts
	Due    time.Time // the tick that it serves
	Place  int       // among the runs that go on at the same time, below Spec.MaxParallel; always 0 where they do not overlap
	Try    int       // how many runs for the same tick failed before it, see Spec.Retries
}

// Tick is one served tick: the run, what came of it, and what it cost the grid.
type Tick struct {
	Result
	Missed   uint64 // ticks that fell due during the run and were not served on their own
	Interval time.Duration
}

// Length is how long the run took.
func (r Result) Length() time.Duration { return r.Ended.Sub(r.Started) }

// Overran says that a tick was due while the run was still going.
func (t Tick) Overran() bool { return t.Missed > 0 }
