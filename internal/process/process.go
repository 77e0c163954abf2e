package process

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

const (
	// courtesyTime is how long a group may outlive its leader when nobody asked for a stop.
	courtesyTime = 100 * time.Millisecond

	// reapTime is how long a stray that was sent KILL is waited for: it may hang in the kernel.
	reapTime = time.Second

	// forgetTime bounds Forget.
	forgetTime = 100 * time.Millisecond

	// The group is looked at again after probeMin, then after twice as long each time: a member can
	// leave the group by setsid(2), which no event tells.
	probeMin = 250 * time.Microsecond
	probeMax = 50 * time.Millisecond
)

// Process is a command that was started. Its state belongs to the holder of mu, and who changes it acts
// on the change before letting go. An owner goroutine that is asked by channels would be woken, with a
// thread of its own, beside the command at its start and at its end: that was a tenth of a short run.
type Process struct {
	spawner *Spawner
	pid     int
	streams []*stream
	reports chan report   // one for each stream
	strays  *Strays       // nil when nobody asks for them
	leaf    *leaf         // nil without a control group
	over    chan struct{} // closed when Wait returns
	escaped []int         // processes that another process has begun to stop
	dead    func()        // see OnDeath
	others  bool          // somebody beside the group lived when the group was last looked at; Wait's
	result  job.Result    // Wait's, but for Started

	mu  sync.Mutex // held while a signal is sent and while the leader is collected, and never for long
	now state
	schedule
	hunt *hunt // of escaped processes that are being stopped; nil before
}

// schedule is what Stop was asked for, and when its signals are due.
type schedule struct {
	stop  StopPlan
	due   time.Time   // when KILL is due, by stop or at the end of the courtesy; zero is never
	fatal *time.Timer // that moment, once there is someone to kill
	after *time.Timer // when the next signal is due, if there is one
}

// StopPlan is how far the stop of a command has come.
type StopPlan struct {
	Asked   time.Time        // when Stop was called first; zero if it was not
	Signals []syscall.Signal // in their order
	Sent    int              // which of them was sent last
	Grace   time.Duration    // of each
	Next    time.Time        // when the next signal is due; zero is not known, or that none follows
	Kill    time.Time        // when KILL is due: the earliest that a Stop has asked for
}

// attach makes a Process of a child of this program that leads its own process group: one that was
// just started, or one that an earlier image of the program did.
func (s *Spawner) attach(pid int, started time.Time, streams []*stream) *Process {
	p := &Process{
		spawner: s,
		pid:     pid,
		streams: streams,
		reports: make(chan report, len(streams)),
		over:    make(chan struct{}),
		result:  job.Result{PID: pid, Started: started},
	}
	for _, st := range streams {
		st.pid = pid
		s.group.Go(func() { s.serve(st, p.reports) })
	}
	return p
}

// PID is the process id of the command, which is also the id of its process group.
func (p *Process) PID() int { return p.pid }

// Started is the moment just before the command was started.
func (p *Process) Started() time.Time { return p.result.Started }

// Stop asks the group of the command to end by the signals, in their order, TERM if none is given: each is
// followed by CONT, so that a frozen one can act on it, and by its own grace; after the last grace comes
// KILL. With a grace of zero or less it is KILL now. Asked again, the signals of the first time go on, and the
// earlier KILL wins. It may be called by any goroutine at any time, does not wait for the end, and does
// nothing after it, or after Leave.
func (p *Process) Stop(grace time.Duration, signals ...syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == handed {
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
	p.step(stopAsked)
	p.arm()
}

// StopPlan returns how far the stop has come, that of the process which handed p over included.
func (p *Process) StopPlan() StopPlan {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stop
}

// OnDeath has Wait call f when the command has ended and nothing of its group is left. What it wrote may
// still wait to be delivered, for as long as a writer takes. It is called before Wait; f must not block.
func (p *Process) OnDeath(f func()) { p.dead = f }

// Wait blocks until the command has ended, nothing of its group is left, all that the group wrote is
// delivered and the command is collected. It must be called once, and soon: the end of the command is
// noticed, and the rest of its group ended, by Wait. Run and Cause of the Result are the caller's to fill.
// Ended is when the command itself ended, which others of its group may outlive. A panic of
// a writer climbs out of Wait, after all of that. See Leave for when Wait returns without any of it.
func (p *Process) Wait() job.Result {
	defer close(p.over)
	observe(p.pid, p.given, p.spawner.collect)
	if p.happen(leaderEnded) == handed {
		return job.Result{}
	}
	for pause := probeMin; p.alive() && !p.given(); pause = min(2*pause, probeMax) {
		p.mu.Lock()
		p.arm()
		p.mu.Unlock()
		time.Sleep(pause)
	}
	if p.happen(groupGone) == handed {
		return job.Result{}
	}
	p.sweep()
	if p.happen(swept) == handed {
		return job.Result{}
	}
	if p.dead != nil {
		p.dead()
	}
	var climbing *goroutine.Panic
	for range p.streams {
		if r := <-p.reports; climbing == nil {
			climbing = r.panic
		}
	}
	p.happen(delivered)
	p.spawner.collect() // a command that is quicker than its Wait is not observed
	if climbing != nil {
		panic(climbing)
	}
	return p.result
}

// given says that the command was left to the next image.
func (p *Process) given() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now == handed
}

// happen takes an event from outside and returns the state after it; step is for who holds mu already.
func (p *Process) happen(e event) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step(e)
	return p.now
}

func (p *Process) step(e event) {
	if e == leaderEnded && p.now < leaving && p.result.Ended.IsZero() {
		p.result.Ended = time.Now()
	}
	var do action
	switch p.now, do = transition(p.now, e); do {
	case next:
		p.stop.Sent++
		p.stop.Next, p.after = time.Time{}, nil
		p.arm()
		fallthrough
	case ask:
		p.signal(p.stop.Signals[p.stop.Sent])
		p.signal(syscall.SIGCONT)
	case kill:
		p.signal(syscall.SIGKILL)
	case courtesy:
		p.killBy(time.Now().Add(p.spawner.courtesy))
	case drain:
		// For a member that could not be seen; see doc.go. It is the last moment at which the
		// group id is certain to be the command's.
		p.signal(syscall.SIGKILL)
		for _, st := range p.streams {
			st.hurry()
		}
	case reap:
		p.disarm()
		p.reap()
	case give:
		p.disarm()
	}
}

// killBy brings the KILL forward to t, and never puts it off.
func (p *Process) killBy(t time.Time) {
	if p.due.IsZero() || t.Before(p.due) {
		if p.fatal != nil {
			p.fatal.Stop()
		}
		p.due, p.fatal = t, nil
	}
}

// earlier returns the first of two moments, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// arm sees to it that the KILL comes, and the next signal. A new timer wakes a sleeping thread, so one is
// made only when there is someone to hear it. One that has fired is right however late it is heard: what is
// due stays due.
func (p *Process) arm() {
	if p.now != stopping && p.now != leaving {
		return
	}
	if p.fatal == nil {
		p.fatal = time.AfterFunc(time.Until(p.due), func() { p.happen(killDue) })
	}
	if p.after == nil && p.stop.Sent+1 < len(p.stop.Signals) {
		if p.stop.Next.IsZero() {
			p.stop.Next = time.Now().Add(p.stop.Grace)
		}
		p.after = time.AfterFunc(time.Until(p.stop.Next), func() { p.happen(nextDue) })
	}
}

func (p *Process) disarm() {
	for _, t := range []*time.Timer{p.fatal, p.after} {
		if t != nil {
			t.Stop()
		}
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
	alive, others := groupAlive(p.pid, held)
	p.others = others
	return alive
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
