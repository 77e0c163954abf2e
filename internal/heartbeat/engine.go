package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gophd/internal/goroutine"
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
	id       string
	state    State
	since    time.Time
	until    time.Time
	mine     bool // the full procedure was passed, and the deadline not since
	held     bool // a command may have run under this instance
	unproven bool // Options.Continue stands in for the store
	due      bool // renew at once
	deadline time.Duration

	fence   uint64
	known   uint64        // the highest fence that was read anywhere
	seq     uint64        // of our writes
	touched bool          // key L may have a value of ours
	chain   []string      // ops of our unbroken row of writes to L since it was claimed
	stateOp string        // op of our acknowledged write of key S, made while L was ours
	gone    string        // id of an owner that is provably dead
	longest time.Duration // the longest ttl seen with another
	holder  Record

	err  error         // the store's, while it gives no answer
	skew time.Duration // boot clock less monotonic clock at the last acknowledged renewal

	stopped   bool
	releasing bool
	request   *handoverRequest
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

// claim returns nil when the lease is ours.
func (h *Heartbeat) claim(ctx context.Context) error {
	w := &h.owner
	var failing bool // since, on the boot clock; an answer in the midst of an attempt that fails ends nothing
	var since time.Duration
	for {
		pause := retry
		err := h.attempt(ctx)
		var held *HeldError
		var lost *LostError
		var strange *strangeError
		switch {
		case err == nil, errors.Is(err, errOrder), errors.As(err, &held), errors.As(err, &lost), errors.As(err, &strange):
			return err
		case errors.Is(err, ErrUnfit) && !w.held: // who had it goes on as in an outage, which it may be the end of
			return err
		case errors.Is(err, errAgain):
			failing = false
			h.transition(missed)
		default:
			h.transition(missed)
			if !failing {
				failing, since = true, h.o.Boot()
			}
			silence := h.o.Boot() - since
			if silence > h.o.TTL {
				pause = h.jitter(poll) // it is not about a lease any more: spare the store
			}
			if h.o.Wait || w.held || silence < h.o.AcquireTimeout {
				break
			}
			if !h.o.Continue {
				return &UnreachableError{h.o.Key, silence, err}
			}
			// The command may run from now on; the procedure goes on behind it, for another may be heard yet.
			w.held, w.unproven = true, true
			h.transition(won)
		}
		if err := h.rest(ctx, pause); err != nil {
			return err
		}
	}
}

// attempt goes once through the full procedure: check, claim, proof, fence, confirmation.
func (h *Heartbeat) attempt(ctx context.Context) error {
	w := &h.owner
	if err := h.seize(ctx); err != nil {
		return err
	}
	acked := h.o.Boot()

	// S is read after L was claimed: whoever writes S later must have held L later.
	entry, err := h.get(ctx, h.stateKey())
	absent := errors.Is(err, ErrAbsent)
	if err != nil && !absent {
		return err
	}
	m, err := h.remember(entry, absent)
	if err != nil {
		return err
	}
	if wait := h.proof(m); wait > 0 {
		w.until = time.Now().Add(acked + wait - h.o.Boot())
		h.transition(claimed)
		if err := h.hold(ctx, acked+wait); err != nil {
			return err
		}
	}
	// If S was written since it was read, another has passed the proof: takeFence fails, and the proof is void.
	if err := h.takeFence(ctx, entry, m, absent); err != nil {
		return err
	}

	sent := h.o.Boot()
	if entry, err = h.get(ctx, h.o.Key); err != nil {
		return again(err)
	}
	if !h.unbroken(entry) { // the fence is wasted, which does no harm
		return errAgain
	}
	if err := h.settle(ctx); err != nil {
		return err
	}
	if err := h.swap(ctx, entry, Active); err != nil {
		return again(err)
	}
	return h.win(sent)
}

// win takes the lease, whose confirming read was sent at that time.
func (h *Heartbeat) win(sent time.Duration) error {
	w := &h.owner
	if !h.traits.Lock {
		w.deadline = sent + h.validity(h.o.TTL)
		if h.expired() { // we were frozen meanwhile
			return errAgain
		}
	}
	w.mine, w.held, w.unproven, w.holder, w.fence = true, true, false, Record{}, w.known
	h.rebase()
	h.transition(won)
	h.clock()
	return nil
}

// seize makes key L ours, for the time being. A standby waits in it.
func (h *Heartbeat) seize(ctx context.Context) error {
	w := &h.owner
	for {
		entry, err := h.get(ctx, h.o.Key)
		absent := errors.Is(err, ErrAbsent)
		if err != nil && !absent {
			return err
		}
		r := ParseRecord(entry.Value)
		switch {
		case absent:
			if err := h.yield(ctx); err != nil {
				return err
			}
			w.chain = nil
			return again(h.add(ctx, Pending))
		case h.own(r), !r.Foreign && h.o.Dead(r):
			if !h.own(r) {
				w.gone = r.ID
			}
			// Our own value may be the work of a write that timed out, long ago: it counts from now on only.
			w.chain = nil
			return again(h.swap(ctx, entry, Pending))
		case !h.o.Wait && !w.held:
			w.holder = r
			h.publish()
			return &HeldError{h.o.Key, r}
		}
		if err := h.lose(r); !h.o.Wait {
			return err
		}
		if err := h.rest(ctx, h.jitter(poll)); err != nil {
			return err
		}
	}
}

// lose notes that the key has another's value.
func (h *Heartbeat) lose(r Record) error {
	w := &h.owner
	w.unproven, w.mine, w.touched, w.holder = false, false, false, r
	if r.Fence <= maxFence {
		w.known = max(w.known, r.Fence)
	}
	w.longest = max(w.longest, seconds(r.TTL))
	h.transition(heard)
	return &LostError{h.o.Key, r}
}

// yield gives a holder whose server forgot the key the time to put it back before we take it.
func (h *Heartbeat) yield(ctx context.Context) error {
	if h.traits.Lock {
		return nil
	}
	entry, err := h.get(ctx, h.stateKey())
	absent := errors.Is(err, ErrAbsent)
	if err != nil && !absent {
		return err
	}
	m, err := h.remember(entry, absent)
	if err != nil {
		return err
	}
	if m.Clean || h.vouched(m) {
		return nil
	}
	h.transition(missed)
	if err := h.rest(ctx, h.o.Renew+courtesy); err != nil {
		return err
	}
	switch _, err := h.get(ctx, h.o.Key); {
	case err == nil:
		return errAgain
	case errors.Is(err, ErrAbsent):
		return nil
	default:
		return err
	}
}

// remember reads the value of key S, and keeps of it what only grows.
func (h *Heartbeat) remember(entry Entry, absent bool) (memory, error) {
	w := &h.owner
	if absent {
		return memory{}, nil
	}
	m, ok := parseMemory(entry.Value)
	if !ok {
		return m, &strangeError{h.stateKey()}
	}
	w.known = max(w.known, m.Fence)
	w.longest = max(w.longest, seconds(m.TTL))
	return m, nil
}

// remembered says that nobody passed the proof since we did. The id alone would not do: a write of
// ours that timed out could appear when the server has forgotten a later owner's.
func (h *Heartbeat) remembered(m memory) bool {
	return m.Op != "" && m.Op == h.owner.stateOp && m.Owner == h.owner.id
}

// vouched says that nobody can have passed the proof since one who is surely out: we, or a dead owner.
func (h *Heartbeat) vouched(m memory) bool {
	return h.remembered(m) || m.Owner != "" && m.Owner == h.owner.gone
}

// proof is how long the key must be held, from the answer to the claim, until nobody else can have a
// lease: whoever had one cannot renew it meanwhile.
func (h *Heartbeat) proof(m memory) time.Duration {
	switch {
	case h.traits.Lock, h.vouched(m):
		return 0
	case m.Clean:
		return cleanWait
	}
	return h.validity(max(h.o.TTL, h.owner.longest)) + strictExtra
}

// hold renews the claimed key until the boot clock shows until. It returns nil only when the key was
// ours without a break, up to an acknowledged write after until.
func (h *Heartbeat) hold(ctx context.Context, until time.Duration) error {
	acked := h.o.Boot()
	pause := min(h.o.Renew, until-acked)
	for {
		if err := h.rest(ctx, max(pause, 0)); err != nil {
			return err
		}
		entry, err := h.get(ctx, h.o.Key)
		if err == nil {
			if !h.unbroken(entry) {
				return errAgain
			}
			err = h.swap(ctx, entry, Pending)
		}
		now := h.o.Boot()
		switch {
		case err == nil && now >= until:
			return nil
		case err == nil:
			acked, pause = now, min(h.o.Renew, until-now)
		case refused(err):
			return errAgain
		case errors.Is(err, errOrder), now >= acked+h.o.TTL: // by now the key is gone
			return err
		default:
			pause = retry
		}
	}
}

// takeFence writes key S as its new owner. The key L is ours while that happens, so that the order of
// fences is the order of holders.
func (h *Heartbeat) takeFence(ctx context.Context, entry Entry, m memory, absent bool) error {
	w := &h.owner
	fence := max(w.known, m.Fence) + 1
	if absent && !h.traits.FenceDurable {
		// The store forgot the last fence. The time in milliseconds is beyond every fence that was
		// counted up from an earlier such time, unless the wall clock went back.
		fence = max(fence, uint64(max(time.Now().UnixMilli(), 0)))
	}
	op := nonce()
	value := encode(memory{V: version, Fence: fence, Owner: w.id, Op: op, TTL: h.o.TTL.Seconds(), Slots: 1})
	err := h.do(ctx, func(ctx context.Context) error {
		if absent {
			return h.store.Add(ctx, h.stateKey(), value, 0)
		}
		return h.store.Swap(ctx, h.stateKey(), entry, value, 0)
	})
	if err != nil && !refused(err) && !errors.Is(err, errOrder) { // unknown: was it done?
		entry, err = h.get(ctx, h.stateKey())
		if err == nil {
			if m, ok := parseMemory(entry.Value); !ok || m.Op != op {
				err = errAgain
			}
		}
	}
	if err != nil {
		return again(err)
	}
	w.known, w.stateOp = fence, op
	return nil
}

// keep renews until the lease is over, or an order comes.
func (h *Heartbeat) keep(ctx context.Context) error {
	w := &h.owner
	if h.traits.Lock {
		return h.show(ctx)
	}
	pause, failed := h.jitter(h.o.Renew), false
	for {
		if w.due && !failed { // a store that refuses at once is not to be asked without a pause
			pause = 0
		}
		if err := h.nap(ctx, pause, h.poke); err != nil {
			return err
		}
		var lost *LostError
		switch err := h.renew(ctx); {
		case err == nil:
			pause, w.due, failed = h.jitter(h.o.Renew), false, false
		case errors.Is(err, errOrder), errors.Is(err, errOut), errors.As(err, &lost):
			return err
		default:
			pause, failed = retry, true
		}
	}
}

// renew makes one round. nil: acknowledged in time. An error that is none of errOrder, errOut and
// *LostError is unknown, and the round may be repeated.
func (h *Heartbeat) renew(ctx context.Context) error {
	for !h.expired() {
		sent := h.o.Boot()
		entry, err := h.get(ctx, h.o.Key)
		absent := errors.Is(err, ErrAbsent)
		if err != nil && !absent {
			return err
		}
		if r := ParseRecord(entry.Value); !absent && !h.own(r) {
			return h.lose(r)
		}
		if err := h.settle(ctx); err != nil {
			return err
		}
		if h.expired() {
			break
		}
		if absent {
			err = h.add(ctx, Active)
		} else {
			err = h.swap(ctx, entry, Active)
		}
		switch {
		case err == nil && h.expired(): // the answer came too late: the loop ends
		case err == nil:
			h.owner.deadline, h.owner.unproven = sent+h.validity(h.o.TTL), false
			h.rebase()
			h.clock()
			return nil
		case refused(err): // by another, or by a write of ours that had timed out: see who
		default:
			return err
		}
	}
	return errOut
}

// show is keep for a Lock store: it writes the record when the loop turned, and sleeps otherwise.
func (h *Heartbeat) show(ctx context.Context) error {
	for {
		if err := h.await(ctx, nil, nil, h.poke); err != nil {
			return err
		}
		entry, err := h.get(ctx, h.o.Key)
		if err == nil {
			if r := ParseRecord(entry.Value); !h.own(r) {
				return h.lose(r)
			}
			err = h.swap(ctx, entry, Active)
		}
		switch {
		case refused(err):
			return h.lose(Record{})
		case errors.Is(err, errOrder):
			return err
		}
		// A record that could not be written is old, no more: the lock is what counts.
		if err := h.rest(ctx, beatPause); err != nil {
			return err
		}
	}
}

// pass serves a request for a hand-over. true: Run must end, for the lease is another image's.
func (h *Heartbeat) pass(ctx context.Context) (bool, error) {
	w := &h.owner
	q := *w.request
	w.request = nil
	if w.state == Held && w.mine && !w.unproven && !h.traits.Lock {
		err := h.renew(ctx)
		var lost *LostError
		if errors.Is(err, errOrder) || errors.Is(err, errOut) || errors.As(err, &lost) {
			q.reply <- handoverReply{err: fmt.Errorf("the heartbeat was not handed over: %w", err)}
			return false, err
		}
		// Without an answer the next image goes on with what is left of the lease: one that gave it up, with a command
		// under way, would know no deadline.
	}
	q.reply <- handoverReply{handover: Handover{
		ID: w.id, Key: h.o.Key, PID: h.o.Self.PID, Boot: h.o.Self.Boot, Held: w.mine && !w.unproven, Unproven: w.unproven, Fence: w.fence,
		Deadline: w.deadline, Started: h.o.Self.Started, Seq: w.seq, Op: w.stateOp,
	}}
	return true, nil
}

// release gives the key back: first the word that our command has ended, then the key itself. Neither
// is touched unless it is ours.
func (h *Heartbeat) release(ctx context.Context) {
	w := &h.owner
	w.releasing = true // no order is taken any more
	end := h.o.Boot() + 2*h.budget()
	if w.touched && w.stateOp != "" {
		h.insist(ctx, end, func() error {
			entry, err := h.get(ctx, h.stateKey())
			if err != nil {
				return err
			}
			m, _ := parseMemory(entry.Value)
			if !h.remembered(m) {
				return nil // it speaks of another's command
			}
			m.Clean = true
			return h.do(ctx, func(ctx context.Context) error {
				return h.store.Swap(ctx, h.stateKey(), entry, encode(m), 0)
			})
		})
	}
	if w.touched {
		h.insist(ctx, end, func() error {
			entry, err := h.get(ctx, h.o.Key)
			if err != nil {
				return err
			}
			if !h.own(ParseRecord(entry.Value)) {
				return nil
			}
			return h.do(ctx, func(ctx context.Context) error { return h.store.Expire(ctx, h.o.Key, entry) })
		})
	}
	h.transition(released)
}

// insist repeats f until it is done or there is nothing to do it to, at most until end.
func (h *Heartbeat) insist(ctx context.Context, end time.Duration, f func() error) {
	for {
		if err := f(); err == nil || errors.Is(err, ErrAbsent) || h.o.Boot() >= end {
			return
		}
		_ = h.rest(ctx, retry) // no order can come any more
	}
}

// The operations of the store, by do.

func (h *Heartbeat) get(ctx context.Context, key string) (e Entry, err error) {
	err = h.do(ctx, func(ctx context.Context) (err error) {
		e, err = h.store.Get(ctx, key)
		return err
	})
	return e, err
}

func (h *Heartbeat) add(ctx context.Context, state string) error {
	r := h.record(state)
	return h.do(ctx, func(ctx context.Context) error {
		return h.store.Add(ctx, h.o.Key, encode(r), h.o.TTL)
	})
}

func (h *Heartbeat) swap(ctx context.Context, old Entry, state string) error {
	r := h.record(state)
	return h.do(ctx, func(ctx context.Context) error {
		return h.store.Swap(ctx, h.o.Key, old, encode(r), h.o.TTL)
	})
}

// do has one operation done, and serves the deadline and takes orders meanwhile. An order ends no
// operation; it keeps the next one from being begun (errOrder).
func (h *Heartbeat) do(ctx context.Context, op func(context.Context) error) error {
	if h.ordered() {
		return errOrder
	}
	var g goroutine.Group
	answer := make(chan struct{})
	var err error
	g.Go(func() {
		defer close(answer) // after a panic too, which Wait will throw here
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.budget())
		defer cancel()
		err = op(ctx)
	})
	_ = h.await(ctx, nil, answer, nil)
	g.Wait()
	h.answered(err)
	h.clock()
	return err
}

// rest waits for d. errOrder when an order came first.
func (h *Heartbeat) rest(ctx context.Context, d time.Duration) error {
	return h.nap(ctx, d, nil)
}

// nap is rest, but for a poke.
func (h *Heartbeat) nap(ctx context.Context, d time.Duration, poke <-chan struct{}) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	return h.await(ctx, t.C, nil, poke)
}

func (h *Heartbeat) settle(ctx context.Context) error {
	if h.traits.Lock {
		return nil
	}
	return h.rest(ctx, settle)
}

// await is the one select: it serves the deadline and notes orders until what is waited for happens.
// Without an answer to wait for, an order ends it (errOrder), and so does the deadline (nil).
func (h *Heartbeat) await(ctx context.Context, until <-chan time.Time, answer, poke <-chan struct{}) error {
	w := &h.owner
	var ring <-chan struct{}
	if !h.traits.Lock {
		ring = h.o.Alarm.C()
	}
	for {
		if answer == nil && h.ordered() {
			return errOrder
		}
		stop, asks := ctx.Done(), h.handovers
		if w.stopped || w.releasing {
			stop = nil
		}
		if w.stopped || w.releasing || w.request != nil {
			asks = nil
		}
		select {
		case <-answer:
			return nil
		case <-until:
			return nil
		case <-poke:
			return nil
		case <-ring:
			before := w.state
			h.clock()
			if out := w.state == Out && before != Out; answer == nil && (out || poke != nil && w.due) {
				return nil
			}
		case <-stop:
			w.stopped = true
		case q := <-asks:
			w.request = &q
		}
	}
}

func (h *Heartbeat) ordered() bool {
	w := &h.owner
	return !w.releasing && (w.stopped || w.request != nil)
}

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

// refused says that the store answered and did nothing. Every other error is unknown.
func refused(err error) bool {
	return errors.Is(err, ErrAbsent) || errors.Is(err, ErrExists) || errors.Is(err, ErrChanged)
}

// again makes a refusal a reason to look at the key again.
func again(err error) error {
	if refused(err) {
		return errAgain
	}
	return err
}

// seconds reads a ttl that another wrote; one that is beyond reason is cut to memcached's longest.
func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0), 30*24*3600) * float64(time.Second))
}
