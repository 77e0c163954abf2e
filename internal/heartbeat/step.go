package heartbeat

import (
	"context"
	"errors"
	"time"

	"gophd/internal/goroutine"
)

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
