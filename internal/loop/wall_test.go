package loop

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"gophd/internal/job"
)

// stepped returns t as it is after the wall clock was set back by d: the moment is the same, and
// the wall clock that t was read from showed d more than the current one does. Package time keeps
// both readings (see its doc, Monotonic Clocks) and has no way to create such a t, so its layout is
// checked here and written to.
func stepped(t *testing.T, at time.Time, d time.Duration) time.Time {
	const monotonic, secondShift = 1 << 63, 30
	moved := at
	wall := (*uint64)(unsafe.Pointer(&moved))
	*wall += uint64(d/time.Second) << secondShift
	if *wall&monotonic == 0 || moved.Sub(at) != 0 || moved.Round(0).Sub(at.Round(0)) != d {
		t.Fatalf("package time is laid out in another way than this test knows: %v became %v", at, moved)
	}
	return moved
}

// eachMoment changes every moment in v, which is addressable, and in its structs and slices of
// structs.
func eachMoment(v reflect.Value, change func(time.Time) time.Time) (n int) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case f.Type() == reflect.TypeFor[time.Time]():
			if at := (*time.Time)(unsafe.Pointer(f.UnsafeAddr())); !at.IsZero() {
				*at = change(*at)
				n++
			}
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct &&
			f.Type().Elem().PkgPath() == v.Type().PkgPath():
			for i := range f.Len() {
				n += eachMoment(f.Index(i), change)
			}
		case f.Kind() == reflect.Struct && f.Type().PkgPath() == v.Type().PkgPath(),
			f.Type() == reflect.TypeFor[job.Run]():
			n += eachMoment(f, change)
		}
	}
	return n
}

// recorded is a still environment that records what the loop does, in terms that do not depend on
// the wall clock and to half an hour, and everything that it shows by another wall clock than the
// current one.
type recorded struct {
	still
	held             bool // the run was due before the step
	done, wrongClock []string
}

func rough(d time.Duration) time.Duration { return d.Truncate(time.Hour / 2) }

func (h *recorded) Set(d time.Duration) {
	h.done = append(h.done, fmt.Sprintf("timer in %v", rough(d)))
}

func (h *recorded) Stop() { h.done = append(h.done, "timer stopped") }

func (h *recorded) Record(r Report) {
	shown := map[string]time.Time{"the next tick": r.Next}
	if r.Kind == StateChanged && !h.held {
		shown["the tick that is due"] = r.Run.Due
	}
	for what, at := range shown {
		off := at.Round(0).Sub(r.At.Round(0)) - at.Sub(r.At)
		if !at.IsZero() && off.Abs() > time.Minute {
			h.wrongClock = append(h.wrongClock, fmt.Sprintf("%s is off by %v in %+v", what, off, r))
		}
	}
	next := "never"
	if !r.Next.IsZero() {
		next = rough(r.Next.Sub(r.At)).String()
	}
	h.done = append(h.done, fmt.Sprintf("report %d %v run %d, length %v, next in %v, missed %d and %d, grid %d",
		r.Kind, r.State, r.Run.Number, rough(r.Length), next, r.Missed, r.Tick.Missed, r.Grid.Tick))
}

// The wall clock is stepped in each state, and then each event of the table in doc.go happens: the
// loop does the same as without a step. The test does not use a bubble, where moments have no
// monotonic reading. Instead of waiting, it makes all moments that the loop remembers older.
func TestWallClockStepsChangeNothing(t *testing.T) {
	events := []struct {
		name string
		fire func(*Loop)
	}{
		{"timer", (*Loop).timerExpired},
		{"opened", (*Loop).open},
		{"ended", func(u *Loop) {
			if p := &u.slots[0]; p.cancel != nil {
				u.runEnded(p, job.Result{Outcome: job.Exited})
				u.handedOff = true // for the end that its own goroutine will report
			}
		}},
		{"stop", (*Loop).stop},
		{"run now", (*Loop).runNow},
		{"next process", func(u *Loop) {
			grid := u.grid
			u.Options.Grid = &grid
			u.handedOff, u.active, u.slots = true, 0, make([]slot, 1) // of the old process
			u.start()
		}},
	}
	// actionsAfter returns what the loop does at an event that happens after that time, in the
	// state, with that step of the clock.
	actionsAfter := func(t *testing.T, from job.State, fire func(*Loop), after, step time.Duration) *recorded {
		u := in(t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true,
			Overlap: job.OverlapQueue}}, from, nil)
		h := &recorded{held: from == job.Running}
		u.Recorder, u.timer = h, h
		if n := eachMoment(reflect.ValueOf(u).Elem(), func(at time.Time) time.Time {
			return stepped(t, at, step).Add(-after)
		}); n == 0 {
			t.Fatal("found no moment that a step of the clock could move")
		}
		u.serve(func() { fire(u) })
		done := slices.Clone(h.done)
		end(u)
		h.done = done
		return h
	}
	for _, e := range events {
		for _, from := range job.States {
			for _, after := range []time.Duration{9 * time.Minute, 2*time.Hour + 9*time.Minute} {
				want := actionsAfter(t, from, e.fire, after, 0)
				for _, step := range []time.Duration{-24 * time.Hour, -95 * time.Minute, 95 * time.Minute,
					24 * time.Hour} {
					t.Run(fmt.Sprintf("%v before %s in %v after %v", step, e.name, from, after), func(t *testing.T) {
						got := actionsAfter(t, from, e.fire, after, step)
						if !slices.Equal(got.done, want.done) {
							t.Errorf("did %q, and without a step %q", got.done, want.done)
						}
						for _, s := range got.wrongClock {
							t.Error(s)
						}
					})
				}
			}
		}
	}
}

// Each retry gets exactly the due time of the first attempt, whatever the wall clock does between
// them, held or not, and after a re-exec, which preserves no monotonic reading.
func TestRetriesGetTheSameDueTime(t *testing.T) {
	const form = time.RFC3339Nano
	spec := job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true, Overlap: job.OverlapQueue},
		Retry: job.Retry{Retries: 3, RetryDelay: time.Millisecond}}
	for name, between := range map[string]func(*Loop){
		"at once": func(*Loop) {},
		"held": func(u *Loop) {
			u.Gate = still{make(chan struct{})}
			u.serve(u.timerExpired)
			u.Gate = still{}
		},
		"after a re-exec": func(u *Loop) {
			grid := u.grid
			grid.Wait = &Delay{Run: u.due.run, Until: u.due.at}
			grid.Wait.Run.Due = u.due.run.Due.Round(0)
			u.Options.Grid, u.due = &grid, due{}
			u.serve(u.start)
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := in(t, spec, job.Running, nil)
			defer end(u)
			u.handedOff = true // for the ends that its own goroutine will report
			p := &u.slots[0]
			u.serve(func() { u.runEnded(p, job.Result{Outcome: job.Exited, Code: 1}) })
			if u.due.run.Attempt != 1 {
				t.Fatalf("no retry is due: %+v", u.due)
			}
			eachMoment(reflect.ValueOf(u).Elem(), func(at time.Time) time.Time {
				return stepped(t, at, time.Hour).Add(-time.Second)
			})
			firstDue := u.due.run.Due.Format(form)
			between(u)
			u.serve(u.timerExpired)
			if u.opened != nil || u.state == job.Held {
				u.serve(u.open)
			}
			if p := &u.slots[0]; p.run.Attempt != 1 || p.run.Number != 2 || p.run.Due.Format(form) != firstDue {
				t.Errorf("it is %+v, due %s; the first attempt has %s", p.run, p.run.Due.Format(form), firstDue)
			}
		})
	}
}
