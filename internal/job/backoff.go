package job

import "time"

// The back-off of failures in a row: the first wait, and the growth and the limit of the next ones. Each
// wait is longer or shorter by a random part, at most BackoffJitter of it, so that many jobs do not fail
// in step.
const (
	BackoffMin    = 100 * time.Millisecond
	BackoffGrow   = 2
	BackoffMax    = 30 * time.Second
	BackoffJitter = 0.1
)

// SlowsFailures reports whether failures in a row are slowed by the back-off, because no interval does.
func (s Schedule) SlowsFailures() bool { return s.Service || s.Interval == 0 && s.Calendar == nil }

// FastestStarts returns the shortest time from the first to the last of n starts in a row, if every run
// fails at once; 0 with a calendar.
func (s Schedule) FastestStarts(n int) (total time.Duration) {
	wait := BackoffMin
	for range n - 1 {
		fastest := s.Interval
		if s.SlowsFailures() {
			fastest = max(s.Interval, time.Duration((1-BackoffJitter)*float64(wait)))
		}
		total += fastest
		if total > 365*24*time.Hour {
			break // longer than any limit
		}
		wait = min(BackoffGrow*wait, BackoffMax)
	}
	return total
}
