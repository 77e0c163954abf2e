package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gophd/internal/api"
	"gophd/internal/job"
)

// topView is how top shows its model. Only lines reads the clock that it is given, so that a test can
// compare a screen.
type topView struct {
	color     bool
	selected  string // id of a job; "" for the first
	at        int    // its row, when it was selected
	first     int    // the row at the top of the list
	filter    string
	typing    bool // the filter is typed
	log       bool // the log of the selected job is shown
	followed  *topLog
	back      int // how many lines the end of that is below the screen
	question  string
	message   string
	messageAt time.Time
	usage     topUsage
}

const (
	reverse = "\x1b[7m"
	faint   = "\x1b[2m"

	topKeys    = "s start  p pause  n skip  x stop  l log  / filter  q quit"
	topLogKeys = "j, k scroll  l, q back"
	// topDetails is how many lines are about the selected job, if the terminal has at least topFull.
	topDetails = 6
	topFull    = 16
	// topSilent is how long ago a daemon may have answered.
	topSilent = 4 * time.Second
	// topMessageTime is how long a message is shown.
	topMessageTime = 10 * time.Second
)

// lines returns the screen.
func (v *topView) lines(m *topModel, width, height int, now time.Time) []string {
	rows := m.rows(v.filter)
	var all []string
	switch {
	case v.log && len(rows) > 0 && rows[v.index(rows)].id() == v.selected: // it may be gone
		all = v.logLines(rows[v.index(rows)], width, height-1, now)
	default:
		v.log = false
		all = v.listLines(m, rows, width, height-1, now)
	}
	for len(all) < height-1 {
		all = append(all, "")
	}
	return append(all[:max(height-1, 0)], v.footer(width, now))
}

// footer is the last line: a question, the filter, a message, or the keys.
func (v *topView) footer(width int, now time.Time) string {
	text := cell{text: topKeys, color: faint}
	switch {
	case v.question != "":
		text = cell{text: v.question, color: yellow}
	case v.typing:
		text = cell{text: "/" + v.filter + "_   enter: done, escape: all jobs"}
	case v.message != "" && now.Sub(v.messageAt) < topMessageTime:
		text = cell{text: v.message}
	case v.log:
		text.text = topLogKeys
	case v.filter != "":
		text = cell{text: "/" + v.filter + "   escape: all jobs   " + topKeys, color: faint}
	}
	return v.line(width, false, text)
}

// line joins cells and cuts what does not fit.
func (v *topView) line(width int, inverse bool, cells ...cell) string {
	var b strings.Builder
	on := ""
	if inverse {
		on = reverse
	}
	b.WriteString(on)
	for _, c := range cells {
		if width <= 0 {
			break
		}
		text := cut(c.text, width)
		width -= utf8.RuneCountInString(text)
		switch {
		case c.color == "" || !v.color:
			b.WriteString(text)
		default:
			b.WriteString(c.color + text + plain + on)
		}
	}
	if inverse {
		b.WriteString(strings.Repeat(" ", max(width, 0)) + plain)
	}
	return b.String()
}

// topWidths are the widths of the columns.
type topWidths struct{ name, state, next, bars, headroom, cpu, memory int }

func widthsOf(rows []topRow, width int) topWidths {
	w := topWidths{name: len("JOB"), state: 9, next: 10, headroom: 8, cpu: 6, memory: 6}
	for _, r := range rows {
		w.name = max(w.name, utf8.RuneCountInString(r.label()))
	}
	w.name = min(w.name, max(width/5, 12))
	w.bars = min(topRuns, width-w.name-w.state-w.next-w.headroom-w.cpu-w.memory-12)
	if w.bars < len("LAST RUNS") {
		w.bars = 0
	}
	return w
}

// pad makes a text exactly as wide.
func pad(text string, width int) string {
	text = cut(text, width)
	return text + strings.Repeat(" ", width-utf8.RuneCountInString(text))
}

func padLeft(text string, width int) string {
	text = cut(text, width)
	return strings.Repeat(" ", width-utf8.RuneCountInString(text)) + text
}

// listLines returns the jobs, and below them more about the selected one.
func (v *topView) listLines(m *topModel, rows []topRow, width, height int, now time.Time) []string {
	all := []string{v.title(m, width, now)}
	if len(rows) == 0 {
		text, silent := "no daemon is running", m.silent()
		switch {
		case v.filter != "":
			text = "no job has such a name"
		case len(silent) > 0:
			text = "no daemon answers"
		}
		all = append(all, "", "  "+text)
		for _, s := range silent {
			all = append(all, v.line(width, false, cell{text: "  " + s, color: red}))
		}
		return all
	}
	w := widthsOf(rows, width)
	all = append(all, v.header(w, width))
	room := height - len(all)
	if height >= topFull-1 {
		room -= topDetails
	}
	room = max(room, 1)
	i := v.index(rows)
	v.first = min(v.first, max(len(rows)-room, 0), i)
	v.first = max(v.first, i-room+1)
	for n := v.first; n < min(v.first+room, len(rows)); n++ {
		all = append(all, v.row(rows[n], w, width, n == i, now))
	}
	if height < topFull-1 {
		return all
	}
	for len(all) < height-topDetails {
		all = append(all, "")
	}
	details := v.details(rows[i], width, now)
	if room < len(rows) { // the line above them says that there are more
		text := fmt.Sprintf("── %d to %d of %d ", v.first+1, min(v.first+room, len(rows)), len(rows))
		details[0] = v.line(width, false, cell{text: text + strings.Repeat("─", max(width-utf8.RuneCountInString(text), 0)), color: faint})
	}
	return append(all, details...)
}

// title says how many jobs there are, and what is wrong.
func (v *topView) title(m *topModel, width int, now time.Time) string {
	daemons, jobs, counts := 0, 0, map[api.JobState]int{}
	silent := len(m.silent())
	for _, d := range m.daemons {
		if d.at.IsZero() || d.Err == api.ErrNotRunning {
			continue
		}
		daemons++
		if d.Err == nil && now.Sub(d.at) > topSilent {
			silent++
		}
		for _, j := range d.Status.Jobs {
			jobs++
			counts[j.State]++
		}
	}
	cells := []cell{{text: fmt.Sprintf("gophd top  %s  %s, %s", now.Local().Format(time.TimeOnly),
		count(uint64(daemons), "daemon"), count(uint64(jobs), "job"))}}
	for _, state := range []api.JobState{api.Running, api.Paused, api.Stopping, api.Stopped, api.Standby, api.Failed} {
		if n := counts[state]; n > 0 {
			color := stateCell(api.Job{State: state}).color
			cells = append(cells, cell{text: ", "}, cell{text: fmt.Sprintf("%d %s", n, state), color: color})
		}
	}
	if silent > 0 {
		cells = append(cells, cell{text: ", "}, cell{text: fmt.Sprintf("%d without an answer", silent), color: red})
	}
	return v.line(width, false, cells...)
}

func (v *topView) header(w topWidths, width int) string {
	text := pad("JOB", w.name) + "  " + pad("STATE", w.state) + "  " + pad("NEXT RUN", w.next) + "  "
	if w.bars > 0 {
		text += pad("LAST RUNS", w.bars) + "  "
	}
	return v.line(width, true, cell{text: text + padLeft("HEADROOM", w.headroom) + "  " + padLeft("CPU", w.cpu) + "  " +
		padLeft("MEMORY", w.memory)})
}

func (v *topView) row(r topRow, w topWidths, width int, selected bool, now time.Time) string {
	state := stateCell(r.Job)
	if r.daemon.Err != nil || now.Sub(r.daemon.at) > topSilent {
		state = cell{text: "no answer", color: red}
	}
	state.text = pad(state.text, w.state) + "  "
	next := strings.TrimPrefix(untilNext(r.Job, now), "in ")
	if r.Skip > 0 && !r.Paused {
		next = fmt.Sprintf("skips %d", r.Skip)
	}
	cells := []cell{{text: pad(r.label(), w.name) + "  "}, state, {text: pad(next, w.next) + "  "}}
	if w.bars > 0 {
		bars, n := v.bars(r.daemon.job(r.Name).runs, w.bars)
		cells = append(append(cells, bars...), cell{text: strings.Repeat(" ", w.bars-n+2)})
	}
	cpu, memory := v.used(r)
	rest := padLeft(headroom(r.Job), w.headroom) + "  " + padLeft(cpu, w.cpu) + "  " + padLeft(memory, w.memory)
	return v.line(width, selected, append(cells, cell{text: rest})...)
}

// bars returns a bar for each of the last runs, at most so many, and how many there are. Without colors, a
// run that did not succeed is an x.
func (v *topView) bars(runs []topRun, most int) (cells []cell, n int) {
	runs = runs[max(0, len(runs)-most):]
	longest := time.Duration(1)
	for _, r := range runs {
		longest = max(longest, r.length)
	}
	highest := float64(len(bars) - 1)
	for _, r := range runs {
		c := outcomeOf(api.Last{Outcome: r.outcome})
		c.text = string(bars[int(highest*float64(max(r.length, 0))/float64(longest))])
		if !v.color && r.outcome != job.EndingSuccess {
			c.text = "x"
		}
		if last := len(cells) - 1; last >= 0 && cells[last].color == c.color {
			cells[last].text += c.text
			continue
		}
		cells = append(cells, c)
	}
	return cells, len(runs)
}

// used returns the CPU and memory of the active runs.
func (v *topView) used(r topRow) (cpu, memory string) {
	cpu, memory = "-", "-"
	share, bytes, measured := 0.0, int64(0), false
	for _, run := range r.Running {
		if c, ok := v.usage.cpu[run.PID]; ok {
			share, measured = share+c, true
		}
		bytes += v.usage.bytes[run.PID]
	}
	if measured {
		cpu = fmt.Sprintf("%.0f %%", 100*share)
	}
	switch mib := float64(bytes) / (1 << 20); {
	case bytes == 0:
	case mib < 10:
		memory = fmt.Sprintf("%.1f M", mib)
	case mib < 10240:
		memory = fmt.Sprintf("%.0f M", mib)
	default:
		memory = fmt.Sprintf("%.0f G", mib/1024)
	}
	return cpu, memory
}

// details returns topDetails lines about a job.
func (v *topView) details(r topRow, width int, now time.Time) []string {
	last := cell{text: lastText(r.Last, now)}
	if r.Last != nil {
		last.color = outcomeOf(*r.Last).color
	}
	active := cmp.Or(runningText(r.Job, now), "no")
	if r.Failed != "" {
		active = "failed: " + r.Failed
	}
	lease := ""
	if r.Lease != nil {
		lease = "; lease " + leaseText(r.Lease)
	}
	bars, _ := v.bars(r.daemon.job(r.Name).runs, max(min(topRuns, width-2), 0))
	lines := [][]cell{
		{{text: strings.Repeat("─", width), color: faint}},
		{{text: r.label(), color: stateCell(r.Job).color}, {text: printable(fmt.Sprintf(" (pid %d): %s%s", r.daemon.Status.PID,
			r.Schedule, lease))}},
		{{text: "  running   " + printable(active)}},
		{{text: "  last run  "}, {text: printable(last.text), color: last.color}},
		{{text: "  runs      " + runsText(r.Job)}},
		append([]cell{{text: "  "}}, bars...),
	}
	var all []string
	for _, cells := range lines {
		all = append(all, v.line(width, false, cells...))
	}
	return all
}

// logLines returns the end of the log of a job. If there is none, it is what happened to the job.
func (v *topView) logLines(r topRow, width, height int, now time.Time) []string {
	title := r.label() + ": log"
	text, note := v.followed.shown()
	if len(text) == 0 {
		title = r.label() + ": what happened"
		text = r.daemon.job(r.Name).happened(now)
	}
	if note != "" {
		text = append([]cell{{text: note}}, text...)
	}
	if len(text) == 0 {
		text = []cell{{text: "nothing yet"}}
	}
	room := max(height-1, 1)
	v.back = min(v.back, max(len(text)-room, 0))
	end := len(text) - v.back
	all := []string{v.line(width, true, cell{text: title})}
	for _, c := range text[max(end-room, 0):end] {
		all = append(all, v.line(width, false, c))
	}
	return all
}

// happened returns the last events, with the captured output of the last failed run.
func (j *topJob) happened(now time.Time) (text []cell) {
	output := func() {
		text = append(text, cell{text: fmt.Sprintf("output of run %d, which failed %s:", j.failed.Number,
			ago(now.Sub(j.failed.Ended)))})
		for line := range strings.Lines(j.failed.Output) {
			line = strings.ReplaceAll(terminalText([]byte(strings.TrimRight(line, "\r\n"))), "\t", "    ")
			text = append(text, cell{text: "  │ " + line})
		}
	}
	of := -1 // the event of the end of that run
	if j.failed != nil && j.failed.Output != "" {
		for i, e := range j.events {
			if e.Type == "run.ended" && e.Run == j.failed.Number {
				of = i
			}
		}
		if of < 0 {
			output()
		}
	}
	for i, e := range j.events {
		layout := time.TimeOnly
		if now.Sub(e.Time) > 12*time.Hour {
			layout = time.DateTime
		}
		c := cell{text: e.Time.Local().Format(layout) + " " + printable(e.Message), color: levelColor(e.Level)}
		if text = append(text, c); i == of {
			output()
		}
	}
	return text
}

// levelColor returns the color of a line of a log.
func levelColor(level string) string {
	switch level {
	case "error":
		return red
	case "warn":
		return yellow
	}
	return ""
}
