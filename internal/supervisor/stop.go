package supervisor

import (
	"fmt"
	"io"
	"os"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/logging"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/status"
)

// WaitEvent returns the event that says that a shutdown in that state waits for a run, so that no
// wait is silent. forced says that the run is already being stopped.
func WaitEvent(spec job.Spec, state string, forced bool, g status.ActiveRun, now time.Time) event.Event {
	hint := fmt.Sprintf("send TERM to pid %d to stop it now", os.Getpid())
	if forced || spec.Service {
		hint = fmt.Sprintf("it is being stopped; send TERM to pid %d to kill it now", os.Getpid())
	}
	if g.PID != 0 && notPermitted(-g.PID) {
		hint = event.NotPermitted
	}
	return event.RunWaitedFor(spec.Name, state, g.Run, g.PID, now.Sub(g.Since), hint)
}

// unknownGrace is the default of job.grace, for runs whose settings are unknown.
const unknownGrace = 10 * time.Second

// UnknownRuns returns the children of this process that seem to be commands, for a handoff that
// cannot be read.
func UnknownRuns() (runs []ActiveRun) {
	for _, c := range process.Commands() {
		runs = append(runs, ActiveRun{PID: c.PID, Birth: c.Birth, Started: restart.At(c.Started),
			Grace: unknownGrace})
	}
	return runs
}

// StopHanded stops the runs that were handed off to a process that cannot adopt them, and waits
// until they have ended. The rest of their output goes to log.
func StopHanded(state JobState, files map[string]*os.File, spawner *process.Spawner, log logging.Job,
	events *event.Stream) {
	open := func(s process.HandedStream) io.WriteCloser { return ResumeInLog(log, s) }
	stopRuns(events, state.Name, state.Runs, spawner, files, open)
}

// stopRuns stops runs as the process that handed them off would have, and waits until they have
// ended.
func stopRuns(events *event.Stream, name string, runs []ActiveRun, spawner *process.Spawner,
	files map[string]*os.File, open process.Resume) {
	all := make([]*process.Process, len(runs))
	for i, run := range runs {
		p, err := spawner.Adopt(run.take(files), open)
		if err != nil {
			events.Publish(event.Problem(err))
			continue
		}
		events.Publish(event.RunNotAdopted(name, run.Run, run.PID))
		p.Stop(run.Grace, run.Signals...)
		all[i] = p
	}
	for i, p := range all {
		if p != nil {
			result := p.Wait()
			result.PID = runs[i].PID
			events.Publish(event.RunAbandoned(name, runs[i].Run, result))
		}
	}
}
