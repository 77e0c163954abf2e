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
	"gophd/internal/logging"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/restart"
)

// JobState is where a job stands: what the old process hands off to the new one. Descriptors are in
// the Handoff's Files.
type JobState struct {
	Name    string
	Grid    *restart.Grid `json:",omitempty"` // nil before the first loop
	Runs    []ActiveRun   `json:",omitempty"`
	Woken   bool          `json:",omitempty"` // a run was requested during them, and is due after
	Wait    *RunWait      `json:",omitempty"`
	Escaped []Pipe        `json:",omitempty"` // of processes that escaped from earlier runs

	Leftover      bool                // runs of a gophd that was killed may be active
	Local, Shared *heartbeat.Handover `json:",omitempty"`
}

// Names of descriptors in the handoff.
const (
	localLock    = "heartbeat-local"
	notifySocket = "notify-socket"
)

// handOffTime is how long the last renewal of a claim may take.
const handOffTime = 5 * time.Second

// ActiveRun is a run that is under way, and its process.
type ActiveRun struct {
	Run     job.Run
	Started restart.Instant
	Ended   restart.Instant `json:",omitempty"` // of the command, while others of its group are still active
	Missed  uint64          `json:",omitempty"` // see loop.Going
	PID     int
	Birth   uint64
	Cgroup  string `json:",omitempty"` // directory of its control group
	Pipes   []Pipe
	Kept    []byte          `json:",omitempty"` // of the output that is shown only if it fails
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

// stopCauses are why a run may be stopped that is handed off, by name. A lease that ends is none: nobody
// could send the KILL in time meanwhile.
var stopCauses = map[string]error{"timeout": job.ErrTimeout, "overlap": job.ErrOverrun}

// RunWait is a loop.Wait.
type RunWait struct {
	Run    job.Run
	Until  restart.Instant
	Slowed time.Duration
}

// Pipe is a captured stream; File is the name of its descriptor in the handoff.
type Pipe struct {
	PID    int
	Number int
	Rest   []byte
	File   string
}

// Silence stops reading the output of the runs and their messages: from here on the new process reads
// them. It returns where the job stands, and puts descriptors into files. Call HandOff after it.
func (s *Supervisor) Silence(files map[string]*os.File) JobState {
	state := JobState{Name: s.spec.Name}
	if s.turning.loop != nil {
		g := s.turning.grid
		state.Grid = &restart.Grid{Anchor: restart.At(g.Anchor), Tick: g.Tick, Interval: g.Interval, Runs: g.Runs}
	} else if s.o.Resumed {
		state.Name, state.Grid = s.o.Handed.Name, s.o.Handed.Grid
	}
	if s.notices != nil {
		files[notifySocket] = s.notices.Leave() // what comes now waits for the new process
		s.notices = nil
	}
	s.Logs((*logging.Log).Leave) // the new process writes what they have not written
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

// HandOff adds the lease to the state, and returns the instance id, "" without a lease, and what could
// not be renewed. It blocks for the last renewals, some seconds at most.
func (s *Supervisor) HandOff(state *JobState, files map[string]*os.File) (instance string, failed []error) {
	handOff := func(c *lease.Claim) *heartbeat.Handover {
		if !c.Begun() {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), handOffTime)
		defer cancel()
		over, err := c.HandOff(ctx, len(s.runner.left) > 0)
		if err != nil { // the new process acquires the claim again
			failed = append(failed, err)
		} else {
			instance = over.ID
		}
		return &over
	}
	state.Shared = handOff(s.lease.Shared())
	if state.Shared != nil {
		fault.At("shared claim handed over")
	}
	state.Local = handOff(s.lease.Local())
	if state.Local != nil {
		fault.At("local claim handed over")
	}
	if lock := s.lease.Lock(); lock != nil { // in every case
		if f := lock.Descriptor(); f != nil {
			files[localLock] = f
		}
	}
	return instance, failed
}

// Left returns the processes of the runs that were handed off.
func (s *Supervisor) Left() (left []*process.Process) {
	for _, at := range s.runner.left {
		left = append(left, at.process)
	}
	return left
}

// Asker adds to a what the preflight of the next process must know of this job.
func (s *Supervisor) Asker(a *preflight.Asker) {
	s.call(func() {
		a.Serves = s.machine.looping
		if lock := s.lease.Lock(); lock != nil {
			a.Lock, a.Users = lease.FileID(lock.Descriptor()), lock.Users()
		}
		if l, ok := s.lease.Shared().Now(); ok {
			a.URL, a.Key, a.ID = s.o.Config.Heartbeat.URL, s.lease.Shared().Key, l.ID
			a.Holds = !l.Unproven && slices.Contains([]heartbeat.State{heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending}, l.State)
		}
	})
}
