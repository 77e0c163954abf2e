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
	"gophd/internal/preflight"
	"gophd/internal/signals"
)

func newRun(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [-d] [-v] [-p PID_FILE] [flags] -- COMMAND [ARG...]",
		Short: "Run a command at an interval, on a schedule, once, or as a service",

		SuggestFor: []string{"cron", "daemon", "every", "exec", "job", "loop", "once", "supervise"},
		Long: `Run COMMAND again and again, one instance at a time: on this host, or with a memcached lease in the
whole cluster.

COMMAND is executed as given, without a shell; --shell runs one line by /bin/sh -c. Without -d gophd
stays in the foreground, does not touch the command's output, and prints warnings and errors only;
-v also prints log lines to stderr, -q prints errors and failed runs only.

Signals:
  INT, TERM  graceful stop: wait for the run, then exit. Again: stop the run now. A third time: kill it.
             A service (--service) is stopped by the first
  HUP        reload: same PID, new binary and config if both are valid; the run is not touched
  USR1       write a dump of the state to the log
  USR2       reopen the log files
  CONT       run now
As process 1 of a container, QUIT, PWR and RTMIN+3 are a graceful stop too.

The environment of the command has:
  GOPHD_NAME    name of the job          GOPHD_RUN     number of the run, from 1
  GOPHD_DUE     when the run was due     GOPHD_RUN_ID  identifies the run on this host
  GOPHD_FENCE   fencing token            GOPHD_SLOT    slot of the run if runs overlap, else 0
and each key of your own sections in the config file: host below database: is GOPHD_DATABASE_HOST.

Every setting has a config key and an environment variable: --interval is job.interval and
GOPHD_JOB_INTERVAL. A flag takes precedence over the environment, the environment over the file.
Cgroup limits, exit code rules and log rotation have config keys and no flags: see docs/config.md, or
gophd config show.

` + exitCodeHelp,
		Example: `  gophd run -i 0.2 -- ./poll.sh                      five times a second
  gophd run --schedule "17 3 * * 1-5" -- ./backup.sh 03:17 on weekdays
  gophd run -d -p /run/x.pid -n x -- ./job.sh        as a daemon, with a PID file
  gophd run -d --heartbeat memcached://10.0.0.5 -n nightly -i 1h -- ./nightly.sh
                                                     on one host at a time
  gophd run --once -- ./backup.sh                    once, with its own exit code, as a cron wrapper
  gophd run --service -n web -- ./server             a service: restarted when it exits
  gophd run --once --output on-failure -- ./sync.sh  print its output only if it fails
  gophd run --user www-data --timeout 10m -- ./job.sh
                                                     as another user, ten minutes at most
  gophd run --shell 'date >> /tmp/x; sleep 1'        one line for the shell
  gophd run -c job.yaml                              everything from a file
  gophd run -c jobs.yaml                             many jobs in one process, with jobs: in the file
  gophd run --crontab /etc/crontab                   the jobs of a crontab`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.runConfig(cmd, args)
			if err != nil {
				return p.report(err)
			}
			return p.report(p.run(cmd.Context(), c))
		},
	}
	config.AddFlags(cmd.Flags())
	groupUsage(cmd)
	return cmd
}

// runConfig loads the config. After a re-exec it returns the config that was validated and handed
// off, so that a later change of the file has no effect.
func (p *program) runConfig(cmd *cobra.Command, args []string) (*config.Config, error) {
	if p.handoff != nil && len(p.handoff.Config) > 0 {
		return config.Decode(p.handoff.Config)
	}
	return p.load(cmd, args, true)
}

// run runs the daemon of c, in this process or detached, until it exits.
func (p *program) run(ctx context.Context, c *config.Config) error {
	p.heldCode, p.quiet = c.Heartbeat.HeldExitCode, c.Quiet
	if p.handoffErr != nil {
		return p.handoffErr
	}
	handoff := p.handoff
	if handoff == nil && p.self.Ready == "" {
		// Only a first start fails here. A re-exec cannot be undone, and probe has checked it.
		if err := fit(c, p.self.Env); err != nil {
			return &startError{err}
		}
		if c.Daemon {
			if text := preflight.LogCaution(c); text != "" && !c.Quiet {
				p.warn(text)
			}
			return p.detach()
		}
	}
	ready, err := daemonize.Inherit(p.self)
	if err != nil {
		return err
	}
	p.ready = ready
	if c.Daemon {
		// This keeps no file system busy. Packages self and config have made every path absolute.
		if err := os.Chdir("/"); err != nil {
			return err
		}
	}
	p.handoff = nil // the daemon takes it over
	o := daemon.Options{Config: c, Self: p.self, Version: version, Handoff: handoff, Stderr: p.stderr,
		Serving: p.serving}
	if p.signals == nil {
		p.signals = signals.Listen()
	}
	for o.Signals = p.signals; ; o.Signals = signals.Listen() {
		outcome, err := daemon.New(o).Run(ctx)
		switch {
		case err != nil && outcome.Reported:
			return &loggedError{err}
		case err != nil:
			return err
		case outcome.Restart != nil:
			// Exec returns only if it failed. Then this process continues.
			o.Trouble = outcome.Restart.Exec(p.self, o.Signals.Close)
			outcome.ReleaseWaits()
			o.Handoff = outcome.Restart
		case outcome.Last != nil:
			return lastCode(&c.Jobs[0], *outcome.Last, outcome.Reported)
		default:
			return nil
		}
	}
}

// lastCode returns the exit code of a --once job as an error. The log reports the run. A message is
// printed only if the command could not be started, and the log has not printed that on the
// terminal.
func lastCode(spec *job.Spec, r job.Result, logged bool) error {
	if r.Outcome == job.Unstarted && !logged {
		return &startError{r.Err}
	}
	if code := spec.ExitCode(r); code != codeSuccess {
		return codeError(code)
	}
	return nil
}

// detach starts the same command line as a daemon, and prints whether that succeeded.
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

// serving reports to the waiting process that the daemon has started.
func (p *program) serving(text string) {
	if p.ready == nil {
		return
	}
	text = fmt.Sprintf("gophd: %s; pid %d", text, os.Getpid())
	if p.quiet {
		text = ""
	}
	// It fails only if the waiting process has exited. Then nobody needs the report.
	_ = p.ready.Serving(text)
	p.ready = nil
}

// fit returns why a start would fail. Of many jobs an unfit one does not prevent it: the daemon checks
// each.
func fit(c *config.Config, env []string) (err error) {
	if c.Many {
		return preflight.NewChecker(c, env).Daemon()
	}
	_, err = preflight.Check(c, env)
	return err
}

// report passes an error to the process that started this daemon, because the daemon has no
// terminal.
func (p *program) report(err error) error {
	if err == nil {
		return nil
	}
	if p.ready == nil && p.self.Ready != "" {
		p.ready, _ = daemonize.Inherit(p.self) // nil if the pipe was used already, or is missing
	}
	if p.ready == nil {
		return err
	}
	var b strings.Builder
	code := (&program{stdout: &b, stderr: &b, heldCode: p.heldCode, quiet: p.quiet}).printError(err)
	if code == codeSuccess {
		_ = p.ready.Serving(b.String()) // another instance runs the job, which is a success
	} else {
		_ = p.ready.Failed(code, b.String())
	}
	p.ready = nil
	return codeError(code)
}
