package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gophd/internal/job"
	"gophd/internal/process"
)

// The loop's count and the runner's slots may differ at the start and at the end of a run:
// different goroutines update them.
func TestDetachFailsWhenLoopAndRunnerDisagree(t *testing.T) {
	for count, want := range map[int]bool{0: true, 1: false, 2: false} {
		r := &runner{slots: make([]slot, 2)}
		if got := r.detach(count, Detach) == nil; got != want {
			t.Errorf("the loop has %d runs and the runner none: detached is %t", count, got)
		}
	}
}

func TestDetachErrorNamesTheRun(t *testing.T) {
	for want, c := range map[string]struct {
		process *process.Process
		cause   error
	}{
		"run 3 is being started":                       {nil, nil},
		"run 3 is being stopped before the lease ends": {&process.Process{}, &job.UrgentError{Why: "lost"}},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(nil)
		r := &runner{slots: []slot{{}, {run: job.Run{Number: 3}, ctx: ctx, cancel: cancel,
			forced: new(atomic.Bool), process: c.process}}}
		if c.cause != nil {
			r.slots[1].forced.Store(true)
		}
		if err := r.detach(1, Detach); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A handoff keeps the stop plan and its cause, to the microseconds that restart.At preserves.
func TestStopPlanIsHandedOff(t *testing.T) {
	now := time.Now()
	near := func(a, b time.Time) bool { return a.Sub(b).Abs() < time.Millisecond && a.IsZero() == b.IsZero() }
	for name, c := range map[string]struct {
		plan  process.StopPlan
		cause error
	}{
		"timeout": {process.StopPlan{Asked: now.Add(-time.Second),
			Signals: []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, Sent: 1,
			Grace: time.Minute, Kill: now.Add(time.Minute)}, fmt.Errorf("run 3: %w", job.ErrTimeout)},
		"overlap": {process.StopPlan{Asked: now, Signals: []syscall.Signal{syscall.SIGTERM, syscall.SIGINT},
			Grace: time.Hour,
			Next:  now.Add(time.Hour), Kill: now.Add(2 * time.Hour)}, job.ErrReplaced},
		"": {process.StopPlan{Kill: now.Add(-time.Minute)}, nil}, // of escaped processes
	} {
		text, err := json.Marshal(handOffStop(&c.plan, c.cause))
		if err != nil {
			t.Fatal(err)
		}
		var s *RunStop
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		got := s.plan()
		if s.Cause != name || !errors.Is(c.cause, stopCauses[s.Cause]) ||
			!slices.Equal(got.Signals, c.plan.Signals) || got.Sent != c.plan.Sent ||
			got.Grace != c.plan.Grace || !near(got.Asked, c.plan.Asked) || !near(got.Next, c.plan.Next) ||
			!near(got.Kill, c.plan.Kill) {
			t.Errorf("%s: handed off %s, which is %+v, want %+v", name, text, got, c.plan)
		}
	}
	if handOffStop(nil, nil).plan() != nil {
		t.Error("a run that is not being stopped has a plan")
	}
}
