package daemon

import (
	"fmt"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/request"
	"gophd/internal/restart"
	"gophd/internal/status"
)

// This file starts one of several jobs again in which gophd has panicked: by a re-exec, which leaves
// the runs of the other jobs as they are. With one job, and after a panic in gophd's own goroutine,
// finish does that.

// recoverAgain is the time from a re-exec that was rejected to the next attempt.
const recoverAgain = time.Minute

// jobPanicked decides what follows: a re-exec, or after the second panic within
// restart.RecoveryWindow the failure of the job.
func (d *Daemon) jobPanicked(m *member) {
	d.board.Job(m.spec.Name, func(j *status.Job) { j.Active = nil }) // no event may have ended them
	now, last := boot(), m.panicked
	m.panicked = now
	if last > 0 && now-last < restart.RecoveryWindow {
		m.failed = fmt.Errorf("gophd has panicked in this job twice within %s: giving up; report the panic, and "+
			"change the job to start it again", job.FormatDuration(restart.RecoveryWindow))
		d.events.Publish(event.JobFailed(m.spec.Name, m.failed))
		return
	}
	m.recovering = true
	d.recoverJobs()
}

// recovering returns the first job that waits for a re-exec after a panic; nil if there is none.
func (j *jobs) recovering() *member {
	for _, m := range j.all {
		if m.recovering {
			return m
		}
	}
	return nil
}

// recoverJobs requests the re-exec for the jobs that wait for it, as soon as the restart guard allows
// it.
func (d *Daemon) recoverJobs() {
	m := d.jobs.recovering()
	if m == nil || d.machine.state > validating {
		return
	}
	if wait := d.life.guard.Wait(d.life.processStart, boot()); wait > 0 {
		d.events.Publish(event.JobRecovers(m.spec.Name, wait))
		d.timers.recover.Reset(wait)
		return
	}
	d.request(request.Request{Verb: request.Reload, From: "after a panic in " + m.spec.Name})
}

// reexecRejected is called when a re-exec was rejected, whoever requested it.
func (d *Daemon) reexecRejected() {
	d.revivalsRejected()
	if m := d.jobs.recovering(); m != nil {
		d.events.Publish(event.JobRecovers(m.spec.Name, recoverAgain))
		d.timers.recover.Reset(recoverAgain)
	}
}
