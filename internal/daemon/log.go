package daemon

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/logging"
	"gophd/internal/status"
)

// logWatch is what the daemon knows of its logs.
type logWatch struct {
	all     []watchedLog    // that of the daemon, and those of the jobs with a log of their own
	next    int             // index in all of the first to look at
	trouble <-chan struct{} // from the logs; nil while repeat runs
	repeat  *time.Timer     // after an event about lost lines, until the next

	reopening   <-chan error // receives the result of a reopening; nil without one
	reopenAgain bool         // another reopening was requested meanwhile
}

// watchedLog is a log, and what was reported about it.
type watchedLog struct {
	logging.Job
	job       string // "" for that of the daemon
	lost      uint64 // lines in the last event about them
	misplaced string // the problem with its path in the last event about it
}

func newLogWatch(log *logging.Log, o logging.Options) logWatch {
	w := logWatch{trouble: log.Trouble(), repeat: stopped(), all: []watchedLog{{Job: log.Job(""), lost: o.Losses.Lines}}}
	for _, j := range o.Jobs {
		w.all = append(w.all, watchedLog{Job: log.Job(j.Job), job: j.Job, lost: j.Losses.Lines})
	}
	return w
}

// losses returns the losses of the logs of jobs.
func (w *logWatch) losses() map[string]logging.Losses {
	all := map[string]logging.Losses{}
	for _, log := range w.all[1:] {
		if lost := log.Losses(); lost.Lines > 0 {
			all[log.job] = lost
		}
	}
	return all
}

// Events about lines that are lost: the time until the next, and how many logs they are about at once.
const (
	lossesAgain  = 10 * time.Second
	lossesAtOnce = 10
)

// logTrouble reports what a log itself cannot: that lines are lost, or go to a file at another path
// than expected. It is called when that is new, and some time after it was reported. Of many logs that
// lose lines it reports some, and the others next time.
func (d *Daemon) logTrouble() { d.reportLogs(lossesAtOnce) }

func (d *Daemon) reportLogs(most int) {
	w := &d.logs
	w.trouble = d.log.Trouble()
	if d.log.Path() == "" {
		return // it is stderr itself
	}
	reported := 0
	for range w.all {
		log := &w.all[w.next%len(w.all)]
		if reported == most {
			break
		}
		w.next++
		s := log.Stats()
		switch {
		case s.Misplaced == nil:
			log.misplaced = "" // report it again when it comes back
		case s.Misplaced.Error() != log.misplaced:
			log.misplaced = s.Misplaced.Error()
			d.events.Publish(event.LogMisplaced(log.job, s.Misplaced))
		}
		if s.Dropped > log.lost {
			log.lost = s.Dropped
			d.events.Publish(event.LogLost(log.job, s.Dropped, s.Lost))
			reported++
		}
	}
	if reported > 0 {
		w.trouble = nil
		w.repeat.Reset(lossesAgain)
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
	shared, instance, known := leaseNow(d.lease)
	d.jobs.each(func(m *member) {
		m.LookForSuspended()
		m.CountMissed()
		unfinished := m.Unfinished()
		d.board.Job(m.spec.Name, func(j *status.Job) {
			j.Unfinished = unfinished
			if log := d.logOf(m.spec.Name); log.Own() {
				j.Log = logStatus(log)
			}
			if m.lease != nil {
				if own, _, ok := leaseNow(m.lease); ok {
					j.Lease = own
				}
			} else if known {
				j.Lease = shared
			}
		})
	})
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	d.board.Update(func(s *status.Snapshot) {
		s.User, s.Log, s.State = name, logStatus(d.log.Job("")), d.machine.String()
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

func logStatus(log logging.Job) status.Log {
	s := log.Stats()
	return status.Log{File: log.Path(), Dropped: s.Dropped, DroppedFor: s.Lost, Stalled: s.Stalled, Misplaced: s.Misplaced}
}
