//go:build soak

package bench_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// logged is an event in the JSON log.
type logged struct {
	Time     time.Time
	PID      int
	Job      string
	Level    string
	Event    string
	Message  string
	Run      int
	RunPID   int `json:"run_pid"`
	Outcome  string
	ExitCode *int `json:"exit_code"`
	Signal   string
	Reason   string
	Store    string
	Missed   int
	Count    int
}

// follower reads the events of a log that is written meanwhile.
type follower struct {
	path string
	at   int64
}

// read returns the events since the last read.
func (f *follower) read() (all []logged, err error) {
	log, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if _, err := log.Seek(f.at, io.SeekStart); err != nil {
		return nil, err
	}
	for lines := bufio.NewReaderSize(log, 1<<16); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil { // the line is not complete yet
			return all, nil
		}
		f.at += int64(len(line))
		if !bytes.Contains(line, []byte(`"event":"`)) {
			continue
		}
		var e logged
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("the log has a line that is no JSON: %v: %q", err, line)
		}
		all = append(all, e)
	}
}

// soakRun identifies a run.
type soakRun struct {
	daemon int // PID of gophd
	job    string
	number int
	pid    int
}

// jobOf is a job of one gophd, from its start to its end.
type jobOf struct {
	daemon int
	job    string
}

// history is what the log says.
type history struct {
	ended      map[soakRun][]logged
	listed     map[jobOf]map[int]bool // failed runs whose own lines were suppressed
	suppressed map[jobOf]int          // lines of other runs
	missed     map[jobOf]int          // ticks
	configured map[jobOf]int          // how often a reload has added or changed it
	counts     map[string]int
	daemons    map[int]bool // PIDs
	violations violations

	reloaded reloaded       // since the last reload
	failed   map[jobOf]bool // no run may start
	expired  map[int]bool   // of gophd's PID: the same for all jobs
}

func newHistory() history {
	return history{ended: map[soakRun][]logged{}, listed: map[jobOf]map[int]bool{}, suppressed: map[jobOf]int{},
		missed: map[jobOf]int{}, configured: map[jobOf]int{}, counts: map[string]int{}, failed: map[jobOf]bool{},
		expired: map[int]bool{}, daemons: map[int]bool{}}
}

// unexpected are events that no attack may cause.
var unexpected = []string{"process.fatal", "process.not_resumed", "process.problem",
	"run.not_adopted", "run.abandoned", "run.not_stoppable", "job.recovers", "log.lines_lost", "log.misplaced",
	"lease.lost", "lease.held_elsewhere", "request.rejected"}

var (
	moreLike   = regexp.MustCompile(`\(and (\d+) more like this`)
	ofRuns     = regexp.MustCompile(`(\d+) (?:failure|late|ended)\b`)
	someFailed = regexp.MustCompile(`(\d+)(?:-(\d+))?`)
)

// violations are what may not be.
type violations []string

func (v *violations) add(format string, args ...any) { *v = append(*v, fmt.Sprintf(format, args...)) }

func (h *history) violation(e logged, format string, args ...any) {
	h.violations.add("%s %s: %s", e.Time.Format(time.RFC3339Nano), e.Job, fmt.Sprintf(format, args...))
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // the patterns have digits
	return n
}

// add reads one event of the log.
func (h *history) add(e logged) {
	h.counts[e.Event]++
	of := jobOf{e.PID, e.Job}
	if slices.Contains(unexpected, e.Event) {
		h.violation(e, "unexpected %s: %s", e.Event, e.Message)
	}
	switch e.Event {
	case "process.started":
		h.daemons[e.PID] = true
	case "run.started":
		if h.failed[of] {
			h.violation(e, "run %d started although the job has failed", e.Run)
		}
		if h.expired[e.PID] {
			h.violation(e, "run %d started although the lease has expired", e.Run)
		}
	case "run.ended":
		h.counts["run "+e.Outcome]++
		if e.RunPID == 0 { // it may be stopped before its command is started
			if !strings.Contains(e.Message, " stopped after ") {
				h.violation(e, "not started: %s", e.Message)
			}
			return
		}
		run := soakRun{e.PID, e.Job, e.Run, e.RunPID}
		h.ended[run] = append(h.ended[run], e)
		h.missed[of] += e.Missed
		if m := moreLike.FindStringSubmatch(e.Message); m != nil {
			h.suppressed[of] += number(m[1])
		}
	case "run.failures":
		for _, m := range someFailed.FindAllStringSubmatch(e.Message, -1) {
			if h.listed[of] == nil {
				h.listed[of] = map[int]bool{}
			}
			for n := number(m[1]); n <= number(cmp.Or(m[2], m[1])); n++ {
				h.listed[of][n] = true
			}
		}
	case "log.suppressed":
		for _, m := range ofRuns.FindAllStringSubmatch(e.Message, -1) {
			h.suppressed[of] += number(m[1])
		}
	case "run.missed":
		if e.Reason != "skipped" {
			h.missed[of] += e.Count
		}
	case "job.failed":
		h.failed[of] = true
	case "job.added":
		h.reloaded.added = append(h.reloaded.added, e.Job)
		h.configured[of]++
		delete(h.failed, of)
	case "job.changed":
		h.reloaded.changed = append(h.reloaded.changed, e.Job)
		h.configured[of]++
		delete(h.failed, of)
	case "job.removed":
		h.reloaded.removed = append(h.reloaded.removed, e.Job)
	case "lease.expired":
		h.expired[e.PID] = true
	case "lease.acquired": // the local lock too
		if strings.HasPrefix(e.Store, "memcached:") {
			h.expired[e.PID] = false
		}
	}
}

// noted is what the command of a run has noted.
type noted struct {
	soakRun
	id           string
	slot, fence  int
	due          time.Time
	begin, ended time.Time // ended is zero if the command did not note its end
	code         int       // if signal is ""
	signal       string
}

// notes reads what the commands have noted, in sequence of their starts.
func (a *attack) notes() (all []*noted, wrong violations) {
	a.t.Helper()
	text, err := os.ReadFile(a.path("marks"))
	if err != nil {
		a.t.Fatal(err)
	}
	begun := map[[2]string]*noted{} // by ID and PID
	ids := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 {
			a.t.Fatalf("bad mark %q", line)
		}
		at := time.Unix(0, int64(number(f[4])))
		switch f[0] {
		case "start":
			due, err := time.Parse(time.RFC3339Nano, f[8])
			if len(f) != 10 || err != nil {
				a.t.Fatalf("bad mark %q: %v", line, err)
			}
			n := &noted{soakRun: soakRun{number(f[5]), f[1], number(f[6]), number(f[3])}, id: f[2], slot: number(f[7]),
				fence: number(f[9]), due: due, begin: at}
			if ids[n.id] {
				wrong.add("two runs have the same GOPHD_RUN_ID: %s", strings.TrimSpace(line))
			}
			ids[n.id], begun[[2]string{f[2], f[3]}] = true, n
			all = append(all, n)
		case "end":
			n := begun[[2]string{f[2], f[3]}]
			if n == nil {
				a.t.Fatalf("an end without a start: %q", line)
			}
			n.ended, n.code = at, number(f[6])
			if f[5] == "signal" {
				n.signal = strings.TrimPrefix(unix.SignalName(syscall.Signal(n.code)), "SIG")
			}
		}
	}
	return all, wrong
}

// maxShown limits how many violations are reported.
const maxShown = 40

// complain reports violations.
func (a *attack) complain(wrong violations) {
	a.t.Helper()
	for _, v := range wrong {
		if a.wrong++; a.wrong <= maxShown {
			a.t.Error(v)
		}
	}
}

// watch reports what is wrong by now.
func (a *attack) watch() {
	a.t.Helper()
	a.complain(a.history.violations)
	a.history.violations = nil
	text, err := os.ReadFile(a.path("violations"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.t.Fatal(err)
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	for line := range strings.Lines(string(whole[a.watched:])) {
		a.complain(violations{strings.TrimSpace(line)})
	}
	a.watched = len(whole)
}

// verify compares the log with the notes of the commands, after the end.
func (a *attack) verify() {
	a.t.Helper()
	h := &a.history
	a.watch()
	all, wrong := a.notes()
	complain := func(n *noted, format string, args ...any) {
		wrong.add("%s %+v: %s", n.begin.Format(time.RFC3339Nano), n.soakRun, fmt.Sprintf(format, args...))
	}
	// Each run has ended once in the log, and as its command has noted.
	suppressed := maps.Clone(h.suppressed)
	seen := map[soakRun]bool{}
	var without, active, unlogged int
	for _, n := range all {
		of := jobOf{n.daemon, n.job}
		killed, wasKilled := a.killedUnder(n)
		seen[n.soakRun] = true
		ended := h.ended[n.soakRun]
		switch {
		case len(ended) > 1:
			complain(n, "its end is in the log %d times", len(ended))
		case len(ended) == 1:
			if problem := n.differs(ended[0]); problem != "" {
				complain(n, "%s; the log says %q", problem, ended[0].Message)
			}
		case wasKilled && (n.ended.IsZero() || n.ended.After(killed.Add(-2*time.Second))):
			active++ // it was active when gophd was killed, or the line about its end was not written
		case h.listed[of][n.number]:
			unlogged++
		case suppressed[of] > 0:
			suppressed[of]--
			unlogged++
		default:
			complain(n, "its end is not in the log (noted: %s, code %d, signal %q)", n.ended, n.code, n.signal)
		}
	}
	for run, ended := range h.ended {
		if !seen[run] {
			if without++; ended[0].Signal == "" {
				wrong.add("%+v noted nothing, and its end is %q", run, ended[0].Message)
			}
		}
	}
	wrong = append(wrong, a.ticks(all)...)
	wrong = append(wrong, a.atOnce(all)...)
	a.complain(wrong)
	if a.wrong > maxShown {
		a.t.Errorf("and %d more", a.wrong-maxShown)
	}
	a.t.Logf("%d runs, %d active at one of %d kills, %d with a suppressed line, %d stopped before a note",
		len(all), active, len(a.killed), unlogged, without)
	a.t.Logf("%d reloads, %d of them rejected; the longest took %s", a.reloads, a.rejected, a.reloading)
	for _, name := range slices.Sorted(maps.Keys(h.counts)) {
		a.t.Logf("%7d %s", h.counts[name], name)
	}
}

// killedUnder returns when the gophd of a run was killed. If that was before the command asked for its
// parent, the parent is another process.
func (a *attack) killedUnder(n *noted) (at time.Time, ok bool) {
	if at, ok = a.killed[n.daemon]; ok {
		return at, true
	}
	for _, at := range a.killed {
		if since := n.begin.Sub(at); since.Abs() < time.Second && !a.history.daemons[n.daemon] {
			return at, true
		}
	}
	return time.Time{}, false
}

// differs returns what of the run's end is not as the command has noted it, and "" if all is.
func (n *noted) differs(e logged) string {
	switch {
	case e.ExitCode == nil && e.Signal == "":
		return "the log has neither an exit code nor a signal"
	case n.ended.IsZero() && e.ExitCode != nil:
		return "it noted no end"
	case n.ended.IsZero() && e.Reason == "":
		return "it noted no end, and was ended by a signal for no reason"
	case n.ended.IsZero(), e.Reason != "" && e.Signal == "KILL": // which may come after the note
		return ""
	case n.signal != e.Signal:
		return fmt.Sprintf("it noted the signal %q", n.signal)
	case n.signal == "" && n.code != *e.ExitCode:
		return fmt.Sprintf("it noted the exit code %d", n.code)
	}
	return ""
}

// ticks checks that each tick had one run, with its retries, that the unchanged jobs kept their grid, and
// that the fencing token never became smaller.
func (a *attack) ticks(all []*noted) (wrong violations) {
	type tick struct {
		jobOf
		due int64
	}
	runs := map[tick]int{}
	dues := map[jobOf][]*noted{}
	fence := 0
	for _, n := range all {
		of := jobOf{n.daemon, n.job}
		most := 1
		if strings.HasPrefix(n.job, "retries") {
			most += maxRetries
		}
		t := tick{of, n.due.UnixNano()}
		if runs[t]++; runs[t] == most+1 {
			wrong.add("%+v: more than %d runs for the tick %s", n.soakRun, most, n.due)
		}
		if runs[t] == 1 {
			dues[of] = append(dues[of], n)
		}
		if n.fence < fence {
			wrong.add("%+v has the fencing token %d after %d", n.soakRun, n.fence, fence)
		}
		fence = max(fence, n.fence)
	}
	lost := 0
	for of, ns := range dues {
		switch {
		case strings.HasPrefix(of.job, "once"):
			if most := 1 + a.history.configured[of]; len(ns) > most {
				wrong.add("%+v: %d runs, at most %d", of, len(ns), most)
			}
		case strings.HasPrefix(of.job, steady):
			slices.SortFunc(ns, func(x, y *noted) int { return cmp.Compare(x.number, y.number) })
			interval := a.config.interval(of.job)
			skipped := 0
			for i, n := range ns[1:] {
				gap := n.due.Sub(ns[i].due)
				ticks := gap.Round(interval) / interval
				if off := (gap - ticks*interval).Abs(); off > interval/50 || ticks < 1 {
					wrong.add("%+v: due %s after the run before it, with an interval of %s", n.soakRun, gap, interval)
				}
				skipped += int(ticks) - 1
			}
			if missed := a.history.missed[of]; skipped > missed {
				lost += skipped - missed
				wrong.add("%+v: %d ticks had no run, and the log has %d of them", of, skipped, missed)
			}
		}
	}
	a.t.Logf("%d ticks; the unchanged jobs lost %d", len(runs), lost)
	return wrong
}

// atOnce checks that never more runs were active than allowed.
func (a *attack) atOnce(all []*noted) (wrong violations) {
	type change struct {
		at   time.Time
		more int
	}
	changes := map[int][]change{}
	for _, n := range all {
		end := n.ended
		if ended := a.history.ended[n.soakRun]; end.IsZero() && len(ended) > 0 {
			end = ended[0].Time.Add(-100 * time.Millisecond) // the line is written after the end
		}
		if end.After(n.begin) {
			changes[n.daemon] = append(changes[n.daemon], change{n.begin, 1}, change{end, -1})
		}
	}
	most := 0
	for daemon, cs := range changes {
		slices.SortStableFunc(cs, func(x, y change) int { return x.at.Compare(y.at) })
		active := 0
		for _, c := range cs {
			if active += c.more; active > maxRunning && active > most {
				wrong.add("%s: %d runs of gophd %d are active", c.at, active, daemon)
			}
			most = max(most, active)
		}
	}
	a.t.Logf("at most %d runs were active, of %d", most, maxRunning)
	return wrong
}
