package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"gophd/internal/schedule"
)

// parseExclusions parses days, paths and expressions that are separated by commas. Because an expression has
// commas too, one that is not alone is between semicolons.
func parseExclusions(text string) (all []string, err error) {
	check := func(item string) (string, error) {
		if isDayFile(item) {
			if err := checkPath(item); err != nil {
				return "", fmt.Errorf("%s: %w", visible(item), err)
			}
			return item, nil
		}
		_, err := schedule.ParseExclusion(item, schedule.Options{Seconds: true})
		if err != nil && !schedule.IsExpression(item) {
			err = fmt.Errorf("%w; or an expression such as * * 24-26 12 *, or a file such as ./holidays", err)
		}
		return item, err
	}
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); len(part) > maxItem {
			return nil, fmt.Errorf("%s: longer than %d bytes", visible(part), maxItem)
		}
		var items []string
		if isDayFile(part) || !schedule.IsExpression(aroundCommas().ReplaceAllString(part, ",")) {
			items, err = parseList(part, check)
		} else {
			_, err = check(part)
			items = []string{part}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	return all, nil
}

var aroundCommas = lazyRegexp(`[ \t]*,[ \t]*`)

// joinExclusions returns one text for parseExclusions.
func joinExclusions(items []string) string {
	for _, item := range items {
		if schedule.IsExpression(item) { // or a path with a blank
			return strings.Join(items, "; ")
		}
	}
	return strings.Join(items, ",")
}

// isDayFile reports whether an exclusion is the path of a file.
func isDayFile(item string) bool {
	return strings.HasPrefix(item, "/") || strings.HasPrefix(item, "./") || strings.HasPrefix(item, "../") ||
		strings.HasPrefix(item, "~") && strings.Contains(item, "/")
}

// absoluteExclusions returns the exclusions with absolute paths.
func (l *loader) absoluteExclusions(items []string) []string {
	var all []string
	for _, item := range items {
		if isDayFile(item) {
			item = l.absolute(item)
		}
		all = append(all, item)
	}
	return all
}

// exclusions returns what job.exclude excludes, with the days of its files. It returns false if it has
// reported why a schedule cannot be without.
func (l *loader) exclusions(items []string, from given, o schedule.Options) (all []schedule.Exclusion, ok bool) {
	before := len(l.problems) + len(l.unfit)
	for _, item := range items {
		if isDayFile(item) {
			all = append(all, l.dayFile(item, from)...)
			continue
		}
		x, err := schedule.ParseExclusion(item, o)
		if err != nil {
			l.reject(from.subject, "", strings.Replace(err.Error(), "the option seconds", "job.seconds: true", 1))
			continue
		}
		all = append(all, x)
	}
	return all, len(l.problems)+len(l.unfit) == before
}

// dayFile is a file of job.exclude that was read.
type dayFile struct {
	days []schedule.Exclusion
	findings
}

// dayFile returns the days of one file. The file is read once, for all jobs.
func (l *loader) dayFile(path string, from given) []schedule.Exclusion {
	f, ok := l.dayFiles[path]
	if !ok {
		f.findings = l.capture(func() { f.days = l.readDayFile(path, from) })
		l.dayFiles[path] = f
	}
	l.add(f.findings)
	return f.days
}

func (l *loader) readDayFile(path string, from given) []schedule.Exclusion {
	data, err := l.text(path, "file with a day on each line")
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case errors.As(err, new(*unreadable)):
		problem := err.Error()
		switch {
		case missing:
			problem += "; create it, or leave it out"
		case errors.As(err, new(syscall.Errno)):
			problem += "; allow gophd to read it, or choose another"
		}
		unfit := &Error{Source: from.subject, Value: visible(path), Problem: problem, err: err}
		if l.NeedCommand {
			l.unfit = append(l.unfit, unfit)
		} else { // a command that runs gophd config get may have no right to read it
			l.warnings = append(l.warnings, unfit.Error()+"; its days are not excluded here")
		}
		return nil
	case err != nil:
		l.reject(from.subject, visible(path), err.Error())
		return nil
	}
	days, line, err := schedule.ParseDayFile(string(data))
	if err != nil {
		l.reject(position(path, line), "", brief(err.Error()))
	}
	return days
}
