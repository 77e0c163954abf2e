package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is a part of an expression between blanks.
type word struct {
	text   string
	column int // of its first byte, from 1
}

func split(text string) (words []word) {
	for i := 0; i < len(text); {
		rest := text[i:]
		blanks := len(rest) - len(strings.TrimLeft(rest, " \t"))
		rest = rest[blanks:]
		n := strings.IndexAny(rest+" ", " \t")
		if n > 0 {
			words = append(words, word{rest[:n], i + blanks + 1})
		}
		i += blanks + n
	}
	return words
}

// field is what is known about one field of an expression.
type field struct {
	name     string
	min, max int
	names    []string // of the values from min
	drawMax  int      // the end of a ~ without one
}

var (
	second     = &field{name: "second", max: 59, drawMax: 59}
	minute     = &field{name: "minute", max: 59, drawMax: 59}
	hour       = &field{name: "hour", max: 23, drawMax: 23}
	dayOfMonth = &field{name: "day of month", min: 1, max: 31, drawMax: 28} // each month has a 28th
	month      = &field{name: "month", min: 1, max: 12, drawMax: 12, names: []string{
		"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}}
	dayOfWeek = &field{name: "day of week", max: 7, drawMax: 6, names: []string{
		"sun", "mon", "tue", "wed", "thu", "fri", "sat"}}
)

func fieldNames(o Options) string {
	const five = "5 fields: minute, hour, day of month, month, day of week"
	switch {
	case o.Year:
		return five + "; or 6 with the year last; or 7 with the second first too"
	case o.Seconds:
		return five + "; or 6 with the second first"
	}
	return five
}

// set has the values of a field. Bit n of values is the value n. For the day of month, bit
// lastDay+n is the day n days before the last one, and bit n of weekdays the weekday nearest to
// day n; bit 0 of weekdays is the last weekday. For the day of week, bit 7*n+d is the nth day d of
// the month, and n is lastWeek for the last.
type set struct {
	values   uint64
	weekdays uint32
	star     bool // the field begins with * or ?
}

const (
	lastDay  = 32
	lastWeek = 6
)

// drawer returns a value from low to high for a ~ at a place of the expression.
type drawer func(where string, low, high int) int

func parseFields(words []word, o Options, d drawer) (s Schedule, err error) {
	if n := len(words); n != 5 && (n != 6 || !o.Seconds && !o.Year) && (n != 7 || !o.Year) {
		last := words[min(n, 6)-1]
		problem := fmt.Sprintf("column %d: %d fields: expected %s", last.column, n, fieldNames(o))
		if n == 6 {
			problem += "; a sixth, the second, needs the option seconds"
		}
		return Schedule{}, fmt.Errorf("%s", problem)
	}
	s = Schedule{kind: Calendar, zone: o.Zone}
	if last := len(words) - 1; o.Year && last > 4 {
		if s.years, err = parseYears(words[last], d); err != nil {
			return Schedule{}, err
		}
		words = words[:last]
	}
	if len(words) == 5 {
		words = append([]word{{text: "0"}}, words...)
	}
	for i, f := range []*field{second, minute, hour, dayOfMonth, month, dayOfWeek} {
		to := []*set{&s.second, &s.minute, &s.hour, &s.dayOfMonth, &s.month, &s.dayOfWeek}[i]
		if *to, err = f.parse(words[i], d); err != nil {
			return Schedule{}, err
		}
	}
	s.wildcard = s.minute.star || s.hour.star
	return s, nil
}

// parse reads the list of one field.
func (f *field) parse(w word, d drawer) (s set, err error) {
	p := parser{field: f, rest: w.text, column: w.column, draw: d}
	s.star = w.text[0] == '*' || w.text[0] == '?'
	return s, p.list(w, &s)
}

// list reads the elements of a field into s.
func (p *parser) list(w word, s *set) error {
	for {
		if err := p.element(s); err != nil {
			return err
		}
		p.elements++
		if p.rest == "" {
			return nil
		}
		if !p.skip(",") {
			return p.fail("expected a comma or a blank after %s", w.text[:p.column-w.column])
		}
	}
}

// parser is the position in a field.
type parser struct {
	field    *field
	rest     string
	column   int
	elements int // before this one
	draw     drawer
	years    years // of the field year
}

// element reads one part of a list into s.
func (p *parser) element(s *set) error {
	switch {
	case p.rest != "" && p.rest[0] == '?':
		if p.field != dayOfMonth && p.field != dayOfWeek {
			return p.fail("expected %s; ? is for a day", p.expected())
		}
		p.skip("?")
		p.add(s, p.field.min, p.field.max, 1)
		return nil
	case p.skip("*"):
		return p.stepped(s, p.field.min, p.field.max)
	case p.skip("~"):
		return p.drawn(s, p.field.min)
	case p.field == dayOfMonth && p.skip("L"):
		return p.beforeLast(s)
	}
	low, err := p.value()
	if err != nil {
		return err
	}
	switch {
	case p.skip("~"):
		return p.drawn(s, low)
	case p.skip("-"):
		return p.ranged(s, low)
	case p.rest != "" && p.rest[0] == '/':
		return p.stepped(s, low, p.field.max)
	case p.field == dayOfMonth && p.skip("W"):
		s.weekdays |= 1 << low
		return nil
	case p.field == dayOfWeek && p.skip("L"):
		s.values |= 1 << (7*lastWeek + low%7)
		return nil
	case p.field == dayOfWeek && p.skip("#"):
		week, err := p.number("expected a week of the month from 1 to 5", 1, 5)
		s.values |= 1 << (7*week + low%7)
		return err
	}
	p.add(s, low, low, 1)
	return nil
}

// beforeLast reads what follows an L of the day of month.
func (p *parser) beforeLast(s *set) error {
	if p.skip("W") {
		s.weekdays |= 1
		return nil
	}
	days := 0
	if p.skip("-") {
		var err error
		if days, err = p.number("expected 1 to 30 days before the last day", 1, 30); err != nil {
			return err
		}
	}
	s.values |= 1 << (lastDay + days)
	return nil
}

// ranged reads the end of a range, and a step.
func (p *parser) ranged(s *set, low int) error {
	at := *p
	high, err := p.value()
	if err != nil {
		return err
	}
	if p.field == dayOfWeek && high == 0 && low > 0 { // as in fri-sun
		high = 7
	}
	if high < low {
		return at.fail("expected an end from %d to %d; two ranges are %d-%d,%d-%d",
			low, p.field.max, low, p.field.max, p.field.min, high)
	}
	return p.stepped(s, low, high)
}

// stepped reads an optional step, and adds low to high.
func (p *parser) stepped(s *set, low, high int) error {
	step := 1
	if p.skip("/") {
		most := p.field.max - p.field.min + 1
		var err error
		if step, err = p.number(fmt.Sprintf("expected a step from 1 to %d", most), 1, most); err != nil {
			return err
		}
	}
	p.add(s, low, high, step)
	return nil
}

// drawn reads the end of a range after ~, and adds one value of it.
func (p *parser) drawn(s *set, low int) error {
	at := *p
	high := p.field.drawMax
	if p.rest != "" && p.rest[0] != ',' {
		var err error
		if high, err = p.value(); err != nil {
			return err
		}
	}
	if high < low {
		return at.fail("expected an end from %d to %d after ~", low, p.field.max)
	}
	v := p.draw(p.field.name+strconv.Itoa(p.elements), low, high)
	p.add(s, v, v, 1)
	return nil
}

// add adds the values from low to high to s, or to the years. Day 7 of the week is day 0.
func (p *parser) add(s *set, low, high, step int) {
	for v := low; v <= high; v += step {
		switch p.field {
		case dayOfWeek:
			s.values |= 1 << (v % 7)
		case year:
			p.years.add(v)
		default:
			s.values |= 1 << v
		}
	}
}

// skip skips a text, in either case.
func (p *parser) skip(text string) bool {
	if len(p.rest) < len(text) || !strings.EqualFold(p.rest[:len(text)], text) {
		return false
	}
	p.rest, p.column = p.rest[len(text):], p.column+len(text)
	return true
}

// value reads a number or a name of the field.
func (p *parser) value() (int, error) {
	for i, name := range p.field.names {
		if p.skip(name) {
			return p.field.min + i, nil
		}
	}
	n, err := p.number("", p.field.min, p.field.max)
	if err != nil {
		err = p.fail("expected %s", p.expected())
	}
	return n, err
}

func (p *parser) number(expected string, low, high int) (int, error) {
	digits := 0
	for digits < len(p.rest) && '0' <= p.rest[digits] && p.rest[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(p.rest[:digits])
	if err != nil || n < low || n > high {
		return 0, p.fail("%s", expected)
	}
	p.rest, p.column = p.rest[digits:], p.column+digits
	return n, nil
}

// expected lists the values of the field.
func (p *parser) expected() string {
	text := fmt.Sprintf("%d to %d", p.field.min, p.field.max)
	if n := p.field.names; n != nil {
		text += fmt.Sprintf(" or %s to %s", n[0], n[len(n)-1])
	}
	return text
}

// fail returns an error about what is at the position.
func (p *parser) fail(format string, args ...any) error {
	found := p.rest
	if end := strings.IndexFunc(found, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }); end == 0 {
		_, n := utf8.DecodeRuneInString(found)
		found = found[:n]
	} else if end > 0 {
		found = found[:end]
	}
	if found != "" {
		found = " " + strconv.Quote(found)
	}
	return fmt.Errorf("column %d: %s%s: %s", p.column, p.field.name, found, fmt.Sprintf(format, args...))
}
