package schedule

import (
	"fmt"
	"testing"
	"time"
)

// TestDaysOfAMonth compares the days of each special value with its definition, in each kind of month
// that there is.
func TestDaysOfAMonth(t *testing.T) {
	type check struct {
		text string
		has  func(time.Time) bool
	}
	var list []check
	add := func(text string, has func(time.Time) bool) { list = append(list, check{text, has}) }
	add("L *", func(t time.Time) bool { return t.AddDate(0, 0, 1).Day() == 1 })
	add("LW *", lastWorkday)
	for n := 1; n <= 30; n++ {
		add(fmt.Sprintf("L-%d *", n), func(t time.Time) bool {
			return t.AddDate(0, 0, n).Month() == t.Month() && t.AddDate(0, 0, n+1).Day() == 1
		})
	}
	for n := 1; n <= 31; n++ {
		add(fmt.Sprintf("%dW *", n), func(d time.Time) bool {
			exists := time.Date(d.Year(), d.Month(), n, 0, 0, 0, 0, time.UTC).Day() == n
			return exists && d.Day() == nearest(d.Year(), d.Month(), n)
		})
	}
	for n := 0; n <= 7; n++ {
		add(fmt.Sprintf("* %dL", n), func(t time.Time) bool {
			return int(t.Weekday()) == n%7 && t.AddDate(0, 0, 7).Month() != t.Month()
		})
		for week := 1; week <= 5; week++ {
			add(fmt.Sprintf("* %d#%d", n, week), func(t time.Time) bool {
				return int(t.Weekday()) == n%7 && t.Day() > 7*week-7 && t.Day() <= 7*week
			})
		}
	}
	add("13 5", func(t time.Time) bool { return t.Day() == 13 || t.Weekday() == time.Friday })
	add("*/2 1", func(t time.Time) bool { return t.Day()%2 == 1 && t.Weekday() == time.Monday })
	add("13 */2", func(t time.Time) bool { return t.Day() == 13 && t.Weekday()%2 == 0 })
	add("? 1", func(t time.Time) bool { return t.Weekday() == time.Monday })
	add("1-7 sat-sun", func(t time.Time) bool { return t.Day() <= 7 || !isWorkday(t) })
	add("L,5,LW 2", func(d time.Time) bool {
		return d.AddDate(0, 0, 1).Day() == 1 || d.Day() == 5 || lastWorkday(d) || d.Weekday() == time.Tuesday
	})
	for _, c := range list {
		var day, week string
		fmt.Sscan(c.text, &day, &week)
		s, err := Parse("0 0 "+day+" * "+week, Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		for month := range 28 * 12 {
			first := time.Date(2000, time.January+time.Month(month), 1, 0, 0, 0, 0, time.UTC)
			var want uint32
			for d := first; d.Month() == first.Month(); d = d.AddDate(0, 0, 1) {
				if c.has(d) {
					want |= 1 << d.Day()
				}
			}
			if got := s.days(first); got != want {
				t.Errorf("%s in %s: got %032b, want %032b", c.text, first.Format("2006-01"), got, want)
			}
		}
	}
}
