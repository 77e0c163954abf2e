package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// renewLoop renews the lease until it is lost or expires, or a request arrives.
func (h *Heartbeat) renewLoop(ctx context.Context) error {
	w := &h.engine
	if h.traits.Lock {
		return h.recordLoop(ctx)
	}
	pause, failed := h.jitter(h.o.Renew), false
	for {
		if w.due && !failed { // pause before the retry, also if the store fails at once
			pause = 0
		}
		wait := h.waitKeeping
		if failed { // a value to keep must not delay the renewal
			wait = h.wait
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		var lost *LostError
		switch err := h.renew(ctx); {
		case err == nil:
			pause, w.due, failed = h.jitter(h.o.Renew), false, false
		case errors.Is(err, errRequest), errors.Is(err, errExpired), errors.As(err, &lost):
			return err
		default:
			pause, failed = retry, true
		}
	}
}

// renew renews the lease once. It returns nil if the write was acknowledged in time. After an error
// other than errRequest, errExpired and *LostError the result is unknown, and renew may be
// repeated.
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
		delay := h.waitServerDelayKeeping
		if absent { // key S is written only while key L is certainly ours
			delay = h.waitServerDelay
		}
		if err := delay(ctx); err != nil {
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
		case err == nil && h.expired(): // the answer came too late: this ends the loop
		case err == nil:
			h.engine.deadline, h.engine.unproven = sent+h.validity(h.o.TTL), false
			h.resetSkew()
			h.checkDeadline()
			h.keepAgain(absent)
			return nil
		case rejected(err): // another wrote, or a write of ours that had timed out: read again
		default:
			return err
		}
	}
	return errExpired
}

// recordLoop is renewLoop for a Lock store: it writes the record after a Beat, and sleeps
// otherwise.
func (h *Heartbeat) recordLoop(ctx context.Context) error {
	for {
		if err := h.await(ctx, nil, nil, h.wakeup); err != nil {
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
		case rejected(err):
			return h.lose(Record{})
		case errors.Is(err, errRequest):
			return err
		}
		// If the record could not be written, it is only out of date: the lock decides.
		if err := h.wait(ctx, recordPause); err != nil {
			return err
		}
	}
}

// serveHandoff serves a request for a handoff. It returns true if Run must return, because the
// lease now belongs to the new process.
func (h *Heartbeat) serveHandoff(ctx context.Context) (bool, error) {
	w := &h.engine
	q := *w.request
	w.request = nil
	if w.state == Held && w.mine && !w.unproven && !h.traits.Lock {
		err := h.renew(ctx)
		var lost *LostError
		if errors.Is(err, errRequest) || errors.Is(err, errExpired) || errors.As(err, &lost) {
			q.reply <- handoffReply{err: fmt.Errorf("the lease was not handed off: %w", err)}
			return false, err
		}
		// Without an answer the new process continues with what is left of the lease. If the lease
		// was given up here while a command is active, the new process would have no deadline.
	}
	claim := w.claim
	if w.mine || claim.Since == 0 || h.traits.Lock {
		claim = Claim{}
	}
	takes := w.takes || h.o.Keep != nil && w.took != h.knows.Load()
	q.reply <- handoffReply{handoff: Handoff{
		ID: w.id, Key: h.o.Key, PID: h.o.Self.PID, Boot: h.o.Self.Boot,
		Held: w.mine && !w.unproven && !takes, Unproven: w.unproven, Fence: w.fence,
		Deadline: w.deadline, Started: h.o.Self.Started, Seq: w.seq, Op: w.stateOp, Takes: takes, Longest: w.longest, Claim: claim,
	}}
	return true, nil
}

// release first marks key S as clean, because our command has exited, and then removes key L. It
// changes neither key unless it is ours.
func (h *Heartbeat) release(ctx context.Context) {
	w := &h.engine
	w.releasing = true // no request is accepted any more
	end := h.o.Boot() + 2*h.budget()
	keeps := w.keepErr == nil
	if w.touched && w.stateOp != "" {
		h.retryUntil(ctx, end, func() error {
			entry, err := h.get(ctx, h.stateKey())
			if err != nil {
				return err
			}
			m, _ := parseStateRecord(entry.Value)
			if !h.lastHolderWasUs(m) {
				return nil // it is about another's command
			}
			m.Clean = true
			if value, _, ok := h.keepValue(); ok && keeps {
				m.Kept, keeps = value, false // the next attempt is without it: the store may not take it
			}
			return h.do(ctx, func(ctx context.Context) error {
				return h.store.Swap(ctx, h.stateKey(), entry, encode(m), 0)
			})
		})
	}
	if w.touched {
		h.retryUntil(ctx, end, func() error {
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

// retryUntil repeats f until it succeeds, or the key is absent, or the boot clock reaches end.
func (h *Heartbeat) retryUntil(ctx context.Context, end time.Duration, f func() error) {
	for {
		if err := f(); err == nil || errors.Is(err, ErrAbsent) || h.o.Boot() >= end {
			return
		}
		_ = h.wait(ctx, retry) // no request is accepted any more
	}
}
