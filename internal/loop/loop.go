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
	// Run blocks until the run is over and nothing of it is left, and returns what came of it; a
	// start that failed is a Result too. When ctx ends, Run stops the command and returns in bounded
	// time, with context.Cause(ctx) as the Result's Cause. Run and Due of the Result are the loop's
	// to fill. The loop has at most Spec.MaxParallel Runs under way, each in a Place of its own.
	Run(ctx context.Context, run job.Run) job.Result
}

// Recorder hears what the loop does.
type Recorder interface {
	// Record is called in order, by one goroutine at a time, and must not block.
	Record(Report)
}

// Gate says whether a run may start now.
type Gate interface {
	// Shut returns nil when a run may start. Otherwise it returns a channel that is closed when it
	// is worth asking again. It must not block. It is called by one goroutine at a time.
	Shut() <-chan struct{}
}

// Alarm rings once, as exactly as its maker can.
type Alarm interface {
	// Set makes the alarm ring d from now, at once if d is not positive, and forgets what was set
	// before; it is used by one goroutine at a time.
	Set(d time.Duration)
	// C delivers the ring.
	C() <-chan struct{}
}

// Report is one thing that the loop did.
type Report struct {
	Kind   Kind
	At     time.Time
	State  job.State     // after what is reported
	Run    job.Run       // Late, and Turned to running; Turned to waiting: the try that is waited for, if its Try is not 0
	Length time.Duration // Late: how long the run has been going
	Next   time.Time     // Turned: the next tick, zero when there is none
	Slowed time.Duration // Turned to waiting: the wait is this back-off or delay of a try, and not the grid
	Missed uint64        // Late: ticks that the run has cost so far; Turned to running: that fell due before, and no run serves
	Tick   job.Tick      // Ended
	End    End           // Turned to draining or done: why the loop ends by itself
	Grid   Grid          // where the loop stands: what the next image's loop goes on from
}

// Kind is what a Report is about.
type Kind uint8

// The kinds of Report.
const (
	Turned Kind = iota + 1 // the state changed, or a run began beside others
	Late                   // the run has gone on for 90 % of the interval, or past a tick
	Ended                  // a run has ended
)

// End is why a loop ends by itself.
type End uint8

// The reasons to end, beside that it was asked to, or that the only run of a once job is over.
const (
	Fatal  End = iota + 1 // a run ended with a code that is fatal
	GaveUp                // as many runs failed as Spec.StartLimit says
)

// Grid is where a loop stands in time; the loop of the next image goes on from it.
type Grid struct {
	Anchor   time.Time     // tick 0, with its monotonic reading
	Tick     uint64        // the next tick is due at Anchor + Tick × Interval
	Interval time.Duration // of this grid; a config may have another by the time it is read
	Runs     uint64        // number of the last run

	// What only Leave sets.
	Going []Going // the runs that were left under way
	Woken bool    // a wake came during them, and is still to be served
	Wait  *Wait   // nil when the grid says what is next
}

// Going is a run that was left under way.
type Going struct {
	Run     job.Run
	Started time.Time // with its monotonic reading
	Missed  uint64    // ticks that it has cost so far where runs overlap; where they do not the grid tells
}

// Wait is for a start that is not the grid's: a try when Try of its Run is not 0, else a wake or a tick that is
// held and was counted when its Due is not zero, else the end of a back-off.
type Wait struct {
	Run    job.Run   // still without a number
	Until  time.Time // with its monotonic reading
	Slowed time.Duration
}

// Due is the moment of the next tick.
func (g Grid) Due() time.Time { return g.Anchor.Add(time.Duration(g.Tick) * g.Interval) }

// passed is how many ticks, from the next one on, are due at now.
func (g Grid) passed(now time.Time) uint64 {
	due := g.Due()
	if g.Interval == 0 || due.After(now) {
		return 0
	}
	return uint64(now.Sub(due)/g.Interval) + 1
}

// Options is what a Loop is made of; every field but Grid is needed.
type Options struct {
	Spec     job.Spec
	Runner   Runner
	Recorder Recorder
	Gate     Gate
	Alarm    Alarm
	Grid     *Grid // where the image before us stood; nil begins a grid at the call of Run
}

// Loop serves the ticks of one job.
type Loop struct {
	Options
	stopOnce sync.Once
	stop     chan struct{}
	wake     chan struct{}
	leave    chan leaving
	over     chan struct{} // closed when Run has returned
}

// leaving is one call of Leave.
type leaving struct {
	let    func() error
	answer chan error
}

// New makes a Loop; Run makes it turn.
func New(o Options) *Loop {
	return &Loop{Options: o, stop: make(chan struct{}), wake: make(chan struct{}, 1),
		leave: make(chan leaving), over: make(chan struct{})}
}

// Stop asks the loop to end; a run that is going on may finish. It never blocks, from any goroutine.
func (l *Loop) Stop() { l.stopOnce.Do(func() { close(l.stop) }) }

// Wake asks for a run now. Asked during a run it is remembered once, and the grid does not move. It
// never blocks, from any goroutine.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// ErrEnds is that a loop has ended or is about to.
var ErrEnds = errors.New("the loop ends")

// Leave ends the loop so that the next process's can go on from the Grid of the last Report. The runs that are
// active stay so: let is asked once to give up all of them, while none can end or begin. If it returns an error
// Leave returns that and nothing has happened, so it gives up all or none. The Runner's Runs may then return at
// any time, with any Result, or never. ErrEnds is that there is nothing to leave. Leave blocks until let has
// returned, from any goroutine but the loop's.
func (l *Loop) Leave(let func() error) error {
	a := make(chan error, 1)
	select {
	case l.leave <- leaving{let, a}:
		return <-a
	case <-l.over:
		return ErrEnds
	}
}

// Run serves ticks until Stop or Leave was called, the only run of a once job is over, a run was fatal, too
// many have failed, or ctx ends, which stops the runs with ctx's cause. It returns when no run is left, but for
// those that were left under way; the last Report has the place to go on from, and the End.
func (l *Loop) Run(ctx context.Context) {
	defer close(l.over)
	t := newTurner(ctx, l)
	defer t.close()
	t.serve(t.begin)
	stopping, cancelled := l.stop, ctx.Done()
	for {
		opened, done := t.look()
		if done {
			return
		}
		select {
		case <-l.Alarm.C():
			t.serve(t.rang)
		case <-opened:
			t.serve(t.open)
		case <-stopping:
			stopping = nil
			t.serve(t.stop)
		case <-l.wake:
			t.serve(t.wake)
		case <-cancelled:
			cancelled = nil
			t.serve(t.stop)
		case a := <-l.leave:
			t.serve(func() { t.leave(a) })
		case <-t.turned:
		case <-t.fallen:
			return
		}
	}
}
