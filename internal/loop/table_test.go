package loop

import (
	"context"
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

// in makes a turner that is in the given state.
func in(ctx context.Context, t *testing.T, state job.State, gate chan struct{}) *turner {
	w := still{}
	l := New(Options{Spec: job.Spec{Interval: time.Second, RunAtStart: true, Overrun: job.OverrunRun},
		Runner: w, Recorder: w, Gate: w, Alarm: w})
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
// state, with the gate open and shut. "now" in the table below is the state that does not change.
func TestTable(t *testing.T) {
	const now = job.State(0)
	type row struct {
		name  string
		event func(*turner)
		open  [5]job.State // from waiting, held, running, draining, done
		shut  [5]job.State
	}
	ended := func(u *turner) {
		if u.endRun != nil {
			u.endRun(nil)
		}
	}
	taken := func(event func(*turner)) func(*turner) {
		return func(u *turner) { u.serve(func() { event(u) }) }
	}
	leave := func(let bool) func(*turner) {
		return func(u *turner) { u.leave(leaving{func() bool { return let }, make(chan bool, 1)}) }
	}
	rows := []row{
		{"rang", taken((*turner).rang),
			[5]job.State{job.Running, job.Running, now, now, now}, [5]job.State{job.Held, now, now, now, now}},
		{"opened", taken((*turner).open),
			[5]job.State{now, job.Running, now, now, now}, [5]job.State{now, now, now, now, now}},
		{"ended", ended,
			[5]job.State{now, now, job.Waiting, job.Done, now}, [5]job.State{now, now, job.Waiting, job.Done, now}},
		{"stop", taken((*turner).stop),
			[5]job.State{job.Done, job.Done, job.Draining, now, now}, [5]job.State{job.Done, job.Done, job.Draining, now, now}},
		{"wake", taken((*turner).wake),
			[5]job.State{job.Running, now, now, now, now}, [5]job.State{job.Held, now, now, now, now}},
		{"cancelled", taken((*turner).stop),
			[5]job.State{job.Done, job.Done, job.Draining, now, now}, [5]job.State{job.Done, job.Done, job.Draining, now, now}},
		{"leave", taken(leave(true)),
			[5]job.State{job.Done, job.Done, job.Done, now, now}, [5]job.State{job.Done, job.Done, job.Done, now, now}},
		{"leave", taken(leave(false)),
			[5]job.State{job.Done, job.Done, now, now, now}, [5]job.State{job.Done, job.Done, now, now, now}},
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if !strings.Contains(string(doc), "\n//\t"+r.name+" ") {
			t.Errorf("the table in doc.go has no row for %q", r.name)
		}
		for i, from := range job.States {
			for _, gate := range []chan struct{}{nil, make(chan struct{})} {
				want := r.open[i]
				if gate != nil {
					want = r.shut[i]
				}
				if want == now {
					want = from
				}
				t.Run(fmt.Sprintf("%s in %v, gate shut %v", r.name, from, gate != nil), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx, cancel := context.WithCancel(t.Context())
						u := in(ctx, t, from, gate)
						runs := u.grid.Runs
						r.event(u)
						synctest.Wait() // a run that was ended is taken by its own goroutine
						if u.state != want {
							t.Errorf("turned to %v, want %v", u.state, want)
						}
						if started := u.grid.Runs > runs; started != (u.state == job.Running && from != job.Running) {
							t.Errorf("a run was started: %v", started)
						}
						cancel()
						u.close()
					})
				})
			}
		}
	}
}
