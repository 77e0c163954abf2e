package schedule

import (
	"fmt"
	"strings"
	"time"
)

// picker returns a number from 0 to n-1.
type picker func(n int) int

func one[T any](pick picker, list ...T) T { return list[pick(len(list))] }

// part is a field with its meaning.
type part struct {
	text string
	has  func(civil) bool
}

// anyExpression makes an expression of five or six fields.
func anyExpression(pick picker, withSeconds bool) *expression {
	second := part{"", func(c civil) bool { return c.Second() == 0 }}
	unit := int64(60)
	if withSeconds {
		second, unit = number(pick, 0, 59, nil, civil.Second), 1
	}
	minute := number(pick, 0, 59, nil, civil.Minute)
	hour := number(pick, 0, 23, nil, civil.Hour)
	if pick(3) > 0 { // most clocks change in these hours
		hour = number(pick, 0, 3, nil, civil.Hour)
	}
	ofMonth, month, ofWeek := anyDayOfMonth(pick), anyMonth(pick), anyDayOfWeek(pick)
	day := func(c civil) bool {
		if strings.HasPrefix(ofMonth.text, "*") || strings.HasPrefix(ofWeek.text, "*") {
			return month.has(c) && ofMonth.has(c) && ofWeek.has(c)
		}
		return month.has(c) && (ofMonth.has(c) || ofWeek.has(c))
	}
	return &expression{
		text:     strings.Join(strings.Fields(strings.Join([]string{second.text, minute.text, hour.text, ofMonth.text, month.text, ofWeek.text}, " ")), " "),
		time:     func(c civil) bool { return second.has(c) && minute.has(c) && hour.has(c) },
		day:      day,
		wildcard: strings.HasPrefix(minute.text, "*") || strings.HasPrefix(hour.text, "*"),
		unit:     unit,
	}
}

func anyMonth(pick picker) part {
	if pick(3) > 0 {
		return part{"*", func(civil) bool { return true }}
	}
	return number(pick, 1, 12, strings.Fields("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
		func(c civil) int { return int(c.Month()) })
}

func anyDayOfMonth(pick picker) part {
	switch pick(8) {
	case 0:
		return part{"L", func(c civil) bool { return c.AddDate(0, 0, 1).Day() == 1 }}
	case 1:
		n := 1 + pick(27)
		return part{fmt.Sprintf("L-%d", n), func(c civil) bool {
			return c.AddDate(0, 0, n+1).Day() == 1
		}}
	case 2:
		return part{"LW", func(c civil) bool { return lastWorkday(c.Time) }}
	case 3:
		n := 1 + pick(28)
		return part{fmt.Sprintf("%dW", n), func(c civil) bool { return c.Day() == nearest(c.Year(), c.Month(), n) }}
	case 4, 5, 6:
		return part{"*", func(civil) bool { return true }}
	}
	return number(pick, 1, 31, nil, civil.Day)
}

// lastWorkday reports whether a day is the last one of its month from Monday to Friday.
func lastWorkday(t time.Time) bool {
	for d := t.AddDate(0, 0, 1); d.Month() == t.Month(); d = d.AddDate(0, 0, 1) {
		if isWorkday(d) {
			return false
		}
	}
	return isWorkday(t)
}

func isWorkday(t time.Time) bool { return t.Weekday() != time.Saturday && t.Weekday() != time.Sunday }

// nearest returns the day from Monday to Friday that is nearest to a day, in its month.
func nearest(year int, month time.Month, day int) int {
	for _, away := range []int{0, -1, 1, -2, 2} {
		t := time.Date(year, month, day+away, 0, 0, 0, 0, time.UTC)
		if t.Month() == month && isWorkday(t) {
			return t.Day()
		}
	}
	panic("a month has such a day")
}

func anyDayOfWeek(pick picker) part {
	n := pick(8)
	isDay := func(c civil) bool { return int(c.Weekday()) == n%7 }
	switch pick(8) {
	case 0:
		return part{fmt.Sprintf("%dL", n), func(c civil) bool { return isDay(c) && c.AddDate(0, 0, 7).Month() != c.Month() }}
	case 1:
		week := 1 + pick(5)
		return part{fmt.Sprintf("%d#%d", n, week), func(c civil) bool { return isDay(c) && (c.Day()-1)/7 == week-1 }}
	case 2:
		return part{one(pick, "fri-7", "5-7", "Fri-Sun", "FRI,sat,0"),
			func(c civil) bool { return c.Weekday() == 0 || c.Weekday() >= 5 }}
	case 3:
		return part{fmt.Sprint(n), isDay}
	case 4, 5, 6:
		return part{"*", func(civil) bool { return true }}
	}
	return number(pick, 0, 6, strings.Fields("sun mon tue wed thu fri sat"), func(c civil) int { return int(c.Weekday()) })
}

// number makes a field of numbers, or of names for them.
func number(pick picker, low, high int, names []string, of func(civil) int) part {
	a := low + pick(high-low+1)
	b := a + pick(high-a+1)
	step := 1 + pick(high-low)
	name := func(n int) string {
		if names != nil && pick(2) == 0 {
			return names[n-low]
		}
		return fmt.Sprint(n)
	}
	between := func(low, high, step int) func(civil) bool {
		return func(c civil) bool { n := of(c); return n >= low && n <= high && (n-low)%step == 0 }
	}
	switch pick(7) {
	case 0:
		return part{"*", func(civil) bool { return true }}
	case 1:
		if high == 3 { // the field has higher values
			return part{fmt.Sprintf("%d-%d/%d", low, high, step), between(low, high, step)}
		}
		return part{fmt.Sprintf("*/%d", step), between(low, high, step)}
	case 2:
		return part{name(a) + "-" + name(b), between(a, b, 1)}
	case 3:
		return part{fmt.Sprintf("%s-%s/%d", name(a), name(b), step), between(a, b, step)}
	case 4:
		return part{name(a) + "," + name(b), func(c civil) bool { return of(c) == a || of(c) == b }}
	}
	return part{name(a), func(c civil) bool { return of(c) == a }}
}
