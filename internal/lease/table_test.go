package lease

import (
	"errors"
	"os"
	"strings"
	"testing"

	"gophd/internal/event"
	"gophd/internal/heartbeat"
)

// TestEachCellOfTheTable covers every cell of the table in lease.go, with a lease that has no claim: so
// begin ends in holding. A cell is the phase after the event and the calls, in sequence.
func TestEachCellOfTheTable(t *testing.T) {
	names := map[phase]string{opened: "opened", acquiring: "acquiring", holding: "holding", failed: "failed",
		released: "released"}
	cell := func(to phase, calls ...string) string { return names[to] + " " + strings.Join(calls, ", ") }
	errFailed := errors.New("no lease")
	for _, e := range []struct {
		name string
		fire func(*Lease)
		want []string // opened, acquiring, holding, failed, released
	}{
		{"begin", (*Lease).Begin, []string{cell(holding, "locked", "PID file", "held"), cell(acquiring), cell(holding),
			cell(failed), cell(released)}},
		{"all held", func(l *Lease) { l.next(nil) },
			[]string{cell(opened), cell(holding, "held"), cell(holding), cell(failed), cell(released)}},
		{"all held", func(l *Lease) { l.took = 1; l.next(nil) },
			[]string{cell(opened), cell(holding, "held"), cell(holding, "taken over"), cell(failed), cell(released)}},
		{"failed", func(l *Lease) { l.fail(errFailed, errFailed) },
			[]string{"", cell(failed, "failed", "log"), cell(failed, "failed", "log"), cell(failed, "log"), ""}},
		{"ending", func(l *Lease) { l.ending(&claim{lease: l, handed: &heartbeat.Handoff{}}) },
			[]string{cell(opened), cell(acquiring, "ending"), cell(holding, "ending"), cell(failed), cell(released)}},
		{"ending", func(l *Lease) { l.ending(&claim{lease: l}) },
			[]string{cell(opened), cell(acquiring), cell(holding, "ending"), cell(failed), cell(released)}},
		{"release early", (*Lease).ReleaseEarly, []string{cell(released, "remove PID file"),
			cell(released, "remove PID file"), cell(released, "remove PID file"), cell(released, "remove PID file"),
			cell(released)}},
	} {
		doc, err := os.ReadFile("lease.go")
		if err != nil || !strings.Contains(string(doc), "\n//\t"+e.name+" ") {
			t.Errorf("the table in lease.go has no row %q, or %v", e.name, err)
		}
		for from, want := range e.want {
			if want == "" { // a lease that was not requested, or that is being released, does not fail
				continue
			}
			n := newClient()
			l, _ := open(t, t.TempDir(), "none:", n, func(o *Options) {
				o.Events = event.NewStream(func(event.Event) { n.calls <- "log" })
			})
			l.phase, l.acquire.pidFile = phase(from), phase(from) != opened
			e.fire(l)
			var calls []string
			for len(n.calls) > 0 {
				calls = append(calls, <-n.calls)
			}
			if got := cell(l.phase, calls...); got != want {
				t.Errorf("%s while %s: %q, want %q", e.name, names[phase(from)], got, want)
			}
		}
	}
}
