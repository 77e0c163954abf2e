package process

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"gophd/internal/line"
)

// Handed is a running command during a re-exec: what the new process needs to adopt it. The
// children of a process stay its children through execve(2).
type Handed struct {
	PID     int
	Birth   uint64 // start time in clock ticks after boot, unique among processes with this PID; 0 is unknown
	Started time.Time
	Ended   time.Time // exit of the command while members of its group or escaped processes are left; else zero
	Streams []HandedStream
	Cgroup  string       // the directory of the run's control group, if it has one
	Stop    *StopPlan    // nil if it is not being stopped
	Escaped []int        // processes that escaped and are being stopped
	Escapes *EscapeRules // for Adopt; HandOff does not fill it
}

// HandedStream is the reading end of one captured output, with the unfinished line that the writer
// holds. What the command wrote and nobody has read yet stays in the pipe.
type HandedStream struct {
	Job    string // of the command; one Spawner may serve several
	PID    int    // of the command, which may have exited: an escaped process can hold the pipe
	Number int    // 1 is stdout, 2 is stderr
	Rest   line.Rest
	File   *os.File
}

// Resume returns the writer for a stream that was handed off. Its output has to start with the
// Rest.
type Resume func(HandedStream) io.WriteCloser

// Rester is a writer that can be detached in the middle of a line. If a writer is not a Rester, the
// next one starts with nothing.
type Rester interface {
	// Rest is called instead of Close. It returns what the next writer has to start with.
	Rest() line.Rest
	// Continue is called by a Resume before the first Write, with the Rest of the last writer.
	Continue(line.Rest)
}

// Detach gives up commands for the new process, all or none, whether they are being stopped or not.
// It returns the first command that cannot be detached, because it is dead or has closed an output,
// and what it wrote is still being delivered, or nil if all are detached.
//
// After Detach this process sends the commands no signal and does not reap them. Their Waits return
// an empty Result, some of them at once, the others when the command exits or after Forget. HandOff
// has to be called for each of them.
func Detach(all ...*Process) *Process {
	for _, p := range all {
		p.mu.Lock()
		defer p.mu.Unlock()
		if to, _ := transition(p.now, detach); to != detached || slices.ContainsFunc(p.streams, (*stream).closing) {
			return p
		}
	}
	for _, p := range all {
		p.step(detach)
		for _, st := range p.streams {
			st.detaching.Store(true)
		}
	}
	return nil
}

// Forget ends the Waits of detached commands, which would otherwise keep a goroutine and a descriptor
// until the command exits. It is called when the new process did not start and this one continues
// with those commands. It does not block. Without pidfd_open(2) (before Linux 5.3, and on other
// systems) it does nothing.
func Forget(all ...*Process) {
	for _, p := range all {
		p.mu.Lock()
		if p.pidfd != nil {
			_ = p.pidfd.SetReadDeadline(time.Unix(1, 0))
		}
		p.mu.Unlock()
	}
}

// HandOff stops reading what the command writes. It returns the streams with the unfinished lines,
// and the progress of the stop. It is called after Detach, and blocks until each writer has taken
// what was read.
func (p *Process) HandOff() Handed {
	h := Handed{
		PID: p.pid, Birth: childStart(p.pid), Started: p.Started(), Streams: handOff(p.streams),
		Cgroup: p.leaf.String(),
	}
	for _, st := range p.streams {
		p.spawner.drop(st) // it is there if an escaped process holds it
	}
	p.mu.Lock()
	stop, search := p.stop, p.search
	h.Ended, h.Escaped = p.result.Ended, p.escaped
	p.mu.Unlock()
	if search != nil {
		var kill time.Time
		h.Escaped, kill = search.handOff()
		stop.Kill = earlier(stop.Kill, kill)
	}
	if !stop.Kill.IsZero() {
		h.Stop = &stop
	}
	return h
}

// resumeStop continues a stop that another process started.
func (p *Process) resumeStop(h Handed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Ended = h.Ended
	if h.Stop != nil {
		p.now, p.stop, p.due = stopping, *h.Stop, h.Stop.Kill
		p.arm()
	}
}

// HandOff does for escaped processes what Process.HandOff does for one command. It stops reading
// the pipes that they hold, and returns the pipes for AdoptStreams in the new process, so that an
// escaped process that writes later does not get SIGPIPE. It blocks as Process.HandOff does, and is
// called before Close, which would close the pipes.
func (s *Spawner) HandOff() []HandedStream {
	s.mu.Lock()
	escaped := s.escapedStreams
	s.escapedStreams = nil
	s.mu.Unlock()
	return handOff(escaped)
}

func handOff(streams []*stream) (kept []HandedStream) {
	for _, st := range streams {
		st.detaching.Store(true)
		st.escalate()
	}
	for _, st := range streams {
		switch st.phase {
		case unread: // a detached command stays so
			kept = append(kept, HandedStream{PID: st.pid, Job: st.job, Number: st.number, File: st.file()})
			continue
		case ended:
			continue
		}
		<-st.done
		if st.detached {
			kept = append(kept, HandedStream{Job: st.job, PID: st.pid, Number: st.number, Rest: st.rest, File: st.r})
		}
	}
	return kept
}

// Adopt takes over a command that the old process handed off. A command that has exited meanwhile
// is adopted like any other. An error means that there is no such child. The output that is in the
// pipes of the missing child is then delivered like that of an escaped process.
func (s *Spawner) Adopt(h Handed, open Resume) (*Process, error) {
	if childStart(h.PID) != h.Birth {
		s.AdoptStreams(h.Streams, open)
		return nil, fmt.Errorf("process %d is not the command that was handed off: its outcome is lost", h.PID)
	}
	var streams []*stream
	for _, hs := range h.Streams {
		if st := resume(hs, open); st != nil {
			streams = append(streams, st)
		}
	}
	p := s.attach(h.PID, h.Started, streams)
	for _, st := range streams {
		s.group.Go(func() { s.serve(st, p.reports) })
	}
	p.escapes, p.leaf, p.escaped = h.Escapes, leafAt(h.Cgroup), h.Escaped
	p.resumeStop(h)
	return p, nil
}

// AdoptStreams takes over what Spawner.HandOff returned in the old process.
func (s *Spawner) AdoptStreams(handed []HandedStream, open Resume) {
	for _, hs := range handed {
		if st := resume(hs, open); st != nil {
			s.keep(st)
			s.group.Go(func() { s.serve(st, nil) })
		}
	}
}

// resume makes a stream of one that was handed off. It returns nil if its file is not a readable
// pipe.
func resume(h HandedStream, open Resume) *stream {
	_ = h.File.SetReadDeadline(time.Time{}) // the one of handOff, if there was no re-exec
	st := newStream(-1, h.Job, h.Number, func(int) io.WriteCloser { return open(h) })
	st.pid = h.PID
	if st.read(h.File) != nil {
		return nil
	}
	return st
}
