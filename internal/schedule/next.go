package schedule

import (
	"math"
	"math/bits"
	"time"
)

const daySeconds = 24 * 60 * 60

// correction is the longest change of a clock, in seconds, that is one for summer or winter. A
// longer one corrects the clock, and nothing is made up for it: cron(8).
const correction = 3 * 60 * 60

// maxSkips is how many days or windows in a row Next skips before there is no due time: 50 years.
const maxSkips = 50 * 366

// maxSkipsOfEvery is the same for @every, whose due times have no days: it is a matter of a second.
const maxSkipsOfEvery = 1_000_000

// Next returns the first due time after an instant, in the time zone of the schedule. There is
// none if it returns false, and the zero time: after the only one of @at, and for @reboot and @manual.
func (s *Schedule) Next(after time.Time) (time.Time, bool) {
	due, ok := s.next(after)
	if s.between == (Window{}) && s.exclude == nil {
		return due, ok
	}
	most := maxSkips
	if s.kind == Every {
		most = maxSkipsOfEvery
	}
	for skips := 0; ok && skips < most; {
		from, skip := s.skipTo(due)
		if !skip {
			return due, true
		}
		if from.After(due) || s.kind == Every {
			skips++
		}
		due, ok = s.next(from)
	}
	return time.Time{}, false
}

// next is Next without a window and excluded days.
//
// A wall time is counted in seconds from 1970-01-01 00:00 on the same clock. Between two changes of
// its offset the clock shows each wall time of a range once. reached is how far the runs at a fixed
// time have come; it never falls, except by a correction. So such a run in a gap is due at the end
// of the gap, and one in a repeated hour is due once. With wildcards reached is what the clock
// shows, and the same search follows it through both.
//
// The due times of @every are the multiples of its interval since 0001-01-01T00:00:00Z, as those of
// time.Time.Truncate: they depend on no start, host or reader.
func (s *Schedule) next(after time.Time) (time.Time, bool) {
	switch s.kind {
	case Every:
		return after.Truncate(s.every).Add(s.every).In(s.zone), true
	case Reboot, Manual:
		return time.Time{}, false
	}
	first := after.Unix() + 1
	at := first - correction // a repeated time that began earlier is over
	reached := at + offset(s.zone, at)
	for {
		shift, end := offset(s.zone, at), change(s.zone, at)
		if shown := at + shift; s.wildcard || max(shown-reached, reached-shown) > correction {
			reached = shown
		}
		from := reached
		if at < first {
			from = max(from, first+shift)
		}
		wall, ok := s.nextWall(from)
		switch {
		case !ok:
			return time.Time{}, false
		case wall-shift < end:
			return time.Unix(max(at, wall-shift), 0).In(s.zone), true
		}
		at, reached = end, end+shift
		// No zone is a day from UTC, so nothing is due more than a day before that wall time.
		if wall, ok := s.nextWall(end - daySeconds); ok && wall-daySeconds > end {
			at = wall - daySeconds
			reached = at + offset(s.zone, at)
		}
	}
}

// Count returns how many due times there are after an instant, up to and including another, and the last
// of them; after itself if there is none.
func (s *Schedule) Count(after, until time.Time) (n uint64, last time.Time) {
	last = after
	due, ok := s.Next(after)
	if ok && s.kind == Every && s.between == (Window{}) && s.exclude == nil && !due.After(until) { // there may be millions
		more := until.Sub(due) / s.every
		return uint64(more) + 1, due.Add(more * s.every)
	}
	for ; ok && !due.After(until); due, ok = s.Next(due) {
		n, last = n+1, due
	}
	return n, last
}

// nextWall returns the first wall time of the expression that is not before from.
func (s *Schedule) nextWall(from int64) (int64, bool) {
	if s.kind == At {
		return s.at, s.at >= from
	}
	day := from / daySeconds
	if from%daySeconds < 0 {
		day--
	}
	found, ok := s.nextDay(day)
	if found == day {
		if second, ok := s.nextSecond(int(from - day*daySeconds)); ok {
			return day*daySeconds + int64(second), true
		}
		found, ok = s.nextDay(day + 1)
	}
	second, _ := s.nextSecond(0)
	return found*daySeconds + int64(second), ok
}

// nextSecond returns the first second of a day of the expression that is not before second.
func (s *Schedule) nextSecond(second int) (int, bool) {
	h, m, sec := second/3600, second/60%60, second%60
	firstMinute, firstSecond := s.minute.from(0), s.second.from(0)
	if sec = s.second.from(sec); sec > 59 {
		m, sec = m+1, firstSecond
	}
	if n := s.minute.from(m); n > m {
		m, sec = n, firstSecond
	}
	if m > 59 {
		h, m, sec = h+1, firstMinute, firstSecond
	}
	if n := s.hour.from(h); n > h {
		h, m, sec = n, firstMinute, firstSecond
	}
	return h*3600 + m*60 + sec, h < 24
}

// from returns the first value that is not below n, or more than 63.
func (s *set) from(n int) int { return n + bits.TrailingZeros64(s.values>>n) }

func (s *set) has(n int) bool { return s.values>>n&1 == 1 }

// nextDay returns the first day of the expression that is not before day, counted from 1970-01-01.
func (s *Schedule) nextDay(day int64) (int64, bool) {
	year, month, d := time.Unix(day*daySeconds, 0).UTC().Date()
	for range 400*12 + 1 { // the calendar repeats after 400 years
		switch first, ok := s.years.from(year); {
		case !ok:
			return 0, false
		case first > year:
			year, month, d = first, time.January, 1
		}
		if s.month.has(int(month)) {
			first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
			if days := s.days(first) >> d; days != 0 {
				return first.Unix()/daySeconds + int64(d-1+bits.TrailingZeros32(days)), true
			}
		}
		if month, d = month+1, 1; month > time.December {
			year, month = year+1, time.January
		}
	}
	return 0, false
}

// offset returns how far the clock of a zone is ahead of UTC at an instant. All are in seconds.
func offset(zone *time.Location, at int64) int64 {
	_, seconds := time.Unix(at, 0).In(zone).Zone()
	return int64(seconds)
}

// change returns an instant after at until which the offset of a zone stays what it is.
func change(zone *time.Location, at int64) int64 {
	_, end := time.Unix(at, 0).In(zone).ZoneBounds()
	switch {
	case end.IsZero():
		return math.MaxInt64
	case end.Unix() <= at:
		// Past the table of a zone package time gives each year 365 days, so that the 366th begins after
		// its bound. No rule changes a clock on that day.
		return at - at%daySeconds + daySeconds
	}
	return end.Unix()
}
