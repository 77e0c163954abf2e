package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"gophd/internal/config"
	"gophd/internal/daemonize"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/self"
	"gophd/internal/signals"
)

// program is what every command needs of the world.
type program struct {
	self           self.Self
	stdout, stderr io.Writer
	handoff        *restart.Handoff // from the image before us; nil at the first start
	handoffErr     error            // why there is a hand-over that cannot be used
	signals        *signals.Signals // nil until somebody listens
	held           int              // exit code when another's heartbeat is heard
	ready          *daemonize.Ready // the terminal that waits for us as a daemon; nil when none does
}

// execute runs the command line args.
func (p *program) execute(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == process.ShimCommand {
		return become()
	}
	root := newRoot(p)
	if len(args) > 0 && args[0] == "run" {
		// A daemon that may stay for months does not keep in memory what it cannot become any more.
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
		Short: "Turn any command into a solid daemon",
		Long: `gophd turns any command into a solid daemon: it runs the command on each tick of a loop, keeps exactly
one of it alive in the whole cluster, never loses its output, and can replace itself in place.`,
		Example: `  gophd run -v --interval 2 -- ./job.sh          every 2 seconds, in the foreground, saying what it does
  gophd run -d -p /run/job.pid -- ./job.sh       as a daemon, every 5 seconds
  gophd check -c job.yaml                        what would run, and when
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
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.PersistentFlags().BoolP("help", "H", false, "show this help (-h too)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	return root
}

func addCommands(root *cobra.Command, p *program) {
	root.AddCommand(newRun(p), newCheck(p), newConfig(p), newVersion(p), newProbe(p))
}

// noArgs refuses words where there is nothing to name: most likely the word is a command misspelt.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(": did you mean %s?", near[0])
	}
	return &usageError{fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)}
}

// load reads the config for the flags and the words of a command line.
func (p *program) load(cmd *cobra.Command, command []string, needCommand bool) (*config.Config, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // a daemon of the system may have none; config then knows no user's folder
	}
	c, err := config.Load(config.Request{Flags: cmd.Flags(), Command: command, Env: p.self.Env, Dir: p.self.Dir,
		Home: home, UID: os.Getuid(), NeedCommand: needCommand})
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}
