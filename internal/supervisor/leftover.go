package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/process"
	"gophd/internal/procfs"
)

// This file handles a run whose gophd was killed: while it is active, no other run may start.

// leftover is what the supervisor knows of leftover runs.
type leftover struct {
	watch     *leftoverWatch // nil if there are none, or if the job failed because of them
	waiting   atomic.Bool    // no run of this daemon may start
	none      atomic.Bool    // a search has found none
	leaseHeld bool           // the lease was held while waiting
}

// SearchLeftover searches leftover runs of the job, and returns true if no run of this daemon may
// start because of them: not before LeftoverEnded is called, or never, because the job has failed.
func (s *Supervisor) SearchLeftover() (wait bool) {
	s.call(func() {
		s.mark(lease.Mark(s.o.Lease.Lock()))
		wait = s.searchLeftover()
		s.leftover.waiting.Store(wait)
	})
	return wait
}

// NoLeftover returns true if no leftover run is active, as far as SearchLeftover knows. Any goroutine
// may call it.
func (s *Supervisor) NoLeftover() bool { return s.leftover.none.Load() }

// leftoverPause is the time between two checks of a leftover run: only a parent is notified of the
// exit of a process.
const leftoverPause = 100 * time.Millisecond

// leftoverRemind is the time between two events about the same leftover run.
const leftoverRemind = 15 * time.Second

// leftoverWatch waits for the end of leftover runs.
type leftoverWatch struct {
	cancel     context.CancelFunc
	goroutines goroutine.Group
	done       chan error    // receives nil when no leftover run is active
	remind     chan struct{} // asks for the event about it now
}

// searchLeftover searches leftover runs among all processes. It is called only if the local lock is
// unclean.
func (s *Supervisor) searchLeftover() (wait bool) {
	lock := s.lockMark(lease.Mark(s.o.Lease.Lock()))
	left, err := process.Leftover(lock, s.ownRun(lock), s.o.Lease.Lock().Users()...)
	switch {
	case errors.Is(err, process.ErrNoProc): // this system has no search
		s.problem(fmt.Errorf("cannot check for leftover runs: %w", err))
		return false
	case err != nil:
		err = fmt.Errorf("a previous gophd was killed, and whether its run is still active "+
			"cannot be checked: %w", err)
		s.machine.fail(err)
		return true
	case len(left) == 0:
		s.leftover.none.Store(true)
		return false
	case slices.ContainsFunc(s.o.Env, func(e string) bool { return strings.HasPrefix(e, runID+"="+lock) }):
		// A job may start its own successor.
		return false
	}
	if s.spec.OnLeftover == job.LeftoverRefuse {
		err := fmt.Errorf("a previous gophd of job %s was killed and its run is still active as %s: stop it, "+
			"or start with --on-leftover wait or kill",
			s.spec.Name, Processes(left))
		s.machine.fail(s.explain(err))
		return true
	}
	s.publish(leftoverEvent(*s.spec, left))
	ctx, cancel := context.WithCancel(context.Background())
	w := &leftoverWatch{cancel: cancel, done: make(chan error, 1), remind: make(chan struct{}, 1)}
	s.leftover.watch = w
	w.goroutines.Go(func() {
		var err error
		if p := goroutine.Catch(func() { s.waitForLeftover(ctx, lock, left, w.remind) }); p != nil {
			err = p
		}
		w.done <- err
	})
	s.serving("waiting for " + Processes(left) + " to exit: it is a run of a gophd that was killed")
	return true
}

// ownRun returns whether the rest of a GOPHD_RUN_ID, after the mark of the lock, is that of a run of this
// daemon.
func (s *Supervisor) ownRun(lock string) func(rest string) bool {
	own := *s.runner.mark.Load()
	return func(rest string) bool { return strings.HasPrefix(lock+rest, own) }
}

// waitForLeftover returns when no leftover run is active, or ctx has ended. It searches the
// processes again before each signal: a PID may belong to another process by then.
func (s *Supervisor) waitForLeftover(ctx context.Context, lock string, left []int, asked <-chan struct{}) {
	killing := s.spec.OnLeftover == job.LeftoverKill
	deadline := time.Now().Add(s.spec.Grace)
	if killing {
		signal(left, syscall.SIGTERM)
		signal(left, syscall.SIGCONT)
	}
	interval := leftoverPause
	poll, remind := time.NewTicker(interval), time.NewTicker(leftoverRemind)
	defer poll.Stop()
	defer remind.Stop()
	for len(left) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-remind.C:
			s.publish(leftoverEvent(*s.spec, left))
			continue
		case <-asked:
			s.publish(leftoverEvent(*s.spec, left))
			continue
		case <-poll.C:
		}
		due := killing && time.Now().After(deadline)
		if due && interval < time.Second {
			interval *= 2 // a process that survives KILL cannot be stopped, and scanning /proc is expensive
			poll.Reset(interval)
		}
		if procfs.Alive(left[0], 0) && !due { // one process is cheap to check
			continue
		}
		now, err := process.Leftover(lock, s.ownRun(lock), s.o.Lease.Lock().Users()...)
		if err != nil {
			continue // count them as active until a search shows that they are not
		}
		if left = now; due {
			signal(left, syscall.SIGKILL)
		}
	}
}

// signal signals the processes that still exist and may be signaled. The others are waited for.
func signal(all []int, s syscall.Signal) {
	for _, pid := range all {
		_ = syscall.Kill(pid, s)
	}
}

// leftoverEvent returns the event that says what is left over, and what gophd does about it.
func leftoverEvent(spec job.Spec, left []int) event.Event {
	what := "waiting for it to exit"
	if spec.OnLeftover == job.LeftoverKill {
		what = "stopping it"
	}
	if spec.OnLeftover == job.LeftoverKill && slices.ContainsFunc(left, notPermitted) {
		what = event.NotPermitted + "; waiting for it to exit"
	}
	return event.Leftover(spec.Name, Processes(left), what)
}

// notPermitted returns true if gophd may not signal the process, or any of the group if pid is
// negative.
func notPermitted(pid int) bool { return syscall.Kill(pid, 0) == syscall.EPERM }

// Processes names processes in a message.
func Processes(all []int) string {
	var names []string
	for _, pid := range all {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // it may just have exited
		name := strings.TrimSpace(string(comm))
		if stat, err := procfs.ReadStat(pid); err == nil && stat.State == 'T' {
			name += ", suspended: stopped by a signal such as TTIN or STOP; send CONT to it, or give it no terminal"
		}
		names = append(names, fmt.Sprintf("pid %d (%s)", pid, name))
	}
	return strings.Join(names, ", ")
}

// leftoverEnded is called when no leftover run is active any more.
func (s *Supervisor) leftoverEnded(err error) {
	s.leftover.watch.stop()
	s.leftover.watch = nil
	if err != nil {
		s.machine.panicked(err)
		return
	}
	SweepCgroups(s.o.ID, exited)
	s.leftover.none.Store(true)
	s.leftover.waiting.Store(false)
	s.o.LeftoverEnded()
	if s.leftover.leaseHeld {
		s.machine.leaseHeld()
	}
}

// ended returns a channel that delivers when no leftover run is active; nil if none is watched.
func (w *leftoverWatch) ended() <-chan error {
	if w == nil {
		return nil
	}
	return w.done
}

// stop ends the watch.
func (w *leftoverWatch) stop() {
	if w != nil {
		w.cancel()
		w.goroutines.Wait()
	}
}
