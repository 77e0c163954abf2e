// Package job answers: what do we run, and what came of it?
//
// It is the nouns of the program: Spec, Run, Result, Tick. They are plain values; nobody changes
// one after it was made. It runs nothing and knows no clock.
package job

import (
	"time"
)

// Spec is a job as its owner described it: a name, a command, a schedule and its policies.
type Spec struct {
	Name string // keys the heartbeat, the log and the state

	Command []string // executed argument by argument; never empty
	Dir     string   // absolute working directory of the command
	Env     []string // KEY=VALUE, added to gophd's own environment by Section keys of the config

	Interval   time.Duration // start to start on a fixed grid; 0 is back to back
	Once       bool          // one run, then the end
	RunAtStart bool          // the first tick is at once, not one interval later
	Overrun    Overrun       // what happens when a tick is due during a run

	Timeout time.Duration // a run longer than this is stopped; 0 is no limit
	Grace   time.Duration // from TERM to KILL when a run is stopped

	Output string // log, inherit, discard, or the absolute path of a file; never empty
}

// Overrun is what happens to a tick that is due while a run is still going.
type Overrun string

// The rules of overrun.
const (
	OverrunRun  Overrun = "run"  // the late tick runs as soon as the run ends; all missed ticks count as one
	OverrunSkip Overrun = "skip" // the tick is dropped; the next grid point is awaited
	OverrunKill Overrun = "kill" // the run is stopped, and the due tick runs
)

// Outputs that are policies and not files; see Spec.Output.
const (
	OutputLog     = "log"     // captured line by line into gophd's log
	OutputInherit = "inherit" // gophd's own stdout and stderr, untouched
	OutputDiscard = "discard" // /dev/null
)

// Run is one execution of the command that the loop asks for.
type Run struct {
	Number uint64    // 1 for the first run of this daemon; kept across restarts
	Due    time.Time // the tick that it serves
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
