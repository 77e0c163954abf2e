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

// Result is the result of one run. A failed start is a Result too, so that all outcomes are handled
// in one place.
type Result struct {
	Run
	PID            int       // 0 if it was never started
	Started, Ended time.Time // with monotonic readings

	Outcome Outcome
	Code    int            // exit code, if Exited
	Signal  syscall.Signal // the signal that killed it, if Signaled
	Core    bool           // it dumped core
	Verdict Verdict        // see Spec.Judge; Unjudged before that
	Left    bool           // it exited by itself, and processes of its group outlived it and were killed

	Err   error // why it was not started, if Unstarted
	Cause error // why gophd stopped it; nil if it exited by itself

	Usage Usage

	Output string // the end of what it wrote, if it failed, gophd captures it, and there is a history
}

// Outcome is how a run ended. An outcome is never converted into another: an exit code is not a
// signal.
type Outcome uint8

// The outcomes.
const (
	Exited    Outcome = iota + 1 // with an exit code
	Signaled                     // killed by a signal
	Unstarted                    // the command could not be started
)

// Usage is the resource usage of the run and the descendants that it waited for (getrusage(2)).
type Usage struct {
	User, System time.Duration
	MaxRSS       int64 // bytes
}

// Why gophd stops a run: the values of Result.Cause, in addition to errors of a lease.
var (
	ErrTimeout  = errors.New("it exceeded its timeout")
	ErrReplaced = errors.New("the next tick was due")
	ErrInsisted = errors.New("a forced stop was requested")
	ErrStopped  = errors.New("a stop was requested") // of the run, or of its service
)

// UrgentError is why a run is stopped that must be dead after Grace, which may be less than the
// job's own: the lease ends, or gophd has failed.
type UrgentError struct {
	Why   string
	Grace time.Duration // from the first stop signal to KILL
	Lease bool          // it ends, or is lost
}

func (e *UrgentError) Error() string { return e.Why }

// OK reports whether the run succeeded: it exited with a success code, and was not cut short.
func (r Result) OK() bool {
	if r.Verdict == Unjudged {
		return r.Outcome == Exited && r.Code == 0 && !r.cutShort()
	}
	return r.Verdict == Success
}

// Failed reports whether the run counts as a failure. A run that gophd stopped because of a stop
// request, or because the lease expired, is neither a success nor a failure.
func (r Result) Failed() bool {
	if r.OK() {
		return false
	}
	return r.Cause == nil || r.cutShort()
}

// cutShort reports whether gophd stopped the run because it took too long, and not because of a
// request or a lease.
func (r Result) cutShort() bool {
	return errors.Is(r.Cause, ErrTimeout) || errors.Is(r.Cause, ErrReplaced)
}

// ExitCode returns the code that a shell would report: that of the command, 128+n for signal n, 127
// for a command that was not found, 126 for one that could not be executed (POSIX, Shell &
// Utilities 2.8.2).
func (r Result) ExitCode() int {
	switch r.Outcome {
	case Exited:
		return r.Code
	case Signaled:
		return 128 + int(r.Signal)
	}
	return StartCode(r.Err)
}

// ErrSetup matches with errors.Is if a start failed because of the exec environment, not because of
// the command itself: its directory, its input or output, its user or limits.
var ErrSetup = errors.New("the exec environment of the command")

// SetupError returns err, which then matches ErrSetup with errors.Is.
func SetupError(err error) error { return &setupError{err} }

type setupError struct{ error }

func (e *setupError) Unwrap() error        { return e.error }
func (e *setupError) Is(target error) bool { return target == ErrSetup }

// StartCode returns the exit code for a command that could not be started: 127 if it was not found,
// 126 if it exists and cannot be executed, 1 if gophd could not attempt that because its exec
// environment could not be set up or the system lacked resources.
func StartCode(err error) int {
	switch {
	case errors.Is(err, ErrSetup):
		return 1
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG):
		return 127
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, syscall.EISDIR),
		errors.Is(err, syscall.ETXTBSY), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.E2BIG):
		return 126
	}
	return 1
}

// String describes the outcome: "exit code 3", "signal KILL", "not started: permission denied".
func (r Result) String() string {
	switch r.Outcome {
	case Exited:
		return "exit code " + strconv.Itoa(r.Code)
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

// SignalName returns the name without the prefix SIG, as kill(1) writes it, or the number if the
// signal has no name.
func SignalName(s syscall.Signal) string {
	if n := strings.TrimPrefix(unix.SignalName(s), "SIG"); n != "" {
		return n
	}
	return strconv.Itoa(int(s))
}
