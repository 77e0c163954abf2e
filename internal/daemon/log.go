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
	lost      uint64          // lines of which it was said that they are lost
	misplaced string          // what was said last about where the log is
	trouble   <-chan struct{} // of the log; nil while again runs
	again     *time.Timer     // after an event about lost lines, until the next

	reopening   <-chan error // the result of the reopening that is under way; nil without one
	reopenAgain bool         // another was requested meanwhile
}

// lossesAgain lies between two events about lines that are lost.
const lossesAgain = 10 * time.Second

// logTrouble says what the log itself cannot tell: that lines are lost, or go to a file that nobody
// will find. It is called when that is new, and a while after it was said.
func (d *Daemon) logTrouble() {
	s := d.log.Stats()
	d.logs.trouble = d.log.Trouble()
	if d.log.Path() == "" {
		return // it is stderr itself
	}
	switch {
	case s.Stray == nil:
		d.logs.misplaced = "" // the next time is news again
	case s.Stray.Error() != d.logs.misplaced:
		d.logs.misplaced = s.Stray.Error()
		d.events.Publish(event.LogMisplaced(s.Stray))
	}
	if s.Dropped > d.logs.lost {
		d.logs.lost = s.Dropped
		d.events.Publish(event.LogLost(s.Dropped, s.Lost))
		d.logs.trouble = nil
		d.logs.again.Reset(lossesAgain)
	}
}

// reopen opens the log files again, in a goroutine of its own: to create a file on a disk that hangs may
// take as long as the disk hangs. A second request meanwhile is served after the first. The goroutine
// is waited for as long as the process lives, and no longer: an open(2) cannot be called back.
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

// reopened ends what reopen has begun.
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

// awaitReopening gives a reopening a second to end.
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
	shown, instance, known := d.job.Lease()
	if known {
		d.board.Job(d.o.Config.Jobs[0].Name, func(j *status.Job) { j.Lease = shown })
	}
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	d.board.Update(func(s *status.Snapshot) {
		log := d.log.Stats()
		s.User, s.Log, s.State = name, d.log.Path(), d.machine.String()
		s.Dropped, s.DroppedFor, s.LogStalled, s.LogAstray = log.Dropped, log.Lost, log.Stalled, log.Stray
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
