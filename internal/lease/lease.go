// Package lease answers: may runs start here, and until when?
//
// A Lease combines the local lock of this host with the heartbeat in a shared store, if one is
// configured. It opens the stores (store.go), identifies this process and detects a dead holder
// (identity.go), and runs one claim per store (claim.go). It knows stores and deadlines. Its owner
// decides what happens when a claim changes or ends, and stops the runs.
package lease

import (
	"errors"
	"math"
	"os"
	"strings"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/timer"
)

// Lease is the right of one job to run here. It has at most two claims: the local lock, which is
// acquired first, and the record in a shared store. With heartbeat.url "none:" it has no claim, and
// always counts as held.
//
// One goroutine owns it. Any goroutine may call Shut, Fence and Beat after Begin of every claim.
type Lease struct {
	o             Options
	local, shared *Claim // each may be nil
	lock          *file.Store
	timer         *timer.Timer // of the shared claim
}

// Options are the parameters of a lease.
type Options struct {
	Config  *config.Config
	Started time.Time // first start of the daemon
	Users   []int     // ids of users that may own runs, see file.Store.AddUsers

	// From a handoff.
	Lock          *os.File // descriptor of the local lock; nil if there is none
	Leftover      bool     // runs of a gophd that was killed may be active
	Local, Shared *heartbeat.Handoff
}

// Open opens the stores and adopts a handoff. It acquires nothing yet.
func Open(o Options) (*Lease, error) {
	l := &Lease{o: o}
	path := LockPath(o.Config)
	if path == "" {
		return l, nil
	}
	lock, err := OpenLock(path, o.Lock, o.Leftover)
	if err != nil {
		return nil, err
	}
	lock.AddUsers(o.Users...)
	l.lock = lock
	name, h := o.Config.Jobs[0].Name, o.Config.Heartbeat
	l.local = &Claim{lease: l, Store: "file:" + path, Key: name, store: lock, lock: lock, handed: o.Local}
	if strings.HasPrefix(h.URL, "file:") {
		return l, nil
	}
	store, key, err := OpenStore(h, name)
	if err != nil {
		return nil, err
	}
	l.shared = &Claim{lease: l, Store: o.Config.Shown("heartbeat.url"), Key: key, store: store, handed: o.Shared}
	l.timer, err = timer.New(timer.Boot)
	return l, err
}

// Local returns the claim of the local lock; nil without one.
func (l *Lease) Local() *Claim { return l.local }

// Shared returns the claim in the shared store; nil without one.
func (l *Lease) Shared() *Claim { return l.shared }

// Lock returns the local lock; nil without one.
func (l *Lease) Lock() *file.Store { return l.lock }

// Visible returns the shared claim after its Begin, else the local one. It is nil without any
// claim.
func (l *Lease) Visible() *Claim {
	if l.shared.Begun() {
		return l.shared
	}
	return l.local
}

// claims returns the existing claims, the local one first.
func (l *Lease) claims() (all []*Claim) {
	for _, c := range []*Claim{l.local, l.shared} {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// Held returns true if every claim was held at its last Read.
func (l *Lease) Held() bool {
	for _, c := range l.claims() {
		if c.hb == nil || c.seen.State != heartbeat.Held {
			return false
		}
	}
	return true
}

// Shut returns nil while runs may start. Otherwise it returns a channel that is closed when it is
// worth asking again. It is the loop's gate, and never blocks.
func (l *Lease) Shut() <-chan struct{} {
	for _, c := range l.claims() {
		_, changed := c.hb.Watch() // before MayStart, so that no change is missed
		if !c.hb.MayStart() {
			return changed
		}
	}
	return nil
}

// Fence returns the fencing token of the lease that Visible returns; 0 if no token was written yet.
func (l *Lease) Fence() uint64 {
	state, _ := l.Visible().Now()
	return state.Fence
}

// Beat puts the number of a run and the PID of its command into the records. The PID is 0 after the
// run has ended. Beat does not block.
func (l *Lease) Beat(tick uint64, pid int) {
	for _, c := range l.claims() {
		if c.hb != nil {
			c.hb.Beat(heartbeat.Pulse{Tick: tick, Time: time.Now(), Child: pid})
		}
	}
}

// HandedDeadline returns the deadline of the shared lease that was handed off, on the boot clock.
// It is the largest duration if the lease does not expire.
func (l *Lease) HandedDeadline() time.Duration {
	if l.shared == nil || l.shared.handed == nil {
		return math.MaxInt64
	}
	return l.shared.handed.Deadline
}

// HandedGrace returns how long runs that were handed off may take to stop before HandedDeadline.
func (l *Lease) HandedGrace() time.Duration {
	return l.grace(l.HandedDeadline())
}

// killTime is the time before the deadline of a lease that is reserved for a KILL to take effect
// and for gophd to notice. The run must be dead by the deadline.
const killTime = 250 * time.Millisecond

// grace returns how long a run may take to stop under a lease that expires at deadline.
func (l *Lease) grace(deadline time.Duration) time.Duration {
	return max(min(l.o.Config.Heartbeat.StopGrace, deadline-boot())-killTime, 0)
}

// Leave closes all except the local lock, which stays held for the new process. The shared claim
// must have been handed off or released.
func (l *Lease) Leave() error {
	var err error
	if l.timer != nil {
		err = l.timer.Close()
		l.timer = nil
	}
	if l.shared != nil {
		err = errors.Join(err, l.shared.store.Close())
	}
	return err
}

// Close is Leave for a lease that was released. It also closes the local lock.
func (l *Lease) Close() error {
	err := l.Leave()
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	return err
}

func boot() time.Duration { return timer.Now(timer.Boot) }
