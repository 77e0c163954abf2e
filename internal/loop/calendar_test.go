package loop_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
	"gophd/internal/loop"
	"gophd/internal/schedule"
)

type fatal interface {
	Helper()
	Fatal(...any)
}

// calendar returns an expression with seconds, in UTC or a zone.
func calendar(t fatal, text string, zone ...string) *schedule.Schedule {
	t.Helper()
	o := schedule.Options{Seconds: true}
	if zone != nil {
		var err error
		if o.Zone, err = schedule.LoadZone(zone[0]); err != nil {
			t.Fatal(err)
		}
	}
	c, err := schedule.Parse(text, o)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func onCalendar(t *testing.T, text string, zone ...string) job.Spec {
	return job.Spec{Schedule: job.Schedule{Calendar: calendar(t, text, zone...)}}
}

// dues returns the due time of each run that was started, in UTC.
func (w *env) dues() (all []string) {
	for _, r := range w.runs {
		all = append(all, r.Due.UTC().Format("01-02 15:04:05"))
	}
	return all
}

func (w *env) wantDues(want ...string) {
	w.t.Helper()
	if got := w.dues(); !slices.Equal(got, want) {
		w.t.Errorf("runs were due at %q, want %q", got, want)
	}
}

// A bubble starts at midnight UTC of 2000-01-01, a Saturday.
func TestCalendarStartsAtItsDueTimesAndAtNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, onCalendar(t, "30 2 * * *"))
		w.late = 300 * time.Microsecond
		w.during(72 * time.Hour)
		w.wantDues("01-01 02:30:00", "01-02 02:30:00", "01-03 02:30:00")
		for i, at := range w.starts {
			if want := time.Duration(i)*24*time.Hour + 150*time.Minute + w.late; at != want {
				t.Errorf("run %d started at %v, want %v", i+1, at, want)
			}
		}
		if first := w.reports[0]; first.State != job.Waiting || !first.Next.Equal(w.started.Add(150*time.Minute)) {
			t.Errorf("it first waits for %v in %v", first.Next, first.State)
		}
	})
}

// The loop follows the zone through a gap and a repeated hour, as docs/schedule.md says.
func TestCalendarThroughClockChanges(t *testing.T) {
	for _, c := range []struct {
		text, zone string
		from       time.Time
		length     time.Duration
		want       []string
	}{
		{"30 2 * * *", "America/New_York", time.Date(2000, 4, 1, 12, 0, 0, 0, time.UTC), 43 * time.Hour,
			[]string{"04-02 07:00:00", "04-03 06:30:00"}},
		{"30 1 * * *", "America/New_York", time.Date(2000, 10, 29, 0, 0, 0, 0, time.UTC), 31 * time.Hour,
			[]string{"10-29 05:30:00", "10-30 06:30:00"}},
		{"0 */1 * * *", "Europe/Berlin", time.Date(2000, 10, 28, 23, 30, 0, 0, time.UTC), 4 * time.Hour,
			[]string{"10-29 00:00:00", "10-29 01:00:00", "10-29 02:00:00", "10-29 03:00:00"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(c.from))
			w := newEnv(t, onCalendar(t, c.text, c.zone))
			w.during(c.length)
			w.wantDues(c.want...)
		})
	}
}

func TestOverlapPolicyOnACalendar(t *testing.T) {
	long := func(r job.Run) time.Duration { // the first run takes 2.3 minutes
		if r.Number == 1 {
			return 138 * s
		}
		return s
	}
	for _, c := range []struct {
		overlap job.OverlapPolicy
		starts  []time.Duration
		missed  uint64 // because of the first run
	}{
		{job.OverlapQueue, []time.Duration{60 * s, 198 * s, 240 * s}, 2},
		{job.OverlapSkip, []time.Duration{60 * s, 240 * s}, 2},
		{job.OverlapReplace, []time.Duration{60 * s, 120*s + 10*time.Millisecond, 180 * s, 240 * s}, 1},
		{job.OverlapAllow, []time.Duration{60 * s, 120 * s, 180 * s, 240 * s}, 0},
	} {
		t.Run(string(c.overlap), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := onCalendar(t, "* * * * *")
				spec.Overlap, spec.MaxParallel = c.overlap, 2
				w := newEnv(t, spec)
				w.length = long
				w.during(250 * s)
				w.wantStarts(c.starts...)
				for _, r := range w.of(loop.Ended) {
					if r.Run.Number == 1 && (r.Tick.Missed != c.missed || r.Tick.Interval != time.Minute) {
						t.Errorf("the first run missed %d of a period of %v, want %d", r.Tick.Missed, r.Tick.Interval, c.missed)
					}
				}
				late := w.of(loop.Late)
				if len(late) == 0 || late[0].Length != 54*s || late[0].Period != time.Minute {
					t.Errorf("late reports: %+v", late)
				}
			})
		})
	}
}

// A retry belongs to the due time, and is not after the next one.
func TestRetriesOnACalendar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := onCalendar(t, "0,40 * * * * *")
		spec.Retry = job.Retry{Retries: 5, RetryDelay: 15 * s}
		w := newEnv(t, spec)
		w.result = func(job.Run) job.Result { return job.Result{Outcome: job.Exited, Code: 1} }
		w.during(101 * s)
		w.wantStarts(40*s, 55*s, 60*s, 75*s, 100*s)
		w.wantDues("01-01 00:00:40", "01-01 00:00:40", "01-01 00:01:00", "01-01 00:01:00", "01-01 00:01:40")
	})
}

// A requested run is none of the calendar: it has its own due time, and the next one does not move.
func TestRequestedRunOnACalendar(t *testing.T) {
	for text, dues := range map[string][]string{
		"0 * * * *":            {"01-01 00:10:00", "01-01 01:00:00"},
		"@manual":              {"01-01 00:10:00"},
		"@at 2000-01-01T00:30": {"01-01 00:10:00", "01-01 00:30:00"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newEnv(t, onCalendar(t, text))
			wait := w.start()
			time.Sleep(10 * time.Minute)
			w.loop.RunNow()
			time.Sleep(time.Hour)
			w.loop.Stop()
			wait()
			last := w.reports[len(w.reports)-2]
			if last.State != job.Waiting || last.Next.IsZero() != (text[0] == '@') {
				t.Errorf("%s: it was %v, the next run at %v", text, last.State, last.Next)
			}
			w.wantDues(dues...)
		})
	}
}

// A job that is due at each boot runs when the loop starts, if this is the first of the boot, and never
// after a re-exec or a reload.
func TestRunAtBoot(t *testing.T) {
	for _, booted := range []bool{true, false} {
		for _, grid := range []*loop.Grid{nil, {Runs: 7}} {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, onCalendar(t, "@reboot"))
				w.grid = grid
				w.make()
				w.loop.Booted = booted
				wait := w.run()
				time.Sleep(48 * time.Hour)
				w.loop.Stop()
				wait()
				if runs, want := len(w.runs), booted && grid == nil; runs > 1 || (runs == 1) != want {
					t.Errorf("%d runs, booted %v, handed off %v", runs, booted, grid)
				}
			})
		}
	}
}

// runAtStart applies to a calendar too: the first run does not move the others.
func TestCalendarWithARunAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := onCalendar(t, "0 * * * *")
		spec.RunAtStart = true
		w := newEnv(t, spec)
		time.Sleep(10 * time.Minute)
		w.during(time.Hour)
		w.wantDues("01-01 00:10:00", "01-01 01:00:00")
	})
}

// The gate is shut over several due times: the first of them is held and runs when it opens, and the others
// are missed.
func TestDueTimesWhileTheGateIsShut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, onCalendar(t, "* * * * *"))
		w.close()
		wait := w.start()
		time.Sleep(200 * s)
		w.open()
		time.Sleep(50 * s)
		w.loop.Stop()
		wait()
		var missed []uint64
		for _, r := range w.reports {
			if r.Kind == loop.StateChanged && r.State == job.Running {
				missed = append(missed, r.Missed)
			}
		}
		if want := []uint64{2, 0}; !slices.Equal(missed, want) {
			t.Errorf("missed before each run: %d, want %d", missed, want)
		}
		w.wantDues("01-01 00:01:00", "01-01 00:04:00")
	})
}

// Whenever the loop is handed off, each due time is served once: before it, at it, held at the gate, and
// during a run.
func TestHandOffOfACalendarLosesAndDoublesNothing(t *testing.T) {
	for _, at := range []time.Duration{30 * s, 60*s - 1, 60 * s, 60*s + 1, 65 * s, 119 * s, 120 * s, 130 * s} {
		for _, shut := range []bool{false, true} {
			for _, away := range []time.Duration{0, 20 * s} {
				t.Run(fmt.Sprint(at, shut, away), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newEnv(t, onCalendar(t, "* * * * *"))
						w.length = every(7 * s)
						if shut {
							w.close()
						}
						wait := w.start()
						time.Sleep(at)
						if err := w.loop.HandOff(func() error { return nil }); err != nil {
							t.Fatal(err)
						}
						wait()
						grid := w.reports[len(w.reports)-1].Grid
						grid.Last = grid.Last.Round(0)
						w.loop.Cancel(errors.New("handed off"))
						time.Sleep(away)
						if shut {
							w.open()
						}
						w.grid = &grid
						wait = w.start()
						time.Sleep(time.Until(w.started.Add(290 * s)))
						w.loop.Stop()
						wait()
						served := map[string]int{}
						for _, r := range w.runs {
							served[r.Due.UTC().Format("04:05")]++
						}
						for due, n := range served {
							if n > 1 && len(grid.ActiveRuns) == 0 {
								t.Errorf("%s was served %d times", due, n)
							}
						}
						// A due time that no run could serve any more counts as missed.
						missed := uint64(0)
						for _, r := range w.reports {
							if r.State == job.Running && r.Kind == loop.StateChanged {
								missed += r.Missed
							}
						}
						if len(served)+int(missed) != 4 {
							t.Errorf("served %v, and %d missed", served, missed)
						}
					})
				})
			}
		}
	}
}

// A reload that changes the calendar does not make up for due times that only the new one has.
func TestChangedCalendarCountsFromTheReload(t *testing.T) {
	for _, before := range []job.Spec{onCalendar(t, "0 12 * * *"), {Schedule: job.Schedule{Interval: 12 * time.Hour}}} {
		synctest.Test(t, func(t *testing.T) {
			w := newEnv(t, before)
			wait := w.start()
			time.Sleep(90 * time.Minute)
			if err := w.loop.HandOff(func() error { return nil }); err != nil {
				t.Fatal(err)
			}
			wait()
			grid := w.reports[len(w.reports)-1].Grid
			w.grid = &grid
			w.spec.Interval, w.spec.Calendar = 0, calendar(t, "0 * * * *")
			w.during(100 * time.Minute)
			w.wantDues("01-01 02:00:00", "01-01 03:00:00")
		})
	}
}

// drops returns for each report of ticks that are over the last of them, and their number.
func (w *env) drops() (all []string) {
	for _, r := range w.of(loop.Dropped) {
		all = append(all, fmt.Sprintf("%s: %d", r.Run.Due.UTC().Format("01-02 15:04:05"), r.Missed))
	}
	return all
}

// gophd did not run for some hours. Its loop starts at 12:00.
func TestCatchUp(t *testing.T) {
	for _, c := range []struct {
		name, text string
		since      time.Duration // before the start
		set        func(*job.Spec)
		dues       []string
		missed     uint64 // before the first run
		drops      []string
	}{
		{"one", "0 * * * *", 150 * time.Minute, func(*job.Spec) {},
			[]string{"01-01 12:00:00", "01-01 13:00:00"}, 2, nil},
		{"not twice", "0 * * * *", 0, func(*job.Spec) {}, []string{"01-01 13:00:00"}, 0, nil},
		{"all", "0 * * * *", 150 * time.Minute, func(s *job.Spec) { s.CatchUp = job.CatchUpAll },
			[]string{"01-01 10:00:00", "01-01 11:00:00", "01-01 12:00:00", "01-01 13:00:00"}, 0, nil},
		{"one within the deadline", "30 * * * *", 151 * time.Minute, func(s *job.Spec) { s.StartDeadline = 30 * time.Minute },
			[]string{"01-01 11:30:00", "01-01 12:30:00"}, 2, nil},
		{"one after the deadline", "30 * * * *", 151 * time.Minute, func(s *job.Spec) { s.StartDeadline = 29 * time.Minute },
			[]string{"01-01 12:30:00"}, 0, []string{"01-01 11:30:00: 3"}},
		{"all within the deadline", "30 * * * *", 151 * time.Minute, func(s *job.Spec) {
			s.CatchUp, s.StartDeadline = job.CatchUpAll, time.Hour
		}, []string{"01-01 11:30:00", "01-01 12:30:00"}, 0, []string{"01-01 09:30:00: 1", "01-01 10:30:00: 1"}},
		{"a clock that was wrong", "0 * * * *", -4 * time.Hour, func(*job.Spec) {}, []string{"01-01 13:00:00"}, 0, nil},
		{"a clock that was a little wrong", "0 13,14 * * *", -time.Hour, func(*job.Spec) {}, nil, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(12 * time.Hour)
				spec := onCalendar(t, c.text)
				c.set(&spec)
				w := newEnv(t, spec)
				w.length = every(time.Minute)
				w.make()
				began := time.Now()
				w.loop.Since = began.Add(-c.since)
				wait := w.run()
				time.Sleep(89 * time.Minute)
				w.loop.Stop()
				wait()
				w.wantDues(c.dues...)
				for _, r := range w.runs {
					want := job.TriggerSchedule
					if r.Due.Before(began) {
						want = job.TriggerCatchUp
					}
					if r.Trigger != want {
						t.Errorf("due at %v: %s, want %s", r.Due, r.Trigger, want)
					}
				}
				if got := w.drops(); !slices.Equal(got, c.drops) {
					t.Errorf("dropped %q, want %q", got, c.drops)
				}
				for _, r := range w.reports {
					if r.Kind == loop.StateChanged && r.State == job.Running {
						if r.Missed != c.missed {
							t.Errorf("%d missed before the first run, want %d", r.Missed, c.missed)
						}
						break
					}
				}
			})
		})
	}
}

// With all, a due time that is due during a run gets a run of its own too, and none counts as missed.
func TestCatchUpAllServesEachDueTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := onCalendar(t, "* * * * *")
		spec.CatchUp = job.CatchUpAll
		w := newEnv(t, spec)
		w.length = first(200 * s)
		w.during(300*s + 1)
		w.wantStarts(60*s, 260*s, 261*s, 262*s, 300*s)
		w.wantDues("01-01 00:01:00", "01-01 00:02:00", "01-01 00:03:00", "01-01 00:04:00", "01-01 00:05:00")
		for _, r := range w.of(loop.Ended) {
			if r.Tick.Missed > 0 {
				t.Errorf("run %d missed %d", r.Run.Number, r.Tick.Missed)
			}
		}
	})
}

// A due time that was held at the gate, or that was due during a run, is dropped after the deadline.
func TestStartDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := onCalendar(t, "0 * * * *")
		spec.StartDeadline = 5 * time.Minute
		w := newEnv(t, spec)
		w.length = func(r job.Run) time.Duration { return time.Duration(r.Number-1) * 66 * time.Minute } // the second one is long
		w.close()
		wait := w.start()
		time.Sleep(70 * time.Minute) // the first is held for ten minutes
		w.open()
		time.Sleep(55 * time.Minute)
		w.close()
		time.Sleep(time.Hour - time.Minute) // the third for four
		w.open()
		time.Sleep(3 * time.Hour)
		w.loop.Stop()
		wait()
		w.wantDues("01-01 02:00:00", "01-01 03:00:00", "01-01 05:00:00")
		if got, want := w.drops(), []string{"01-01 01:00:00: 1"}; !slices.Equal(got, want) {
			t.Errorf("dropped %q, want %q", got, want)
		}
		for _, r := range w.of(loop.Ended) {
			if r.Run.Number == 2 && r.Tick.Missed != 1 { // that of 04:00, ten minutes before its end
				t.Errorf("the second run missed %d", r.Tick.Missed)
			}
		}
	})
}

// The tick is later than the due time by the splay, and by a jitter that differs between runs. The due time
// is the same on each host.
func TestSplayAndJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := onCalendar(t, "0 * * * *")
		spec.Splay, spec.Jitter, spec.StartDeadline = 90*time.Minute, 10*time.Minute, time.Second
		w := newEnv(t, spec)
		w.during(12 * time.Hour)
		w.wantDues("01-01 01:00:00", "01-01 02:00:00", "01-01 03:00:00", "01-01 04:00:00", "01-01 05:00:00",
			"01-01 06:00:00", "01-01 07:00:00", "01-01 08:00:00", "01-01 09:00:00", "01-01 10:00:00")
		drawn := map[time.Duration]bool{}
		for i, at := range w.starts {
			jitter := at - time.Duration(i)*time.Hour - 150*time.Minute
			if drawn[jitter] = true; jitter < 0 || jitter > 10*time.Minute {
				t.Errorf("run %d started %v after its due time and splay", i+1, jitter)
			}
		}
		if len(drawn) < 9 || len(w.drops()) > 0 {
			t.Errorf("jitters %v, dropped %q", drawn, w.drops())
		}
		for _, r := range w.reports {
			if minute := r.Next.Minute(); r.State == job.Waiting && (minute < 30 || minute > 40) {
				t.Errorf("it waits for %v", r.Next)
			}
		}
	})
}

// While the gate is shut another instance may serve due times: then none of them runs here.
func TestDueTimesThatAnotherInstanceHasServed(t *testing.T) {
	for name, c := range map[string]struct {
		served time.Time
		dues   []string
		drops  []string
	}{
		"none":        {time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), []string{"01-01 01:00:00", "01-01 03:00:00"}, nil},
		"what waits":  {time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC), []string{"01-01 02:00:00", "01-01 03:00:00"}, []string{"01-01 01:00:00: 1"}},
		"all":         {time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC), []string{"01-01 03:00:00"}, []string{"01-01 01:00:00: 1"}},
		"a later one": {time.Date(2000, 1, 1, 3, 0, 0, 0, time.UTC), []string{"01-01 04:00:00"}, []string{"01-01 01:00:00: 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEnv(t, onCalendar(t, "0 * * * *"))
				w.close()
				wait := w.start()
				w.after(150 * time.Minute)
				w.loop.Served(c.served)
				w.loop.Served(c.served) // nothing is dropped twice
				w.open()
				w.after(190 * time.Minute)
				if name == "a later one" {
					w.after(250 * time.Minute)
				}
				w.loop.Stop()
				wait()
				w.wantDues(c.dues...)
				if drops := w.drops(); !slices.Equal(drops, c.drops) {
					t.Errorf("dropped %q, want %q", drops, c.drops)
				}
				for _, r := range w.of(loop.Dropped) {
					if r.Why != job.MissedElsewhere {
						t.Errorf("dropped because of %q", r.Why)
					}
				}
			})
		})
	}
}

// A run that waits when the job is stopped is due for the next gophd.
func TestDueTimeThatWaitsAtAStopIsNotOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv(t, onCalendar(t, "0 * * * *"))
		w.close()
		wait := w.start()
		w.after(70 * time.Minute)
		w.loop.Stop()
		wait()
		w.wantDues()
		last := w.reports[len(w.reports)-1].Grid.Last
		if want := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC); !last.Before(want) {
			t.Errorf("%v is over", last)
		}
	})
}
