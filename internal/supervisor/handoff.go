package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"gophd/internal/job"
	"gophd/internal/line"
	"gophd/internal/logging"
	"gophd/internal/process"
	"gophd/internal/restart"
)

// JobState is the state of a job that the old process hands off to the new one. Descriptors are in
// the Handoff's Files.
type JobState struct {
	Name string
	ID   string // see Options
	// Added is when a reload added the job, which makes its GOPHD_RUN_IDs differ from those of an earlier
	// job of that name; 0 if the daemon has started with it.
	Added     restart.Instant `json:",omitempty"`
	Grid      *restart.Grid   `json:",omitempty"` // nil before the first loop
	Runs      []ActiveRun     `json:",omitempty"`
	Requested []*job.Request  `json:",omitempty"` // their runs are due after them
	Wait      *RunDelay       `json:",omitempty"`
	Steered   Steered
	Boot      string `json:",omitempty"` // this and Fence are of the jobfile.Position
	Fence     uint64 `json:",omitempty"`
	// Failures are the starts of the runs that failed in a row, for the start limit.
	Failures []restart.Instant `json:",omitempty"`
	Notify   string            `json:",omitempty"` // name of the notify socket's descriptor; "" for none

	// GaveUp is why no run starts any more, although some are active: a start limit, or a fatal exit
	// code. The job ends with them, also if it changes meanwhile.
	GaveUp string `json:",omitempty"`

	// Panicked is when gophd last panicked in one of several jobs, by the boot clock; 0 for never.
	Panicked time.Duration `json:",omitempty"`

	Over   bool   `json:",omitempty"` // the job has ended by itself; it starts again only if it changes
	Failed string `json:",omitempty"` // why, if it has failed
	// Removed is the job.Spec of a job that the config has no more; its runs may finish. It is decoded
	// by itself, because the new program may know other settings.
	Removed json.RawMessage `json:",omitempty"`
}

// Check returns what cannot be true in a state that was decoded.
func (g JobState) Check() error {
	if g.Grid != nil && g.Grid.Interval < 0 {
		return fmt.Errorf("its interval is %v", g.Grid.Interval)
	}
	for _, run := range g.Runs {
		if stop := run.Stop; stop != nil && (stop.Sent < 0 || stop.Sent >= max(len(stop.Signals), 1)) {
			return fmt.Errorf("run %d is at stop signal %d of %d", run.Run.Number, stop.Sent+1, len(stop.Signals))
		}
	}
	return nil
}

// ActiveRun is an active run and its process.
type ActiveRun struct {
	Run     job.Run
	Started restart.Instant
	Ended   restart.Instant `json:",omitempty"` // end of the command, while others of its group are still active
	Missed  uint64          `json:",omitempty"` // see loop.ActiveRun
	Late    restart.Instant `json:",omitempty"` // this and the next are a loop.Lateness
	LateGap time.Duration   `json:",omitempty"`
	PID     int
	Birth   uint64
	Cgroup  string `json:",omitempty"` // directory of its control group
	Pipes   []Pipe
	Kept    []byte          `json:",omitempty"` // output that is shown only if the run fails
	Tail    []byte          `json:",omitempty"` // the end of the output, for the result of a run that fails
	Limit   restart.Instant `json:",omitempty"` // if the run has moved it
	Status  string          `json:",omitempty"` // that it sent last
	Timeout time.Duration   `json:",omitempty"` // job.timeout when it was started
	Grace   time.Duration
	Signals []syscall.Signal `json:",omitempty"`
	Stop    *RunStop         `json:",omitempty"` // nil if it is not being stopped
	Escaped []int            `json:",omitempty"` // processes that escaped from it and are being stopped
}

// RunStop is a process.StopPlan.
type RunStop struct {
	Cause   string           `json:",omitempty"` // a key of stopCauses; "" if only escaped processes are being stopped
	Asked   restart.Instant  `json:",omitempty"`
	Signals []syscall.Signal `json:",omitempty"`
	Sent    int
	Grace   time.Duration
	Next    restart.Instant `json:",omitempty"`
	Kill    restart.Instant
}

// stopCauses are the causes of a stop that can be handed off, by name. A lease that ends is not one
// of them: no process could send the KILL in time during the re-exec.
var stopCauses = map[string]error{"timeout": job.ErrTimeout, "overlap": job.ErrReplaced, "request": job.ErrStopped}

// RunDelay is a loop.Delay.
type RunDelay struct {
	Run    job.Run
	Until  restart.Instant
	Slowed time.Duration
}

// Pipe is a captured stream; File is the name of its descriptor in the handoff.
type Pipe struct {
	Job     string // of the command
	PID     int
	Number  int
	Rest    []byte          // this and the next two are a line.Rest
	Since   restart.Instant `json:",omitempty"`
	Written line.Part
	File    string
}

// PauseOutput stops reading the output and the messages of the runs: from here on the new process
// reads them. It returns the state of the job, and puts descriptors into files.
func (s *Supervisor) PauseOutput(files map[string]*os.File) JobState {
	state := JobState{Name: s.spec.Name, ID: s.o.ID, Added: s.o.Handed.Added, Steered: s.steering.read()}
	last := s.now(time.Time{}, false)
	state.Boot, state.Fence = last.Boot, last.Fence
	if s.loopRun.loop != nil {
		g := s.loopRun.grid
		state.Grid = &restart.Grid{Runs: g.Runs, Anchor: restart.At(g.Anchor), Tick: g.Tick, Interval: g.Interval,
			Calendar: g.Calendar, Last: g.Last}
	} else if s.o.Handed.Name != "" {
		state.Name, state.Grid = s.o.Handed.Name, s.o.Handed.Grid
	}
	if f := s.notices.leave(); f != nil {
		state.Notify = "notify-socket-" + s.spec.Name
		files[state.Notify] = f // later messages wait for the new process
	}
	s.Logs((*logging.Log).Leave) // the new process writes the rest
	s.handOffRuns(&state, files)
	if err := s.loopError(); err != nil {
		state.GaveUp = err.Error()
	}
	return state
}

// LostOutput returns what the outputs of adopted runs have lost.
func (s *Supervisor) LostOutput() (lost []error) {
	for _, o := range s.runner.allOutlets() {
		if err := o.lost(); err != nil {
			lost = append(lost, err)
		}
	}
	return lost
}

// HandedOff returns the processes of the runs that were handed off.
func (s *Supervisor) HandedOff() (left []*process.Process) {
	for _, at := range s.runner.handedOff {
		left = append(left, at.process)
	}
	return left
}

// Looping returns true while runs are active, or may start.
func (s *Supervisor) Looping() (looping bool) {
	s.call(func() { looping = s.machine.looping })
	return looping
}
