package job_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"gophd/internal/job"
)

// TestJudgeOutcomesAndCauses checks outcomes with causes, for a job with all lists of codes, for
// one without any, and for one that retries by code.
func TestJudgeOutcomesAndCauses(t *testing.T) {
	codes := job.Spec{Retry: job.Retry{SuccessCodes: []int{0, 3}, FatalCodes: []int{70}, Retries: 1}}
	plain := job.Spec{} // its success code is 0
	byCode := job.Spec{Retry: job.Retry{SuccessCodes: []int{1}, Retries: 2, RetryCodes: []int{75}}}
	exit := func(code int) job.Result { return job.Result{Outcome: job.Exited, Code: code} }
	killed := job.Result{Outcome: job.Signaled, Signal: syscall.SIGTERM}
	unstarted := job.Result{Outcome: job.Unstarted, Err: syscall.ENOENT}
	for _, c := range []struct {
		r                    job.Result
		cause                error
		codes, plain, byCode job.Verdict
	}{
		{exit(0), nil, job.Success, job.Success, job.Failure},
		{exit(3), nil, job.Success, job.Failure, job.Failure},
		{exit(1), nil, job.Retryable, job.Failure, job.Success},
		{exit(70), nil, job.Fatal, job.Failure, job.Failure},
		{exit(75), nil, job.Retryable, job.Failure, job.Retryable},
		{killed, nil, job.Retryable, job.Failure, job.Failure},
		{unstarted, nil, job.Retryable, job.Failure, job.Failure},

		{exit(0), job.ErrTimeout, job.Retryable, job.Failure, job.Failure},
		{exit(3), job.ErrTimeout, job.Retryable, job.Failure, job.Failure},
		{exit(1), job.ErrTimeout, job.Retryable, job.Failure, job.Failure},
		{exit(0), job.ErrReplaced, job.Failure, job.Failure, job.Failure},
		{exit(1), job.ErrReplaced, job.Failure, job.Failure, job.Failure},
		{exit(70), job.ErrTimeout, job.Retryable, job.Failure, job.Failure},
		{exit(75), fmt.Errorf("wrapped: %w", job.ErrTimeout), job.Retryable, job.Failure, job.Retryable},
		{killed, job.ErrTimeout, job.Retryable, job.Failure, job.Failure},
		{killed, job.ErrReplaced, job.Failure, job.Failure, job.Failure},
		{exit(75), job.ErrReplaced, job.Failure, job.Failure, job.Failure},
		{exit(70), job.ErrInsisted, job.Failure, job.Failure, job.Failure},
		{exit(3), job.ErrInsisted, job.Success, job.Failure, job.Failure},
		{exit(0), job.ErrInsisted, job.Success, job.Success, job.Failure},
		{exit(0), job.ErrStopped, job.Success, job.Success, job.Failure},
		{exit(0), errors.New("the lease was lost"), job.Success, job.Success, job.Failure},
		{killed, errors.New("the lease was lost"), job.Failure, job.Failure, job.Failure},
	} {
		c.r.Cause = c.cause
		for i, spec := range []job.Spec{codes, plain, byCode} {
			want := []job.Verdict{c.codes, c.plain, c.byCode}[i]
			c.r.Verdict = spec.Judge(c.r)
			if c.r.Verdict != want {
				t.Errorf("%v because of %v, job %d: verdict %d, want %d", c.r, c.cause, i, c.r.Verdict, want)
			}
			if c.r.OK() != (want == job.Success) || c.r.OK() && c.r.Failed() {
				t.Errorf("%v because of %v, job %d: OK %v, failed %v", c.r, c.cause, i, c.r.OK(), c.r.Failed())
			}
			if again := spec.Judge(c.r); again != want {
				t.Errorf("%v judged again: %d, not %d", c.r, again, want)
			}
		}
	}
}

// TestExitCodeOfARunCutShort checks that 124 replaces a success code.
func TestExitCodeOfARunCutShort(t *testing.T) {
	plain, codes := job.Spec{}, job.Spec{Retry: job.Retry{SuccessCodes: []int{0, 3}}}
	exit := func(code int) job.Result { return job.Result{Outcome: job.Exited, Code: code} }
	for _, c := range []struct {
		r            job.Result
		cause        error
		plain, codes int
	}{
		{exit(0), nil, 0, 0},
		{exit(3), nil, 3, 3},
		{exit(0), job.ErrTimeout, 124, 124},
		{exit(3), job.ErrTimeout, 3, 124},
		{exit(4), job.ErrTimeout, 4, 4},
		{exit(0), job.ErrReplaced, 124, 124},
		{exit(0), job.ErrInsisted, 0, 0},
		{job.Result{Outcome: job.Signaled, Signal: syscall.SIGTERM}, job.ErrTimeout, 143, 143},
	} {
		c.r.Cause = c.cause
		if a, b := plain.ExitCode(c.r), codes.ExitCode(c.r); a != c.plain || b != c.codes {
			t.Errorf("%v because of %v: codes %d and %d, want %d and %d", c.r, c.cause, a, b, c.plain, c.codes)
		}
	}
}

// TestServiceThatExitsEarlyHasFailed checks that the exit of a service with a success code is a
// success only if it ran long enough, or was stopped.
func TestServiceThatExitsEarlyHasFailed(t *testing.T) {
	started := time.Now()
	for _, c := range []struct {
		interval, ran time.Duration
		code          int
		cause         error
		want          job.Verdict
	}{
		{0, 999 * time.Millisecond, 0, nil, job.TooEarly},
		{0, time.Second, 0, nil, job.Success},
		{5 * time.Second, 4 * time.Second, 0, nil, job.TooEarly},
		{5 * time.Second, 5 * time.Second, 0, nil, job.Success},
		{0, time.Millisecond, 1, nil, job.Failure},
		{0, time.Hour, 1, nil, job.Failure},
		{0, time.Millisecond, 0, job.ErrStopped, job.Success},
		{0, time.Millisecond, 0, errors.New("the lease was lost"), job.Success},
	} {
		spec := job.Spec{Schedule: job.Schedule{Service: true, Interval: c.interval}}
		r := job.Result{Outcome: job.Exited, Code: c.code, Cause: c.cause,
			Started: started, Ended: started.Add(c.ran)}
		r.Verdict = spec.Judge(r)
		if r.Verdict != c.want || r.OK() != (c.want == job.Success) {
			t.Errorf("%+v: verdict %d", c, r.Verdict)
		}
		if failed := c.want != job.Success; r.Failed() != failed {
			t.Errorf("%+v: failed %t", c, r.Failed())
		}
	}
}
