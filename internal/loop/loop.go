package loop

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/schedule"
)

// Runner runs the command once.
type Runner interface {
	// Run blocks until the run is over and none of its processes is left, and returns its result. A
	// start that failed is a Result too. When ctx ends, Run stops the command and returns in
	// bounded time, with context.Cause(ctx) as the Result's Cause. The loop fills in Run and Due of
	// the Result. The loop has at most Spec.MaxParallel active Runs, each in a Slot of its own.
	Run(ctx context.Context, run job.Run) job.Result
}

// Recorder receives the reports of the loop.
type Recorder interface {
	// Record is called in sequence, by one goroutine at a time, and must not block. It must not call
	// the Loop: its methods wait for Record.
	Record(Report)
}

// Gate decides whether a run may start now.
type Gate interface {
	// Shut returns nil if a run may start. Otherwise it returns a channel that is closed when it is
	// worth asking again. With a calendar, last is the last due time that is over then. It must not
	// block, nor call the Loop. It is called by one goroutine at a time.
	Shut(last time.Time) <-chan struct{}
}

// Timer expires once, as exactly as its implementation can.
type Timer interface {
	// Set makes the timer expire d from now, at once if d is not positive, and replaces the earlier
	// setting.
	Set(d time.Duration)
	// Stop cancels the timer.
	Stop()
}

// Report is one thing that the loop did. Kind says what it is. The comments of the other fields say
// for which kinds they are set. "To running" means the kind StateChanged with the State
// job.Running.
type Report struct {
	Kind   Kind
	At     time.Time
	State  job.State     // after what is reported
	Run    job.Run       // Late, Counted, and to running; to waiting: the retry, if its Attempt is not 0
	Length time.Duration // Late: how long the run has been active
	Period time.Duration // Late: the time between two ticks
	Next   time.Time     // StateChanged: the next tick, zero when there is none
	Slowed time.Duration // to waiting: the back-off or the retry delay; 0 if the wait is for a tick
	// Late and Counted: the ticks that the run has cost so far. To running: the ticks that were due
	// before this run and that no run serves. Dropped: the ticks that no run serves. Skipped: the
	// ticks that no run serves.
	Missed uint64
	Tick   job.Tick // Ended
	End    End      // to draining or done: why the loop has ended by itself
	// Paused says why, if Skipped: the job is paused, or one of the ticks of Skip is used up.
	Paused bool
	Why    job.Missed // Dropped
	// HandedOff is set, to done, if the loop of the next process continues from here.
	HandedOff bool
	Grid      Grid // where the loop stands: the loop of the next process continues from it
}

// Kind is what a Report is about.
type Kind uint8

// The kinds of Report.
const (
	StateChanged Kind = iota + 1 // to State; or a run started beside others, still running
	Late                         // the run has taken 90 % of the interval, or a tick was due
	Ended                        // a run has ended
	Counted                      // CountMissed was called
	Dropped                      // ticks that are over, or that nobody makes up for: see Why
	Skipped                      // a run that was due does not start: see Paused
)

// End is why a loop ends by itself.
type End uint8

// The reasons to end by itself, other than that the only run of a once job is over.
const (
	Fatal  End = iota + 1 // a run ended with a code that is fatal
	GaveUp                // as many runs failed as Spec.StartLimit allows
)

// Grid is where a loop stands in time. The loop of the next process continues from it.
type Grid struct {
	Runs uint64 // number of the last run

	// Of an interval. The config of the next process may have another.
	Anchor   time.Time // tick 0, with its monotonic reading
	Tick     uint64    // the next tick is due at Anchor + Tick × Interval
	Interval time.Duration

	// Of a calendar. The config of the next process may have another.
	Calendar *schedule.Schedule // nil for an interval
	Last     time.Time          // the next tick is that of the first due time after this one

	ahead time.Duration // of the wall clock, when Last was compared with it
	each  bool          // each due time is served, one after the other: at most one is passed at a time
	splay time.Duration // from each due time to its tick
	// jitter is how much later the next tick is, up to maxJitter. It is drawn when the last one was passed.
	jitter, maxJitter time.Duration

	// Set by HandOff only.
	ActiveRuns []ActiveRun    // the active runs, which the next process adopts
	Requested  []*job.Request // while no slot was free: their runs are due when one has ended
	Wait       *Delay         // nil when the grid determines the next start
	Failures   []time.Time    // starts of the runs that failed in a row, within Spec.StartLimitInterval
}

// ActiveRun is a run that stays active over a re-exec.
type ActiveRun struct {
	Run     job.Run
	Started time.Time // with its monotonic reading
	Missed  uint64    // ticks that it has cost so far, if runs overlap; otherwise the grid tells
	Late    Lateness
}

// Lateness says when it is reported next that a run is late.
type Lateness struct {
	At  time.Time     // zero is never
	Gap time.Duration // from then to the report after it
}

// Delay is a start that is not on the grid. It is one of these:
//   - a retry, if the Attempt of its Run is not 0
//   - a start that the gate held, if the Due of its Run is not zero: a requested run, or a tick
//     that was counted as missed already
//   - the end of a back-off, if both are zero
type Delay struct {
	Run    job.Run   // without a number yet
	Until  time.Time // with its monotonic reading
	Slowed time.Duration
}

// Options configure a Loop. All fields but Grid, Booted and Since are required.
type Options struct {
	Spec     *job.Spec
	Runner   Runner
	Recorder Recorder
	Gate     Gate
	// Timer returns a timer that is not set. When it expires, it locks mu, calls f, and unlocks mu. Set
	// and Stop are called while mu is locked. After they have returned, f is called for the new setting
	// only. f does not block.
	Timer func(mu sync.Locker, f func()) Timer
	Grid  *Grid // of the old process; nil starts a new grid when Start is called
	// Booted makes a job that is due at each boot due when Start is called.
	Booted bool
	// Since is after which the due times of a calendar count that are over when Start is called, because
	// gophd did not run when they were due. It does not apply with a Grid; zero for none.
	Since time.Time

	Paused bool // see Pause
	Skip   int  // see Skip
}

// Loop serves the ticks of one job. It has a goroutine for each active run, and one while a tick is
// held at the gate, but none of its own: whatever happens is handled by the goroutine in which it
// happens. So the goroutine of a run that has ended continues the loop, and runs the next one
// itself. If another goroutine did that, it would have to be woken, on a thread of its own, between
// any two runs. Back to back, that cost a tenth of a short run.
type Loop struct {
	Options
	maxParallel int // runs at a time
	timer       Timer
	goroutines  goroutine.Group
	done        chan struct{} // see Done

	mu    sync.Mutex // guards the fields below; never held during a run
	state job.State  // 0 before Start
	life
	plan
	runs
	failed []time.Time // first attempts of the runs that failed in a row, within Spec.StartLimitInterval
	end    End
}

// New returns a Loop. Start starts it.
func New(o Options) *Loop {
	l := &Loop{Options: o, maxParallel: 1, done: make(chan struct{}),
		plan: plan{slow: &backoff.ExponentialBackOff{InitialInterval: job.BackoffMin, Multiplier: job.BackoffGrow,
			MaxInterval: job.BackoffMax, RandomizationFactor: job.BackoffJitter}}}
	l.paused, l.skip = o.Paused, o.Skip
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.timer = o.Timer(&l.mu, func() { l.handle(l.timerExpired) })
	if l.Spec.Overlap == job.OverlapAllow && (l.interval() > 0 || l.Spec.Calendar != nil) {
		l.maxParallel = max(l.Spec.MaxParallel, 1)
	}
	n := l.maxParallel
	if l.Grid != nil {
		for _, g := range l.Grid.ActiveRuns { // the old process may have allowed more
			n = max(n, g.Run.Slot+1)
		}
	}
	l.slots = make([]slot, n)
	return l
}

// Start starts to serve ticks, until Stop, Cancel or HandOff is called, the only run of a once job
// is over, a run ends with a fatal code, or too many runs fail. It does not block. Call it once.
func (l *Loop) Start() { l.serve(l.start) }

// Stop requests the loop to end. An active run may finish. No run starts after it has returned. It
// does not block, and may be called from any goroutine, before Start too.
func (l *Loop) Stop() { l.serve(l.stop) }

// Cancel is Stop, and stops the active runs: their context ends with that cause. It does not block,
// and may be called from any goroutine.
func (l *Loop) Cancel(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel(cause)
	if l.panicked == nil {
		l.handle(l.stop)
	}
}

// RunNow requests a run now. During a run the request is remembered once, and the grid does not
// move. It does not block, and may be called from any goroutine after Start.
func (l *Loop) RunNow() { l.serve(l.runNow) }

// Request requests a run now, by the overlap policy of the job. It returns the request that the run
// will have: another one if that waits already and is the same. An error says why no run follows. It
// does not block, and may be called from any goroutine after Start.
func (l *Loop) Request(r *job.Request) (as *job.Request, err error) {
	err = ErrEnds
	l.serve(func() { as, err = l.request(r) })
	return as, err
}

// Pause lets no run start by itself, until it is called with false. A tick that is due meanwhile is
// skipped. A job without ticks, back to back or a service, starts its next run then. It may be called
// from any goroutine.
func (l *Loop) Pause(paused bool) { l.serve(func() { l.pause(paused) }) }

// Withdraw drops the requests that wait for a slot or for the gate, and returns them. It may be called from
// any goroutine.
func (l *Loop) Withdraw() (dropped []*job.Request) {
	l.serve(func() { dropped = l.withdraw() })
	return dropped
}

// Skip skips the next n ticks. It replaces the earlier number. It may be called from any goroutine.
func (l *Loop) Skip(n int) { l.serve(func() { l.skip = n }) }

// Served says that another instance has served the due times of a calendar up to last. What is held for one
// of them is dropped. It may be called from any goroutine after Start.
func (l *Loop) Served(last time.Time) { l.serve(func() { l.served(last) }) }

// ErrEnds means that a loop has ended or is about to.
var ErrEnds = errors.New("the loop has ended")

// HandOff ends the loop so that the loop of the next process can continue from the Grid of the last
// Report. The active runs stay active: detach is called once to detach all of them, while none can
// start or end. It detaches all or none: if it returns an error, HandOff returns that error and
// nothing has changed. It is called without active runs too, and may call HandOff of another Loop, so
// that all or none are handed off. After that the Runner's Runs may return at any time, with any
// Result, or never. HandOff returns ErrEnds if the loop has ended or was not started. It blocks until
// detach has returned, and the timers wait meanwhile. It may be called from any goroutine.
func (l *Loop) HandOff(detach func() error) error {
	err := ErrEnds
	l.serve(func() { err = l.handOff(detach) })
	return err
}

// CountMissed makes the loop report the ticks that each active run has cost so far, as Late does
// from time to time and Ended in the end. It returns when that is reported, and may be called from
// any goroutine. After the end of the loop it does nothing.
func (l *Loop) CountMissed() { l.serve(l.countMissed) }

// Done returns a channel that is closed when the loop has ended and no run is active, except those
// that were handed off. The last Report contains the Grid to continue from, and the End.
func (l *Loop) Done() <-chan struct{} { return l.done }

// Wait blocks until Done is closed. If the Runner, the Recorder or the Gate has panicked, the loop
// has stopped the active runs and ended, and Wait panics with the first such *goroutine.Panic.
func (l *Loop) Wait() {
	<-l.done
	l.mu.Lock()
	handedOff, panicked := l.handedOff, l.panicked
	l.mu.Unlock()
	if !handedOff {
		l.goroutines.Wait()
	}
	if panicked != nil {
		panic(panicked)
	}
}
