package supervisor

import "time"

// A service exits often if it does so this many times in that time. Then there is one event, and
// another after each such time for which that continues. So it is for processes that runs leave.
const (
	manyExits  = 10
	exitPeriod = 10 * time.Minute
)

// exits counts the exits of a service by itself with a success code, after which it is restarted at
// once. Each one is a success, so no warning is about it.
type exits struct {
	since    time.Time // the start of the first run that counts
	count    uint64
	reported bool // of the period before
}

// add counts an exit of a run, and returns how many there were in what time, if that is to be
// reported; otherwise 0.
func (x *exits) add(started, ended time.Time) (count uint64, in time.Duration) {
	over := x.count > 0 && ended.Sub(x.since) > exitPeriod
	if over && x.count < manyExits {
		*x, over = exits{}, false
	}
	if x.count == 0 {
		x.since = started
	}
	x.count++
	if x.count < manyExits || x.reported && !over {
		return 0, 0
	}
	count, in = x.count, ended.Sub(x.since)
	*x = exits{reported: true}
	return count, in
}

// leftReport is when it was last reported that a run has left processes behind.
type leftReport time.Time

// report returns true if it is to be reported again.
func (l *leftReport) report(now time.Time) bool {
	if last := time.Time(*l); !last.IsZero() && now.Sub(last) <= exitPeriod {
		return false
	}
	*l = leftReport(now)
	return true
}
