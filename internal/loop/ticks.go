package loop

import (
	"math/rand/v2"
	"time"

	"gophd/internal/timer"
)

// The methods of Grid are the only code that knows how the ticks of an interval differ from the due
// times of a calendar.

// correction is the longest step of the wall clock for which due times are made up or left out: cron(8).
const correction = 3 * time.Hour

// small is the longest step forward for which the due times of a calendar that follows the clock are made up:
// cron(8) starts them as if it were only late.
const small = 5 * time.Minute

// repeats is the longest step back for which a calendar that follows the clock does not repeat due times.
const repeats = time.Minute

// position is where a Grid stands in the series of its ticks.
type position struct {
	tick uint64
	last time.Time
}

func (g *Grid) position() position { return position{g.Tick, g.Last} }

func (g *Grid) goBack(to position) { g.Tick, g.Last = to.tick, to.last }

// hasTicks returns false if runs follow each other back to back, or at the exit of a service. A calendar
// without further due times has ticks.
func (g *Grid) hasTicks() bool { return g.Interval > 0 || g.Calendar != nil }

// Due is the moment of the next tick; zero if there is none.
func (g *Grid) Due() time.Time {
	switch {
	case g.Calendar != nil:
		if due, ok := g.Calendar.Next(g.Last); ok {
			return due.Add(g.delay())
		}
	case g.Interval > 0:
		return g.at(g.Tick)
	}
	return time.Time{}
}

// at returns tick n of an interval.
func (g *Grid) at(n uint64) time.Time { return g.Anchor.Add(time.Duration(n) * g.Interval) }

// passed returns how many ticks, from the next one on, are due at now.
func (g *Grid) passed(now time.Time) uint64 {
	due := g.Due()
	switch {
	case due.IsZero() || due.After(now):
		return 0
	case g.each:
		return 1
	case g.Calendar != nil:
		n, _ := g.Calendar.Count(g.Last, now.Add(-g.delay()))
		return n
	}
	return uint64(now.Sub(due)/g.Interval) + 1
}

// pass passes the ticks that are due at now, and returns how many there are.
func (g *Grid) pass(now time.Time) (n uint64) {
	switch n = g.passed(now); {
	case n == 0:
	case g.each:
		g.Last, _ = g.Calendar.Next(g.Last)
		g.draw()
	case g.Calendar != nil:
		_, g.Last = g.Calendar.Count(g.Last, now.Add(-g.delay()))
		g.draw()
	default:
		g.Tick += n
	}
	return n
}

// last returns the tick that was passed last. A run that starts now serves it, however many were passed.
func (g *Grid) last(now time.Time) time.Time {
	if g.Calendar != nil {
		return g.Last
	}
	return rebase(now, g.at(g.Tick-1))
}

// around returns the first tick after a run that started then, and the time between two ticks there; zero
// if there is none.
func (g *Grid) around(started time.Time) (next time.Time, period time.Duration) {
	switch {
	case g.Calendar != nil:
		due, ok := g.Calendar.Next(started.Add(-g.splay))
		if !ok {
			return time.Time{}, 0
		}
		return due.Add(g.delay()), due.Sub(earlier(g.Last, started))
	case g.Interval == 0:
		return time.Time{}, 0
	case started.Before(g.Anchor): // on another grid
		return g.Due(), g.Interval
	}
	first := Grid{Anchor: g.Anchor, Interval: g.Interval}
	return g.at(first.passed(started)), g.Interval
}

// delay is the time from the next due time of a calendar to its tick.
func (g *Grid) delay() time.Duration { return g.splay + g.jitter }

// draw draws the jitter of the next tick.
func (g *Grid) draw() { g.jitter = time.Duration(rand.Float64() * float64(g.maxJitter)) }

// compare takes notice of a step of the wall clock, to which an interval does not react. After a step
// back the position of a calendar is later than now, so that no due time is served twice. It is set to now
// if the calendar follows the clock, and after every correction. A step forward skips the due times of a
// calendar that follows the clock, but not that of the minute that the clock shows now, nor one that was due
// before and waits for its splay.
//
// It returns the due times that are left out, and the last of them.
func (g *Grid) compare() (missed uint64, last time.Time) {
	if g.Calendar == nil {
		return 0, time.Time{}
	}
	now, ahead := time.Now().Round(0), timer.WallAhead()
	step := ahead - g.ahead
	g.ahead = ahead
	until := now
	switch follows := g.Calendar.FollowsClock(); {
	case step.Abs() > correction, follows && g.Last.Sub(now) > repeats:
	case follows && step > small:
		until = now.Truncate(time.Minute).Add(-1)
		due, ok := g.Calendar.Next(g.Last)
		if !ok || !due.After(now.Add(-step)) || !until.After(g.Last) {
			return 0, time.Time{}
		}
	default:
		return 0, time.Time{}
	}
	for last = g.Last; missed < maxCorrected; missed++ { // a clock that was wrong by years may have left out millions
		due, ok := g.Calendar.Next(last)
		if !ok || due.After(until) {
			break
		}
		last = due
	}
	g.Last = until
	return missed, last
}

// maxCorrected is how many due times are counted that a step of the clock leaves out.
const maxCorrected = 10_000
