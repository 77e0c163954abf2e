package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/config"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/preflight"
	"gophd/internal/process"
)

func newCheck(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [-c FILE] [flags of run] [-- COMMAND [ARG...]]",
		Short: "Validate the config and show what would run, and when; no side effects",

		SuggestFor: []string{"dry-run", "lint", "preview", "test", "validate", "verify"},
		Long: `Read flags, environment and config file as run does, and show what would run, and when.
Nothing is started or written. A memcached server is asked once whether a lease can be kept there; a
server that does not answer is no error.

Errors are what is missing on this host: the command, the job's directory, the stdin file, or the
directory of a log, output or PID file. Permissions that this user does not have, and limits that the
control group of this shell does not allow, are only warnings: the daemon may have them.

HUP does the same check for a reload, as the daemon's user. It also rejects a PID file or a lease that
another process holds.

` + exitCodeHelp,
		Example: `  gophd check -c job.yaml
  gophd check -i 1h -n nightly -- ./nightly.sh`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.load(cmd, args, true)
			if err != nil {
				return err
			}
			return p.check(cmd.Context(), c)
		},
	}
	config.AddFlags(cmd.Flags())
	groupUsage(cmd)
	return cmd
}

func (p *program) check(ctx context.Context, c *config.Config) error {
	cautions, err := preflight.Check(c)
	if err != nil {
		return &usageError{err}
	}
	path, err := p.lookPath(c)
	if err != nil {
		return err
	}
	if err := preflight.CheckStore(ctx, c); err != nil {
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
	for _, l := range schedule(spec) {
		line(l[0], l[1])
	}
	line("lease", storeName(c)+held(heldLock))
	line("output", string(spec.Output))
	line("log", or(c.Log.File, "stderr"))
	line("PID file", or(c.PIDFile, "none")+held(heldFile))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, text := range append(c.Warnings, cautions...) {
		fmt.Fprintf(p.stderr, "gophd: warning: %s\n", text)
	}
	return nil
}

// lookPath returns the path of the command, or an error if there is no such command.
func (p *program) lookPath(c *config.Config) (string, error) {
	spec := c.Jobs[0]
	path, err := process.LookPath(spec.Command[0], spec.Dir, lookupEnv(p.self.Env, spec))
	if err != nil {
		return "", &startError{err}
	}
	return path, nil
}

// storeName returns the store of the lease as the log names it. The URL of a file may have no path.
func storeName(c *config.Config) string {
	if strings.HasPrefix(c.Heartbeat.URL, "file:") {
		return "file:" + lease.LockPath(c)
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

// schedule describes when the job would run if it were started now.
func schedule(spec job.Spec) [][2]string {
	first, next := "immediately", "if the first starts now"
	if !spec.RunAtStart {
		first, next = "after "+spec.Interval.String(), "if started now"
	}
	switch {
	case spec.Once:
		return [][2]string{{"when", "once, immediately"}}
	case spec.Service:
		return [][2]string{{"when",
			fmt.Sprintf("as a service; restarted when it exits, at least %s after its start", spec.Interval)}}
	case spec.Interval == 0:
		return [][2]string{{"when", "back to back, the first immediately"}}
	}
	overlap := map[job.OverlapPolicy]string{
		job.OverlapQueue:   "the tick is queued until the run ends",
		job.OverlapSkip:    "the tick is skipped",
		job.OverlapReplace: "the run is stopped and replaced",
		job.OverlapAllow:   fmt.Sprintf("another run starts, up to %d at a time", spec.MaxParallel),
	}[spec.Overlap]
	return [][2]string{
		{"when", fmt.Sprintf("every %s, the first %s", spec.Interval, first)},
		{"tick during a run", overlap},
		{"next run", time.Now().Add(spec.Interval).Format(time.RFC3339) + " (" + next + ")"},
	}
}

// lookupEnv returns the environment whose PATH is searched for the command.
func lookupEnv(own []string, spec job.Spec) []string {
	if spec.ClearEnv {
		return spec.Env
	}
	return append(slices.Clip(spec.Env), own...) // the first value of a name counts
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
