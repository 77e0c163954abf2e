package loop

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"gophd/internal/job"
)

// stepped is t as it is after somebody has set the wall clock back by d: the moment is the same, and the wall
// clock that t was read from showed d more than the one of now does. Package time keeps both readings (see its
// doc, Monotonic Clocks) and has no way to make such a t, so its layout is checked here and written to.
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

// eachMoment changes every moment in v, which is addressable, and in the structs in it and their lists.
func eachMoment(v reflect.Value, change func(time.Time) time.Time) (n int) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case f.Type() == reflect.TypeFor[time.Time]():
			if at := (*time.Time)(unsafe.Pointer(f.UnsafeAddr())); !at.IsZero() {
				*at = change(*at)
				n++
			}
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && f.Type().Elem().PkgPath() == v.Type().PkgPath():
			for i := range f.Len() {
				n += eachMoment(f.Index(i), change)
			}
		case f.Kind() == reflect.Struct && f.Type().PkgPath() == v.Type().PkgPath(), f.Type() == reflect.TypeFor[job.Run]():
			n += eachMoment(f, change)
		}
	}
	return n
}

// heard is a still world that notes what the loop does, in terms that no wall clock changes and to half an hour,
// and what it shows by another wall clock than that of now.
type heard struct {
	still
	held          bool // the run was due before the step
	done, strange []string
}

func rough(d time.Duration) time.Duration { return d.Truncate(time.Hour / 2) }

func (h *heard) Set(d time.Duration) { h.done = append(h.done, fmt.Sprintf("alarm in %v", rough(d))) }

func (h *heard) Record(r Report) {
	shown := map[string]time.Time{"the next tick": r.Next}
	if r.Kind == Turned && !h.held {
		shown["the tick that is due"] = r.Run.Due
	}
	for what, at := range shown {
		off := at.Round(0).Sub(r.At.Round(0)) - at.Sub(r.At)
		if !at.IsZero() && off.Abs() > time.Minute {
			h.strange = append(h.strange, fmt.Sprintf("%s is off by %v in %+v", what, off, r))
		}
	}
	next := "never"
	if !r.Next.IsZero() {
		next = rough(r.Next.Sub(r.At)).String()
	}
	h.done = append(h.done, fmt.Sprintf("report %d %v run %d, length %v, next in %v, missed %d and %d, grid %d",
		r.Kind, r.State, r.Run.Number, rough(r.Length), next, r.Missed, r.Tick.Missed, r.Grid.Tick))
}

// TestT35WallClockBackAndForward: the wall clock is stepped in each state, and then each event of the table in
// doc.go comes: the loop does what it does without a step. It is no test in a bubble, where moments have no
// monotonic reading; instead of waiting, all that the loop remembers is made older.
func TestT35WallClockBackAndForward(t *testing.T) {
	events := []struct {
		name string
		fire func(*turner)
	}{
		{"rang", (*turner).rang},
		{"opened", (*turner).open},
		{"ended", func(u *turner) {
			if p := &u.places[0]; p.endRun != nil {
				u.ended(p, job.Result{Outcome: job.Exited})
				u.left = true // the end that its own goroutine will hear of
			}
		}},
		{"stop", (*turner).stop},
		{"wake", (*turner).wake},
		{"next image", func(u *turner) {
			grid := u.grid
			u.Loop.Grid = &grid
			u.left, u.going, u.places = true, 0, make([]place, 1) // of the image before
			u.begin()
		}},
	}
	// deeds are what the loop does at an event that comes so long after it was brought into the state and stepped.
	deeds := func(t *testing.T, from job.State, fire func(*turner), after, step time.Duration) *heard {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		u := in(ctx, t, job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true, Overrun: job.OverrunRun}}, from, nil)
		h := &heard{held: from == job.Running}
		u.Recorder, u.Alarm = h, h
		if n := eachMoment(reflect.ValueOf(u).Elem(), func(at time.Time) time.Time {
			return stepped(t, at, step).Add(-after)
		}); n == 0 {
			t.Fatal("found nothing that a step of the clock could move")
		}
		u.serve(func() { fire(u) })
		cancel()
		u.close()
		return h
	}
	for _, e := range events {
		for _, from := range job.States {
			for _, after := range []time.Duration{9 * time.Minute, 2*time.Hour + 9*time.Minute} {
				want := deeds(t, from, e.fire, after, 0)
				for _, step := range []time.Duration{-24 * time.Hour, -95 * time.Minute, 95 * time.Minute, 24 * time.Hour} {
					t.Run(fmt.Sprintf("%v before %s in %v after %v", step, e.name, from, after), func(t *testing.T) {
						got := deeds(t, from, e.fire, after, step)
						if !slices.Equal(got.done, want.done) {
							t.Errorf("did %q, and without a step %q", got.done, want.done)
						}
						for _, s := range got.strange {
							t.Error(s)
						}
					})
				}
			}
		}
	}
}

// TestEachTryIsToldTheSameTick: what the first one was told, letter by letter, whatever the wall clock does from one
// to the next, held or not, and over a restart, which leaves no monotonic reading.
func TestEachTryIsToldTheSameTick(t *testing.T) {
	const form = time.RFC3339Nano
	spec := job.Spec{Schedule: job.Schedule{Interval: time.Hour, RunAtStart: true, Overrun: job.OverrunRun}, Retry: job.Retry{Retries: 3, RetryDelay: time.Millisecond}}
	for name, between := range map[string]func(*turner){
		"at once": func(*turner) {},
		"held": func(u *turner) {
			u.Gate = still{make(chan struct{})}
			u.serve(u.rang)
			u.Gate = still{}
		},
		"over a restart": func(u *turner) {
			grid := u.grid
			grid.Wait = &Wait{Run: u.due.run, Until: u.due.at}
			grid.Wait.Run.Due = u.due.run.Due.Round(0)
			u.Loop.Grid, u.due = &grid, due{}
			u.begin()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			u := in(ctx, t, spec, job.Running, nil)
			defer u.close()
			u.left = true // the ends that its own goroutine will hear of
			p := &u.places[0]
			u.serve(func() { u.ended(p, job.Result{Outcome: job.Exited, Code: 1}) })
			if u.due.run.Try != 1 {
				t.Fatalf("no try is waited for: %+v", u.due)
			}
			eachMoment(reflect.ValueOf(u).Elem(), func(at time.Time) time.Time {
				return stepped(t, at, time.Hour).Add(-time.Second)
			})
			told := u.due.run.Due.Format(form)
			between(u)
			u.serve(u.rang)
			if u.opened != nil || u.state == job.Held {
				u.serve(u.open)
			}
			if p := &u.places[0]; p.run.Try != 1 || p.run.Number != 2 || p.run.Due.Format(form) != told {
				t.Errorf("it is %+v, due %s; the first was told %s", p.run, p.run.Due.Format(form), told)
			}
			cancel()
		})
	}
}
