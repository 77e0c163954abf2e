package daemon

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/status"
)

// logWatch is what the daemon knows of its log.
type logWatch struct {
	reportedLost      uint64          // lost lines in the last event about them
	reportedMisplaced string          // the problem with the log's path in the last event about it
	trouble           <-chan struct{} // from the log; nil while repeat runs
	repeat            *time.Timer     // after an event about lost lines, until the next

	reopening   <-chan error // receives the result of a reopening; nil without one
	reopenAgain bool         // another reopening was requested meanwhile
}

// lossesAgain is the time between two events about lines that are lost.
const lossesAgain = 10 * time.Second

// logTrouble reports what the log itself cannot: that lines are lost, or go to a file at another
// path than expected. It is called when that is new, and some time after it was reported.
func (d *Daemon) logTrouble() {
	s := d.log.Stats()
	d.logs.trouble = d.log.Trouble()
	if d.log.Path() == "" {
		return // it is stderr itself
	}
	switch {
	case s.Misplaced == nil:
		d.logs.reportedMisplaced = "" // report it again when it comes back
	case s.Misplaced.Error() != d.logs.reportedMisplaced:
		d.logs.reportedMisplaced = s.Misplaced.Error()
		d.events.Publish(event.LogMisplaced(s.Misplaced))
	}
	if s.Dropped > d.logs.reportedLost {
		d.logs.reportedLost = s.Dropped
		d.events.Publish(event.LogLost(s.Dropped, s.Lost))
		d.logs.trouble = nil
		d.logs.repeat.Reset(lossesAgain)
	}
}

// reopen reopens the log files in a goroutine of its own: to create a file on a disk that hangs may
// take as long as the disk hangs. A second request meanwhile is served after the first. The
// goroutine is not waited for when the process exits: an open(2) cannot be canceled.
func (d *Daemon) reopen() {
	if d.logs.reopening != nil {
		d.logs.reopenAgain = true
		return
	}
	done := make(chan error, 1)
	d.logs.reopening = done
	go func() {
		var err error
		if p := goroutine.Catch(func() { err = d.log.Reopen() }); p != nil {
			err = p
		}
		done <- err
	}()
}

// reopened handles the result of reopen.
func (d *Daemon) reopened(err error) {
	d.logs.reopening = nil
	if p := (*goroutine.Panic)(nil); errors.As(err, &p) {
		d.machine.panicked(p)
		return
	}
	d.events.Publish(event.LogReopened(err))
	if d.logs.reopenAgain {
		d.logs.reopenAgain = false
		d.reopen()
	}
}

// awaitReopening waits at most a second for a reopening.
func (d *Daemon) awaitReopening() {
	if d.logs.reopening == nil {
		return
	}
	select {
	case err := <-d.logs.reopening:
		d.events.Publish(event.LogReopened(err))
	case <-time.After(time.Second):
	}
}

// dump publishes a Snapshot.
func (d *Daemon) dump() {
	shown, instance, known := d.leaseNow()
	d.jobs.each(func(m *member) {
		m.LookForSuspended()
		m.CountMissed()
		unfinished := m.Unfinished()
		d.board.Job(m.spec.Name, func(j *status.Job) {
			j.Unfinished = unfinished
			if known {
				j.Lease = shown
			}
		})
	})
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	d.board.Update(func(s *status.Snapshot) {
		log := d.log.Stats()
		s.User, s.Log, s.State = name, d.log.Path(), d.machine.String()
		s.Dropped, s.DroppedFor, s.LogStalled, s.LogMisplaced = log.Dropped, log.Lost, log.Stalled, log.Misplaced
		if known {
			s.Instance = instance
		}
	})
	var dump []event.Variable
	for _, v := range d.board.Snapshot().Variables() {
		dump = append(dump, event.Variable(v))
	}
	d.events.Publish(event.Dump(dump))
}
