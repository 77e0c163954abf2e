package supervisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gophd/internal/event"
)

// deeds notes what the machine does, in order.
type deeds struct {
	done []string
	busy bool // the loop cannot be left
}

func (d *deeds) note(what string) func() { return func() { d.done = append(d.done, what) } }
func (d *deeds) cause(what string) func(error) {
	return func(err error) { d.done = append(d.done, fmt.Sprintf("%s: %v", what, err)) }
}

func (d *deeds) leaveLoop() error {
	d.note("leave loop")()
	if d.busy {
		return errBusy
	}
	return nil
}

func newMachine(d *deeds, in state, looping bool) *machine {
	return &machine{state: in, looping: looping, hands: hands{
		startLoop: d.note("start loop"), stopLoop: d.note("stop loop"), wakeLoop: d.note("wake loop"),
		interrupt: d.cause("stop the runs"), force: d.cause("force"), kill: d.note("kill"),
		leaveLoop: d.leaveLoop, changed: func() {},
		publish: func(e event.Event) { d.done = append(d.done, "say "+e.Err.Error()) },
	}}
}

var (
	errLost  = errors.New("lost")
	errCause = errors.New("no lease")
	errPanic = errors.New("panic")
	errStop  = errors.New("stop now")
	errBusy  = errors.New("a run is being started")
)

// events are the rows of the table in doc.go, with how each is brought about.
var events = []struct {
	name string
	fire func(*machine)
}{
	{"stop", (*machine).stop},
	{"force", func(m *machine) { m.forceStop(errStop) }},
	{"run now", func(m *machine) { m.runNow() }},
	{"lease held", (*machine).leaseHeld},
	{"lease ending", func(m *machine) { m.leaseEnding(errCause) }},
	{"lease lost", func(m *machine) { m.fail(errLost, errCause) }},
	{"freeze", func(m *machine) { _ = m.freeze() }},
	{"loop ended", func(m *machine) { m.loopEnded(nil) }},
	{"loop gave up", func(m *machine) { m.loopEnded(errLost) }},
	{"panic", func(m *machine) { m.panicked(errPanic) }},
}

// TestTable walks every cell of the table in doc.go, those that do nothing included. A cell is the state after
// the event and what was done, in order. The loop runs in every state but frozen.
func TestTable(t *testing.T) {
	cell := func(to state, done ...string) string { return to.String() + " " + strings.Join(done, ", ") }
	lost := []string{"stop the runs: no lease", "force: no lease", "say lost"}
	stop := "stop the runs: no lease"
	want := map[string][]string{ // standby, active, draining, failing, frozen
		"stop":         {cell(draining, "stop loop"), cell(draining, "stop loop"), cell(draining), cell(failing), cell(frozen)},
		"force":        {cell(draining, "stop loop", "force: stop now"), cell(draining, "stop loop", "force: stop now"), cell(draining, "force: stop now"), cell(failing, "force: stop now"), cell(frozen, "force: stop now")},
		"run now":      {cell(standby), cell(active, "wake loop"), cell(draining), cell(failing), cell(frozen)},
		"lease held":   {cell(active), cell(active), cell(draining), cell(failing), cell(frozen)},
		"lease ending": {cell(standby, stop), cell(active, stop), cell(draining, stop), cell(failing, stop), cell(frozen)},
		"lease lost":   {cell(failing, lost...), cell(failing, lost...), cell(failing, lost...), cell(failing, lost[0], lost[2]), cell(failing, lost[1:]...)},
		"freeze":       {cell(frozen, "leave loop"), cell(frozen, "leave loop"), cell(draining), cell(failing), cell(frozen)},
		"loop ended":   {cell(draining), cell(draining), cell(draining), cell(failing), cell(frozen)},
		"loop gave up": {cell(draining, "say lost"), cell(draining, "say lost"), cell(draining), cell(failing), cell(frozen)},
		"panic": {cell(failing, "force: gophd had a fatal error", "say panic"), cell(failing, "force: gophd had a fatal error", "say panic"),
			cell(failing, "force: gophd had a fatal error", "say panic"), cell(failing, "force: gophd had a fatal error", "say panic"),
			cell(failing, "force: gophd had a fatal error", "say panic")},
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if !strings.Contains(string(doc), "\n//\t"+e.name+" ") {
			t.Errorf("the table in doc.go has no row %q", e.name)
		}
		for i, from := range states {
			d := &deeds{}
			m := newMachine(d, from, from != frozen)
			e.fire(m)
			if got := cell(m.state, d.done...); got != want[e.name][i] {
				t.Errorf("%s while %s: got %q, want %q", e.name, from, got, want[e.name][i])
			}
		}
	}
}

// The loop starts with the lease, or before it with the runs of the old process.
func TestLoopStartsOnce(t *testing.T) {
	for _, looping := range []bool{false, true} {
		d := &deeds{}
		m := newMachine(d, standby, looping)
		m.leaseHeld()
		m.leaseHeld()
		want := []string{"start loop"}
		if looping {
			want = nil
		}
		if !slices.Equal(d.done, want) || m.state != active || m.over() {
			t.Errorf("looping %v: did %q in %v", looping, d.done, m.state)
		}
	}
}

func TestAJobThatWasNotServedEndsAtOnce(t *testing.T) {
	for _, e := range events {
		d := &deeds{}
		m := newMachine(d, standby, false)
		e.fire(m)
		ends := slices.Contains([]string{"stop", "force", "lease lost", "freeze", "panic"}, e.name)
		if m.over() != ends {
			t.Errorf("%s: over is %v", e.name, m.over())
		}
	}
}

// A run that is being started cannot be left. The job continues then.
func TestFreezeOfABusyLoop(t *testing.T) {
	d := &deeds{busy: true}
	m := newMachine(d, active, true)
	if m.freeze() != errBusy || m.state != active || m.over() {
		t.Errorf("%v, over %v", m.state, m.over())
	}
	d.busy = false
	if m.freeze() != nil || m.state != frozen || !m.over() {
		t.Errorf("%v, over %v", m.state, m.over())
	}
}

// What was forced by a request ends without an error, whatever comes after.
func TestFirstReasonIsTheOneToEndWith(t *testing.T) {
	m := newMachine(&deeds{}, active, true)
	m.fail(errLost, errCause)
	m.panicked(errPanic)
	if !errors.Is(m.err, errLost) {
		t.Errorf("ends with %v, want %v", m.err, errLost)
	}
	m = newMachine(&deeds{}, active, true)
	m.forceStop(errStop)
	m.fail(errLost, errCause)
	if m.err != nil {
		t.Errorf("ends with %v", m.err)
	}
	m = newMachine(&deeds{}, active, true)
	if m.forceStop(ErrFault); !errors.As(m.err, new(*FatalError)) {
		t.Errorf("ends with %v, want a fatal error", m.err)
	}
}
