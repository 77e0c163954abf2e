package supervisor

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"gophd/internal/config"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/loop"
	"gophd/internal/order"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/self"
	"gophd/internal/signals"
)

// Options is what a Supervisor is made of.
type Options struct {
	Config  *config.Config
	Self    self.Self
	Signals *signals.Signals // listening, and so it is left
	Version string           // of this program, for the log
	Handoff *restart.Handoff // from the image before us; nil at the first start
	Trouble error            // why that image could not be replaced, when Handoff is its own
	Stderr  io.Writer
	// Serving is called once, when the PID file is written, the heartbeat claimed and the loop begun,
	// or when we stand by: text says which, and where the log is.
	Serving func(text string)
}

// Outcome is how a Supervisor ends without an error.
type Outcome struct {
	// Restart asks for a new image of the program, to which this is to be handed over; nil is the end.
	Restart *restart.Handoff
	// Last is what came of the only run of a once job; nil otherwise.
	Last *job.Result
	// Said is that the log has said on Stderr why it ends, or that the only run was not started: it needs no other word.
	Said bool

	left []*process.Process // to the next image
}

// Stay is for an image that could not become the next, before it goes on itself with what it had handed over. It
// gives back what still waits for the runs, and blocks for a tenth of a second at most.
func (o Outcome) Stay() { process.Forget(o.left...) }

// Supervisor runs one daemon from its beginning to its end.
type Supervisor struct{ o Options }

// New makes a Supervisor; Run does everything.
func New(o Options) *Supervisor { return &Supervisor{o} }

const (
	remindAfter = 15 * time.Second // between two words about a wait that goes on
	lossesAgain = 10 * time.Second // between two about lines that are lost
	proofRemind = 2 * time.Second
	leaveAgain  = 20 * time.Millisecond // until a run that is being started or stopped is asked about again
	fatalWait   = 15 * time.Second      // for the loop to end after a fault of ours, over the command's own grace
)

// Run blocks until the daemon has ended and nothing of it is left, or until it is to be restarted, and
// then only what the hand-over names is left. An error says why it ended when that was not asked for:
// *heartbeat.HeldError, *heartbeat.LostError, *heartbeat.UnreachableError, or what could not be had.
// ctx ends it as an order to stop does.
func (s *Supervisor) Run(ctx context.Context) (Outcome, error) {
	r, err := build(s.o)
	if err != nil {
		Abandon(s.o.Handoff, err)
		return Outcome{}, err
	}
	if p := goroutine.Catch(func() { r.serve(ctx) }); p != nil {
		r.machine.roomFell(p)
		r.awaitLoop()
	}
	return r.end()
}

// serve is the one select of the daemon: it returns when the machine says that all is over.
func (r *rig) serve(ctx context.Context) {
	r.adoptStrays()
	if len(r.runner.going) > 0 {
		r.goOn()
		if fault.On {
			fault.At("gone on")
		}
	}
	for _, o := range r.inherited {
		r.machine.order(o)
	}
	spareThreads()
	if !r.claiming && (r.machine.state == claiming || r.machine.state == checking) {
		r.firstClaim()
	}
	for !r.machine.over() {
		r.releaseEarly()
		if fault.On {
			fault.At("select")
		}
		select {
		case o := <-r.signals.C():
			r.machine.order(o)
		case <-r.uptime.C:
			r.machine.order(order.Order{Verb: order.Restart, From: "after " + r.o.Config.AutoRestart.String()})
			r.uptime.Reset(r.o.Config.AutoRestart)
		case <-ctx.Done():
			ctx = context.WithoutCancel(ctx)
			r.machine.order(order.Order{Verb: order.Stop, From: "the caller"})
		case <-r.lease.Local().Changed():
			r.leaseChanged(r.lease.Local())
		case <-r.lease.Shared().Changed():
			r.leaseChanged(r.lease.Shared())
		case <-r.lease.Local().Ended():
			r.claimEnded(r.lease.Local())
		case <-r.lease.Shared().Ended():
			r.claimEnded(r.lease.Shared())
		case err := <-r.vigil.ended():
			if err != nil {
				r.machine.roomFell(err)
			} else {
				r.lease.Lock().Clean()
			}
			r.vigil.end()
			r.vigil = nil
			sweepCgroups(r.spec.Name, gone)
			r.nextClaim(r.lease.Local())
		case err := <-r.probed:
			r.machine.checked(err)
		case <-r.runner.deaths:
		case <-r.loopDone:
			r.loopDone = nil
			if r.loopFell != nil {
				r.machine.roomFell(r.loopFell)
			}
			r.machine.loopEnded(r.loopError())
		case <-r.retry.C:
			r.machine.retried()
		case <-r.reclaim.C:
			if r.machine.state == claiming {
				r.beginClaim(r.lease.Local())
			}
		case <-r.old.C:
			r.oldLeaseEnds()
		case err := <-r.reopening:
			r.reopened(err)
		case <-r.logFails:
			r.logTrouble()
		case <-r.losses.C:
			r.logTrouble()
		case <-r.remind.C:
			r.reminder()
		case <-r.trim.C:
			r.tidy()
		}
	}
}

// loopError is why the loop ended by itself, if that was for a reason. A fatal exit code takes the road of a
// fatal error of gophd's own.
func (r *rig) loopError() error {
	switch r.loopEnd {
	case loop.Fatal:
		return &fatalError{fmt.Errorf("run %d ended with %s, which job.fatal_exit_codes names", r.lastTick.Number, r.lastTick.Result)}
	case loop.GaveUp:
		what := fmt.Sprintf("%d runs failed", r.spec.StartLimit)
		if r.spec.StartLimit == 1 {
			what = "a run failed"
		}
		if r.spec.Retries > 0 {
			what += " with all retries"
		}
		return fmt.Errorf("%s within %s, the last one with %s: gophd gives up, as job.start_limit says",
			what, r.spec.StartLimitInterval, r.lastTick.Result)
	}
	return nil
}

// What a start needs is needed no more when it has settled. A collection of the heap before its end, while it
// still grows, would leave it larger for good: measured, 0.4 MB.
const (
	settled   = 2 * time.Second
	trimAfter = time.Minute
)

// tidy gives back what the start has left, and from trimAfter on keeps the heap small: measured, a third less
// memory after thousands of runs, for 10 % more of our own CPU time.
func (r *rig) tidy() {
	if !r.settled {
		r.settled = true
		r.trim.Reset(trimAfter - settled)
		unmapProgram()
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
	debug.FreeOSMemory()
	unmapProgram()
}

// awaitLoop gives the loop its time to end after a fault in the select itself.
func (r *rig) awaitLoop() {
	if !r.machine.looping {
		return
	}
	select {
	case <-r.loopDone:
	case <-time.After(r.spec.Grace + fatalWait):
		r.machine.kill()
	}
	r.machine.looping = false
}
