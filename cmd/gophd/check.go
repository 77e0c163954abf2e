package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/config"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/preflight"
)

func newCheck(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [-c FILE] [flags of run] [-- COMMAND [ARG...]]",
		Short: "Validate the config and show what would run, and when; no side effects",

		DisableFlagsInUseLine: true,

		SuggestFor: []string{"dry-run", "lint", "preview", "test", "validate", "verify"},
		Long: `Read flags, environment and config file as run does, and show what would run, and when. With jobs:
in the file, show a table of the jobs, and why a job is not fit to run here.
No command is started and nothing is left behind: a file without a name is created where run would
create one. A memcached server is asked whether a lease can be kept there.

Check as the user that starts gophd. HUP does the same check for a reload. It also rejects a PID file
or a lease that another process holds.

Exit codes:
  0    run would start the command, or another instance holds the lease now
  1    run would not start it here and now, as this user and in this control group: the command or its
       interpreter is missing, or cannot be executed or read, a file or directory cannot be created or
       opened, there is no such user, a limit is not allowed, the memcached server does not answer
  2    invalid usage, or a config that cannot be understood
A warning on stderr does not change the exit code.
`,
		Example: `  gophd check -c job.yaml
  gophd check -i 1h -n nightly -- ./nightly.sh`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.load(cmd, args, true)
			if err == nil {
				err = p.check(cmd.Context(), c)
			}
			if user := os.Geteuid(); user != 0 && errors.Is(err, fs.ErrPermission) {
				err = errors.Join(err, fmt.Errorf("this check ran as user %d: check as the user that starts gophd", user))
			}
			return err
		},
	}
	config.AddFlags(cmd.Flags())
	groupUsage(cmd)
	return cmd
}

func (p *program) check(ctx context.Context, c *config.Config) error {
	if c.Many {
		return p.checkJobs(ctx, c)
	}
	path, err := preflight.Check(c, p.self.Env)
	if err != nil {
		return err
	}
	if _, err := preflight.CheckStore(ctx, c); err != nil {
		return err
	}
	spec := c.Jobs[0]
	heldFile, heldLock, err := preflight.Holders(c)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	line := func(name, text string) { fmt.Fprintf(w, "%s\t%s\n", name, text) }
	line("config file", or(c.File, "none: flags, environment and defaults"))
	line("job", spec.Name)
	line("runs", c.Shown("job.command"))
	line("which is", path)
	line("in", spec.Dir)
	for _, l := range when(spec) {
		line(l[0], l[1])
	}
	line("lease", storeName(c, lease.LockPath(c))+held(heldLock))
	line("output", string(spec.Output))
	line("log", or(c.Log.File, "stderr"))
	line("PID file", or(c.PIDFile, "none")+held(heldFile))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, text := range slices.Concat(c.Warnings, preflight.Cautions(c), preflight.MailCautions(c, p.self.Env)) {
		p.warn(text)
	}
	return nil
}

// storeName returns the store of a lease as the log names it. lock is its local lock: the URL of a
// file may have no path.
func storeName(c *config.Config, lock string) string {
	if strings.HasPrefix(c.Heartbeat.URL, "file:") {
		return "file:" + lock
	}
	return c.Shown("heartbeat.url")
}

// held describes the holder of a lock or PID file.
func held(by string) string {
	if by == "" {
		return ""
	}
	return ", now held by " + by
}

// when describes when the job would run if it were started now.
func when(spec job.Spec) [][2]string {
	first, label, since := "immediately", "second run", "if the first starts now"
	if !spec.RunAtStart {
		first, label, since = "after "+job.FormatDuration(spec.Interval), "first run", "if started now"
	}
	switch {
	case spec.Calendar != nil:
		return whenOnCalendar(spec)
	case spec.Once:
		return [][2]string{{"when", "once, immediately"}}
	case spec.Service:
		return [][2]string{{"when",
			fmt.Sprintf("as a service; restarted when it exits, at least %s after its start", job.FormatDuration(spec.Interval))}}
	case spec.Interval == 0:
		return [][2]string{{"when", "back to back, the first immediately"}}
	}
	return [][2]string{
		{"when", fmt.Sprintf("every %s, the first %s", job.FormatDuration(spec.Interval), first)},
		{"tick during a run", tickDuringRun(spec)},
		{label, time.Now().Add(spec.Interval).Format(time.RFC3339) + " (" + since + ")"},
	}
}

func tickDuringRun(spec job.Spec) string {
	return map[job.OverlapPolicy]string{
		job.OverlapQueue:   "the tick is queued until the run ends",
		job.OverlapSkip:    "the tick is skipped",
		job.OverlapReplace: "the run is stopped and replaced",
		job.OverlapAllow:   fmt.Sprintf("another run starts, up to %d at a time", spec.MaxParallel),
	}[spec.Overlap]
}

// shownRuns is how many of the coming runs check shows.
const shownRuns = 3

func whenOnCalendar(spec job.Spec) [][2]string {
	when := spec.Cadence()
	if spec.RunAtStart {
		when += ", and immediately"
	}
	lines := [][2]string{{"when", when}, {"tick during a run", tickDuringRun(spec)}}
	timed := spec.Timed()
	timed.Name = "" // it is known
	runs, none := job.Coming([]job.Timed{timed}, time.Now(), shownRuns)
	if len(runs) == 0 {
		return append(lines, [2]string{"next run", none[0]})
	}
	layout := layoutOf(runs)
	for i, r := range runs {
		text := r.Due.Format(layout) + ", " + r.Due.UTC().Format(time.RFC3339Nano)
		if r.Note != "" {
			text += ", " + r.Note
		}
		lines = append(lines, [2]string{[shownRuns]string{"next run", "then", "then"}[i], text})
	}
	return lines
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
