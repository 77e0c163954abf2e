package job

import (
	"errors"
	"slices"
	"time"
)

// Verdict is the meaning of a run's outcome by the settings of the job.
type Verdict uint8

// The verdicts. TooEarly, Retryable and Fatal are failures too.
const (
	Unjudged Verdict = iota // exit code 0 is a success unless the run was cut short
	Success
	Failure   // neither retried nor fatal
	TooEarly  // a failure: the command of a service exited with a success code soon after its start
	Retryable // retried within its tick, up to Spec.Retries times
	Fatal     // gophd re-execs, or exits
)

// stableMin is the shortest time for which the command of a service runs if it is not broken.
const stableMin = time.Second

// StableAfter returns how long the command of a service must run until its exit with a success code
// is a success: Interval, but at least a second. A shorter run is a failure, as in supervisord
// (startsecs): the command cannot work, or has gone to the background.
func (s *Spec) StableAfter() time.Duration { return max(s.Interval, stableMin) }

// Judge returns the verdict of a run by the job's exit codes, whether or not it was judged before.
//
//   - A job without success codes has the code 0.
//   - The command of a service must run for StableAfter, or its exit is a failure with any code.
//   - A run without an exit code (a signal, a failed start) is never a success, and never fatal.
//   - A run that gophd cut short, by its timeout or for the next tick, is never a success: it could
//     not finish, and a TERM handler that exits with 0 only means a graceful exit (as in timeout(1)
//     and systemd).
//   - A run that gophd stopped is never fatal. It is retried only after a timeout: after a tick, a
//     request or the loss of the lease, no time is left for a retry.
func (s *Spec) Judge(r Result) Verdict {
	exited := r.Outcome == Exited
	switch {
	case s.Service && s.succeeds(r) && r.Cause == nil && r.Length() < s.StableAfter():
		return TooEarly
	case s.succeeds(r) && !r.cutShort():
		return Success
	case r.Cause != nil && !errors.Is(r.Cause, ErrTimeout):
		return Failure
	case exited && r.Cause == nil && slices.Contains(s.FatalCodes, r.Code):
		return Fatal
	case s.Retries > 0 && (len(s.RetryCodes) == 0 || exited && slices.Contains(s.RetryCodes, r.Code)):
		return Retryable
	}
	return Failure
}

// succeeds reports whether the run exited with a success code, for whatever reason.
func (s *Spec) succeeds(r Result) bool {
	return r.Outcome == Exited && (slices.Contains(s.SuccessCodes, r.Code) || r.Code == 0 && len(s.SuccessCodes) == 0)
}

// codeCutShort is the exit code of timeout(1) when the time is over.
const codeCutShort = 124

// ExitCode returns the exit code of gophd after the job's only run: that of Result.ExitCode, but
// 124 if the run was cut short and exited with a success code.
func (s *Spec) ExitCode(r Result) int {
	if r.cutShort() && s.succeeds(r) {
		return codeCutShort
	}
	return r.ExitCode()
}
