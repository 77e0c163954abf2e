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

// actionLog records the actions of the machine, in sequence.
type actionLog struct {
	done []string
	busy bool // the loop cannot be handed off
}

func (d *actionLog) add(what string) func() { return func() { d.done = append(d.done, what) } }
func (d *actionLog) addCause(what string) func(error) {
	return func(err error) { d.done = append(d.done, fmt.Sprintf("%s: %v", what, err)) }
}

func (d *actionLog) handOffLoop(func([]Leaving) error) error {
	d.add("hand off loop")()
	if d.busy {
		return errBusy
	}
	return nil
}

func newMachine(d *actionLog, in state, looping bool) *machine {
	return &machine{state: in, looping: looping, actions: actions{
		startLoop: d.add("start loop"), stopLoop: d.add("stop loop"), wakeLoop: d.add("wake loop"),
		interrupt: d.addCause("stop the runs"), force: d.addCause("force"), kill: d.add("kill"),
		handOffLoop: d.handOffLoop, changed: func() {}, failed: func(err error) { d.done = append(d.done, "log "+err.Error()) },
		publish: func(e event.Event) { d.done = append(d.done, "log "+e.Err.Error()) },
	}}
}

var (
	errLost  = errors.New("lost")
	errCause = errors.New("no lease")
	errPanic = errors.New("panic")
	errStop  = errors.New("stop now")
	errBusy  = errors.New("a run is being started")
)

// events are the rows of the table in doc.go, and how to cause each.
var events = []struct {
	name string
	fire func(*machine)
}{
	{"stop", (*machine).stop},
	{"force", func(m *machine) { m.forceStop(errStop) }},
	{"run now", func(m *machine) { m.runNow() }},
	{"lease held", (*machine).leaseHeld},
	{"lease ending", func(m *machine) { m.leaseEnding(errCause) }},
	{"lease failed", func(m *machine) { m.leaseFailed(errLost, errCause) }},
	{"cannot start", func(m *machine) { m.fail(errLost) }},
	{"freeze", func(m *machine) { _ = m.freeze(Detach) }},
	{"loop ended", func(m *machine) { m.loopEnded(nil) }},
	{"loop gave up", func(m *machine) { m.loopEnded(errLost) }},
	{"panic", func(m *machine) { m.panicked(errPanic) }},
}

// TestEachCellOfTheTable covers every cell of the table in doc.go, including those that do nothing.
// A cell is the state after the event and the actions, in sequence. The loop is active in every
// state except frozen.
func TestEachCellOfTheTable(t *testing.T) {
	cell := func(to state, done ...string) string { return to.String() + " " + strings.Join(done, ", ") }
	failed := []string{"stop the runs: no lease", "force: no lease"}
	cannot := []string{"stop the runs: lost", "force: lost", "log lost"}
	stop := "stop the runs: no lease"
	want := map[string][]string{ // standby, active, draining, failing, frozen
		"stop": {cell(draining, "stop loop"), cell(draining, "stop loop"),
			cell(draining), cell(failing), cell(frozen)},
		"force": {cell(draining, "stop loop", "force: stop now"), cell(draining, "stop loop", "force: stop now"),
			cell(draining, "force: stop now"), cell(failing, "force: stop now"), cell(frozen, "force: stop now")},
		"run now":    {cell(standby), cell(active, "wake loop"), cell(draining), cell(failing), cell(frozen)},
		"lease held": {cell(active), cell(active), cell(draining), cell(failing), cell(frozen)},
		"lease ending": {cell(standby, stop), cell(active, stop), cell(draining, stop), cell(failing, stop),
			cell(frozen)},
		"lease failed": {cell(failing, failed...), cell(failing, failed...), cell(failing, failed...),
			cell(failing, failed[0]), cell(failing, failed[1])},
		"cannot start": {cell(failing, cannot...), cell(failing, cannot...), cell(failing, cannot...),
			cell(failing, cannot[0], cannot[2]), cell(failing, cannot[1:]...)},
		"freeze": {cell(frozen, "hand off loop"), cell(frozen, "hand off loop"),
			cell(frozen, "hand off loop"), cell(failing), cell(frozen)},
		"loop ended": {cell(draining), cell(draining), cell(draining), cell(failing), cell(frozen)},
		"loop gave up": {cell(draining, "log lost"), cell(draining, "log lost"), cell(draining), cell(failing),
			cell(frozen)},
		"panic": {cell(failing, "force: gophd failed", "log panic"),
			cell(failing, "force: gophd failed", "log panic"),
			cell(failing, "force: gophd failed", "log panic"), cell(failing, "force: gophd failed", "log panic"),
			cell(failing, "force: gophd failed", "log panic")},
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
			d := &actionLog{}
			m := newMachine(d, from, from != frozen)
			e.fire(m)
			if got := cell(m.state, d.done...); got != want[e.name][i] {
				t.Errorf("%s while %s: got %q, want %q", e.name, from, got, want[e.name][i])
			}
		}
	}
}

// The loop starts when the lease is held, or earlier with the runs of the old process.
func TestLoopStartsOnce(t *testing.T) {
	for _, looping := range []bool{false, true} {
		d := &actionLog{}
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

func TestJobThatWasNotServedEndsAtOnce(t *testing.T) {
	for _, e := range events {
		d := &actionLog{}
		m := newMachine(d, standby, false)
		e.fire(m)
		ends := slices.Contains([]string{"stop", "force", "lease failed", "cannot start", "freeze", "panic"}, e.name)
		if m.over() != ends {
			t.Errorf("%s: over is %v", e.name, m.over())
		}
	}
}

// A run that is being started cannot be handed off. The job continues then.
func TestFreezeFailsWhileARunIsBeingStarted(t *testing.T) {
	d := &actionLog{busy: true}
	m := newMachine(d, active, true)
	if m.freeze(Detach) != errBusy || m.state != active || m.over() {
		t.Errorf("%v, over %v", m.state, m.over())
	}
	d.busy = false
	if m.freeze(Detach) != nil || m.state != frozen || !m.over() {
		t.Errorf("%v, over %v", m.state, m.over())
	}
}

// A stop that was forced by a request ends without an error, whatever comes later.
func TestFirstErrorIsReported(t *testing.T) {
	m := newMachine(&actionLog{}, active, true)
	m.leaseFailed(errLost, errCause)
	m.panicked(errPanic)
	if !errors.Is(m.err, errLost) {
		t.Errorf("ends with %v, want %v", m.err, errLost)
	}
	m = newMachine(&actionLog{}, active, true)
	m.forceStop(errStop)
	m.leaseFailed(errLost, errCause)
	if m.err != nil {
		t.Errorf("ends with %v", m.err)
	}
	m = newMachine(&actionLog{}, active, true)
	if m.forceStop(ErrFault); !errors.As(m.err, new(*FatalError)) {
		t.Errorf("ends with %v, want a fatal error", m.err)
	}
}
