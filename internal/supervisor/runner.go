package supervisor

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gophd/internal/config"
	"gophd/internal/fault"
	"gophd/internal/job"
	"gophd/internal/keep"
	"gophd/internal/process"
	"gophd/internal/sdnotify"
	"gophd/internal/world"
)

// leaseError is why a run is ended when the right to run it ends.
type leaseError struct {
	why   string
	grace time.Duration // from TERM to KILL
}

func (e *leaseError) Error() string { return e.why }

// ErrFault is why runs are stopped when gophd itself has failed.
var ErrFault error = &leaseError{why: "gophd had a fatal error"}

// runner is the loop's Runner: it turns a run into a process in the job's world, and lets the
// supervisor end the runs that are active.
type runner struct {
	spec    job.Spec
	spawner *process.Spawner
	world   *world.World
	cgroup  *process.Cgroup
	env     []string               // of every run
	mark    atomic.Pointer[string] // begins what marks the descendants of a run of this daemon, whichever process started it
	outputs targets
	hooks   hooks
	notices *sdnotify.Socket // where runs ask for more time; nil where they have no limit
	handed  handedRuns

	deaths chan struct{} // one is sent when the command of a run is dead; capacity 1

	mu      sync.Mutex // guards those below, which the supervisor's and the loop's goroutines share
	places  []place    // one for each run that can go on at the same time
	left    []place    // to the next process
	outlets []*outlet
}

// targets are where the output of a run goes.
type targets struct {
	stdout process.Output
	stderr process.Output
	file   string // for both, in their place
}

// hooks is what the runner asks and tells its supervisor, from the goroutine of a run.
type hooks struct {
	failed  func(pid int, output *keep.Keeper) // shows the output of a run that failed; nil when that is not asked for
	trouble func(error)
	fence   func() uint64
	started func(run job.Run, p *process.Process, adopted bool)
	escaped func(run job.Run, pid int, name string, killed bool)
}

// handedRuns are the runs of the old process that wait to be adopted.
type handedRuns struct {
	runs  []ActiveRun
	files map[string]*os.File
}

// place is where one run goes on; without a cancel it is free, and without a process the run is being started.
type place struct {
	run     job.Run
	process *process.Process
	ctx     context.Context // of the run
	cancel  context.CancelCauseFunc
	forced  *atomic.Bool // it is stopped for the lease, or a fault, whatever it was stopped for before
	dead    bool         // the command and its group have ended; its output may still wait for the log
	keeper  *keep.Keeper // of its output until it is known whether it failed; nil when that is not asked for
	limit   *limit       // nil without a timeout
}

// What is kept of a run's output until it is known whether it failed.
const (
	keptHead = 64 << 10
	keptTail = 192 << 10
)

func (r *runner) Run(ctx context.Context, run job.Run) job.Result {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	at := place{run: run, ctx: ctx, cancel: cancel, forced: new(atomic.Bool)}
	if r.hooks.failed != nil {
		at.keeper = keep.New(keptHead, keptTail)
	}
	began := time.Now()
	left := r.begin(&at)
	defer r.hold(place{run: job.Run{Place: run.Place}})
	defer at.limit.stop()
	var p *process.Process
	var err error
	adopted := left != nil
	if adopted {
		if p, err = r.adopt(at, left); err == nil {
			began = p.Started()
		}
	} else {
		p, err = r.start(ctx, at)
	}
	if err != nil {
		return job.Result{Started: began, Ended: time.Now(), Outcome: job.Unstarted, Err: err, Cause: context.Cause(ctx)}
	}
	at.process = p
	p.OnDeath(func() { r.died(at) })
	waited := false
	defer func() {
		if !waited { // a fault of ours: nobody else would stop it, and its heartbeat is about to be let go
			p.Stop(0)
			p.Wait()
		}
	}()
	r.hold(at)
	if r.settled() {
		r.notices.Listen()
	}
	r.hooks.started(run, p, adopted)
	fault.At("run")
	release := context.AfterFunc(ctx, func() {
		if p.StopPlan().Asked.IsZero() { // else the old process has begun to stop it
			p.Stop(r.grace(context.Cause(ctx)), r.spec.StopSignals...)
		}
	})
	waited = true
	result := p.Wait()
	if !release() {
		result.Cause = causeOf(ctx, p.StopPlan().Asked, result.Ended)
	}
	r.show(at, result)
	return result
}

// died notes that the command of a run is dead.
func (r *runner) died(at place) {
	at.dead = true
	r.hold(at)
	r.tell()
}

// tell has the supervisor look whether a command is alive.
func (r *runner) tell() {
	select {
	case r.deaths <- struct{}{}:
	default: // it has not looked yet
	}
}

// dead is how many runs are under way whose command is dead.
func (r *runner) dead() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.places {
		if at.dead {
			n++
		}
	}
	return n
}

// starting says that the command of a run is not started yet.
func (r *runner) starting(number uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.places, func(at place) bool {
		return at.run.Number == number && at.cancel != nil && at.process == nil
	})
}

// causeOf returns why a run was stopped. A timeout or an overlap that came after the end of the command itself,
// while others of its group or escaped processes were waited for, did not cut it short. A request or a lease
// counts all the same: it has ended those. asked is zero if the end came before the stop.
func causeOf(ctx context.Context, asked, ended time.Time) error {
	cause := context.Cause(ctx)
	if (asked.IsZero() || asked.After(ended)) && (errors.Is(cause, job.ErrTimeout) || errors.Is(cause, job.ErrOverrun)) {
		return nil
	}
	return cause
}

// show lets the output of a run be seen that failed, where it is kept for that.
func (r *runner) show(at place, result job.Result) {
	if at.keeper == nil || result.PID == 0 || r.spec.Judge(result) == job.Success { // without a PID it was left to the next image
		return
	}
	r.hooks.failed(result.PID, at.keeper)
}

func (r *runner) start(ctx context.Context, at place) (*process.Process, error) {
	fault.At("start")
	run := at.run
	c := process.Command{Argv: r.spec.Command, Dir: r.spec.Dir, Env: r.environment(run), World: r.world, Cgroup: r.cgroup,
		Stdout: r.outputs.stdout, Stderr: r.outputs.stderr, Strays: r.strays(run)}
	if at.keeper != nil {
		kept := process.Output{Open: func(int) io.WriteCloser { return at.keeper.Writer() }}
		c.Stdout, c.Stderr = kept, process.Output{Same: true}
	}
	switch r.spec.Stdin {
	case job.StdinNull, "":
	case job.StdinInherit:
		c.Stdin = os.Stdin
	default:
		f, err := openInput(r.spec.Stdin)
		if err != nil {
			return nil, job.OfWorld(err)
		}
		defer f.Close()
		if err := asCommandsExpect(f); err != nil {
			return nil, err
		}
		c.Stdin = f
	}
	if r.outputs.file != "" {
		f, err := openOutput(r.outputs.file, r.world)
		if err != nil {
			return nil, job.OfWorld(err)
		}
		defer f.Close() // the command has its own by then
		if err := asCommandsExpect(f); err != nil {
			return nil, err
		}
		c.Stdout.File, c.Stderr.File = f, f
	}
	return r.spawner.Start(ctx, c)
}

// grace is how long a run that is ended for that cause has from one stop signal to the next, and to KILL.
func (r *runner) grace(cause error) time.Duration {
	if lease, ok := cause.(*leaseError); ok { // what it leaves is for all signals together
		return min(lease.grace/time.Duration(max(len(r.spec.StopSignals), 1)), r.spec.Grace)
	}
	return r.spec.Grace
}

func (r *runner) hold(at place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.places[at.run.Place] = at
}

// Interrupt ends the runs that are going on, if any, and no other. One that is being ended already keeps its
// cause and gets the shorter grace.
func (r *runner) Interrupt(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.places {
		if at.cancel != nil {
			at.cancel(cause)
			if errors.As(cause, new(*leaseError)) {
				at.forced.Store(true)
			}
		}
		if at.process != nil {
			at.process.Stop(r.grace(cause), r.spec.StopSignals...)
		}
	}
}

// Kill sends KILL to the runs that are going on, if any.
func (r *runner) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.places {
		if at.process != nil {
			at.process.Stop(0)
		}
	}
}

// runID names a run of this daemon among all processes of the host, and marks its descendants.
const runID = process.RunID

// notifyVariable tells a command where to send messages in the protocol of sd_notify(3).
const notifyVariable = "NOTIFY_SOCKET="

// strays is what becomes of the descendants of a run that left its group.
func (r *runner) strays(run job.Run) *process.Strays {
	if r.spec.Strays == job.StraysIgnore {
		return nil
	}
	return &process.Strays{Mark: runID + "=" + r.id(run), Kill: r.spec.Strays == job.StraysKill, Grace: r.spec.Grace,
		Report: func(pid int, name string, killed bool) { r.hooks.escaped(run, pid, name, killed) }}
}

func (r *runner) id(run job.Run) string { return *r.mark.Load() + strconv.FormatUint(run.Number, 10) }

// environment is that of one run: GOPHD_DUE is RFC 3339 with nanoseconds.
func (r *runner) environment(run job.Run) []string {
	env := append(slices.Clip(r.env),
		"GOPHD_PLACE="+strconv.Itoa(run.Place),
		"GOPHD_RUN="+strconv.FormatUint(run.Number, 10),
		runID+"="+r.id(run),
		"GOPHD_DUE="+run.Due.Format(time.RFC3339Nano),
		"GOPHD_FENCE="+strconv.FormatUint(r.hooks.fence(), 10))
	if r.notices != nil && !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, notifyVariable) }) {
		env = append(env, notifyVariable+r.notices.Address()) // but where the job's own environment says another
	}
	return env
}

// commandEnvironment is the environment of every run: gophd's own, less what was meant for gophd (its
// settings, the service manager's sockets), its user's, the job's own with the config's sections, and the job's
// name.
func commandEnvironment(own []string, user *world.User, spec job.Spec) []string {
	if spec.ClearEnv {
		own = nil
	}
	if user != nil {
		for _, e := range user.Env() {
			name, _, _ := strings.Cut(e, "=")
			if !slices.ContainsFunc(spec.Env, func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
				spec.Env = append(slices.Clip(spec.Env), e)
			}
		}
	}
	added := append(slices.Clone(spec.Env), "GOPHD_NAME="+spec.Name, "GOPHD_SLOT=0")
	not := map[string]bool{config.RunVariable: true, "GOPHD_RUN": true, runID: true, "GOPHD_PLACE": true, "GOPHD_DUE": true, "GOPHD_FENCE": true,
		"NOTIFY_SOCKET": true, "XDG_RUNTIME_DIR": user != nil, "WATCHDOG_USEC": true, "WATCHDOG_PID": true,
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

// targets are where the command's two streams go, but for a file of its own: that is opened for each run,
// so that it may be moved away between two of them.
func outputs(spec job.Spec, log capture, null *os.File) (stdout, stderr process.Output, file string) {
	switch spec.Output {
	case job.OutputLog:
		return process.Output{Open: log.Capture("stdout")}, process.Output{Open: log.Capture("stderr")}, ""
	case job.OutputInherit:
		return process.Output{File: os.Stdout}, process.Output{File: os.Stderr}, ""
	case job.OutputDiscard, job.OutputOnFailure:
		return process.Output{File: null}, process.Output{File: null}, ""
	}
	return process.Output{}, process.Output{}, string(spec.Output)
}
