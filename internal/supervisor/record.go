package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/procfs"
	"gophd/internal/safefile"
	"gophd/internal/schedule"
)

// record is the last due time of a job with a calendar, in a small file: the next gophd on this host
// continues from it, after a restart of the machine too. A re-exec does not need it. The file is written in
// place and not synced, because a job may be due each second: after a power failure it may be missing,
// and then nothing is caught up.
type record struct {
	path string // "" for none

	mu      sync.Mutex // guards the rest; held while the file is written
	written recorded
	failed  string // why it could not be written the last time
}

// recorded is the content of the file.
type recorded struct {
	Schedule *schedule.Schedule `json:"schedule,omitempty"` // of Due
	Due      time.Time          `json:"due"`                // the last due time that is over
	Boot     string             `json:"boot,omitempty"`     // of the kernel, in which a run at boot has started
}

func (r recorded) equal(other recorded) bool {
	return r.Schedule.Equal(other.Schedule) && r.Due.Equal(other.Due) && r.Boot == other.Boot
}

// maxRecord is more than a record needs: that of a job with the most excluded days has 300 kB.
const maxRecord = 1 << 20

// read returns what the last gophd has recorded; nothing if it has recorded nothing that can be read.
func (r *record) read() (last recorded, err error) {
	if r.path == "" {
		return recorded{}, nil
	}
	f, err := safefile.Open(r.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return recorded{}, nil
	}
	if err != nil {
		return recorded{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err == nil {
		err = json.Unmarshal(text, &last)
	}
	if err != nil {
		return recorded{}, fmt.Errorf("%s: not a record of due times; missed runs are not caught up: %w", r.path, err)
	}
	return last, nil
}

// writeRecord writes the record if it has changed. It blocks for as long as the file system does. A job
// that is due at each boot has nothing to record before its run.
func (s *Supervisor) writeRecord(starting bool) {
	r, due := &s.record, s.loopRun.due.Load()
	if r.path == "" || due == nil || !starting && s.spec.Calendar.Kind() == schedule.Reboot {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := recorded{Schedule: s.spec.Calendar, Due: *due, Boot: bootID()}
	if now.equal(r.written) {
		return
	}
	if err := r.write(now); err == nil {
		r.written, r.failed = now, ""
	} else if err.Error() != r.failed {
		r.failed = err.Error()
		s.problem(fmt.Errorf("%w: after a restart a run may be missing, or start twice", err))
	}
}

func (r *record) write(now recorded) error {
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	f, err := safefile.Open(r.path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(append(text, '\n'), 0); err == nil {
		err = f.Truncate(int64(len(text)) + 1)
	}
	return errors.Join(err, f.Close())
}

var bootID = sync.OnceValue(func() string { return procfs.Self().Boot })

// resumeRecord returns since when due times count that are over, and whether a job that is due at each
// boot is due now. Neither applies to a job that a re-exec or a reload has started.
func (s *Supervisor) resumeRecord() (since time.Time, booted bool) {
	if !s.o.Fresh || s.spec.Calendar == nil {
		return time.Time{}, false
	}
	last, err := s.record.read()
	if err != nil {
		s.problem(err)
	}
	s.record.written = last
	booted = os.Getpid() == 1 || bootID() == "" || last.Boot != bootID()
	if s.o.Shared || !last.Schedule.Equal(s.spec.Calendar) {
		return time.Time{}, booted // others may have served them, or they are those of another schedule
	}
	since, now := last.Due, time.Now()
	if oldest := now.Add(-s.spec.CatchUpWindow); s.spec.CatchUpWindow > 0 && since.Before(oldest) {
		since = oldest
	}
	switch s.spec.CatchUp {
	case job.CatchUpNone:
		since = now
	case job.CatchUpOne:
		since = beforeLast(s.spec.Calendar, since, now)
	}
	s.reportMissed(last.Due, since)
	return since, booted
}

// beforeLast returns an instant from since on, after which there are only a few due times up to now, and
// one of them at least if there is one at all. A job that is due each second may have missed millions.
func beforeLast(c *schedule.Schedule, since, now time.Time) time.Time {
	for back := time.Minute; now.Add(-back).After(since); back *= 2 {
		if due, ok := c.Next(now.Add(-back)); ok && !due.After(now) {
			return now.Add(-back)
		}
	}
	return since
}

// maxMissed is how many due times are counted that were missed before a start.
const maxMissed = 10_000

// reportMissed reports the due times between two instants, which are not caught up.
func (s *Supervisor) reportMissed(after, until time.Time) {
	n, last, why := uint64(0), time.Time{}, "gophd did not run when they were due"
	for due, ok := s.spec.Calendar.Next(after); ok && !due.After(until) && n < maxMissed; due, ok = s.spec.Calendar.Next(due) {
		n, last = n+1, due
	}
	if n == maxMissed {
		why += ", and perhaps more"
	}
	if n > 0 {
		s.publish(event.TicksSkipped(s.spec.Name, job.Run{Due: last}, n, why))
	}
}
