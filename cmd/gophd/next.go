package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/api"
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
		Use:   `next ["EXPRESSION" | [-c FILE] [NAME]] [-n 10] [--from TIME] [--timezone ZONE]`,
		Short: "Show the coming runs of a daemon, of a job, of a config, or of a cron expression",

		DisableFlagsInUseLine: true,

		SuggestFor: []string{"calendar", "cron", "cronnext", "schedule", "upcoming"},
		Long: `Show when the jobs with a schedule of the only daemon that runs will run next, or those of NAME: a daemon, a
job, or DAEMON/JOB. The daemon is asked: its config may differ from its file. If it does not run, or with
-c FILE, the config file says. With an EXPRESSION, show when a job with this schedule would run.

Each run is shown in its time zone and in UTC, with a note where the clock changes. Quote the expression,
because the shell expands *. docs/schedule.md has the syntax. What ~ draws depends on the host, and for a job
on its name too.

Exit codes:
  0  it is shown, also if there are no coming runs
  2  invalid usage, an expression that cannot be understood, or a job without a schedule
  3  the daemon is not running, and there is no config file
  4  there is no such daemon or job, no permission, or no answer, and there is no config file
`,
		Example: `  gophd next "17 3 * * 1-5"
  gophd next "30 2 * * *" --timezone America/New_York --from 2026-03-07 -n 3
  gophd next nightly
  gophd next -c jobs.yaml nightly --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{fmt.Errorf("next takes one expression or name, and there are %d arguments; quote it", len(args))}
			}
			if len(args) == 1 && args[0] == "" {
				return &usageError{errors.New(`next "": empty; write an expression or a name, or leave it out`)}
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
	runs, none, err := p.coming(cmd, word, f, zone, after)
	if err != nil {
		return err
	}
	for _, text := range none {
		fmt.Fprintf(p.stderr, "gophd: %s\n", printable(text))
	}
	if f.timezone != "" {
		for i := range runs {
			runs[i].Due = runs[i].Due.In(zone)
		}
	}
	if f.json {
		return p.printRunsJSON(runs)
	}
	return p.printRuns(runs)
}

// coming returns the coming runs of an expression, of what the daemons say of a name, or of the jobs in a config
// that was named or is that of a daemon that does not run. An expression has blanks, or starts with @.
func (p *program) coming(cmd *cobra.Command, word string, f nextFlags, zone *time.Location,
	after time.Time) (runs []job.ComingRun, none []string, err error) {
	if strings.HasPrefix(word, "@") || strings.ContainsAny(word, " \t*") {
		host, err := os.Hostname()
		if err != nil {
			return nil, nil, err
		}
		s, err := schedule.Parse(word, schedule.Options{Zone: zone, Seconds: f.seconds, Seed: host})
		if err != nil {
			return nil, nil, &usageError{fmt.Errorf("%q: %w", word, err)}
		}
		runs, none = job.Coming([]job.Timed{{Calendar: &s}}, after, f.count)
		return runs, none, nil
	}
	if !namesConfig(cmd) {
		runs, none, err = p.askedRuns(cmd.Context(), word, f.count, after)
		if !errors.As(err, new(*notRunningError)) && !errors.As(err, new(*unknownError)) {
			return runs, none, err
		}
	}
	jobs, file, loadErr := p.configured(cmd, word)
	var down *notRunningError
	var unknown *unknownError
	switch {
	case errors.Is(loadErr, errNoConfig) && errors.As(err, &down):
		return nil, nil, &notRunningError{down.text + withoutConfig}
	case errors.Is(loadErr, errNoConfig) && errors.As(err, &unknown):
		return nil, nil, &unknownError{unknown.text + withoutConfig}
	case loadErr != nil:
		return nil, nil, loadErr
	case err != nil:
		fmt.Fprintf(p.stderr, "gophd: %v; these are the runs by %s\n", err, or(file, "the environment"))
	}
	runs, none = job.Coming(jobs, after, f.count)
	return runs, none, nil
}

// namesConfig returns true if a config file or a crontab is named.
func namesConfig(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("config") || cmd.Flags().Changed("crontab") ||
		os.Getenv("GOPHD_CONFIG") != "" || os.Getenv("GOPHD_CONFIG_CRONTAB") != ""
}

var errNoConfig = errors.New("no config file")

// withoutConfig is what else can be asked if there is no such daemon, and no config file.
const withoutConfig = `; for a config add -c FILE, and quote an expression, as in gophd next "17 3 * * 1-5"`

// askedRuns asks the daemon of a name, or the only daemon.
func (p *program) askedRuns(ctx context.Context, name string, count int, after time.Time) (runs []job.ComingRun,
	none []string, err error) {
	t, err := p.target(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if count > api.MaxNext {
		err = fmt.Errorf("--number %d: a daemon says at most %d; write fewer, or -c FILE", count, api.MaxNext)
		return nil, nil, &usageError{err}
	}
	all, err := api.NewClient(t.daemon.Socket).Next(ctx, t.job, after, count)
	if errors.As(err, new(*api.Refused)) {
		return nil, nil, &usageError{err}
	}
	if err != nil {
		return nil, nil, &unknownError{fmt.Sprintf("%s: %s", t.daemon.Name, printable(err.Error()))}
	}
	if len(all.Runs)+len(all.None) == 0 {
		return nil, nil, &usageError{fmt.Errorf("no job of %s has a schedule", printable(t.daemon.Name))}
	}
	for _, r := range all.Runs {
		_, offset := r.Local.Zone()
		runs = append(runs, job.ComingRun{Job: r.Job, Due: r.Due.In(time.FixedZone(r.Zone, offset)), Note: r.Note})
	}
	return runs, all.None, nil
}

// configured returns the job of that name, or all jobs of the config that have a schedule, and the config file.
func (p *program) configured(cmd *cobra.Command, word string) (jobs []job.Timed, file string, err error) {
	c, err := p.load(cmd, nil, false)
	if err != nil {
		return nil, "", err
	}
	for _, text := range c.Warnings {
		p.warn(text)
	}
	source := c.Source()
	_, name, long := strings.Cut(word, "/")
	if !long {
		name = word
	}
	var names []string
	for _, spec := range c.Jobs {
		names = append(names, spec.Name)
		switch {
		case name != "" && spec.Name != name:
		case spec.Calendar != nil:
			jobs = append(jobs, spec.Timed())
		case name != "":
			return nil, source, &usageError{fmt.Errorf("%s has no schedule: it runs %s", name, spec.Cadence())}
		}
	}
	switch {
	case jobs != nil:
		return jobs, source, nil
	case source == "":
		err = errNoConfig
	case name == "":
		err = fmt.Errorf("no job of %s has a schedule; set job.schedule", source)
	default:
		flag := "-c"
		if c.Crontab != "" {
			flag = "--crontab"
		}
		err = fmt.Errorf("%s has no job %s; gophd check %s %s lists them", source, name, flag, source)
		if near := misspelled.Nearest(name, names); near != "" {
			err = fmt.Errorf("%s has no job %s; did you mean %s?", source, name, near)
		}
	}
	return nil, source, &usageError{err}
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

// printRuns prints a table.
func (p *program) printRuns(runs []job.ComingRun) error {
	layout := layoutOf(runs)
	w := tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	for _, r := range runs {
		line := r.Due.Format(layout) + "\t" + r.Due.UTC().Format(time.RFC3339Nano)
		if r.Job != "" {
			line += "\t" + printable(r.Job)
		}
		if r.Note != "" {
			line += "\t" + printable(r.Note)
		}
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

// layoutOf returns the layout for the precision that one of the runs needs.
func layoutOf(runs []job.ComingRun) string {
	layout := "2006-01-02 15:04 MST"
	for _, r := range runs {
		switch {
		case r.Due.Nanosecond() != 0:
			return "2006-01-02 15:04:05.000 MST"
		case r.Due.Second() != 0:
			layout = "2006-01-02 15:04:05 MST"
		}
	}
	return layout
}

func (p *program) printRunsJSON(runs []job.ComingRun) error {
	to := json.NewEncoder(p.stdout)
	for _, r := range runs {
		err := to.Encode(struct {
			Job   string    `json:"job,omitempty"`
			Due   time.Time `json:"due"`
			Local time.Time `json:"local"`
			Note  string    `json:"note,omitempty"`
		}{r.Job, r.Due.UTC(), r.Due, r.Note})
		if err != nil {
			return err
		}
	}
	return nil
}
