package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gophd/internal/history"
	"gophd/internal/job"
)

// historyColumns are the columns of the table, and historyDropped those that a narrow terminal does not
// show, the first one first.
var (
	historyColumns = []string{"RUN", "DUE", "DELAY", "DURATION", "OUTCOME", "CAUSE", "TRIGGER", "MAX RSS", "CPU"}
	historyDropped = []string{"MAX RSS", "CPU", "TRIGGER", "DELAY"}
)

// printHistory prints a table of the runs, their durations as a line of bars, and totals.
func (p *program) printHistory(runs []history.Run) error {
	s := p.screen()
	if err := s.table(historyTable(runs, s.width, time.Now())); err != nil {
		return err
	}
	_, err := fmt.Fprint(s.w, historySummary(runs, s.width))
	return err
}

// historyTable returns the rows of the table. The last columns in importance are left out if it is wider
// than that; 0 is no limit.
func historyTable(runs []history.Run, width int, now time.Time) [][]cell {
	rows := [][]cell{{}}
	for _, title := range historyColumns {
		rows[0] = append(rows[0], cell{text: title})
	}
	layout := dueLayout(runs, now)
	for _, r := range runs {
		rows = append(rows, historyRow(r, layout, now))
	}
	return without(rows, historyDropped, func() bool { return width == 0 || tableWidth(rows, math.MaxInt) <= width })
}

// dueLayout returns the shortest layout that says when all of the runs were due: without the day if that is
// today, and without the year if it is this one.
func dueLayout(runs []history.Run, now time.Time) string {
	layout := time.TimeOnly
	for _, r := range runs {
		switch due := r.Due.Local(); {
		case r.Due.IsZero():
		case due.Year() != now.Year():
			return time.DateTime
		case due.YearDay() != now.YearDay():
			layout = "01-02 15:04:05"
		}
	}
	return layout
}

func historyRow(r history.Run, layout string, now time.Time) []cell {
	outcome := cell{text: printable(string(r.Outcome))}
	length, cause := "-", ""
	switch {
	case r.Success():
		outcome.color = green
	case r.Failed():
		outcome.color = red
	default:
		outcome.color = yellow
	}
	switch {
	case r.Outcome == "":
		outcome.text, length = "running", shortDuration(now.Sub(r.Started))
	case r.Duration != nil:
		length = shortDuration(seconds(*r.Duration))
	}
	if !r.Success() {
		cause = printable(r.Cause())
	}
	trigger := printable(string(r.Trigger))
	if r.Trigger == job.TriggerRetry {
		trigger = fmt.Sprintf("retry %d", r.Attempt)
	}
	memory, cpu := "-", "-"
	if r.MaxRSS > 0 {
		memory = fmt.Sprintf("%.1f MiB", float64(r.MaxRSS)/(1<<20))
	}
	if used := r.User + r.System; used > 0 {
		cpu = shortDuration(seconds(used))
	}
	due, delay := "-", "-"
	if !r.Due.IsZero() {
		due = r.Due.Local().Format(layout)
		if !r.Started.IsZero() {
			delay = shortDuration(max(r.Started.Sub(r.Due), 0))
		}
	}
	return []cell{{text: fmt.Sprint(r.Number)}, {text: due}, {text: delay}, {text: length}, outcome, {text: cause},
		{text: printable(trigger)}, {text: memory}, {text: cpu}}
}

// shortDuration returns a duration in about three digits.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

var bars = []rune("▁▂▃▄▅▆▇█")

// sparkline returns a bar for each duration, and as many of the last ones as fit. A bar of full height is
// the longest.
func sparkline(lengths []time.Duration, width int) string {
	if skip := len(lengths) - width; width > 0 && skip > 0 {
		lengths = lengths[skip:]
	}
	longest := max(slices.Max(lengths), 1)
	var b strings.Builder
	for _, d := range lengths {
		share := max(float64(d)/float64(longest), 0)
		b.WriteRune(bars[int(share*float64(len(bars)-1))])
	}
	return b.String()
}

// historySummary returns the lines below the table: the durations of the runs that have ended, and how many
// ended how.
func historySummary(runs []history.Run, width int) string {
	var lengths []time.Duration
	var order []string
	counts := map[string]int{}
	succeeded, failed := 0, 0
	for _, r := range runs {
		if r.Duration != nil {
			lengths = append(lengths, seconds(*r.Duration))
		}
		word := string(r.Outcome)
		if word == "" {
			word = "running"
		}
		if counts[word]++; counts[word] == 1 {
			order = append(order, word)
		}
		switch {
		case r.Success():
			succeeded++
		case r.Failed():
			failed++
		}
	}
	var b strings.Builder
	b.WriteByte('\n')
	if len(lengths) > 0 {
		sorted := slices.Sorted(slices.Values(lengths))
		fmt.Fprintf(&b, "%s\n%s to %s, median %s\n", sparkline(lengths, width), shortDuration(sorted[0]),
			shortDuration(sorted[len(sorted)-1]), shortDuration(sorted[(len(sorted)-1)/2]))
	}
	var words []string
	for _, word := range order {
		words = append(words, fmt.Sprintf("%d %s", counts[word], printable(word)))
	}
	b.WriteString(count(uint64(len(runs)), "run") + ": " + strings.Join(words, ", "))
	if succeeded+failed > 0 {
		fmt.Fprintf(&b, "; %.4g %% succeeded", 100*float64(succeeded)/float64(succeeded+failed))
	}
	return b.String() + "\n"
}

// count returns a number of things.
func count(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
