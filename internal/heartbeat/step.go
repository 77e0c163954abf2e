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

// do runs one operation of the store. Meanwhile it checks the deadline and accepts requests. A
// request does not end an operation in progress; it prevents the next one (errRequest).
func (h *Heartbeat) do(ctx context.Context, op func(context.Context) error) error {
	if h.requested() {
		return errRequest
	}
	if h.traits.Lock {
		defer h.worker.end() // its operations are rare
	}
	answer := make(chan struct{})
	var err error
	var panicked *goroutine.Panic
	h.worker.do(func() {
		defer close(answer)
		panicked = goroutine.Catch(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.budget())
			defer cancel()
			err = op(ctx)
		})
	})
	if _ = h.await(ctx, nil, answer, nil); panicked != nil {
		panic(panicked)
	}
	h.answered(err)
	h.checkDeadline()
	return err
}

// wait waits for d. It returns errRequest if a request arrives first.
func (h *Heartbeat) wait(ctx context.Context, d time.Duration) error {
	return h.waitOrWake(ctx, d, nil)
}

// waitOrWake is wait that also ends on a receive from wakeup.
func (h *Heartbeat) waitOrWake(ctx context.Context, d time.Duration, wakeup <-chan struct{}) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	return h.await(ctx, t.C, nil, wakeup)
}

// waitServerDelay waits for serverDelay, between the read and the write of a renewal.
func (h *Heartbeat) waitServerDelay(ctx context.Context) error {
	if h.traits.Lock {
		return nil
	}
	return h.wait(ctx, serverDelay)
}

// await contains the only select: it checks the deadline and records requests until one of its
// channels is ready. If answer is nil, a request also ends it (errRequest), and so does the
// deadline (nil).
func (h *Heartbeat) await(ctx context.Context, until <-chan time.Time, answer, wakeup <-chan struct{}) error {
	w := &h.engine
	var fired <-chan struct{}
	if !h.traits.Lock {
		fired = h.o.Timer.C()
	}
	for {
		if answer == nil && h.requested() {
			return errRequest
		}
		stop, handoffs := ctx.Done(), h.handoffs
		if w.stopped || w.releasing {
			stop = nil
		}
		if w.stopped || w.releasing || w.request != nil {
			handoffs = nil
		}
		select {
		case <-answer:
			return nil
		case <-until:
			return nil
		case <-wakeup:
			return nil
		case <-fired:
			before := w.state
			h.checkDeadline()
			if out := w.state == Out && before != Out; answer == nil && (out || wakeup != nil && w.due) {
				return nil
			}
		case <-stop:
			w.stopped = true
		case q := <-handoffs:
			w.request = &q
		}
	}
}

// requested returns true if a stop or a handoff is waiting.
func (h *Heartbeat) requested() bool {
	w := &h.engine
	return !w.releasing && (w.stopped || w.request != nil)
}

// rejected returns true if the store answered and did nothing. The result of every other error is
// unknown.
func rejected(err error) bool {
	return errors.Is(err, ErrAbsent) || errors.Is(err, ErrExists) || errors.Is(err, ErrChanged)
}

// again turns a rejection into errAgain: the key must be read again.
func again(err error) error {
	if rejected(err) {
		return errAgain
	}
	return err
}

// worker is the goroutine for the operations of a store. A new one for each renewal would have to grow its
// stack each time, and would keep more of the program in memory: measured, 1.6 MB.
type worker struct {
	work  chan func() // nil while there is no goroutine
	group goroutine.Group
}

// do calls f in the goroutine, which must be free. It does not wait for f.
func (w *worker) do(f func()) {
	if w.work == nil {
		work := make(chan func())
		w.work = work
		w.group.Go(func() {
			for f := range work {
				f()
			}
		})
	}
	w.work <- f
}

// end ends the goroutine, if there is one.
func (w *worker) end() {
	if w.work != nil {
		close(w.work)
		w.work = nil
		w.group.Wait()
	}
}
