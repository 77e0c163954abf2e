package schedule

import (
	"fmt"
	"math/bits"
	"time"
)

// Cautions returns what the user of a valid expression has perhaps not meant, one line each, with what to
// write then.
func (s *Schedule) Cautions(now time.Time) (texts []string) {
	if _, ok := s.Next(now); !ok && s.kind == At {
		texts = append(texts, "this time is over, so the job runs on request only")
	}
	if s.kind != Calendar {
		return texts
	}
	if first, hours := bits.TrailingZeros64(s.hour.values), bits.OnesCount64(s.hour.values); s.minute.values == 1<<60-1 && hours < 24 {
		what := fmt.Sprintf("hour %d", first)
		if hours > 1 {
			what = "each of its hours"
		}
		texts = append(texts, fmt.Sprintf("it runs in every minute of %s; for one run write 0 in place of the first *", what))
	}
	if !s.dayOfMonth.star && !s.dayOfWeek.star {
		texts = append(texts, "it runs if the day of month or the day of week matches; begin one of them with * if both must match")
	}
	if day := s.shortMonth(); day != 0 {
		texts = append(texts, fmt.Sprintf("it does not run in months without day %d; write L for the last day of each month", day))
	}
	return texts
}

// shortMonth returns the first day of month if there is none before it that each month of the expression
// has; otherwise 0.
func (s *Schedule) shortMonth() int {
	first := bits.TrailingZeros64(s.dayOfMonth.values)
	if !s.dayOfWeek.star || s.dayOfMonth.weekdays != 0 || s.dayOfMonth.values>>lastDay != 0 {
		return 0
	}
	for months := s.month.values; months != 0; months &= months - 1 {
		month := time.Month(bits.TrailingZeros64(months))
		if last := time.Date(2023, month+1, 0, 0, 0, 0, 0, time.UTC).Day(); first > last && s.month.values != 1<<time.February {
			return first
		}
	}
	return 0
}
