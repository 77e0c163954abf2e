package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"gophd/internal/api"
	"gophd/internal/history"
	"gophd/internal/job"
	"gophd/internal/jobfile"
	"gophd/internal/logread"
)

func newWhy(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why [NAME]",
		Short: "Explain why a job does not run, or why its last run failed",
		Long: `Explain in one paragraph why a job does not run now, and how its last run ended: how the command exited,
the last lines of its output, and what gophd did then.

NAME is a job, a daemon with one job, or DAEMON/JOB. The daemon need not be running: then it is read from
the history and the log.`,
		Example: `  gophd why nightly
  gophd why --json jobs/import`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.why(cmd.Context(), strings.Join(args, ""), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// explanation is the answer of gophd why, for programs. A field that does not apply is omitted.
type explanation struct {
	Daemon  string       `json:"daemon"`
	Job     string       `json:"job"`
	State   string       `json:"state"`             // that of status, or not_running
	Reasons []string     `json:"reasons,omitempty"` // why no run starts, in a word each
	NextRun *time.Time   `json:"next_run,omitempty"`
	Last    *history.Run `json:"last,omitempty"` // run that has ended
	Text    string       `json:"text"`
}

func (p *program) why(ctx context.Context, name string, asJSON bool) error {
	f, err := p.facts(ctx, name)
	if err != nil {
		return err
	}
	e := f.explain()
	if asJSON {
		return p.printJSON(e)
	}
	s := p.screen()
	_, err = fmt.Fprintln(s.w, wrap(printable(e.Text), cmp.Or(s.width, 110)))
	return err
}

// facts is what is known about a job.
type facts struct {
	now    time.Time
	name   string
	daemon api.Found
	job    *api.Job // nil if the daemon does not answer
	killed bool     // the daemon has left its socket
	paused bool     // by the record of the job, if the daemon does not run
	runs   []history.Run
	output []string    // the last lines of the last run that failed
	ending string      // the last line of gophd's own in the log, if the daemon does not run
	events []api.Event // of the job
}

// recentRuns is how many runs of the history are looked at.
const recentRuns = 50

// facts collects what is known. Without a daemon there are its record, the history and the log.
func (p *program) facts(ctx context.Context, name string) (f facts, err error) {
	f.now = time.Now()
	t, err := p.anyTarget(ctx, name)
	if err != nil {
		if source, none := p.historyOf(ctx, name); none == nil && !errors.As(err, new(*usageError)) {
			f.name, f.daemon = source.Job, api.Found{Name: source.Daemon, Err: api.ErrNotRunning}
			return f, f.readRuns(source.Path)
		}
		return f, err
	}
	if t, err = onlyJob(t); err != nil {
		return f, err
	}
	f.name, f.daemon = t.job, t.daemon
	r := t.daemon.Record
	if t.daemon.Err == nil {
		for _, j := range t.daemon.Status.Jobs {
			if j.Name == t.job {
				f.job = &j
			}
		}
		_ = api.NewClient(t.daemon.Socket).Events(ctx, 0, false, func(e api.Event, _ []byte) bool { // the rest is known without
			if e.Job == t.job || len(t.daemon.Status.Jobs) == 1 || strings.HasPrefix(e.Type, "lease.") && e.Job == "" {
				f.events = append(f.events, e)
			}
			return true
		})
	} else {
		_, gone := os.Lstat(t.daemon.Socket)
		f.killed = gone == nil
	}
	if r == nil {
		return f, nil
	}
	if f.job != nil {
		api.AwaitHistory(ctx, r.History(t.job), f.job.Last)
	} else {
		kept, _ := jobfile.Load(jobfile.Path(r.StateDir, r.FileName(t.job)))
		f.paused = kept.Paused
	}
	if err := f.readRuns(r.History(t.job)); err != nil && (f.job == nil || !errors.Is(err, os.ErrPermission)) {
		return f, err
	} else if err != nil { // a member of api.group; the daemon has the last run in any case
		f.runs, _ = runsOf(ctx, t, history.Query{Last: recentRuns})
	}
	f.readLog(ctx, placeOf(t))
	return f, nil
}

// readRuns reads the last runs. It is no error if there is no history.
func (f *facts) readRuns(path string) error {
	runs, err := history.Read(path, history.Query{Last: recentRuns})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return unreadable(err)
	}
	f.runs = runs.Runs
	return nil
}

// shownLines is how many lines of the output of a failed run are shown.
const shownLines = 3

// readLog reads the end of the output of the last run, and the last line of a daemon that does not run. The
// rest is known without them, so it is no error if they cannot be read.
func (f *facts) readLog(ctx context.Context, from logPlace) {
	from.maxScan = lastLinesIn
	if last := f.last(); last != nil && last.Failed() {
		f.output = lastOf(strings.Split(last.Output, "\n"))
		if len(f.output) == 0 && from.source.File != "" && last.Outcome != history.Outcome(job.EndingStartError) {
			var lines []string
			query := logread.Query{Command: true, MaxScan: lastLinesIn,
				Runs: []logread.Run{{Number: last.Number, PID: last.PID, Started: last.Started, Ended: last.Ended}}}
			_ = logread.Read(ctx, from.source, query, false, func(l logread.Line) bool {
				lines = append(lines[max(0, len(lines)-2*shownLines):], string(l.Text))
				return true
			})
			f.output = lastOf(lines)
		}
	}
	if f.job == nil && from.source.File != "" {
		from.source.Job, from.job = "", "" // a line about the daemon
		_ = from.read(ctx, api.LogQuery{Lines: 20}, func(l logread.Line) bool {
			if l.Stream == "" && !l.Time.IsZero() {
				f.ending = l.Brief(false)
			}
			return true
		})
	}
}

// lastOf returns the last lines that are not empty.
func lastOf(lines []string) []string {
	lines = slices.DeleteFunc(lines, func(s string) bool { return strings.TrimSpace(s) == "" })
	lines = lines[max(0, len(lines)-shownLines):]
	for i, l := range lines {
		lines[i] = cut(strings.TrimSpace(terminalText([]byte(l))), 200)
	}
	return lines
}

// last returns the last run that has ended; nil if none is known.
func (f *facts) last() *history.Run {
	for i, r := range slices.Backward(f.runs) {
		if r.Outcome != "" {
			return &f.runs[i]
		}
	}
	return nil
}

// explain returns the paragraph.
func (f *facts) explain() explanation {
	e := explanation{Daemon: f.daemon.Name, Job: f.name, State: "not_running", Last: f.last()}
	if f.job != nil {
		e.State, e.NextRun = string(f.job.State), f.job.NextRun
	}
	var sentences []string
	for _, r := range f.reasons() {
		e.Reasons = append(e.Reasons, r.word)
		sentences = append(sentences, r.text)
	}
	if last := e.Last; last != nil && last.Failed() && slices.Contains([]string{"not_due", "due", "not_scheduled"}, e.Reasons[0]) {
		text := strings.Replace(f.lastText(), "Its last run", "The last run of "+f.name, 1)
		sentences = slices.Insert(sentences, 0, text) // that is what the question is about
	} else {
		sentences = append(sentences, f.lastText())
	}
	sentences = append(sentences, f.advice(e.Reasons)...)
	e.Text = strings.Join(sentences, " ")
	return e
}

// reason is why no run starts now, or that there is none.
type reason struct{ word, text string }

// reasons returns why no run starts now.
func (f *facts) reasons() (all []reason) {
	add := func(word, format string, args ...any) { all = append(all, reason{word, fmt.Sprintf(format, args...)}) }
	j := f.job
	if j == nil {
		add("not_running", "%s", f.notRunning())
		if f.paused {
			add("paused", "It is paused, and will be when it is started again.")
		}
		return all
	}
	s := f.daemon.Status.State
	if s == "draining" || s == "stopping" {
		add("daemon_stopping", "%s does not start runs: its daemon is %s.", f.name, s)
	}
	switch {
	case j.State == api.Failed:
		add("failed", "%s has failed and does not start again by itself: %s.", f.name, j.Failed)
	case j.Ended:
		add("ended", "%s has ended by itself: it runs %s.", f.name, j.Schedule)
	case j.State == api.Stopped, j.State == api.Stopping && s != "draining" && s != "stopping":
		add("stopped", "%s was stopped%s: no run starts until it is started or resumed.", f.name, f.requested("stop"))
	case j.Paused:
		add("paused", "%s is paused%s: no run starts by itself.", f.name, f.requested("pause"))
	}
	if text := f.leaseText(); text != "" {
		add("lease", "%s", text)
	}
	for _, r := range j.Running {
		add("running", "Run %d has been active for %s (pid %d)%s.", r.Run, brief(f.now.Sub(r.Started)), r.PID,
			suspendedText(r.Suspended))
		if text := f.message(r.Run, "run.late"); text != "" {
			add("overlap", "Because of that: %s.", text)
		}
		if r.Suspended != nil {
			add("suspended", "It does not proceed until it is continued.")
		}
	}
	switch j.Skip {
	case 0:
	case 1:
		add("skip", "The next scheduled run of %s will be skipped, as requested.", f.name)
	default:
		add("skip", "The next %d scheduled runs of %s will be skipped, as requested.", j.Skip, f.name)
	}
	if len(all) > 0 {
		return all
	}
	switch held := f.held(); {
	case held != "":
		add("held", "%s: %s.", f.name, held)
	case j.NextRun == nil:
		add("not_scheduled", "%s has no next run: it runs %s.", f.name, j.Schedule)
	case j.NextRun.After(f.now):
		add("not_due", "%s is not due until %s, in %s (%s).", f.name, j.NextRun.Local().Format(stamp), brief(j.NextRun.Sub(f.now)),
			j.Schedule)
	default:
		add("due", "%s is due now.", f.name)
	}
	return all
}

// notRunning says what is known of a daemon that does not answer.
func (f *facts) notRunning() string {
	r := f.daemon.Record
	which := ""
	if f.daemon.Name != f.name {
		which = " of the daemon " + f.daemon.Name
	}
	if !errors.Is(f.daemon.Err, api.ErrNotRunning) {
		return fmt.Sprintf("What %s%s does is not known: %s.", f.name, which, f.daemon.Err)
	}
	text := fmt.Sprintf("%s%s does not run, or has no socket: no daemon of it is found.", f.name, which)
	switch {
	case r == nil:
	case f.killed:
		text = fmt.Sprintf("%s%s does not run: its gophd, pid %d, started %s, was killed or the machine went down.",
			f.name, which, r.PID, r.Started.Local().Format(stamp))
	default:
		text = fmt.Sprintf("%s%s does not run: its gophd, pid %d, started %s, has exited.", f.name, which, r.PID,
			r.Started.Local().Format(stamp))
	}
	if f.ending != "" {
		text += fmt.Sprintf(" Its log ends with %q.", f.ending)
	}
	return text
}

// requested says who has requested something, and when, if that is still known.
func (f *facts) requested(what string) string {
	for _, e := range slices.Backward(f.events) {
		if from, ok := strings.CutPrefix(e.Message, what+" requested ("); ok && e.Type == "request.received" && e.Job == f.name {
			return fmt.Sprintf(" by %s at %s", strings.TrimSuffix(from, ")"), f.clock(e.Time))
		}
	}
	return ""
}

// clock returns a time, with the day if it is not today.
func (f *facts) clock(t time.Time) string {
	if t.Local().Format(time.DateOnly) == f.now.Local().Format(time.DateOnly) {
		return t.Local().Format(time.TimeOnly)
	}
	return t.Local().Format(time.DateTime)
}

// leaseText says that the lease does not allow a run, and since when.
func (f *facts) leaseText() string {
	l := f.job.Lease
	if l == nil || l.State == "held" {
		return ""
	}
	if l.State == "standby" {
		return fmt.Sprintf("%s does not run here: this instance is on standby, the lease is held by %s.", f.name, l.Holder)
	}
	text := fmt.Sprintf("%s does not run: the lease in %s %s.", f.name, l.Store, cmp.Or(leaseStates[l.State], "is "+l.State))
	var since, last, unreachable *api.Event // of the outage
	for i, e := range f.events {
		switch e.Type {
		case "lease.acquired", "lease.reachable":
			since, last, unreachable = nil, nil, nil
			continue
		case "lease.unreachable":
			unreachable = &f.events[i]
		case "lease.doubtful", "lease.ending", "lease.expired", "lease.lost", "lease.proving":
		default:
			continue
		}
		if last = &f.events[i]; since == nil {
			since = last
		}
	}
	if cause := cmp.Or(unreachable, last); cause != nil { // what follows from it, the state of the lease says
		text += fmt.Sprintf(" Since %s: %s.", f.clock(since.Time), cause.Message)
	}
	return text
}

// leaseStates are the states of a lease that allow no run.
var leaseStates = map[string]string{
	"seeking":  "is not acquired yet",
	"proving":  "is not used before no other instance can still run the job",
	"doubtful": "was not renewed, and too little of it is left to start a run",
	"ending":   "was not renewed, and the runs are being stopped",
	"out":      "has expired, and is acquired again",
	"lost":     "was lost to another instance",
	"released": "was released",
}

// message returns the last message about an active run of one of these types.
func (f *facts) message(run uint64, types ...string) string {
	for _, e := range slices.Backward(f.events) {
		if e.Run == run && slices.Contains(types, e.Type) {
			return e.Message
		}
	}
	return ""
}

// held returns why a tick that is due waits.
func (f *facts) held() string {
	for _, e := range slices.Backward(f.events) {
		switch e.Type {
		case "tick.held", "leftover.found":
			return e.Message
		case "run.started", "run.ended":
			return ""
		}
	}
	return ""
}

// lastText says how the last run ended, and what happened then.
func (f *facts) lastText() string {
	last := f.last()
	if last == nil {
		if f.job != nil && f.job.Last != nil { // there is no history
			return fmt.Sprintf("Its last run, %d, ended %s: %s.", f.job.Last.Run, ago(f.now.Sub(f.job.Last.Ended)), f.job.Last.Text)
		}
		return "No run of it has ended yet, as far as its history goes."
	}
	text := fmt.Sprintf("Its last run, %d, %s", last.Number, f.ended(*last))
	if len(f.output) > 0 {
		text += fmt.Sprintf("; its output ends with %s", strings.Join(quotedLines(f.output), ", "))
	}
	text += "."
	if !last.Failed() {
		for _, r := range slices.Backward(f.runs) {
			if r.Failed() {
				return text + fmt.Sprintf(" Before it, run %d %s.", r.Number, f.ended(r))
			}
		}
		return text
	}
	before := 0 // runs for the same due time
	for _, r := range f.runs {
		if last.Attempt > 0 && r.Due.Equal(last.Due) && r.Number < last.Number {
			before++
		}
	}
	if before == 1 {
		text += " It was a retry: the run before it, due at the same time, failed too."
	} else if before > 1 {
		text += fmt.Sprintf(" It was a retry: the %d runs before it, due at the same time, failed too.", before)
	}
	return text + f.next(*last)
}

// next says what gophd did after the last run had failed.
func (f *facts) next(last history.Run) string {
	if f.job == nil {
		return ""
	}
	ended := false
	for _, e := range f.events {
		switch {
		case e.Type == "run.ended" && e.Run == last.Number:
			ended = true
		case ended && (e.Type == "run.delayed" || e.Type == "job.failed"):
			return fmt.Sprintf(" gophd then: %s.", e.Message)
		}
	}
	switch {
	case len(f.job.Running) > 0 && f.job.Running[0].Run > last.Number:
		return fmt.Sprintf(" gophd then started run %d.", f.job.Running[0].Run)
	}
	return ""
}

func quotedLines(lines []string) (all []string) {
	for _, l := range lines {
		all = append(all, `"`+l+`"`)
	}
	return all
}

// ended says how a run ended, and when.
func (f *facts) ended(r history.Run) string {
	length := ""
	if r.Duration != nil {
		length = " after " + brief(seconds(*r.Duration))
	}
	at := ""
	if !r.Ended.IsZero() {
		at = " " + ago(f.now.Sub(r.Ended))
	}
	because := ""
	if r.Reason != "" {
		because = ": " + r.Reason
	}
	switch r.Outcome {
	case history.Outcome(job.EndingSuccess):
		return "succeeded" + at + length
	case history.Outcome(job.EndingStartError):
		return "could not be started" + at + because
	case history.Outcome(job.EndingTimeout):
		return "was stopped by its timeout" + at + length + endedWith(r)
	case history.Outcome(job.EndingStopped):
		return "was stopped" + at + length + because
	case history.Outcome(job.EndingLeaseLost):
		return "was stopped because the lease ended" + at + length + because
	case history.Outcome(job.EndingKilled):
		return "was killed" + at + length + endedWith(r) + ", and not by a stop" + because
	case history.Interrupted:
		return "was interrupted: gophd was killed, or the machine went down, so its end is not known"
	}
	return "failed" + at + length + endedWith(r) + because
}

// endedWith returns the exit code or the signal.
func endedWith(r history.Run) string {
	r.Reason = ""
	if cause := r.Cause(); cause != "" {
		return " with " + cause
	}
	return ""
}

// advice returns what to do.
func (f *facts) advice(reasons []string) (all []string) {
	name := f.name
	if f.daemon.Name != f.name {
		name = f.daemon.Name + "/" + f.name
	}
	switch {
	case slices.Contains(reasons, "not_running"):
	case slices.Contains(reasons, "ended"), slices.Contains(reasons, "failed"):
		all = append(all, "Run it again with: gophd start "+name+".")
	case slices.Contains(reasons, "paused"), slices.Contains(reasons, "stopped"):
		if !slices.Contains(reasons, "lease") { // a start would be rejected
			all = append(all, "Run it now with: gophd start "+name+".")
		}
		all = append(all, "Resume it with: gophd resume "+name+".")
	case slices.Contains(reasons, "skip"):
		all = append(all, "Run it now with: gophd start "+name+".", "Take the skip back with: gophd skip -n 0 "+name+".")
	}
	return all
}

// wrap breaks a text into lines of at most that many characters.
func wrap(text string, width int) string {
	var b strings.Builder
	at := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case at == 0:
		case at+1+n > width:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
