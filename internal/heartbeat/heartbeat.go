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

// Alarm is a timer on the boot clock: it also fires when the machine was suspended at the set time.
type Alarm interface {
	// Set makes C receive once, d from now, and replaces what was set before. A receive that is due
	// already may still happen; it does no harm.
	Set(d time.Duration)
	// C always returns the same channel. One goroutine calls Set and C.
	C() <-chan struct{}
}

// Options are the rules of one lease. They do not change after New.
type Options struct {
	Key  string // key of the lease; the state that outlives a holder is under Key + ".state"
	Self Record // this instance: PID, Host, Job, Started, Interval, Boot, PIDNS, PIDStart, Lock

	TTL       time.Duration // T: ttl of the key; independent of the interval of the loop
	Renew     time.Duration // R: time between two renewals, plus or minus a tenth
	StopGrace time.Duration // K: the command is stopped that long before the deadline
	Timeout   time.Duration // one phase of a store operation: an operation takes at most twice this

	Standby        bool          // wait while another holds it, instead of HeldError and LostError
	Continue       bool          // hold without a reachable store; another's value still ends it
	AcquireTimeout time.Duration // retry limit at the start if unreachable, unless Standby

	// Dead returns true if the owner of a record ran on this host and has provably exited, and its
	// command too. The key is then taken over at once. nil means never. Record.Child may be out of
	// date by up to one Renew. Dead must not block.
	Dead func(Record) bool
	// Boot returns the time since boot, including suspend (CLOCK_BOOTTIME, clock_gettime(2)).
	Boot   func() time.Duration
	Timer  Alarm          // may be nil for a Lock store
	Jitter func() float64 // in [-1,1); nil is none
	// Keep returns what key S keeps for the next holder, as compact JSON, and its version, which grows with
	// each change; see Kept. took is Lease.Took: a value that was made before the last takeover is wrong. ok
	// is false if there is nothing to keep now. nil is never. Keep must not block.
	Keep func(took uint64) (value []byte, version uint64, ok bool)
	// Adopt is the handoff of the old process. If it is nil, or of another process, the lease is
	// claimed anew.
	Adopt *Handoff
}

// Lease is the state of an instance's lease when it was read.
type Lease struct {
	State State
	ID    string // of this instance
	Fence uint64 // fencing token; grows with each change of holder; 0 before the first proof

	// Deadline, on the boot clock, is when the command must be dead; in a state without the lease,
	// when it had to be. 0 is no deadline: a Lock store, or Unproven.
	Deadline time.Duration

	Holder Record    // the other holder, in Standby and Lost
	Since  time.Time // of the last change of State
	Until  time.Time // in Proving: when the proof will be complete, at the earliest

	// Took counts the takeovers: how often the full procedure was completed after another instance may have
	// held the lease. It is 0 while the lease is that of the old process.
	Took uint64
	// Found is what the holder before the last takeover has kept; nil if it has kept nothing.
	Found []byte
	// Kept is the version of Options.Keep that is in the store.
	Kept uint64
	// KeepErr is why the store takes no value of Options.Keep although it renews the lease.
	KeepErr error

	Err error // why the store cannot be reached; nil when it answers
	// Unproven is true if Held rests on Options.Continue alone, and not on the store.
	Unproven bool
}

// Handoff is what the old process passes to the new one in a re-exec. Held is false if there is no
// lease to pass on. The new process then claims anew, under the same ID.
type Handoff struct {
	ID       string        `json:"id"`
	Key      string        `json:"key"`
	PID      int           `json:"pid"`
	Boot     string        `json:"boot"`
	Held     bool          `json:"held"`
	Unproven bool          `json:"unproven"` // Lease.Unproven
	Fence    uint64        `json:"fence"`
	Deadline time.Duration `json:"deadline"` // on the boot clock
	Started  time.Time     `json:"started"`
	Seq      uint64        `json:"seq"`
	Op       string        `json:"op"`                // our write of the state key
	Takes    bool          `json:"takes,omitempty"`   // it was a takeover, and the caller has not called Continued
	Longest  time.Duration `json:"longest,omitempty"` // the longest ttl of another instance
	Claim    Claim         `json:"claim,omitzero"`
}

// Claim is a claim of key L before the lease is held. It begins anew if another value was seen in L.
type Claim struct {
	Ops   []string      `json:"ops"`   // of our unbroken chain of writes to L
	Since time.Duration `json:"since"` // the answer to the first of them, on the boot clock; 0 if there was none
	Acked time.Duration `json:"acked"` // the answer to the last one
}

// Pulse reports a tick of the loop.
type Pulse struct {
	Tick  uint64
	Time  time.Time
	Child int // process group of the running command; 0 when none runs
}

// HeldError reports that another instance already held the lease at the start.
type HeldError struct {
	Key    string
	Holder Record
}

func (e *HeldError) Error() string {
	if e.Holder.Foreign {
		return fmt.Sprintf("lease %s is held by %v; stop it or choose another name", e.Key, e.Holder)
	}
	return fmt.Sprintf("lease %s is held by %v since %s; stop it or choose another name",
		e.Key, e.Holder, e.Holder.Started.Format(time.DateTime))
}

// LostError reports that another instance has taken the lease. Nothing was released.
type LostError struct {
	Key string
	By  Record // zero if no holder could be read
}

func (e *LostError) Error() string {
	if e.By == (Record{}) {
		return fmt.Sprintf("lease %s was lost", e.Key)
	}
	return fmt.Sprintf("lease %s was lost to %v", e.Key, e.By)
}

// UnreachableError reports that the store gave no answer at the start for Options.AcquireTimeout.
type UnreachableError struct {
	Key string
	For time.Duration
	Err error // the last error of the store
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("lease %s: the store did not answer for %v; start it, or correct heartbeat.url: %v",
		e.Key, e.For.Round(time.Millisecond), e.Err)
}

// Unwrap returns the store's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Heartbeat is the claim of one instance to one key. Run does the work; the other methods query it.
type Heartbeat struct {
	o      Options
	store  Store
	traits Traits
	epoch  time.Time // start of the monotonic measurement that the boot clock is compared with

	view     atomic.Pointer[view]  // written by Run's goroutine only
	pulse    atomic.Pointer[Pulse] // the last one
	keeps    atomic.Bool           // Keep was called
	knows    atomic.Uint64         // the last takeover of which Continued was called
	wakeup   chan struct{}         // wakes Run between renewals: after a pulse, a suspend or Keep
	handoffs chan handoffRequest
	done     chan struct{} // closed when Run has returned

	engine engine // accessed by Run's goroutine only
	worker worker // as engine
}

// view is an immutable copy for other goroutines.
type view struct {
	lease   Lease
	skew    time.Duration // boot clock minus monotonic clock at the last acknowledged renewal
	changed chan struct{}
}

// New validates the options and adopts a handoff. It does no I/O. The caller closes the Store,
// after Run has returned.
func New(o Options, s Store) (*Heartbeat, error) {
	h := &Heartbeat{
		o: o, store: s, traits: s.Traits(), epoch: time.Now(),
		wakeup: make(chan struct{}, 1), handoffs: make(chan handoffRequest), done: make(chan struct{}),
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
		h.o.TTL = max(h.o.TTL, time.Second) // any ttl: the entry lasts as long as this process
	}
	w := &h.engine
	w.id, w.since, w.skew = nonce(), time.Now(), h.skew()
	if a := o.Adopt; a != nil && a.PID == o.Self.PID && a.Boot == o.Self.Boot && a.Key == o.Key && a.ID != "" {
		h.o.Self.Started = a.Started
		w.id, w.seq, w.stateOp, w.deadline = a.ID, a.Seq, a.Op, a.Deadline
		w.fence, w.known, w.longest, w.handed, w.takes = a.Fence, a.Fence, a.Longest, a.Claim, a.Takes
		w.touched = true
		switch {
		case a.Unproven && o.Continue:
			w.state, w.held, w.unproven = Held, true, true
		case !a.Held && a.Fence == 0: // it was never held
		case !a.Held, !h.traits.Lock && a.Deadline <= o.Boot():
			w.state, w.held = Out, true
		default:
			w.state, w.held, w.mine, w.due = Held, true, true, true
			h.wake()
		}
	}
	h.keeps.Store(true)
	h.view.Store(&view{changed: make(chan struct{})})
	h.publish()
	return h, nil
}

func (h *Heartbeat) validate() error {
	o := h.o
	switch {
	case o.Key == "":
		return errors.New("the lease has no key; set Options.Key")
	case o.Boot == nil:
		return errors.New("the lease has no boot clock; set Options.Boot")
	case o.Timeout <= 0:
		return fmt.Errorf("heartbeat timeout %v is not positive; 500ms is usual", o.Timeout)
	case h.traits.Lock:
		return nil
	case o.Timer == nil:
		return errors.New("the lease has no timer; set Options.Timer")
	case o.Renew <= 0:
		return fmt.Errorf("heartbeat renewal %v is not positive; a fifth of the ttl is usual", o.Renew)
	case o.StopGrace < 0:
		return fmt.Errorf("heartbeat stop grace %v is negative; 2s is usual", o.StopGrace)
	}
	// Just before a renewal, enough of the lease must be left to start a run. Otherwise a healthy
	// holder could not start some of its runs.
	need := o.Renew + o.Renew/10 + o.StopGrace + h.budget() + serverDelay
	least := time.Duration(float64(need+h.traits.Margin+allowance)/(1-rate)) + 1
	least = max(least, h.traits.MinTTL)
	if g := h.traits.Granularity; g > 0 {
		least = (least + g - 1) / g * g
		if o.TTL >= least && o.TTL%g != 0 {
			return fmt.Errorf("heartbeat ttl %v is not a multiple of %v, which the store requires; use %v",
				o.TTL, g, (o.TTL+g-1)/g*g)
		}
	}
	if o.TTL < least {
		return fmt.Errorf(
			"heartbeat ttl %v is too short for renewal %v, stop grace %v and timeout %v; use at least %v",
			o.TTL, o.Renew, o.StopGrace, o.Timeout, least)
	}
	return nil
}

// Watch returns the current lease, and a channel that is closed when State, Fence, Holder or
// Unproven changes, or whether the store can be reached. A new deadline does not close it. Any
// goroutine may call Watch; it never blocks.
func (h *Heartbeat) Watch() (Lease, <-chan struct{}) {
	v := h.view.Load()
	return v.lease, v.changed
}

// MayStart returns true if enough of the lease is left to start a run: more than the stop grace and
// one store operation. It does no I/O and never blocks. After the machine was suspended it returns
// false until the lease has been renewed: watch for a change, then ask again.
func (h *Heartbeat) MayStart() bool {
	v := h.view.Load()
	l := v.lease
	switch {
	case !l.State.Holding():
		return false
	case l.Unproven, h.traits.Lock:
		return true
	case h.skew()-v.skew > sleepThreshold:
		h.wake()
		return false
	}
	return l.Deadline-h.o.Boot() >= h.o.StopGrace+h.budget()
}

// Beat stores a tick of the loop for the record. The next renewal writes it. A Lock store has no
// renewals: there it is written at once, at most once a second. Beat never blocks.
func (h *Heartbeat) Beat(p Pulse) {
	h.pulse.Store(&p)
	if h.traits.Lock {
		h.wake()
	}
}

// Keep makes Run write what Options.Keep returns, as soon as no other operation is in progress. Keep never
// blocks. Watch for Kept.
func (h *Heartbeat) Keep() {
	h.keeps.Store(true)
	h.wake()
}

// Continued says that the caller has continued from Lease.Found of a takeover. Without it the next process does:
// for it, HandOff gives a takeover of its own.
func (h *Heartbeat) Continued(took uint64) { h.knows.Store(took) }

// HandOff ends Run without a release, so that the new process can continue with the lease. It waits
// for the store operation in progress and attempts one more renewal. It blocks until that is done
// or Run returns. If ctx ends before Run has accepted the request, HandOff returns an error and Run
// continues as before.
func (h *Heartbeat) HandOff(ctx context.Context) (Handoff, error) {
	q := handoffRequest{make(chan handoffReply, 1)}
	select {
	case h.handoffs <- q:
	case <-h.done:
		return Handoff{}, errEnded
	case <-ctx.Done():
		return Handoff{}, fmt.Errorf("the lease was not handed off: %w", context.Cause(ctx))
	}
	r := <-q.reply // not ended by ctx, so that both agree on who has the lease
	return r.handoff, r.err
}

type handoffRequest struct{ reply chan handoffReply }

type handoffReply struct {
	handoff Handoff
	err     error
}

func (h *Heartbeat) wake() {
	select {
	case h.wakeup <- struct{}{}:
	default:
	}
}

// skew returns the boot clock minus the monotonic clock. It grows by the time that the machine is
// suspended: Go's monotonic clock stops then (golang.org/issue/24595).
func (h *Heartbeat) skew() time.Duration {
	mono := time.Since(h.epoch)
	return h.o.Boot() - mono
}

// budget returns the longest time that one store operation takes.
func (h *Heartbeat) budget() time.Duration { return 2 * h.o.Timeout }

// validity returns how long an entry with this ttl can be relied on, counted from the sending of
// its write.
func (h *Heartbeat) validity(ttl time.Duration) time.Duration {
	return ttl - h.traits.Margin - time.Duration(rate*float64(ttl)) - allowance
}

func nonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
