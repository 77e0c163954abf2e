package schedule

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Window is a time of day from a minute up to another, which is not in it. It may include midnight. The
// zero value is the whole day.
type Window struct {
	from, to int // minutes; to is at most 24 * 60
}

// ParseWindow reads a window such as 22:00-06:00.
func ParseWindow(text string) (Window, error) {
	from, to, _ := strings.Cut(text, "-")
	w := Window{from: minuteOfDay(from), to: minuteOfDay(to)}
	if w.from < 0 || w.to < 0 || w.from == 24*60 || w.from == w.to {
		return Window{}, errors.New("not a time of day; write one such as 22:00-06:00, whose end is not in it")
	}
	return w, nil
}

// minuteOfDay reads a time from 00:00 to 24:00, and returns a negative number for another text.
func minuteOfDay(text string) int {
	h, m, ok := strings.Cut(text, ":")
	hour, err1 := strconv.ParseUint(h, 10, 8)
	minute, err2 := strconv.ParseUint(m, 10, 8)
	if !ok || len(m) != 2 || err1 != nil || err2 != nil || hour > 24 || minute > 59 || hour == 24 && minute > 0 {
		return math.MinInt
	}
	return int(hour*60 + minute)
}

// String returns the window as ParseWindow reads it; "" for the whole day.
func (w Window) String() string {
	if w == (Window{}) {
		return ""
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", w.from/60, w.from%60, w.to/60, w.to%60)
}

func (w Window) has(minute int) bool {
	if w.from < w.to {
		return w.from <= minute && minute < w.to
	}
	return w == (Window{}) || w.from <= minute || minute < w.to
}

// Days are a day or a range of days, of one year or of each.
type Days struct {
	from, to int // as a number with the digits of 20261224 or, for each year, 1224
}

// everyYear is above all days of each year.
const everyYear = 1_00_00

// ParseDays reads a day such as 2026-12-24, or 12-24 for each year, or a range such as
// 2026-12-24..2027-01-02.
func ParseDays(text string) (Days, error) {
	first, last, ranged := strings.Cut(text, "..")
	if !ranged {
		last = first
	}
	d := Days{dayNumber(first), dayNumber(last)}
	switch {
	case d.from == 0 || d.to == 0 || (d.from < everyYear) != (d.to < everyYear):
		return Days{}, fmt.Errorf("%.40q is not a day; write one such as 2026-12-24, 12-24 for each year, or 2026-12-24..2027-01-02", text)
	case d.from > d.to && d.from > everyYear:
		return Days{}, fmt.Errorf("%.40q ends before it begins", text)
	}
	return d, nil
}

// dayNumber returns 0 for what is no day.
func dayNumber(text string) int {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return dayOf(day)
	}
	if day, err := time.Parse(time.DateOnly, "2024-"+text); err == nil { // a leap year
		return dayOf(day) % everyYear
	}
	return 0
}

func dayOf(day time.Time) int {
	year, month, d := day.Date()
	return year*everyYear + int(month)*100 + d
}

// has returns whether a day is one of them, which is a number of dayOf.
func (d Days) has(n int) bool {
	if d.from < everyYear {
		n %= everyYear
	}
	if d.from > d.to { // over the end of the year
		return n >= d.from || n <= d.to
	}
	return d.from <= n && n <= d.to
}

// String returns the days as ParseDays reads them.
func (d Days) String() string {
	show := func(n int) string {
		if n < everyYear {
			return fmt.Sprintf("%02d-%02d", n/100, n%100)
		}
		return fmt.Sprintf("%04d-%02d-%02d", n/everyYear, n/100%100, n%100)
	}
	if d.from == d.to {
		return show(d.from)
	}
	return show(d.from) + ".." + show(d.to)
}

// Within returns the schedule with its due times in the window only, and without those that are excluded, by
// the clock of its zone. It returns an error if there are none.
func (s Schedule) Within(between Window, exclude []Exclusion) (Schedule, error) {
	s.between, s.exclude = between, nil
	if len(exclude) > 0 {
		all := slices.Clone(exclude)
		s.exclude = &all
	}
	if _, ok := s.Next(time.Unix(0, 0)); !ok && s.kind >= At {
		return Schedule{}, errors.New("every due time is left out by the window and the exclusions")
	}
	return s, nil
}

// excluded returns the exclusions.
func (s *Schedule) excluded() []Exclusion {
	if s.exclude == nil {
		return nil
	}
	return *s.exclude
}

// skipTo returns whether a due time is left out, and an instant after which the next one may not be. That is
// not after a change of the clock, which may show again what it has shown.
func (s *Schedule) skipTo(due time.Time) (after time.Time, skip bool) {
	year, month, day := due.Date()
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() // as a wall time
	hour, minute, second := due.Clock()
	second += hour*3600 + minute*60
	wall, excluded := s.excludedUntil(due, midnight, second)
	switch {
	case excluded:
	case s.between.has(second / 60):
		return time.Time{}, false
	case second/60 < s.between.from:
		wall = midnight + int64(s.between.from)*60
	default:
		wall = midnight + daySeconds + int64(s.between.from)*60
	}
	at := due.Unix()
	after = time.Unix(min(wall-offset(s.zone, at), change(s.zone, at))-1, 0)
	if after.Before(due) {
		after = due
	}
	return after, true
}
