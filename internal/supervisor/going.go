package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/keep"
	"gophd/internal/process"
	"gophd/internal/restart"
)

// This file is how a run outlives an image of gophd: it is left by one and adopted by the next.

// going is the room of the hand-over for what goes on while nobody serves it.
type going struct {
	Run    *goingRun `json:",omitempty"`
	Strays []pipe    `json:",omitempty"` // of earlier runs
}

// goingRun is a run that is under way, and its process.
type goingRun struct {
	Number  uint64
	Due     time.Time
	Started restart.Instant
	Woken   bool
	PID     int
	Birth   uint64
	Cgroup  string `json:",omitempty"` // the folder of its control group
	Pipes   []pipe
	Kept    []byte `json:",omitempty"` // of the output that is shown only if it fails
}

// pipe is a captured stream; File is the name of its descriptor in the hand-over.
type pipe struct {
	PID    int
	Number int
	Rest   []byte
	File   string
}

// leaveLoop ends the loop for the next image's sake, and says whether it could.
func (r *rig) leaveLoop() bool {
	if !r.loop.Leave(r.runner.leave) {
		return false
	}
	_ = goroutine.Catch(r.loopRoom.Wait) // at once: what panics in it is in loopFell
	return true
}

// handOverRun adds the run that was left, if any, and the strays' pipes to the hand-over. Reading stops here.
func (r *rig) handOverRun(h *restart.Handoff) {
	var g going
	put := func(streams []process.HandedStream) (pipes []pipe) {
		for _, s := range streams {
			name := fmt.Sprintf("pipe-%d", len(h.Files))
			h.Files[name] = s.File
			pipes = append(pipes, pipe{PID: s.PID, Number: s.Number, Rest: s.Rest, File: name})
		}
		return pipes
	}
	if p := r.runner.left; p != nil && len(r.grid.Going) > 0 {
		left, handed := r.grid.Going[0], p.HandOver()
		g.Run = &goingRun{Number: left.Run.Number, Due: left.Run.Due, Started: restart.At(left.Started), Woken: r.grid.Woken,
			PID: handed.PID, Birth: handed.Birth, Cgroup: handed.Cgroup, Pipes: put(handed.Streams)}
		if r.runner.keeper != nil {
			var kept bytes.Buffer
			_ = r.runner.keeper.Dump(&kept)
			g.Run.Kept = kept.Bytes()
		}
	}
	g.Strays = put(r.spawner.HandOver())
	h.Rooms[goingRoom], _ = json.Marshal(g) // plain values: it cannot fail
}

// handedRun reads what an image has handed over.
func handedRun(h *restart.Handoff) (g going) {
	if h != nil {
		_ = json.Unmarshal(h.Rooms[goingRoom], &g) // an image that left nothing has no such room
	}
	return g
}

// take is the process of the run as the process room knows it.
func (g *goingRun) take(h *restart.Handoff) process.Handed {
	return process.Handed{PID: g.PID, Birth: g.Birth, Cgroup: g.Cgroup, Started: g.Started.Time(), Streams: takePipes(h, g.Pipes)}
}

func takePipes(h *restart.Handoff, pipes []pipe) (streams []process.HandedStream) {
	for _, p := range pipes {
		if f := h.Files[p.File]; f != nil {
			streams = append(streams, process.HandedStream{PID: p.PID, Number: p.Number, Rest: p.Rest, File: f})
		}
	}
	return streams
}

// goOn takes up the run that the image before us has left under way, before any order is served. As a rule the
// heartbeats are ours at once, and the loop has begun with them. Where one is not (another store by a new config, a
// deadline that is over), the run is not forgotten: the loop begins, its gate is shut, and a lease that is lost
// ends the run.
func (r *rig) goOn() {
	r.firstClaim()
	if r.machine.looping || r.machine.state != claiming {
		return
	}
	if r.remote != nil && r.remote.hb == nil {
		r.remote.begin(r)
	}
	if !r.machine.looping && r.machine.state == claiming {
		r.machine.looping = true
		r.turnLoop()
	}
}

// leave gives up the run that is going on to the next image. It is called while the run can neither end nor
// another begin.
func (r *runner) leave() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || !r.now.Leave() {
		return false
	}
	r.left = r.now
	return true
}

// adopt is start for the run that the image before us has left.
func (r *runner) adopt(run job.Run) (p *process.Process, adopted bool, err error) {
	g := r.going
	if g == nil || g.Number != run.Number {
		return nil, false, nil
	}
	r.going = nil
	if r.failed != nil {
		r.keeper = keep.New(keptHead, keptTail)
		_, _ = r.keeper.Writer().Write(g.Kept)
	}
	h := g.take(r.handoff)
	h.Strays = r.strays(run)
	p, err = r.spawner.Adopt(h, r.resume)
	return p, true, err
}

// resume is where the rest of a stream goes whose beginning an earlier image has read: where the config
// now sends the output, whatever it was then.
func (r *runner) resume(s process.HandedStream) io.WriteCloser {
	out := r.stdout
	if s.Number == 2 {
		out = r.stderr
	}
	var w io.WriteCloser
	switch f := out.File; {
	case r.keeper != nil:
		w = r.keeper.Writer()
	case out.Open != nil:
		w = out.Open(s.PID)
	case r.file != "":
		opened, err := openOutput(r.file)
		if err != nil {
			return nowhere{}
		}
		w = opened
	case f != nil:
		w = kept{f}
	}
	_, _ = w.Write(s.Rest) // what it cannot take it counts itself
	return w
}

// kept is a file that stays open when a stream has ended.
type kept struct{ *os.File }

func (kept) Close() error { return nil }

// nowhere is where a stream goes that has no other place: the command must not hang.
type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }

// Abandon stops the run that an image has handed over to one that cannot go on: nothing may be left behind.
// It blocks for at most the grace that the command needs to end, and does nothing when there is no run.
func Abandon(h *restart.Handoff, grace time.Duration) {
	g := handedRun(h)
	if g.Run == nil {
		return
	}
	s, err := process.New()
	if err != nil {
		return
	}
	defer s.Close()
	p, err := s.Adopt(g.Run.take(h), func(process.HandedStream) io.WriteCloser { return nowhere{} })
	if err != nil {
		return
	}
	p.Stop(grace)
	p.Wait()
}

// adoptStrays goes on with the pipes of strays.
func (r *rig) adoptStrays() {
	if h := r.o.Handoff; h != nil {
		r.spawner.AdoptStrays(takePipes(h, handedRun(h).Strays), r.runner.resume)
	}
}
