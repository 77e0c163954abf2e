package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gophd/internal/job"
)

// often is the shortest time from one due time to the next of a job whose runs have a place in Line: a
// line that changes with each run of a faster job helps nobody.
const often = time.Minute

// namesInLine limits how many jobs Line names for one reason.
const namesInLine = 3

// Line returns the state in one line, for systemctl status. It has times of the clock and no ages, so that
// it stays true while nothing happens. standby has the holder of the lease for each job that is on standby
// here.
func (b *Board) Line(standby map[string]string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.now.State; s == "draining" || s == "stopping" {
		return s + waitsFor(b.now.Jobs)
	}
	if len(b.now.Jobs) == 1 {
		j := &b.now.Jobs[0]
		return j.Name + ": " + j.line(standby[j.Name])
	}
	return lineOfMany(b.now.Jobs, standby)
}

// waitsFor says for which runs a shutdown waits.
func waitsFor(jobs []Job) string {
	var runs []string
	for _, j := range jobs {
		for _, r := range j.Active {
			runs = append(runs, fmt.Sprintf("run %d of %s", r.Run.Number, j.Name))
		}
	}
	if runs == nil {
		return ""
	}
	return ", waiting for " + some(runs)
}

func (j *Job) line(holder string) string {
	last := j.last()
	switch {
	case j.Failed != "":
		return "failed: " + j.Failed
	case holder != "":
		return "on standby, the lease is held by " + holder
	case j.Held != "" && j.Held != "active":
		return j.Held + ", " + last.words(true)
	case j.Every > 0 && j.Every < often, j.Every == 0 && j.Next.IsZero() && last != nil && last.Length < often,
		j.Next.IsZero() && len(j.Active) == 0:
		return j.Schedule + ", " + last.words(false)
	case len(j.Active) > 0:
		r := j.Active[0]
		return fmt.Sprintf("run %d since %s, %s", r.Run.Number, r.Since.Format(lineStamp), last.words(true))
	}
	return fmt.Sprintf("next run %s, %s", j.Next.Format(lineStamp), last.words(true))
}

const lineStamp = "Mon Jan 2 15:04:05"

// words says how the last run ended, and when.
func (l *Last) words(when bool) string {
	switch {
	case l == nil:
		return "no run has ended yet"
	case !when && l.Outcome == job.EndingSuccess:
		return "the last run succeeded"
	case !when:
		return "the last run did not succeed: " + l.Text
	case l.Outcome == job.EndingSuccess:
		return "last success " + l.Ended.Format(lineStamp)
	}
	return fmt.Sprintf("the last run ended %s: %s", l.Ended.Format(lineStamp), l.Text)
}

// lineOfMany names the jobs that need attention.
func lineOfMany(jobs []Job, standby map[string]string) string {
	reasons := []string{"failed", "on standby", "paused", "stopped", "last run failed"}
	by := map[string][]string{}
	for i := range jobs {
		j, reason := &jobs[i], ""
		switch {
		case j.Failed != "":
			reason = "failed"
		case standby[j.Name] != "":
			reason = "on standby"
		case slices.Contains(reasons, j.Held): // paused or stopped
			reason = j.Held
		case j.lastFailed():
			reason = "last run failed"
		}
		by[reason] = append(by[reason], j.Name)
	}
	text := fmt.Sprintf("%d jobs", len(jobs))
	if holder, all := standby[jobs[0].Name], by["on standby"]; len(all) == len(jobs) {
		return text + " on standby, the lease is held by " + holder
	}
	for _, reason := range reasons {
		if names := by[reason]; names != nil {
			text += fmt.Sprintf("; %s: %s", reason, some(names))
		}
	}
	if len(by[""]) == len(jobs) {
		text += ", none has a problem"
	}
	return text
}

// lastFailed reports whether the last run has failed. It does not allocate, for a thousand jobs.
func (j *Job) lastFailed() bool {
	if j.result != nil {
		return j.result.Failed()
	}
	return j.Last != nil && j.Last.Outcome != job.EndingSuccess && j.Last.Outcome != job.EndingStopped
}

// some names the first ones and counts the rest.
func some(names []string) string {
	if more := len(names) - namesInLine; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:namesInLine], ", "), more)
	}
	return strings.Join(names, ", ")
}
