package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/api"
	"gophd/internal/job"
	"gophd/internal/logread"
)

// addSteering adds the commands that request something from a running daemon.
func addSteering(root *cobra.Command, p *program) {
	root.AddCommand(newStart(p), newStop(p), newRestart(p), newSignal(p), newReload(p),
		&cobra.Command{
			Use: "pause [JOB]", SuggestFor: []string{"disable", "hold", "suspend"},
			Short: "Start no run of a job by itself, until resume",
			Long: `Start no run of a job by itself, until gophd resume. An active run continues, the lease is kept, and
gophd start still runs the job. The pause holds over a reload, an upgrade and a new start of the daemon.`,
			Example: `  gophd pause nightly`, Args: oneName,
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.order(cmd.Context(), args, "pause", api.Order{})
			},
		},
		&cobra.Command{
			Use: "resume [JOB]", Aliases: []string{"unpause"}, SuggestFor: []string{"continue", "enable"},
			Short:   "End the pause or the stop of a job",
			Long:    `End the pause or the stop of a job. Runs that were due meanwhile are not made up for.`,
			Example: `  gophd resume nightly`, Args: oneName,
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.order(cmd.Context(), args, "resume", api.Order{})
			},
		},
		newSkip(p))
}

func newSkip(p *program) *cobra.Command {
	count := 1
	cmd := &cobra.Command{
		Use:   "skip [JOB]",
		Short: "Skip the next scheduled run of a job",
		Long: `Skip the next scheduled run of a job, or the next N. The log says so when it is due. -n 0 takes it back.
It holds over a reload, an upgrade and a new start of the daemon.`,
		Example: `  gophd skip nightly
  gophd skip -n 3 poll`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.order(cmd.Context(), args, "skip", api.Order{Count: &count})
		},
	}
	cmd.Flags().IntVarP(&count, "number", "n", 1, "how many runs; 0 is none")
	return cmd
}

func newRestart(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "restart [JOB]",
		Short:   "Stop the run of a service and start it again",
		Long:    `Stop the run of a service, with its stop signals and its grace, and start it again at once.`,
		Example: `  gophd restart web`,
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.order(cmd.Context(), args, "restart", api.Order{})
		},
	}
}

func newSignal(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "signal JOB SIGNAL", SuggestFor: []string{"kill"},
		Short:   "Send a signal to the active runs of a job",
		Long:    `Send a signal to the process group of each active run of a job.`,
		Example: `  gophd signal web HUP`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return &usageError{errors.New("signal takes a JOB and a SIGNAL, as in gophd signal web HUP")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.order(cmd.Context(), args[:1], "signal", api.Order{Signal: args[1]})
		},
	}
}

func newStart(p *program) *cobra.Command {
	var wait, follow bool
	cmd := &cobra.Command{
		Use:        "start [JOB] [-- ARG...]",
		SuggestFor: []string{"trigger"},
		Short:      "Run a job now",
		Long: `Run a job now, also while it is paused. A job that was stopped, has ended or has failed is active again.
Arguments after -- are added to the command of this run. During a run the overlap policy of the job
decides: queue runs it after that.

It returns when the run has started. With --wait it exits with the exit code of the run, or with 1 if
the run was not started or did not exit. So it does with --follow, which prints the output of the run too.`,
		Example: `  gophd start nightly
  gophd start --follow nightly
  gophd start --wait nightly -- --full`,
		Args: func(cmd *cobra.Command, args []string) error {
			named := args
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				named = args[:at]
			}
			if len(named) > 1 {
				return &usageError{fmt.Errorf("start takes one JOB; write arguments for the command after --, as in gophd start %s -- %s",
					named[0], named[1])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at := len(args)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				at = dash
			}
			return p.start(cmd.Context(), args[:at], args[at:], wait || follow, follow)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the end of the run, and exit with its exit code")
	cmd.Flags().BoolVar(&follow, "follow", false, "print the output of the run, and wait as with --wait")
	return cmd
}

func newStop(p *program) *cobra.Command {
	var runOnly bool
	cmd := &cobra.Command{
		Use:   "stop [NAME]",
		Short: "Stop a job, its active run, or a daemon",
		Long: `Stop one of many jobs: no run of it starts by itself until gophd start or resume, or until the daemon
is started again. Stop a daemon, or the only job of one: the daemon exits. Both wait for the active
run; a service is stopped. With --run only the active run is stopped, and the job goes on.

A second gophd stop of a daemon stops its run too. A daemon with many jobs must be named.`,
		Example: `  gophd stop nightly
  gophd stop --run nightly`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if runOnly {
				return p.order(cmd.Context(), args, "stop", api.Order{RunOnly: true})
			}
			return p.stop(cmd.Context(), strings.Join(args, ""))
		},
	}
	cmd.Flags().BoolVar(&runOnly, "run", false, "stop the active run only")
	return cmd
}

func newReload(p *program) *cobra.Command {
	var plan, asJSON bool
	cmd := &cobra.Command{
		Use:   "reload [DAEMON]",
		Short: "Reload the config of a daemon, and upgrade it to the installed gophd",
		Long: `Reload the config of a daemon, as HUP does, and wait for the result: what has changed, or why the reload
was rejected. The installed gophd takes over. Active runs are not touched.

With --plan nothing changes: the installed gophd checks the config as for a reload, and you see what a
reload would change, or why it would be rejected.`,
		Example: `  gophd reload --plan nightly
  gophd reload nightly`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := strings.Join(args, "")
			switch {
			case plan:
				return p.planReload(cmd.Context(), name, asJSON)
			case asJSON:
				return &usageError{errors.New("--json is for --plan; the events of a reload are in gophd events")}
			}
			return p.reload(cmd.Context(), name)
		},
	}
	cmd.Flags().BoolVar(&plan, "plan", false, "only print what a reload would change")
	cmd.Flags().BoolVar(&asJSON, "json", false, "with --plan: print a JSON object")
	return cmd
}

// jobTarget returns the job that the arguments name.
func (p *program) jobTarget(ctx context.Context, args []string) (target, error) {
	t, err := p.target(ctx, strings.Join(args, ""))
	if err != nil {
		return t, err
	}
	return onlyJob(t)
}

// onlyJob returns the job of a target that names a daemon.
func onlyJob(t target) (target, error) {
	if t.job != "" {
		return t, nil
	}
	if jobs := t.daemon.Status.Jobs; len(jobs) == 1 {
		t.job = jobs[0].Name
		return t, nil
	}
	var names []string
	for _, j := range t.daemon.Status.Jobs {
		names = append(names, t.daemon.Name+"/"+j.Name)
	}
	return t, &usageError{fmt.Errorf("%s is a daemon with %d jobs: name one of %s", printable(t.daemon.Name), len(names),
		printable(strings.Join(names, ", ")))}
}

// order sends a request for a job, and prints what happened.
func (p *program) order(ctx context.Context, args []string, verb string, o api.Order) error {
	t, err := p.jobTarget(ctx, args)
	if err != nil {
		return err
	}
	done, err := api.NewClient(t.daemon.Socket).Order(ctx, t.job, verb, o)
	if err != nil {
		return requestError(err)
	}
	fmt.Fprintf(p.stdout, "gophd: %s\n", printable(done.Message))
	return nil
}

// requestError returns the error of a request with its exit code.
func requestError(err error) error {
	var r *api.Refused
	switch {
	case errors.As(err, &r) && (r.Code == 400 || r.Code == 413):
		return &usageError{errors.New(printable(r.Why))}
	case errors.As(err, &r):
		return errors.New(printable(r.Why))
	case errors.Is(err, api.ErrNotRunning):
		return &notRunningError{err.Error()}
	case errors.Is(err, api.ErrPermission):
		return &unknownError{err.Error()}
	}
	return errors.New(printable(err.Error()))
}

// start requests a run, and waits for its start, or for its end.
func (p *program) start(ctx context.Context, names, args []string, wait, follow bool) error {
	t, err := p.jobTarget(ctx, names)
	if err != nil {
		return err
	}
	c := api.NewClient(t.daemon.Socket)
	done, err := c.Order(ctx, t.job, "start", api.Order{Args: args})
	if err != nil {
		return requestError(err)
	}
	over, code := false, codeFailed
	waits := time.AfterFunc(time.Second, func() {
		fmt.Fprintf(p.stderr, "gophd: the run of %s waits; gophd why %s says why\n", printable(t.job), printable(t.job))
	})
	defer waits.Stop()
	output := p.follower(t)
	defer output.end()
	var failed error
	err = c.Events(ctx, done.After, true, func(e api.Event, _ []byte) bool {
		switch {
		case e.Request != done.Request || e.Job != t.job:
		case e.Type == "request.rejected": // later than the answer: a job that had ended is not started again
			over = true
			failed = errors.New(printable(e.Message))
			return false
		case e.Type == "run.started":
			waits.Stop()
			over = true
			to := p.stdout
			if follow {
				to = p.stderr // stdout is for the output of the command
				output.begin(ctx, logread.Run{Number: e.Run, PID: e.PID, Started: e.Time})
			}
			fmt.Fprintf(to, "gophd: run %d of %s started, pid %d\n", e.Run, printable(t.job), e.PID)
			return wait
		case e.Type == "run.ended" && e.Outcome == job.EndingStartError: // there was no run.started
			over = true
			failed = errors.New(printable(e.Message))
			return false
		case e.Type == "run.ended":
			over = true
			if code = codeFailed; e.ExitCode != nil {
				code = *e.ExitCode
			}
			output.end()
			fmt.Fprintf(p.stderr, "gophd: %s\n", printable(e.Message))
			return false
		}
		return true
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return requestError(err)
	case !over || wait && code == codeFailed && ctx.Err() != nil:
		return fmt.Errorf("%s ended before the run", printable(t.daemon.Name))
	case wait && code != codeSuccess:
		return codeError(code)
	}
	return nil
}

// stop stops a job or a daemon, and waits until it has stopped.
func (p *program) stop(ctx context.Context, name string) error {
	t, err := p.target(ctx, name)
	if err != nil {
		return err
	}
	c := api.NewClient(t.daemon.Socket)
	if jobs := len(t.daemon.Status.Jobs); name == "" && jobs > 1 {
		return &usageError{fmt.Errorf("%s has %d jobs: to stop all of them and the daemon, name it: gophd stop %s", printable(t.daemon.Name),
			jobs, printable(t.daemon.Name))}
	}
	if t.job == "" || len(t.daemon.Status.Jobs) == 1 {
		done, err := c.Stop(ctx)
		if err != nil {
			return requestError(err)
		}
		err = c.Events(ctx, done.After, true, func(api.Event, []byte) bool { return true })
		if err != nil && !errors.Is(err, api.ErrNotRunning) {
			return requestError(err)
		}
		fmt.Fprintf(p.stdout, "gophd: %s has stopped\n", printable(t.daemon.Name))
		return nil
	}
	done, err := c.Order(ctx, t.job, "stop", api.Order{})
	if err != nil {
		return requestError(err)
	}
	resumed := false
	active := func() bool {
		s, err := c.Status(ctx)
		if err != nil {
			return false
		}
		for _, j := range s.Jobs {
			if j.Name == t.job {
				resumed = j.State != api.Stopping && j.State != api.Stopped && j.State != api.Failed
				return len(j.Running) > 0 && !resumed
			}
		}
		return false
	}
	if active() {
		err = c.Events(ctx, done.After, true, func(e api.Event, _ []byte) bool {
			return e.Type != "run.ended" && e.Type != "job.steered" || e.Job != t.job || active()
		})
	}
	switch {
	case err != nil:
		return requestError(err)
	case resumed:
		return fmt.Errorf("%s was stopped, and is active again: it was started or resumed meanwhile", printable(t.job))
	}
	fmt.Fprintf(p.stdout, "gophd: %s\n", printable(done.Message))
	return nil
}

// reload requests a reload, and prints its result.
func (p *program) reload(ctx context.Context, name string) error {
	t, err := p.target(ctx, name)
	if err != nil {
		return err
	}
	c := api.NewClient(t.daemon.Socket)
	done, err := c.Reload(ctx)
	if err != nil {
		return requestError(err)
	}
	var failed error
	resumed := false
	err = c.Events(ctx, done.After, true, func(e api.Event, _ []byte) bool {
		switch e.Type {
		case "reload.rejected":
			failed = errors.New(printable(e.Message))
			return false
		case "reload.delayed":
			fmt.Fprintf(p.stderr, "gophd: %s\n", printable(e.Message))
		case "process.resumed":
			resumed = true
		case "reload.applied", "job.added", "job.removed", "job.changed", "jobs.unchanged":
			text := e.Message
			if e.Job != "" && len(t.daemon.Status.Jobs) != 1 {
				text = e.Job + ": " + text
			}
			fmt.Fprintf(p.stdout, "gophd: %s\n", printable(text))
		case "process.state": // after the above
			return !resumed
		}
		return true
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return requestError(err)
	case !resumed:
		return fmt.Errorf("%s ended before the reload", printable(t.daemon.Name))
	}
	return nil
}

// planReload prints what a reload would change.
func (p *program) planReload(ctx context.Context, name string, asJSON bool) error {
	t, err := p.target(ctx, name)
	if err != nil {
		return err
	}
	done, err := api.NewClient(t.daemon.Socket).Plan(ctx)
	switch {
	case err != nil:
		return requestError(err)
	case done.Plan == nil:
		fmt.Fprintf(p.stderr, "gophd: %s; the installed gophd has another version, and this one cannot tell what its config changes\n",
			printable(done.Message))
		return nil
	case asJSON:
		return p.printJSON(done.Plan)
	}
	if rows := planRows(t.daemon.Name, *done.Plan); len(rows) > 0 {
		if err := p.screen().table(rows); err != nil {
			return err
		}
	}
	if n := done.Plan.Unchanged; n > 0 || len(done.Plan.Settings)+len(done.Plan.Jobs) == 0 {
		fmt.Fprintf(p.stdout, "%d unchanged\n", n)
	}
	return nil
}

// planRows returns a row for each change, the first of each job with its name.
func planRows(daemon string, plan api.Plan) (rows [][]cell) {
	add := func(name, change, text, effect string) {
		if effect != "" && text != "" {
			text += ", "
		}
		rows = append(rows, []cell{{text: printable(name)}, {text: change}, {text: printable(text + effect)}})
	}
	settings := func(name string, all []api.Setting, effect string) {
		change := "changed"
		for _, s := range all {
			add(name, change, settingText(s), effect)
			name, change, effect = "", "", ""
		}
	}
	settings(daemon, plan.Settings, "")
	for _, j := range plan.Jobs {
		if j.Change == "changed" {
			settings(j.Name, j.Settings, j.Effect)
		} else {
			add(j.Name, j.Change, j.Schedule, j.Effect)
		}
	}
	return rows
}

// settingText returns the change of a setting.
func settingText(s api.Setting) string {
	const most = 40
	switch {
	case s.From == "" && s.To == "":
		return s.Name
	case s.From == "":
		return s.Name + ": " + cut(s.To, most)
	case s.To == "":
		return s.Name + ": " + cut(s.From, most) + " -> nothing"
	}
	return s.Name + ": " + cut(s.From, most) + " -> " + cut(s.To, most)
}

func newHealthcheck(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck [NAME]", SuggestFor: []string{"health", "ping"},
		Short: "Exit with 0 if a daemon or a job is healthy, else with 1",
		Long: `Exit with 0 if a daemon answers and none of its jobs has failed for good, else with 1, and say why. With
the NAME of a job only that job counts. It is for the HEALTHCHECK of a container image.`,
		Example: `  gophd healthcheck
  HEALTHCHECK CMD ["gophd", "healthcheck"]`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.healthcheck(cmd.Context(), strings.Join(args, "")); err != nil {
				return errors.New(err.Error()) // its own exit code is 1, whatever it is about
			}
			return nil
		},
	}
}

func (p *program) healthcheck(ctx context.Context, name string) error {
	t, err := p.target(ctx, name)
	if err != nil {
		return err
	}
	for _, j := range t.daemon.Status.Jobs {
		if j.State == api.Failed && (t.job == "" || t.job == j.Name) {
			return fmt.Errorf("%s has failed: %s", printable(j.Name), printable(j.Failed))
		}
	}
	return nil
}
