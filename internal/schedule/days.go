package schedule

import (
	"math/bits"
	"time"
)

// Bits in a mask of the days of a month: bit n is day n.
const weekly = 1<<1 | 1<<8 | 1<<15 | 1<<22 | 1<<29 // the 1st, and all days of its weekday

// days returns the days of the month with this first day that the expression has. It has those of
// both day fields, if one of them begins with *, and those of either otherwise: crontab(5).
func (s *Schedule) days(first time.Time) uint32 {
	count := first.AddDate(0, 1, -1).Day()
	month := uint32(1)<<(count+1) - 2
	ofMonth := s.dayOfMonth.daysOfMonth(count, first.Weekday())
	ofWeek := s.dayOfWeek.daysOfWeek(month, first.Weekday())
	if s.dayOfMonth.star || s.dayOfWeek.star {
		return ofMonth & ofWeek & month
	}
	return (ofMonth | ofWeek) & month
}

func (s *set) daysOfMonth(count int, first time.Weekday) uint32 {
	days := uint32(s.values & (1<<lastDay - 1))
	for before := s.values >> lastDay; before != 0; before &= before - 1 {
		if n := count - bits.TrailingZeros64(before); n > 0 {
			days |= 1 << n
		}
	}
	for near := s.weekdays; near != 0; near &= near - 1 {
		n := bits.TrailingZeros32(near)
		if n == 0 {
			days |= 1 << lastWeekday(count, first)
		} else if n <= count {
			days |= 1 << nearestWeekday(n, count, first)
		}
	}
	return days
}

// lastWeekday returns the last day of the month from Monday to Friday.
func lastWeekday(count int, first time.Weekday) int {
	switch weekdayOf(count, first) {
	case time.Saturday:
		return count - 1
	case time.Sunday:
		return count - 2
	}
	return count
}

// nearestWeekday returns the day of the month from Monday to Friday that is nearest to day n.
func nearestWeekday(n, count int, first time.Weekday) int {
	switch weekdayOf(n, first) {
	case time.Saturday:
		if n == 1 {
			return 3
		}
		return n - 1
	case time.Sunday:
		if n == count {
			return n - 2
		}
		return n + 1
	}
	return n
}

// weekdayOf returns the weekday of day n of the month.
func weekdayOf(n int, first time.Weekday) time.Weekday {
	return (first + time.Weekday(n-1)) % 7
}

func (s *set) daysOfWeek(month uint32, first time.Weekday) (days uint32) {
	for rest := s.values; rest != 0; rest &= rest - 1 {
		week, weekday := bits.TrailingZeros64(rest)/7, bits.TrailingZeros64(rest)%7
		start := (weekday + 7 - int(first)) % 7
		all := uint32(weekly) << start & month
		switch week {
		case 0:
			days |= all
		case lastWeek:
			days |= 1 << (bits.Len32(all) - 1)
		default:
			days |= 1 << (1 + start + 7*(week-1))
		}
	}
	return days
}
