package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/config"
	"gophd/internal/job"
	"gophd/internal/misspelled"
	"gophd/internal/schedule"
)

// nextFlags are the flags of next.
type nextFlags struct {
	count    int
	from     string
	timezone string
	seconds  bool
	json     bool
}

func newNext(p *program) *cobra.Command {
	var f nextFlags
	cmd := &cobra.Command{
		Use:   `next ["EXPRESSION" | [-c FILE | --crontab FILE] [NAME]] [-n 10] [--from TIME] [--timezone ZONE]`,
		Short: "Show the coming runs of the jobs of a config, or of a cron expression",

		DisableFlagsInUseLine: true,

		SuggestFor: []string{"calendar", "cron", "cronnext", "schedule", "upcoming"},
		Long: `Show when the jobs of a crontab, or of a config file with a schedule, will run, or that of a name, or when a job with the
schedule EXPRESSION would run: in its time zone, in UTC, and with a note where the clock changes. Quote
the expression, because the shell expands *. docs/schedule.md has the syntax. What ~ draws depends on
the host, and for a job on its name too.
`,
		Example: `  gophd next "17 3 * * 1-5"
  gophd next "30 2 * * *" --timezone America/New_York --from 2026-03-07 -n 3
  gophd next -c jobs.yaml
  gophd next -c jobs.yaml nightly --json
  gophd next --crontab /etc/crontab`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{fmt.Errorf("next takes one expression or name, and there are %d arguments; quote it", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.next(cmd, strings.Join(args, ""), f) },
	}
	config.AddFileFlag(cmd.Flags())
	cmd.Flags().IntVarP(&f.count, "number", "n", 10, "number of runs to show")
	cmd.Flags().StringVar(&f.from, "from", "",
		"the first run is not before this `TIME`, such as 2026-03-07 or 2026-03-07T02:30 (default now)")
	cmd.Flags().StringVar(&f.timezone, "timezone", "",
		"time `ZONE` of the expression, such as Europe/Berlin (default: TZ); for jobs, zone of what is shown")
	cmd.Flags().BoolVar(&f.seconds, "seconds", false, "allow six fields, with the second first")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object per line")
	return cmd
}

func (p *program) next(cmd *cobra.Command, word string, f nextFlags) error {
	if f.count < 1 {
		return &usageError{fmt.Errorf("--number %d: not a number of runs; write 1 or more", f.count)}
	}
	zone, err := nextZone(f.timezone)
	if err != nil {
		return &usageError{err}
	}
	after := time.Now()
	if f.from != "" {
		if after, err = parseFrom(f.from, zone); err != nil {
			return &usageError{err}
		}
		after = after.Add(-1) // a run at that time is shown
	}
	jobs, err := p.scheduled(cmd, word, f, zone)
	if err != nil {
		return err
	}
	var runs []comingRun
	for _, j := range jobs {
		coming := j.runs(after, f.count)
		if len(coming) == 0 {
			fmt.Fprintf(p.stderr, "gophd: %s\n", noRuns(j.name, j.calendar))
		}
		runs = append(runs, coming...)
	}
	slices.SortStableFunc(runs, func(a, b comingRun) int { return a.due.Compare(b.due) })
	runs = runs[:min(len(runs), f.count)]
	if f.timezone != "" {
		for i := range runs {
			runs[i].due = runs[i].due.In(zone)
		}
	}
	if f.json {
		return p.printRunsJSON(runs)
	}
	return p.printRuns(runs)
}

// scheduledJob is a job with a calendar. It has no name if there is only an expression.
type scheduledJob struct {
	name     string
	calendar *schedule.Schedule
	delay    string // of each run after its due time; "" for none
}

// delayOf describes how much later than at its due time a run starts.
func delayOf(spec job.Spec) string {
	from, to := spec.Splay.Round(time.Second), (spec.Splay + spec.Jitter).Round(time.Second)
	switch {
	case spec.Jitter > 0:
		return fmt.Sprintf("starts %s to %s later", from, to)
	case spec.Splay > 0:
		return fmt.Sprintf("starts %s later", spec.Splay.Round(time.Millisecond))
	}
	return ""
}

// scheduled returns the expression, or the job of that name, or all jobs of the config that have a
// calendar. A name has no blanks, and does not start with @.
func (p *program) scheduled(cmd *cobra.Command, word string, f nextFlags, zone *time.Location) ([]scheduledJob, error) {
	if strings.HasPrefix(word, "@") || strings.ContainsAny(word, " \t*") {
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		s, err := schedule.Parse(word, schedule.Options{Zone: zone, Seconds: f.seconds, Seed: host})
		if err != nil {
			return nil, &usageError{fmt.Errorf("%q: %w", word, err)}
		}
		return []scheduledJob{{calendar: &s}}, nil
	}
	c, err := p.load(cmd, nil, false)
	if err != nil {
		return nil, err
	}
	var jobs []scheduledJob
	var names []string
	for _, text := range c.Warnings {
		p.warn(text)
	}
	for _, spec := range c.Jobs {
		names = append(names, spec.Name)
		switch {
		case word != "" && spec.Name != word:
		case spec.Calendar != nil:
			jobs = append(jobs, scheduledJob{name: spec.Name, calendar: spec.Calendar, delay: delayOf(spec)})
		case word != "":
			return nil, &usageError{fmt.Errorf("%s has no schedule: it runs %s", word, spec.Cadence())}
		}
	}
	switch {
	case jobs != nil:
		return jobs, nil
	case c.Source() == "" && word != "":
		return nil, &usageError{fmt.Errorf("%q: neither an expression nor the name of a job; for a job add -c FILE", word)}
	case c.Source() == "":
		return nil, &usageError{errors.New(`no expression; write one such as gophd next "17 3 * * 1-5", or -c FILE`)}
	case word == "":
		return nil, &usageError{fmt.Errorf("no job of %s has a schedule; set job.schedule", c.Source())}
	}
	if near := misspelled.Nearest(word, names); near != "" {
		return nil, &usageError{fmt.Errorf("%s has no job %s; did you mean %s?", c.Source(), word, near)}
	}
	flag := "-c"
	if c.Crontab != "" {
		flag = "--crontab"
	}
	return nil, &usageError{fmt.Errorf("%s has no job %s; gophd check %s %s lists them", c.Source(), word, flag, c.Source())}
}

// comingRun is a due time, in the zone of the schedule, and what is special about it.
type comingRun struct {
	job  string
	due  time.Time
	note string
}

// runs returns the first runs of a job after an instant.
func (j scheduledJob) runs(after time.Time, count int) (runs []comingRun) {
	for due, ok := j.calendar.Next(after); ok && len(runs) < count; due, ok = j.calendar.Next(due) {
		notes := slices.DeleteFunc([]string{j.calendar.Note(due), j.delay}, func(note string) bool { return note == "" })
		runs = append(runs, comingRun{j.name, due, strings.Join(notes, "; ")})
	}
	return runs
}

// nextZone returns the zone with a name, or that of TZ and of the system.
func nextZone(name string) (*time.Location, error) {
	zone, err := config.Zone(name)
	switch {
	case err != nil && name != "":
		return nil, fmt.Errorf("--timezone: %w", err)
	case err != nil:
		return nil, fmt.Errorf("TZ or --timezone: %w", err)
	}
	return zone, nil
}

func parseFrom(text string, zone *time.Location) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateTime,
		time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--from %s: not a time; write one such as 2026-03-07, 2026-03-07T02:30 or 2026-03-07T02:30:00Z", text)
}

// noRuns says why a valid schedule has no coming runs, for the job of that name if there is one.
func noRuns(name string, s *schedule.Schedule) string {
	if name != "" {
		name += ": "
	}
	switch s.Kind() {
	case schedule.Reboot:
		return name + "@reboot has no due times: the job runs once at each boot"
	case schedule.Manual:
		return name + "@manual has no due times: the job runs on request only"
	}
	return name + s.String() + " is over: there is no later run"
}

// printRuns prints a table.
func (p *program) printRuns(runs []comingRun) error {
	layout := layoutOf(runs)
	w := tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	for _, r := range runs {
		line := r.due.Format(layout) + "\t" + r.due.UTC().Format(time.RFC3339Nano)
		if r.job != "" {
			line += "\t" + r.job
		}
		if r.note != "" {
			line += "\t" + r.note
		}
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

// layoutOf returns the layout for the precision that one of the runs needs.
func layoutOf(runs []comingRun) string {
	layout := "2006-01-02 15:04 MST"
	for _, r := range runs {
		switch {
		case r.due.Nanosecond() != 0:
			return "2006-01-02 15:04:05.000 MST"
		case r.due.Second() != 0:
			layout = "2006-01-02 15:04:05 MST"
		}
	}
	return layout
}

func (p *program) printRunsJSON(runs []comingRun) error {
	to := json.NewEncoder(p.stdout)
	for _, r := range runs {
		err := to.Encode(struct {
			Job   string    `json:"job,omitempty"`
			Due   time.Time `json:"due"`
			Local time.Time `json:"local"`
			Note  string    `json:"note,omitempty"`
		}{r.job, r.due.UTC(), r.due, r.note})
		if err != nil {
			return err
		}
	}
	return nil
}
