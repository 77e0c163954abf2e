package heartbeat

import (
	"bytes"
	"context"
	"errors"
	"time"
)

const (
	keepCheck    = time.Minute // between two checks of what key S keeps: a full server evicts a key that nobody reads
	keepAttempts = 3           // each with a renewal after it, until Lease.KeepErr is set
)

// keepValue returns what key S must keep now; ok is false if that is nothing.
func (h *Heartbeat) keepValue() (value []byte, version uint64, ok bool) {
	if h.o.Keep == nil || h.engine.takes { // a value of before the takeover
		return nil, 0, false
	}
	return h.o.Keep(h.engine.took)
}

// waitKeeping waits for d, or until a renewal is due at once. Meanwhile it writes what key S must keep, each
// time that Keep is called.
func (h *Heartbeat) waitKeeping(ctx context.Context, d time.Duration) error {
	w := &h.engine
	for end := h.o.Boot() + d; ; {
		if h.keeps.Load() && !w.due && !h.expired() {
			if err := h.keep(ctx); err != nil || w.due {
				return err
			}
		}
		rest := end - h.o.Boot()
		if err := h.waitOrWake(ctx, rest, h.wakeup); err != nil || rest <= 0 || !h.keeps.Load() || h.expired() {
			return err
		}
	}
}

// waitServerDelayKeeping is waitServerDelay that writes what key S must keep meanwhile, so that no run
// waits for it.
func (h *Heartbeat) waitServerDelayKeeping(ctx context.Context) error {
	for end := h.o.Boot() + serverDelay; h.o.Boot() < end; {
		if h.keeps.Load() {
			if err := h.keep(ctx); err != nil {
				return err
			}
		}
		if err := h.waitOrWake(ctx, end-h.o.Boot(), h.wakeup); err != nil {
			return err
		}
	}
	return nil
}

// keep writes what key S must keep. Key L must be ours. If the store does not take it, a renewal follows at
// once, and then the next attempt. It returns errRequest only.
func (h *Heartbeat) keep(ctx context.Context) error {
	w := &h.engine
	h.keeps.Store(false)
	value, version, ok := h.keepValue()
	if !ok {
		return nil
	}
	w.keeping = true
	err := h.writeKept(ctx, value)
	w.keeping = false
	switch {
	case errors.Is(err, errRequest):
		h.keeps.Store(true)
		return err
	case err == nil:
		w.kept, w.keptAt, w.keepFailed, w.keepErr = version, h.o.Boot(), 0, nil
	default:
		if w.keepFailed++; w.keepFailed >= keepAttempts {
			w.keepErr = err
		} else {
			w.due = true
		}
	}
	h.publish()
	return nil
}

// keepAgain is called after a renewal.
func (h *Heartbeat) keepAgain(restored bool) {
	w := &h.engine
	if w.keepFailed > 0 || restored || h.o.Boot()-w.keptAt > keepCheck {
		h.keeps.Store(true)
	}
}

// writeKept writes value into key S, if that is ours and has another one. A key S that the server has
// forgotten is written anew, with the fencing token.
func (h *Heartbeat) writeKept(ctx context.Context, value []byte) error {
	w := &h.engine
	entry, err := h.get(ctx, h.stateKey())
	absent := errors.Is(err, ErrAbsent)
	switch {
	case absent:
		return h.restoreState(ctx, value)
	case err != nil:
		return err
	}
	m, ok := parseStateRecord(entry.Value)
	if ok && m.Owner == w.id && m.Op == w.restored {
		w.stateOp = m.Op
	}
	switch {
	case !ok:
		return &foreignValueError{h.stateKey()}
	case !h.lastHolderWasUs(m): // the renewal will see who it is
		return errAgain
	case bytes.Equal(m.Kept, value):
		return nil
	}
	m.Kept = value
	return again(h.do(ctx, func(ctx context.Context) error {
		return h.store.Swap(ctx, h.stateKey(), entry, encode(m), 0)
	}))
}

// restoreState adds key S, which the server has forgotten. It has an op of its own, which does not count
// before it was acknowledged or read: see lastHolderWasUs.
func (h *Heartbeat) restoreState(ctx context.Context, value []byte) error {
	w := &h.engine
	w.restored = nonce()
	m := stateRecord{V: version, Fence: w.fence, Owner: w.id, Op: w.restored, TTL: h.o.TTL.Seconds(), Kept: value}
	err := again(h.do(ctx, func(ctx context.Context) error { return h.store.Add(ctx, h.stateKey(), encode(m), 0) }))
	if err == nil {
		w.stateOp = m.Op
	}
	return err
}
