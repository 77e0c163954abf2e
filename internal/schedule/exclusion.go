package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// Exclusion are times at which nothing is due: whole days, or those that match an expression.
type Exclusion struct {
	days  Days
	times *Schedule // nil for days; a Calendar
}

// IsExpression reports whether the text of an exclusion is an expression: it has a blank.
func IsExpression(text string) bool { return strings.ContainsAny(strings.TrimSpace(text), " \t") }

// ParseExclusion reads days as ParseDays does, or an expression of fields as Parse does. With five fields all
// of a minute that matches is excluded.
func ParseExclusion(text string, o Options) (Exclusion, error) {
	if !IsExpression(text) {
		days, err := ParseDays(text)
		return Exclusion{days: days}, err
	}
	o.Year = false // the days of one year have a form of their own
	s, err := Parse(text, o)
	switch {
	case err == nil && s.kind != Calendar:
		err = errors.New("an expression that excludes times has fields; write one such as * * 24-26 12 *")
	case err == nil && strings.Contains(text, "~"):
		err = errors.New("~ draws a value; write the one that is excluded")
	}
	if err != nil {
		return Exclusion{}, fmt.Errorf("%.80q: %w", text, err)
	}
	if s.second.values == 1 && len(strings.Fields(s.text)) == 5 {
		s.second.values = wholeMinute
	}
	return Exclusion{times: &s}, nil
}

const (
	wholeMinute = 1<<60 - 1
	wholeDay    = 1<<24 - 1 // hours
)

// String returns the exclusion as ParseExclusion reads it.
func (x Exclusion) String() string {
	if x.times != nil {
		return x.times.text
	}
	return x.days.String()
}

func (x Exclusion) equal(other Exclusion) bool {
	return x.days == other.days && x.times.Equal(other.times)
}

// ParseDayFile reads a day or a range of days, as ParseDays does, from each line. A # begins a comment. The
// error is about the line with that number, from 1.
func ParseDayFile(text string) (exclude []Exclusion, line int, err error) {
	for words := range strings.Lines(text) {
		line++
		day, _, _ := strings.Cut(words, "#")
		if day = strings.TrimSpace(day); day == "" {
			continue
		}
		days, err := ParseDays(day)
		if err != nil {
			return nil, line, err
		}
		if len(exclude) == maxDays {
			return nil, line, fmt.Errorf("more than %d days; write ranges such as 2026-12-24..2027-01-02", maxDays)
		}
		exclude = append(exclude, Exclusion{days: days})
	}
	return exclude, 0, nil
}

// maxDays limits a file that is no list of days: each due time is compared with all of them.
const maxDays = 10_000

// excludedUntil returns whether a due time is excluded, and a wall time before which no later due time of that
// day is left. The day begins at midnight as a wall time, and second is that of the due time.
func (s *Schedule) excludedUntil(due time.Time, midnight int64, second int) (wall int64, excluded bool) {
	if s.exclude == nil {
		return 0, false
	}
	day := dayOf(due)
	var active []*Schedule // the expressions of that day
	for _, x := range *s.exclude {
		if x.times == nil {
			if x.days.has(day) {
				return midnight + daySeconds, true
			}
			continue
		}
		if x.times.hasDay(midnight / daySeconds) {
			active = append(active, x.times)
			excluded = excluded || x.times.hasTime(second)
		}
	}
	switch {
	case !excluded:
		return 0, false
	case s.kind != Calendar:
		return midnight + int64(endOfTime(active, second)), true
	}
	return midnight + int64(s.nextLeft(second+1, active)), true
}

// hasDay returns whether a day, counted from 1970-01-01, is one of the expression.
func (s *Schedule) hasDay(day int64) bool {
	year, month, d := time.Unix(day*daySeconds, 0).UTC().Date()
	if !s.month.has(int(month)) {
		return false
	}
	return s.days(time.Date(year, month, 1, 0, 0, 0, 0, time.UTC))>>d&1 == 1
}

// hasTime returns whether a second of a day is one of the expression.
func (s *Schedule) hasTime(second int) bool {
	return s.hour.has(second/3600) && s.minute.has(second/60%60) && s.second.has(second%60)
}

// endOfTime returns the first second of a day after a second that is excluded by one of the expressions, and
// that is perhaps not excluded; at the earliest the next one.
func endOfTime(active []*Schedule, second int) int {
	end := second + 1
	for _, x := range active {
		switch {
		case !x.hasTime(second) || x.second.values != wholeMinute:
		case x.minute.values != wholeMinute:
			end = max(end, second-second%60+60)
		case x.hour.values != wholeDay:
			end = max(end, second-second%3600+3600)
		default:
			return daySeconds
		}
	}
	return end
}

// nextLeft returns the first second of the day that the fields of the schedule have and that no expression
// excludes, from a second on; daySeconds if there is none.
func (s *Schedule) nextLeft(from int, exclude []*Schedule) int {
	for minute := from / 60; minute < daySeconds/60; minute++ {
		h, m := minute/60, minute%60
		if !s.hour.has(h) {
			minute += 59 - m
			continue
		}
		if !s.minute.has(m) {
			continue
		}
		left := s.second.values
		if minute == from/60 {
			left &= ^uint64(0) << (from % 60)
		}
		for _, x := range exclude {
			if x.hour.has(h) && x.minute.has(m) {
				left &^= x.second.values
			}
		}
		if left != 0 {
			return minute*60 + bits.TrailingZeros64(left)
		}
	}
	return daySeconds
}
