package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/api"
	"gophd/internal/history"
	"gophd/internal/logread"
)

func newStatus(p *program) *cobra.Command {
	var asJSON bool
	lines := 10
	cmd := &cobra.Command{
		Use:        "status [NAME]",
		SuggestFor: []string{"info", "show", "state"},
		Short:      "Show the state of a daemon or of one job",
		Long: `Show the state of a daemon or of one job: what it does, its lease, its runs and how they ended. The
last lines of its log follow.

NAME is a daemon, a job, or DAEMON/JOB. Without it, it is the only daemon.

Exit codes:
  0  it is running, paused or on standby
  3  it is not running, or it has failed
  4  there is no such daemon or job, no permission, or no answer`,
		Example: `  gophd status nightly
  gophd status --json jobs/report`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if lines < 0 {
				return &usageError{fmt.Errorf("--number %d: not a number of lines; write 1 or more, or 0 for none", lines)}
			}
			return p.status(cmd.Context(), strings.Join(args, ""), lines, asJSON)
		},
	}
	cmd.Flags().IntVarP(&lines, "number", "n", 10, "number of log lines to show; 0 is none")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// oneName accepts at most one argument, a NAME.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return &usageError{fmt.Errorf("%s takes one NAME, and there are %d arguments", strings.TrimPrefix(cmd.CommandPath(), "gophd "),
			len(args))}
	}
	return nil
}

func (p *program) status(ctx context.Context, name string, lines int, asJSON bool) error {
	t, err := p.target(ctx, name)
	if err != nil {
		return err
	}
	s := t.daemon.Status
	if t.job != "" {
		s.Jobs = slices.DeleteFunc(s.Jobs, func(j api.Job) bool { return j.Name != t.job })
	}
	switch {
	case asJSON:
		err = p.printJSON(s)
	case t.job != "":
		err = p.screen().job(s, s.Jobs[0], moreOf(ctx, t, s.Jobs[0], time.Now()), time.Now())
	default:
		err = p.screen().daemon(s, time.Now())
	}
	if err == nil && !asJSON && lines > 0 {
		err = p.screen().lastLines(ctx, placeOf(t), lines)
	}
	if err == nil && t.job != "" && (s.Jobs[0].State == api.Failed || s.Jobs[0].State == api.Stopped) {
		err = codeError(codeNotRunning)
	}
	return err
}

const stamp = "2006-01-02 15:04:05 MST"

// facts prints a list of names and texts below a title.
func (s screen) facts(title string, facts [][2]string) error {
	var b strings.Builder
	b.WriteString(title + "\n")
	for _, f := range facts {
		if f[1] != "" {
			fmt.Fprintf(&b, "  %-10s %s\n", f[0], printable(f[1]))
		}
	}
	_, err := io.WriteString(s.w, b.String())
	return err
}

func (s screen) mark(c cell) string {
	if s.color && c.color != "" {
		return c.color + "●" + plain
	}
	return "●"
}

func (s screen) daemon(of api.Status, now time.Time) error {
	err := s.facts(fmt.Sprintf("%s %s - %s (pid %d)", s.mark(cell{color: green}), printable(of.Daemon), printable(of.State), of.PID),
		daemonFacts(of, now))
	if err != nil {
		return err
	}
	fmt.Fprintln(s.w)
	return s.list(of.Listed(), now)
}

func daemonFacts(of api.Status, now time.Time) [][2]string {
	return [][2]string{
		{"up since", fmt.Sprintf("%s, %s; gophd %s", of.Started.Local().Format(stamp), ago(now.Sub(of.Started)), of.Version)},
		{"config", of.Config},
		{"log", of.Log},
	}
}

// jobMore is what the status of a job has beside the answer of its daemon.
type jobMore struct {
	held   string        // that it is paused or stopped, who has done that, and when
	failed string        // since when
	runs   []history.Run // of the history, the oldest first
}

// earlierRuns is how many runs are shown beside the last one.
const earlierRuns = 5

// moreOf collects it. It waits at most lastLinesFor for the disk: the rest is known without it.
func moreOf(ctx context.Context, t target, j api.Job, now time.Time) (m jobMore) {
	ctx, cancel := context.WithTimeout(ctx, lastLinesFor)
	defer cancel()
	held := j.State == api.Stopped && !j.Ended || j.State == api.Stopping && t.daemon.Status.State == "serving"
	f := facts{now: now, name: j.Name}
	if held || j.Paused || j.State == api.Failed {
		_ = api.NewClient(t.daemon.Socket).Events(ctx, 0, false, func(e api.Event, _ []byte) bool {
			f.events = append(f.events, e)
			return true
		})
	}
	switch {
	case held:
		m.held = "stopped" + f.requested("stop") + ": no run starts until gophd start or resume"
	case j.Paused:
		m.held = "paused" + f.requested("pause") + ": no run starts by itself until gophd resume"
	}
	for _, e := range f.events {
		if e.Type == "job.failed" && e.Job == j.Name && j.State == api.Failed {
			m.failed = "; since " + f.clock(e.Time)
		}
	}
	if t.daemon.Record == nil {
		return m
	}
	read := make(chan []history.Run, 1)
	go func() { // a read(2) cannot be canceled: it is left behind
		q := history.Query{Last: earlierRuns + 1}
		runs, err := history.Read(t.daemon.Record.History(j.Name), q)
		if errors.Is(err, fs.ErrPermission) {
			runs.Runs, _ = runsOf(ctx, t, q)
		}
		read <- runs.Runs
	}()
	select {
	case m.runs = <-read:
	case <-ctx.Done():
	}
	return m
}

// ended returns the texts of the last run and of those before it. The history may not have the last one yet, and
// the daemon none from before it was started.
func (m jobMore) ended(last *api.Last, now time.Time) (text, earlier string) {
	text = lastText(last, now)
	var before []string
	for _, r := range slices.Backward(m.runs) {
		switch {
		case r.Outcome == "" || last != nil && !r.Started.Before(last.Started):
		case last == nil && before == nil && text == noneYet:
			text = fmt.Sprintf("%d, %s, before this start of gophd", r.Number, r.Outcome)
			if cause := r.Cause(); cause != "" {
				text += ": " + cause
			}
			if !r.Ended.IsZero() {
				text += "; " + ago(now.Sub(r.Ended))
			}
		case len(before) < earlierRuns:
			before = append(before, fmt.Sprintf("%d %s", r.Number, r.Outcome))
		}
	}
	return text, strings.Join(before, ", ")
}

func (s screen) job(of api.Status, j api.Job, more jobMore, now time.Time) error {
	in := ""
	if of.Daemon != j.Name {
		in = "daemon " + of.Daemon + ", "
	}
	title := fmt.Sprintf("%s %s - %s (%spid %d)", s.mark(stateCell(j)), printable(j.Name), printable(string(j.State)), printable(in), of.PID)
	last, earlier := more.ended(j.Last, now)
	if j.Failed != "" {
		j.Failed += more.failed
	}
	return s.facts(title, slices.Concat([][2]string{
		{"failed", j.Failed},
		{"state", more.held},
		{"schedule", j.Schedule + nextText(j, now)},
		{"lease", leaseText(j.Lease)},
		{"running", runningText(j, now)},
		{"last run", last},
		{"earlier", earlier},
		{"runs", runsText(j)},
	}, daemonFacts(of, now)))
}

func nextText(j api.Job, now time.Time) string {
	if j.NextRun == nil || j.Paused {
		return ""
	}
	return fmt.Sprintf("; next run %s, %s", j.NextRun.Local().Format(stamp), untilNext(j, now))
}

func leaseText(l *api.Lease) string {
	if l == nil {
		return ""
	}
	text := l.State + ", " + l.Store
	if l.Fence > 0 {
		text += fmt.Sprintf(", fencing token %d", l.Fence)
	}
	if l.Holder != "" && l.Holder != "this instance" {
		text += ", held by " + l.Holder
	}
	return text
}

func runningText(j api.Job, now time.Time) string {
	var all []string
	for _, r := range j.Running {
		all = append(all, fmt.Sprintf("run %d, pid %d, for %s%s", r.Run, r.PID, brief(now.Sub(r.Started)), suspendedText(r.Suspended)))
	}
	return strings.Join(all, "; ")
}

// suspendedText says that a run does not proceed, because a signal has suspended it.
func suspendedText(s *api.Suspended) string {
	if s == nil {
		return ""
	}
	text := ", suspended"
	if s.Name != "" {
		text = fmt.Sprintf(", its process %d (%s) suspended", s.PID, s.Name)
	}
	if s.Signal != "" {
		text += " by signal " + s.Signal
	}
	return text + fmt.Sprintf("; kill -CONT %d continues it", s.PID)
}

// The last lines of a log are searched in so many bytes, and for so long: status answers also if the disk does
// not.
const (
	lastLinesIn  = 1 << 20
	lastLinesFor = time.Second
)

// lastLines prints the last lines of the log below the status.
func (s screen) lastLines(ctx context.Context, from logPlace, count int) error {
	if from.source.File == "" {
		return nil
	}
	from.maxScan = lastLinesIn
	ctx, cancel := context.WithTimeout(ctx, lastLinesFor)
	defer cancel()
	type result struct {
		lines []logread.Line
		err   error
	}
	done := make(chan result, 1)
	go func() { // a read(2) cannot be canceled: it is left behind
		var r result
		r.err = from.read(ctx, api.LogQuery{Lines: count}, func(l logread.Line) bool {
			r.lines = append(r.lines, l)
			return true
		})
		done <- r
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = errors.New("no answer from the disk, or from the journal")
	}
	var b strings.Builder
	today := time.Now().Format(time.DateOnly)
	for _, l := range r.lines {
		at := l.Time.Local().Format(time.TimeOnly)
		if l.Time.Local().Format(time.DateOnly) != today {
			at = l.Time.Local().Format(time.DateTime)
		}
		if l.Time.IsZero() {
			at = strings.Repeat(" ", len(time.TimeOnly))
		}
		text := terminalText([]byte(l.Brief(from.job == "")))
		if s.width > 0 {
			text = cut(text, max(s.width-len(at)-3, minColumn))
		}
		b.WriteString("  " + at + " " + text + "\n")
	}
	switch {
	case len(r.lines) > 0:
		fmt.Fprintf(s.w, "\n%s", b.String())
	case r.err != nil && !errors.Is(r.err, logread.ErrNone):
		fmt.Fprintf(s.w, "\n  no log lines: %s\n", printable(r.err.Error()))
	}
	return nil
}

const noneYet = "none yet"

func lastText(l *api.Last, now time.Time) string {
	if l == nil {
		return noneYet
	}
	return fmt.Sprintf("%d, %s after %s: %s; %s", l.Run, l.Outcome, brief(seconds(l.Length)), l.Text, ago(now.Sub(l.Ended)))
}

func runsText(j api.Job) string {
	text := fmt.Sprintf("%d, %d failed, %d late, %d missed", j.Runs, j.Failures, j.Late, j.Missed)
	if l := j.Lengths; l != nil {
		text += fmt.Sprintf("; p50 %s, p99 %s", brief(seconds(l.P50)), brief(seconds(l.P99)))
	}
	return text
}
