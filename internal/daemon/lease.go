package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/status"
	"gophd/internal/supervisor"
)

// This file passes on what the lease tells to the jobs and to the daemon's own goroutine.

// leaseNews is what the lease has told last. Its goroutine writes it.
type leaseNews struct {
	mu      sync.Mutex
	serving string // what the daemon does, for the process that waits for its start
	held    bool   // jobs may acquire their own leases
	err     error  // why it has ended
}

// admit lets the jobs acquire their own leases.
func (n *leaseNews) admit() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = true
}

// read returns what the lease has told last.
func (n *leaseNews) read() (serving string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.serving, n.err
}

// leaseClient is the daemon for its lease.
type leaseClient struct{ *Daemon }

var _ lease.Client = leaseClient{}

// OnLocked reports that gophd has started, or has resumed after a re-exec: no other gophd can run the
// jobs on this host.
func (l leaseClient) OnLocked() { l.onLocked() }

// TakePIDFile creates and locks the PID file, or takes over that of the old process.
func (l leaseClient) TakePIDFile() error { return l.pidFile.take() }

// RemovePIDFile removes the PID file, if gophd has it.
func (l leaseClient) RemovePIDFile() { l.pidFile.remove() }

// SearchLeftover searches leftover runs of each job. With several jobs only those wait that have some.
// Jobs with their own leases search later, each with its own lock.
func (l leaseClient) SearchLeftover() (wait bool) {
	if l.o.Config.OwnLeases() {
		l.lease.Lock().Clean()
		return false
	}
	l.jobs.each(func(m *member) { wait = m.SearchLeftover() || wait })
	if left := l.unknownLeftover(); len(left) > 0 {
		l.events.Publish(event.Leftover("", supervisor.Processes(left),
			"its job is not in the config, so nothing waits for it; a reload that adds the job does"))
	}
	l.noteClean()
	return wait && !l.o.Config.Many
}

// unknownLeftover returns the processes of leftover runs of jobs that the config has no more. While there
// are any, the lock stays unclean: a reload may add the job again.
func (l leaseClient) unknownLeftover() []int {
	if !l.o.Config.Many {
		return nil
	}
	mark, own := lease.Mark(l.lease.Lock())+".", fmt.Sprintf(".%d.%d.", os.Getpid(), l.life.born.UnixNano())
	left, _ := process.Leftover(mark, func(rest string) bool { // an error is one of the search for each job too
		known := func(m *member) bool { return strings.HasPrefix(rest, m.spec.Name+".") }
		return strings.Contains(rest, own) || slices.ContainsFunc(l.jobs.all, known)
	}, l.lease.Lock().Users()...)
	return left
}

// leftoverEnded is called when leftover runs of a job have ended, by its goroutine.
func (l leaseClient) leftoverEnded() {
	l.noteClean()
	l.lease.Continue()
}

// noteClean notes in the local lock that no leftover run is active, once that is so for every job.
func (l leaseClient) noteClean() {
	if slices.ContainsFunc(l.jobs.all, func(m *member) bool { return m.Supervisor == nil || !m.NoLeftover() }) ||
		len(l.unknownLeftover()) > 0 {
		return
	}
	clean(l.lease.Lock(), l.events, l.o.Config.Name)
}

// clean notes in a local lock that no leftover run is active.
func clean(lock *file.Store, events *event.Stream, name string) {
	lock.Clean()
	if lock.Unclean() {
		events.Publish(event.LeftoverUnseen(name))
	}
}

// TakenOver lets the jobs continue from the records of the last holder.
func (l leaseClient) TakenOver() {
	if !l.o.Config.OwnLeases() {
		l.jobs.each(func(m *member) { m.LeaseHeld() })
	}
}

func (l leaseClient) Held() {
	switch {
	case !l.o.Config.OwnLeases():
		l.jobs.handedFirst(func(m *member) { m.LeaseHeld() })
	case l.jobs.store != nil && !l.sharedBefore():
		l.contactStore()
		return
	default:
		l.jobs.lease.admit()
	}
	l.runs()
}

// runs tells that several jobs are served.
func (l leaseClient) runs() {
	if l.o.Config.Many {
		jobs := "1 job"
		if n := len(l.o.Config.Jobs); n != 1 {
			jobs = fmt.Sprintf("%d jobs", n)
		}
		l.tell(l.o.Config.Name+" runs "+jobs, nil)
	}
}

// sharedBefore reports whether the old process has handed off a lease in a shared store.
func (d *Daemon) sharedBefore() bool {
	shared := d.handed.Lease.Shared != nil
	for _, own := range d.handed.Leases {
		shared = shared || own.Shared != nil
	}
	return shared
}

// contact is the first contact of the store, before the jobs acquire leases of their own there.
type contact struct {
	goroutines goroutine.Group
	cancel     context.CancelFunc // nil before it
}

// end cancels the contact, and waits for its goroutine. The daemon's lease must have ended, because
// that starts the contact.
func (c *contact) end() {
	if c.cancel != nil {
		c.cancel()
	}
	c.goroutines.Wait()
}

// contactStore admits the jobs to their own leases once the store has answered. From then on each waits
// for its lease, however long that takes. Until then this is a start: it fails if no lease can be kept
// in the store, or if that does not answer.
func (l leaseClient) contactStore() {
	ctx, cancel := context.WithCancel(context.Background())
	l.jobs.contact.cancel = cancel
	l.jobs.contact.goroutines.Go(func() {
		var err error
		if p := goroutine.Catch(func() { err = l.awaitStore(ctx) }); p != nil {
			err = p
		}
		switch {
		case err == nil:
			l.jobs.lease.admit()
			l.runs()
		case ctx.Err() == nil: // else gophd exits or re-execs
			l.Failed(err, err)
			l.events.Publish(event.Problem(err))
		}
	})
}

// awaitStore returns nil once the store has answered, or need not. It tries for the acquire timeout, or
// until ctx ends if gophd stands by.
func (l leaseClient) awaitStore(ctx context.Context) error {
	c, unreachable := l.o.Config, (*heartbeat.UnreachableError)(nil)
	if err := preflight.Contact(ctx, c, l.jobs.store, 0); !errors.As(err, &unreachable) || ctx.Err() != nil {
		return err
	}
	l.events.Publish(event.LeaseUnreachable(c.Name, c.Shown("heartbeat.url"), "unreachable", unreachable.Err))
	patience := c.Heartbeat.AcquireTimeout
	switch {
	case c.Heartbeat.Standby:
		patience = math.MaxInt64
	case c.Heartbeat.OnUnreachable == "continue":
		return nil
	}
	return preflight.Contact(ctx, c, l.jobs.store, patience)
}

func (l leaseClient) Standby(holder string) {
	l.tell("standing by: "+holder+" runs "+l.o.Config.Name, nil)
}

func (l leaseClient) Ending(cause error) { l.jobs.each(func(m *member) { m.LeaseEnding(cause) }) }

func (l leaseClient) Failed(err, cause error) {
	why := err
	if p := (*goroutine.Panic)(nil); errors.As(err, &p) {
		why = supervisor.Fatal(err)
	}
	l.tell("", why) // first, so that the daemon knows it when the jobs have ended
	l.jobs.each(func(m *member) { m.LeaseFailed(err, cause) })
}

// tell passes on to the daemon's goroutine what the lease has told.
func (l leaseClient) tell(serving string, err error) {
	l.jobs.lease.mu.Lock()
	if serving != "" {
		l.jobs.lease.serving = serving
	}
	if err != nil {
		l.jobs.lease.err = err
	}
	l.jobs.lease.mu.Unlock()
	l.jobs.notice()
}

// openLease opens the lease of the daemon, and the store of all leases. If each job has its own lease,
// that of the daemon is only the lock that keeps this host from running the daemon twice.
func (d *Daemon) openLease(files map[string]*os.File) (err error) {
	c := d.o.Config
	o := d.leaseOptions(c.Name, lease.LockPath(c), files[localLock])
	o.Client, o.Handed, o.Standby = leaseClient{d}, d.handed.Lease, c.Heartbeat.Standby
	if c.Heartbeat.Shared() {
		if d.jobs.store, err = lease.OpenStore(c.Heartbeat); err != nil {
			return err
		}
	}
	if !c.OwnLeases() {
		o.Store = d.jobs.store
		for _, own := range d.handed.Leases {
			o.Handed.Shared = earlier(o.Handed.Shared, own.Shared)
		}
	}
	if !c.Many {
		o.Interval = c.Jobs[0].Interval
	}
	d.lease, err = lease.Open(o)
	return err
}

// earlier returns the handoff of the lease that expires first. After a change of the scope the runs
// that were started under the old leases have its deadline.
func earlier(a, b *heartbeat.Handoff) *heartbeat.Handoff {
	if a == nil || b != nil && b.Deadline < a.Deadline {
		return b
	}
	return a
}

func (d *Daemon) leaseOptions(name, path string, lock *os.File) lease.Options {
	return lease.Options{Config: d.o.Config, Name: name, Path: path, Started: d.life.born, Events: d.events,
		Timers: d.timers.boot, Lock: lock}
}

// leases returns all leases of the daemon that are open, its own last.
func (d *Daemon) leases() (all []*lease.Lease) {
	for _, m := range d.jobs.all {
		if m.lease != nil {
			all = append(all, m.lease)
		}
	}
	if d.lease != nil {
		all = append(all, d.lease)
	}
	return all
}

// startLeases starts the leases of the jobs once the daemon's own is held.
func (d *Daemon) startLeases() {
	news := &d.jobs.lease
	news.mu.Lock()
	defer news.mu.Unlock()
	if !news.held {
		return
	}
	news.held = false
	d.jobs.each(func(m *member) {
		if m.lease != nil && m.alive {
			m.lease.Start(&d.goroutines)
		}
	})
}

// releaseLeases releases all leases, at the same time, and then the daemon's own. No command may be
// alive. It blocks for at most twice the store's timeout.
func (d *Daemon) releaseLeases() {
	for _, m := range d.jobs.all {
		if m.lease != nil {
			m.lease.ReleaseEarly()
		}
	}
	for _, l := range d.leases() {
		l.Release()
	}
	d.jobs.contact.end()
}

// handOffLeases ends all leases in this process without a release, except those of jobs that have
// ended. It returns what the new process must report.
func (d *Daemon) handOffLeases(s *handedState, h *restart.Handoff) (failed []error) {
	var own goroutine.Group
	var mu sync.Mutex // guards the results
	for _, m := range d.jobs.all {
		switch {
		case m.lease == nil:
			continue
		case m.lease.Released():
			m.lease.Release() // waits for it
			continue
		}
		own.Go(func() {
			state, lock, _, errs := m.lease.HandOff(len(m.HandedOff()) > 0)
			mu.Lock()
			defer mu.Unlock()
			if s.Leases == nil {
				s.Leases = map[string]lease.State{}
			}
			s.Leases[m.spec.Name] = state
			if lock != nil {
				h.Files[jobLock(m.spec)] = lock
			}
			failed = append(failed, errs...)
		})
	}
	own.Wait()
	left, lock, instance, errs := d.lease.HandOff(len(d.jobs.left()) > 0)
	d.jobs.contact.end()
	s.Lease, h.Instance = left, instance
	if lock != nil {
		h.Files[localLock] = lock
	}
	return append(failed, errs...)
}

// releaseHanded releases the leases of jobs that the config has no more and that have no active run.
func (d *Daemon) releaseHanded(files map[string]*os.File) error {
	if !d.o.Config.OwnLeases() {
		return nil // active runs may have been started under them: they expire
	}
	opened := map[string]bool{}
	for _, m := range d.jobs.all {
		opened[m.spec.Name] = true
	}
	for name := range d.handed.Leases {
		if opened[name] {
			continue
		}
		m := &member{spec: &job.Spec{Name: name}}
		if err := (jobLeaseClient{d, m}).open(files); err != nil {
			return err
		}
		d.goroutines.Go(func() { release(m.lease, d.events) })
	}
	return nil
}

// release releases and closes a lease that was handed off and is not needed.
func release(l *lease.Lease, events *event.Stream) {
	l.Release()
	if err := l.Close(); err != nil {
		events.Publish(event.Problem(err))
	}
}

// jobLock returns the name of the descriptor of a job's own local lock in the handoff.
func jobLock(spec *job.Spec) string { return localLock + "/" + spec.Name }

// jobLeaseClient is one of several jobs for its own lease. While that is held elsewhere, only this job
// is on standby.
type jobLeaseClient struct {
	*Daemon
	job *member
}

var _ lease.Client = jobLeaseClient{}

// open opens the lease of the job.
func (l jobLeaseClient) open(files map[string]*os.File) (err error) {
	c, spec := l.o.Config, l.job.spec
	name := c.FileName(*spec)
	o := l.leaseOptions(name, lease.JobLockPath(c, name), files[jobLock(spec)])
	o.Client, o.Store, o.Interval, o.Standby = l, l.jobs.store, spec.Interval, true
	o.Events = event.NewStream(func(e event.Event) {
		e.Job = spec.Name
		l.events.Publish(e)
	})
	var ok bool
	if o.Handed, ok = l.handed.Leases[spec.Name]; !ok && len(l.job.handed.Runs) > 0 {
		o.Handed.Shared = l.handed.Lease.Shared // the scope has changed: see earlier
	}
	l.job.lease, err = lease.Open(o)
	return err
}

func (l jobLeaseClient) OnLocked()          {}
func (l jobLeaseClient) TakePIDFile() error { return nil }
func (l jobLeaseClient) RemovePIDFile()     {}
func (l jobLeaseClient) Held()              { l.job.LeaseHeld() }
func (l jobLeaseClient) TakenOver()         { l.job.LeaseHeld() }
func (l jobLeaseClient) Standby(string)     {}
func (l jobLeaseClient) Ending(cause error) { l.job.LeaseEnding(cause) }

// Failed ends this job only.
func (l jobLeaseClient) Failed(err, cause error) { l.job.LeaseFailed(err, cause) }

// SearchLeftover searches leftover runs of the job.
func (l jobLeaseClient) SearchLeftover() (wait bool) {
	wait = l.job.SearchLeftover()
	l.noteClean()
	return wait
}

// leftoverEnded is called when leftover runs of the job have ended, by its goroutine.
func (l jobLeaseClient) leftoverEnded() {
	l.noteClean()
	l.job.lease.Continue()
}

func (l jobLeaseClient) noteClean() {
	if l.job.NoLeftover() {
		clean(l.job.lease.Lock(), l.events, l.job.spec.Name)
	}
}

// leaseNow returns the state of a lease, and the instance id. ok is false before the lease was
// requested. It waits for a step of the lease that is being done.
func leaseNow(of *lease.Lease) (shown status.Lease, instance string, ok bool) {
	return showLease(of.Now())
}

func showLease(store string, l heartbeat.Lease, ok bool) (shown status.Lease, instance string, known bool) {
	if !ok {
		return shown, "", false
	}
	shown = status.Lease{Store: store, State: l.State.String(), Fence: l.Fence}
	switch l.State {
	case heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending:
		shown.Holder = "this instance"
		if l.Deadline > 0 {
			shown.Until = time.Now().Add(l.Deadline - boot())
		}
	case heartbeat.Standby, heartbeat.Lost:
		shown.Holder = l.Holder.String()
	}
	return shown, l.ID, true
}
