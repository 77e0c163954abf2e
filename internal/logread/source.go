package logread

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gophd/internal/logging"
)

// Source is where the lines about a job are.
type Source struct {
	// File is log.file with its pattern: an absolute path, journald:TAG or syslog:TAG. Or it is
	// unit:NAME or user-unit:NAME, if the output of that unit of systemd is in the journal.
	File   string
	Job    string   // whose lines are read; "" for all
	Shared bool     // several jobs write to it, with their names
	Jobs   []string // those, as far as they are known

	prefix, quoted []byte // of the lines of Job, in the formats text and json
}

// The prefixes of File for a unit of systemd.
const (
	Unit     = "unit:"
	UserUnit = "user-unit:"
)

// Query selects lines. The zero value selects all.
type Query struct {
	Last    int       // the last ones only, if it is not 0
	Since   time.Time // those of that time or later
	Runs    []Run     // those of one of these runs, if it is not nil
	Command bool      // those of the command only

	// Until ends a Read with follow when it is closed, after the lines that are there by then.
	Until <-chan struct{}

	// MaxScan limits how many bytes are searched for the last lines; 0 is no limit.
	MaxScan int64

	byPID    map[int][]Run
	byNumber map[uint64][]Run
}

// Run is a run whose lines are selected.
type Run struct {
	Number         uint64
	PID            int
	Started, Ended time.Time // Ended is zero for an active one
}

// slack is how far the times in a log may be from those of a run: a line gets its time when gophd has read
// it, which a busy machine delays.
const slack = 2 * time.Second

// includes reports whether a line is one of the run.
func (r Run) includes(l Line) bool {
	if l.Time.Before(r.Started.Add(-slack)) {
		return false
	}
	if l.Stream == "" {
		return l.Run == r.Number && r.near(l.Time, time.Minute) // what follows about it, such as an escaped process
	}
	return l.PID == r.PID && r.PID > 0 && r.near(l.Time, slack)
}

func (r Run) near(at time.Time, more time.Duration) bool {
	return r.Ended.IsZero() || !at.After(r.Ended.Add(more))
}

// from returns the time before which no line is selected.
func (q Query) from() time.Time {
	from := q.Since
	if q.Runs != nil {
		var first time.Time
		for _, r := range q.Runs {
			if started := r.Started.Add(-slack); first.IsZero() || started.Before(first) {
				first = started
			}
		}
		if first.After(from) {
			from = first
		}
	}
	return from
}

// selects reports whether a line of the job is selected. One without a time belongs to the line before it.
func (q Query) selects(l Line) bool {
	switch {
	case q.Command && l.Stream == "":
		return false
	case !l.Time.IsZero() && l.Time.Before(q.Since):
		return false
	case q.Runs == nil:
		return true
	}
	candidates := q.byPID[l.PID]
	if l.Stream == "" {
		candidates = q.byNumber[l.Run]
	}
	return slices.ContainsFunc(candidates, func(r Run) bool { return r.includes(l) })
}

// index prepares selects: there may be many runs.
func (q *Query) index() {
	q.byPID, q.byNumber = map[int][]Run{}, map[uint64][]Run{}
	for _, r := range q.Runs {
		q.byPID[r.PID] = append(q.byPID[r.PID], r)
		q.byNumber[r.Number] = append(q.byNumber[r.Number], r)
	}
}

// Errors of Read.
var (
	// ErrNone says that there is no log file yet.
	ErrNone = errors.New("there is no log file yet")
	// ErrSyslog says that the lines are where the syslog daemon has put them.
	ErrSyslog = errors.New("the log goes to syslog, which gophd cannot read")
)

// Read calls yield with each selected line, the oldest first, until it returns false. With follow it goes on
// with the lines to come, until ctx ends; that is no error. It blocks for as long as the disk does.
func Read(ctx context.Context, s Source, q Query, follow bool, yield func(Line) bool) error {
	s.prefix, s.quoted = []byte(s.Job+": "), append([]byte(`"job":`), quoted([]byte(s.Job))...)
	q.index()
	if s.File == "" {
		return errors.New("there is no log")
	}
	switch name, tag := logging.IsService(s.File); {
	case name == "syslog":
		return fmt.Errorf("%w: look for the tag %s in its files", ErrSyslog, tag)
	case name == "journald", s.unit() != "":
		return s.readJournal(ctx, q, follow, tag, yield)
	}
	r := &reader{Source: s, Query: q, ctx: ctx, yield: yield, now: time.Now}
	defer r.close()
	err := r.read(follow)
	if errors.Is(err, errEnough) || follow && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// errEnough says that yield has returned false.
var errEnough = errors.New("enough lines")
