package daemon

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/process"
	"gophd/internal/supervisor"
)

// member is a job of the daemon.
type member struct {
	*supervisor.Supervisor
	spec  job.Spec
	alive bool // it has not ended; before the start too
}

// jobs are the jobs of the daemon, in the order of the config. The goroutine of Run owns them.
type jobs struct {
	all     []*member
	changed chan struct{} // capacity 1; receives when something about a job or the lease may be new
	tenancy tenancy
}

// tenancy is what the lease has told last. Its goroutine writes it.
type tenancy struct {
	mu      sync.Mutex
	serving string // what the daemon does, for the process that waits for its start
	err     error  // why the lease has ended
}

// notice makes the daemon look at its jobs and the lease. It does not block.
func (j *jobs) notice() {
	select {
	case j.changed <- struct{}{}:
	default: // it has not looked yet
	}
}

// each calls f for each job that was opened.
func (j *jobs) each(f func(*member)) {
	for _, m := range j.all {
		f(m)
	}
}

// runNow starts a run of the only job. A request for one of several must name it.
func (j *jobs) runNow() bool { return len(j.all) == 1 && j.all[0].RunNow() }

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

// err returns why the jobs have ended, if that was not requested: the error of the only job, or one
// that names those that have failed.
func (j *jobs) err() error {
	if len(j.all) == 1 {
		return j.all[0].Err()
	}
	var failed []string
	j.each(func(m *member) {
		if m.Err() != nil {
			failed = append(failed, m.spec.Name)
		}
	})
	if failed == nil {
		return nil
	}
	return fmt.Errorf("%d of %d jobs failed: %v", len(failed), len(j.all), failed)
}

// last returns the result of the only run of the only job, if that is a once job; otherwise nil.
func (j *jobs) last() *job.Result {
	if len(j.all) > 1 {
		return nil
	}
	return j.all[0].Last()
}

// read returns what the lease has told last.
func (t *tenancy) read() (serving string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.serving, t.err
}

// tenant is the daemon for its lease.
type tenant struct{ *Daemon }

var _ lease.Tenant = tenant{}

// OnLocked reports that gophd has started, or has resumed after a re-exec: no other gophd can run the
// jobs on this host.
func (t tenant) OnLocked() { t.onLocked() }

// TakePIDFile creates and locks the PID file, or takes over that of the old process.
func (t tenant) TakePIDFile() error { return t.pidFile.take() }

// RemovePIDFile removes the PID file, if gophd has it.
func (t tenant) RemovePIDFile() { t.pidFile.remove() }

// SearchLeftover searches leftover runs of each job. With several jobs only those wait that have some.
func (t tenant) SearchLeftover() (wait bool) {
	t.jobs.each(func(m *member) { wait = m.SearchLeftover() || wait })
	t.noteClean()
	return wait && !t.o.Config.Many
}

// leftoverEnded is called when leftover runs of a job have ended, by its goroutine.
func (t tenant) leftoverEnded() {
	t.noteClean()
	t.lease.Continue()
}

// noteClean notes in the local lock that no leftover run is active, once that is so for every job.
func (t tenant) noteClean() {
	if slices.ContainsFunc(t.jobs.all, func(m *member) bool { return !m.NoLeftover() }) {
		return
	}
	lock := t.lease.Lock()
	lock.Clean()
	if lock.Unclean() {
		t.events.Publish(event.LeftoverUnseen(t.o.Config.Name))
	}
}

func (t tenant) Held() { t.jobs.each(func(m *member) { m.LeaseHeld() }) }

func (t tenant) Standby(holder string) {
	t.tell("standing by: "+holder+" runs "+t.o.Config.Name, nil)
}

func (t tenant) Ending(cause error) { t.jobs.each(func(m *member) { m.LeaseEnding(cause) }) }

func (t tenant) Failed(err, cause error) {
	t.jobs.each(func(m *member) { m.LeaseFailed(err, cause) })
	if p := (*goroutine.Panic)(nil); errors.As(err, &p) {
		err = supervisor.Fatal(err)
	}
	t.tell("", err)
}

// tell passes on to the daemon's goroutine what the lease has told.
func (t tenant) tell(serving string, err error) {
	t.jobs.tenancy.mu.Lock()
	if serving != "" {
		t.jobs.tenancy.serving = serving
	}
	if err != nil {
		t.jobs.tenancy.err = err
	}
	t.jobs.tenancy.mu.Unlock()
	t.jobs.notice()
}
