package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/supervisor"
)

// member is a job of the daemon.
type member struct {
	*supervisor.Supervisor              // nil if the job was over before this process started, or could not be opened
	lease                  *lease.Lease // its own; nil if it has none, or none now
	spec                   *job.Spec
	alive                  bool // it has not ended; before the start too
	removed                bool // the config has it no more; its runs may finish
	handed                 supervisor.JobState
	failed                 error         // why it could not be opened, or had failed before this process started; see panicked too
	panicked               time.Duration // when gophd last panicked in it, by the boot clock; 0 for never
	recovering             bool          // it has ended by a panic, and starts again after a re-exec
	again                  *revival      // it has ended, and is started again by a re-exec; nil for none
}

// reason returns why a job that has ended has failed; nil if it has not.
func (m *member) reason() error {
	switch {
	case m.Supervisor == nil || m.failed != nil:
		return m.failed
	case m.recovering:
		return nil
	}
	if last := m.Last(); m.spec.Once && last != nil && last.Failed() {
		return errors.New("its only run failed")
	}
	return m.Err()
}

// jobs are the jobs of the daemon, in the order of the config. The goroutine of Run owns them; that of
// the lease reads which there are, which does not change after they were opened.
type jobs struct {
	all     []*member
	many    bool          // see config.Config
	changed chan struct{} // capacity 1; receives when something about a job or the lease may be new
	running *supervisor.Running
	store   heartbeat.Store // of all leases; nil if there is none
	lease   leaseNews
	contact contact
}

// notice makes the daemon look at its jobs and the lease. It does not block.
func (j *jobs) notice() {
	select {
	case j.changed <- struct{}{}:
	default: // it has not looked yet
	}
}

// each calls f for each job that has a supervisor.
func (j *jobs) each(f func(*member)) {
	for _, m := range j.all {
		if m.Supervisor != nil {
			f(m)
		}
	}
}

// handedFirst is each, with the jobs first that have runs of the old process: their output is not read
// before.
func (j *jobs) handedFirst(f func(*member)) {
	for _, has := range []bool{true, false} {
		j.each(func(m *member) {
			if len(m.handed.Runs) > 0 == has {
				f(m)
			}
		})
	}
}

// byActivity returns the jobs that leave runs to the next process, and the others.
func (j *jobs) byActivity() (idle, active []*member) {
	for _, m := range j.all {
		if m.Supervisor != nil && len(m.HandedOff()) > 0 {
			active = append(active, m)
		} else {
			idle = append(idle, m)
		}
	}
	return idle, active
}

// runNow starts a run of the only job. A signal cannot name one of several.
func (j *jobs) runNow() (ok bool, why error) {
	if j.many {
		return false, fmt.Errorf("a signal names none of the %d jobs", len(j.all))
	}
	return j.all[0].RunNow(), nil
}

// freeze leaves the active runs of all jobs to the next process, or those of none: an error says what
// prevents that now.
func (j *jobs) freeze() error {
	j.each(func(m *member) { m.Hold() })
	if err := freezeAll(j.all, nil); err != nil {
		return err
	}
	j.each(func(m *member) { <-m.Done() })
	return nil
}

// freezeAll freezes the jobs one within the other, so that either all are frozen or none is. runs are
// those of the jobs before.
func freezeAll(all []*member, runs []supervisor.Leaving) error {
	switch {
	case len(all) == 0:
		return supervisor.Detach(runs)
	case !all[0].alive:
		return freezeAll(all[1:], runs)
	}
	return all[0].Freeze(func(own []supervisor.Leaving) error { return freezeAll(all[1:], append(runs, own...)) })
}

// alive returns true if a job has not ended.
func (j *jobs) alive() bool {
	return slices.ContainsFunc(j.all, func(m *member) bool { return m.alive })
}

// dead returns true if no command of any job is alive, and none will start in this process.
func (j *jobs) dead() bool {
	return !slices.ContainsFunc(j.all, func(m *member) bool { return m.alive && !m.Report().Dead })
}

// left returns the processes of the runs that were handed off.
func (j *jobs) left() (all []*process.Process) {
	j.each(func(m *member) { all = append(all, m.HandedOff()...) })
	return all
}

// err returns why the jobs have ended, if that was not requested: the error of the only job, or with
// several one that names those that have failed.
func (j *jobs) err() error {
	if !j.many {
		return j.all[0].Err()
	}
	var failed []string
	for _, m := range j.all {
		if m.reason() != nil && !m.removed {
			failed = append(failed, m.spec.Name)
		}
	}
	if failed == nil {
		return nil
	}
	return fmt.Errorf("no job is left, and %d failed: %s", len(failed), strings.Join(failed, ", "))
}

// maxFailed and maxLost limit what goes into an environment variable.
const (
	maxFailed = 1000
	maxLost   = 10
)

// failed returns the jobs that have failed, for the check of a reload.
func (j *jobs) failed() map[string]string {
	all := map[string]string{}
	for _, m := range j.all {
		if !m.alive && m.again == nil && m.reason() != nil && len(all) < maxFailed {
			all[m.spec.Name] = preflight.Digest(*m.spec)
		}
	}
	return all
}

// lostLocks returns the paths of own locks that jobs hold although their files were removed or
// replaced, for the check of a reload. One is enough to reject it.
func (j *jobs) lostLocks(c *config.Config) (all []string) {
	for _, m := range j.all {
		if m.lease == nil || m.lease.Lock() == nil || len(all) == maxLost {
			continue
		}
		path := lease.JobLockPath(c, c.FileName(*m.spec))
		if id := lease.FileID(m.lease.Lock().Descriptor()); id != "" && lease.PathID(path) != id {
			all = append(all, path)
		}
	}
	return all
}

// last returns the result of the only run of the only job, if that is a once job; otherwise nil.
func (j *jobs) last() *job.Result {
	if j.many {
		return nil
	}
	return j.all[0].Last()
}

// handOff ends the work of this process for the job.
func (m *member) handOff(files map[string]*os.File) (state supervisor.JobState) {
	if m.Supervisor == nil {
		state = m.handed
		state.Name, state.Runs = m.spec.Name, nil
	} else {
		state = m.PauseOutput(files)
	}
	state.Over, state.Panicked = !m.alive && !m.recovering, m.panicked
	if err := m.reason(); err != nil && !m.alive {
		state.Failed = err.Error()
	}
	if m.again != nil {
		m.again.into(&state, *m.spec)
	}
	if m.removed {
		state.Removed, _ = json.Marshal(m.spec) // plain values cannot fail
	}
	return state
}
