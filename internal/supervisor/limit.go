package supervisor

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/restart"
	"gophd/internal/sdnotify"
)

// This file is about the notify socket, by which a run asks for more time and tells its status. A job has
// one if its runs have a timeout.

// limit stops a run that takes too long, unless it asks for more time.
type limit struct {
	run context.CancelCauseFunc

	mu     sync.Mutex
	at     time.Time
	moved  bool // at the run's request
	over   bool // the run is being stopped
	timer  *time.Timer
	status string // the last one that the run sent
}

// newLimit starts to count. moved is what an adopted run has requested from the old process, zero is
// nothing; over is that it is being stopped.
func newLimit(at, moved time.Time, over bool, run context.CancelCauseFunc) *limit {
	l := &limit{run: run, at: at, over: over}
	if moved.After(at) {
		l.at, l.moved = moved, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(time.Until(l.at), l.ring)
	return l
}

// ring is called at the moment that was the limit, and goes by what the limit is now.
func (l *limit) ring() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rest := time.Until(l.at); rest > 0 {
		l.timer.Reset(rest)
		return
	}
	l.over = true
	l.run(job.ErrTimeout)
}

// extend moves the limit to until, if that is later, and returns by how much. It is too late for a run
// that is being stopped: a grace is not extended.
func (l *limit) extend(until time.Time) (more time.Duration, tooLate bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || !until.After(l.at) {
		return 0, l.over
	}
	more = until.Sub(l.at)
	l.at, l.moved = until, true
	return more, false
}

func (l *limit) say(status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = status
}

// stop is called when the run has ended. A timer that fires at the same moment does no harm: nothing uses
// the run's context any more.
func (l *limit) stop() {
	if l != nil {
		l.timer.Stop()
	}
}

// handOver returns the limit for the next process: zero if the run has not moved it, and the config counts.
func (l *limit) handOver() (moved restart.Instant, status string) {
	if l == nil {
		return 0, ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.moved {
		moved = restart.At(l.at)
	}
	return moved, l.status
}

// openNotify opens the notify socket, or adopts that of the old process, if the job has a timeout and the
// system supports it.
func (s *Supervisor) openNotify() (err error) {
	kept := s.o.Files[notifySocket]
	switch {
	case s.spec.Timeout <= 0:
		if kept != nil {
			_ = kept.Close()
		}
		return nil
	case kept != nil:
		s.notices, err = sdnotify.Adopt(kept, s.noticed)
	default:
		s.notices, err = sdnotify.Open(s.noticed)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// noticed is called by the goroutine of the notify socket, or by that of a run that is about to start.
func (s *Supervisor) noticed(m sdnotify.Message, err error) {
	run, l, ok := s.runner.whose(m)
	if !ok {
		s.publish(event.MessageOfStranger(s.spec.Name, m.PID, m.UID))
		return
	}
	if err != nil {
		s.publish(event.MessageNotUnderstood(s.spec.Name, run, m.PID, err))
		return
	}
	if words := wordsOf(m); words != nil {
		s.publish(event.RunMessage(s.spec.Name, run, m.PID, words))
	}
	if l == nil {
		return // it was started without a timeout
	}
	if m.Status != nil {
		l.say(*m.Status)
		s.publish(event.RunStatus(s.spec.Name, run, *m.Status))
	}
	if m.ExtendTimeout > 0 {
		switch more, tooLate := l.extend(time.Now().Add(m.ExtendTimeout)); {
		case tooLate:
			s.publish(event.RunNotExtended(s.spec.Name, run))
		case more > 0:
			s.publish(event.RunExtended(s.spec.Name, run, m.ExtendTimeout, more))
		}
	}
}

// wordsOf returns the content of a message in words.
func wordsOf(m sdnotify.Message) (words []string) {
	for _, w := range []struct {
		said bool
		word string
	}{{m.Ready, "it is ready"}, {m.Watchdog, "it is alive"}, {m.Stopping, "it stops"}} {
		if w.said {
			words = append(words, w.word)
		}
	}
	if m.Status != nil {
		words = append(words, "status: "+*m.Status)
	}
	if m.ExtendTimeout > 0 {
		words = append(words, "it wants "+m.ExtendTimeout.String())
	}
	return words
}

// whose returns the run that sent the message.
func (r *runner) whose(m sdnotify.Message) (job.Run, *limit, bool) {
	r.mu.Lock()
	all := slices.Clone(r.places)
	if r.left != nil { // their slots may be free already, and their limits are handed off later
		all = r.left
	}
	r.mu.Unlock()
	all = slices.DeleteFunc(all, func(at place) bool { return at.cancel == nil })
	runs := make([]sdnotify.Run, len(all))
	for i, at := range all {
		runs[i].ID = r.id(at.run)
		if at.process != nil {
			runs[i].Leader = at.process.PID()
		}
	}
	i := m.Whose(runs, append(r.world.UIDs(), 0, os.Getuid())...)
	if i < 0 {
		return job.Run{}, nil, false
	}
	return all[i].run, all[i].limit, true
}
