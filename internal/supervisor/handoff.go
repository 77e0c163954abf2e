package supervisor

import (
	"context"
	"os"
	"slices"
	"syscall"
	"time"

	"gophd/internal/fault"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/line"
	"gophd/internal/logging"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/restart"
)

// JobState is the state of a job that the old process hands off to the new one. Descriptors are in
// the Handoff's Files.
type JobState struct {
	Name         string
	Grid         *restart.Grid `json:",omitempty"` // nil before the first loop
	Runs         []ActiveRun   `json:",omitempty"`
	RunRequested bool          `json:"Woken,omitempty"` // a run was requested, and is due after them
	Wait         *RunDelay     `json:",omitempty"`
	Escaped      []Pipe        `json:",omitempty"` // of processes that escaped from earlier runs

	Leftover      bool               // runs of a gophd that was killed may be active
	Local, Shared *heartbeat.Handoff `json:",omitempty"`
}

// Names of descriptors in the handoff.
const (
	localLock    = "heartbeat-local"
	notifySocket = "notify-socket"
)

// handOffTime is how long a claim may take to accept the request for its handoff.
const handOffTime = 5 * time.Second

// ActiveRun is an active run and its process.
type ActiveRun struct {
	Run     job.Run
	Started restart.Instant
	Ended   restart.Instant `json:",omitempty"` // end of the command, while others of its group are still active
	Missed  uint64          `json:",omitempty"` // see loop.ActiveRun
	PID     int
	Birth   uint64
	Cgroup  string `json:",omitempty"` // directory of its control group
	Pipes   []Pipe
	Kept    []byte          `json:",omitempty"` // output that is shown only if the run fails
	Limit   restart.Instant `json:",omitempty"` // if the run has moved it
	Status  string          `json:",omitempty"` // that it sent last
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
var stopCauses = map[string]error{"timeout": job.ErrTimeout, "overlap": job.ErrReplaced}

// RunDelay is a loop.Delay.
type RunDelay struct {
	Run    job.Run
	Until  restart.Instant
	Slowed time.Duration
}

// Pipe is a captured stream; File is the name of its descriptor in the handoff.
type Pipe struct {
	PID     int
	Number  int
	Rest    []byte          // this and the next two are a line.Rest
	Since   restart.Instant `json:",omitempty"`
	Written line.Part
	File    string
}

// PauseOutput stops reading the output and the messages of the runs: from here on the new process
// reads them. It returns the state of the job, and puts descriptors into files. Call HandOff after
// it.
func (s *Supervisor) PauseOutput(files map[string]*os.File) JobState {
	state := JobState{Name: s.spec.Name}
	if s.loopRun.loop != nil {
		g := s.loopRun.grid
		state.Grid = &restart.Grid{Anchor: restart.At(g.Anchor), Tick: g.Tick, Interval: g.Interval, Runs: g.Runs}
	} else if s.o.Resumed {
		state.Name, state.Grid = s.o.Handed.Name, s.o.Handed.Grid
	}
	if s.notices != nil {
		files[notifySocket] = s.notices.Leave() // later messages wait for the new process
		s.notices = nil
	}
	s.Logs((*logging.Log).Leave) // the new process writes the rest
	s.handOffRuns(&state, files)
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

// HandOff adds the lease to the state. It returns the instance id, "" without a lease, and the
// errors of renewals that failed. It blocks for the last renewals, some seconds at most.
func (s *Supervisor) HandOff(state *JobState, files map[string]*os.File) (instance string, failed []error) {
	handOff := func(c *lease.Claim) *heartbeat.Handoff {
		if !c.Begun() {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), handOffTime)
		defer cancel()
		over, err := c.HandOff(ctx, len(s.runner.handedOff) > 0)
		if err != nil { // the new process acquires the claim again
			failed = append(failed, err)
		} else {
			instance = over.ID
		}
		return &over
	}
	state.Shared = handOff(s.lease.Shared())
	if state.Shared != nil {
		fault.At("shared lease handed off")
	}
	state.Local = handOff(s.lease.Local())
	if state.Local != nil {
		fault.At("local lease handed off")
	}
	if lock := s.lease.Lock(); lock != nil { // whether a renewal failed or not
		if f := lock.Descriptor(); f != nil {
			files[localLock] = f
		}
	}
	return instance, failed
}

// HandedOff returns the processes of the runs that were handed off.
func (s *Supervisor) HandedOff() (left []*process.Process) {
	for _, at := range s.runner.handedOff {
		left = append(left, at.process)
	}
	return left
}

// Describe sets the fields of running that describe this job: its locks, and its shared lease.
func (s *Supervisor) Describe(running *preflight.Running) {
	s.call(func() {
		running.Serves = s.machine.looping
		if lock := s.lease.Lock(); lock != nil {
			running.Lock, running.Users = lease.FileID(lock.Descriptor()), lock.Users()
		}
		if l, ok := s.lease.Shared().Now(); ok {
			running.URL, running.Key, running.ID = s.o.Config.Heartbeat.URL, s.lease.Shared().Key, l.ID
			holding := []heartbeat.State{heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending}
			running.Holds = !l.Unproven && slices.Contains(holding, l.State)
		}
	})
}
