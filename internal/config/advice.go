package config

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gophd/internal/job"
)

// quantity is a number with a unit, as other tools write it.
type quantity struct {
	number float64
	unit   string // as it was written
}

var quantityForm = lazyRegexp(`^\s*(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-zµ]+)\s*`)

// quantities splits a text such as 1h 30min. It returns nil for any other text. The last unit may be
// missing, as in 1h30.
func quantities(text string) (all []quantity) {
	smaller := map[time.Duration]string{time.Hour: "m", time.Minute: "s"}
	for text != "" {
		if last := len(all) - 1; last >= 0 && strings.Trim(text, "0123456789") == "" {
			text += smaller[timeUnit(all[last].unit)]
		}
		m := quantityForm().FindStringSubmatch(text)
		if m == nil {
			return nil
		}
		number, _ := strconv.ParseFloat(m[1], 64) // the form allows digits only
		all = append(all, quantity{number, m[2]})
		text = text[len(m[0]):]
	}
	return all
}

// timeUnit returns the length of a unit of any tool, or 0. M is a minute for some and a month for
// others.
func timeUnit(unit string) time.Duration {
	if unit == "M" {
		return 0
	}
	unit = strings.ToLower(unit)
	for _, name := range []string{unit, strings.TrimSuffix(unit, "s")} { // of a plural
		switch name {
		case "ns":
			return time.Nanosecond
		case "us", "µs":
			return time.Microsecond
		case "ms", "msec", "millisecond":
			return time.Millisecond
		case "s", "sec", "second":
			return time.Second
		case "m", "min", "minute":
			return time.Minute
		case "h", "hr", "hour":
			return time.Hour
		case "d", "day":
			return 24 * time.Hour
		case "w", "week":
			return 7 * 24 * time.Hour
		}
	}
	return 0
}

// durationAdvice returns what is wrong with a text that is no duration, and how to write it.
func durationAdvice(text string) string {
	if strings.HasPrefix(text, "@") || len(strings.Fields(text)) == 5 && quantities(text) == nil {
		return "not a duration; for a schedule write --schedule, or set job.schedule"
	}
	if slices.Contains([]string{"infinity", "inf", "infinite", "never", "unlimited", "none", "off"}, strings.ToLower(text)) {
		return "not a duration; write 0 if there is to be none"
	}
	problem, sum := "", 0.0
	for _, q := range quantities(text) {
		length := timeUnit(q.unit)
		if q.unit == "M" {
			return "not a duration; minutes are a small m"
		}
		if length == 0 {
			return "not a duration; " + durationFix
		}
		if _, err := time.ParseDuration("1" + q.unit); err != nil && problem == "" {
			problem = "unit " + q.unit + " is not known"
		}
		sum += q.number * float64(length)
	}
	if sum < 1 || sum > math.MaxInt64/2 {
		return "not a duration; " + durationFix
	}
	if problem == "" {
		problem = "not a duration"
	}
	return problem + "; write " + job.FormatDuration(time.Duration(sum))
}

// sizeAdvice does for a size what durationAdvice does for a duration.
func sizeAdvice(text string) string {
	if all := quantities(text); len(all) == 1 {
		unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(all[0].unit), "B"), "I")
		power := strings.Index("\x00"+units, unit) // 0 if there is no unit but B
		n := all[0].number * math.Pow(1024, float64(power))
		if power >= 0 && len(unit) <= 1 && n == math.Trunc(n) && n < math.MaxInt64 {
			return "not a size; write " + showSize(int64(n))
		}
	}
	return "not a size; write bytes, or a number with K, M, G or T"
}
