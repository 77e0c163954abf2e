package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
	"gophd/internal/schedule"
)

// still is an environment in which nothing happens by itself: the gate is as set, the timer never
// expires, and a run lasts until its context ends.
type still struct{ shut chan struct{} }

func (w still) Record(Report)                   {}
func (w still) Shut(time.Time) <-chan struct{}  { return w.shut }
func (w still) timer(sync.Locker, func()) Timer { return w }
func (w still) Set(time.Duration)               {}
func (w still) Stop()                           {}
func (w still) Run(ctx context.Context, _ job.Run) job.Result {
	<-ctx.Done()
	return job.Result{Outcome: job.Exited}
}

// Jobs of each kind. Every run exits with code 0.
var (
	onGrid   = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true, Overlap: job.OverlapQueue}}
	retrying = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true},
		Retry: job.Retry{SuccessCodes: []int{1}, Retries: 1, RetryDelay: 100 * time.Millisecond}}
	calendarJob = job.Spec{Schedule: job.Schedule{Calendar: eachSecond(), RunAtStart: true, Overlap: job.OverlapQueue}}
	service     = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true, Service: true}}
	limited     = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true},
		Retry: job.Retry{SuccessCodes: []int{1}, StartLimit: 1, StartLimitInterval: time.Second}}
	fatal = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true,
		Overlap: job.OverlapAllow, MaxParallel: 2}, Retry: job.Retry{SuccessCodes: []int{1}, FatalCodes: []int{0}}}
	overlapping = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true,
		Overlap: job.OverlapAllow, MaxParallel: 2}}
)

func eachSecond() *schedule.Schedule {
	s, err := schedule.Parse("@every 1s", schedule.Options{})
	if err != nil {
		panic(err)
	}
	return &s
}

// in returns a loop that is in the given state.
func in(t *testing.T, spec job.Spec, state job.State, gate chan struct{}) *Loop {
	w := still{}
	u := New(Options{Spec: &spec, Runner: w, Recorder: w, Gate: w, Timer: w.timer})
	var reached job.State // by the last event: the run of a service that is stopped may end right after
	serve := func(event func()) { u.serve(func() { event(); reached = u.state }) }
	serve(u.start)
	switch state {
	case job.Held:
		u.Gate = still{make(chan struct{})}
		serve(u.timerExpired)
	case job.Running:
		serve(u.timerExpired)
	case job.Draining:
		serve(u.timerExpired)
		serve(u.stop)
	case job.Done:
		serve(u.stop)
	}
	if reached != state {
		t.Fatalf("cannot bring a loop to %v: it is %v", state, reached)
	}
	u.Gate = still{gate}
	return u
}

// end ends the loop and stops its runs. It waits for them, unless they were handed off.
func end(u *Loop) {
	u.Cancel(nil)
	if !u.handedOff {
		u.Wait()
	}
}

// TestEachCellOfTheTable covers every cell of the table in doc.go: the state that each event leads
// to from each state, with the gate open and shut. "now" in the table below is the state that does
// not change. A row may be covered more than once, with jobs of different kinds.
func TestEachCellOfTheTable(t *testing.T) {
	const now = job.State(0)
	type cells [5]job.State // from waiting, held, running, draining, done
	type row struct {
		name       string
		spec       job.Spec
		event      func(*Loop)
		open, shut cells
		started    int // runs that start in running, with the gate open
	}
	served := func(event func(*Loop)) func(*Loop) {
		return func(u *Loop) { u.serve(func() { event(u) }) }
	}
	ended := func(u *Loop) {
		for i := range u.slots {
			if cancel := u.slots[i].cancel; cancel != nil {
				cancel(nil)
				break
			}
		}
		synctest.Wait() // its own goroutine handles the end
	}
	handOff := func(busy error) func(*Loop) {
		return served(func(u *Loop) {
			before := u.state
			if err := u.handOff(func() error { return busy }); (err == nil) != (u.state != before) {
				t.Errorf("changed from %v to %v, with error %v", before, u.state, err)
			}
		})
	}
	ticked := func(u *Loop) {
		time.Sleep(time.Second)
		u.serve(u.timerExpired)
	}
	canceled := func(u *Loop) { u.Cancel(nil) }
	settled := func(*Loop) { synctest.Wait() } // runs that are being stopped have ended
	again := func(u *Loop) {
		if u.grid.Runs > 0 {
			time.Sleep(retrying.RetryDelay)
			u.serve(u.timerExpired)
		}
	}
	then := func(events ...func(*Loop)) func(*Loop) {
		return func(u *Loop) {
			for _, e := range events {
				e(u)
			}
		}
	}
	expired, open, stop, runNow := served((*Loop).timerExpired), served((*Loop).open),
		served((*Loop).stop), served((*Loop).runNow)
	unchanged := cells{now, now, now, now, now}
	start, hold := cells{job.Running, job.Running, now, now, now}, cells{job.Held, now, now, now, now}
	stopped := cells{job.Done, job.Done, job.Draining, now, now}
	rows := []row{
		{"timer", onGrid, expired, start, hold, 0},
		{"timer", overlapping, expired, start, hold, 0},
		{"tick", onGrid, ticked, start, hold, 0},
		{"timer", calendarJob, expired, start, hold, 0},
		{"tick", calendarJob, ticked, start, hold, 0},
		{"opened", calendarJob, open, cells{now, job.Running, now, now, now}, unchanged, 0},
		{"ended", calendarJob, ended, cells{now, now, job.Waiting, job.Done, now},
			cells{now, now, job.Waiting, job.Done, now}, 0},
		{"stop", calendarJob, stop, stopped, stopped, 0},
		{"run now", calendarJob, runNow, cells{job.Running, now, now, now, now}, hold, 0},
		{"hand off", calendarJob, handOff(nil), cells{job.Done, job.Done, job.Done, job.Done, now},
			cells{job.Done, job.Done, job.Done, job.Done, now}, 0},
		{"tick", overlapping, ticked, start, hold, 1},
		{"tick", overlapping, then(ticked, ticked), start, hold, 1},
		{"opened", onGrid, open, cells{now, job.Running, now, now, now}, unchanged, 0},
		{"opened", overlapping, open, cells{now, job.Running, now, now, now}, unchanged, 0},
		{"ended", onGrid, ended, cells{now, now, job.Waiting, job.Done, now},
			cells{now, now, job.Waiting, job.Done, now}, 0},
		{"ended", overlapping, ended, cells{now, now, job.Waiting, job.Done, now},
			cells{now, now, job.Waiting, job.Done, now}, 0},
		{"to retry", retrying, ended, cells{now, now, job.Waiting, job.Done, now},
			cells{now, now, job.Waiting, job.Done, now}, 0},
		{"to retry", retrying, then(ended, again), cells{now, now, now, job.Done, now},
			cells{now, now, job.Held, job.Done, now}, 1},
		{"to retry", retrying, then(ended, runNow), cells{job.Running, now, now, job.Done, now},
			cells{job.Held, now, job.Held, job.Done, now}, 1},
		{"to retry", retrying, then(ended, stop), cells{job.Done, job.Done, job.Done, job.Done, now},
			cells{job.Done, job.Done, job.Done, job.Done, now}, 0},
		{"one ended", overlapping, then(ticked, ended), cells{job.Waiting, job.Waiting, now, job.Done, now},
			cells{job.Held, now, job.Held, job.Done, now}, 1},
		{"give up", limited, ended, cells{now, now, job.Done, job.Done, now},
			cells{now, now, job.Done, job.Done, now}, 0},
		{"give up", fatal, ended, cells{now, now, job.Done, job.Done, now},
			cells{now, now, job.Done, job.Done, now}, 0},
		{"give up", fatal, then(ticked, ticked, ended),
			cells{job.Draining, job.Draining, job.Draining, job.Done, now},
			cells{job.Held, now, job.Done, job.Done, now}, 1},
		{"stop", onGrid, stop, stopped, stopped, 0},
		{"stop", overlapping, then(ticked, stop),
			cells{job.Draining, job.Draining, job.Draining, now, now}, stopped, 1},
		{"timer", service, then(expired, settled), cells{job.Running, job.Running, now, job.Done, now},
			cells{job.Held, now, now, job.Done, now}, 0},
		{"ended", service, ended, cells{now, now, job.Waiting, job.Done, now},
			cells{now, now, job.Waiting, job.Done, now}, 0},
		{"stop", service, then(stop, settled), cells{job.Done, job.Done, job.Done, job.Done, now},
			cells{job.Done, job.Done, job.Done, job.Done, now}, 0},
		{"run now", onGrid, runNow, cells{job.Running, now, now, now, now}, hold, 0},
		{"run now", overlapping, runNow, cells{job.Running, now, now, now, now}, hold, 1},
		{"run now", overlapping, then(runNow, runNow), cells{job.Running, now, now, now, now}, hold, 1},
		{"count", overlapping, served((*Loop).countMissed), unchanged, unchanged, 0},
		{"canceled", onGrid, stop, stopped, stopped, 0},
		{"canceled", onGrid, then(canceled, settled), cells{job.Done, job.Done, job.Done, job.Done, now},
			cells{job.Done, job.Done, job.Done, job.Done, now}, 0},
		{"canceled", overlapping, then(ticked, canceled, settled), cells{job.Done, job.Done, job.Done, job.Done, now},
			cells{job.Done, job.Done, job.Done, job.Done, now}, 1},
		{"hand off", onGrid, handOff(nil), cells{job.Done, job.Done, job.Done, job.Done, now},
			cells{job.Done, job.Done, job.Done, job.Done, now}, 0},
		{"hand off", onGrid, handOff(errors.New("a run is starting")), unchanged, unchanged, 0},
		{"hand off", overlapping, then(ticked, handOff(nil)), cells{job.Done, job.Done, job.Done, job.Done, now},
			cells{job.Done, job.Done, job.Done, job.Done, now}, 1},
		{"hand off", overlapping, then(ticked, handOff(errors.New("a run is starting"))),
			cells{job.Running, job.Running, now, now, now}, hold, 1},
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if !strings.Contains(string(doc), "\n//\t"+r.name+" ") {
			t.Errorf("the table in doc.go has no row for %q", r.name)
		}
		for j, from := range job.States {
			for _, isShut := range []bool{false, true} {
				want := r.open[j]
				if isShut {
					want = r.shut[j]
				}
				if want == now {
					want = from
				}
				t.Run(fmt.Sprintf("%d: %s in %v, gate shut %v", i, r.name, from, isShut), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var gate chan struct{}
						if isShut {
							gate = make(chan struct{})
						}
						u := in(t, r.spec, from, gate)
						runs := u.grid.Runs
						r.event(u)
						if u.state != want {
							t.Errorf("changed to %v, want %v", u.state, want)
						}
						started := int(u.grid.Runs - runs)
						if from == job.Running && !isShut && started != r.started {
							t.Errorf("%d runs were started, want %d", started, r.started)
						}
						if from < job.Running && u.state == job.Running && started == 0 {
							t.Error("no run was started")
						}
						if isShut && started != 0 || from > job.Running && started != 0 {
							t.Errorf("%d runs were started", started)
						}
						end(u)
					})
				})
			}
		}
	}
}
