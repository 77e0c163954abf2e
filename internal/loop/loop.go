package loop

import (
	"context"
	"errors"
	"sync"
	"time"

	"gophd/internal/job"
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
	// Record is called in sequence, by one goroutine at a time, and must not block.
	Record(Report)
}

// Gate decides whether a run may start now.
type Gate interface {
	// Shut returns nil if a run may start. Otherwise it returns a channel that is closed when it is
	// worth asking again. It must not block. It is called by one goroutine at a time.
	Shut() <-chan struct{}
}

// Timer fires once, as exactly as its implementation can.
type Timer interface {
	// Set makes the timer fire d from now, at once if d is not positive, and replaces the earlier
	// setting. It is used by one goroutine at a time.
	Set(d time.Duration)
	// C delivers when the timer fires.
	C() <-chan struct{}
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
	Next   time.Time     // StateChanged: the next tick, zero when there is none
	Slowed time.Duration // to waiting: the back-off or the retry delay; 0 if the wait is for a tick
	// Late and Counted: the ticks that the run has cost so far. To running: the ticks that were due
	// before this run and that no run serves.
	Missed uint64
	Tick   job.Tick // Ended
	End    End      // to draining or done: why the loop has ended by itself
	Grid   Grid     // where the loop stands: the loop of the next process continues from it
}

// Kind is what a Report is about.
type Kind uint8

// The kinds of Report.
const (
	StateChanged Kind = iota + 1 // to State; or a run started beside others, still running
	Late                         // the run has taken 90 % of the interval, or a tick was due
	Ended                        // a run has ended
	Counted                      // CountMissed was called
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
	Anchor   time.Time     // tick 0, with its monotonic reading
	Tick     uint64        // the next tick is due at Anchor + Tick × Interval
	Interval time.Duration // of this grid; the config of the next process may have another
	Runs     uint64        // number of the last run

	// Set by HandOff only.
	ActiveRuns   []ActiveRun // the active runs, which the next process adopts
	RunRequested bool        // by RunNow while no slot was free: a run is due when one has ended
	Wait         *Delay      // nil when the grid determines the next start
}

// ActiveRun is a run that stays active over a re-exec.
type ActiveRun struct {
	Run     job.Run
	Started time.Time // with its monotonic reading
	Missed  uint64    // ticks that it has cost so far, if runs overlap; otherwise the grid tells
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

// Due is the moment of the next tick.
func (g Grid) Due() time.Time { return g.Anchor.Add(time.Duration(g.Tick) * g.Interval) }

// passed returns how many ticks, from the next one on, are due at now.
func (g Grid) passed(now time.Time) uint64 {
	due := g.Due()
	if g.Interval == 0 || due.After(now) {
		return 0
	}
	return uint64(now.Sub(due)/g.Interval) + 1
}

// Options configure a Loop. All fields but Grid are required.
type Options struct {
	Spec     job.Spec
	Runner   Runner
	Recorder Recorder
	Gate     Gate
	Alarm    Timer
	Grid     *Grid // of the old process; nil starts a new grid when Run is called
}

// Loop serves the ticks of one job.
type Loop struct {
	Options
	stopOnce sync.Once
	stop     chan struct{}
	wake     chan struct{}
	calls    chan func(*scheduler)
	done     chan struct{} // closed when Run serves nothing more
}

// New returns a Loop. Run serves it.
func New(o Options) *Loop {
	return &Loop{Options: o, stop: make(chan struct{}), wake: make(chan struct{}, 1),
		calls: make(chan func(*scheduler)), done: make(chan struct{})}
}

// Stop requests the loop to end. An active run may finish. It never blocks and may be called from
// any goroutine.
func (l *Loop) Stop() { l.stopOnce.Do(func() { close(l.stop) }) }

// RunNow requests a run now. During a run the request is remembered once, and the grid does not
// move. It never blocks and may be called from any goroutine.
func (l *Loop) RunNow() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// ErrEnds means that a loop has ended or is about to.
var ErrEnds = errors.New("the loop has ended")

// HandOff ends the loop so that the loop of the next process can continue from the Grid of the last
// Report. The active runs stay active: detach is called once to detach all of them, while none can
// start or end. It detaches all or none: if it returns an error, HandOff returns that error and
// nothing has changed. After that the Runner's Runs may return at any time, with any Result, or
// never. HandOff returns ErrEnds if there is nothing to hand off. It blocks until detach has
// returned, and may be called from any goroutine except the loop's.
func (l *Loop) HandOff(detach func() error) error {
	err := ErrEnds
	l.call(func(s *scheduler) { err = s.handOff(detach) })
	return err
}

// CountMissed makes the loop report the ticks that each active run has cost so far, as Late does
// from time to time and Ended in the end. It blocks until that is reported, and may be called from
// any goroutine except the loop's. After the end of the loop it does nothing.
func (l *Loop) CountMissed() { l.call((*scheduler).countMissed) }

// call makes the goroutine of Run call f, and returns when f has. If Run has ended it does nothing.
func (l *Loop) call(f func(*scheduler)) {
	returned := make(chan struct{})
	select {
	case l.calls <- func(s *scheduler) { defer close(returned); f(s) }:
		<-returned
	case <-l.done:
	}
}

// Run serves ticks until Stop or HandOff is called, the only run of a once job is over, a run ends
// with a fatal code, too many runs fail, or ctx ends, which stops the runs with ctx's cause. It
// returns when no run is active, except those that were handed off. The last Report contains the
// Grid to continue from, and the End.
func (l *Loop) Run(ctx context.Context) {
	s := newScheduler(ctx, l)
	defer s.close()
	defer close(l.done) // first, because close may wait for runs
	s.serve(s.start)
	stopping, canceled := l.stop, ctx.Done()
	for {
		opened, done := s.view()
		if done {
			return
		}
		select {
		case <-l.Alarm.C():
			s.serve(s.timerFired)
		case <-opened:
			s.serve(s.open)
		case <-stopping:
			stopping = nil
			s.serve(s.stop)
		case <-l.wake:
			s.serve(s.wake)
		case <-canceled:
			canceled = nil
			s.serve(s.stop)
		case f := <-l.calls:
			s.serve(func() { f(s) })
		case <-s.changed:
		case <-s.panicked:
			return
		}
	}
}
