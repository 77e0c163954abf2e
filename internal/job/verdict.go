package job

import (
	"errors"
	"slices"
)

// Verdict is what the job's owner makes of an ended run.
type Verdict uint8

// The verdicts. Retry and Fatal are failures too.
const (
	Unjudged Verdict = iota // exit 0 is a success, all else a failure
	Success
	Failure // and no more than that
	Retry   // it is tried again within its tick, as often as Spec.Retries says
	Fatal   // gophd replaces itself, or leaves
)

// Judge says what the job's exit codes make of a run, whether or not it was judged before. A job that names no
// code of success has the usual one, 0. What has no exit code (a signal, a start that failed) is never a
// success, nor fatal. A run that gophd itself ended is never fatal, and retried only when that was for its
// timeout: after a tick, an order or a lease that ended it there is no room for another try.
func (s *Spec) Judge(r Result) Verdict {
	coded := r.Outcome == Exited
	switch {
	case coded && (slices.Contains(s.SuccessCodes, r.Code) || r.Code == 0 && len(s.SuccessCodes) == 0):
		return Success
	case r.Cause != nil && !errors.Is(r.Cause, ErrTimeout):
		return Failure
	case coded && r.Cause == nil && slices.Contains(s.FatalCodes, r.Code):
		return Fatal
	case s.Retries > 0 && (len(s.RetryCodes) == 0 || coded && slices.Contains(s.RetryCodes, r.Code)):
		return Retry
	}
	return Failure
}
