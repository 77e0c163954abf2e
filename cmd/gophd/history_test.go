package main

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/history"
	"gophd/internal/job"
)

var (
	historyDue = time.Date(2026, 11, 26, 3, 17, 0, 0, time.Local)
	historyNow = historyDue.Add(26 * time.Hour)
)

func historyRuns() []history.Run {
	due, length, code := historyDue, []float64{5.9, 0.11, 9.1}, []int{0, 3}
	return []history.Run{
		{Number: 7, Due: due, Started: due.Add(2 * time.Millisecond), Duration: &length[0], Outcome: "success",
			ExitCode: &code[0], Trigger: job.TriggerSchedule, MaxRSS: 24 << 20, User: 3, System: 0.1},
		{Number: 8, Attempt: 1, Due: due, Started: due.Add(1500 * time.Millisecond), Duration: &length[1],
			Outcome: "failure", ExitCode: &code[1], Trigger: job.TriggerRetry, Output: "not shown"},
		{Number: 9, Due: due.Add(time.Hour), Started: due.Add(time.Hour), Duration: &length[2], Outcome: "killed",
			Signal: "SEGV", CoreDumped: true, Reason: "\x1b[2Jx", Trigger: job.TriggerManual},
		{Number: 1, Outcome: history.Interrupted, Due: due.Add(2 * time.Hour), Started: due.Add(2 * time.Hour)},
		{Number: 2, Started: historyNow.Add(-90 * time.Second), Trigger: job.TriggerAtStart},
	}
}

// TestSparkline: the longest duration has the full height, also one that no run can have.
func TestSparkline(t *testing.T) {
	for want, lengths := range map[string][]time.Duration{
		"▁":   {0},
		"▁▄█": {0, time.Second, 2 * time.Second},
		"▁█▁": {-time.Second, math.MaxInt64, time.Hour},
	} {
		if got := sparkline(lengths, 0); got != want {
			t.Errorf("%v: %s, want %s", lengths, got, want)
		}
	}
}

func TestHistoryTableFitsTheTerminal(t *testing.T) {
	for width, want := range map[int]string{
		0: `
RUN  DUE             DELAY  DURATION  OUTCOME      CAUSE                                TRIGGER   MAX RSS   CPU
7    11-26 03:17:00  2ms    5.9s      success                                           schedule  24.0 MiB  3.1s
8    11-26 03:17:00  1.5s   110ms     failure      exit code 3                          retry 1   -         -
9    11-26 04:17:00  0s     9.1s      killed       signal SEGV (core dumped): ?[2Jx     manual    -         -
1    11-26 05:17:00  0s     -         interrupted                                                 -         -
2    -               -      1m30s     running                                           at_start  -         -
`,
		80: `
RUN  DUE             DURATION  OUTCOME      CAUSE
7    11-26 03:17:00  5.9s      success
8    11-26 03:17:00  110ms     failure      exit code 3
9    11-26 04:17:00  9.1s      killed       signal SEGV (core dumped): ?[2Jx
1    11-26 05:17:00  -         interrupted
2    -               1m30s     running
`} {
		var out bytes.Buffer
		if err := (screen{w: &out, width: width}).table(historyTable(historyRuns(), width, historyNow)); err != nil {
			t.Fatal(err)
		}
		words := func(table string) (all []string) {
			for line := range strings.Lines(strings.TrimSpace(table)) {
				all = append(all, strings.Join(strings.Fields(line), " "))
			}
			return all
		}
		if d := cmp.Diff(words(want), words(out.String())); d != "" {
			t.Errorf("width %d (-want +got):\n%s", width, d)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(line) - 1; width > 0 && n > width {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

func TestHistorySummary(t *testing.T) {
	want := "\n▅▁█\n110ms to 9.1s, median 5.9s\n" +
		"5 runs: 1 success, 1 failure, 1 killed, 1 interrupted, 1 running; 25 % succeeded\n"
	if got := historySummary(historyRuns(), 0); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := historySummary(historyRuns(), 2); !strings.HasPrefix(got, "\n▁█\n") {
		t.Errorf("in two columns %q", got)
	}
	if got := historySummary(historyRuns()[4:], 0); got != "\n1 run: 1 running\n" {
		t.Errorf("without a run that has ended %q", got)
	}
}

func TestDueHasTheDayUnlessItIsToday(t *testing.T) {
	runs := historyRuns()[:1]
	for now, want := range map[time.Time]string{
		historyDue.Add(time.Hour):       "15:04:05",
		historyNow:                      "01-02 15:04:05",
		historyDue.AddDate(1, 0, 0):     "2006-01-02 15:04:05",
		historyDue.Add(-48 * time.Hour): "01-02 15:04:05",
	} {
		if got := dueLayout(runs, now); got != want {
			t.Errorf("at %s the layout is %s, want %s", now, got, want)
		}
	}
}

// The file may be that of another user: nothing in it controls the terminal.
func TestHistoryIsPrintable(t *testing.T) {
	r := history.Run{Job: "x", Number: 1, Outcome: "a\x1b[2J", Trigger: "b\x1b]0;c\a", Reason: "d\x1b"}
	text := historySummary([]history.Run{r}, 0)
	for _, row := range historyTable([]history.Run{r}, 0, historyNow) {
		for _, c := range row {
			text += c.text
		}
	}
	if strings.ContainsAny(text, "\x1b\a") {
		t.Errorf("%q", text)
	}
}
