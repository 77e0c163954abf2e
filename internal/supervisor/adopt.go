package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"gophd/internal/loop"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/safefile"
)

// This file is how a run outlives an image of gophd: it is left by one and adopted by the next.

// adoptRuns takes over the runs of the old process, before any request is served. As a rule the lease is held at
// once, and the loop starts with them. If it is not (another store by a new config, a deadline that has passed), the
// loop starts with its gate shut, and they are stopped at the deadline of the lease under which they were started, or
// when one that was acquired since is lost.
func (s *Supervisor) adoptRuns() {
	s.acquireLocal()
	if s.machine.looping || s.machine.state != standby {
		return
	}
	if c := s.lease.Shared(); c != nil && !c.Begun() {
		s.beginClaim(c)
	}
	if !s.machine.looping && s.machine.state == standby {
		s.machine.looping = true
		s.turnLoop()
		s.acquire.old.Reset(max(s.lease.HandedDeadline()-s.o.Config.Heartbeat.StopGrace-boot(), 0))
	}
}

// handOffRuns adds the runs that were left, if any, and the strays' pipes to the state, and their descriptors to
// files. Reading stops here.
func (s *Supervisor) handOffRuns(g *JobState, files map[string]*os.File) {
	put := func(streams []process.HandedStream) (pipes []Pipe) {
		for _, s := range streams {
			name := fmt.Sprintf("pipe-%d", len(files))
			files[name] = s.File
			pipes = append(pipes, Pipe{PID: s.PID, Number: s.Number, Rest: s.Rest, File: name})
		}
		return pipes
	}
	g.Woken = s.turning.grid.Woken
	if w := s.turning.grid.Wait; w != nil {
		g.Wait = &RunWait{Run: w.Run, Until: restart.At(w.Until), Slowed: w.Slowed}
	}
	if s.turning.loop == nil { // the loop could not begin yet, with what was left to us
		g.Woken, g.Wait = s.o.Handed.Woken, s.o.Handed.Wait
	}
	for _, at := range s.runner.left {
		handed := at.process.HandOver()
		run := ActiveRun{Run: at.run, Started: restart.At(at.process.Started()), PID: handed.PID, Birth: handed.Birth,
			Cgroup: handed.Cgroup, Pipes: put(handed.Streams), Grace: s.spec.Grace, Signals: s.spec.StopSignals}
		for _, left := range s.turning.grid.Going {
			if left.Run.Number == at.run.Number {
				run.Missed = left.Missed
			}
		}
		run.Limit, run.Status = at.limit.handOver()
		if at.keeper != nil {
			var kept bytes.Buffer
			_ = at.keeper.Dump(&kept)
			run.Kept = kept.Bytes()
		}
		g.Runs = append(g.Runs, run)
	}
	g.Escaped = put(s.o.Spawner.HandOver())
	lock := s.lease.Lock()
	g.Leftover = lock != nil && lock.Unclean()
}

// resume completes the grid of the loop by what goes on.
func (g JobState) resume(grid *loop.Grid) {
	grid.Woken = g.Woken
	if w := g.Wait; w != nil {
		grid.Wait = &loop.Wait{Run: w.Run, Until: w.Until.Time(), Slowed: w.Slowed}
	}
	for _, run := range g.Runs {
		grid.Going = append(grid.Going, loop.Going{Run: run.Run, Started: run.Started.Time(), Missed: run.Missed})
	}
}

// take is the process of the run as the process room knows it.
func (g *ActiveRun) take(files map[string]*os.File) process.Handed {
	return process.Handed{PID: g.PID, Birth: g.Birth, Cgroup: g.Cgroup, Started: g.Started.Time(), Streams: takePipes(files, g.Pipes)}
}

func takePipes(files map[string]*os.File, pipes []Pipe) (streams []process.HandedStream) {
	for _, p := range pipes {
		if f := files[p.File]; f != nil {
			streams = append(streams, process.HandedStream{PID: p.PID, Number: p.Number, Rest: p.Rest, File: f})
		}
	}
	return streams
}

// leave gives up the runs that are going on to the next image, all or none. It is called while none of them can
// end nor another begin, for the loop; but one may have begun for it that is not here yet, or have ended here without its
// knowledge. So they must be as many here as it counts: else a number would be without a run, or a result lost.
func (r *runner) leave(count int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []place
	var all []*process.Process
	for _, at := range r.places {
		if at.process != nil {
			left, all = append(left, at), append(all, at.process)
		}
	}
	if len(all) != count {
		return false
	}
	if !process.Leave(all...) {
		return false
	}
	r.left = left
	return true
}

// begin gives the run its place and its limit, and returns what the image before us has left of it, if that has
// started it. From then on it can be interrupted, and its messages are its own. What an earlier run has told
// is heard before: it must not be taken for a word of this one.
func (r *runner) begin(at *place) (left *ActiveRun) {
	if r.settled() {
		r.notices.Drain()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.going, func(g ActiveRun) bool { return g.Run.Number == at.run.Number }); i >= 0 {
		left = &r.going[i]
		r.going = slices.Concat(r.going[:i], r.going[i+1:])
	}
	if r.spec.Timeout > 0 {
		began, moved, told := time.Now(), time.Time{}, ""
		if left != nil {
			began, told = left.Started.Time(), left.Status
			if left.Limit != 0 {
				moved = left.Limit.Time()
			}
		}
		at.limit = newLimit(began.Add(r.spec.Timeout), moved, at.cancel)
		at.limit.say(told)
	}
	r.places[at.run.Place] = *at
	return left
}

// settled says that there is a notify socket, and that no message can be of a run that has no place yet.
func (r *runner) settled() bool {
	if r.notices == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.going) == 0
}

// adopt is start for a run that the image before us has left.
func (r *runner) adopt(at place, g *ActiveRun) (*process.Process, error) {
	if at.keeper != nil {
		before := at.keeper.Writer() // neither Write nor Close fails
		_, _ = before.Write(g.Kept)
		_ = before.Close()
	}
	h := g.take(r.handed)
	h.Strays = r.strays(at.run)
	return r.spawner.Adopt(h, func(s process.HandedStream) io.WriteCloser {
		if at.keeper != nil {
			return begun(at.keeper.Writer(), s)
		}
		return r.resume(s)
	})
}

// resume is where the rest of a stream goes whose beginning an earlier image has read: where the config
// now sends the output, whatever it was then.
func (r *runner) resume(s process.HandedStream) io.WriteCloser {
	out := r.stdout
	if s.Number == 2 {
		out = r.stderr
	}
	switch f := out.File; {
	case out.Open != nil:
		return begun(out.Open(s.PID), s)
	case r.file != "":
		opened, err := openOutput(r.file, r.world)
		if errors.Is(err, syscall.ENXIO) { // the command does not end for want of a reader, and he may come yet (fifo(7))
			opened, err = safefile.Open(r.file, os.O_RDWR|os.O_APPEND|syscall.O_NONBLOCK, 0, r.world.UIDs()...)
		}
		if err != nil {
			r.trouble(err)
			return nowhere{}
		}
		return r.outlet(s, r.file, opened, opened)
	default:
		return r.outlet(s, f.Name(), f, nil)
	}
}

// begun is a writer that has been given the rest; what it cannot take it counts itself.
func begun(w io.WriteCloser, s process.HandedStream) io.WriteCloser {
	_, _ = w.Write(s.Rest)
	return w
}

// nowhere is where a stream goes that has no other place: the command must not hang.
type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }
