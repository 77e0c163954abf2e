package supervisor

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/event"
	"gophd/internal/eventlog"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/logging"
	"gophd/internal/loop"
	"gophd/internal/pidfile"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/safefile"
)

// This file is how a run outlives an image of gophd: it is left by one and adopted by the next.

// activeRun is a run that is under way, and its process.
type activeRun struct {
	Run     job.Run
	Started restart.Instant
	Missed  uint64 `json:",omitempty"` // see loop.Going
	PID     int
	Birth   uint64
	Cgroup  string `json:",omitempty"` // the folder of its control group
	Pipes   []pipe
	Kept    []byte          `json:",omitempty"` // of the output that is shown only if it fails
	Limit   restart.Instant `json:",omitempty"` // of its time, where the run has moved that
	Status  string          `json:",omitempty"` // what it told last
	Grace   time.Duration
	Signals []syscall.Signal `json:",omitempty"`
}

// runWait is a loop.Wait.
type runWait struct {
	Run    job.Run
	Until  restart.Instant
	Slowed time.Duration
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
	if fault.On {
		fault.At("leave the loop")
	}
	if !r.loop.Leave(func() bool { return r.runner.leave(int(r.underWay.Load())) }) {
		return false
	}
	_ = goroutine.Catch(r.loopRoom.Wait) // at once: what panics in it is in loopFell
	if fault.On {
		fault.At("loop left")
	}
	return true
}

// handOverRuns adds the runs that were left, if any, and the strays' pipes to the state, and their descriptors to
// files. Reading stops here.
func (r *rig) handOverRuns(g *jobState, files map[string]*os.File) {
	put := func(streams []process.HandedStream) (pipes []pipe) {
		for _, s := range streams {
			name := fmt.Sprintf("pipe-%d", len(files))
			files[name] = s.File
			pipes = append(pipes, pipe{PID: s.PID, Number: s.Number, Rest: s.Rest, File: name})
		}
		return pipes
	}
	g.Woken = r.grid.Woken
	if w := r.grid.Wait; w != nil {
		g.Wait = &runWait{Run: w.Run, Until: restart.At(w.Until), Slowed: w.Slowed}
	}
	if r.loop == nil { // the loop could not begin yet, with what was left to us
		g.Woken, g.Wait = r.handed.Job.Woken, r.handed.Job.Wait
	}
	for _, at := range r.runner.left {
		handed := at.process.HandOver()
		run := activeRun{Run: at.run, Started: restart.At(at.process.Started()), PID: handed.PID, Birth: handed.Birth,
			Cgroup: handed.Cgroup, Pipes: put(handed.Streams), Grace: r.spec.Grace, Signals: r.spec.StopSignals}
		for _, left := range r.grid.Going {
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
	g.Escaped = put(r.spawner.HandOver())
	lock := r.lease.Lock()
	g.Leftover = lock != nil && lock.Unclean()
}

// resume completes the grid of the loop by what goes on.
func (g jobState) resume(grid *loop.Grid) {
	grid.Woken = g.Woken
	if w := g.Wait; w != nil {
		grid.Wait = &loop.Wait{Run: w.Run, Until: w.Until.Time(), Slowed: w.Slowed}
	}
	for _, run := range g.Runs {
		grid.Going = append(grid.Going, loop.Going{Run: run.Run, Started: run.Started.Time(), Missed: run.Missed})
	}
}

// take is the process of the run as the process room knows it.
func (g *activeRun) take(files map[string]*os.File) process.Handed {
	return process.Handed{PID: g.PID, Birth: g.Birth, Cgroup: g.Cgroup, Started: g.Started.Time(), Streams: takePipes(files, g.Pipes)}
}

func takePipes(files map[string]*os.File, pipes []pipe) (streams []process.HandedStream) {
	for _, p := range pipes {
		if f := files[p.File]; f != nil {
			streams = append(streams, process.HandedStream{PID: p.PID, Number: p.Number, Rest: p.Rest, File: f})
		}
	}
	return streams
}

// goOn takes up the runs that the image before us has left under way, before any order is served. As a rule the
// heartbeats are ours at once, and the loop has begun with them. Where one is not (another store by a new config, a
// deadline that is over), they are not forgotten: the loop begins, its gate is shut, and they are ended when the
// lease is over under which they began, or one that came since is lost.
func (r *rig) goOn() {
	r.firstClaim()
	if r.machine.looping || r.machine.state != claiming {
		return
	}
	if c := r.lease.Shared(); c != nil && !c.Begun() {
		r.beginClaim(c)
	}
	if !r.machine.looping && r.machine.state == claiming {
		r.machine.looping = true
		r.turnLoop()
		r.old.Reset(max(r.lease.HandedDeadline()-r.o.Config.Heartbeat.StopGrace-r.boot(), 0))
	}
}

// oldLeaseEnds ends the runs that were left to us if we have no lease yet in place of theirs, by its deadline.
func (r *rig) oldLeaseEnds() {
	switch r.lease.Shared().Seen().State {
	case heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending: // which has a deadline of its own
	default:
		r.machine.leaseEnding(&leaseError{why: "the heartbeat could not be renewed across a restart", grace: r.lease.HandedGrace()})
	}
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
func (r *runner) begin(at *place) (left *activeRun) {
	if r.settled() {
		r.notices.Drain()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.going, func(g activeRun) bool { return g.Run.Number == at.run.Number }); i >= 0 {
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
func (r *runner) adopt(at place, g *activeRun) (*process.Process, error) {
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

// stopRuns stops runs that an image has handed over to one that cannot go on with them, as that would have stopped
// them, and waits for their end.
func stopRuns(events *event.Stream, name string, runs []activeRun, spawner *process.Spawner, files map[string]*os.File, open process.Resume) {
	all := make([]*process.Process, len(runs))
	for i, run := range runs {
		p, err := spawner.Adopt(run.take(files), open)
		if err != nil {
			events.Publish(event.Problem(err))
			continue
		}
		events.Publish(event.RunNotAdopted(name, run.Run, run.PID))
		p.Stop(run.Grace, run.Signals...)
		all[i] = p
	}
	for i, p := range all {
		if p != nil {
			result := p.Wait()
			result.PID = runs[i].PID
			events.Publish(event.RunAbandoned(name, runs[i].Run, result))
		}
	}
}

// Abandon is for a process that cannot go on with what was handed off to it, for the reason why: it stops the runs
// and logs that to the log of the old process, or to stderr. It blocks until they have ended, for their grace at most.
// nil is a first start: nothing was handed off.
func Abandon(h *restart.Handoff, why error) {
	if h == nil {
		return
	}
	s, err := decodeState(h)
	if err != nil {
		AbandonUnknown(err)
		return
	}
	abandon(s, h.Files, why)
}

// AbandonUnknown is Abandon for a handoff that cannot be read: it stops all children that are commands, as far as that
// can be told.
func AbandonUnknown(why error) {
	var s handedState
	for _, c := range process.Commands() {
		s.Job.Runs = append(s.Job.Runs, activeRun{PID: c.PID, Birth: c.Birth, Started: restart.At(c.Started), Grace: unknownGrace})
	}
	abandon(s, nil, why)
}

func abandon(s handedState, files map[string]*os.File, why error) {
	options := logging.Options{File: s.Log.File, Format: cmp.Or(s.Log.Format, "simple"), Level: zerolog.InfoLevel, Job: s.Job.Name, PID: os.Getpid()}
	log, err := logging.Open(options)
	if err != nil || s.Log.File == "" {
		options.File, options.Echo, options.EchoLevel, options.EchoCommand = "", os.Stderr, zerolog.InfoLevel, true
		if log, err = logging.Open(options); err != nil {
			return // a config in which the formats have other names has none of our runs
		}
	}
	events := event.NewStream(eventlog.New(log.Logger(), log.EchoLogger(), options.Format == "json").Read)
	events.Publish(event.NotResumed(why))
	if spawner, err := process.New(); err != nil {
		events.Publish(event.Problem(err))
	} else {
		spawner.AdoptStrays(takePipes(files, s.Job.Escaped), resumeIn(log))
		stopRuns(events, s.Job.Name, s.Job.Runs, spawner, files, resumeIn(log))
		_ = spawner.Close() // it was the last word of the strays
		sweepCgroups(s.Job.Name, func(pid int) bool { return pid == os.Getpid() })
	}
	if f := files[pidFileName]; f != nil {
		if f, err := pidfile.Adopt(s.PIDFile, f); err == nil {
			_ = f.Remove() // else it is stale, which its lock says too
		}
	}
	_ = log.Close() // there is nobody left to tell
}

// unknownGrace is the default of job.grace, for runs of which nothing is known.
const unknownGrace = 10 * time.Second

// resumeIn is where the output goes on for who knows no config.
func resumeIn(log *logging.Log) process.Resume {
	return func(s process.HandedStream) io.WriteCloser {
		stream := "stdout"
		if s.Number == 2 {
			stream = "stderr"
		}
		return begun(log.Capture(stream)(s.PID), s)
	}
}

// adoptStrays goes on with the pipes of strays.
func (r *rig) adoptStrays() {
	if h := r.o.Handoff; h != nil {
		r.spawner.AdoptStrays(takePipes(h.Files, r.handed.Job.Escaped), r.runner.resume)
	}
}
