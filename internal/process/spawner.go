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

	"gophd/internal/credentials"
	"gophd/internal/goroutine"
)

// reapInterval is the minimum time between two searches of /proc for zombies that orphans left. A
// zombie that cannot be distinguished from a child of another package stays, and must not cost a
// search in each run.
const reapInterval = time.Second

// reapDelay is how long after an exit the search begins. Meanwhile the Waits of commands reap them,
// also of a hundred that were started at the same tick, and without a zombie there is no search.
const reapDelay = 100 * time.Millisecond

// blockingWaits is how many Waits may block a thread at the same time, each for blockTime at most.
// A blocked thread observes the exit of a short command sooner than the runtime's poller, which has
// to wake a goroutine: runs back to back are a tenth faster. A longer command gains nothing by it.
const (
	blockingWaits = 2
	blockTime     = 100 * time.Millisecond
	exitTime      = 5 * time.Millisecond // from the close of an output to the exit
)

// childExits receives SIGCHLD for the Spawner of the program, while it watches. It belongs to the
// package, because a test in virtual time must not own a channel of os/signal.
var childExits = make(chan os.Signal, 1)

// forks holds one element for each fork at the same time. Package syscall forks once at a time anyway,
// and the others would wait for that with a thread each, which is never given back: a hundred starts
// at one tick cost 30 threads, measured.
var forks = make(chan struct{}, 4)

// Spawner starts commands and keeps what outlives a single one: /dev/null, the readers of pipes
// that escaped processes hold, and the orphans to reap. A program needs one Spawner. Its methods
// may be called from several goroutines at once.
type Spawner struct {
	null    *os.File
	buffers sync.Pool
	group   goroutine.Group // the readers, and reapOnExit

	blocking chan struct{} // holds one element for each Wait that blocks a thread
	opening  sync.Mutex    // held while a pidfd is opened, see observe
	watch    watch

	mu             sync.Mutex
	escapedStreams []*stream    // oldest first
	commands       map[int]bool // PIDs of the commands that are not reaped yet

	reaping   sync.Mutex
	lastReap  time.Time      // when orphans were last searched for
	inherited map[int]bool   // children that the old process left and nothing waits for; guarded by reaping
	known     map[int]*sweep // escaped processes, with the sweep that is stopping them, if any; guarded by reaping

	// A test sets these to an hour if a command or the kernel must act in time: on a busy machine
	// either may take any time.
	groupGrace time.Duration // the constant of that name
	killWait   time.Duration // the constant of that name
	readAtOnce bool          // a test awaits output before it calls Wait
}

// Command is what to start.
type Command struct {
	// Argv is executed argument by argument. An Argv[0] with a slash is relative to Dir; otherwise
	// it is searched in the PATH of Env.
	Argv []string
	Dir  string   // absolute working directory
	Env  []string // the complete environment, KEY=VALUE

	// Credentials is how the exec environment differs from gophd's own; nil means that it does not
	// differ. A command with Credentials is started by a shim, some milliseconds later, and never
	// runs without them. The pipes of its output belong to its user, see MayGive.
	Credentials *credentials.Credentials

	// Stdin is the descriptor 0; nil is /dev/null. It must stay open until Start has returned. If
	// it is a terminal, a command that reads it is stopped (SIGTTIN), because its group is not the
	// foreground group of the terminal.
	Stdin *os.File

	Stdout, Stderr Output

	Job string // see HandedStream

	Escapes *EscapeRules // what happens to descendants that left the group
	Cgroup  *Cgroup      // the job's control group; nil is gophd's own
}

// Output is the destination of one stream of the command. Exactly one field is set.
type Output struct {
	// Same is for Stderr: it goes where Stdout goes, so lines of both keep their order.
	Same bool

	// File is written by the command itself. It must stay open until Start has returned.
	File *os.File

	// Open returns the writer for a stream that is captured through a pipe. It is called once, by
	// the goroutine that then writes to the writer and closes it at the end of the stream, or not at
	// all if the stream ends without output.
	//
	// Write gets chunks in the order in which they were read, and must not keep them. While Write
	// blocks, the command blocks when the pipe is full, and Wait blocks. The writer counts its own
	// errors: after an error of Write the next chunk is passed to it as well. An escaped process
	// may write long after Wait has returned.
	Open func(pid int) io.WriteCloser
}

// New prepares this program for starting commands: on Linux, orphans of commands become its
// children.
//
// It does not mark descriptors that the program inherited as close-on-exec: self.Catch does that
// first in main. Go opens all files of the program itself with that flag.
func New() (*Spawner, error) { return create(os.Getpid() == 1) }

// create is New. If init is true, it also reaps orphans between runs.
func create(init bool) (*Spawner, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot start commands: %w: the system needs a %s", err, os.DevNull)
	}
	if err := becomeSubreaper(); err != nil {
		_ = null.Close()
		return nil, fmt.Errorf("cannot become the parent of orphans: %w: Linux 3.4 or newer is needed", err)
	}
	s := &Spawner{
		null:     null,
		buffers:  sync.Pool{New: func() any { return new([bufferSize]byte) }},
		blocking: make(chan struct{}, blockingWaits),
		commands: map[int]bool{},

		groupGrace: groupGrace,
		killWait:   killWait,
	}
	if init {
		s.watchExits()
	} else {
		ignoreSIGCHLD()
	}
	return s, nil
}

// Null returns /dev/null, for output that is discarded. It is open until Close.
func (s *Spawner) Null() *os.File { return s.null }

// Close closes the pipes that escaped processes still hold, and blocks until their writers are
// closed. An escaped process that writes after that gets SIGPIPE. Close then reaps the orphans that
// have exited. It must be called once, after the last Wait. It raises a panic of the writer of an
// escaped process again.
func (s *Spawner) Close() error {
	s.endWatch() // a detached Wait may still observe its command
	s.mu.Lock()
	for _, st := range s.escapedStreams {
		_ = st.r.Close()
	}
	s.mu.Unlock()
	defer s.null.Close()
	defer s.reapOrphansNow()
	s.group.Wait()
	return nil
}

// Start starts the command. If the system is short of resources, Start retries with growing pauses
// for at most 5 s; if the file is still open for writing, for at most 1 s. It stops retrying when
// ctx ends. The end of ctx does not affect a command that was started. The error is one line that
// names the fix; errors.Is finds the errno in it, and job.StartCode its exit code.
func (s *Spawner) Start(ctx context.Context, c Command) (*Process, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	started := time.Now()
	for attempts := 0; ; attempts++ {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cannot start %s: %w", shown(c.Argv[0]), context.Cause(ctx))
		}
		p, err := s.start(c)
		if err == nil {
			return p, nil
		}
		pause, limit := backoff(err, attempts)
		if time.Since(started)+pause >= limit {
			return nil, c.explain(err)
		}
		select {
		case <-ctx.Done():
			return nil, c.explain(err)
		case <-time.After(pause):
		}
	}
}

// backoff returns the pause before the next attempt after this error, and the time limit for all
// attempts.
func backoff(err error, attempts int) (pause, limit time.Duration) {
	const first = 10 * time.Millisecond
	switch {
	case errors.Is(err, syscall.ETXTBSY):
		// For an instant another thread's fork may hold the writing descriptor of a file that was
		// just written (go.dev/issue/22315). So may the program that deploys the file.
		return first, time.Second
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM),
		errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return min(first<<min(attempts, 10), 500*time.Millisecond), 5 * time.Second
	}
	return 0, 0
}

var errNoName = errors.New("cannot start a command without a name: give at least one argument")

func (c Command) check() error {
	if len(c.Argv) == 0 {
		return errNoName
	}
	for i, o := range []Output{c.Stdout, c.Stderr} {
		if o.Same && i == 1 && o.File == nil && o.Open == nil {
			continue
		}
		if o.Same || (o.File == nil) == (o.Open == nil) {
			return fmt.Errorf("cannot start %s: each output needs either a file or a writer", shown(c.Argv[0]))
		}
	}
	return nil
}

// start makes one attempt.
func (s *Spawner) start(c Command) (p *Process, err error) {
	path := c.Argv[0]
	if c.Credentials == nil && !strings.Contains(path, "/") {
		if path, err = LookPath(path, c.Dir, c.Env); err != nil {
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
				st.discard()
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
		r, w, err := pipe()
		if err != nil {
			return nil, err
		}
		defer w.Close()
		files[i+1] = w
		give(w, c.Credentials)
		streams = append(streams, newStream(r, c.Job, i+1, o.Open))
	}
	var group *leaf
	if c.Cgroup != nil {
		if group, err = c.Cgroup.leaf(); err != nil {
			text := "it cannot have a control group (" + err.Error() + "): allow gophd to create it"
			return nil, &startError{c.Argv[0], text, errno(err), true}
		}
	}
	started := time.Now()
	var pid int
	switch {
	case c.Credentials != nil:
		pid, err = s.startShim(c, files, group)
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
	p.escapes, p.leaf = c.Escapes, group
	return p, nil
}

// give makes a pipe belong to the user of the command, who could not open /dev/stdout otherwise: the
// mode of a pipe is 0600.
func give(pipe *os.File, c *credentials.Credentials) {
	if c != nil && c.User != nil {
		// It fails without the permission, which MayGive reports, and for a user that is not in the
		// user namespace: the shim cannot run the command as that user either.
		_ = pipe.Chown(c.User.UID, c.User.GID)
	}
}

// fork starts the command with an empty signal mask. A child inherits the mask of the thread that
// forks, and gophd blocks its control signals in all threads except the one through which os/signal
// reads them. So the mask of this thread is emptied for the fork only. A thread with an empty mask
// would take a signal that arrives during a re-exec, when every thread must block it.
func fork(path string, c Command, files []*os.File) (int, error) {
	return forkAttr(path, c, files, &syscall.SysProcAttr{Setpgid: true})
}

func forkAttr(path string, c Command, files []*os.File, attr *syscall.SysProcAttr) (int, error) {
	fds := make([]uintptr, len(files))
	for i, f := range files {
		fds[i] = f.Fd() // also makes the writing end of a pipe blocking, as commands expect
	}
	defer runtime.KeepAlive(files)
	forks <- struct{}{}
	defer func() { <-forks }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer emptySignalMask()()
	return syscall.ForkExec(path, c.Argv, &syscall.ProcAttr{
		Dir:   c.Dir,
		Env:   c.Env,
		Files: fds,
		Sys:   attr,
	})
}

// setCommand records that the process is a command of this Spawner, or that it is no longer.
func (s *Spawner) setCommand(pid int, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is {
		s.commands[pid] = true
	} else {
		delete(s.commands, pid)
	}
}

// isCommand reports whether the process is a command of this Spawner, and so nothing that another
// run has left. A search of many children for that needs to look at the others only.
func (s *Spawner) isCommand(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands[pid]
}

// reapOrphans reaps the zombies that orphans left, at most once per reapInterval.
func (s *Spawner) reapOrphans() {
	s.reaping.Lock()
	defer s.reaping.Unlock()
	if time.Since(s.lastReap) >= reapInterval {
		s.reapOrphansNow()
		s.lastReap = time.Now()
	}
}

// watch reaps orphans when a child exits, while anything needs it.
type watch struct {
	mu     sync.Mutex
	users  int           // Waits that observe their own command only, and in process 1 the Spawner
	stop   chan struct{} // closed to end the watch; nil while there is none
	closed bool          // by Close
}

// watchExits makes each exit of a child start a search for orphans to reap, until unwatchExits was
// called as often.
//
// In process 1 the Spawner itself does so: process 1 becomes the parent of every orphan in its PID
// namespace, those of a health check, for example, while the next run is hours away. Any other gophd
// becomes the parent of escaped processes only, and between runs their zombies wait for the next
// run.
func (s *Spawner) watchExits() {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if s.watch.users++; s.watch.users > 1 || s.watch.closed {
		return
	}
	stop := make(chan struct{})
	s.watch.stop = stop
	signal.Notify(childExits, syscall.SIGCHLD)
	handleSIGCHLD()
	s.group.Go(func() { s.reapOnExit(stop) })
}

func (s *Spawner) unwatchExits() {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if s.watch.users--; s.watch.users == 0 {
		s.watch.end()
	}
}

// endWatch ends the watch for good.
func (s *Spawner) endWatch() {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	s.watch.closed = true
	s.watch.end()
}

func (w *watch) end() {
	if w.stop != nil {
		signal.Stop(childExits)
		ignoreSIGCHLD()
		close(w.stop)
		w.stop = nil
	}
}

// reapOnExit begins with a search for what exited before signal.Notify.
func (s *Spawner) reapOnExit(stop <-chan struct{}) {
	for {
		s.reaping.Lock()
		pause := max(reapDelay, time.Until(s.lastReap.Add(reapInterval)))
		s.reaping.Unlock()
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		s.reapOrphans()
		select {
		case <-stop:
			return
		case <-childExits:
		}
	}
}
