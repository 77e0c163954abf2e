package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/line"
)

// Variable is one line of the dump.
type Variable struct{ Name, Text string }

const stamp = "2006-01-02 15:04:05 -0700"

// Variables lists the content of a Snapshot in the order in which a person reads it. It has what
// the dump of PHP-Daemon had, and the loop, the runs and the lease.
func (s Snapshot) Variables() []Variable {
	vs := []Variable{
		{"state", s.State},
		{"shutting down", yes(s.State == "draining" || s.State == "stopping")},
		{"pid", fmt.Sprint(s.PID)},
		{"user", s.User},
		{"started", s.Born.Format(stamp)},
		{"uptime", span(s.Taken.Sub(s.Born))},
		{"this process", span(s.Taken.Sub(s.ProcessStart)) + ", after " + count(uint64(s.Restarts), "re-exec")},
		{"config file", or(s.Config, "none")},
	}
	vs = append(vs, s.Log.variables()...)
	vs = append(vs, []Variable{
		{"background", yes(s.Daemon)},
		{"verbose", yes(s.Verbose)},
		{"restart interval", or(nonzero(s.RestartIn), "off")},
		{"memory", mib(s.Memory.Now)},
		{"peak memory", mib(s.Memory.Peak)},
		{"goroutines", fmt.Sprint(s.Goroutines)},
		{"instance", s.Instance},
	}...)
	for _, j := range s.Jobs {
		vs = append(vs, j.variables(s.Taken)...)
	}
	return vs
}

func (l Log) variables() []Variable {
	return []Variable{
		{"log file", or(l.File, "none")},
		{"log lines dropped", l.dropped()},
		{"log trouble", l.trouble()},
	}
}

func (l Log) dropped() string {
	if l.DroppedFor == nil {
		return fmt.Sprint(l.Dropped)
	}
	return fmt.Sprintf("%d, the last: %v", l.Dropped, l.DroppedFor)
}

// trouble reports a write that takes too long, or a log in another file.
func (l Log) trouble() string {
	switch {
	case l.Stalled >= time.Second:
		return "write stalled for " + span(l.Stalled)
	case l.Misplaced != nil:
		return l.Misplaced.Error()
	}
	return "none"
}

// Late returns how many runs were active when a tick was due, and how many ticks that has cost: the active
// runs count too, as in the log.
func (j Job) Late() (runs, missed uint64) {
	runs, missed = j.Counts.Late, j.Counts.Missed
	for _, r := range j.Active {
		if missed += r.Missed; r.Missed > 0 {
			runs++
		}
	}
	return runs, missed
}

func (j Job) variables(now time.Time) []Variable {
	running := "none"
	late, missed := j.Late()
	for i, r := range j.Active {
		one := fmt.Sprintf("number %d, pid %d, for %s", r.Run.Number, r.PID, span(now.Sub(r.Since)))
		if s := r.Suspended; s.PID != 0 {
			if one += ", "; s.PID != r.PID {
				one += fmt.Sprintf("process %d (%s) ", s.PID, s.Name)
			}
			one += "suspended: stopped by " + event.StopSignal(s.By)
		}
		if i == 0 {
			running = one
		} else {
			running += "; " + one
		}
	}
	last := "none"
	if j.Last != nil {
		last = fmt.Sprintf("%s after %s", j.Last.Text, span(j.Last.Length))
	}
	next := "none"
	if !j.Next.IsZero() {
		next = j.Next.Format(stamp)
		if wait := j.Next.Sub(now); wait >= 0 {
			next += ", in " + span(wait)
		} else { // it was due during the active run, or the lease does not allow a run
			next += ", due " + span(-wait) + " ago"
		}
	}
	lengths := "none yet"
	if l := j.Lengths; l.Of > 0 {
		lengths = fmt.Sprintf("mean %s, p50 %s, p90 %s, p99 %s over the last %s",
			span(l.Mean), span(l.P50), span(l.P90), span(l.P99), count(uint64(l.Of), "run"))
	}
	until := "does not expire"
	if !j.Lease.Until.IsZero() {
		until = "until " + j.Lease.Until.Format(stamp) + " unless renewed"
	}
	lease := j.Lease.State
	if j.Lease.State == "held" {
		lease += ", fencing token " + fmt.Sprint(j.Lease.Fence) + ", " + until
	}
	when := Variable{"interval", job.FormatDuration(j.Interval)}
	if j.Interval == 0 {
		when = Variable{"schedule", j.Schedule}
	}
	vs := []Variable{
		{"job", j.Name},
		{"loop", j.State.String() + j.held()},
		when,
		{"next tick", next},
		{"run", running},
		{"ended runs", fmt.Sprint(j.Counts.Runs)},
		{"failures", fmt.Sprint(j.Counts.Failures)},
		{"late runs", fmt.Sprintf("%d, %s missed", late, count(missed, "tick"))},
		{"last outcome", last},
		{"run lengths", lengths},
		{"lease store", j.Lease.Store},
		{"lease", lease},
		{"holder", or(j.Lease.Holder, "unknown")},
	}
	if j.Log.File != "" {
		vs = append(vs, j.Log.variables()...)
	}
	if len(j.Unfinished) > 0 {
		vs = slices.Insert(vs, 5, Variable{"unfinished line", unfinished(j.Unfinished)})
	}
	if j.Status != "" && slices.ContainsFunc(j.Active, func(r ActiveRun) bool { return r.Run.Number == j.StatusOf }) {
		vs = slices.Insert(vs, 5, Variable{"status", j.Status}) // below the run
	}
	return vs
}

// held returns what was requested for the next runs, after a comma.
func (j Job) held() (text string) {
	if j.Held == "paused" || j.Held == "stopped" {
		text = ", " + j.Held
	}
	if j.Skip > 0 {
		text += ", the next " + count(uint64(j.Skip), "scheduled run") + " skipped"
	}
	return text
}

// shownStart is the number of characters that the dump shows of an unfinished line.
const shownStart = 60

func unfinished(lines []line.Unfinished) string {
	var all []string
	for _, u := range lines {
		start, n := string(u.Start), 0
		for i := range start { // by characters
			if n++; n > shownStart {
				start = start[:i]
				break
			}
		}
		text := fmt.Sprintf("%s of pid %d, %s: %q", or(u.Stream, "output"), u.PID, count(uint64(u.Bytes), "byte"), start)
		if len(start) < u.Bytes {
			text += "..."
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func nonzero(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return job.FormatDuration(d)
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// span rounds a duration to about three digits.
func span(d time.Duration) string {
	switch {
	case d >= time.Minute:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		d = d.Round(10 * time.Microsecond)
	}
	return d.String()
}

func mib(bytes int64) string {
	if bytes == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}
