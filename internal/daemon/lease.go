package daemon

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/lease"
	"gophd/internal/status"
	"gophd/internal/supervisor"
)

// This file passes on what the lease tells to the jobs and to the daemon's own goroutine.

// leaseNews is what the lease has told last. Its goroutine writes it.
type leaseNews struct {
	mu      sync.Mutex
	serving string // what the daemon does, for the process that waits for its start
	err     error  // why the lease has ended
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
func (l leaseClient) SearchLeftover() (wait bool) {
	l.jobs.each(func(m *member) { wait = m.SearchLeftover() || wait })
	l.noteClean()
	return wait && !l.o.Config.Many
}

// leftoverEnded is called when leftover runs of a job have ended, by its goroutine.
func (l leaseClient) leftoverEnded() {
	l.noteClean()
	l.lease.Continue()
}

// noteClean notes in the local lock that no leftover run is active, once that is so for every job.
func (l leaseClient) noteClean() {
	if slices.ContainsFunc(l.jobs.all, func(m *member) bool { return m.Supervisor == nil || !m.NoLeftover() }) {
		return
	}
	lock := l.lease.Lock()
	lock.Clean()
	if lock.Unclean() {
		l.events.Publish(event.LeftoverUnseen(l.o.Config.Name))
	}
}

func (l leaseClient) Held() {
	l.jobs.each(func(m *member) { m.LeaseHeld() })
	if l.o.Config.Many {
		l.tell(fmt.Sprintf("%s runs %d jobs", l.o.Config.Name, len(l.o.Config.Jobs)), nil)
	}
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

// leaseNow returns the state of the lease, and the instance id. ok is false before the lease was
// requested.
func (d *Daemon) leaseNow() (shown status.Lease, instance string, ok bool) {
	store, l, ok := d.lease.Now()
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
