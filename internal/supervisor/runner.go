package supervisor

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gophd/internal/credentials"
	"gophd/internal/fault"
	"gophd/internal/headtail"
	"gophd/internal/job"
	"gophd/internal/line"
	"gophd/internal/process"
	"gophd/internal/safefile"
)

// ErrFault is why runs are stopped when gophd itself has failed.
var ErrFault error = &job.UrgentError{Why: "gophd failed"}

// runner is the loop's Runner. It starts a process for each run, and stops the active runs for the
// supervisor.
type runner struct {
	spec        *job.Spec
	ofJob       string // names the job after a run in messages; "" for the only one
	spawner     *process.Spawner
	credentials *credentials.Credentials
	cgroup      *process.Cgroup
	env         func() []string // of every run
	// mark is the start of GOPHD_RUN_ID, which marks all descendants of this daemon's runs, across
	// re-execs.
	mark    atomic.Pointer[string]
	added   string // follows the mark if a reload has added the job: its runs are counted from 1 again
	outputs targets
	// keepsTail adds the end of the output to the Result of a failed run.
	keepsTail bool
	mailer    *Mailer // for job.mail_to; nil if the output is not mailed
	hooks     hooks
	notices   *notices // where runs request more time; nil if they have no timeout
	handed    handedRuns
	looks     suspendedLooks

	mu        sync.Mutex // guards the fields below, which the goroutines of the supervisor and of the runs share
	slots     []slot     // one for each run that may be active at the same time
	handedOff []slot     // runs for the next process
	outlets   []*outlet
	sharedEnv []string // the result of env, from the start of a run until the job waits
}

// targets are where the output of a run goes.
type targets struct {
	stdout process.Output
	stderr process.Output
	file   string // for both streams instead of those; "" for none
}

// hooks are the runner's calls to its supervisor. They are called from the goroutine of a run.
type hooks struct {
	// failed shows the output of a run that failed; nil if that output is not kept.
	failed  func(pid int, output *headtail.Buffer)
	problem func(error)
	died    func() // a command is dead
	fence   func() uint64
	explain func(error) error // names the settings of the job
	starts  func()            // a run is about to start
	started func(run job.Run, p *process.Process, adopted bool)
	escaped func(run job.Run, p process.EscapedProcess)
	// suspended says that the process p of the run is suspended, or no longer. pid is the command.
	suspended func(run job.Run, pid int, p process.Suspended, is bool)
}

// handedRuns are the runs of the old process that are not adopted yet.
type handedRuns struct {
	runs  []ActiveRun
	files map[string]*os.File
}

// slot holds one active run. A slot without a cancel is free; a run without a process is being
// started, or adopted.
type slot struct {
	run     job.Run
	adopted bool // the old process has started it
	process *process.Process
	ctx     context.Context // of the run
	cancel  context.CancelCauseFunc
	forced  *atomic.Bool     // it is being stopped for the lease or a fault, whatever stopped it before
	timeout time.Duration    // job.timeout when it was started; 0 for none
	dead    bool             // the command and its group have ended; its output may still wait for the log
	buffer  *headtail.Buffer // its output until the result is known; nil if it is not kept
	tail    *headtail.Buffer // the end of its output; nil if it is not kept, or in buffer
	limit   *limit           // nil without a timeout

	suspended *suspension
}

// Limits of the output that is kept until the result of a run is known.
const (
	keptHead = 64 << 10
	keptTail = 192 << 10
)

func (r *runner) Run(ctx context.Context, run job.Run) job.Result {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	at := slot{run: run, ctx: ctx, cancel: cancel, forced: new(atomic.Bool), suspended: new(suspension)}
	if r.hooks.failed != nil {
		at.buffer = headtail.New(keptHead, keptTail)
	}
	at.tail = r.newTail(at)
	started := time.Now()
	handed := r.assignSlot(&at)
	defer r.setSlot(slot{run: job.Run{Slot: run.Slot}})
	defer at.limit.stop()
	var p *process.Process
	var err error
	adopted := handed != nil
	if adopted {
		if p, err = r.adopt(at, handed); err == nil {
			started = p.Started()
		}
	} else {
		r.hooks.starts()
		p, err = r.start(ctx, at)
	}
	if err != nil {
		return job.Result{Started: started, Ended: time.Now(), Outcome: job.Unstarted, Err: r.hooks.explain(err),
			Cause: context.Cause(ctx)}
	}
	at.process = p
	p.OnDeath(func() { r.died(at) })
	waited := false
	defer func() {
		if !waited { // a fault of gophd: nothing else would stop it, and its lease is about to be released
			p.Stop(0)
			p.Wait()
		}
	}()
	r.setSlot(at)
	if s := r.notices.current(); s != nil && r.settled() {
		s.Listen()
	}
	r.hooks.started(run, p, adopted)
	r.planLook(at, adopted)
	fault.At("run")
	release := context.AfterFunc(ctx, func() {
		if p.StopPlan().Asked.IsZero() { // otherwise the old process has started to stop it
			p.Stop(r.grace(context.Cause(ctx)), r.spec.StopSignals...)
		}
	})
	waited = true
	result := p.Wait()
	if !release() {
		result.Cause = causeOf(ctx, p.StopPlan().Asked, result.Ended)
	}
	r.show(at, result)
	r.mail(at, result)
	result.Output = r.lastOutput(at, result)
	return result
}

// died records that the command of a run is dead.
func (r *runner) died(at slot) {
	at.dead = true
	r.setSlot(at)
	r.hooks.died()
}

// dead returns how many active runs have a dead command.
func (r *runner) dead() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.slots {
		if at.dead {
			n++
		}
	}
	return n
}

// starting returns true while the command of a run is not started yet.
func (r *runner) starting(number uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.slots, func(at slot) bool {
		return at.run.Number == number && at.cancel != nil && at.process == nil && !at.adopted
	})
}

// causeOf returns why a run was stopped. asked is when the stop was requested, and is zero if the
// run ended before that. ended is when the command exited. A timeout or an overlap that came after
// ended is not the cause: it stopped only the rest of the group, or escaped processes. A request or
// a lost lease always is the cause.
func causeOf(ctx context.Context, asked, ended time.Time) error {
	cause := context.Cause(ctx)
	if (asked.IsZero() || asked.After(ended)) &&
		(errors.Is(cause, job.ErrTimeout) || errors.Is(cause, job.ErrReplaced)) {
		return nil
	}
	return cause
}

// show shows the output of a run that failed, if it was kept.
func (r *runner) show(at slot, result job.Result) {
	if at.buffer == nil || result.PID == 0 || r.spec.Judge(result) == job.Success { // PID 0: it was handed off
		return
	}
	r.hooks.failed(result.PID, at.buffer)
}

// unfinished returns the unfinished lines in the output that is kept until the result is known. A
// buffer does not know which of the two streams they come from.
func (r *runner) unfinished() (all []line.Unfinished) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.slots {
		if at.buffer == nil || at.process == nil {
			continue
		}
		for _, part := range at.buffer.Unfinished() {
			all = append(all, line.Unfinished{PID: at.process.PID(), Part: part})
		}
	}
	return all
}

func (r *runner) start(ctx context.Context, at slot) (*process.Process, error) {
	fault.At("start")
	run := at.run
	if r.notices != nil {
		if err := r.notices.open(); err != nil {
			return nil, err
		}
	}
	c := process.Command{Argv: argv(r.spec.Command, run.Request), Dir: r.spec.Dir, Env: r.environment(run),
		Job: r.spec.Name, Credentials: r.credentials, Cgroup: r.cgroup,
		Stdout: teed(r.outputs.stdout, at.tail), Stderr: teed(r.outputs.stderr, at.tail), Escapes: r.escapeRules(run)}
	if at.buffer != nil {
		kept := process.Output{Open: func(int) io.WriteCloser { return at.buffer.Writer() }}
		c.Stdout, c.Stderr = kept, process.Output{Same: true}
	}
	switch in := r.spec.Stdin; {
	case r.spec.StdinText != "":
		f, err := process.TextFile(r.spec.StdinText)
		if err != nil {
			return nil, job.SetupError(err)
		}
		defer f.Close()
		c.Stdin = f
	case in == job.StdinNull, in == "":
	case in == job.StdinInherit:
		c.Stdin = os.Stdin
	default:
		f, err := openInput(r.spec.Stdin, r.credentials)
		if err != nil {
			return nil, job.SetupError(err)
		}
		defer f.Close()
		if err := setBlocking(f); err != nil {
			return nil, err
		}
		c.Stdin = f
	}
	if r.outputs.file != "" {
		f, err := openOutput(r.outputs.file, r.credentials, r.hooks.problem)
		if err != nil {
			return nil, job.SetupError(err)
		}
		defer f.Close() // the command has its own by then
		if err := setBlocking(f); err != nil {
			return nil, err
		}
		c.Stdout.File, c.Stderr.File = f, f
	}
	return r.spawner.Start(ctx, c)
}

// argv returns the command with the arguments of the request. A line for the shell gets them as $1 and
// so on (sh(1): the first after the line is $0).
func argv(command []string, r *job.Request) []string {
	if r == nil || len(r.Args) == 0 {
		return command
	}
	if len(command) == 3 && filepath.Base(command[0]) == "sh" && command[1] == "-c" {
		command = append(slices.Clip(command), command[0])
	}
	return append(slices.Clip(command), r.Args...)
}

// active returns the runs whose command is active.
func (r *runner) active() (all []job.Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.slots {
		if at.cancel != nil {
			all = append(all, at.run)
		}
	}
	return all
}

// signalAll sends a signal to the process group of each active run, and returns how many there are.
func (r *runner) signalAll(sig syscall.Signal) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.slots {
		if at.process != nil && !at.dead {
			at.process.Signal(sig)
			n++
		}
	}
	return n
}

// grace returns how long a run that is stopped for that cause has from one stop signal to the next,
// and to KILL.
func (r *runner) grace(cause error) time.Duration {
	if urgent, ok := cause.(*job.UrgentError); ok { // its time is for all signals together
		return min(urgent.Grace/time.Duration(max(len(r.spec.StopSignals), 1)), r.spec.Grace)
	}
	return r.spec.Grace
}

func (r *runner) setSlot(at slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots[at.run.Slot] = at
}

// Interrupt stops the runs that are active now, and no later ones. A run that is already being
// stopped keeps its cause and gets the shorter grace.
func (r *runner) Interrupt(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.slots {
		if at.cancel != nil {
			at.cancel(cause)
			if errors.As(cause, new(*job.UrgentError)) {
				at.forced.Store(true)
			}
		}
		if at.process != nil {
			at.process.Stop(r.grace(cause), r.spec.StopSignals...)
		}
	}
}

// Kill sends KILL to the active runs.
func (r *runner) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.slots {
		if at.process != nil {
			at.process.Stop(0)
		}
	}
}

// runID names the variable that identifies a run among all processes of the host, and marks its
// descendants.
const runID = process.RunID

// notifyVariable tells a command where to send sd_notify(3) messages.
const notifyVariable = "NOTIFY_SOCKET="

// escapeRules returns what to do with descendants of a run that leave its group.
func (r *runner) escapeRules(run job.Run) *process.EscapeRules {
	if r.spec.Escaped == job.EscapedIgnore {
		return nil
	}
	return &process.EscapeRules{Mark: runID + "=" + r.id(run), Kill: r.spec.Escaped == job.EscapedKill,
		Grace:  r.spec.Grace,
		Report: func(p process.EscapedProcess) { r.hooks.escaped(run, p) }}
}

func (r *runner) id(run job.Run) string {
	return *r.mark.Load() + r.added + strconv.FormatUint(run.Number, 10)
}

// shared returns the part of the environment that all runs have.
func (r *runner) shared() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sharedEnv == nil {
		r.sharedEnv = r.env()
	}
	return r.sharedEnv
}

// rest gives back what a job that waits for its next run does not need.
func (r *runner) rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sharedEnv = nil
}

// environment returns the environment of one run. GOPHD_DUE is RFC 3339 with nanoseconds; that of a
// calendar is in UTC, so that it is the same on each host.
func (r *runner) environment(run job.Run) []string {
	due := run.Due
	if r.spec.Calendar != nil {
		due = due.UTC()
	}
	env := append(slices.Clip(r.shared()),
		"GOPHD_SLOT="+strconv.Itoa(run.Slot),
		"GOPHD_RUN="+strconv.FormatUint(run.Number, 10),
		runID+"="+r.id(run),
		"GOPHD_DUE="+due.Format(time.RFC3339Nano),
		"GOPHD_FENCE="+strconv.FormatUint(r.hooks.fence(), 10))
	hasNotify := func(kv string) bool { return strings.HasPrefix(kv, notifyVariable) }
	if s := r.notices.current(); s != nil && !slices.ContainsFunc(env, hasNotify) { // the job's own NOTIFY_SOCKET has priority
		env = append(env, notifyVariable+s.Address())
	}
	return env
}

// capture is the part of the log that receives the command's output.
type capture interface {
	// Capture returns a func that opens a writer for one stream of the command with the given PID.
	Capture(stream string) func(pid int) io.WriteCloser
}

// outputs returns where the command's two streams go. A file of its own is returned as its path: it
// is opened for each run, so that it can be moved away between two runs. Gophd's own stdout or stderr
// is not opened: a socket could not be, nor the terminal of another user.
func outputs(spec job.Spec, log capture, null *os.File) (stdout, stderr process.Output, file string) {
	switch spec.Output {
	case job.OutputLog:
		return process.Output{Open: log.Capture("stdout")}, process.Output{Open: log.Capture("stderr")}, ""
	case job.OutputInherit:
		return process.Output{File: os.Stdout}, process.Output{File: os.Stderr}, ""
	case job.OutputDiscard, job.OutputOnFailure:
		return process.Output{File: null}, process.Output{File: null}, ""
	}
	switch n, ok := safefile.Descriptor(string(spec.Output)); {
	case ok && n == 1:
		return process.Output{File: os.Stdout}, process.Output{File: os.Stdout}, ""
	case ok && n == 2:
		return process.Output{File: os.Stderr}, process.Output{File: os.Stderr}, ""
	}
	return process.Output{}, process.Output{}, string(spec.Output)
}
