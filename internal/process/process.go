package process

import (
	"fmt"
	"runtime"
	"syscall"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

const (
	// courtesyTime is how long a group may outlive its leader when nobody asked for a stop.
	courtesyTime = 100 * time.Millisecond

	// The group is looked at again after probeMin, then after twice as long each time: a member can
	// leave the group by setsid(2), which no event tells.
	probeMin = 250 * time.Microsecond
	probeMax = 50 * time.Millisecond
)

// Process is a command that was started. One goroutine owns its state; all methods talk to it.
type Process struct {
	pid     int
	streams []*stream

	stops   chan time.Time // the moment of KILL
	exited  chan time.Time // the leader's end
	reports chan report    // one for each stream
	done    chan struct{}  // the owner has returned

	group  goroutine.Group
	result job.Result // the owner's until group.Wait has returned
}

// attach makes a Process of a child of this program that leads its own process group: one that was
// just started, or one that an earlier image of the program did.
func (s *Spawner) attach(pid int, started time.Time, streams []*stream) *Process {
	p := &Process{
		pid:     pid,
		streams: streams,
		stops:   make(chan time.Time),
		exited:  make(chan time.Time, 1),
		reports: make(chan report, len(streams)),
		done:    make(chan struct{}),
		result:  job.Result{PID: pid, Started: started},
	}
	for _, st := range streams {
		s.group.Go(func() { s.serve(st, pid, p.reports) })
	}
	p.group.Go(func() {
		observe(pid)
		p.exited <- time.Now()
	})
	p.group.Go(p.own)
	return p
}

// PID is the process id of the command, which is also the id of its process group.
func (p *Process) PID() int { return p.pid }

// Started is the moment just before the command was started.
func (p *Process) Started() time.Time { return p.result.Started }

// Stop asks the group of the command to end: TERM, then CONT so that a frozen one can act on it, and
// KILL after grace; with a grace of zero or less, KILL now. Asked again, the earlier KILL wins. It
// may be called by any goroutine at any time, does not wait for the end, and does nothing after it.
func (p *Process) Stop(grace time.Duration) {
	select {
	case p.stops <- time.Now().Add(grace):
	case <-p.done:
	}
}

// Wait blocks until the command has ended, nothing of its group is left, all that the group wrote is
// delivered and the command is collected; it must be called once. Run and Cause of the Result are
// the caller's to fill. Ended is when the command itself ended, which leftovers of its group may
// outlive. A panic of a writer climbs out of Wait, after all of that.
func (p *Process) Wait() job.Result {
	p.group.Wait()
	return p.result
}

// own holds the state from the start to the end.
func (p *Process) own() {
	defer close(p.done)
	var (
		now      = running
		due      time.Time // when KILL is due; zero is never
		fatal    <-chan time.Time
		probing  <-chan time.Time
		pause    = probeMin
		pending  = len(p.streams)
		climbing *goroutine.Panic
	)

	earlier := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due, fatal = t, nil
		}
	}
	// A new timer wakes a sleeping thread, so one is made only when there is someone to kill.
	arm := func() {
		if fatal == nil && now != purging {
			fatal = time.After(time.Until(due))
		}
	}
	step := func(e event) {
		var do action
		switch now, do = transition(now, e); do {
		case term:
			p.signal(syscall.SIGTERM)
			p.signal(syscall.SIGCONT)
		case kill:
			p.signal(syscall.SIGKILL)
		case courtesy:
			earlier(time.Now().Add(courtesyTime))
		case drain:
			// For a member that could not be seen; see doc.go. It is the last moment at which the
			// group id is certain to be the command's.
			p.signal(syscall.SIGKILL)
			for _, st := range p.streams {
				st.hurry()
			}
		case reap:
			p.reap()
		}
	}
	probe := func() {
		if p.alive() {
			arm()
			probing = time.After(pause)
			pause = min(2*pause, probeMax)
			return
		}
		probing = nil
		step(groupGone)
	}

	for now != ended {
		select {
		case t := <-p.stops:
			earlier(t)
			if t.After(time.Now()) {
				step(stopAsked)
				arm()
			} else {
				step(killDue)
			}
		case <-fatal:
			step(killDue)
		case p.result.Ended = <-p.exited:
			step(leaderEnded)
			probe()
		case <-probing:
			probe()
		case r := <-p.reports:
			pending--
			if climbing == nil {
				climbing = r.panic
			}
		}
		if now == draining && pending == 0 {
			step(delivered)
		}
	}
	if climbing != nil {
		panic(climbing)
	}
}

// signal reaches the whole group. That nobody is left to hear it (ESRCH) is no fault, and one that
// may not be signalled (EPERM: it became another user) is waited for like any other.
func (p *Process) signal(sig syscall.Signal) { _ = syscall.Kill(-p.pid, sig) }

// alive says whether the group has a member beside its dead leader.
func (p *Process) alive() bool {
	held := false
	for _, st := range p.streams {
		held = held || st.held()
	}
	return groupAlive(p.pid, held)
}

// reap collects the leader and fills the result, then collects what the group left.
func (p *Process) reap() {
	var status syscall.WaitStatus
	var usage syscall.Rusage
	if _, err := wait4(p.pid, &status, 0, &usage); err != nil {
		// Nobody else may collect this child, so this is a fault in the program, and made known as one.
		panic(fmt.Errorf("the exit status of process %d is lost: %w", p.pid, err))
	}
	r := &p.result
	if status.Signaled() {
		r.Outcome, r.Signal, r.Core = job.Signaled, status.Signal(), status.CoreDump()
	} else {
		r.Outcome, r.Code = job.Exited, status.ExitStatus()
	}
	r.Usage = job.Usage{
		User:   time.Duration(usage.Utime.Nano()),
		System: time.Duration(usage.Stime.Nano()),
		MaxRSS: int64(usage.Maxrss) * rssUnit(),
	}
	for {
		if pid, err := wait4(-p.pid, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
			break
		}
	}
}

// rssUnit is the unit of ru_maxrss in bytes: KiB on Linux and the BSDs, bytes on macOS (getrusage(2)).
func rssUnit() int64 {
	if runtime.GOOS == "darwin" {
		return 1
	}
	return 1024
}

func wait4(pid int, status *syscall.WaitStatus, options int, usage *syscall.Rusage) (int, error) {
	for {
		got, err := syscall.Wait4(pid, status, options, usage)
		if err != syscall.EINTR {
			return got, err
		}
	}
}
