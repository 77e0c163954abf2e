package job_test

import (
	"errors"
	"testing"

	"gophd/internal/job"
)

func TestEnding(t *testing.T) {
	for want, r := range map[job.Ending]job.Result{
		job.EndingSuccess:    {Outcome: job.Exited},
		job.EndingFailure:    {Outcome: job.Exited, Code: 3},
		job.EndingTimeout:    {Outcome: job.Exited, Cause: job.ErrTimeout},
		job.EndingKilled:     {Outcome: job.Signaled, Signal: 9},
		job.EndingStartError: {Outcome: job.Unstarted, Err: errors.New("permission denied")},
		job.EndingLeaseLost:  {Outcome: job.Signaled, Signal: 15, Cause: &job.UrgentError{Why: "the lease was lost", Lease: true}},
	} {
		if got := r.Ending(); got != want {
			t.Errorf("%+v is %s, want %s", r, got, want)
		}
	}
	for _, cause := range []error{job.ErrReplaced, job.ErrInsisted, job.ErrStopped, &job.UrgentError{Why: "gophd failed"}} {
		if got := (job.Result{Outcome: job.Signaled, Signal: 15, Cause: cause}).Ending(); got != job.EndingStopped {
			t.Errorf("stopped because %v: %s", cause, got)
		}
	}
}
