package loop

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
	"gophd/internal/schedule"
)

// The wall clock is set while a job with a calendar waits at 12:00 for its next due time: all that the
// loop remembers of the wall clock moves the other way. The third column is when the next run is due, and
// the fourth which due times are served at once, after the clock was set.
func TestStepsOfTheWallClockOnACalendar(t *testing.T) {
	const noon = 12 * time.Hour
	for _, c := range []struct {
		text string
		step time.Duration
		next string
		runs uint64
		due  string
	}{
		{"30 * * * *", 29 * time.Minute, "12:30", 0, ""},
		// Forward by up to three hours: the last of the fixed times in between is served at once.
		{"0 10,11 * * *", 179 * time.Minute, "10:00", 1, "11:00"},
		{"30 11 * * *", 2 * time.Hour, "11:30", 1, "11:30"},
		// Wildcards follow the clock, as in cron(8), unless the step is small: what is due in the minute that it
		// shows now is served.
		{"30 * * * *", 31 * time.Minute, "12:30", 0, ""},
		{"*/20 * * * *", 2 * time.Hour, "12:20", 1, "12:00"},
		{"@every 7m", 2 * time.Hour, "12:04", 0, ""},
		{"58 * * * *", 4 * time.Minute, "12:58", 1, "11:58"},
		{"*/2 * * * *", 4 * time.Minute, "12:02", 1, "12:00"},
		// By more it is a correction.
		{"0 10,11 * * *", 181 * time.Minute, "10:00", 0, ""},
		{"*/30 * * * *", 24 * time.Hour, "12:30", 0, ""},
		// Back by up to three hours: a fixed time is not due again, and wildcards follow the clock.
		{"0 12,13,14 * * *", -90 * time.Minute, "14:00", 0, ""},
		{"*/30 * * * *", -90 * time.Minute, "12:30", 0, ""},
		{"@every 30m", -90 * time.Minute, "12:30", 0, ""},
		// Wildcards repeat nothing for a minute.
		{"*/10 * * * * *", -59 * time.Second, "12:01", 0, ""},
		{"0 12,13,14 * * *", -181 * time.Minute, "13:00", 0, ""},
	} {
		t.Run(fmt.Sprintf("%s by %v", c.text, c.step), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(noon)
				s, err := schedule.Parse(c.text, schedule.Options{Seconds: true})
				if err != nil {
					t.Fatal(err)
				}
				u := in(t, job.Spec{Schedule: job.Schedule{Calendar: &s, Overlap: job.OverlapQueue}}, job.Waiting, nil)
				defer end(u)
				u.grid.Last = u.grid.Last.Add(-c.step)
				u.grid.ahead -= c.step
				u.serve(u.timerExpired)
				due := ""
				if u.active > 0 {
					due = u.slots[0].run.Due.UTC().Format("15:04")
				}
				if next := u.grid.Due().UTC().Format("15:04"); next != c.next || u.grid.Runs != c.runs || due != c.due {
					t.Errorf("%d runs, due at %q, and the next at %s", u.grid.Runs, due, next)
				}
				ahead := u.grid.ahead
				u.serve(u.timerExpired) // nothing more
				if u.grid.Runs != c.runs || (u.grid.ahead-ahead).Abs() > time.Hour {
					t.Errorf("%d runs in the end", u.grid.Runs)
				}
			})
		})
	}
}
