package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	rate      = 0.01                   // the difference in clock rate between two machines that is borne
	allowance = 50 * time.Millisecond  // for what lies between reading the clock and sending
	retry     = 100 * time.Millisecond // after an unknown answer
	poll      = 500 * time.Millisecond // of a standby
	sleepSign = 100 * time.Millisecond // the clocks part by more than this only when the machine slept

	// settle lies between the read from which a deadline is counted and the write that it is for. A
	// server that was paused serves its queue before it looks at the clock again (seen: memcached
	// 1.6.18, within 0.5 ms), so a write may be given a life that began before the pause. When the
	// write comes this much later than the answer to the read, the clock was set in between.
	settle = 100 * time.Millisecond

	strictExtra = 200 * time.Millisecond // added to the validity that a newcomer waits out
	cleanWait   = 250 * time.Millisecond // how long the key is held after a clean release
	courtesy    = 500 * time.Millisecond // beyond one renewal: a holder's time to put back a key that a server forgot
	beatPause   = time.Second            // between two records of a Lock store

	maxFence = 1 << 53 // every reader of JSON has integers up to here; what is above was not counted up
)

// What ends a step of the engine beside the errors of the store.
var (
	errOrder = errors.New("an order waits")
	errOut   = errors.New("the deadline has passed")
	errAgain = errors.New("the key changed meanwhile")
	errEnded = errors.New("the heartbeat has ended and cannot be handed over")
)

// strangeError says that key S has a value that is never overwritten, such as a later gophd's.
type strangeError struct{ key string }

func (e *strangeError) Error() string {
	return fmt.Sprintf("heartbeat key %s has a value that this gophd did not write; remove it or choose another name", e.key)
}

// owner is what Run's goroutine knows. Nobody else touches it after New.
type owner struct {
	id string
	standing
	knowledge

	err  error         // the store's, while it gives no answer
	skew time.Duration // boot clock less monotonic clock at the last acknowledged renewal

	stopped   bool
	releasing bool
	request   *handoverRequest
}

// standing is what the instance may do, and until when.
type standing struct {
	state    State
	since    time.Time
	until    time.Time
	mine     bool // the full procedure was passed, and the deadline not since
	held     bool // a command may have run under this instance
	unproven bool // Options.Continue stands in for the store
	due      bool // renew at once
	deadline time.Duration
}

// knowledge is what the instance knows of the store.
type knowledge struct {
	fence   uint64
	known   uint64        // the highest fence that was read anywhere
	seq     uint64        // of our writes
	touched bool          // key L may have a value of ours
	chain   []string      // ops of our unbroken row of writes to L since it was claimed
	stateOp string        // op of our acknowledged write of key S, made while L was ours
	gone    string        // id of an owner that is provably dead
	longest time.Duration // the longest ttl seen with another
	holder  Record
}

// Run claims the key, renews it, and claims it again when it was out. It blocks until ctx is cancelled
// or HandOver succeeded (nil), or until another has the key (*HeldError at the start, *LostError
// later; never with Options.Wait), or until the store was silent for Options.AcquireTimeout at the
// start (*UnreachableError), or is unfit then (ErrUnfit, wrapped). Cancel ctx only when the command is dead: the release tells all others
// that they may start at once. It is tried for four timeouts; if the store is silent as long, the
// lease runs out by itself. Call Run once.
func (h *Heartbeat) Run(ctx context.Context) error {
	w := &h.owner
	defer func() {
		if w.request != nil {
			w.request.reply <- handoverReply{err: errEnded}
		}
		close(h.done)
	}()
	h.clock()
	for {
		var err error
		if w.mine {
			err = h.keep(ctx)
		} else {
			err = h.claim(ctx)
		}
		if errors.Is(err, errOrder) && !w.stopped {
			var passed bool
			if passed, err = h.pass(ctx); passed {
				return nil
			}
		}
		var lost *LostError
		switch {
		case err == nil:
		case errors.Is(err, errOrder):
			if w.stopped {
				h.release(ctx)
				return nil
			}
		case errors.Is(err, errOut):
			w.mine = false
		case errors.As(err, &lost) && h.o.Wait:
			_ = h.rest(ctx, poll) // shows Lost for a moment; an order that comes is served by claim
		default:
			return err
		}
	}
}

// The operations of the store, by do.

// clock compares what is left of the lease with what is needed, and sets the alarm for the next change.
func (h *Heartbeat) clock() {
	w := &h.owner
	if !w.state.holding() || w.unproven || h.traits.Lock {
		return
	}
	left := w.deadline - h.o.Boot()
	e, ring := ample, left-h.o.StopGrace-h.budget()+1
	switch {
	case left <= 0:
		e = passed
	case left <= h.o.StopGrace:
		e, ring = late, left
	case left < h.o.StopGrace+h.budget():
		e, ring = short, left-h.o.StopGrace
	}
	if h.skew()-w.skew > sleepSign { // the machine slept: renew once before anything starts
		w.due = true
		if e == ample {
			e, ring = short, left-h.o.StopGrace
		}
	}
	if e != ample && h.o.Continue && w.err != nil { // it is the store that fails, not we who were late
		w.unproven = true
		h.transition(ample)
		return
	}
	h.transition(e)
	if e != passed {
		h.o.Alarm.Set(ring)
	}
}

// rebase starts a new comparison of the boot clock with the monotonic one.
func (h *Heartbeat) rebase() { h.owner.skew = h.skew() }

func (h *Heartbeat) expired() bool { return h.owner.deadline <= h.o.Boot() }

// answered notes whether the store gave an answer.
func (h *Heartbeat) answered(err error) {
	w := &h.owner
	switch {
	case err == nil, refused(err):
		w.err = nil
	default:
		w.err = err
	}
	h.publish()
}

// transition is the only place that changes the state.
func (h *Heartbeat) transition(e event) {
	w := &h.owner
	if to := next[w.state][e]; to != w.state {
		w.state, w.since = to, time.Now()
	}
	h.publish()
}

// publish shows the owner's lease to the others.
func (h *Heartbeat) publish() {
	w := &h.owner
	l := Lease{State: w.state, ID: w.id, Fence: w.fence, Since: w.since, Err: w.err, Unproven: w.unproven}
	switch w.state {
	case Seeking, Standby, Lost:
		l.Holder = w.holder
	case Proving:
		l.Until = w.until
	}
	if w.held && !w.unproven && !h.traits.Lock {
		l.Deadline = w.deadline
	}
	// A renewal moves the deadline only, and wakes nobody.
	old := h.view.Load()
	v := &view{lease: l, skew: w.skew, changed: old.changed}
	differs := l.State != old.lease.State || l.Fence != old.lease.Fence || l.Unproven != old.lease.Unproven ||
		l.Holder.ID != old.lease.Holder.ID || (l.Err == nil) != (old.lease.Err == nil) || !l.Until.Equal(old.lease.Until)
	if differs {
		v.changed = make(chan struct{})
	}
	h.view.Store(v)
	if differs {
		close(old.changed)
	}
}

// record is our next value of key L.
func (h *Heartbeat) record(state string) Record {
	w := &h.owner
	w.seq++
	w.touched = true
	r, now := h.o.Self, time.Now()
	r.V, r.ID, r.Op, r.State, r.Seq, r.Fence = version, w.id, nonce(), state, w.seq, w.fence
	if state == Active {
		r.Fence = w.known
	}
	r.Slot, r.Slots, r.TTL, r.Durable = 0, 1, h.o.TTL.Seconds(), h.traits.FenceDurable
	if h.traits.Lock {
		r.TTL = 0 // nothing that a reader could wait for
	}
	r.Renewed, r.Timestamp = now, now.Unix()
	if p := h.pulse.Load(); p != nil {
		r.Tick, r.LastTick, r.Child = p.Tick, p.Time, p.Child
	}
	if !w.mine { // a holder may put back what the server forgot, so its row may break
		w.chain = append(w.chain, r.Op)
	}
	return r
}

func (h *Heartbeat) own(r Record) bool { return !r.Foreign && r.ID == h.owner.id }

// unbroken says that the entry is of our row of writes since the claim: nobody else was between.
func (h *Heartbeat) unbroken(e Entry) bool {
	r := ParseRecord(e.Value)
	return h.own(r) && slices.Contains(h.owner.chain, r.Op)
}

// stateSuffix makes key S of key L.
const stateSuffix = ".state"

func (h *Heartbeat) stateKey() string { return h.o.Key + stateSuffix }

func (h *Heartbeat) jitter(d time.Duration) time.Duration {
	return d + time.Duration(float64(d)/10*h.o.Jitter())
}

// seconds reads a ttl that another wrote; one that is beyond reason is cut to memcached's longest.
func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0), 30*24*3600) * float64(time.Second))
}
