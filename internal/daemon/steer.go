package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/jobfile"
	"gophd/internal/lease"
	"gophd/internal/request"
	"gophd/internal/status"
	"gophd/internal/supervisor"
)

// This file carries out the requests of the socket, and keeps what must outlive the daemon.

// errEnding is the answer to requests that come when gophd exits or re-execs.
var errEnding = &request.RejectedError{Why: "gophd is ending or re-executing; try again"}

// call runs f in the goroutine of Run, and waits for it.
func (d *Daemon) call(ctx context.Context, f func() error) (err error) {
	done := make(chan struct{})
	select {
	case d.calls <- func() { defer close(done); err = f() }:
		<-done
		return err
	case <-d.over:
		return errEnding
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Request carries out a request for the daemon. It returns when that has begun.
func (a apiDaemon) Request(ctx context.Context, r request.Request) error {
	return a.call(ctx, func() error {
		if r.Verb == request.Reload && a.machine.state != starting && a.machine.state != serving {
			return &request.RejectedError{Why: "gophd is " + a.machine.String()}
		}
		a.Daemon.request(r)
		return nil
	})
}

// RequestJob carries out a request for a job. For a start it returns the request of the run.
func (a apiDaemon) RequestJob(ctx context.Context, r request.ForJob) (run *job.Request, err error) {
	err = a.call(ctx, func() (err error) {
		run, err = a.requestJob(r)
		return err
	})
	return run, err
}

func (d *Daemon) requestJob(r request.ForJob) (run *job.Request, err error) {
	d.jobsChanged()
	m := d.jobs.named(r.Job)
	if m == nil {
		return nil, &request.UnknownJobError{Name: r.Job}
	}
	d.events.Publish(event.RequestForJob(r.Job, r.String(), r.From))
	if err = d.steerable(m, r.Verb); err == nil {
		run, err = m.carryOut(r)
	}
	if err != nil {
		e := event.RequestRejected(r.String(), r.From, d.machine.state.String(), err)
		if d.o.Config.Many {
			e.Job = r.Job
		}
		d.events.Publish(e)
	}
	return run, err
}

// named returns the job of the config with that name; nil if there is none.
func (j *jobs) named(name string) *member {
	for _, m := range j.all {
		if m.spec.Name == name && !m.removed {
			return m
		}
	}
	return nil
}

// leaseOf returns the lease under which the job runs.
func (d *Daemon) leaseOf(m *member) *lease.Lease {
	if m.lease != nil {
		return m.lease
	}
	return d.lease
}

// steerable returns why no request for the job is carried out now.
func (d *Daemon) steerable(m *member, verb request.JobVerb) error {
	if d.machine.state > validating {
		return &request.RejectedError{Why: "gophd is " + d.machine.String()}
	}
	if m.Supervisor != nil && m.alive {
		if l, _, _ := showLease(d.leaseOf(m).Look()); verb == request.Start && l.State == heartbeat.Standby.String() {
			return &request.RejectedError{Why: fmt.Sprintf("%s is on standby: the lease is held by %s", m.spec.Name, l.Holder)}
		}
		return nil
	}
	why := "it has ended"
	if err := m.reason(); err != nil {
		why = err.Error()
	}
	return &request.RejectedError{Why: fmt.Sprintf("%s has failed or ended: %s; to start it again, change it and reload, or "+
		"start the daemon again", m.spec.Name, why)}
}

// carryOut carries out a request for a job that is alive.
func (m *member) carryOut(r request.ForJob) (run *job.Request, err error) {
	switch r.Verb {
	case request.Start:
		return m.Request(&job.Request{ID: uint64(time.Now().UnixMicro()), Args: r.Args})
	case request.Halt:
		if m.Halt(); m.spec.Service {
			_ = m.StopRuns() // there may be none
		}
	case request.StopRun:
		return nil, m.StopRuns()
	case request.Pause:
		m.Pause()
	case request.Resume:
		m.Unpause()
	case request.Skip:
		return nil, m.Skip(r.Count)
	case request.Restart:
		return nil, m.Restart()
	case request.Signal:
		return nil, m.Signal(r.Signal)
	}
	return nil, nil
}

// records writes the files of the jobs, in a goroutine of its own: a disk that hangs delays no request.
type records struct {
	group   goroutine.Group
	problem func(error)

	mu      sync.Mutex
	pending map[string]jobfile.Record // by path
	writing chan struct{}             // closed when the goroutine has ended; nil if there is none
}

// save writes a record soon. A later one for the same path replaces it.
func (r *records) save(path string, record jobfile.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = map[string]jobfile.Record{}
	}
	r.pending[path] = record
	if r.writing == nil {
		r.writing = make(chan struct{})
		r.group.Go(r.write)
	}
}

// next returns a record that is pending. When there is none, the goroutine ends.
func (r *records) next() (path string, record jobfile.Record, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, record := range r.pending {
		delete(r.pending, path)
		return path, record, true
	}
	close(r.writing)
	r.writing = nil
	return "", jobfile.Record{}, false
}

func (r *records) write() {
	for path, record, ok := r.next(); ok; path, record, ok = r.next() {
		if err := jobfile.Save(path, record); err != nil {
			r.problem(fmt.Errorf("a pause or skip will be lost with this daemon: %w", err))
		}
	}
}

// closeTime is how long the end of the daemon waits for the disk.
const closeTime = time.Second

// close waits for the goroutine, for closeTime at most: it cannot be canceled while the disk hangs.
func (r *records) close() error {
	r.mu.Lock()
	writing := r.writing
	r.mu.Unlock()
	if writing == nil {
		return nil
	}
	select {
	case <-writing:
		return nil
	case <-time.After(closeTime):
		return errors.New("the disk of the state directory does not answer: a pause or skip may be lost with this daemon")
	}
}

// recordPath returns the path of the record of a job.
func (d *Daemon) recordPath(spec *job.Spec) string {
	return jobfile.Path(d.o.Config.StateDir, d.o.Config.FileName(*spec))
}

// steered returns what was requested for a job: from the old process, or from an earlier daemon. The
// board shows it from the start. A single run has no socket, by which it could be paused.
func (d *Daemon) steered(spec *job.Spec, state supervisor.JobState) supervisor.Steered {
	now := state.Steered
	if single := spec.Once && !d.o.Config.Many; !single && (d.o.Handoff == nil || state.Name == "") {
		r, err := jobfile.Load(d.recordPath(spec))
		if err != nil {
			d.warn(err.Error())
		}
		now = supervisor.Steered{Paused: r.Paused, Skip: r.Skip}
	}
	if now != (supervisor.Steered{}) {
		e := now.Event(spec.Name)
		d.board.Job(spec.Name, func(j *status.Job) { j.Held, j.Skip = e.State, now.Skip })
	}
	return now
}
