package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gophd/internal/schedule"
)

// Timed is what decides when the runs of a job with a calendar are due. The name is "" for a calendar alone.
type Timed struct {
	Name          string
	Calendar      *schedule.Schedule
	Splay, Jitter time.Duration
}

// Timed returns that of the job.
func (s Spec) Timed() Timed { return Timed{s.Name, s.Calendar, s.Splay, s.Jitter} }

// ComingRun is a due time, in the zone of the calendar, and what is special about it.
type ComingRun struct {
	Job  string
	Due  time.Time
	Note string
}

// Coming returns the first runs after an instant of all jobs together, at most count, in the order of their due
// times. A job without any is in none, with the reason. The due times are in the years from 1 to 9999, which
// have a form in RFC 3339.
func Coming(jobs []Timed, after time.Time, count int) (runs []ComingRun, none []string) {
	if first := time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC); after.Before(first) {
		after = first
	}
	next := make([]time.Time, 0, len(jobs)) // of each job that has one
	left := make([]Timed, 0, len(jobs))
	for _, j := range jobs {
		if due, ok := j.next(after); ok {
			next, left = append(next, due), append(left, j)
		} else {
			none = append(none, j.noRuns())
		}
	}
	for len(runs) < count && len(left) > 0 {
		first := 0
		for i := range next {
			if next[i].Before(next[first]) {
				first = i
			}
		}
		j, due := left[first], next[first]
		runs = append(runs, ComingRun{j.Name, due, j.note(due)})
		var ok bool
		if next[first], ok = j.next(due); !ok {
			next, left = slices.Delete(next, first, first+1), slices.Delete(left, first, first+1)
		}
	}
	return runs, none
}

// next returns the first due time after an instant, before the year 10000 in each zone.
func (j Timed) next(after time.Time) (time.Time, bool) {
	due, ok := j.Calendar.Next(after)
	return due, ok && due.Before(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
}

// note is about a change of the clock, and about how much later than at its due time the run starts.
func (j Timed) note(due time.Time) string {
	notes := []string{j.Calendar.Note(due)}
	from, to := j.Splay.Round(time.Second), (j.Splay + j.Jitter).Round(time.Second)
	switch {
	case j.Jitter > 0:
		notes = append(notes, fmt.Sprintf("starts %s to %s later", FormatDuration(from), FormatDuration(to)))
	case j.Splay > 0:
		notes = append(notes, fmt.Sprintf("starts %s later", FormatDuration(j.Splay.Round(time.Millisecond))))
	}
	return strings.Join(slices.DeleteFunc(notes, func(note string) bool { return note == "" }), "; ")
}

// noRuns says why a valid calendar has no coming runs.
func (j Timed) noRuns() string {
	name := ""
	if j.Name != "" {
		name = j.Name + ": "
	}
	switch j.Calendar.Kind() {
	case schedule.Reboot:
		return name + "@reboot has no due times: the job runs once at each boot"
	case schedule.Manual:
		return name + "@manual has no due times: the job runs on request only"
	}
	return name + j.Calendar.String() + " is over: there is no later run"
}
