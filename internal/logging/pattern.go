package logging

import (
	"fmt"
	"strings"
	"time"
)

// verbs is the list in the error for an unknown verb.
const verbs = "%Y %y %m %b %d %e %j %a %H %I %p %M %S %F %%"

// pattern is a file name that may contain a time, in the notation of strftime (POSIX, date).
type pattern struct {
	parts []part
	step  time.Duration // the name changes only at multiples of it; 0 is never
}

// part is literal text or a layout of package time.
type part struct {
	text   string
	layout bool
}

// parsePattern parses a name with the verbs listed above.
func parsePattern(s string) (pattern, error) {
	var p pattern
	for s != "" {
		text, rest, found := strings.Cut(s, "%")
		if text != "" {
			p.parts = append(p.parts, part{text: text})
		}
		if !found {
			break
		}
		if rest == "" {
			return pattern{}, fmt.Errorf("the name ends with a single %%: write %%%% or one of %s", verbs)
		}
		verb, step := layout(rest[0])
		switch {
		case rest[0] == '%':
			p.parts = append(p.parts, part{text: "%"})
		case verb == "":
			return pattern{}, fmt.Errorf("%%%s is not known: use one of %s", escape(string([]rune(rest)[:1])), verbs)
		default:
			p.parts = append(p.parts, part{text: verb, layout: true})
			if p.step == 0 || step < p.step {
				p.step = step
			}
		}
		s = rest[1:]
	}
	return p, nil
}

// layout returns the layout of package time for a verb, and how often its text can change. In every
// zone in use, days and hours start at a multiple of 15 minutes of UTC. So a check at these times
// is exact and does not depend on clock changes.
func layout(verb byte) (string, time.Duration) {
	const quarter = 15 * time.Minute
	switch verb {
	case 'Y':
		return "2006", quarter
	case 'y':
		return "06", quarter
	case 'm':
		return "01", quarter
	case 'b':
		return "Jan", quarter
	case 'd':
		return "02", quarter
	case 'e':
		return "_2", quarter
	case 'j':
		return "002", quarter
	case 'a':
		return "Mon", quarter
	case 'H':
		return "15", quarter
	case 'I':
		return "03", quarter
	case 'p':
		return "PM", quarter
	case 'F':
		return "2006-01-02", quarter
	case 'M':
		return "04", time.Minute
	case 'S':
		return "05", time.Second
	}
	return "", 0
}

// name returns the file name at t, in the zone of t.
func (p pattern) name(t time.Time) string {
	var b []byte
	for _, part := range p.parts {
		if part.layout {
			b = t.AppendFormat(b, part.text)
		} else {
			b = append(b, part.text...)
		}
	}
	return string(b)
}

// matches reports whether s is the name at some time. Every layout is as long as its output.
func (p pattern) matches(s string) bool {
	var layouts, texts []string
	for _, part := range p.parts {
		n := len(part.text)
		if len(s) < n || !part.layout && s[:n] != part.text {
			return false
		}
		if part.layout {
			layouts, texts = append(layouts, part.text), append(texts, s[:n])
		}
		s = s[n:]
	}
	if s != "" {
		return false
	}
	t, err := time.Parse(strings.Join(layouts, "|"), strings.Join(texts, "|"))
	for i, layout := range layouts {
		// Parse accepts more than Format produces. A weekday may come without its date.
		if err != nil || layout != "Mon" && t.Format(layout) != texts[i] {
			return false
		}
	}
	return true
}

// levels splits the pattern at its slashes: one for each directory, and one for the file.
func (p pattern) levels() []pattern {
	all := make([]pattern, 1)
	for _, q := range p.parts {
		texts := []string{q.text}
		if !q.layout {
			texts = strings.Split(q.text, "/")
		}
		for i, text := range texts {
			if i > 0 {
				all = append(all, pattern{})
			}
			last := &all[len(all)-1]
			last.parts = append(last.parts, part{text: text, layout: q.layout})
			if q.layout {
				last.step = p.step
			}
		}
	}
	return all
}

// window returns the span of wall-clock time around t in which the name does not change.
func (p pattern) window(t time.Time) (from, until time.Time) {
	from = t.Truncate(p.step)
	return from, from.Add(p.step)
}
