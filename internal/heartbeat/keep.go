package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"time"
)

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

// pass serves a request for a handoff. true: Run must end, for the lease is another process's.
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
		// Without an answer the next process continues with what is left of the lease: one that gave it up, with a command
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
