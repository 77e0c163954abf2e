package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	rate           = 0.01                   // tolerated difference in clock rate between machines
	allowance      = 50 * time.Millisecond  // for the time between reading the clock and sending
	retry          = 100 * time.Millisecond // before a retry after an unknown result
	poll           = 500 * time.Millisecond // between two reads of a standby
	sleepThreshold = 100 * time.Millisecond // the clocks differ by more only after a suspend

	// serverDelay is the wait between a read from which a deadline is counted and the write that
	// follows it. A server that was paused serves its queue before it reads the clock again (seen:
	// memcached 1.6.18, within 0.5 ms). So the ttl of a write may count from before the pause. If
	// the write is sent this much later than the answer to the read, the server has set its clock
	// in between.
	serverDelay = 100 * time.Millisecond

	proofExtra  = 200 * time.Millisecond // added to the validity for which a new instance waits
	cleanWait   = 250 * time.Millisecond // how long the proof lasts after a clean release
	restoreWait = 500 * time.Millisecond // added to one renewal in waitForRestore
	recordPause = time.Second            // between two records of a Lock store

	maxFence = 1 << 53 // largest integer of every JSON reader; a higher token was not counted up
)

// The errors of the engine's own that end an operation or a wait.
var (
	errRequest = errors.New("a request is waiting")
	errExpired = errors.New("the deadline has passed")
	errAgain   = errors.New("the key changed meanwhile")
	errEnded   = errors.New("the lease has ended and cannot be handed off")
)

// foreignValueError reports that key S has a value that is never overwritten, such as one of a
// later gophd.
type foreignValueError struct{ key string }

func (e *foreignValueError) Error() string {
	return fmt.Sprintf("lease key %s has a value that gophd did not write; remove it or choose another name",
		e.key)
}

// engine is the state of Run's goroutine. No other goroutine accesses it after New.
type engine struct {
	id string
	leaseState
	storeState

	err  error         // the store's error, while it gives no answer
	skew time.Duration // boot clock minus monotonic clock at the last acknowledged renewal

	stopped   bool
	releasing bool
	request   *handoffRequest
}

// leaseState says what the instance may do, and until when.
type leaseState struct {
	state    State
	since    time.Time
	until    time.Time
	mine     bool // the full procedure is complete, and the deadline has not passed since
	held     bool // a command may have run under this instance
	unproven bool // Held because of Options.Continue, not of the store
	due      bool // renew at once
	deadline time.Duration
}

// storeState is what the instance has read from and written to the store.
type storeState struct {
	fence     uint64
	known     uint64 // the highest fencing token that was read anywhere
	seq       uint64 // number of our writes
	touched   bool   // key L may have a value of ours
	claim     Claim
	handed    Claim         // of the old process, until key L was read; zero if there is none
	stateOp   string        // op of our acknowledged write of key S while L was ours
	deadOwner string        // id of an owner that is provably dead
	longest   time.Duration // the longest ttl in a record of another instance
	keepState
	holder Record
}

// keepState is what the instance knows of the value that key S keeps.
type keepState struct {
	takes      bool   // key S was taken over, and the lease is not held yet
	left       []byte // found there
	took       uint64
	found      []byte
	kept       uint64
	keptAt     time.Duration // when key S was last seen to have it, on the boot clock
	keeping    bool          // a value is being kept
	keepFailed int           // attempts since then
	keepErr    error         // of the last of them, if there were keepAttempts
	restored   string        // op of the last write of key S after the server has forgotten it
}

// Run claims the key, renews it, and claims it again after the lease has expired. It blocks until
// one of these happens:
//
//   - ctx is canceled, or HandOff succeeded. Run returns nil.
//   - Another instance has the key: *HeldError at the start, *LostError later; neither with
//     Options.Standby.
//   - The store gave no answer for Options.AcquireTimeout at the start: *UnreachableError.
//   - The store cannot keep a lease, at the start: ErrUnfit, wrapped.
//
// Cancel ctx only when the command is dead: after the release all others may start at once. Run
// attempts the release for four timeouts. If the store gives no answer for that time, the lease
// expires by itself. Call Run once.
func (h *Heartbeat) Run(ctx context.Context) error {
	w := &h.engine
	defer func() {
		if w.request != nil {
			w.request.reply <- handoffReply{err: errEnded}
		}
		close(h.done)
	}()
	defer h.worker.end()
	h.checkDeadline()
	for {
		var err error
		if w.mine {
			err = h.renewLoop(ctx)
		} else {
			err = h.claim(ctx)
		}
		if errors.Is(err, errRequest) && !w.stopped {
			var done bool
			if done, err = h.serveHandoff(ctx); done {
				return nil
			}
		}
		var lost *LostError
		switch {
		case err == nil:
		case errors.Is(err, errRequest):
			if w.stopped {
				h.release(ctx)
				return nil
			}
		case errors.Is(err, errExpired):
			w.mine = false
		case errors.As(err, &lost) && h.o.Standby:
			_ = h.wait(ctx, poll) // stays in Lost for a moment; claim serves a request that arrives
		default:
			return err
		}
	}
}

// checkDeadline compares what is left of the lease with what is needed, and sets the timer for the
// next change.
func (h *Heartbeat) checkDeadline() {
	w := &h.engine
	if !w.state.Holding() || w.unproven || h.traits.Lock {
		return
	}
	left := w.deadline - h.o.Boot()
	e, after := ample, left-h.o.StopGrace-h.budget()+1
	switch {
	case left <= 0:
		e = expired
	case left <= h.o.StopGrace:
		e, after = late, left
	case left < h.o.StopGrace+h.budget():
		e, after = short, left-h.o.StopGrace
	}
	if h.skew()-w.skew > sleepThreshold { // after a suspend: renew once before a run starts
		w.due = true
		if e == ample {
			e, after = short, left-h.o.StopGrace
		}
	}
	if e != ample && h.o.Continue && w.err != nil { // the store fails; this instance was not late
		w.unproven = true
		h.transition(ample)
		return
	}
	h.transition(e)
	if e != expired {
		h.o.Timer.Set(after)
	}
}

// resetSkew starts a new comparison of the boot clock with the monotonic clock.
func (h *Heartbeat) resetSkew() { h.engine.skew = h.skew() }

func (h *Heartbeat) expired() bool { return h.engine.deadline <= h.o.Boot() }

// answered records whether the store gave an answer. That it takes no value to keep is no outage: the
// renewal that follows shows whether there is one.
func (h *Heartbeat) answered(err error) {
	w := &h.engine
	switch {
	case err == nil, rejected(err):
		w.err = nil
	case w.keeping:
	default:
		w.err = err
	}
	h.publish()
}

// transition is the only place that changes the state.
func (h *Heartbeat) transition(e event) {
	w := &h.engine
	if to := next[w.state][e]; to != w.state {
		w.state, w.since = to, time.Now()
	}
	h.publish()
}

// publish makes the engine's lease visible to other goroutines.
func (h *Heartbeat) publish() {
	w := &h.engine
	l := Lease{State: w.state, ID: w.id, Fence: w.fence, Since: w.since, Err: w.err, Unproven: w.unproven,
		Took: w.took, Found: w.found, Kept: w.kept, KeepErr: w.keepErr}
	switch w.state {
	case Seeking, Standby, Lost:
		l.Holder = w.holder
	case Proving:
		l.Until = w.until
	}
	if w.held && !w.unproven && !h.traits.Lock {
		l.Deadline = w.deadline
	}
	// A renewal only moves the deadline, which closes no channel.
	old := h.view.Load()
	v := &view{lease: l, skew: w.skew, changed: old.changed}
	differs := l.State != old.lease.State || l.Fence != old.lease.Fence || l.Unproven != old.lease.Unproven ||
		l.Holder.ID != old.lease.Holder.ID || (l.Err == nil) != (old.lease.Err == nil) ||
		!l.Until.Equal(old.lease.Until) || l.Took != old.lease.Took || l.Kept != old.lease.Kept ||
		(l.KeepErr == nil) != (old.lease.KeepErr == nil)
	if differs {
		v.changed = make(chan struct{})
	}
	h.view.Store(v)
	if differs {
		close(old.changed)
	}
}

// record returns our next value of key L.
func (h *Heartbeat) record(state string) Record {
	w := &h.engine
	w.seq++
	w.touched = true
	r, now := h.o.Self, time.Now()
	r.V, r.ID, r.Op, r.State, r.Seq, r.Fence = version, w.id, nonce(), state, w.seq, w.fence
	if state == Active {
		r.Fence = w.known
	}
	r.TTL, r.Durable = h.o.TTL.Seconds(), h.traits.FenceDurable
	if h.traits.Lock {
		r.TTL = 0 // the record of a lock does not expire
	}
	r.Renewed, r.Timestamp = now, now.Unix()
	if p := h.pulse.Load(); p != nil {
		r.Tick, r.LastTick, r.Child = p.Tick, p.Time, p.Child
	}
	if !w.mine { // a holder may restore what the server forgot, so its chain may break
		w.claim.Ops = append(w.claim.Ops, r.Op)
	}
	return r
}

func (h *Heartbeat) own(r Record) bool { return !r.Foreign && r.ID == h.engine.id }

// inChain returns true if the entry is one of our chain of writes since the claim: no other
// instance wrote in between.
func (h *Heartbeat) inChain(e Entry) bool {
	r := ParseRecord(e.Value)
	return h.own(r) && slices.Contains(h.engine.claim.Ops, r.Op)
}

// stateSuffix is appended to key L for key S.
const stateSuffix = ".state"

func (h *Heartbeat) stateKey() string { return h.o.Key + stateSuffix }

func (h *Heartbeat) jitter(d time.Duration) time.Duration {
	return d + time.Duration(float64(d)/10*h.o.Jitter())
}

// seconds returns a ttl that another instance wrote, limited to memcached's longest, 30 days.
func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0), 30*24*3600) * float64(time.Second))
}
