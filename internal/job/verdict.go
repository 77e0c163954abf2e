package job

import (
	"errors"
	"slices"
)

// Verdict is what the job's owner makes of an ended run.
type Verdict uint8

// The verdicts. Retryable and Fatal are failures too.
const (
	Unjudged Verdict = iota // exit 0 is a success, but for a run that was cut short; all else is a failure
	Success
	Failure   // and no more than that
	Retryable // it is tried again within its tick, as often as Spec.Retries says
	Fatal     // gophd replaces itself, or leaves
)

// Judge says what the job's exit codes make of a run, whether or not it was judged before. A job that names no
// code of success has the usual one, 0. What has no exit code (a signal, a start that failed) is never a
// success, nor fatal. Nor is a run that gophd cut short, by its timeout or for the next tick, a success: it was not let
// finish, and a handler of TERM that exits with 0 says only that it ended in order (as timeout(1) and systemd
// have it). A run that gophd itself ended is never fatal, and retried only when that was for its timeout: after a
// tick, an order or a lease that ended it there is no room for another try.
func (s *Spec) Judge(r Result) Verdict {
	coded := r.Outcome == Exited
	switch {
	case s.succeeds(r) && !r.cutShort():
		return Success
	case r.Cause != nil && !errors.Is(r.Cause, ErrTimeout):
		return Failure
	case coded && r.Cause == nil && slices.Contains(s.FatalCodes, r.Code):
		return Fatal
	case s.Retries > 0 && (len(s.RetryCodes) == 0 || coded && slices.Contains(s.RetryCodes, r.Code)):
		return Retryable
	}
	return Failure
}

// succeeds says that the run ended with a code of success, whatever made it end.
func (s *Spec) succeeds(r Result) bool {
	return r.Outcome == Exited && (slices.Contains(s.SuccessCodes, r.Code) || r.Code == 0 && len(s.SuccessCodes) == 0)
}

// codeCutShort is what timeout(1) leaves with when the time is over.
const codeCutShort = 124

// ExitCode is the code to leave with after the job's only run: that of Result.ExitCode, which is a failure's when the run
// was one. 124 stands in for a code of success with which a run ended that was cut short.
func (s *Spec) ExitCode(r Result) int {
	if r.cutShort() && s.succeeds(r) {
		return codeCutShort
	}
	return r.ExitCode()
}
