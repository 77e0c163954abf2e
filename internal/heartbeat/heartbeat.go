package heartbeat

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Alarm rings on the boot clock, so that it rings too when the machine slept over the time.
type Alarm interface {
	// Set makes C ring once, d from now, in place of what was set before. A ring that is on its way
	// already may still come; it does no harm.
	Set(d time.Duration)
	// C is the same channel always. Set and C are called by one goroutine.
	C() <-chan struct{}
}

// Options are the rules of one heartbeat. They do not change after New.
type Options struct {
	Key  string // the heartbeat's key; the state that outlives a holder is kept under Key + ".state"
	Self Record // what to say about us: PID, Host, Job, Started, Interval, Boot, PIDNS, PIDStart, Lock

	TTL       time.Duration // T: what the store is asked for; has nothing to do with the interval of the loop
	Renew     time.Duration // R: between two renewals, give or take a tenth
	StopGrace time.Duration // K: what it takes to stop the command for certain
	Timeout   time.Duration // one phase of a store operation: an operation takes at most twice this

	Wait           bool          // stand by while another holds it, instead of HeldError and LostError
	Continue       bool          // run on while the store cannot be reached; another's value still ends it
	AcquireTimeout time.Duration // how long an unreachable store is tried at the start, unless Wait

	// Dead says that the owner of a record ran on this host and is provably gone, and its command too;
	// the key is then taken over at once. nil is never. What Record.Child says may be older than the
	// last run by one Renew. It must not block.
	Dead func(Record) bool
	// Boot is the time since boot, with the time that the machine slept (CLOCK_BOOTTIME, clock_gettime(2)).
	Boot   func() time.Duration
	Alarm  Alarm          // may be nil for a Lock store
	Jitter func() float64 // in [-1,1); nil is none
	Adopt  *Handover      // from the image before us; nil, or not for this process: claim anew
}

// Lease is what an instance has, at the moment of asking.
type Lease struct {
	State State
	ID    string // of this instance
	Fence uint64 // grows with each change of holder; 0 before the first proof
	Slot  int

	// Deadline, on the boot clock, is when the command must be dead; in a state without the lease, when
	// it had to be. 0 is no deadline: a Lock store, or Unproven.
	Deadline time.Duration

	Holder Record    // the other, in Standby and Lost
	Since  time.Time // of the last change of State
	Until  time.Time // in Proving: when the proof will be complete, at the earliest

	Err error // why the store cannot be reached; nil when it answers
	// Unproven says that Held is not backed by the store, but by Options.Continue alone.
	Unproven bool
}

// Handover is what one image passes to the next through exec. Without a
// lease to pass on, Held is false, and the next image claims anew, under the same ID.
type Handover struct {
	ID       string        `json:"id"`
	Key      string        `json:"key"`
	PID      int           `json:"pid"`
	Boot     string        `json:"boot"`
	Held     bool          `json:"held"`
	Unproven bool          `json:"unproven"` // Lease.Unproven
	Fence    uint64        `json:"fence"`
	Slot     int           `json:"slot"`
	Deadline time.Duration `json:"deadline"` // on the boot clock
	Started  time.Time     `json:"started"`
	Seq      uint64        `json:"seq"`
	Op       string        `json:"op"` // our write of the state key
}

// Pulse says that the loop turned.
type Pulse struct {
	Tick  uint64
	Time  time.Time
	Child int // process group of the running command; 0 when none runs
}

// HeldError says that another instance had the heartbeat when we came.
type HeldError struct {
	Key    string
	Holder Record
}

func (e *HeldError) Error() string {
	if e.Holder.Foreign {
		return fmt.Sprintf("heartbeat %s is held by %v; stop that one or choose another name", e.Key, e.Holder)
	}
	return fmt.Sprintf("heartbeat %s is held by %v since %s; stop that one or choose another name",
		e.Key, e.Holder, e.Holder.Started.Format(time.DateTime))
}

// LostError says that another instance has the heartbeat that was ours. Nothing was released.
type LostError struct {
	Key string
	By  Record // zero when nobody could be read
}

func (e *LostError) Error() string {
	if e.By == (Record{}) {
		return fmt.Sprintf("heartbeat %s was taken from us", e.Key)
	}
	return fmt.Sprintf("heartbeat %s was taken by %v", e.Key, e.By)
}

// UnreachableError says that the store gave no answer at the start for Options.AcquireTimeout.
type UnreachableError struct {
	Key string
	For time.Duration
	Err error // the last one of the store
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("heartbeat %s: the store gave no answer for %v: %v", e.Key, e.For.Round(time.Millisecond), e.Err)
}

// Unwrap returns the store's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Heartbeat is the claim of one instance to one key. Run does everything; the other methods ask it.
type Heartbeat struct {
	o      Options
	store  Store
	traits Traits
	epoch  time.Time // of the monotonic clock, to compare the boot clock with

	view      atomic.Pointer[view]  // written by the owner only
	pulse     atomic.Pointer[Pulse] // the last one
	poke      chan struct{}         // wakes the owner between renewals: a pulse to write, or a machine that slept
	handovers chan handoverRequest
	done      chan struct{} // closed when Run has returned

	owner owner // touched by Run's goroutine only
}

// view is what others see: an immutable copy.
type view struct {
	lease   Lease
	skew    time.Duration // boot clock less monotonic clock at the last acknowledged renewal
	changed chan struct{}
}

// New checks the rules and the hand-over. It does no I/O. The Store stays the caller's to close, after Run.
func New(o Options, s Store) (*Heartbeat, error) {
	h := &Heartbeat{
		o: o, store: s, traits: s.Traits(), epoch: time.Now(),
		poke: make(chan struct{}, 1), handovers: make(chan handoverRequest), done: make(chan struct{}),
	}
	if err := h.validate(); err != nil {
		return nil, err
	}
	if h.o.Jitter == nil {
		h.o.Jitter = func() float64 { return 0 }
	}
	if h.o.Dead == nil {
		h.o.Dead = func(Record) bool { return false }
	}
	if h.traits.Lock {
		h.o.TTL = max(h.o.TTL, time.Second) // says "as long as we live", not a time
	}
	w := &h.owner
	w.id, w.since, w.skew = nonce(), time.Now(), h.skew()
	if a := o.Adopt; a != nil && a.PID == o.Self.PID && a.Boot == o.Self.Boot && a.Key == o.Key && a.ID != "" {
		h.o.Self.Started = a.Started
		w.id, w.seq, w.fence, w.known, w.stateOp, w.deadline = a.ID, a.Seq, a.Fence, a.Fence, a.Op, a.Deadline
		w.touched = true
		switch {
		case a.Unproven && o.Continue:
			w.state, w.held, w.unproven = Held, true, true
		case !a.Held && a.Fence == 0: // it never was
		case !a.Held, !h.traits.Lock && a.Deadline <= o.Boot():
			w.state, w.held = Out, true
		default:
			w.state, w.held, w.mine, w.due = Held, true, true, true
			h.wake()
		}
	}
	h.view.Store(&view{changed: make(chan struct{})})
	h.publish()
	return h, nil
}

func (h *Heartbeat) validate() error {
	o := h.o
	switch {
	case o.Key == "":
		return errors.New("the heartbeat has no key; give it a name")
	case o.Boot == nil:
		return errors.New("the heartbeat has no boot clock")
	case o.Timeout <= 0:
		return fmt.Errorf("heartbeat timeout %v is not positive; 500ms is usual", o.Timeout)
	case h.traits.Lock:
		return nil
	case o.Alarm == nil:
		return errors.New("the heartbeat has no alarm")
	case o.Renew <= 0:
		return fmt.Errorf("heartbeat renewal %v is not positive; a fifth of the ttl is usual", o.Renew)
	case o.StopGrace < 0:
		return fmt.Errorf("heartbeat stop grace %v is negative", o.StopGrace)
	}
	// Right before a renewal there must still be enough left to start a run, or a healthy holder would
	// stumble at every turn.
	need := o.Renew + o.Renew/10 + o.StopGrace + h.budget() + settle
	least := time.Duration(float64(need+h.traits.Margin+allowance)/(1-rate)) + 1
	least = max(least, h.traits.MinTTL)
	if g := h.traits.Granularity; g > 0 {
		least = (least + g - 1) / g * g
		if o.TTL >= least && o.TTL%g != 0 {
			return fmt.Errorf("heartbeat ttl %v is not a multiple of %v, as the store wants it; use %v", o.TTL, g, (o.TTL+g-1)/g*g)
		}
	}
	if o.TTL < least {
		return fmt.Errorf("heartbeat ttl %v is too short for renewal %v, stop grace %v and timeout %v; use at least %v",
			o.TTL, o.Renew, o.StopGrace, o.Timeout, least)
	}
	return nil
}

// Watch returns the lease as it is now, and a channel that is closed when anything but its deadline
// changes: State, Fence, Holder, Unproven, or whether the store can be reached. Any goroutine may
// call it; it never blocks.
func (h *Heartbeat) Watch() (Lease, <-chan struct{}) {
	v := h.view.Load()
	return v.lease, v.changed
}

// MayStart says that enough of the lease is left to start a run: its end is farther off than the stop
// grace and one store operation. It does no I/O and never blocks. It also says no after the machine
// slept, until the lease has been renewed: watch for a change, then ask again.
func (h *Heartbeat) MayStart() bool {
	v := h.view.Load()
	l := v.lease
	switch {
	case !l.State.holding():
		return false
	case l.Unproven, h.traits.Lock:
		return true
	case h.skew()-v.skew > sleepSign:
		h.wake()
		return false
	}
	return l.Deadline-h.o.Boot() >= h.o.StopGrace+h.budget()
}

// Beat notes that the loop turned. It goes out with the next renewal; a Lock store has none, and
// writes it at once, at most once a second. It never blocks.
func (h *Heartbeat) Beat(p Pulse) {
	h.pulse.Store(&p)
	if h.traits.Lock {
		h.wake()
	}
}

// HandOver ends Run without a release, so that the next image of this process can go on with the
// lease: it waits for the operation under way and renews once more, if the store answers. It blocks until that is
// done or was tried, or ctx ends before it could be (then Run goes on as before), or Run returns.
func (h *Heartbeat) HandOver(ctx context.Context) (Handover, error) {
	q := handoverRequest{ctx.Done(), make(chan handoverReply, 1)}
	select {
	case h.handovers <- q:
	case <-h.done:
		return Handover{}, errEnded
	case <-ctx.Done():
		return Handover{}, fmt.Errorf("the heartbeat was not handed over: %w", context.Cause(ctx))
	}
	r := <-q.reply // the owner answers soon after ctx ends, so that both know whose the lease is
	return r.handover, r.err
}

type handoverRequest struct {
	cancelled <-chan struct{}
	reply     chan handoverReply
}

type handoverReply struct {
	handover Handover
	err      error
}

func (h *Heartbeat) wake() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

// skew grows by the time that the machine sleeps: Go's monotonic clock stops then (golang.org/issue/24595).
func (h *Heartbeat) skew() time.Duration {
	mono := time.Since(h.epoch)
	return h.o.Boot() - mono
}

// budget is the longest that one store operation takes.
func (h *Heartbeat) budget() time.Duration { return 2 * h.o.Timeout }

// validity is how long after sending a write with this ttl its entry can be relied on.
func (h *Heartbeat) validity(ttl time.Duration) time.Duration {
	return ttl - h.traits.Margin - time.Duration(rate*float64(ttl)) - allowance
}

func nonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
