package schedule

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gophd/internal/misspelled"
)

// named are the names of crontab(5) for fields.
var named = map[string]string{
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly":  "0 0 1 * *",
	"@weekly":   "0 0 * * 0",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
}

// names are all names, in the order in which an error lists them.
var names = []string{"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually", "@every", "@at",
	"@reboot", "@manual"}

// parseNamed reads an expression that starts with a name.
func parseNamed(words []word, text string, o Options) (Schedule, error) {
	name, rest := words[0], words[1:]
	argument := word{column: len(strings.TrimRight(text, " \t")) + 2}
	if len(rest) > 0 && (name.text == "@every" || name.text == "@at") {
		argument, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 && slices.Contains(names, name.text) {
		return Schedule{}, fmt.Errorf("column %d: %q: expected nothing more", rest[0].column, rest[0].text)
	}
	s := Schedule{zone: o.Zone}
	switch name.text {
	case "@reboot":
		s.kind = Reboot
		return s, nil
	case "@manual":
		s.kind = Manual
		return s, nil
	case "@every":
		return s.parseEvery(argument)
	case "@at":
		return s.parseAt(argument)
	}
	if of, ok := named[name.text]; ok {
		return parseFields(split(of), o, nil)
	}
	hint := "one of " + strings.Join(names, " ")
	if near := misspelled.Nearest(name.text, names); near != "" {
		hint = near
	}
	return Schedule{}, fmt.Errorf("column %d: %q: expected %s", name.column, name.text, hint)
}

func (s Schedule) parseEvery(w word) (Schedule, error) {
	every, err := time.ParseDuration(w.text)
	if err != nil || every < time.Millisecond {
		return Schedule{}, fmt.Errorf("column %d: %q after @every: expected a duration of at least 1ms, such as 90s or 1h30m",
			w.column, w.text)
	}
	s.kind, s.every = Every, every
	return s, nil
}

func (s Schedule) parseAt(w word) (Schedule, error) {
	var at time.Time
	var err error
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if at, err = time.Parse(layout, w.text); err == nil {
			break
		}
	}
	if err != nil {
		return Schedule{}, fmt.Errorf("column %d: %q after @at: expected a local time such as 2026-12-24T18:00",
			w.column, w.text)
	}
	s.kind, s.at = At, at.Unix()
	if _, ok := s.Next(at.AddDate(0, 0, -3)); !ok {
		return Schedule{}, fmt.Errorf("column %d: %s does not exist in %s: expected a time that the clock shows",
			w.column, w.text, s.zone)
	}
	return s, nil
}
