package schedule

import "time"

// The oracle is cron(8) as its manual describes it: it looks at the clock again and again, and
// decides each time what to run. It shares nothing with the package that it checks.

// civil is what a clock shows.
type civil struct {
	time.Time // in UTC, which stands for the wall
}

// expression is a text and, written without a parser, what it means.
type expression struct {
	text     string
	time     func(civil) bool // of the fields for second, minute and hour
	day      func(civil) bool // of the other three
	wildcard bool             // minute or hour begins with *
	unit     int64            // 60 with five fields, 1 with six
}

func (e *expression) matches(wall int64) bool {
	c := civil{time.Unix(wall, 0).UTC()}
	return wall%e.unit == 0 && e.time(c) && e.day(c)
}

// cron is the clock of a zone and how far the jobs at a fixed time have come.
type cron struct {
	zone     *time.Location
	at, wall int64 // now
	virtual  int64 // the wall time up to which these jobs have run, as in cron.c
}

func wallTime(zone *time.Location, at int64) int64 {
	_, shift := time.Unix(at, 0).In(zone).Zone()
	return at + int64(shift)
}

// startCron returns a cron that has run long enough to know of any repeated hour.
func startCron(zone *time.Location, at int64) *cron {
	c := &cron{zone: zone, at: at - 4*3600}
	c.wall = wallTime(zone, c.at)
	for c.virtual = c.wall; c.at < at; c.done() {
		c.at += min(60, at-c.at)
		c.wall = wallTime(zone, c.at)
	}
	return c
}

// next goes to the next look at the clock: a second later where the clock is about to change, otherwise
// when what is left of the unit is over.
func (c *cron) next(unit int64) {
	rest := unit - (c.wall%unit+unit)%unit
	wall := wallTime(c.zone, c.at+rest)
	if wall != c.wall+rest {
		rest, wall = 1, wallTime(c.zone, c.at+1)
	}
	c.at, c.wall = c.at+rest, wall
}

// isCorrection reports that the clock has moved by more than three hours.
func (c *cron) isCorrection() bool {
	ahead := c.wall - c.virtual
	return ahead > 3*3600+60 || ahead < -3*3600
}

// runs reports whether cron starts the job now.
func (c *cron) runs(e *expression) bool {
	if e.wildcard || c.isCorrection() {
		return e.matches(c.wall)
	}
	// A fixed time that the clock has passed since the last look, if it has passed any.
	for w := c.virtual + 1; w <= c.wall; w++ {
		if w += (e.unit - w%e.unit) % e.unit; w <= c.wall && e.matches(w) {
			return true
		}
	}
	return false
}

// done ends a look at the clock. While the clock shows repeated time, virtual stays.
func (c *cron) done() {
	if c.wall > c.virtual || c.isCorrection() {
		c.virtual = c.wall
	}
}

// first returns the first run of e after an instant. It leaves out half days around which no day
// matches.
func (c *cron) first(e *expression, after int64) int64 {
	var day int64
	near := false
	for started := false; ; started = true {
		if d := c.wall / 86400; d != day || !started {
			day, near = d, e.dayNear(c.wall)
		}
		if near {
			c.next(e.unit)
		} else {
			c.at += 12 * 3600
			c.wall = wallTime(c.zone, c.at)
			c.virtual = c.wall
		}
		runs := c.runs(e)
		c.done()
		if runs && c.at > after {
			return c.at
		}
	}
}

// dayNear reports whether a day within two days of a wall time matches.
func (e *expression) dayNear(wall int64) bool {
	for d := int64(-2); d <= 2; d++ {
		if e.day(civil{time.Unix(wall+d*86400, 0).UTC()}) {
			return true
		}
	}
	return false
}
