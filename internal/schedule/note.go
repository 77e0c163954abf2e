package schedule

import "time"

// Note explains a due time beside a change of the clock, and is empty for all others: it says which
// wall time does not exist or comes twice, and what the schedule does about it.
func (s *Schedule) Note(due time.Time) string {
	if s.kind == Every {
		return ""
	}
	at := due.Unix()
	for start := at - daySeconds; start < at+daySeconds; {
		before := offset(s.zone, start)
		start = change(s.zone, start)
		if start > at+daySeconds {
			break
		}
		switch after := offset(s.zone, start); {
		case after > before && start <= at:
			if note := s.noteGap(at, start, before, after); note != "" {
				return note
			}
		case after < before:
			if note := s.noteRepeat(at, start, before, after); note != "" {
				return note
			}
		}
	}
	return ""
}

// noteGap is about the first run after a gap in which there would have been one.
func (s *Schedule) noteGap(at, start, before, after int64) string {
	missing, ok := s.nextWall(start + before)
	first, _ := s.next(time.Unix(start-1, 0))
	switch {
	case !ok || missing >= start+after || first.Unix() != at:
		return ""
	case after-before > correction:
		return show(missing, at+after) + " does not exist; the change is longer than 3 hours, so nothing is made up"
	case s.wildcard:
		return show(missing, at+after) + " does not exist; wildcards follow the clock"
	}
	return show(missing, at+after) + " does not exist on this day; runs right after the clock change"
}

// noteRepeat is about a wall time that comes twice.
func (s *Schedule) noteRepeat(at, start, before, after int64) string {
	wall := at + before
	if at >= start {
		wall = at + after
	}
	switch {
	case wall < start+after || wall >= start+before:
		return ""
	case at >= start:
		return show(wall, wall) + " comes twice; runs for the second time"
	case s.wildcard || before-after > correction:
		return show(wall, wall) + " comes twice; runs both times"
	}
	return show(wall, wall) + " comes twice on this day; runs the first time only"
}

// show formats a wall time, with its date if that is not the day of the other.
func show(wall, other int64) string {
	layout := "15:04"
	if wall%60 != 0 {
		layout = "15:04:05"
	}
	t, o := time.Unix(wall, 0).UTC(), time.Unix(other, 0).UTC()
	if t.YearDay() != o.YearDay() || t.Year() != o.Year() {
		layout = "2006-01-02 " + layout
	}
	return t.Format(layout)
}
