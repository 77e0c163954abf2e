package daemon

import (
	"context"
	"fmt"

	"gophd/internal/event"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/jobfile"
	"gophd/internal/lease"
	"gophd/internal/request"
	"gophd/internal/status"
	"gophd/internal/supervisor"
)

// This file carries out the requests of the socket.

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
	var m *member
	err = a.call(ctx, func() (err error) {
		m, run, err = a.requestJob(r)
		return err
	})
	if err == nil && r.Verb.IsKept() { // the answer means that it outlives the daemon
		if err := m.AwaitRecord(); err != nil {
			return nil, &request.RejectedError{Why: fmt.Sprintf("%s of %s is done, but is lost when the daemon ends: %v", r.Verb, r.Job, err)}
		}
	}
	return run, err
}

func (d *Daemon) requestJob(r request.ForJob) (m *member, run *job.Request, err error) {
	d.jobsChanged()
	if m = d.jobs.named(r.Job); m == nil {
		return nil, nil, &request.UnknownJobError{Name: r.Job}
	}
	d.events.Publish(event.RequestForJob(r.Job, r.String(), r.From))
	switch err = d.steerable(m, r.Verb); {
	case err == nil:
		run, err = m.carryOut(r)
	case r.Verb == request.Start && d.ended(m):
		run, err = d.revive(m, r)
	}
	if err != nil {
		e := event.RequestRejected(r.String(), r.From, d.machine.state.String(), err)
		if d.o.Config.Many {
			e.Job = r.Job
		}
		d.events.Publish(e)
	}
	return m, run, err
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
	return &request.RejectedError{Why: fmt.Sprintf("%s has failed or ended: %s; gophd start %s starts it again", m.spec.Name, why, m.spec.Name)}
}

// carryOut carries out a request for a job that is alive.
func (m *member) carryOut(r request.ForJob) (run *job.Request, err error) {
	switch r.Verb {
	case request.Start:
		return m.Request(newRequest(r))
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

// lastRecord returns the path of the record of a job, and what an earlier daemon has recorded, unless the old
// process has handed that off. The board shows it from the start. A single run has no record: it has no socket, by which
// it could be paused.
func (d *Daemon) lastRecord(spec *job.Spec, state supervisor.JobState) (path string, last jobfile.Record) {
	now := state.Steered
	if spec.Once && !d.o.Config.Many {
		return "", last
	}
	path = jobfile.Path(d.o.Config.StateDir, d.o.Config.FileName(*spec))
	if d.o.Handoff == nil || state.Name == "" {
		var err error
		if last, err = jobfile.Load(path); err != nil {
			d.warn(err.Error())
		}
		now = supervisor.Steered{Paused: last.Paused, Skip: last.Skip}
	}
	if now != (supervisor.Steered{}) {
		e := now.Event(spec.Name)
		d.board.Job(spec.Name, func(j *status.Job) { j.Held, j.Skip = e.State, now.Skip })
	}
	return path, last
}
