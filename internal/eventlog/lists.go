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

// span is a range of numbers; last is included.
type span struct{ first, last uint64 }

func (n span) String() string {
	if n.first == n.last {
		return fmt.Sprint(n.first)
	}
	return fmt.Sprintf("%d-%d", n.first, n.last)
}

// add returns true if there are enough spans for a line.
func (f *failedRuns) add(run uint64) (many bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.spans); n > 0 && run-f.spans[n-1].last <= 1 { // the next run, or a retry
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

// afterFailure lists suppressed failures after a written line, and also when there are many.
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

// outcome is a run with escaped processes, and whether they are alive or were stopped.
type outcome struct {
	job   string
	run   uint64
	alive bool
}

// compare sorts outcomes for the log: by job and run, stopped processes first.
func (o outcome) compare(p outcome) int {
	if order := cmp.Or(cmp.Compare(o.job, p.job), cmp.Compare(o.run, p.run)); order != 0 || o.alive == p.alive {
		return order
	}
	if p.alive {
		return -1
	}
	return 1
}

// escapedProcesses are the names of processes whose events were suppressed and not yet listed.
type escapedProcesses struct {
	mu    sync.Mutex
	names map[outcome][]string
}

func (p *escapedProcesses) add(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names == nil {
		p.names = map[outcome][]string{}
	}
	o := outcome{e.Job, e.Tick.Number, e.KeepsRunning}
	p.names[o] = append(p.names[o], fmt.Sprintf("%d (%s)", e.Process.PID, e.Process.Name))
}

// take removes and returns the names of the wanted outcomes.
func (p *escapedProcesses) take(wanted func(outcome) bool) map[outcome][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := map[outcome][]string{}
	for o, names := range p.names {
		if wanted(o) {
			taken[o] = names
			delete(p.names, o)
		}
	}
	return taken
}

// listEscaped lists escaped processes whose events were suppressed. The reason is e: their run
// ended, or gophd is about to exit or to re-exec. Each run has its own line. If many runs in a row
// leave processes behind, these lines are suppressed too.
func (r *Reader) listEscaped(e event.Event, wanted func(outcome) bool) {
	taken := r.escaped.take(wanted)
	for _, o := range slices.SortedFunc(maps.Keys(taken), outcome.compare) {
		names := taken[o]
		n := len(names)
		text := strings.Join(names[:min(n, maxNames)], ", ")
		if n > maxNames {
			text += fmt.Sprintf(" and %d more", n-maxNames)
		}
		list := event.ProcessesEscaped(o.job, job.Run{Number: o.run}, n, text, o.alive)
		list.Time = e.Time
		if r.write(list) {
			r.limit.settle("escaped", n)
		}
	}
}
