package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/world"
)

// collectEvery is how often, at most, /proc is searched for zombies that orphans left: one that cannot
// be told from a child of another room stays, and must not cost a search in each run.
const collectEvery = time.Second

// Spawner starts commands and keeps what outlives a single one: /dev/null, the readers of pipes that
// strays hold, and the duty to collect orphans. A program needs one. Its methods may be called by
// several goroutines at once.
type Spawner struct {
	null    *os.File
	buffers sync.Pool
	group   goroutine.Group // the readers, and attend
	closing chan struct{}

	mu     sync.Mutex
	strays []*stream // oldest first

	collecting sync.Mutex
	collected  time.Time     // when orphans were last looked for
	inherited  map[int]bool  // children that an earlier image had and nobody waits for; guarded by collecting
	known      map[int]*hunt // strays that were found, with who is ending them if anybody is; guarded by collecting

	// A test sets these to an hour when a command or the kernel must act in time, since a busy machine
	// may take any time to run either.
	courtesy time.Duration // courtesyTime
	reap     time.Duration // reapTime
	forget   time.Duration // forgetTime
}

// Command is what to start.
type Command struct {
	Argv []string // executed argument by argument; Argv[0] with a slash is relative to Dir, else found by PATH of Env
	Dir  string   // absolute working directory
	Env  []string // the complete environment, KEY=VALUE

	// World is how its surroundings differ from gophd's own; nil is not at all. A command in a world of its
	// own is started by a shim, some milliseconds later, and never runs in any other.
	World *world.World

	// Stdin is its descriptor 0; nil is /dev/null. It must stay open until Start has returned. A terminal
	// stops a command that reads it (SIGTTIN), since that is not the terminal's foreground group.
	Stdin *os.File

	Stdout, Stderr Output

	Strays *Strays // what becomes of descendants that left the group
	Cgroup *Cgroup // the job's control group; nil is gophd's own
}

// Output is where one stream of the command goes; exactly one field is set.
type Output struct {
	// Same is for Stderr: it goes where Stdout goes, so that what comes from both keeps its order.
	Same bool

	// File is written by the command itself. It must stay open until Start has returned.
	File *os.File

	// Open returns the writer for a stream that is captured through a pipe. It is called once, by the
	// goroutine that then writes to it and closes it at the end of the stream. Write is given chunks
	// as they were read, in order, and must not keep them. While Write blocks, the command blocks when
	// the pipe is full, and Wait blocks. An error of Write is the writer's own to count: the next chunk
	// is offered again. A stray that left the group may write long after Wait has returned.
	Open func(pid int) io.WriteCloser
}

// New prepares this program for starting commands: on Linux, orphans of commands become its children.
// That descriptors which the program itself inherited are closed on exec is not done here: self.Catch
// does it, first thing in main. Those that the program opens are so already, as Go opens all files.
func New() (*Spawner, error) { return create(os.Getpid() == 1) }

// create is New. It collects orphans between runs too if init is true.
func create(init bool) (*Spawner, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot start commands: %w: the system needs a %s", err, os.DevNull)
	}
	if err := adoptOrphans(); err != nil {
		_ = null.Close()
		return nil, fmt.Errorf("cannot become the parent of orphans: %w: Linux 3.4 or newer is needed", err)
	}
	s := &Spawner{
		null:    null,
		buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }},
		closing: make(chan struct{}),

		courtesy: courtesyTime,
		reap:     reapTime,
		forget:   forgetTime,
	}
	if init {
		s.attend()
	} else {
		leaveEndsAlone()
	}
	return s, nil
}

// Close closes the pipes that strays still hold, which ends a stray that writes again, and blocks
// until their writers are closed; then it collects the orphans that have ended. It must be called once,
// after the last Wait. A panic of a stray's writer climbs out of it.
func (s *Spawner) Close() error {
	close(s.closing)
	s.mu.Lock()
	for _, st := range s.strays {
		_ = st.r.Close()
	}
	s.mu.Unlock()
	defer s.null.Close()
	defer s.collectOrphans()
	s.group.Wait()
	return nil
}

// Start starts the command. When the system has no room for it just now, Start tries again, with
// growing waits, for at most 5 s; when the file is still open for writing, for at most 1 s. It gives up
// when ctx ends; the end of ctx does nothing to a command that was started. The error is one line
// that names the fix; errors.Is finds the errno in it, and job.StartCode its exit code.
func (s *Spawner) Start(ctx context.Context, c Command) (*Process, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	began := time.Now()
	for tries := 0; ; tries++ {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cannot start %s: %w", quote(c.Argv[0]), context.Cause(ctx))
		}
		p, err := s.start(c)
		if err == nil {
			return p, nil
		}
		pause, limit := patience(err, tries)
		if time.Since(began)+pause >= limit {
			return nil, c.explain(err)
		}
		select {
		case <-ctx.Done():
			return nil, c.explain(err)
		case <-time.After(pause):
		}
	}
}

// patience is how long to wait before the next try after this error, and how long to go on in all.
func patience(err error, tries int) (pause, limit time.Duration) {
	const first = 10 * time.Millisecond
	switch {
	case errors.Is(err, syscall.ETXTBSY):
		// Another thread's fork may hold the writing descriptor of a file just written for an instant
		// (go.dev/issue/22315), and so may the program that deploys it.
		return first, time.Second
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM),
		errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return min(first<<min(tries, 10), 500*time.Millisecond), 5 * time.Second
	}
	return 0, 0
}

func (c Command) check() error {
	if len(c.Argv) == 0 {
		return errors.New("cannot start a command without a name: give at least one argument")
	}
	for i, o := range []Output{c.Stdout, c.Stderr} {
		if o.Same && i == 1 && o.File == nil && o.Open == nil {
			continue
		}
		if o.Same || (o.File == nil) == (o.Open == nil) {
			return fmt.Errorf("cannot start %s: each output needs either a file or a writer", quote(c.Argv[0]))
		}
	}
	return nil
}

// start tries once.
func (s *Spawner) start(c Command) (p *Process, err error) {
	path := c.Argv[0]
	if c.World == nil && !strings.Contains(path, "/") {
		if path, err = Look(path, c.Dir, c.Env); err != nil {
			return nil, err
		}
	}
	var (
		files   = []*os.File{s.null, nil, nil}
		streams []*stream
	)
	if c.Stdin != nil {
		files[0] = c.Stdin
	}
	defer func() {
		if err != nil {
			for _, st := range streams {
				_ = st.r.Close()
			}
		}
	}()
	for i, o := range []Output{c.Stdout, c.Stderr} {
		if o.Same {
			files[i+1] = files[i]
			continue
		}
		if files[i+1] = o.File; o.File != nil {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer w.Close()
		files[i+1] = w
		st, err := newStream(r, i+1, o.Open)
		if err != nil {
			_ = r.Close()
			return nil, err
		}
		streams = append(streams, st)
	}
	var group *leaf
	if c.Cgroup != nil {
		if group, err = c.Cgroup.leaf(); err != nil {
			return nil, &startError{c.Argv[0], "it cannot have a control group (" + err.Error() + "): look whether gophd may make it", errno(err), true}
		}
	}
	started := time.Now()
	var pid int
	switch {
	case c.World != nil:
		pid, err = s.enter(c, files, group)
	case group != nil:
		pid, err = forkIn(group, path, c, files)
	default:
		pid, err = fork(path, c, files)
	}
	if err != nil {
		if group != nil {
			group.drop()
		}
		return nil, err
	}
	p = s.attach(pid, started, streams)
	p.strays, p.leaf = c.Strays, group
	return p, nil
}

// fork starts the command with an empty signal mask. A child has the mask of the thread that forks,
// and gophd blocks its control signals in all threads but the one that os/signal reads them by; so
// the mask of this thread is opened for the fork and no longer. A thread kept with an open mask would
// undo that: a signal that comes while gophd replaces itself must find every thread closed.
func fork(path string, c Command, files []*os.File) (int, error) {
	return forkAttr(path, c, files, &syscall.SysProcAttr{Setpgid: true})
}

func forkAttr(path string, c Command, files []*os.File, attr *syscall.SysProcAttr) (int, error) {
	fds := make([]uintptr, len(files))
	for i, f := range files {
		fds[i] = f.Fd() // also makes the writing end of a pipe blocking, as commands expect it
	}
	defer runtime.KeepAlive(files)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer openMask()()
	return syscall.ForkExec(path, c.Argv, &syscall.ProcAttr{
		Dir:   c.Dir,
		Env:   c.Env,
		Files: fds,
		Sys:   attr,
	})
}

// collect collects what orphans left behind.
func (s *Spawner) collect() {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	if time.Since(s.collected) >= collectEvery {
		s.collectOrphans()
		s.collected = time.Now()
	}
}

// attend collects orphans between runs too, for process 1, to whom all come who lose their parent: the
// processes of a health check, say, while the next run is hours away. Elsewhere only those of strays come,
// and they wait for the next run.
func (s *Spawner) attend() {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGCHLD)
	s.group.Go(func() {
		defer signal.Stop(ends)
		for {
			select {
			case <-s.closing:
				return
			case <-ends:
			}
			select {
			case <-s.closing:
				return
			case <-time.After(collectEvery): // many ends are one look at all processes
			}
			s.collecting.Lock()
			s.collectOrphans()
			s.collected = time.Now()
			s.collecting.Unlock()
		}
	})
}
