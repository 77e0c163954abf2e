package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/api"
	"gophd/internal/history"
	"gophd/internal/job"
)

func newList(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:        "list",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"jobs", "ps"},
		Short:      "List the jobs of all daemons on this host",
		Long: `List the jobs of all daemons of this host that you may see: state, schedule, last run, next run. HEADROOM
is how much of the interval is left after 99 of 100 runs.

Daemons are found by their sockets: in GOPHD_RUNTIME_DIR if it is set, else in /run/gophd, the
directories below it, and your own directories; as root in those of all users. See docs/api.md.`,
		Example: `  gophd list
  gophd list --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.list(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func (p *program) list(ctx context.Context, asJSON bool) error {
	all, err := p.daemons(ctx)
	if err != nil {
		return err
	}
	jobs := []api.ListedJob{}
	for _, f := range all {
		if f.Err == nil {
			jobs = append(jobs, withHistory(ctx, f)...)
		}
	}
	if asJSON {
		return p.printJSON(jobs)
	}
	p.warnOf(all)
	if len(jobs) == 0 {
		if !slices.ContainsFunc(all, func(f api.Found) bool { return !errors.Is(f.Err, api.ErrNotRunning) }) {
			fmt.Fprintln(p.stderr, "gophd: no daemon is running")
		}
		return nil
	}
	return p.screen().list(jobs, time.Now())
}

// withHistory returns the jobs of a daemon. The last run of one that has had none since the daemon was started
// is that of its history. It waits at most lastLinesFor for the disk.
func withHistory(ctx context.Context, f api.Found) []api.ListedJob {
	jobs := f.Status.Listed()
	if f.Record == nil || !slices.ContainsFunc(jobs, func(j api.ListedJob) bool { return j.Last == nil }) {
		return jobs
	}
	ctx, cancel := context.WithTimeout(ctx, lastLinesFor)
	defer cancel()
	read := make(chan []api.ListedJob, 1)
	go func() { // a read(2) cannot be canceled: it is left behind
		jobs := slices.Clone(jobs)
		for i := range jobs {
			if j := &jobs[i]; j.Last == nil && ctx.Err() == nil {
				j.Last = lastEnded(f.Record.History(j.Name))
			}
		}
		read <- jobs
	}()
	select {
	case jobs = <-read:
	case <-ctx.Done():
	}
	return jobs
}

// lastEnded returns the last run in a history that has ended; nil if there is none, or it cannot be read.
func lastEnded(path string) *api.Last {
	runs, _ := history.Read(path, history.Query{Last: 1 + earlierRuns})
	for _, r := range slices.Backward(runs.Runs) {
		if r.Outcome != "" && r.Duration != nil {
			return &api.Last{Run: r.Number, Outcome: job.Ending(r.Outcome), ExitCode: r.ExitCode, Started: r.Started, Ended: r.Ended,
				Length: *r.Duration, Text: r.Cause()}
		}
	}
	return nil
}

// warnOf names the daemons that were killed or do not answer, those with the same reason in one line.
func (p *program) warnOf(all []api.Found) {
	var reasons []string
	names := map[string][]string{}
	for _, f := range all {
		reason := ""
		switch _, left := os.Lstat(f.Socket); {
		case f.Err == nil:
		case !errors.Is(f.Err, api.ErrNotRunning):
			reason = f.Err.Error()
		case left == nil: // it removes its socket when it exits
			reason = "not running: killed, or the machine went down; gophd why says more"
		}
		if reason == "" {
			continue
		}
		if names[reason] == nil {
			reasons = append(reasons, reason)
		}
		names[reason] = append(names[reason], f.Name)
	}
	const most = 5
	for _, reason := range reasons {
		text, more := strings.Join(names[reason], ", "), ""
		if n := len(names[reason]); n > most {
			text, more = strings.Join(names[reason][:most], ", "), fmt.Sprintf(" and %d more", n-most)
		}
		fmt.Fprintf(p.stderr, "gophd: %s%s: %s\n", printable(text), more, printable(reason))
	}
}

// printJSON prints a value as one line.
func (p *program) printJSON(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s\n", text)
	return err
}

// list prints the table of the jobs. A narrow terminal shows fewer columns.
func (s screen) list(jobs []api.ListedJob, now time.Time) error {
	rows := listRows(jobs, now)
	if s.width > 0 {
		rows = without(rows, []string{"HEADROOM", "SCHEDULE", "LAST RUN"}, func() bool { return tableWidth(rows, readableColumn) <= s.width })
	}
	return s.table(rows)
}

// listRows returns the table of the jobs.
func listRows(jobs []api.ListedJob, now time.Time) [][]cell {
	times := map[string]int{}
	for _, j := range jobs {
		times[j.Name]++
	}
	rows := [][]cell{{{text: "JOB"}, {text: "STATE"}, {text: "SCHEDULE"}, {text: "LAST RUN"}, {text: "OUTCOME"}, {text: "NEXT RUN"},
		{text: "HEADROOM"}}}
	for _, j := range jobs {
		name := j.Name
		if times[name] > 1 {
			name = j.Daemon + "/" + j.Name
		}
		last, outcome := "-", cell{text: "-"}
		if l := j.Last; l != nil {
			last = ago(now.Sub(l.Started)) + ", " + brief(seconds(l.Length))
			outcome = outcomeOf(*l)
		} else if len(j.Running) > 0 {
			last, outcome = brief(now.Sub(j.Running[0].Started))+" so far", cell{"running", green}
		}
		rows = append(rows, []cell{{text: printable(name)}, stateCell(j.Job), {text: printable(j.Schedule)}, {text: last}, outcome,
			{text: untilNext(j.Job, now)}, {text: headroom(j.Job)}})
	}
	return rows
}

func stateCell(j api.Job) cell {
	c := cell{text: printable(string(j.State))}
	switch j.State {
	case api.Running:
		c.color = green
	case api.Paused, api.Standby, api.Stopping, api.Stopped:
		c.color = yellow
	case api.Failed:
		c.color = red
	}
	return c
}

// outcomeOf returns the outcome of a run, with its exit code if that says more.
func outcomeOf(l api.Last) cell {
	c := cell{text: printable(string(l.Outcome)), color: red}
	switch {
	case l.Outcome == job.EndingSuccess:
		c.color = green
	case l.Outcome == job.EndingStopped:
		c.color = yellow
	case l.Outcome == job.EndingFailure && l.ExitCode != nil:
		c.text += fmt.Sprintf(", exit %d", *l.ExitCode)
	}
	return c
}

// untilNext returns when the next run is due, and that it will be skipped.
func untilNext(j api.Job, now time.Time) (text string) {
	switch {
	case j.Paused:
		return "paused"
	case j.NextRun == nil:
		return "-"
	}
	text = "now"
	if wait := j.NextRun.Sub(now); wait > 0 {
		text = "in " + brief(wait)
	}
	switch j.Skip {
	case 0:
	case 1:
		text += ", skipped"
	default:
		text += fmt.Sprintf(", %d skipped", j.Skip)
	}
	return text
}

// headroom returns how much of the interval 99 of 100 runs leave.
func headroom(j api.Job) string {
	if j.Interval == 0 || j.Lengths == nil {
		return "-"
	}
	return fmt.Sprintf("%d %%", int(math.Floor(100*(1-j.Lengths.P99/j.Interval))))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func ago(d time.Duration) string {
	if d < 0 {
		return "now"
	}
	return brief(d) + " ago"
}

// brief returns a duration with two digits or two units, as in 5.8s, 41s, 3min, 17h 3min, 2d 4h.
func brief(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Round(time.Millisecond).Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return two(d, time.Minute, "min", time.Second, "s")
	case d < 24*time.Hour:
		return two(d, time.Hour, "h", time.Minute, "min")
	}
	return two(d, 24*time.Hour, "d", time.Hour, "h")
}

func two(d, big time.Duration, name string, small time.Duration, less string) string {
	text := fmt.Sprintf("%d%s", d/big, name)
	if rest := d % big / small; rest > 0 {
		text += fmt.Sprintf(" %d%s", rest, less)
	}
	return text
}
