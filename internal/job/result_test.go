package job_test

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"gophd/internal/job"
)

func TestRequestedStopIsNotAFailure(t *testing.T) {
	stopped := job.Result{Outcome: job.Signaled, Signal: syscall.SIGTERM}
	for _, c := range []struct {
		cause  error
		failed bool
	}{
		{nil, true}, // a TERM from another process
		{job.ErrInsisted, false},
		{job.ErrStopped, false},
		{errors.New("the lease was lost"), false},
		{job.ErrTimeout, true},
		{job.ErrReplaced, true},
		{fmt.Errorf("wrapped: %w", job.ErrTimeout), true},
	} {
		stopped.Cause = c.cause
		if stopped.Failed() != c.failed {
			t.Errorf("a run stopped because %v counts as failed: %v", c.cause, !c.failed)
		}
	}
	for cause, failed := range map[error]bool{nil: false, job.ErrInsisted: false, job.ErrStopped: false,
		errors.New("the lease was lost"): false, job.ErrTimeout: true, job.ErrReplaced: true} {
		if r := (job.Result{Outcome: job.Exited, Cause: cause}); r.Failed() != failed || r.OK() == failed {
			t.Errorf("a run that exited with 0 when it was stopped because %v: failed %v, OK %v",
				cause, r.Failed(), r.OK())
		}
	}
}

// TestExitCodeAndTextOfOutcome checks the code that a shell would report, and the text of the
// outcome.
func TestExitCodeAndTextOfOutcome(t *testing.T) {
	for _, c := range []struct {
		r    job.Result
		code int
		text string
	}{
		{job.Result{Outcome: job.Exited}, 0, "exit code 0"},
		{job.Result{Outcome: job.Exited, Code: 2}, 2, "exit code 2"},
		{job.Result{Outcome: job.Exited, Code: 143}, 143, "exit code 143"},
		{job.Result{Outcome: job.Signaled, Signal: syscall.SIGTERM}, 143, "signal TERM"},
		{job.Result{Outcome: job.Signaled, Signal: syscall.SIGSEGV, Core: true}, 139, "signal SEGV (core dumped)"},
		{job.Result{Outcome: job.Signaled, Signal: 40}, 168, "signal 40"},
		{job.Result{Outcome: job.Unstarted, Err: fs.ErrNotExist}, 127, "not started: file does not exist"},
		{job.Result{Outcome: job.Unstarted, Err: syscall.ENOTDIR}, 127, "not started: not a directory"},
		{job.Result{Outcome: job.Unstarted, Err: syscall.EACCES}, 126, "not started: permission denied"},
		{job.Result{Outcome: job.Unstarted, Err: fmt.Errorf("x: %w", syscall.ENOEXEC)},
			126, "not started: x: exec format error"},
		{job.Result{Outcome: job.Unstarted, Err: job.SetupError(fs.ErrNotExist)},
			1, "not started: file does not exist"},
		{job.Result{Outcome: job.Unstarted, Err: fmt.Errorf("x: %w", job.SetupError(syscall.EACCES))},
			1, "not started: x: permission denied"},
		{job.Result{Outcome: job.Unstarted, Err: syscall.EAGAIN}, 1, "not started: resource temporarily unavailable"},
	} {
		if code, text := c.r.ExitCode(), c.r.String(); code != c.code || text != c.text {
			t.Errorf("got %d %q, want %d %q", code, text, c.code, c.text)
		}
	}
}
