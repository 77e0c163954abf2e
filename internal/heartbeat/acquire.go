package heartbeat

import (
	"context"
	"errors"
	"slices"
	"time"
)

// claim repeats the full procedure until the lease is ours (nil), or an error ends it.
func (h *Heartbeat) claim(ctx context.Context) error {
	w := &h.engine
	// since is the boot time of the first failed attempt, and failing is true from then on. An
	// answer during an attempt that fails later does not reset it.
	var failing bool
	var since time.Duration
	for {
		pause := retry
		err := h.attempt(ctx)
		var held *HeldError
		var lost *LostError
		var foreign *foreignValueError
		switch {
		case err == nil, errors.Is(err, errRequest),
			errors.As(err, &held), errors.As(err, &lost), errors.As(err, &foreign):
			return err
		case errors.Is(err, ErrUnfit) && !w.held: // a former holder retries, as in an outage
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
				pause = h.jitter(poll) // the lease has expired: reduce the load on the store
			}
			if h.o.Standby || w.held || silence < h.o.AcquireTimeout {
				break
			}
			if !h.o.Continue {
				return &UnreachableError{h.o.Key, silence, err}
			}
			// The command may run from now on. The procedure continues, because another instance
			// may still have the key.
			w.held, w.unproven = true, true
			h.transition(acquired)
		}
		if err := h.wait(ctx, pause); err != nil {
			return err
		}
	}
}

// attempt runs the full procedure once: check, claim, proof, fencing token, confirmation.
func (h *Heartbeat) attempt(ctx context.Context) error {
	w := &h.engine
	if err := h.claimKey(ctx); err != nil {
		return err
	}
	w.claim.Acked = h.o.Boot()
	if w.claim.Since == 0 {
		w.claim.Since = w.claim.Acked
	}

	// S is read after L was claimed: an instance that writes S later must have held L later.
	entry, err := h.get(ctx, h.stateKey())
	absent := errors.Is(err, ErrAbsent)
	if err != nil && !absent {
		return err
	}
	m, err := h.noteState(entry, absent)
	if err != nil {
		return err
	}
	if wait := h.proof(m); wait > 0 {
		until := w.claim.Since + wait
		w.until = time.Now().Add(until - h.o.Boot())
		h.transition(claimed)
		if err := h.hold(ctx, until); err != nil {
			return err
		}
	}
	// If S was written since it was read, another instance has completed the proof. Then takeFence
	// fails, and this proof is void.
	if err := h.takeFence(ctx, entry, m, absent); err != nil {
		return err
	}

	sent := h.o.Boot()
	if entry, err = h.get(ctx, h.o.Key); err != nil {
		return again(err)
	}
	if !h.inChain(entry) { // the fencing token stays unused, which does no harm
		return errAgain
	}
	if err := h.waitServerDelay(ctx); err != nil {
		return err
	}
	if err := h.swap(ctx, entry, Active); err != nil {
		return again(err)
	}
	return h.setHeld(sent)
}

// setHeld marks the lease as ours. sent is the time at which the confirming read was sent.
func (h *Heartbeat) setHeld(sent time.Duration) error {
	w := &h.engine
	if !h.traits.Lock {
		w.deadline = sent + h.validity(h.o.TTL)
		if h.expired() { // this process was frozen meanwhile
			return errAgain
		}
	}
	w.mine, w.held, w.unproven, w.holder, w.fence = true, true, false, Record{}, w.known
	if w.takes {
		w.keepState, w.takes = keepState{took: w.took + 1, found: w.left}, false
	}
	h.resetSkew()
	h.transition(acquired)
	h.checkDeadline()
	return nil
}

// claimKey claims key L, as Pending. A standby waits in it.
func (h *Heartbeat) claimKey(ctx context.Context) error {
	w := &h.engine
	for {
		entry, err := h.get(ctx, h.o.Key)
		absent := errors.Is(err, ErrAbsent)
		if err != nil && !absent {
			return err
		}
		r := ParseRecord(entry.Value)
		handed := w.handed
		w.handed = Claim{}
		switch {
		case absent:
			if err := h.waitForRestore(ctx); err != nil {
				return err
			}
			w.claim = Claim{}
			return again(h.add(ctx, Pending))
		case h.own(r), !r.Foreign && h.o.Dead(r):
			if !h.own(r) {
				w.deadOwner = r.ID
			}
			// Our own value may come from a write that timed out long ago: the claim starts here. But
			// if the old process wrote it in a claim that has not expired, that claim continues.
			w.claim = Claim{}
			if h.own(r) && slices.Contains(handed.Ops, r.Op) && h.o.Boot() < handed.Acked+h.o.TTL {
				w.claim = handed
			}
			return again(h.swap(ctx, entry, Pending))
		case !h.o.Standby && !w.held:
			w.holder = r
			h.publish()
			return &HeldError{h.o.Key, r}
		}
		if err := h.lose(r); !h.o.Standby {
			return err
		}
		if err := h.wait(ctx, h.jitter(poll)); err != nil {
			return err
		}
	}
}

// lose records that the key has another's value.
func (h *Heartbeat) lose(r Record) error {
	w := &h.engine
	w.unproven, w.mine, w.touched, w.holder = false, false, false, r
	if r.Fence <= maxFence {
		w.known = max(w.known, r.Fence)
	}
	w.longest = max(w.longest, seconds(r.TTL))
	h.transition(taken)
	return &LostError{h.o.Key, r}
}

// waitForRestore waits before an absent key is claimed, so that a holder can restore it if the
// server forgot it.
func (h *Heartbeat) waitForRestore(ctx context.Context) error {
	if h.traits.Lock {
		return nil
	}
	entry, err := h.get(ctx, h.stateKey())
	absent := errors.Is(err, ErrAbsent)
	if err != nil && !absent {
		return err
	}
	m, err := h.noteState(entry, absent)
	if err != nil {
		return err
	}
	if m.Clean || h.lastHolderIsOut(m) {
		return nil
	}
	h.transition(missed)
	if err := h.wait(ctx, h.o.Renew+restoreWait); err != nil {
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

// noteState parses the value of key S, and records the highest fencing token and the longest ttl.
func (h *Heartbeat) noteState(entry Entry, absent bool) (stateRecord, error) {
	w := &h.engine
	switch {
	case absent:
		return stateRecord{}, nil
	case wasLost(entry.Value):
		w.known = max(w.known, timeFence())
		return stateRecord{}, nil
	}
	m, ok := parseStateRecord(entry.Value)
	if !ok {
		return m, &foreignValueError{h.stateKey()}
	}
	w.known = max(w.known, m.Fence)
	w.longest = max(w.longest, seconds(m.TTL))
	return m, nil
}

// timeFence returns a fencing token for a store that forgot the last one: the time in milliseconds.
// It is higher than every token that was counted up from 1 or from an earlier such time, unless the
// wall clock was set back.
func timeFence() uint64 { return uint64(max(time.Now().UnixMilli(), 0)) }

// lastHolderWasUs returns true if nobody completed the proof since this instance did. The id alone
// does not show that: an old write of ours that timed out may appear after the server has forgotten
// the write of a later owner.
func (h *Heartbeat) lastHolderWasUs(m stateRecord) bool {
	return m.Op != "" && m.Op == h.engine.stateOp && m.Owner == h.engine.id
}

// lastHolderIsOut returns true if the last instance that completed the proof is this one or a dead
// owner, so that no other can hold the lease.
func (h *Heartbeat) lastHolderIsOut(m stateRecord) bool {
	return h.lastHolderWasUs(m) || m.Owner != "" && m.Owner == h.engine.deadOwner
}

// proof returns how long the key must be held, from the answer to the claim, until no other
// instance can hold the lease: a former holder cannot renew meanwhile.
func (h *Heartbeat) proof(m stateRecord) time.Duration {
	switch {
	case h.traits.Lock, h.lastHolderIsOut(m):
		return 0
	case m.Clean:
		return cleanWait
	}
	return h.validity(max(h.o.TTL, h.engine.longest)) + proofExtra
}

// hold renews the claimed key until the boot clock reaches until. It returns nil only if the key
// was ours without a break, up to an acknowledged write after until.
func (h *Heartbeat) hold(ctx context.Context, until time.Duration) error {
	w := &h.engine
	pause := min(h.o.Renew, until-w.claim.Acked)
	for {
		if err := h.wait(ctx, max(pause, 0)); err != nil {
			return err
		}
		entry, err := h.get(ctx, h.o.Key)
		if err == nil {
			if !h.inChain(entry) {
				return errAgain
			}
			err = h.swap(ctx, entry, Pending)
		}
		now := h.o.Boot()
		switch {
		case err == nil && now >= until:
			return nil
		case err == nil:
			w.claim.Acked, pause = now, min(h.o.Renew, until-now)
		case rejected(err):
			return errAgain
		case errors.Is(err, errRequest), now >= w.claim.Acked+h.o.TTL: // the key has expired by now
			return err
		default:
			pause = retry
		}
	}
}

// takeFence writes the next fencing token into key S, with this instance as the owner. Key L is
// ours meanwhile, so the order of fencing tokens is the order of holders.
func (h *Heartbeat) takeFence(ctx context.Context, entry Entry, m stateRecord, absent bool) error {
	w := &h.engine
	fence := max(w.known, m.Fence) + 1
	if absent && !h.traits.FenceDurable {
		fence = max(fence, timeFence())
	}
	op := nonce()
	takes := !h.lastHolderWasUs(m)
	value := encode(stateRecord{V: version, Fence: fence, Owner: w.id, Op: op, TTL: h.o.TTL.Seconds(), Kept: m.Kept})
	err := h.do(ctx, func(ctx context.Context) error {
		if absent {
			return h.store.Add(ctx, h.stateKey(), value, 0)
		}
		return h.store.Swap(ctx, h.stateKey(), entry, value, 0)
	})
	if err != nil && !rejected(err) && !errors.Is(err, errRequest) { // unknown: read it back
		entry, err = h.get(ctx, h.stateKey())
		if err == nil {
			if m, ok := parseStateRecord(entry.Value); !ok || m.Op != op {
				err = errAgain
			}
		}
	}
	if err != nil {
		return again(err)
	}
	w.known, w.stateOp = fence, op
	w.takes, w.left = w.takes || takes, m.Kept
	return nil
}
