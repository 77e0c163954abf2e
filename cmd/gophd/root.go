package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gophd/internal/config"
	"gophd/internal/daemonize"
	"gophd/internal/job"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/self"
	"gophd/internal/signals"
)

// program is the state that the commands share.
type program struct {
	self           self.Self
	stdout, stderr io.Writer
	handoff        *restart.Handoff // from the old process; nil at the first start
	handoffErr     error            // why the handoff cannot be used
	signals        *signals.Signals // nil until signals are caught
	heldCode       int              // exit code when another instance holds the lease
	quiet          bool             // print no message about a success
	ready          *daemonize.Ready // pipe to the process that waits for this daemon; or nil
}

// execute runs the command line args.
func (p *program) execute(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == process.ShimCommand {
		return shim()
	}
	root := newRoot(p)
	if len(args) > 0 && args[0] == "run" {
		// A daemon that runs for months does not keep the other commands in memory.
		root.CompletionOptions.DisableDefaultCmd = true
		root.AddCommand(newRun(p))
	} else {
		addCommands(root, p)
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "gophd",
		Short: "Run any command as a daemon",
		Long: `gophd runs any command as a daemon: at an interval, one instance at a time on a host or in the whole
cluster. With a log it keeps the output. It reports processes that outlive their run. A reload or an
upgrade does not touch the running command.`,
		Example: `  gophd run -v --interval 2 -- ./job.sh          every 2 seconds, in the foreground, with the log
  gophd run -d -p /run/job.pid -- ./job.sh       as a daemon, every 5 seconds
  gophd check -c job.yaml                        what would run, and when
  gophd list                                     the jobs of all daemons on this host
  gophd top                                      the same on a screen that changes, with keys to steer them
  gophd next "17 3 * * 1-5"                      the coming runs of a cron expression
  gophd run --help                               all the flags, exit codes and signals`,
		Version:                    version,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		Args:                       noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.Flags().BoolP("version", "v", false, "print the version (after run, -v is --verbose)")
	root.Flags().SetInterspersed(false) // a misspelled command is found before its flags
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.PersistentFlags().BoolP("help", "H", false, "show this help (-h too)")
	root.SetFlagErrorFunc(p.flagError)
	return root
}

// flagError adds to the error of a flag what was probably meant.
func (p *program) flagError(cmd *cobra.Command, err error) error {
	if !cmd.HasParent() { // most likely the name of the command is missing, and it is run
		return &usageError{config.NoCommandError(newRun(p).Flags(), err)}
	}
	return &usageError{config.FlagError(cmd.Flags(), err)}
}

func addCommands(root *cobra.Command, p *program) {
	root.AddCommand(newRun(p), newCheck(p), newNext(p), newConfig(p), newConvert(p), newVersion(p), newProbe(p),
		newList(p), newStatus(p), newTop(p), newHistory(p), newLogs(p), newWhy(p), newEvents(p), newHealthcheck(p))
	addSteering(root, p)
}

// noArgs rejects arguments of a command that takes none. An argument is most likely a misspelled
// command, or a command to run.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	hint := "; --help lists the commands"
	switch near := cmd.SuggestionsFor(args[0]); {
	case len(near) > 0:
		hint = fmt.Sprintf("; did you mean %s %s?", cmd.CommandPath(), near[0])
	case !cmd.HasParent():
		hint = "; to run it, write gophd run -- " + args[0]
	case !cmd.HasSubCommands():
		return &usageError{fmt.Errorf("%s takes no argument, and %q is one; leave it out",
			strings.TrimPrefix(cmd.CommandPath(), "gophd "), args[0])}
	}
	return &usageError{fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)}
}

// load loads the config for the flags and the command of a command line.
func (p *program) load(cmd *cobra.Command, command []string, needCommand bool) (*config.Config, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // a system daemon may have none; config then uses no directory of a user
	}
	c, err := config.Load(config.Request{Flags: cmd.Flags(), Command: command, Env: p.self.Env, Dir: p.self.Dir,
		Home: home, UID: os.Getuid(), NeedCommand: needCommand})
	if err == nil {
		err = preflight.Valid(c)
	}
	switch {
	case errors.As(err, new(*config.UnfitError)):
		return nil, &startError{job.SetupError(err)}
	case err != nil:
		return nil, &usageError{err}
	}
	if zone := self.UnknownZone(); zone != "" {
		c.Warnings = append(c.Warnings, fmt.Sprintf("TZ %q: gophd cannot load this time zone and uses UTC, "+
			"and the command may use another zone; set TZ to a name such as Europe/Berlin, or install tzdata", zone))
	} else if zone := self.MissingZone(os.Environ()); zone != "" {
		c.Warnings = append(c.Warnings, fmt.Sprintf("TZ %q: gophd knows this time zone, but this host does not, so most "+
			"programs use UTC: install tzdata", zone))
	}
	for _, spec := range c.Jobs {
		if zone := self.MissingZone(spec.Env); zone != "" {
			c.Warnings = append(c.Warnings, fmt.Sprintf("TZ %q of the command of %s: there is no such time zone, and most programs "+
				"use UTC then; set TZ to a name such as Europe/Berlin, or install tzdata", zone, spec.Name))
		}
	}
	if dir := p.self.ClosedDirectory(); dir != "" && !(len(c.Jobs) == 1 && c.Jobs[0].Once) {
		c.Warnings = append(c.Warnings, fmt.Sprintf("gophd was started in %s, which its user may not enter, so each reload and "+
			"re-exec will be rejected; start gophd in another directory, or grant the right (chmod +x)", dir))
	}
	return c, nil
}
