package daemon

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"time"

	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/status"
	"gophd/internal/supervisor"
)

// This file opens the jobs of a config, and applies its difference to that of the old process.

// UnfitError says that none of several jobs can start here.
type UnfitError struct{ err error }

func (e *UnfitError) Error() string { return e.err.Error() }
func (e *UnfitError) Unwrap() error { return e.err }

// openJobs opens a supervisor for each job of the config, with what the old process has handed off,
// and for each job that the config has no more and whose runs are still active. With several jobs,
// one that cannot be opened has failed, and the others go on. It is an error if a first start can
// open none.
func (d *Daemon) openJobs(files map[string]*os.File) error {
	c := d.o.Config
	d.jobs.many, d.jobs.changed = c.Many, make(chan struct{}, 1)
	d.jobs.running = supervisor.NewRunning(c.MaxRunning)
	var check *preflight.Checker
	if c.Many && d.o.Handoff == nil { // a reload was checked before the re-exec
		check = preflight.NewChecker(c, d.o.Self.Env)
	}
	var unfit []*member
	for i := range c.Jobs {
		spec := &c.Jobs[i]
		state := d.handed.job(c, *spec)
		state.Removed = nil // it may have been added again
		if d.o.Handoff != nil && state.Name == "" {
			state.Added = restart.At(time.Now())
		}
		m := &member{spec: spec, handed: state, panicked: state.Panicked}
		d.jobs.all = append(d.jobs.all, m)
		if len(state.Failures) > 0 && len(d.previous.Names) > 0 && !d.unchanged(*spec) {
			state.Failures = nil // the change may be the fix
		}
		if c.Many && state.Over && d.unchanged(*spec) {
			if state.Failed != "" {
				m.failed = errors.New(state.Failed)
			}
			d.board.Job(spec.Name, func(j *status.Job) { j.State, j.Failed = job.Done, state.Failed })
			continue
		}
		if check != nil {
			_, m.failed = check.Job(*spec)
		}
		if m.failed == nil {
			m.failed = d.openJob(m, state, files)
		}
		switch {
		case m.failed == nil:
		case !c.Many:
			return m.failed
		default:
			unfit = append(unfit, m)
		}
	}
	if check != nil && len(unfit) == len(c.Jobs) {
		var all []error
		for _, m := range unfit {
			all = append(all, check.Named(*m.spec, m.failed))
		}
		return &UnfitError{errors.Join(all...)}
	}
	for _, m := range unfit {
		d.events.Publish(event.JobFailed(m.spec.Name, m.failed))
		d.stopHanded(m, files)
	}
	for _, removed := range d.removedJobs() {
		m := &member{spec: &removed.spec, removed: true, handed: removed.state}
		d.jobs.all = append(d.jobs.all, m)
		if m.failed = d.openJob(m, removed.state, files); m.failed != nil {
			d.events.Publish(event.JobFailed(m.spec.Name, m.failed))
			d.stopHanded(m, files)
		}
	}
	return d.releaseHanded(files)
}

// openJob opens the supervisor of m.
func (d *Daemon) openJob(m *member, state supervisor.JobState, files map[string]*os.File) error {
	c := d.o.Config
	under, leftoverEnded := d.lease, leaseClient{d}.leftoverEnded
	if c.OwnLeases() {
		own := jobLeaseClient{d, m}
		if err := own.open(files); err != nil {
			return err
		}
		under, leftoverEnded = m.lease, own.leftoverEnded
	}
	timers, err := d.timersOf(m.spec)
	if err != nil {
		return err
	}
	path, last := d.lastRecord(m.spec, state)
	s, err := supervisor.New(supervisor.Options{
		Spec: m.spec, ID: c.FileName(*m.spec), Many: c.Many, Crontab: c.Crontab != "", Config: c.File, Env: d.o.Self.Env, Log: d.log,
		Events: d.events, Spawner: d.spawner, Timers: timers, Started: d.life.born, Lease: under,
		Running: d.jobs.running, Mailer: d.mailer, KeepOutput: d.history != nil,
		LeftoverEnded: leftoverEnded, Handed: state, Descriptors: files, Changed: d.jobs.notice,
		Fresh: d.o.Handoff == nil, Shared: c.Heartbeat.Shared(), Records: d.records, RecordPath: path, Record: last,
	})
	if err == nil {
		m.Supervisor, m.alive = s, true
	}
	return err
}

// resumeEscaped continues the output of processes that have escaped from runs in the old process. They
// may be of a job that is over, or that the config has no more.
func (d *Daemon) resumeEscaped() {
	var files map[string]*os.File
	if d.o.Handoff != nil {
		files = d.o.Handoff.Files
	}
	by := map[string]*member{}
	d.jobs.each(func(m *member) { by[m.spec.Name] = m })
	d.spawner.AdoptStreams(supervisor.TakePipes(d.handed.Escaped, files), func(s process.HandedStream) io.WriteCloser {
		m := by[s.Job]
		if !d.o.Config.Many {
			m = d.jobs.all[0]
		}
		if m == nil {
			return supervisor.ResumeInLog(d.logOf(s.Job), s)
		}
		return m.Resume(s)
	})
}

// stopHanded stops the runs of a job that this process cannot adopt, and then releases its own lease.
func (d *Daemon) stopHanded(m *member, files map[string]*os.File) {
	own := m.lease
	m.lease = nil
	d.goroutines.Go(func() {
		supervisor.StopHanded(m.handed, files, d.spawner, d.logOf(m.handed.Name), d.events)
		if own != nil {
			release(own, d.events)
		}
	})
}

// unchanged returns true if the old process's config had the same job.
func (d *Daemon) unchanged(spec job.Spec) bool {
	before, ok := d.previous.Spec(spec.Name)
	return ok && reflect.DeepEqual(before, spec)
}

// removedJob is a job with active runs that the config has no more.
type removedJob struct {
	state supervisor.JobState
	spec  job.Spec
}

// removedJobs returns the jobs with active runs that the config has no more. Without the old config
// only their runs are known.
func (d *Daemon) removedJobs() (all []removedJob) {
	c := d.o.Config
	kept := byName(d.configured())
	for _, state := range d.handed.Jobs {
		if _, ok := kept[state.Name]; ok || len(state.Runs) == 0 || !c.Many && len(d.handed.Jobs) == 1 {
			continue
		}
		spec, known := d.previous.Spec(state.Name)
		if json.Unmarshal(state.Removed, &spec) == nil {
			known = true
		}
		if !known {
			spec.Name, spec.Grace, spec.StopSignals = state.Name, state.Runs[0].Grace, state.Runs[0].Signals
		}
		state.Removed, _ = json.Marshal(spec) // plain values cannot fail
		all = append(all, removedJob{state, spec})
	}
	return all
}

func byName(specs []*job.Spec) map[string]*job.Spec {
	all := make(map[string]*job.Spec, len(specs))
	for _, spec := range specs {
		all[spec.Name] = spec
	}
	return all
}

// configured returns the jobs of the config.
func (d *Daemon) configured() []*job.Spec {
	c := d.o.Config
	all := make([]*job.Spec, len(c.Jobs))
	for i := range c.Jobs {
		all[i] = &c.Jobs[i]
	}
	return all
}

// specs returns the jobs of the config, and those that it has no more.
func (d *Daemon) specs() []*job.Spec {
	all := d.configured()
	for _, removed := range d.removedJobs() {
		all = append(all, &removed.spec)
	}
	return all
}

// everyJob returns the jobs of the config, and those of the old process's config: the log has lines
// about both.
func (d *Daemon) everyJob() []*job.Spec {
	all := d.specs()
	now := byName(all)
	for _, name := range d.previous.Names {
		if _, ok := now[name]; ok {
			continue
		}
		if spec, ok := d.previous.Spec(name); ok {
			all = append(all, &spec)
		}
	}
	return all
}

// names returns the names of everyJob, sorted.
func (d *Daemon) names() (all []string) {
	for _, spec := range d.everyJob() {
		all = append(all, spec.Name)
	}
	slices.Sort(all)
	return all
}

// jobsReloaded publishes what a reload has changed, job by job.
func (d *Daemon) jobsReloaded(c config.Changes) {
	for _, name := range c.Added {
		d.events.Publish(event.JobAdded(name))
	}
	active, is := map[string]bool{}, byName(d.configured())
	for _, removed := range d.removedJobs() {
		active[removed.state.Name] = true
	}
	for _, name := range c.Removed {
		d.events.Publish(event.JobRemoved(name, active[name]))
	}
	for _, changed := range c.Changed {
		d.events.Publish(event.JobChanged(changed.Name, changed.Settings, is[changed.Name].Service))
	}
	d.events.Publish(event.JobsUnchanged(c.Unchanged))
}
