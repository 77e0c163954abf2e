package job

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Result is what came of one run. A start that failed is a Result too, so there is one road for
// everything that can happen to a run.
type Result struct {
	Run
	PID            int       // 0 when it never started
	Started, Ended time.Time // with monotonic readings

	Outcome Outcome
	Code    int            // exit code, when Exited
	Signal  syscall.Signal // the signal that ended it, when Signaled
	Core    bool           // it left a core file
	Verdict Verdict        // see Spec.Judge; the zero value when nobody judged it

	Err   error // why it did not start, when Unstarted
	Cause error // why gophd stopped it; nil when it ended by itself

	Usage Usage
}

// Outcome is the way a run ended. One is never turned into another: an exit code is not a signal.
type Outcome uint8

// The outcomes.
const (
	Exited    Outcome = iota + 1 // with an exit code
	Signaled                     // by a signal
	Unstarted                    // the command could not be started
)

// Usage is what the kernel counted for the run and the descendants it waited for (getrusage(2)).
type Usage struct {
	User, System time.Duration
	MaxRSS       int64 // bytes
}

// Why gophd stops a run: the causes that Result.Cause may hold, beside errors of a lease.
var (
	ErrTimeout  = errors.New("it ran longer than its timeout")
	ErrOverrun  = errors.New("the next tick was due")
	ErrInsisted = errors.New("gophd was told to stop now")
	ErrStopped  = errors.New("gophd was told to stop") // a service, which would never end
)

// OK says that the run did what was asked: it exited with a code of success, and was not cut short.
func (r Result) OK() bool {
	if r.Verdict == Unjudged {
		return r.Outcome == Exited && r.Code == 0 && !r.cutShort()
	}
	return r.Verdict == Success
}

// Failed says that the run counts as a failure. One that gophd ended because it was itself asked to
// end, or because the lease ran out, is neither a success nor a failure.
func (r Result) Failed() bool {
	if r.OK() {
		return false
	}
	return r.Cause == nil || r.cutShort()
}

// cutShort says that gophd ended the run because it took too long, which is the run's own fault, and not by an order
// or for a lease.
func (r Result) cutShort() bool {
	return errors.Is(r.Cause, ErrTimeout) || errors.Is(r.Cause, ErrOverrun)
}

// ExitCode is the code that a shell would report: the command's own, 128+n for signal n, 127 for a
// command that was not found, 126 for one that could not be executed (POSIX, Shell & Utilities 2.8.2).
func (r Result) ExitCode() int {
	switch r.Outcome {
	case Exited:
		return r.Code
	case Signaled:
		return 128 + int(r.Signal)
	}
	return StartCode(r.Err)
}

// ErrWorld is found by errors.Is in the reason for a start that failed by what surrounds the command, and says nothing
// of the command: its folder, its input or output, its user or limits.
var ErrWorld = errors.New("the command's surroundings")

// OfWorld is err, with ErrWorld to be found in it.
func OfWorld(err error) error { return &worldError{err} }

type worldError struct{ error }

func (e *worldError) Unwrap() error        { return e.error }
func (e *worldError) Is(target error) bool { return target == ErrWorld }

// StartCode is the exit code for a command that could not be started: 127 when it was not found, 126
// when it is there and cannot be executed, 1 when gophd could not come to that: its surroundings could not be had, or the
// system had no room for it.
func StartCode(err error) int {
	switch {
	case errors.Is(err, ErrWorld):
		return 1
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG):
		return 127
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, syscall.EISDIR),
		errors.Is(err, syscall.ETXTBSY), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.E2BIG):
		return 126
	}
	return 1
}

// String tells the outcome in words: "exit 3", "signal KILL", "not started: permission denied".
func (r Result) String() string {
	switch r.Outcome {
	case Exited:
		return "exit " + strconv.Itoa(r.Code)
	case Signaled:
		s := "signal " + SignalName(r.Signal)
		if r.Core {
			s += " (core dumped)"
		}
		return s
	case Unstarted:
		return "not started: " + r.Err.Error()
	}
	return "unknown outcome"
}

// SignalName is the name without the prefix SIG, as kill(1) writes it, or the number when the signal has no name.
func SignalName(s syscall.Signal) string {
	if n := strings.TrimPrefix(unix.SignalName(s), "SIG"); n != "" {
		return n
	}
	return strconv.Itoa(int(s))
}
