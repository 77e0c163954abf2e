package supervisor

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/process"
	"gophd/internal/restart"
)

// reapAllowance is what is kept of a lease's last seconds for the kernel to carry out a KILL and for
// us to notice: the run must be reaped, not merely signalled, by the deadline.
const reapAllowance = 250 * time.Millisecond

// leaseError is why a run is ended when the right to run it ends.
type leaseError struct {
	why   string
	grace time.Duration // from TERM to KILL
}

func (e *leaseError) Error() string { return e.why }

// runner is the loop's Runner: it turns a run into a process in the job's world, and lets the
// supervisor end the run that is going on.
type runner struct {
	spec    job.Spec
	spawner *process.Spawner
	env     []string // of every run
	stdout  process.Output
	stderr  process.Output
	file    string // for both, in their place
	fence   func() uint64
	started func(run job.Run, p *process.Process, adopted bool)

	going   *goingRun // of the image before us, until it is adopted
	handoff *restart.Handoff

	mu     sync.Mutex // guards those below, which the supervisor's and the loop's goroutines share
	now    *process.Process
	cancel context.CancelCauseFunc
	left   *process.Process // to the next image
}

func (r *runner) Run(ctx context.Context, run job.Run) job.Result {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.hold(nil, cancel)
	defer r.hold(nil, nil)
	began := time.Now()
	p, adopted, err := r.adopt(run)
	if adopted && err == nil {
		began = p.Started()
	}
	if r.spec.Timeout > 0 {
		timed, stop := context.WithDeadlineCause(ctx, began.Add(r.spec.Timeout), job.ErrTimeout)
		defer stop()
		ctx = timed
	}
	if !adopted {
		p, err = r.start(ctx, run)
	}
	if err != nil {
		return job.Result{Started: began, Ended: time.Now(), Outcome: job.Unstarted, Err: err, Cause: context.Cause(ctx)}
	}
	r.hold(p, cancel)
	r.started(run, p, adopted)
	fault("run")
	release := context.AfterFunc(ctx, func() { p.Stop(r.grace(context.Cause(ctx))) })
	result := p.Wait()
	if !release() {
		result.Cause = context.Cause(ctx)
	}
	return result
}

func (r *runner) start(ctx context.Context, run job.Run) (*process.Process, error) {
	c := process.Command{Argv: r.spec.Command, Dir: r.spec.Dir, Env: r.environment(run), Stdout: r.stdout, Stderr: r.stderr}
	if r.file != "" {
		f, err := openOutput(r.file)
		if err != nil {
			return nil, err
		}
		defer f.Close() // the command has its own by then
		c.Stdout.File, c.Stderr.File = f, f
	}
	return r.spawner.Start(ctx, c)
}

// grace is how long a run that is ended for that cause has from TERM to KILL.
func (r *runner) grace(cause error) time.Duration {
	if lease, ok := cause.(*leaseError); ok {
		return min(lease.grace, r.spec.Grace)
	}
	return r.spec.Grace
}

func (r *runner) hold(p *process.Process, cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now, r.cancel = p, cancel
}

// Interrupt ends the run that is going on, if any, and no other. A run that is being ended already
// keeps its cause and gets the shorter grace.
func (r *runner) Interrupt(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.cancel(cause)
	}
	if r.now != nil {
		r.now.Stop(r.grace(cause))
	}
}

// Kill sends KILL to the run that is going on, if any.
func (r *runner) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now != nil {
		r.now.Stop(0)
	}
}

// environment is that of one run: GOPHD_DUE is RFC 3339 with nanoseconds.
func (r *runner) environment(run job.Run) []string {
	return append(slices.Clip(r.env),
		"GOPHD_RUN="+strconv.FormatUint(run.Number, 10),
		"GOPHD_DUE="+run.Due.Format(time.RFC3339Nano),
		"GOPHD_FENCE="+strconv.FormatUint(r.fence(), 10))
}

// commandEnvironment is the environment of every run: gophd's own, less what was meant for gophd (its
// settings, the service manager's sockets), with the config's sections and the job's name.
func commandEnvironment(own []string, spec job.Spec) []string {
	added := append(slices.Clone(spec.Env), "GOPHD_NAME="+spec.Name, "GOPHD_SLOT=0")
	not := map[string]bool{config.RunVariable: true, "GOPHD_RUN": true, "GOPHD_DUE": true, "GOPHD_FENCE": true,
		"NOTIFY_SOCKET": true, "WATCHDOG_USEC": true, "WATCHDOG_PID": true,
		"LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true, "MAINPID": true}
	for _, a := range added {
		name, _, _ := strings.Cut(a, "=")
		not[name] = true
	}
	var env []string
	for _, e := range own {
		if name, _, _ := strings.Cut(e, "="); !not[name] {
			env = append(env, e)
		}
	}
	return append(env, added...)
}

// capture is the log as the command's output sees it.
type capture interface {
	// Capture returns the opener of writers for one stream of a command with the given PID.
	Capture(stream string) func(pid int) io.WriteCloser
}

// outputs are where the command's two streams go, but for a file of its own: that is opened for each run,
// so that it may be moved away between two of them.
func outputs(spec job.Spec, log capture, null *os.File) (stdout, stderr process.Output, file string) {
	switch spec.Output {
	case job.OutputLog:
		return process.Output{Open: log.Capture("stdout")}, process.Output{Open: log.Capture("stderr")}, ""
	case job.OutputInherit:
		return process.Output{File: os.Stdout}, process.Output{File: os.Stderr}, ""
	case job.OutputDiscard:
		return process.Output{File: null}, process.Output{File: null}, ""
	}
	return process.Output{}, process.Output{}, spec.Output
}

// openOutput opens the file that a command writes to itself.
func openOutput(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("cannot open the command's output: %w: check job.output", err)
	}
	return f, nil
}

// lastWord is what the deadline of a lease leaves to a run's end.
func lastWord(l heartbeat.Lease, now, stopGrace time.Duration) time.Duration {
	if l.Deadline == 0 {
		return stopGrace
	}
	return max(min(stopGrace, l.Deadline-now)-reapAllowance, 0)
}
