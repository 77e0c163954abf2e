package eventlog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"gophd/internal/event"
	"gophd/internal/job"
)

const (
	maxNames = 1000 // of escaped processes in one line
	maxSpans = 200  // of failed runs in one line
)

// failedRuns are the numbers of failed runs whose events were suppressed.
type failedRuns struct {
	mu    sync.Mutex
	spans []span
}

// span is the numbers from first to last.
type span struct{ first, last uint64 }

func (n span) String() string {
	if n.first == n.last {
		return fmt.Sprint(n.first)
	}
	return fmt.Sprintf("%d-%d", n.first, n.last)
}

// add returns true if there are so many that they must be listed.
func (f *failedRuns) add(run uint64) (many bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.spans); n > 0 && run-f.spans[n-1].last <= 1 { // the next one, or its retry
		f.spans[n-1].last = run
	} else {
		f.spans = append(f.spans, span{run, run})
	}
	return len(f.spans) >= maxSpans
}

func (f *failedRuns) take() string {
	f.mu.Lock()
	spans := f.spans
	f.spans = nil
	f.mu.Unlock()
	var names []string
	for _, n := range spans {
		names = append(names, n.String())
	}
	return strings.Join(names, ", ")
}

// afterFailure lists suppressed failures after a line that was written, and when there are many.
func (r *Reader) afterFailure(e event.Event, written bool) {
	many := !written && e.Tick.Failed() && r.failed.add(e.Tick.Number)
	if written || many {
		r.listFailed(e.Job)
	}
}

func (r *Reader) listFailed(name string) {
	if numbers := r.failed.take(); numbers != "" {
		r.write(event.RunsFailed(name, numbers))
	}
}

// fate is what became of the escaped processes of one run.
type fate struct {
	job   string
	run   uint64
	alive bool
}

// compare orders them for the log: by job and run, first those that were stopped.
func (f fate) compare(g fate) int {
	if order := cmp.Or(cmp.Compare(f.job, g.job), cmp.Compare(f.run, g.run)); order != 0 || f.alive == g.alive {
		return order
	}
	if g.alive {
		return -1
	}
	return 1
}

// escapedProcesses are those whose events were suppressed, until they are listed.
type escapedProcesses struct {
	mu    sync.Mutex
	names map[fate][]string
}

func (p *escapedProcesses) add(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names == nil {
		p.names = map[fate][]string{}
	}
	f := fate{e.Job, e.Tick.Number, e.Alive}
	p.names[f] = append(p.names[f], fmt.Sprintf("pid %d (%s)", e.Process.PID, e.Process.Name))
}

// take returns and forgets those that are wanted.
func (p *escapedProcesses) take(wanted func(fate) bool) map[fate][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := map[fate][]string{}
	for f, names := range p.names {
		if wanted(f) {
			taken[f] = names
			delete(p.names, f)
		}
	}
	return taken
}

// listEscaped lists escaped processes whose events were suppressed, after e: their run has ended, or this
// process does. Each run has a line of its own. A run after run that leaves some is suppressed in this too.
func (r *Reader) listEscaped(e event.Event, wanted func(fate) bool) {
	taken := r.escaped.take(wanted)
	for _, f := range slices.SortedFunc(maps.Keys(taken), fate.compare) {
		names := taken[f]
		n := len(names)
		text := strings.Join(names[:min(n, maxNames)], ", ")
		if n > maxNames {
			text += fmt.Sprintf(" and %d more", n-maxNames)
		}
		list := event.ProcessesEscaped(f.job, job.Run{Number: f.run}, n, text, f.alive)
		list.Time = e.Time
		if r.write(list) {
			r.limit.settle("stray", n)
		}
	}
}
