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

// This file is about a run whose gophd was killed: it goes on, and no other may begin beside it.

// orphanAgain is how often an orphan is looked at: nothing tells the end of a process that is no child.
const orphanAgain = 100 * time.Millisecond

// vigil is what is done about orphans before the first claim after the local lock.
type vigil struct {
	cancel context.CancelFunc
	room   goroutine.Group
	done   chan error // nil says that no orphan is left
}

// orphaned looks for orphans, among all processes, and says whether the claims have to wait for them. It is asked only
// where the local lock is unclean.
func (r *rig) orphaned() (wait bool) {
	lock := lease.Mark(r.lease.Lock()) + "."
	left, err := process.Leftover(lock, *r.runner.mark.Load(), r.lease.Lock().Users()...)
	switch {
	case errors.Is(err, process.ErrNoProc): // on this system nobody can ever tell
		r.trouble(fmt.Errorf("cannot check for leftover runs: %w", err))
		return false
	case err != nil:
		err = fmt.Errorf("a previous gophd was killed, and whether its run is still active cannot be checked: %w", err)
		r.machine.gone(err, err)
		return true
	case len(left) == 0:
		r.lease.Lock().Clean()
		if r.lease.Lock().Unclean() {
			r.events.Publish(event.LeftoverUnseen(r.spec.Name))
		}
		return false
	case slices.ContainsFunc(r.o.Self.Env, func(e string) bool { return strings.HasPrefix(e, runID+"="+lock) }):
		// A job may start its own successor.
		return false
	}
	if r.spec.OnOrphan == job.OrphanRefuse {
		err := fmt.Errorf("%s still runs as %s, left behind by a gophd that was killed: end it, or start with --on-orphan wait or kill",
			r.spec.Name, pids(left))
		r.machine.gone(err, err)
		return true
	}
	r.events.Publish(leftoverEvent(r.spec, left))
	ctx, cancel := context.WithCancel(context.Background())
	v := &vigil{cancel: cancel, done: make(chan error, 1)}
	r.vigil = v
	v.room.Go(func() {
		var err error
		if p := goroutine.Catch(func() { r.outlive(ctx, lock, left) }); p != nil {
			err = p
		}
		v.done <- err
	})
	r.serving("waiting for the end of " + pids(left) + ", left behind by a gophd that was killed")
	return true
}

// outlive returns when no orphan is left, or ctx has ended. Who is to be signalled is looked for anew each time: a
// PID may be another's by then.
func (r *rig) outlive(ctx context.Context, lock string, left []int) {
	killing := r.spec.OnOrphan == job.OrphanKill
	deadline := time.Now().Add(r.spec.Grace)
	if killing {
		signal(left, syscall.SIGTERM)
		signal(left, syscall.SIGCONT)
	}
	patience := orphanAgain
	look, remind := time.NewTicker(patience), time.NewTicker(remindAfter)
	defer look.Stop()
	defer remind.Stop()
	for len(left) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-remind.C:
			r.events.Publish(leftoverEvent(r.spec, left))
			continue
		case <-look.C:
		}
		due := killing && time.Now().After(deadline)
		if due && patience < time.Second {
			patience *= 2 // whom KILL does not end nothing will, and to look for all is dear
			look.Reset(patience)
		}
		if procfs.Alive(left[0], 0) && !due { // to look at one is cheap, to look for all is not
			continue
		}
		now, err := process.Leftover(lock, *r.runner.mark.Load(), r.lease.Lock().Users()...)
		if err != nil {
			continue // they are there until it is seen that they are not
		}
		if left = now; due {
			signal(left, syscall.SIGKILL)
		}
	}
}

// signal reaches those that are there and may be signalled; the others are waited for.
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

// untouchable says that none of a process, or of the group of a negative pid, may be signalled.
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

// ended is the channel of a vigil that may not be there.
func (v *vigil) ended() <-chan error {
	if v == nil {
		return nil
	}
	return v.done
}

// end calls the vigil off.
func (v *vigil) end() {
	if v != nil {
		v.cancel()
		v.room.Wait()
	}
}
