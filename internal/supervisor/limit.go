package supervisor

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/restart"
	"gophd/internal/sdnotify"
)

// This file handles the messages by which a run requests more time and sends its status.

// limit stops a run that takes too long, unless the run requests more time.
type limit struct {
	run context.CancelCauseFunc

	mu     sync.Mutex
	at     time.Time
	moved  bool // at the run's request
	over   bool // the run is being stopped
	timer  *time.Timer
	status string // the last one that the run sent
}

// newLimit returns a limit that is active. moved is the limit that an adopted run requested from
// the old process; zero for none. over says that the run is already being stopped.
func newLimit(at, moved time.Time, over bool, run context.CancelCauseFunc) *limit {
	l := &limit{run: run, at: at, over: over}
	if moved.After(at) {
		l.at, l.moved = moved, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(time.Until(l.at), l.expire)
	return l
}

// expire is called at the moment of the first limit, and checks the current one.
func (l *limit) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rest := time.Until(l.at); rest > 0 {
		l.timer.Reset(rest)
		return
	}
	l.over = true
	l.run(job.ErrTimeout)
}

// extend moves the limit to until, if that is later, and returns by how much. It is too late for a
// run that is being stopped: a grace is not extended.
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

func (l *limit) setStatus(status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = status
}

// stop is called when the run has ended. A timer that fires at the same moment does no harm:
// nothing uses the run's context any more.
func (l *limit) stop() {
	if l != nil {
		l.timer.Stop()
	}
}

// handOff returns the limit for the next process; zero if the run has not moved it and the config
// decides.
func (l *limit) handOff() (moved restart.Instant, status string) {
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

// adoptNotices adopts the notify socket of the old process, if there is one and the job has a timeout.
func (s *Supervisor) adoptNotices() error {
	kept := s.o.Descriptors[s.o.Handed.Notify]
	if s.spec.Timeout > 0 {
		s.notices = &notices{receive: s.noticed}
	}
	switch {
	case kept == nil:
		return nil
	case s.notices == nil:
		_ = kept.Close()
		return nil
	}
	return s.notices.adopt(kept)
}

// noticed is called by the goroutine of the notify socket, or by that of a run that is about to
// start.
func (s *Supervisor) noticed(m sdnotify.Message, err error) {
	run, l, ok := s.runner.runOf(m)
	if !ok {
		s.publish(event.MessageOfUnknown(s.spec.Name, m.PID, m.UID))
		return
	}
	if err != nil {
		s.publish(event.MessageNotUnderstood(s.spec.Name, run, m.PID, err))
		return
	}
	if words := describe(m); words != nil {
		s.publish(event.RunMessage(s.spec.Name, run, m.PID, words))
	}
	if l == nil {
		return // it was started without a timeout
	}
	if m.Status != nil {
		l.setStatus(*m.Status)
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

// describe returns the content of a message as text.
func describe(m sdnotify.Message) (words []string) {
	for _, w := range []struct {
		set  bool
		word string
	}{{m.Ready, "it is ready"}, {m.Watchdog, "it is alive"}, {m.Stopping, "it is stopping"}} {
		if w.set {
			words = append(words, w.word)
		}
	}
	if m.Status != nil {
		words = append(words, "status: "+*m.Status)
	}
	if m.ExtendTimeout > 0 {
		words = append(words, "it requests "+job.FormatDuration(m.ExtendTimeout)+" from now")
	}
	return words
}

// runOf returns the run that sent the message.
func (r *runner) runOf(m sdnotify.Message) (job.Run, *limit, bool) {
	r.mu.Lock()
	all := slices.Clone(r.slots)
	if r.handedOff != nil { // their slots may be free already, and their limits are handed off later
		all = r.handedOff
	}
	r.mu.Unlock()
	all = slices.DeleteFunc(all, func(at slot) bool { return at.cancel == nil })
	runs := make([]sdnotify.Run, len(all))
	for i, at := range all {
		runs[i].ID = r.id(at.run)
		if at.process != nil {
			runs[i].Leader = at.process.PID()
		}
	}
	i := m.Run(runs, append(r.credentials.UIDs(), 0, os.Getuid())...)
	if i < 0 {
		return job.Run{}, nil, false
	}
	return all[i].run, all[i].limit, true
}
