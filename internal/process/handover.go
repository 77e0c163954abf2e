package process

import (
	"fmt"
	"io"
	"os"
	"time"
)

// Handed is a command that goes on while one image of this program is replaced by the next: what the next
// one needs to take it up. The children of a process stay its children through execve(2).
type Handed struct {
	PID     int
	Birth   uint64 // start of the process in the kernel's own count, which no other with this PID shares; 0 is not known
	Started time.Time
	Ended   time.Time // of the command itself, while others of its group or escaped processes are still there; else zero
	Streams []HandedStream
	Cgroup  string    // the directory of the run's control group, if it has one
	Stop    *StopPlan // nil if it is not being stopped
	Escaped []int     // processes that escaped and are being stopped
	Strays  *Strays   // for Adopt; HandOver does not fill it
}

// HandedStream is the reading end of one captured output, with what the writer has of an unfinished line.
// What the command wrote and nobody has read yet stays in the pipe.
type HandedStream struct {
	PID    int // of the command; its group may be gone when a stray holds the pipe
	Number int // 1 is stdout, 2 is stderr
	Rest   []byte
	File   *os.File
}

// Resume returns the writer for a stream that was handed over, which has to begin with the Rest.
type Resume func(HandedStream) io.WriteCloser

// Rester is a writer that can be left in mid-line. Rest is called instead of Close, and returns what the
// writer that goes on has to begin with. Where a writer is none, the stream begins anew.
type Rester interface{ Rest() []byte }

// Leave gives up commands to the next process, all or none, whether they are being stopped or not. It returns the
// first that cannot be left, since it is dead and only its output is still being delivered; nil if all were
// left. After it this process sends the commands no signal and does not collect them, their Waits return an empty
// Result when any child of this program ends, and HandOver of each is to be called.
func Leave(all ...*Process) *Process {
	for _, p := range all {
		p.mu.Lock()
		defer p.mu.Unlock()
		if to, _ := transition(p.now, left); to != handed {
			return p
		}
	}
	for _, p := range all {
		p.step(left)
	}
	return nil
}

// HandOver stops reading what the command writes, and returns it with the rest, and with how far its stop has
// come. It follows Leave, and blocks until each writer has taken what was read.
func (p *Process) HandOver() Handed {
	h := Handed{PID: p.pid, Birth: birth(p.pid), Started: p.Started(), Streams: handOver(p.streams), Cgroup: p.leaf.String()}
	for _, st := range p.streams {
		p.spawner.drop(st) // if an escaped process held it
	}
	p.mu.Lock()
	stop, hunt := p.stop, p.hunt
	h.Ended, h.Escaped = p.result.Ended, p.escaped
	p.mu.Unlock()
	if hunt != nil {
		var kill time.Time
		h.Escaped, kill = hunt.handOver()
		stop.Kill = earlier(stop.Kill, kill)
	}
	if !stop.Kill.IsZero() {
		h.Stop = &stop
	}
	return h
}

// resumeStop goes on with a stop that another process has begun.
func (p *Process) resumeStop(h Handed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Ended = h.Ended
	if h.Stop != nil {
		p.now, p.stop, p.due = stopping, *h.Stop, h.Stop.Kill
		p.arm()
	}
}

// HandOver stops reading the pipes that strays hold and returns them, so that a stray that writes again
// is not ended by it. It blocks as Process.HandOver does, and is called before Close.
func (s *Spawner) HandOver() []HandedStream {
	s.mu.Lock()
	strays := s.strays
	s.strays = nil
	s.mu.Unlock()
	return handOver(strays)
}

func handOver(streams []*stream) (kept []HandedStream) {
	for _, st := range streams {
		st.leaving.Store(true)
		st.hurry()
	}
	for _, st := range streams {
		<-st.done
		if st.left {
			kept = append(kept, HandedStream{PID: st.pid, Number: st.number, Rest: st.rest, File: st.r})
		}
	}
	return kept
}

// Adopt takes up a command that the image before this one has handed over; one that has ended meanwhile is
// adopted like any other. An error says that there is no such child; what it may have left in its pipes is
// then served as that of a stray is.
func (s *Spawner) Adopt(h Handed, open Resume) (*Process, error) {
	if birth(h.PID) != h.Birth {
		s.AdoptStrays(h.Streams, open)
		return nil, fmt.Errorf("process %d is not the command that was handed over: its outcome is lost", h.PID)
	}
	var streams []*stream
	for _, hs := range h.Streams {
		if st := resume(hs, open); st != nil {
			streams = append(streams, st)
		}
	}
	p := s.attach(h.PID, h.Started, streams)
	p.strays, p.leaf, p.escaped = h.Strays, leafAt(h.Cgroup), h.Escaped
	p.resumeStop(h)
	return p, nil
}

// AdoptStrays takes up what Spawner.HandOver has handed over.
func (s *Spawner) AdoptStrays(handed []HandedStream, open Resume) {
	for _, hs := range handed {
		if st := resume(hs, open); st != nil {
			s.keep(st)
			s.group.Go(func() { s.serve(st, nil) })
		}
	}
}

// resume makes a stream of one that was handed over; nil when its file is no pipe that can be read.
func resume(h HandedStream, open Resume) *stream {
	_ = h.File.SetReadDeadline(time.Time{}) // the one that stopped the reading, if this is still that image
	st, err := newStream(h.File, h.Number, func(int) io.WriteCloser { return open(h) })
	if err != nil {
		_ = h.File.Close()
		return nil
	}
	st.pid = h.PID
	return st
}
