package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gophd/internal/config"
	"gophd/internal/daemon"
	"gophd/internal/daemonize"
	"gophd/internal/job"
	"gophd/internal/signals"
)

func newRun(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run -H | [-d] [-v] [-p PID_FILE] [flags] -- COMMAND [ARG...]",
		Short: "Run a command on each tick of a loop",
		Long: `Run COMMAND on each tick of a loop, one of it in the whole cluster.

COMMAND is executed as given, argument by argument; --shell runs one word by /bin/sh -c. Without -d
gophd stays in the foreground, passes the command's output on untouched, and speaks only to warn;
-v echoes all that is logged.

Signals:
  INT, TERM  finish the run, then end; again: stop the run now; a third time: kill it.
             A service (--keep) is stopped by the first
  HUP        become a new image in place: same PID, new binary and config if they are sound;
             a run that is under way goes on
  USR1       dump what is going on
  USR2       reopen the log files
  CONT       run now
As process 1 of a container QUIT, PWR and RTMIN+3 are as TERM.

The command has in its environment:
  GOPHD_NAME    the job's name           GOPHD_RUN     number of the run, 1 for the first
  GOPHD_DUE     when it was due          GOPHD_RUN_ID  names this run on this host
  GOPHD_FENCE   grows with each holder   GOPHD_PLACE   0, or its place among overlapping runs
and each key of the config's own sections: host below database: is GOPHD_DATABASE_HOST.

Every flag has a config key and an environment variable of the same name: --interval is
job.interval and GOPHD_JOB_INTERVAL. The flag wins over the environment, that over the file.
Limits by cgroup, the rules of exit codes and the log's rotation have keys and no flags: docs/config.md,
or gophd config show.

` + exitCodeHelp,
		Example: `  gophd run -i 0.2 -- ./poll.sh                      five times a second
  gophd run -d -p /run/x.pid -n x -- ./job.sh        as a daemon, with a PID file
  gophd run -d --heartbeat memcached://10.0.0.5 -n nightly -i 1h -- ./nightly.sh
                                                     one in the cluster
  gophd run --once -- ./backup.sh                    once, with its own exit code: a cron wrapper
  gophd run --keep -n web -- ./server                a service: started again when it ends
  gophd run --once --output on-failure -- ./sync.sh  its output only if it fails
  gophd run --user www-data --timeout 10m -- ./job.sh
                                                     as another user, for ten minutes at most
  gophd run --shell 'date >> /tmp/x; sleep 1'        one line for the shell
  gophd run -c job.yaml                              all of it from a file`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.runConfig(cmd, args)
			if err != nil {
				return p.tell(err)
			}
			return p.tell(p.run(cmd.Context(), c))
		},
	}
	config.AddFlags(cmd.Flags())
	groupUsage(cmd)
	return cmd
}

// runConfig loads the config. After a re-exec it is the one that was validated and handed off: a file
// that has changed since cannot hurt.
func (p *program) runConfig(cmd *cobra.Command, args []string) (*config.Config, error) {
	if p.handoff != nil && p.handoff.Config != nil {
		return config.Decode(p.handoff.Config)
	}
	return p.load(cmd, args, true)
}

// run runs the daemon that c describes, here or detached, until it ends.
func (p *program) run(ctx context.Context, c *config.Config) error {
	p.held = c.Heartbeat.HeldExitCode
	if p.handoffErr != nil {
		return p.handoffErr
	}
	handoff := p.handoff
	if handoff == nil {
		// Only the first start is refused here: after a restart there is no way back, and the probe has looked.
		if _, err := p.look(c); err != nil {
			return err
		}
	}
	if c.Daemon && handoff == nil && p.self.Ready == "" {
		return p.detach()
	}
	ready, err := daemonize.Inherit(p.self)
	if err != nil {
		return err
	}
	p.ready = ready
	if c.Daemon {
		// Keeps no file system busy; self and config have made every path absolute.
		if err := os.Chdir("/"); err != nil {
			return err
		}
	}
	p.handoff = nil // the daemon answers for it now
	o := daemon.Options{Config: c, Self: p.self, Version: version, Handoff: handoff, Stderr: p.stderr, Serving: p.serving}
	if p.signals == nil {
		p.signals = signals.Listen()
	}
	for o.Signals = p.signals; ; o.Signals = signals.Listen() {
		outcome, err := daemon.New(o).Run(ctx)
		switch {
		case err != nil && outcome.Said:
			return &saidError{err}
		case err != nil:
			return err
		case outcome.Restart != nil:
			o.Trouble = outcome.Restart.Exec(p.self, o.Signals.Close) // returns only when it failed: then we go on ourselves
			outcome.Stay()
			o.Handoff = outcome.Restart
		case outcome.Last != nil:
			return lastCode(&c.Jobs[0], *outcome.Last, outcome.Said)
		default:
			return nil
		}
	}
}

// lastCode leaves with the code of a once job's only run. What the run did is the log's to tell, and
// gophd's own word is needed only when there was no command to speak, and the log has not told that on the terminal.
func lastCode(spec *job.Spec, r job.Result, said bool) error {
	if r.Outcome == job.Unstarted && !said {
		return &startError{r.Err}
	}
	if code := spec.ExitCode(r); code != codeDone {
		return codeError(code)
	}
	return nil
}

// detach starts the same command line as a daemon and reports what became of it.
func (p *program) detach() error {
	report, err := daemonize.Start(p.self)
	if err != nil {
		return err
	}
	to := p.stdout
	if report.Code != 0 {
		to = p.stderr
	}
	if text := strings.TrimSuffix(report.Text, "\n"); text != "" {
		fmt.Fprintln(to, text)
	}
	return codeError(report.Code)
}

// serving tells a terminal that waits for us that all is well.
func (p *program) serving(text string) {
	if p.ready == nil {
		return
	}
	// A parent that is gone cannot be told, and there is nobody left to tell that.
	_ = p.ready.Serving(fmt.Sprintf("gophd: %s; pid %d", text, os.Getpid()))
	p.ready = nil
}

// tell passes an error on to the terminal that started us as a daemon, where we ourselves have none.
func (p *program) tell(err error) error {
	if err == nil {
		return nil
	}
	if p.ready == nil && p.self.Ready != "" {
		p.ready, _ = daemonize.Inherit(p.self) // nil when the pipe is used up, or never was one
	}
	if p.ready == nil {
		return err
	}
	var b strings.Builder
	code := (&program{stdout: &b, stderr: &b, held: p.held}).leave(err)
	if code == codeDone {
		_ = p.ready.Serving(b.String()) // another does, and that is all right
	} else {
		_ = p.ready.Failed(code, b.String())
	}
	p.ready = nil
	return codeError(code)
}
