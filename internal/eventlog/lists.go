package eventlog

import (
	"fmt"
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
	run   uint64
	alive bool
}

// escapedProcesses are those whose events were suppressed, until their run has ended.
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
	f := fate{e.Tick.Number, e.Alive}
	p.names[f] = append(p.names[f], fmt.Sprintf("pid %d (%s)", e.Process.PID, e.Process.Name))
}

func (p *escapedProcesses) take(f fate) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := p.names[f]
	delete(p.names, f)
	return names
}

// listEscaped lists in one line the escaped processes of a run that has ended. A run after run that
// leaves some is suppressed in this too.
func (r *Reader) listEscaped(ended event.Event) {
	for _, alive := range []bool{false, true} {
		names := r.escaped.take(fate{ended.Tick.Number, alive})
		n := len(names)
		if n == 0 {
			continue
		}
		text := strings.Join(names[:min(n, maxNames)], ", ")
		if n > maxNames {
			text += fmt.Sprintf(" and %d more", n-maxNames)
		}
		e := event.ProcessesEscaped(ended.Job, job.Run{Number: ended.Tick.Number}, n, text, alive)
		e.Time = ended.Time
		if r.write(e) {
			r.limit.settle("stray", n)
		}
	}
}
