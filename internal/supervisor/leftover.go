package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/process"
	"gophd/internal/procfs"
)

// This file is about a run whose gophd was killed: while it is active, no other may start.

// leftoverPause lies between two looks at a leftover run: only a parent is told of the end of a process.
const leftoverPause = 100 * time.Millisecond

// leftoverRemind lies between two events about the same leftover run.
const leftoverRemind = 15 * time.Second

// leftoverWatch waits for the end of leftover runs.
type leftoverWatch struct {
	cancel context.CancelFunc
	room   goroutine.Group
	done   chan error // nil says that no leftover run is active
}

// searchLeftover searches leftover runs among all processes, and returns true if the lease must wait
// for them. It is called only if the local lock is unclean.
func (s *Supervisor) searchLeftover() (wait bool) {
	lock := lease.Mark(s.lease.Lock()) + "."
	left, err := process.Leftover(lock, *s.runner.mark.Load(), s.lease.Lock().Users()...)
	switch {
	case errors.Is(err, process.ErrNoProc): // no search is possible on this system
		s.problem(fmt.Errorf("cannot check for leftover runs: %w", err))
		return false
	case err != nil:
		err = fmt.Errorf("a previous gophd was killed, and whether its run is still active cannot be checked: %w", err)
		s.machine.fail(err, err)
		return true
	case len(left) == 0:
		s.lease.Lock().Clean()
		if s.lease.Lock().Unclean() {
			s.publish(event.LeftoverUnseen(s.spec.Name))
		}
		return false
	case slices.ContainsFunc(s.o.Env, func(e string) bool { return strings.HasPrefix(e, runID+"="+lock) }):
		// A job may start its own successor.
		return false
	}
	if s.spec.OnOrphan == job.OrphanRefuse {
		err := fmt.Errorf("%s still runs as %s, left behind by a gophd that was killed: end it, or start with --on-orphan wait or kill",
			s.spec.Name, pids(left))
		s.machine.fail(err, err)
		return true
	}
	s.publish(leftoverEvent(s.spec, left))
	ctx, cancel := context.WithCancel(context.Background())
	w := &leftoverWatch{cancel: cancel, done: make(chan error, 1)}
	s.leftover = w
	w.room.Go(func() {
		var err error
		if p := goroutine.Catch(func() { s.outlive(ctx, lock, left) }); p != nil {
			err = p
		}
		w.done <- err
	})
	s.serving("waiting for the end of " + pids(left) + ", left behind by a gophd that was killed")
	return true
}

// outlive returns when no leftover run is active, or ctx has ended. The processes to signal are searched
// again each time: a PID may belong to another process by then.
func (s *Supervisor) outlive(ctx context.Context, lock string, left []int) {
	killing := s.spec.OnOrphan == job.OrphanKill
	deadline := time.Now().Add(s.spec.Grace)
	if killing {
		signal(left, syscall.SIGTERM)
		signal(left, syscall.SIGCONT)
	}
	patience := leftoverPause
	look, remind := time.NewTicker(patience), time.NewTicker(leftoverRemind)
	defer look.Stop()
	defer remind.Stop()
	for len(left) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-remind.C:
			s.publish(leftoverEvent(s.spec, left))
			continue
		case <-look.C:
		}
		due := killing && time.Now().After(deadline)
		if due && patience < time.Second {
			patience *= 2 // a process that survives KILL cannot be stopped, and scanning /proc is expensive
			look.Reset(patience)
		}
		if procfs.Alive(left[0], 0) && !due { // one process is cheap to check
			continue
		}
		now, err := process.Leftover(lock, *s.runner.mark.Load(), s.lease.Lock().Users()...)
		if err != nil {
			continue // they count as active until a search shows that they are not
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

// leftoverEvent says what is left over, and what is done about it.
func leftoverEvent(spec job.Spec, left []int) event.Event {
	what := "no run starts before it has ended"
	if spec.OnOrphan == job.OrphanKill {
		what = "it is stopped"
	}
	if spec.OnOrphan == job.OrphanKill && slices.ContainsFunc(left, untouchable) {
		what = event.NotPermitted + "; no run starts before it has ended"
	}
	return event.Leftover(spec.Name, pids(left), what)
}

// untouchable returns true if gophd may not signal the process, or any of the group if pid is negative.
func untouchable(pid int) bool { return syscall.Kill(pid, 0) == syscall.EPERM }

// pids names processes for a message.
func pids(all []int) string {
	var names []string
	for _, pid := range all {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // it may just have ended
		names = append(names, fmt.Sprintf("pid %d (%s)", pid, strings.TrimSpace(string(comm))))
	}
	return strings.Join(names, ", ")
}

// leftoverEnded continues when no leftover run is active any more.
func (s *Supervisor) leftoverEnded(err error) {
	s.leftover.end()
	s.leftover = nil
	if err != nil {
		s.machine.panicked(err)
		return
	}
	s.lease.Lock().Clean()
	SweepCgroups(s.spec.Name, gone)
	s.acquireNext(s.lease.Local())
}

// ended returns a channel that delivers when no leftover run is active; nil if none is watched.
func (w *leftoverWatch) ended() <-chan error {
	if w == nil {
		return nil
	}
	return w.done
}

// end calls the watch off.
func (w *leftoverWatch) end() {
	if w != nil {
		w.cancel()
		w.room.Wait()
	}
}
