package history

import (
	"fmt"
	"time"

	"gophd/internal/goroutine"
)

// This file is the goroutine of a Writer, and the queues from which it takes. The caller of a method holds
// mu, unless the method locks it.

func (w *Writer) queue(name string) *queue {
	q := w.pending[name]
	if q == nil {
		q = &queue{}
		w.pending[name] = q
	}
	return q
}

// place returns the queue for a record of a job; nil if there is no space. After a loss there is none
// until the queue was written, so that the record of the loss is where the runs are missing.
func (w *Writer) place(name string) *queue {
	if w.bytes >= pendingMax {
		return nil
	}
	if q := w.queue(name); q.lost == 0 {
		return q
	}
	return nil
}

// added counts bytes that were added to a queue, and sees to it that they are written.
func (w *Writer) added(bytes int) {
	w.bytes += bytes
	w.rouse()
	switch {
	case w.failing:
		signal(w.news)
	case w.bytes >= pendingMax/2:
		signal(w.hurry)
	}
}

// signal sends to a channel with the capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}

// rouse starts the goroutine if there is none.
func (w *Writer) rouse() {
	if w.done != nil || w.paused {
		return
	}
	done := make(chan struct{})
	w.done = done
	w.goroutines.Go(func() {
		defer close(done)
		if p := goroutine.Catch(w.write); p != nil {
			w.mu.Lock()
			w.over = true
			w.mu.Unlock()
			w.o.Problem(fmt.Errorf("from now on no history is written: %w", p))
		}
	})
}

// write is the goroutine. It ends when nothing is left to write.
func (w *Writer) write() {
	for failed := error(nil); ; {
		w.await(failed != nil)
		batch := w.take()
		if batch == nil {
			return
		}
		failed = nil
		for name, q := range batch {
			if err := w.disk.append(w.o.Path(name), name, q, w.o.SegmentSize); err != nil {
				failed = err
			}
		}
		if !w.giveBack(batch, failed) {
			return
		}
	}
}

// await waits until there are the records of some moments, and after a failed write until there are more,
// or for retryAfter.
func (w *Writer) await(failed bool) {
	w.mu.Lock()
	last := w.last
	w.mu.Unlock()
	if last {
		return
	}
	if failed {
		select {
		case <-time.After(retryAfter):
			return
		case <-w.hurry:
			return
		case <-w.news:
		}
	}
	select {
	case <-time.After(gather):
	case <-w.hurry:
	}
}

// take returns what is to be written; nil ends the goroutine.
func (w *Writer) take() map[string]*queue {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused || len(w.pending) == 0 {
		w.done = nil
		return nil
	}
	batch := w.pending
	w.pending, w.inFlight = map[string]*queue{}, true
	return batch
}

// giveBack keeps what could not be written of a batch, before what came meanwhile. It returns false if
// the goroutine ends.
func (w *Writer) giveBack(batch map[string]*queue, failed error) bool {
	w.mu.Lock()
	report := failed != nil && !w.failing
	w.inFlight, w.failing = false, failed != nil
	for name, q := range batch {
		switch newer := w.pending[name]; {
		case len(q.records) == 0 && q.lost == 0:
		case newer == nil:
			w.pending[name] = q
		case q.lost > 0: // what came after a loss is lost too
			q.lost += runsIn(newer.records) + newer.lost
			w.pending[name] = q
		default:
			newer.records = append(q.records, newer.records...)
		}
	}
	w.bytes = 0
	for _, q := range w.pending {
		w.bytes += len(q.records)
	}
	ends := len(w.pending) == 0 || w.paused || w.last && failed != nil
	if ends {
		w.done = nil
	}
	w.mu.Unlock()
	if report {
		w.o.Problem(failed)
	}
	return !ends
}
