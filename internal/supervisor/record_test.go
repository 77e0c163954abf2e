package supervisor

import (
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/schedule"
)

func parse(t *testing.T, text string) *schedule.Schedule {
	t.Helper()
	c, err := schedule.Parse(text, schedule.Options{Seconds: true})
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

// However long gophd did not run, and however often the job was due meanwhile: one due time is left to catch up
// with, the last one.
func TestOneMissedDueTimeIsLeftToCatchUpWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Add(100*time.Minute + 30*time.Second) // 01:40:30 on 2000-01-01
		for _, text := range []string{"* * * * * *", "*/5 * * * *", "0 0 * * *", "0 0 1 1 *", "0 3 * * *", "@every 1s", "@every 1ms",
			"0 0 29 2 *", "@at 1999-12-31T23:00"} {
			c := parse(t, text)
			for _, since := range []time.Time{{}, now.AddDate(-30, 0, 0), now.Add(-time.Hour), now.Add(-time.Second), now} {
				from := beforeLast(c, since, now)
				n, last := c.Count(from, now)
				if next, ok := c.Next(since); from.Before(since) || ok && !next.After(now) != (n == 1) {
					t.Errorf("%s since %v: %d due times from %v on", text, since, n, from)
				}
				if next, ok := c.Next(last); n > 0 && ok && !next.After(now) {
					t.Errorf("%s: %v is not the last", text, last)
				}
			}
		}
	})
}
