package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/request"
	"gophd/internal/restart"
	"gophd/internal/supervisor"
)

// This file starts one of several jobs again that has ended or failed, by a re-exec as after a panic: the new
// process opens it, and leaves the runs of the other jobs as they are.

// revival is the request that starts such a job.
type revival struct {
	run  *job.Request
	from string // its source as the log names it
}

// ended reports whether the job has ended by itself, so that a start must open it again.
func (d *Daemon) ended(m *member) bool {
	return d.o.Config.Many && !m.removed && !m.recovering && (m.Supervisor == nil || !m.alive)
}

// revive requests the re-exec that starts a job that has ended. It returns the request of the run.
func (d *Daemon) revive(m *member, r request.ForJob) (*job.Request, error) {
	if d.machine.state != starting && d.machine.state != serving {
		return nil, &request.RejectedError{Why: fmt.Sprintf("%s has ended, and gophd is %s; try again", m.spec.Name, d.machine)}
	}
	m.again = &revival{run: newRequest(r), from: r.From}
	again := m.again // until the re-exec is rejected
	d.request(request.Request{Verb: request.Reload, From: "to start " + m.spec.Name})
	return again.run, nil
}

func newRequest(r request.ForJob) *job.Request {
	return &job.Request{ID: uint64(time.Now().UnixMicro()), Args: r.Args}
}

// into makes the state that is handed off that of a job which starts with the requested run.
func (r *revival) into(state *supervisor.JobState, spec job.Spec) {
	now := time.Now()
	state.Over, state.Failed, state.GaveUp, state.Failures, state.Panicked = false, "", "", nil, 0
	state.Steered.Stopped = false
	if state.Grid == nil { // it has never run in this daemon
		state.Grid = &restart.Grid{Anchor: restart.At(now), Tick: 1, Interval: spec.Interval, Calendar: spec.Calendar, Last: now.Round(0)}
	}
	state.Requested = nil
	state.Wait = &supervisor.RunDelay{Run: job.Run{Request: r.run, Due: now}, Until: restart.At(now)}
}

// revivalsRejected is called when a re-exec was rejected: then no job is started again by it.
func (d *Daemon) revivalsRejected() {
	for _, m := range d.jobs.all {
		if m.again == nil {
			continue
		}
		why := cmp.Or(d.probe.answered.err, errors.New("the log says why"))
		e := event.RequestRejected(request.Start.String(), m.again.from, "", fmt.Errorf("%s is not started again, because the re-exec for it "+
			"was rejected: %w", m.spec.Name, why))
		e.Job, e.Tick.Request = m.spec.Name, m.again.run
		m.again = nil
		d.events.Publish(e)
	}
}
