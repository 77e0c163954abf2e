package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/api"
	"gophd/internal/job"
	"gophd/internal/logread"
)

// logsFlags are the flags of logs.
type logsFlags struct {
	follow, failed, json bool
	lines                int
	since                string
	run                  uint64
}

func newLogs(p *program) *cobra.Command {
	var f logsFlags
	cmd := &cobra.Command{
		Use:   "logs [NAME] [-f] [-n 100] [--since TIME] [--run N | --failed]",
		Short: "Show the output of a job and gophd's lines about it",

		DisableFlagsInUseLine: true,

		Aliases: []string{"log"}, SuggestFor: []string{"journal", "output"},
		Long: `Show the output of a job, and gophd's lines about it, as they are in the log: over rotated and compressed
files, and from the journal. In a log of many jobs these are the lines of that job only. With --follow it
prints those to come too, over rotations, and over a new start of the daemon.

NAME is a daemon, a job, or DAEMON/JOB. The daemon need not be running. The output of a command that is
not captured is not there: then a message names the place where it goes. See docs/logs.md.`,
		Example: `  gophd logs -f nightly
  gophd logs nightly --since 24h --failed
  gophd logs jobs/import --run 17 --json`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.since != "" && !cmd.Flags().Changed("number") {
				f.lines = 0
			}
			if f.run > 0 && f.failed {
				return &usageError{errors.New("--run and --failed exclude each other; leave one out")}
			}
			if cmd.Flags().Changed("run") && f.run == 0 {
				return &usageError{errors.New("--run 0: not the number of a run; gophd history lists them")}
			}
			return p.logs(cmd.Context(), strings.Join(args, ""), f)
		},
	}
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "print the lines to come too")
	cmd.Flags().IntVarP(&f.lines, "number", "n", 100, "number of lines, the last ones; 0 is all")
	cmd.Flags().StringVar(&f.since, "since", "",
		"all lines since this `TIME`, such as 2026-03-07 or 2026-03-07T02:30, or not older than 90m")
	cmd.Flags().Uint64Var(&f.run, "run", 0, "lines of the run with this `NUMBER` only, the last one")
	cmd.Flags().BoolVar(&f.failed, "failed", false, "lines of failed runs only")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object per line, as in the log format json")
	return cmd
}

func (p *program) logs(ctx context.Context, name string, f logsFlags) error {
	if f.lines < 0 {
		return &usageError{fmt.Errorf("--number %d: not a number of lines; write 1 or more, or 0 for all", f.lines)}
	}
	q := api.LogQuery{Lines: f.lines, Run: f.run, Failed: f.failed, Follow: f.follow}
	if f.since != "" {
		since, err := parseSince(f.since, time.Now())
		if err != nil {
			return &usageError{err}
		}
		q.Since = since
	}
	place, err := p.logPlace(ctx, name)
	if err != nil {
		return err
	}
	if place.job == "" && (f.run > 0 || f.failed) {
		return &usageError{fmt.Errorf("%s is a daemon with many jobs: for --run and --failed name one of its jobs",
			printable(place.name()))}
	}
	if !place.hasOutput() {
		fmt.Fprintf(p.stderr, "gophd: %s\n", printable(place.note()))
	}
	out := bufio.NewWriter(p.stdout)
	show := p.screen().lineWriter(f.json)
	count := 0
	err = place.read(ctx, q, func(l logread.Line) bool {
		count++
		_, err := out.Write(show(l))
		if err == nil && f.follow {
			err = out.Flush()
		}
		return err == nil
	})
	switch flushed := out.Flush(); {
	case err != nil:
		return err
	case flushed != nil:
		return flushed
	case count == 0:
		fmt.Fprintf(p.stderr, "gophd: no such line in the log of %s\n", printable(place.name()))
	}
	return nil
}

// lineWriter returns a function that formats a line. On a terminal it marks warnings and errors, and lets no
// output control the terminal.
func (s screen) lineWriter(asJSON bool) func(logread.Line) []byte {
	var b []byte
	return func(l logread.Line) []byte {
		if asJSON {
			b = l.AppendJSON(b[:0])
			return b
		}
		b = l.AppendText(b[:0], false)
		if !s.terminal {
			return b
		}
		text := terminalText(bytes.TrimSuffix(b, []byte{'\n'}))
		switch {
		case s.color && l.Level == "warn":
			text = yellow + text + plain
		case s.color && l.Level == "error":
			text = red + text + plain
		}
		return []byte(text + "\n")
	}
}

// escapes matches the sequences that control a terminal (ECMA-48): CSI, OSC and the others.
var escapes = regexp.MustCompile("\x1b(\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(\x07|\x1b\\\\)?|[ -/]*[0-~])")

// terminalText returns output of a command without what would control the terminal.
func terminalText(text []byte) string {
	lines := strings.Split(string(escapes.ReplaceAll(text, nil)), "\t")
	for i, line := range lines {
		lines[i] = printable(strings.ToValidUTF8(strings.TrimSuffix(line, "\r"), "?"))
	}
	return strings.Join(lines, "\t")
}

// logPlace is where the lines of a job, or of a daemon, are.
type logPlace struct {
	target
	source  logread.Source
	output  job.Output
	maxScan int64 // see logread.Query
}

// name returns the name of the job, or of the daemon.
func (l logPlace) name() string {
	if l.job != "" {
		return l.job
	}
	return l.daemon.Name
}

// logPlace returns where the lines of what a NAME names are. A daemon that left no file in a runtime directory
// may have left its log in the log directory.
func (p *program) logPlace(ctx context.Context, name string) (l logPlace, err error) {
	if l.target, err = p.anyTarget(ctx, name); err != nil {
		if file := p.defaultLog(name); file != "" {
			return logPlace{target: target{api.Found{Name: name, Err: api.ErrNotRunning}, name},
				source: logread.Source{File: file, Job: name}, output: job.OutputLog}, nil
		}
		return l, err
	}
	l = placeOf(l.target)
	switch {
	case l.daemon.Record == nil:
		return l, &unknownError{fmt.Sprintf("where the log of %s is, is not known: %s cannot be read", printable(name),
			strings.TrimSuffix(l.daemon.Socket, ".sock")+".json")}
	case l.source.File == "":
		return l, errors.New(printable(l.note()))
	}
	return l, nil
}

// placeOf returns where the lines of a target are. File of the source is "" if they are in no log, or if that is
// not known.
func placeOf(t target) logPlace {
	l := logPlace{target: t}
	if t.daemon.Record != nil {
		l.source, l.output, _ = t.daemon.Record.Source(t.job)
	}
	return l
}

// defaultLog returns the log of a daemon in the log directory of this user, or "" if there is none.
func (p *program) defaultLog(name string) string {
	own, err := p.ownDirectories()
	if err != nil || name == "" || strings.ContainsAny(name, "/%") {
		return ""
	}
	file := filepath.Join(own.LogDir, name+".log")
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return file
}

// hasOutput reports whether the output of the command is in the log: gophd captures it, or it goes to the journal
// with that of gophd.
func (l logPlace) hasOutput() bool {
	return l.output == job.OutputLog || l.output == job.OutputInherit && l.source.InUnit()
}

// note says where the output goes, if it is not in the log.
func (l logPlace) note() string {
	if l.source.File != "" {
		return fmt.Sprintf("of %s the log has only gophd's own lines: %s", l.name(), api.OutputText(l.output))
	}
	text := fmt.Sprintf("of %s there is nothing to read: %s", l.name(), api.Whereabouts(l.name(), l.source, l.output))
	if l.daemon.Err == nil {
		if to, err := os.Readlink("/proc/" + strconv.Itoa(l.daemon.Status.PID) + "/fd/1"); err == nil && l.output == job.OutputInherit {
			text += "; its stdout is " + to
		}
	}
	return text + "; to keep them, start it with --log-file"
}

// read calls yield with the selected lines. It reads the files itself: that is possible without a daemon, and
// none has to wait for a disk. If it may not, the daemon reads them.
func (l logPlace) read(ctx context.Context, q api.LogQuery, yield func(logread.Line) bool) error {
	query := logread.Query{Last: q.Lines, Since: q.Since, MaxScan: l.maxScan}
	err := l.selectRuns(ctx, q, &query)
	if err == nil && (query.Runs == nil || len(query.Runs) > 0) {
		err = logread.Read(ctx, l.source, query, q.Follow, yield)
	}
	if !errors.Is(err, fs.ErrPermission) {
		return logError(err)
	}
	if l.daemon.Err != nil || l.job == "" {
		return &unknownError{unreadable(err).Error()}
	}
	return l.ask(ctx, q, yield)
}

// selectRuns finds the runs whose lines are selected.
func (l logPlace) selectRuns(ctx context.Context, q api.LogQuery, query *logread.Query) (err error) {
	if q.Run == 0 && !q.Failed || l.daemon.Record == nil {
		return nil
	}
	var active []api.Run
	for _, j := range l.daemon.Status.Jobs {
		if j.Name == l.job {
			active = j.Running
			api.AwaitHistory(ctx, l.daemon.Record.History(l.job), j.Last)
		}
	}
	query.Runs, err = api.Runs(l.job, l.daemon.Record.History(l.job), active, q.Run)
	return err
}

// againIn is the time until a daemon is asked again that does not run.
const againIn = time.Second

// ask is read by way of the daemon. With follow it waits for the next start of the daemon.
func (l logPlace) ask(ctx context.Context, q api.LogQuery, yield func(logread.Line) bool) error {
	c := api.NewClient(l.daemon.Socket)
	for {
		stopped := false
		err := c.Logs(ctx, l.job, &q, func(line logread.Line) bool {
			stopped = !yield(line)
			return !stopped
		})
		switch {
		case stopped || ctx.Err() != nil:
			return nil
		case err != nil && !(q.Follow && errors.Is(err, api.ErrNotRunning)):
			return requestError(err)
		case !q.Follow:
			return nil
		}
		select {
		case <-time.After(againIn):
		case <-ctx.Done():
			return nil
		}
	}
}

// logError adds what to do to the error of a log.
func logError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, logread.ErrNone):
		err = fmt.Errorf("%w: it begins with the first line; --follow waits for it", err)
	}
	return &logsError{err}
}

// logsError is an error of a log. Its text may name a file that another user's program has named.
type logsError struct{ err error }

func (e *logsError) Error() string { return printable(e.err.Error()) }
func (e *logsError) Unwrap() error { return e.err }
