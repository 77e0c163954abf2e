package status_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/status"
)

func TestLineOfOneJob(t *testing.T) {
	at := time.Date(2026, 11, 27, 3, 17, 0, 0, time.Local)
	ended := func(code int) event.Event {
		return event.RunEnded("nightly", job.Tick{Result: job.Result{Run: job.Run{Number: 7}, Started: at, Ended: at.Add(time.Minute),
			Outcome: job.Exited, Code: code}})
	}
	waiting := event.JobState("nightly", job.Waiting, job.Run{}, at, at.Add(24*time.Hour))
	for _, c := range []struct {
		every  time.Duration
		holder string
		events []event.Event
		want   string
	}{
		{want: "17 3 * * 1-5, no run has ended yet"},
		{events: []event.Event{waiting}, want: "next run Sat Nov 28 03:17:00, no run has ended yet"},
		{events: []event.Event{ended(0), waiting}, want: "next run Sat Nov 28 03:17:00, last success Fri Nov 27 03:18:00"},
		{events: []event.Event{ended(3), waiting}, want: "next run Sat Nov 28 03:17:00, the last run ended Fri Nov 27 03:18:00: exit code 3"},
		{every: 5 * time.Second, events: []event.Event{waiting, ended(0)}, want: "17 3 * * 1-5, the last run succeeded"},
		{every: 5 * time.Second, events: []event.Event{ended(3)}, want: "17 3 * * 1-5, the last run did not succeed: exit code 3"},
		{every: time.Hour, events: []event.Event{event.RunStarted("nightly", job.Run{Number: 8}, 901, at)},
			want: "run 8 since Fri Nov 27 03:17:00, no run has ended yet"},
		{events: []event.Event{event.RunEnded("nightly", job.Tick{Result: job.Result{Outcome: job.Exited}}),
			event.RunStarted("nightly", job.Run{Number: 8}, 901, at)}, want: "17 3 * * 1-5, the last run succeeded"}, // back to back
		{events: []event.Event{ended(0), {Type: event.TypeJobSteered, Job: "nightly", State: "paused"}, waiting},
			want: "paused, last success Fri Nov 27 03:18:00"},
		{holder: "PID 7 on db1", events: []event.Event{waiting}, want: "on standby, the lease is held by PID 7 on db1"},
		{events: []event.Event{event.JobFailed("nightly", errors.New("it exited 5 times"))}, want: "failed: it exited 5 times"},
	} {
		b := status.New(status.Snapshot{State: "serving", Jobs: []status.Job{{Name: "nightly", Schedule: "17 3 * * 1-5", Every: c.every}}})
		for _, e := range c.events {
			b.Read(e)
		}
		if got := b.Line(map[string]string{"nightly": c.holder}); got != "nightly: "+c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestLineOfManyJobs(t *testing.T) {
	nine := func() *status.Board {
		s := status.Snapshot{State: "serving"}
		for i := range 9 {
			s.Jobs = append(s.Jobs, status.Job{Name: fmt.Sprint("j", i)})
		}
		return status.New(s)
	}
	b := nine()
	compare := func(standby map[string]string, want string) {
		t.Helper()
		if got := b.Line(standby); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	compare(nil, "9 jobs, none has a problem")
	b.Read(event.RunEnded("j3", job.Tick{Result: job.Result{Outcome: job.Exited, Code: 1}}))
	b.Read(event.RunEnded("j2", job.Tick{Result: job.Result{Outcome: job.Exited}}))
	b.Read(event.Event{Type: event.TypeJobSteered, Job: "j4", State: "paused"})
	compare(nil, "9 jobs; paused: j4; last run failed: j3")
	for i := 5; i < 9; i++ {
		b.Read(event.JobFailed(fmt.Sprint("j", i), errors.New("why")))
	}
	compare(map[string]string{"j0": "db1"}, "9 jobs; failed: j5, j6, j7 and 1 more; on standby: j0; paused: j4; last run failed: j3")
	b = nine()
	all := map[string]string{}
	for i := range 9 {
		all[fmt.Sprint("j", i)] = "PID 7 on db1"
	}
	compare(all, "9 jobs on standby, the lease is held by PID 7 on db1")
	b.Read(event.RunStarted("j1", job.Run{Number: 8}, 901, time.Now()))
	b.Read(event.State("serving", "draining"))
	compare(nil, "draining, waiting for run 8 of j1")
}
