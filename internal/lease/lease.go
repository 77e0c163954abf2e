// Package lease answers: may runs start here, and until when?
//
// A Lease combines the local lock of this host with the heartbeat in a shared store, if one is
// configured. It opens the local lock (store.go), identifies this process and detects a dead holder
// (identity.go), runs one claim per store (claim.go), acquires them in sequence and publishes what
// changes (acquire.go, events.go). It knows stores and deadlines. Its Client starts and stops the
// runs.
//
// What happens in which phase ("-" is nothing; a phase after the arrow is entered):
//
//	event          opened             acquiring          holding            failed      released
//	begin          acquire            -                  -                  -           -
//	               → acquiring
//	all held       -                  Held → holding     TakenOver if       -           -
//	                                                     another may have
//	                                                     held it
//	failed         -                  Failed, log        Failed, log        log         -
//	                                  → failed           → failed
//	ending         -                  Ending if there    Ending             -           -
//	                                  are old runs
//	release early  release            release            release            release     -
//	               → released         → released         → released         → released
//
// all held means that every claim is held. failed means that a claim has ended with an error, or that
// the PID file could not be created. ending means that a claim is not held any more, and that runs
// must be dead before another instance may hold it: after a re-exec in acquiring too, for those that
// were started under the lease that was handed off. Doubtful claims shut the gate and change no phase.
package lease

import (
	"context"
	"os"
	"sync"
	"time"

	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/fault"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/timer"
)

// Lease is the right of one job to run here. It has at most two claims: the local lock, which is
// acquired first, and the record in a shared store. With heartbeat.url "none:" it has no claim, and
// always counts as held.
//
// One goroutine calls Begin, Start, ReleaseEarly, Release, HandOff, Leave and Close. Any goroutine
// may call the other methods.
type Lease struct {
	o             Options
	local, shared *claim // each may be nil
	lock          *file.Store
	timer         *channelTimer // of the shared claim
	keeping       keeping       // in the shared store

	mu       sync.Mutex // guards phase, acquire and the claims, except what is safe by itself
	phase    phase
	took     uint64 // Took, as the Client knows it
	acquire  acquisition
	proceed  chan struct{} // capacity 1; see Continue
	quit     chan struct{}
	quitOnce sync.Once
	serving  chan struct{} // closed when the goroutine of Start has ended; nil before Start
}

// Options are the parameters of a lease.
type Options struct {
	Config   *config.Config
	Name     string          // what the lease is for; its Key in a shared store is made from it
	Path     string          // of the local lock; "" for no lease at all
	Store    heartbeat.Store // the shared one, of the caller; nil for none. Leases may share it
	Standby  bool            // wait while another instance holds the lease, instead of Client.Failed
	Interval time.Duration   // of the job, for those who read the record; 0 if there is none
	Started  time.Time       // first start of the daemon
	Events   *event.Stream
	Client   Client
	Timers   *timer.Queue // of the boot clock

	// From a handoff.
	Handed State
	Lock   *os.File // descriptor of the local lock; nil if there is none
}

// State is a lease that the old process hands off to the new one, apart from the descriptor of the
// local lock.
type State struct {
	Leftover      bool               // runs of a gophd that was killed may be active
	Local, Shared *heartbeat.Handoff `json:",omitempty"`
}

// Open opens the local lock and adopts a handoff. It acquires nothing yet.
func Open(o Options) (*Lease, error) {
	l := &Lease{o: o, acquire: newAcquisition(), proceed: make(chan struct{}, 1),
		quit: make(chan struct{})}
	if o.Path == "" {
		return l, nil
	}
	lock, err := OpenLock(o.Path, o.Lock, o.Handed.Leftover)
	if err != nil {
		return nil, err
	}
	lock.AddUsers(os.Geteuid())
	l.lock = lock
	l.local = &claim{lease: l, store: "file:" + o.Path, key: o.Name, opened: lock, lock: lock, handed: o.Handed.Local}
	if o.Store == nil {
		return l, nil
	}
	l.shared = &claim{lease: l, store: o.Config.Shown("heartbeat.url"), key: Key(o.Name), opened: o.Store,
		handed: o.Handed.Shared}
	l.timer = newChannelTimer(o.Timers)
	return l, nil
}

// Lock returns the local lock; nil without one.
func (l *Lease) Lock() *file.Store { return l.lock }

// visible returns the shared claim once it was requested, else the local one. It is nil without any
// claim.
func (l *Lease) visible() *claim {
	if l.shared.begun() {
		return l.shared
	}
	return l.local
}

// claims returns the existing claims, the local one first.
func (l *Lease) claims() (all []*claim) {
	for _, c := range []*claim{l.local, l.shared} {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// Shut returns nil while runs may start. Otherwise it returns a channel that is closed when it is
// worth asking again. It never blocks.
func (l *Lease) Shut() <-chan struct{} {
	for _, c := range l.claims() {
		hb := c.hb.Load()
		if hb == nil {
			return make(chan struct{})
		}
		_, changed := hb.Watch() // before MayStart, so that no change is missed
		if !hb.MayStart() {
			return changed
		}
	}
	return nil
}

// Fence returns the fencing token of the lease; 0 if no token was written yet.
func (l *Lease) Fence() uint64 {
	state, _ := l.visible().now()
	return state.Fence
}

// Beat puts the number of a run and the PID of its command into the records. The PID is 0 after the
// run has ended. Beat does not block.
func (l *Lease) Beat(tick uint64, pid int) {
	for _, c := range l.claims() {
		if hb := c.hb.Load(); hb != nil {
			hb.Beat(heartbeat.Pulse{Tick: tick, Time: time.Now(), Child: pid})
		}
	}
}

// Now returns the store and the state of the lease as it is now. ok is false before it was
// requested. It waits for a step of the acquisition that is being done.
func (l *Lease) Now() (store string, now heartbeat.Lease, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Look()
}

// Look is Now without the wait: it returns the state before a step that is being done. It never blocks.
func (l *Lease) Look() (store string, now heartbeat.Lease, ok bool) {
	c := l.visible()
	if now, ok = c.now(); !ok {
		return "", now, false
	}
	return c.store, now, true
}

// Shared returns key and state of the lease in the shared store; ok is false if there is none, or
// before it was requested. It waits like Now.
func (l *Lease) Shared() (key string, now heartbeat.Lease, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, ok = l.shared.now(); !ok {
		return "", now, false
	}
	return l.shared.key, now, true
}

// killTime is the time before the deadline of a lease that is reserved for a KILL to take effect
// and for gophd to notice. The run must be dead by the deadline.
const killTime = 250 * time.Millisecond

// grace returns how long a run may take to stop under a lease that expires at deadline.
func (l *Lease) grace(deadline time.Duration) time.Duration {
	return max(min(l.o.Config.Heartbeat.StopGrace, deadline-boot())-killTime, 0)
}

// handOffTime is how long a claim may take to accept the request for its handoff.
const handOffTime = 5 * time.Second

// HandOff ends the lease in this process without a release. It returns what the new process needs,
// the descriptor of the local lock (nil if it is not held), the instance id ("" without a lease),
// and the errors of renewals that failed: the new process acquires those claims again. With keep,
// such a claim is renewed until this process exits, because a command is active under it. HandOff
// blocks for the last renewals, some seconds at most.
func (l *Lease) HandOff(keep bool) (state State, lock *os.File, instance string, errs []error) {
	l.end()
	l.enter(released)
	handOff := func(c *claim) *heartbeat.Handoff {
		switch {
		case c == nil:
			return nil
		case !c.begun():
			return c.handed // the new process acquires it
		}
		ctx, cancel := context.WithTimeout(context.Background(), handOffTime)
		defer cancel()
		over, err := c.handOff(ctx, keep)
		if err != nil {
			errs = append(errs, err)
		} else {
			instance = over.ID
		}
		return &over
	}
	if state.Shared = handOff(l.shared); state.Shared != nil {
		fault.At("shared lease handed off")
	}
	if state.Local = handOff(l.local); state.Local != nil {
		fault.At("local lease handed off")
	}
	if l.lock != nil { // whether a renewal failed or not
		state.Leftover, lock = l.lock.Unclean(), l.lock.Descriptor()
	}
	return state, lock, instance, errs
}

// Leave ends the lease for this process, except the local lock, which stays held for the new one. The
// shared claim must have been handed off or released. Then the caller may close the store.
func (l *Lease) Leave() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// Close is Leave for a lease that was released. It also closes the local lock.
func (l *Lease) Close() error {
	l.Leave()
	if l.lock == nil {
		return nil
	}
	return l.lock.Close()
}

func boot() time.Duration { return timer.Now(timer.Boot) }
