package job

import "errors"

// Ending is how a run ended, in one word that programs read: the outcome of status, history and API.
// Its values are stable.
type Ending string

// The endings.
const (
	EndingSuccess    Ending = "success"
	EndingFailure    Ending = "failure" // it exited with a code that is no success
	EndingTimeout    Ending = "timeout" // its timeout stopped it
	EndingStopped    Ending = "stopped" // a request or the shutdown of gophd stopped it, or the next tick did
	EndingKilled     Ending = "killed"  // a signal ended it that gophd did not send
	EndingStartError Ending = "start_error"
	EndingLeaseLost  Ending = "lease_lost" // gophd stopped it because its lease ended
)

// Ending returns how the run ended.
func (r Result) Ending() Ending {
	switch {
	case r.OK():
		return EndingSuccess
	case errors.Is(r.Cause, ErrTimeout):
		return EndingTimeout
	case r.Cause != nil && endsLease(r.Cause):
		return EndingLeaseLost
	case r.Cause != nil:
		return EndingStopped
	case r.Outcome == Unstarted:
		return EndingStartError
	case r.Outcome == Signaled:
		return EndingKilled
	}
	return EndingFailure
}

// endsLease is not a part of Ending, which would then allocate for each run.
func endsLease(cause error) bool {
	urgent := (*UrgentError)(nil)
	return errors.As(cause, &urgent) && urgent.Lease
}
