package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/config"
	"gophd/internal/job"
	"gophd/internal/preflight"
	"gophd/internal/process"
)

func newCheck(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [-c FILE] [flags of run] [-- COMMAND [ARG...]]",
		Short: "Read the config and say what would run and when; no side effects",
		Long: `Read flags, environment and config file as run would, and say what would run, and when.
Nothing is started or written. The server of a memcached heartbeat is asked once whether one can be kept there; that it
gives no answer is no error. What is missing on this host is an error: the command, a directory for a
file, the input. What only this user may not do, and limits that the control group of this shell does not allow, are warnings,
for the daemon may have both. HUP asks the same of a running gophd's next image as the daemon itself, and whether
another has its PID file or heartbeat, and goes on as it is if not all is well.

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
	path, err := p.look(c)
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
	line("heartbeat", c.Shown("heartbeat.url")+held(heldLock))
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

// look finds the command.
func (p *program) look(c *config.Config) (string, error) {
	spec := c.Jobs[0]
	path, err := process.Look(spec.Command[0], spec.Dir, searched(p.self.Env, spec))
	if err != nil {
		return "", &startError{err}
	}
	return path, nil
}

// held says who has a thing.
func held(by string) string {
	if by == "" {
		return ""
	}
	return ", now held by " + by
}

// schedule says when the job would run if it were started now.
func schedule(spec job.Spec) [][2]string {
	first := "at once"
	if !spec.RunAtStart {
		first = "after " + spec.Interval.String()
	}
	switch {
	case spec.Once:
		return [][2]string{{"when", "once, at once"}}
	case spec.Keep:
		return [][2]string{{"when", fmt.Sprintf("all the time; when it ends, again at least %s after its start", spec.Interval)}}
	case spec.Interval == 0:
		return [][2]string{{"when", "back to back, the first at once"}}
	}
	late := map[job.Overrun]string{
		job.OverrunRun:  "the late tick runs as soon as the run ends",
		job.OverrunSkip: "the late tick is dropped",
		job.OverrunKill: "the run is stopped",

		job.OverrunOverlap: fmt.Sprintf("another starts beside it, up to %d at a time", spec.MaxParallel),
	}[spec.Overrun]
	return [][2]string{
		{"when", fmt.Sprintf("every %s, the first %s", spec.Interval, first)},
		{"a late run", late},
		{"second tick", time.Now().Add(spec.Interval).Format(time.RFC3339) + " if started now"},
	}
}

// searched is the environment in whose PATH the command is looked for.
func searched(own []string, spec job.Spec) []string {
	if spec.ClearEnv {
		return spec.Env
	}
	return append(slices.Clip(spec.Env), own...) // the first counts
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
