package main

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"gophd/internal/api"
	"gophd/internal/goroutine"
	"gophd/internal/history"
	"gophd/internal/job"
	"gophd/internal/logread"
)

// This file collects what gophd top shows: each daemon is asked in a goroutine of its own, so that a slow
// one delays no other, and not the screen.

// How often top asks a daemon, one that does not answer, and the directories.
const (
	topAskEvery     = time.Second
	topAskDeadEvery = 5 * time.Second
	topFindEvery    = 2 * time.Second
)

// topNews is what was found out about a daemon.
type topNews struct {
	daemon  api.Found
	at      time.Time // when it has answered
	events  []api.Event
	history map[string][]history.Run // by job; only once, before or after other news
	output  *history.Run             // the last failed run with its output, if it was requested
}

// topFeed asks the daemons.
type topFeed struct {
	find  func() []api.Found // which there are
	only  string             // the socket of the only one that is shown; "" for all
	news  chan topNews
	group goroutine.Group
	asked map[string]chan struct{} // by socket: makes it be asked at once; capacity 1
	at    chan string              // a socket that is to be asked at once
}

func newTopFeed(find func() []api.Found, only string) *topFeed {
	return &topFeed{find: find, only: only, news: make(chan topNews), asked: map[string]chan struct{}{}, at: make(chan string)}
}

// run asks until ctx ends.
func (f *topFeed) run(ctx context.Context) {
	defer f.group.Wait()
	for ticks := time.Tick(topFindEvery); ; {
		for _, d := range f.find() {
			if f.asked[d.Socket] != nil || f.only != "" && d.Socket != f.only {
				continue
			}
			now := make(chan struct{}, 1)
			f.asked[d.Socket] = now
			f.group.Go(func() { f.ask(ctx, d, now) })
		}
		for waiting := true; waiting; {
			select {
			case socket := <-f.at:
				if now := f.asked[socket]; now != nil {
					select {
					case now <- struct{}{}:
					default:
					}
				}
			case <-ticks:
				waiting = false
			case <-ctx.Done():
				return
			}
		}
	}
}

// askNow makes a daemon be asked at once. It does not block for long.
func (f *topFeed) askNow(ctx context.Context, socket string) {
	select {
	case f.at <- socket:
	case <-ctx.Done():
	}
}

func (f *topFeed) send(ctx context.Context, n topNews) {
	select {
	case f.news <- n:
	case <-ctx.Done():
	}
}

// ask asks one daemon until ctx ends.
func (f *topFeed) ask(ctx context.Context, d api.Found, now <-chan struct{}) {
	var after, seen uint64
	var read bool
	for ctx.Err() == nil {
		d.Status = api.Status{}
		d.Ask(ctx)
		n := topNews{daemon: d, at: time.Now()}
		wait := topAskDeadEvery
		if d.Err == nil {
			wait = topAskEvery
			if count := activity(d.Status); after == 0 || count != seen {
				seen = count
				n.events = readEvents(ctx, d.Socket, &after)
			}
		}
		if !d.Foreign() {
			f.send(ctx, n)
		}
		if d.Err == nil && !read && d.Record != nil {
			read = true
			answered := d
			f.group.Go(func() { f.readHistory(ctx, answered) })
		}
		select {
		case <-now:
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// activity returns a number that changes when something happens to the jobs of a daemon.
func activity(s api.Status) (n uint64) {
	for _, j := range s.Jobs {
		n += j.Runs + j.Late + j.Missed + uint64(len(j.State))
		for _, r := range j.Running {
			n += r.Run
		}
	}
	return n
}

// readEvents returns the events after the last one that was read. Those that cannot be read now are read
// the next time.
func readEvents(ctx context.Context, socket string, after *uint64) (all []api.Event) {
	ctx, cancel := context.WithTimeout(ctx, topAskDeadEvery)
	defer cancel()
	_ = api.NewClient(socket).Events(ctx, *after, false, func(e api.Event, _ []byte) bool {
		if e.ID > 0 {
			*after = e.ID
			all = append(all, e)
		}
		return true
	})
	return all
}

// historyPath returns the path of the history of a job.
func historyPath(d api.Found, name string) string {
	if len(d.Status.Jobs) > 1 || name != d.Name {
		name = d.Name + "." + name
	}
	return history.Path(d.Record.StateDir, name)
}

// readHistory reads the last runs of the jobs of a daemon.
func (f *topFeed) readHistory(ctx context.Context, d api.Found) {
	n := topNews{daemon: d, history: map[string][]history.Run{}}
	for _, j := range d.Status.Jobs {
		runs, ok := onDisk(ctx, func() []history.Run {
			// Without a permission the runs that the daemon reports are shown.
			all, _ := history.Read(historyPath(d, j.Name), history.Query{Last: topRuns})
			return all.Runs
		})
		if !ok {
			return
		}
		n.history[j.Name] = runs
	}
	f.send(ctx, n)
}

// readOutput reads the last failed run of a job, with the output that gophd has captured.
func (f *topFeed) readOutput(ctx context.Context, d api.Found, name string) {
	if d.Record == nil {
		return
	}
	runs, ok := onDisk(ctx, func() []history.Run {
		all, _ := history.Read(historyPath(d, name), history.Query{Last: 1, Failed: true})
		return all.Runs
	})
	if ok && len(runs) == 1 {
		f.send(ctx, topNews{daemon: d, output: &runs[0]})
	}
}

// onDisk calls read and returns its result, or false if ctx ends first. Nobody waits for its goroutine
// then: a disk that does not answer cannot be interrupted, and the program exits.
func onDisk[T any](ctx context.Context, read func() T) (result T, ok bool) {
	type answer struct {
		result T
		panic  *goroutine.Panic
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		a.panic = goroutine.Catch(func() { a.result = read() })
		done <- a
	}()
	select {
	case a := <-done:
		if a.panic != nil {
			panic(a.panic)
		}
		return a.result, true
	case <-ctx.Done():
		return result, false
	}
}

// topLog is the end of the log of a job, which is followed while it is shown. Any goroutine may use it.
type topLog struct {
	mu    sync.Mutex
	lines []cell
	note  string // what is missing, and why
}

// topLogNews is the least time between two screens for new lines of a log.
const topLogNews = 200 * time.Millisecond

// follow reads the log until ctx ends, and calls news when there are new lines.
func (l *topLog) follow(ctx context.Context, from logPlace, news func()) {
	var last time.Time
	add := func(line logread.Line) bool {
		text := strings.ReplaceAll(terminalText(bytes.TrimSuffix(line.AppendText(nil, false), []byte{'\n'})), "\t", "    ")
		c := cell{text: cut(text, topMessage), color: levelColor(line.Level)}
		l.mu.Lock()
		if l.lines = append(l.lines, c); len(l.lines) > 2*topEvents {
			l.lines = slices.Delete(l.lines, 0, len(l.lines)-topEvents)
		}
		l.mu.Unlock()
		if time.Since(last) >= topLogNews { // the last lines are shown a second later at most
			last = time.Now()
			news()
		}
		return ctx.Err() == nil
	}
	note := ""
	if from.source.File == "" || from.output != job.OutputLog {
		note = printable(from.note())
	}
	l.set(note)
	if from.source.File == "" {
		return
	}
	err, ok := onDisk(ctx, func() error { return from.read(ctx, api.LogQuery{Lines: topEvents, Follow: true}, add) })
	if ok && err != nil {
		l.set(printable(err.Error()))
	}
}

func (l *topLog) set(note string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note = note
}

// shown returns a copy of the lines, and the note.
func (l *topLog) shown() ([]cell, string) {
	if l == nil {
		return nil, ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines), l.note
}

// topRun is a run that has ended, as a bar shows it.
type topRun struct {
	number  uint64
	ended   time.Time
	length  time.Duration
	outcome job.Ending
}

// topRuns is how many runs are kept of a job.
const topRuns = 60

// same reports whether both are the same run. Numbers start again with each new start of the daemon.
func (r topRun) same(o topRun) bool {
	return r.number == o.number && r.ended.Sub(o.ended).Abs() < 10*time.Second
}

// topJob is what is kept of a job.
type topJob struct {
	runs   []topRun    // the last ones, the oldest first
	events []api.Event // the last ones
	failed *history.Run
}

// How many events are kept of a job, and how many characters of their messages: another user's program may
// have written them.
const (
	topEvents  = 500
	topMessage = 1000
)

func (j *topJob) addEvent(e api.Event) {
	e.Message = cut(e.Message, topMessage)
	if j.events = append(j.events, e); len(j.events) > topEvents {
		j.events = slices.Delete(j.events, 0, len(j.events)-topEvents)
	}
	if e.Type == "run.ended" {
		j.runs = append(j.runs, topRun{e.Run, e.Time, seconds(e.Length), e.Outcome})
	}
	j.cut()
}

// addHistory adds runs that are older than those of the events.
func (j *topJob) addHistory(runs []history.Run) {
	var older []topRun
	for _, r := range runs {
		if r.Duration == nil {
			continue // it is active, or was interrupted
		}
		o := topRun{r.Number, r.Ended, seconds(*r.Duration), job.Ending(r.Outcome)}
		if !slices.ContainsFunc(j.runs, o.same) && (len(j.runs) == 0 || o.ended.Before(j.runs[0].ended)) {
			older = append(older, o)
		}
	}
	j.runs = append(older, j.runs...)
	j.cut()
}

func (j *topJob) cut() { j.runs = j.runs[max(0, len(j.runs)-topRuns):] }

// topModel is all that top knows. The goroutine of the screen owns it.
type topModel struct {
	daemons []*topDaemon // sorted by name and socket
	only    string       // the only job that is shown; "" for all
}

// topDaemon is a daemon with its jobs.
type topDaemon struct {
	api.Found
	at   time.Time          // of its last answer; zero for none yet
	jobs map[string]*topJob // by name
}

func (d *topDaemon) job(name string) *topJob {
	j := d.jobs[name]
	if j == nil {
		j = &topJob{}
		d.jobs[name] = j
	}
	return j
}

// add adds news.
func (m *topModel) add(n topNews) {
	i, found := slices.BinarySearchFunc(m.daemons, n.daemon, func(d *topDaemon, f api.Found) int {
		return cmp.Or(strings.Compare(d.Name, f.Name), strings.Compare(d.Socket, f.Socket))
	})
	if !found {
		m.daemons = slices.DeleteFunc(m.daemons, func(d *topDaemon) bool { return d.Socket == n.daemon.Socket })
		i = min(i, len(m.daemons))
		m.daemons = slices.Insert(m.daemons, i, &topDaemon{Found: n.daemon, jobs: map[string]*topJob{}})
	}
	d := m.daemons[i]
	switch {
	case n.output != nil:
		d.job(n.output.Job).failed = n.output
		return
	case n.history != nil:
		for name, runs := range n.history {
			d.job(name).addHistory(runs)
		}
		return
	case n.daemon.Err == nil:
		d.Found, d.at = n.daemon, n.at
	default: // what it did last stays on the screen
		d.Err = n.daemon.Err
	}
	for _, e := range n.events {
		if e.Job != "" || len(d.Status.Jobs) == 1 {
			d.job(cmp.Or(e.Job, d.Name)).addEvent(e)
		}
	}
}

// topRow is a job on the screen.
type topRow struct {
	daemon *topDaemon
	api.Job
}

func (r topRow) id() string { return r.daemon.Socket + "\x00" + r.Name }

// label returns the name of the job, with that of its daemon if it differs.
func (r topRow) label() string {
	if r.daemon.Name == r.Name {
		return printable(r.Name)
	}
	return printable(r.daemon.Name + "/" + r.Name)
}

// rows returns the jobs of the daemons that run, with a name that contains the filter.
func (m *topModel) rows(filter string) (all []topRow) {
	for _, d := range m.daemons {
		if d.at.IsZero() || d.Err == api.ErrNotRunning {
			continue
		}
		for _, j := range d.Status.Jobs {
			r := topRow{d, j}
			if (m.only == "" || m.only == j.Name) && strings.Contains(strings.ToLower(r.label()), strings.ToLower(filter)) {
				all = append(all, r)
			}
		}
	}
	return all
}

// silent returns the daemons that have not answered lately, and why.
func (m *topModel) silent() (all []string) {
	for _, d := range m.daemons {
		if d.Err != nil && d.Err != api.ErrNotRunning {
			all = append(all, printable(d.Name+": "+d.Err.Error()))
		}
	}
	return all
}
