package heartbeat

import (
	"context"
	"errors"
	"time"
)

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
