package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/config"
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
		Use:   `next "EXPRESSION" [-n 10] [--from TIME] [--timezone ZONE]`,
		Short: "Show the coming runs of a cron expression",

		DisableFlagsInUseLine: true,

		SuggestFor: []string{"calendar", "cron", "cronnext", "schedule", "upcoming"},
		Long: `Show when a job with this schedule would run: in its time zone, in UTC, and with a note where the
clock changes. Quote the expression, because the shell expands *. docs/schedule.md has the syntax.
What ~ draws depends on the host, and for a job on its name too.
`,
		Example: `  gophd next "17 3 * * 1-5"
  gophd next "30 2 * * *" --timezone America/New_York --from 2026-03-07 -n 3
  gophd next @daily --json`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return &usageError{errors.New(`no expression; write one such as gophd next "17 3 * * 1-5"`)}
			case len(args) > 1:
				return &usageError{fmt.Errorf("next takes one expression, and there are %d arguments; quote it", len(args))}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return p.next(args[0], f) },
	}
	cmd.Flags().IntVarP(&f.count, "number", "n", 10, "number of runs to show")
	cmd.Flags().StringVar(&f.from, "from", "",
		"the first run is not before this `TIME`, such as 2026-03-07 or 2026-03-07T02:30 (default now)")
	cmd.Flags().StringVar(&f.timezone, "timezone", "", "time `ZONE` of the expression, such as Europe/Berlin (default: TZ)")
	cmd.Flags().BoolVar(&f.seconds, "seconds", false, "allow six fields, with the second first")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object per line")
	return cmd
}

func (p *program) next(expression string, f nextFlags) error {
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
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	s, err := schedule.Parse(expression, schedule.Options{Zone: zone, Seconds: f.seconds, Seed: host})
	if err != nil {
		return &usageError{fmt.Errorf("%q: %w", expression, err)}
	}
	var runs []comingRun
	for due, ok := s.Next(after); ok && len(runs) < f.count; due, ok = s.Next(due) {
		runs = append(runs, comingRun{due, s.Note(due)})
	}
	if len(runs) == 0 {
		fmt.Fprintf(p.stderr, "gophd: %s\n", noRuns(expression, s.Kind()))
	}
	if f.json {
		return p.printRunsJSON(runs)
	}
	return p.printRuns(runs)
}

// comingRun is a due time, in the zone of the schedule, and what is special about it.
type comingRun struct {
	due  time.Time
	note string
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

// noRuns says why a valid expression has no coming runs.
func noRuns(expression string, kind schedule.Kind) string {
	switch kind {
	case schedule.Reboot:
		return "@reboot has no due times: the job runs once at each boot"
	case schedule.Manual:
		return "@manual has no due times: the job runs on request only"
	}
	return expression + " is over: there is no later run"
}

// printRuns prints a table. All lines have the precision that one of them needs.
func (p *program) printRuns(runs []comingRun) error {
	layout := "2006-01-02 15:04 MST"
	for _, r := range runs {
		switch {
		case r.due.Nanosecond() != 0:
			layout = "2006-01-02 15:04:05.000 MST"
		case r.due.Second() != 0 && len(layout) < len("2006-01-02 15:04:05 MST"):
			layout = "2006-01-02 15:04:05 MST"
		}
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	for _, r := range runs {
		line := r.due.Format(layout) + "\t" + r.due.UTC().Format(time.RFC3339Nano)
		if r.note != "" {
			line += "\t" + r.note
		}
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

func (p *program) printRunsJSON(runs []comingRun) error {
	to := json.NewEncoder(p.stdout)
	for _, r := range runs {
		err := to.Encode(struct {
			Due   time.Time `json:"due"`
			Local time.Time `json:"local"`
			Note  string    `json:"note,omitempty"`
		}{r.due.UTC(), r.due, r.note})
		if err != nil {
			return err
		}
	}
	return nil
}
