// Package schedule answers: when is a job due, by the calendar and the clock of its time zone?
//
// Parse reads an expression of crontab(5) and of its relatives. A Schedule is a value without
// goroutine, timer or clock: Next computes the first due time after an instant, and Note explains
// a due time beside a clock change. The rule for clock changes is that of Debian's cron(8).
package schedule

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Options are what the meaning of an expression depends on.
type Options struct {
	// Zone is the time zone of the expression; nil means UTC.
	Zone *time.Location
	// Seconds allows six fields, with the seconds first.
	Seconds bool
	// Year allows the fields of supercronic: six with the year last, or seven with the second first too.
	Year bool
	// Seed decides what ~ draws from its range. Equal seeds draw equal values.
	Seed string
}

// Kind says what makes a job due.
type Kind uint8

const (
	Manual   Kind = iota // @manual: requests only; there are no due times
	Reboot               // @reboot: each boot; there are no due times
	At                   // @at: one time
	Every                // @every: a fixed interval
	Calendar             // fields, or a name for them such as @daily
)

// Schedule is a parsed expression. It is immutable, and its methods may be called from any
// goroutine. The zero value is @manual.
type Schedule struct {
	source
	kind     Kind
	wildcard bool // minute or hour begins with *: it follows the clock through a change
	zone     *time.Location
	every    time.Duration
	at       int64 // the wall time of @at

	between Window
	exclude *[]Exclusion // nil for none

	second, minute, hour, month set
	dayOfMonth, dayOfWeek       set
	years                       years
}

// source is what a Schedule was parsed from, besides its zone.
type source struct {
	text    string
	seconds bool   // Options.Seconds
	year    bool   // Options.Year
	seed    string // Options.Seed, if the expression draws a value
}

// Kind returns what makes the job due.
func (s *Schedule) Kind() Kind { return s.kind }

// Zone returns the time zone of the expression.
func (s *Schedule) Zone() *time.Location { return s.zone }

// String returns the expression as it was written, with one blank between its fields.
func (s *Schedule) String() string { return s.text }

// Equal returns true if both have the same source, or if there is neither.
func (s *Schedule) Equal(other *Schedule) bool {
	if s == nil || other == nil {
		return s == other
	}
	a, b := *s, *other
	a.exclude, b.exclude = nil, nil
	return a == b && slices.EqualFunc(s.excluded(), other.excluded(), Exclusion.equal)
}

// FollowsClock returns true if a time that comes twice is due twice: with wildcards and with @every.
func (s *Schedule) FollowsClock() bool { return s.wildcard || s.kind == Every }

// Parse reads an expression: five fields, more with Options.Seconds or Year, or a name that starts with @.
// The syntax is that of crontab(5), with the extensions of docs/schedule.md. The error names the
// column, counted from 1, and what was expected there. An expression that can never match is an
// error too.
func Parse(text string, o Options) (Schedule, error) {
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	words := split(text)
	if len(words) == 0 {
		return Schedule{}, fmt.Errorf("column 1: empty: expected %s, or a name such as @daily", fieldNames(o))
	}
	s, err := parseWords(words, text, o)
	if err != nil {
		return Schedule{}, err
	}
	s.source = source{text: strings.Join(strings.Fields(text), " "), seconds: o.Seconds, year: o.Year}
	if strings.Contains(text, "~") {
		s.seed = o.Seed
	}
	return s, nil
}

func parseWords(words []word, text string, o Options) (Schedule, error) {
	if words[0].text[0] == '@' {
		return parseNamed(words, text, o)
	}
	// The highest value that ~ can draw must be possible, so that no seed makes the expression fail.
	s, err := parseFields(words, o, func(_ string, _, high int) int { return high })
	if err == nil {
		_, ok := s.nextDay(0)
		if !ok {
			last := len(words) - 1
			if o.Year && last > 4 {
				last--
			}
			day, month := words[last-2], words[last-1]
			if s.years != (years{}) {
				month.text += " of " + words[last+1].text
			}
			return Schedule{}, fmt.Errorf("column %d: never matches: expected a day of month that exists in month %s, not %s",
				day.column, month.text, day.text)
		}
	}
	if err == nil && strings.Contains(text, "~") {
		s, err = parseFields(words, o, func(where string, low, high int) int { return draw(o.Seed, where, low, high) })
	}
	return s, err
}

// Spread returns a duration below limit that depends on the seed only.
func Spread(seed string, limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	sum := sha256.Sum256([]byte("splay\x00" + seed))
	return time.Duration(binary.BigEndian.Uint64(sum[:]) % uint64(limit))
}

// draw returns a value from low to high that depends on the seed and the place in the expression
// only. A change of this function moves the runs of all jobs that use ~.
func draw(seed, where string, low, high int) int {
	sum := sha256.Sum256([]byte(where + "\x00" + seed))
	return low + int(binary.BigEndian.Uint64(sum[:])%uint64(high-low+1))
}
