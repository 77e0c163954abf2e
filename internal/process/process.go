package process

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

const (
	// groupGrace is how long a group may outlive its leader when no stop was requested.
	groupGrace = 100 * time.Millisecond

	// killWait is how long the search waits for an escaped process after KILL: it may hang in the
	// kernel.
	killWait = time.Second

	// The group is checked again after probeMin, then after twice as long each time: no event tells
	// that a member left the group by setsid(2).
	probeMin = 250 * time.Microsecond
	probeMax = 50 * time.Millisecond
)

// Process is a command that was started. Its state is guarded by mu, and the goroutine that changes
// the state acts on the change before it unlocks mu. An owner goroutine with channels would have to
// be woken, on a thread of its own, at the start and at the exit of the command: that cost a tenth
// of a short run.
type Process struct {
	spawner *Spawner
	pid     int
	streams []*stream
	reports chan report  // one for each stream that is read
	escapes *EscapeRules // nil spares and does not report
	leaf    *leaf        // nil without a control group
	escaped []int        // processes that another process has started to stop
	onDeath func()       // see OnDeath
	others  bool         // a process outside the group was alive at the last check of the group; owned by Wait
	result  job.Result   // owned by Wait, except for Started

	mu  sync.Mutex // held while a signal is sent and while the leader is reaped, and only briefly
	now state
	schedule
	search *sweep   // of escaped processes that are being stopped; nil before
	pidfd  *os.File // of the leader, once Wait observes it in the runtime's poller; nil before
}

// schedule is what Stop requested, and when its signals are due.
type schedule struct {
	stop      StopPlan
	due       time.Time   // when KILL is due, by stop or at the end of the group grace; zero is never
	killTimer *time.Timer // fires at due; nil until there is a process to kill
	nextTimer *time.Timer // fires when the next signal is due; nil if there is none
}

// StopPlan is the progress of the stop of a command.
type StopPlan struct {
	Asked   time.Time        // when Stop was called first; zero if it was not
	Signals []syscall.Signal // in the order in which they are sent
	Sent    int              // index of the signal that was sent last
	Grace   time.Duration    // of each
	Next    time.Time        // when the next signal is due; zero is unknown, or that none follows
	Kill    time.Time        // when KILL is due: the earliest that a Stop has requested
}

// attach makes a Process of a child of this program that leads its own process group: one that was
// just started, or one that an earlier process started.
func (s *Spawner) attach(pid int, started time.Time, streams []*stream) *Process {
	p := &Process{
		spawner: s,
		pid:     pid,
		streams: streams,
		reports: make(chan report, len(streams)),
		result:  job.Result{PID: pid, Started: started},
	}
	s.setCommand(pid, true)
	for _, st := range streams {
		st.pid, st.owner = pid, p
	}
	if s.readAtOnce {
		p.read()
	}
	return p
}

// read begins to read the streams that are not read yet, unless the command is detached.
func (p *Process) read() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == detached {
		return
	}
	for _, st := range p.streams {
		if st.phase == unread && st.read(st.file()) == nil {
			p.spawner.group.Go(func() { p.spawner.serve(st, p.reports) })
		}
	}
}

// end closes a stream that has ended before it was read, unless the command is detached.
func (p *Process) end(st *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != detached && st.phase == unread {
		st.discard()
	}
}

// PID returns the process id of the command, which is also the id of its process group.
func (p *Process) PID() int { return p.pid }

// Started returns the moment just before the command was started.
func (p *Process) Started() time.Time { return p.result.Started }

// Stop sends the group of the command the signals in the given order, TERM if none is given. Each
// signal is followed by CONT, so that a suspended process can act on it, and by its own grace. KILL
// follows after the last grace. With a grace of zero or less KILL is sent at once.
//
// If Stop is called again, the signals of the first call continue, and the earlier KILL counts.
// Stop may be called from any goroutine at any time, and does not wait for the exit. It does
// nothing after the exit or after Detach.
func (p *Process) Stop(grace time.Duration, signals ...syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == detached {
		return // the next process stops it
	}
	if len(signals) == 0 {
		signals = []syscall.Signal{syscall.SIGTERM}
	}
	now := time.Now()
	if p.stop.Asked.IsZero() {
		p.stop.Asked = now
	}
	by := now.Add(max(grace, 0) * time.Duration(len(signals)))
	p.stop.Kill = earlier(p.stop.Kill, by)
	if grace <= 0 {
		p.step(killDue)
		return
	}
	if p.stop.Signals == nil {
		p.stop.Signals, p.stop.Grace = signals, grace
	}
	p.killBy(by)
	p.step(stopRequested)
	p.arm()
}

// StopPlan returns the progress of the stop, including that of the process which handed p off.
func (p *Process) StopPlan() StopPlan {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stop
}

// OnDeath makes Wait call f when the command has exited and no process of its group is left. Its
// output may not be delivered yet, for as long as a writer takes. OnDeath must be called before
// Wait, and f must not block.
func (p *Process) OnDeath(f func()) { p.onDeath = f }

// Wait blocks until the command has exited, no process of its group is left, everything that the
// group wrote is delivered and the command is reaped.
//
// It must be called once, and soon: only Wait observes the exit of the command and ends the rest of
// its group. The caller fills Run and Cause of the Result. Ended is the exit of the command itself;
// others of its group may outlive it. A panic of a writer is raised again by Wait, after all of
// that. See Detach for when Wait returns without any of it.
func (p *Process) Wait() job.Result {
	p.observe()
	p.read()
	if p.handle(leaderExited) == detached {
		return job.Result{}
	}
	for pause := probeMin; p.alive() && !p.isDetached(); pause = min(2*pause, probeMax) {
		p.mu.Lock()
		p.arm()
		p.mu.Unlock()
		time.Sleep(pause)
	}
	if p.handle(groupGone) == detached {
		return job.Result{}
	}
	p.sweep()
	if p.handle(swept) == detached {
		return job.Result{}
	}
	if p.onDeath != nil {
		p.onDeath()
	}
	var panicked *goroutine.Panic
	for _, st := range p.streams {
		if st.phase == ended {
			continue
		}
		if r := <-p.reports; panicked == nil {
			panicked = r.panic
		}
	}
	p.handle(delivered)
	p.spawner.reapOrphans() // for a command that exits before Wait observes it
	if panicked != nil {
		panic(panicked)
	}
	return p.result
}

// isDetached reports whether the command was detached for the new process.
func (p *Process) isDetached() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now == detached
}

// handle processes an event and returns the state after it. step is for callers that hold mu.
func (p *Process) handle(e event) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step(e)
	return p.now
}

func (p *Process) step(e event) {
	if e == leaderExited && p.now < lingering && p.result.Ended.IsZero() {
		p.result.Ended = time.Now()
	}
	var do action
	before := p.now
	switch p.now, do = transition(p.now, e); do {
	case sendNext:
		p.stop.Sent++
		p.stop.Next, p.nextTimer = time.Time{}, nil
		p.arm()
		fallthrough
	case sendFirst:
		p.signal(p.stop.Signals[p.stop.Sent])
		p.signal(syscall.SIGCONT)
	case kill:
		p.result.Left = before == lingering && p.stop.Asked.IsZero()
		p.signal(syscall.SIGKILL)
	case grantGrace:
		p.killBy(time.Now().Add(p.spawner.groupGrace))
	case drain:
		// For a member that could not be seen; see doc.go. This is the last moment at which the
		// group id is certain to be the command's.
		p.signal(syscall.SIGKILL)
		for _, st := range p.streams {
			st.escalate()
		}
	case reap:
		p.disarm()
		p.reap()
	case cancelTimers:
		p.disarm()
	}
}

// killBy brings the KILL forward to t, and never delays it.
func (p *Process) killBy(t time.Time) {
	if p.due.IsZero() || t.Before(p.due) {
		if p.killTimer != nil {
			p.killTimer.Stop()
		}
		p.due, p.killTimer = t, nil
	}
}

// earlier returns the earlier of two moments. A zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// arm starts the timers of the KILL and of the next signal. Starting a timer wakes a sleeping
// thread, so arm does it only when there is a process to signal. A timer that has fired is handled
// correctly however late: what is due stays due.
func (p *Process) arm() {
	if p.now != stopping && p.now != lingering {
		return
	}
	if p.killTimer == nil {
		p.killTimer = time.AfterFunc(time.Until(p.due), func() { p.handle(killDue) })
	}
	if p.nextTimer == nil && p.stop.Sent+1 < len(p.stop.Signals) {
		if p.stop.Next.IsZero() {
			p.stop.Next = time.Now().Add(p.stop.Grace)
		}
		p.nextTimer = time.AfterFunc(time.Until(p.stop.Next), func() { p.handle(nextDue) })
	}
}

func (p *Process) disarm() {
	for _, t := range []*time.Timer{p.killTimer, p.nextTimer} {
		if t != nil {
			t.Stop()
		}
	}
}

// Signal sends a signal to the process group, unless the command has ended.
func (p *Process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now < lingering { // later the number may be that of another group
		p.signal(sig)
	}
}

// signal sends sig to the whole group. An error does not matter: no member may be left (ESRCH), and
// one that may not be signaled (EPERM: it became another user) is waited for like any other.
func (p *Process) signal(sig syscall.Signal) { _ = syscall.Kill(-p.pid, sig) }

// alive reports whether the group has a living member besides its dead leader.
func (p *Process) alive() bool {
	held := p.isHeld()
	if held && len(forks) > 0 { // a command that is being forked has a copy of each open pipe until its exec
		time.Sleep(probeMin)
		held = p.isHeld()
	}
	alive, others := groupAlive(p.pid, held)
	p.others = others
	return alive
}

// isHeld reports whether any process has a pipe of the command open.
func (p *Process) isHeld() bool { return slices.ContainsFunc(p.streams, (*stream).held) }

// reap reaps the leader and fills the result, then reaps the zombies that the group left.
func (p *Process) reap() {
	var status syscall.WaitStatus
	var usage syscall.Rusage
	if _, err := wait4(p.pid, &status, 0, &usage); err != nil {
		// Nothing else may reap this child, so this is a bug and is reported as one.
		panic(fmt.Errorf("the exit status of process %d is lost: %w", p.pid, err))
	}
	p.spawner.setCommand(p.pid, false)
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

// rssUnit returns the unit of ru_maxrss in bytes: KiB on Linux and the BSDs, bytes on macOS
// (getrusage(2)).
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
