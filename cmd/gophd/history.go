package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/api"
	"gophd/internal/history"
	"gophd/internal/misspelled"
)

// historyFlags are the flags of history.
type historyFlags struct {
	count  int
	failed bool
	since  string
	json   bool
}

func newHistory(p *program) *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history [NAME] [-n 20] [--failed] [--since TIME]",
		Short: "Show the past runs of a job",

		DisableFlagsInUseLine: true,

		SuggestFor: []string{"executions", "hist", "past", "runs"},
		Long: `Show the past runs of a job, the oldest first, with a line of their durations and totals. NAME is a
job, a daemon with one job, or DAEMON/JOB; leave it out if there is one history only. It is read from the
state directory: gophd need not be running. A run whose gophd was killed is interrupted.

It looks in GOPHD_STATE_DIR alone if that is set, else in your state directory and in those of the daemons
that it finds, as gophd list does.
`,
		Example: `  gophd history nightly
  gophd history jobs/import --failed --since 24h
  gophd history nightly -n 0 --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{fmt.Errorf("history takes one name, and %q is another one; leave it out", args[1])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.history(cmd.Context(), strings.Join(args, ""), f)
		},
	}
	cmd.Flags().IntVarP(&f.count, "number", "n", 20, "number of runs to show, the last ones; 0 is all")
	cmd.Flags().BoolVar(&f.failed, "failed", false, "failed runs only")
	cmd.Flags().StringVar(&f.since, "since", "",
		"runs that ended after this `TIME`, such as 2026-03-07 or 2026-03-07T02:30, or not longer ago than 90m")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object per line")
	return cmd
}

func (p *program) history(ctx context.Context, name string, f historyFlags) error {
	if f.count < 0 {
		return &usageError{fmt.Errorf("--number %d: not a number of runs; write 1 or more, or 0 for all", f.count)}
	}
	q := history.Query{Last: f.count, Failed: f.failed}
	if f.since != "" {
		since, err := parseSince(f.since, time.Now())
		if err != nil {
			return &usageError{err}
		}
		q.Since = since
	}
	source, err := p.historyOf(ctx, name)
	var runs history.Runs
	if err == nil {
		runs, err = history.Read(source.Path, q)
	}
	if err != nil {
		job, by, ok := p.askRuns(ctx, name, q)
		if !ok {
			return unreadable(err)
		}
		source.Job, runs.Runs = job, by
	}
	if runs.Lost > 0 {
		p.warn(fmt.Sprintf("%s are missing, because the history could not be written then", count(runs.Lost, "run")))
	}
	switch {
	case f.json:
		return p.printHistoryJSON(runs)
	case len(runs.Runs) == 0:
		fmt.Fprintf(p.stderr, "gophd: no such run of %s\n", printable(source.Job))
		return nil
	}
	return p.printHistory(runs.Runs)
}

// askRuns asks the daemon for the runs of a job whose history is not for this user. ok is false if it is, or if the
// daemon does not answer.
func (p *program) askRuns(ctx context.Context, name string, q history.Query) (job string, runs []history.Run, ok bool) {
	t, err := p.target(ctx, name)
	if err == nil {
		t, err = onlyJob(t)
	}
	if err != nil || t.daemon.Record == nil {
		return "", nil, false
	}
	runs, err = runsOf(ctx, t, q)
	return t.job, runs, err == nil
}

// runsOf asks a daemon for the runs of a job if its history is not for this user.
func runsOf(ctx context.Context, t target, q history.Query) ([]history.Run, error) {
	f, err := os.OpenFile(t.daemon.Record.History(t.job), os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a FIFO
	if err == nil {
		f.Close()
		return nil, fs.ErrExist
	}
	if !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	return api.NewClient(t.daemon.Socket).Runs(ctx, t.job, q)
}

// unreadable adds the fix to the error of a file.
func unreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: be root, or the user of the daemon", err)
	}
	return err
}

// parseSince reads a time, or a duration before now.
func parseSince(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := parseFrom(text, time.Local); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("--since %s: not a time and not a duration; write one such as 2026-03-07, "+
		"2026-03-07T02:30, 90m or 24h", text)
}

// historyOf returns the history that a NAME of the command line names: in the state directory of this user, and
// in those of the daemons that are found.
func (p *program) historyOf(ctx context.Context, name string) (history.Source, error) {
	own, err := p.ownDirectories()
	if err != nil {
		return history.Source{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // without an answer of a daemon only its last run may be missing
	defer cancel()
	found, err := p.daemons(ctx)
	if err != nil {
		return history.Source{}, err
	}
	dirs := []string{own.StateDir}
	for _, f := range found {
		if f.Record == nil {
			continue
		}
		for _, j := range f.Status.Jobs {
			if name == "" || name == j.Name || name == f.Name || name == f.Name+"/"+j.Name {
				api.AwaitHistory(ctx, f.Record.History(j.Name), j.Last)
			}
		}
		if dir := f.Record.StateDir; own.StateFrom != stateVariable && !slices.ContainsFunc(dirs, func(d string) bool {
			return d == dir || sameDirectory(d, dir)
		}) {
			dirs = append(dirs, dir)
		}
	}
	var all []history.Source
	for i, dir := range dirs {
		some, err := history.Find(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && (i == 0 || !errors.Is(err, fs.ErrPermission)) {
			return history.Source{}, unreadable(err)
		}
		all = append(all, some...)
	}
	return chooseHistory(all, name, strings.Join(dirs, ", "))
}

func sameDirectory(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// stateVariable names the state directory. If it is set, no other one is searched.
const stateVariable = "GOPHD_STATE_DIR"

// chooseHistory returns the one that name names: JOB, DAEMON, DAEMON/JOB, or nothing for the only one.
func chooseHistory(all []history.Source, name, dir string) (history.Source, error) {
	daemon, job, long := strings.Cut(name, "/")
	matches := slices.DeleteFunc(slices.Clone(all), func(s history.Source) bool {
		if long {
			return s.Daemon != daemon || s.Job != job
		}
		return name != "" && s.Job != name && s.Daemon != name
	})
	switch {
	case len(matches) == 1:
		return matches[0], nil
	case len(matches) > 1:
		var forms []string
		for _, s := range matches {
			forms = append(forms, s.Daemon+"/"+s.Job)
		}
		if sorted := slices.Sorted(slices.Values(forms)); len(slices.Compact(sorted)) < len(forms) {
			forms = nil
			for _, s := range matches {
				forms = append(forms, stateVariable+"="+filepath.Dir(s.Path))
			}
			return history.Source{}, &usageError{fmt.Errorf("%s has several histories: set one of %s", printable(matches[0].Job),
				printable(strings.Join(forms, ", ")))}
		}
		if name == "" {
			return history.Source{}, &usageError{fmt.Errorf("there are %d histories: name one of %s", len(forms),
				printable(strings.Join(forms, ", ")))}
		}
		return history.Source{}, &usageError{fmt.Errorf("%s names several histories: write one of %s",
			printable(name), printable(strings.Join(forms, ", ")))}
	}
	var known []string
	for _, s := range all {
		known = append(known, s.Job, s.Daemon, s.Daemon+"/"+s.Job)
	}
	what := "there is no history of " + printable(name)
	if name == "" {
		what = "there is no history"
	}
	if near := misspelled.Nearest(name, known); near != "" && name != "" {
		return history.Source{}, &unknownError{fmt.Sprintf("%s in %s; did you mean %s?", what, printable(dir), printable(near))}
	}
	return history.Source{}, &unknownError{fmt.Sprintf("%s in %s: it begins with the first run that ends, unless history.size is 0; "+
		"for a daemon with another state directory set GOPHD_STATE_DIR", what, printable(dir))}
}

func (p *program) printHistoryJSON(runs history.Runs) error {
	to := json.NewEncoder(p.stdout)
	to.SetEscapeHTML(false)
	for _, r := range runs.Runs {
		if err := to.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
