// Package restart answers: how does gophd re-exec itself in place, and what does it hand off?
//
// A Handoff is what the old process passes to the new one: plain state and open descriptors. Exec
// writes it to an anonymous file and replaces the program by execve(2). The PID, the parent, the
// children, the session and every lock on a passed descriptor stay, so other processes see no exit.
// Inherit reads the handoff in the new process. A Guard decides whether gophd may re-exec after a
// fatal error, so that a broken program does not re-exec again and again. This package does not
// decide when to re-exec otherwise, does not interpret the state, and does not check the new
// binary.
//
// In this package a restart is always a re-exec of gophd. The restart of a service belongs to
// package loop.
package restart

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/fault"
	"gophd/internal/procfs"
	"gophd/internal/request"
	"gophd/internal/schedule"
	"gophd/internal/self"
)

// Version is the version of the handoff's format. Both processes must know it: a process that does
// not understand the whole handoff would leave runs behind.
const Version = 10

// MaxSize limits a handoff for that many jobs, in bytes, on both sides, so that Inherit can read what
// Exec writes.
func MaxSize(jobs int) int { return 16<<20 + jobs*48<<10 }

// Handoff is what the old process passes to the new one.
type Handoff struct {
	Jobs     int           // their number; the limit of the size depends on it
	Instance string        // the instance id, the same over all re-execs of a daemon
	Daemon   bool          // detached from the terminal
	Born     time.Time     // first start of this daemon, by the wall clock of that moment
	Began    time.Duration // the same by the boot clock, for the uptime; 0 if the old process did not set it
	Restarts int           // re-execs before this one
	Guard    Guard         // state of the restart guard

	Requests []request.Request // received and not yet carried out

	// Config is what the new process uses, validated by the preflight; empty if it must load the
	// config itself. Previous is what the old one used. Both are encoded by package config, and State
	// by package daemon: of the jobs and all that serves them. None of them is read here.
	Config, Previous, State []byte `json:"-"`

	// Files are descriptors to keep open, by name. Their offsets, locks and modes stay, since they
	// remain the same open file descriptions. Their deadlines do not.
	Files map[string]*os.File `json:"-"`
}

// Grid is the position of a job's loop in its series of ticks.
type Grid struct {
	Runs uint64 // number of the last run

	// Of an interval.
	Anchor   Instant       `json:",omitempty"` // tick 0
	Tick     uint64        `json:",omitempty"` // the next tick is due at Anchor + Tick × Interval
	Interval time.Duration `json:",omitempty"` // of this grid

	// Of a calendar: the next tick is the first due time after the last one.
	Calendar *schedule.Schedule `json:",omitempty"`
	Last     time.Time          `json:",omitzero"`
}

// ErrUnreadable means that a handoff cannot be decoded. It is not known then what the old process
// left.
var ErrUnreadable = errors.New("it cannot be read")

// Inherit returns what the old process handed off, or nil when there was no old process. The files
// get close-on-exec again. An error says why an existing handoff cannot be used. Its state is lost
// then, and the descriptors that it names stay untouched, because they may have another owner.
func Inherit(s self.Self) (*Handoff, error) {
	if s.Handoff == "" {
		return nil, nil
	}
	h, err := inherit(s.Handoff)
	if err != nil {
		return nil, fmt.Errorf("cannot read the handoff %s=%.40q: %w: unset it, or start gophd again",
			self.HandoffVariable, s.Handoff, err)
	}
	return h, nil
}

func inherit(number string) (*Handoff, error) {
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return nil, errors.New("not the number of a descriptor above 2")
	}
	data, err := readAll(fd)
	if err != nil {
		return nil, err
	}
	w, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if pid := os.Getpid(); w.PID != pid {
		return nil, fmt.Errorf("it is for process %d, and this is %d", w.PID, pid)
	}
	if id := bootID(); w.BootID != id {
		return nil, fmt.Errorf("it is from another boot of this machine, %.40q", w.BootID)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Descriptors)) {
		n := w.Descriptors[name]
		if n == fd {
			return nil, fmt.Errorf("it names itself as %.40q", name)
		}
		if _, err := unix.FcntlInt(uintptr(n), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("descriptor %d, %.40q, is not open: %v", n, name, err)
		}
	}
	discard(w.Ignored)
	w.Files = make(map[string]*os.File, len(w.Descriptors))
	for name, n := range w.Descriptors {
		w.Files[name] = os.NewFile(uintptr(n), name)
	}
	return &w.Handoff, unix.Close(fd)
}

// Exec replaces this process by the program at s.Path, with the arguments, directory and
// environment of s, and passes h to it. Exec returns only if that failed, with the reason. This
// process can continue then: descriptors, signal mask and working directory are unchanged. Two
// things may have changed: the limit of open files is the one that gophd was started with, and INT
// and HUP do nothing until signal.Notify is called for them again.
//
// Call it last: no goroutine survives, buffered output is lost, and no other goroutine may start a
// program or use a relative path meanwhile (a start would wait, a relative path would resolve in
// the wrong directory). Once INT and HUP cannot end the process, Exec calls closeSignals. It stops
// listening to signals and returns the requests that had arrived. h passes them on, except
// restarts. If Exec fails, closeSignals may or may not have been called.
//
// A signal may come between closeSignals and the signal.Notify of the new process, some
// milliseconds:
//   - USR1, USR2 and CONT wait in the kernel and are delivered then, if this process itself was
//     started with them blocked, as it is by -d and by Exec. Otherwise one that comes before execve
//     may be lost.
//   - INT and HUP are dropped. An INT may have to be repeated; a HUP is served by this restart.
//   - TERM ends the process. This is the known gap: before main, the Go runtime unblocks TERM and
//     installs a handler that ends the process. That is better than a TERM that is lost.
//   - QUIT is not held: it may end the process, with a dump of its stacks.
//   - Other signals that gophd does not use do nothing.
func (h *Handoff) Exec(s self.Self, closeSignals func() []request.Request) error {
	if err := h.exec(s, closeSignals); err != nil {
		return fmt.Errorf("cannot become %s: %w: put a working program there and reload again", s.Path, err)
	}
	return nil
}

func (h *Handoff) exec(s self.Self, closeSignals func() []request.Request) error {
	if err := awaitDisk(); err != nil {
		return err
	}
	release, err := self.HoldSignals()
	if err != nil {
		return err
	}
	defer release()
	ignored := notIgnored()
	defer discard(ignored)
	discard(ignored) // or they would end this process between closeSignals and signal.Ignore
	h.addRequests(closeSignals())
	for _, s := range ignored {
		signal.Ignore(s)
	}
	fault.At("signals closed")

	w := wire{Version: Version, PID: os.Getpid(), BootID: bootID(), Handoff: *h,
		Descriptors: map[string]int{}, Ignored: ignored}
	var kept []int
	for name, f := range h.Files {
		fd, err := number(f)
		if err != nil {
			return fmt.Errorf("keep descriptor %q: %w", name, err)
		}
		w.Descriptors[name] = fd
		kept = append(kept, fd)
	}
	file, err := w.write()
	if err != nil {
		return fmt.Errorf("the handoff: %w", err)
	}
	defer func() { _ = file.Close() }()
	fd, err := number(file)
	if err != nil {
		return fmt.Errorf("the handoff: %w", err)
	}
	kept = append(kept, fd)

	// No child may be forked while the descriptors are without close-on-exec.
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	for _, fd := range kept {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keep descriptor %d: %w", fd, err)
		}
		defer unix.CloseOnExec(fd)
	}

	cwd, err := unix.Open(".", openDirectory|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the working directory: %w", err)
	}
	defer func() { _ = unix.Close(cwd) }()
	if err := unix.Chdir(s.Dir); err != nil {
		return fmt.Errorf("return to the directory %s: %w", s.Dir, err)
	}
	defer func() { _ = unix.Fchdir(cwd) }()

	fault.At("exec")
	env := append(slices.Clip(s.Env), self.HandoffVariable+"="+strconv.Itoa(fd))
	return syscall.Exec(s.Path, s.Args, env)
}

// diskTimeout is how long an exec waits for a disk that does not answer.
const diskTimeout = time.Second

// awaitDisk returns when no thread is in a system call that would block the exec in the kernel.
func awaitDisk() error {
	for end := time.Now().Add(diskTimeout); procfs.WaitsForDisk(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("a disk does not answer")
		}
	}
	return nil
}

// addRequests adds the requests that the new process has to serve. A reload is served by this
// restart.
func (h *Handoff) addRequests(requests []request.Request) {
	for _, r := range requests {
		if r.Verb != request.Reload {
			h.Requests = append(h.Requests, r)
		}
	}
}

// notIgnored returns those of INT and HUP that are not ignored. Once Exec ignores them they cannot
// end the new process: its runtime leaves an ignored signal ignored until signal.Notify is called
// for it.
func notIgnored() []syscall.Signal {
	return slices.DeleteFunc([]syscall.Signal{syscall.SIGINT, syscall.SIGHUP},
		func(s syscall.Signal) bool { return signal.Ignored(s) })
}

// discard catches signals and drops them, until signal.Notify is called for them. It also makes
// os/signal forget that they were ignored at the start, which would mean nohup(1).
func discard(signals []syscall.Signal) {
	unread := make(chan os.Signal, 1)
	for _, s := range signals {
		signal.Notify(unread, s)
	}
}

// number returns f's descriptor. Unlike f.Fd it does not set blocking mode, which the new process
// would inherit.
func number(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	if raw.Control(func(n uintptr) { fd = int(n) }) != nil {
		return 0, os.ErrClosed // Control's error means the same, but is not os.ErrClosed
	}
	return fd, nil
}
