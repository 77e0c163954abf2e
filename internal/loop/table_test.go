package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
)

// still is a world in which nothing happens by itself: the gate is as asked, the alarm never rings, a
// run lasts until its context ends.
type still struct{ shut chan struct{} }

func (w still) Record(Report)         {}
func (w still) Shut() <-chan struct{} { return w.shut }
func (w still) Set(time.Duration)     {}
func (w still) C() <-chan struct{}    { return nil }
func (w still) Run(ctx context.Context, _ job.Run) job.Result {
	<-ctx.Done()
	return job.Result{Outcome: job.Exited}
}

// Jobs of each kind. Every run exits with 0.
var (
	onGrid      = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true, Overrun: job.OverrunRun}}
	retrying    = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true}, Retry: job.Retry{SuccessCodes: []int{1}, Retries: 1, RetryDelay: 100 * time.Millisecond}}
	service     = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true, Keep: true}}
	limited     = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true}, Retry: job.Retry{SuccessCodes: []int{1}, StartLimit: 1, StartLimitInterval: time.Second}}
	fatal       = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true, Overrun: job.OverrunOverlap, MaxParallel: 2}, Retry: job.Retry{SuccessCodes: []int{1}, FatalCodes: []int{0}}}
	overlapping = job.Spec{Schedule: job.Schedule{Interval: time.Second, RunAtStart: true, Overrun: job.OverrunOverlap, MaxParallel: 2}}
)

// in makes a turner that is in the given state.
func in(ctx context.Context, t *testing.T, spec job.Spec, state job.State, gate chan struct{}) *turner {
	w := still{}
	l := New(Options{Spec: spec, Runner: w, Recorder: w, Gate: w, Alarm: w})
	u := newTurner(ctx, l)
	u.serve(u.begin)
	switch state {
	case job.Held:
		l.Gate = still{make(chan struct{})}
		u.serve(u.rang)
	case job.Running:
		u.serve(u.rang)
	case job.Draining:
		u.serve(u.rang)
		u.serve(u.stop)
	case job.Done:
		u.serve(u.stop)
	}
	if u.state != state {
		t.Fatalf("cannot bring a loop to %v: it is %v", state, u.state)
	}
	l.Gate = still{gate}
	return u
}

// TestTable walks every cell of the table in doc.go: the state that each event leads to from each
// state, with the gate open and shut. "now" in the table below is the state that does not change. A row
// may be walked more than once, with jobs of different kinds.
func TestTable(t *testing.T) {
	const now = job.State(0)
	type cells [5]job.State // from waiting, held, running, draining, done
	type row struct {
		name       string
		spec       job.Spec
		event      func(*turner)
		open, shut cells
		begun      int // runs in running, with the gate open
	}
	taken := func(event func(*turner)) func(*turner) {
		return func(u *turner) { u.serve(func() { event(u) }) }
	}
	ended := func(u *turner) {
		for i := range u.places {
			if end := u.places[i].endRun; end != nil {
				end(nil)
				break
			}
		}
		synctest.Wait() // its own goroutine takes the end
	}
	leave := func(busy error) func(*turner) {
		return taken(func(u *turner) { u.leave(leaving{func() error { return busy }, make(chan error, 1)}) })
	}
	ticked := func(u *turner) {
		time.Sleep(time.Second)
		u.serve(u.rang)
	}
	settled := func(*turner) { synctest.Wait() } // a service that is being stopped has ended
	again := func(u *turner) {
		if u.grid.Runs > 0 {
			time.Sleep(retrying.RetryDelay)
			u.serve(u.rang)
		}
	}
	then := func(events ...func(*turner)) func(*turner) {
		return func(u *turner) {
			for _, e := range events {
				e(u)
			}
		}
	}
	rang, open, stop, wake := taken((*turner).rang), taken((*turner).open), taken((*turner).stop), taken((*turner).wake)
	unchanged := cells{now, now, now, now, now}
	start, hold := cells{job.Running, job.Running, now, now, now}, cells{job.Held, now, now, now, now}
	stopped := cells{job.Done, job.Done, job.Draining, now, now}
	rows := []row{
		{"rang", onGrid, rang, start, hold, 0},
		{"rang", overlapping, rang, start, hold, 0},
		{"tick", onGrid, ticked, start, hold, 0},
		{"tick", overlapping, ticked, start, hold, 1},
		{"tick", overlapping, then(ticked, ticked), start, hold, 1},
		{"opened", onGrid, open, cells{now, job.Running, now, now, now}, unchanged, 0},
		{"opened", overlapping, open, cells{now, job.Running, now, now, now}, unchanged, 0},
		{"ended", onGrid, ended, cells{now, now, job.Waiting, job.Done, now}, cells{now, now, job.Waiting, job.Done, now}, 0},
		{"ended", overlapping, ended, cells{now, now, job.Waiting, job.Done, now}, cells{now, now, job.Waiting, job.Done, now}, 0},
		{"to retry", retrying, ended, cells{now, now, job.Waiting, job.Done, now}, cells{now, now, job.Waiting, job.Done, now}, 0},
		{"to retry", retrying, then(ended, again), cells{now, now, now, job.Done, now}, cells{now, now, job.Held, job.Done, now}, 1},
		{"to retry", retrying, then(ended, wake), cells{job.Running, now, now, job.Done, now}, cells{job.Held, now, job.Held, job.Done, now}, 1},
		{"to retry", retrying, then(ended, stop), cells{job.Done, job.Done, job.Done, job.Done, now}, cells{job.Done, job.Done, job.Done, job.Done, now}, 0},
		{"one ended", overlapping, then(ticked, ended), cells{job.Waiting, job.Waiting, now, job.Done, now}, cells{job.Held, now, job.Held, job.Done, now}, 1},
		{"enough", limited, ended, cells{now, now, job.Done, job.Done, now}, cells{now, now, job.Done, job.Done, now}, 0},
		{"enough", fatal, ended, cells{now, now, job.Done, job.Done, now}, cells{now, now, job.Done, job.Done, now}, 0},
		{"enough", fatal, then(ticked, ticked, ended), cells{job.Draining, job.Draining, job.Draining, job.Done, now}, cells{job.Held, now, job.Done, job.Done, now}, 1},
		{"stop", onGrid, stop, stopped, stopped, 0},
		{"stop", overlapping, then(ticked, stop), cells{job.Draining, job.Draining, job.Draining, now, now}, stopped, 1},
		{"rang", service, then(rang, settled), cells{job.Running, job.Running, now, job.Done, now}, cells{job.Held, now, now, job.Done, now}, 0},
		{"ended", service, ended, cells{now, now, job.Waiting, job.Done, now}, cells{now, now, job.Waiting, job.Done, now}, 0},
		{"stop", service, then(stop, settled), cells{job.Done, job.Done, job.Done, job.Done, now}, cells{job.Done, job.Done, job.Done, job.Done, now}, 0},
		{"wake", onGrid, wake, cells{job.Running, now, now, now, now}, hold, 0},
		{"wake", overlapping, wake, cells{job.Running, now, now, now, now}, hold, 1},
		{"wake", overlapping, then(wake, wake), cells{job.Running, now, now, now, now}, hold, 1},
		{"cancelled", onGrid, stop, stopped, stopped, 0},
		{"leave", onGrid, leave(nil), cells{job.Done, job.Done, job.Done, now, now}, cells{job.Done, job.Done, job.Done, now, now}, 0},
		{"leave", onGrid, leave(errors.New("a run begins")), cells{job.Done, job.Done, now, now, now}, cells{job.Done, job.Done, now, now, now}, 0},
		{"leave", overlapping, then(ticked, leave(nil)), cells{job.Done, job.Done, job.Done, now, now}, cells{job.Done, job.Done, job.Done, now, now}, 1},
		{"leave", overlapping, then(ticked, leave(errors.New("a run begins"))), cells{job.Running, job.Running, now, now, now}, cells{job.Done, job.Done, now, now, now}, 1},
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
			for _, gate := range []chan struct{}{nil, make(chan struct{})} {
				want := r.open[j]
				if gate != nil {
					want = r.shut[j]
				}
				if want == now {
					want = from
				}
				t.Run(fmt.Sprintf("%d: %s in %v, gate shut %v", i, r.name, from, gate != nil), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx, cancel := context.WithCancel(t.Context())
						u := in(ctx, t, r.spec, from, gate)
						runs := u.grid.Runs
						r.event(u)
						if u.state != want {
							t.Errorf("turned to %v, want %v", u.state, want)
						}
						begun := int(u.grid.Runs - runs)
						if from == job.Running && gate == nil && begun != r.begun {
							t.Errorf("%d runs were started, want %d", begun, r.begun)
						}
						if from < job.Running && u.state == job.Running && begun == 0 {
							t.Error("no run was started")
						}
						if gate != nil && begun != 0 || from > job.Running && begun != 0 {
							t.Errorf("%d runs were started", begun)
						}
						cancel()
						u.close()
					})
				})
			}
		}
	}
}
