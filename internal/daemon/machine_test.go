package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
	"gophd/internal/order"
)

// deeds notes what the machine does to the world, in order.
type deeds struct {
	done []string
	stay bool // the job cannot be frozen
	shut bool // no run starts
}

func (d *deeds) note(what string) func() { return func() { d.done = append(d.done, what) } }
func (d *deeds) cause(what string) func(error) {
	return func(err error) { d.done = append(d.done, fmt.Sprintf("%s: %v", what, err)) }
}

func (d *deeds) publish(e event.Event) {
	switch e.Type {
	case event.TypeRequestRejected:
		verb, _, _ := strings.Cut(e.Text, " ")
		d.done = append(d.done, "refuse "+verb)
	case event.TypeReloadDelayed:
		d.done = append(d.done, "say it waits")
	case event.TypeReloadRejected, event.TypeProblem, event.TypeFatal:
		d.done = append(d.done, "say "+e.Err.Error())
	}
}

func (d *deeds) freeze() error {
	d.note("freeze")()
	if d.stay {
		d.shut = true
		return errBusy
	}
	return nil
}

func (d *deeds) thaw() {
	d.note("thaw")()
	d.shut = false
}

func hanging() error { return errHangs }

func newMachine(d *deeds, in state, alive bool) *machine {
	return &machine{state: in, alive: alive, active: in != starting, hands: hands{
		stop: d.note("stop"), force: d.cause("force"), kill: d.note("kill"),
		runNow: func() bool { d.note("run now")(); return true },
		freeze: d.freeze, thaw: d.thaw, again: func(time.Duration) { d.note("again")() },
		quiet: func() error { return nil }, resume: func() {},
		check: d.note("check"), dump: d.note("dump"), reopen: d.note("reopen"), turned: func(state) {}, publish: d.publish}}
}

var (
	errLost  = errors.New("lost")
	errFell  = errors.New("fell")
	errBad   = errors.New("bad config")
	errHangs = errors.New("a disk does not answer")
	errBusy  = errors.New("a run is being started")
)

// events are the rows of the table in doc.go, with how each is brought about.
var events = []struct {
	name string
	fire func(*machine)
}{
	{"stop", func(m *machine) { m.entered = time.Now().Add(-time.Minute); give(order.Stop)(m) }},
	{"stop at once", func(m *machine) { m.entered = time.Now(); give(order.Stop)(m) }},
	{"restart", give(order.Restart)},
	{"wake", give(order.Wake)},
	{"dump", give(order.Dump)},
	{"reopen", give(order.Reopen)},
	{"served", (*machine).served},
	{"job fails", func(m *machine) { m.failing(errLost) }},
	{"checked: ok", func(m *machine) { m.checked(nil) }},
	{"again", func(m *machine) { m.sound = time.Now(); m.retried() }},
	{"again, late", func(m *machine) { m.sound = time.Now().Add(-2 * soundFor); m.retried() }},
	{"again, busy", func(m *machine) {
		m.sound, m.busy = time.Now().Add(-2*soundFor), errBusy
		m.retried()
	}},
	{"again, thawed", func(m *machine) { m.thawed = true; m.retried() }},
	{"again, hangs", func(m *machine) { m.quiet = hanging; m.sound = time.Now(); m.retried() }},
	{"hangs too long", func(m *machine) {
		m.quiet, m.sound, m.hangs = hanging, time.Now(), time.Now().Add(-hangsFor)
		m.retried()
	}},
	{"checked: no", func(m *machine) { m.checked(errBad) }},
	{"job ended", func(m *machine) { m.ended(nil) }},
	{"job gave up", func(m *machine) { m.ended(errLost) }},
	{"panic", func(m *machine) { m.panicked(errFell) }},
}

func give(v order.Verb) func(*machine) {
	return func(m *machine) { m.request(order.Order{Verb: v, From: "test"}) }
}

// TestTable walks every cell of the table in doc.go, those that do nothing included. A cell is the state after
// the event and what was done, in order. A job is alive, and was served in every state but starting.
func TestTable(t *testing.T) {
	force := "force: " + job.ErrInsisted.Error()
	panicked := []string{"force: gophd had a fatal error", "say fell"}
	cell := func(to state, done ...string) string { return to.String() + " " + strings.Join(done, ", ") }
	all := func(done ...string) (row []string) {
		for _, s := range states {
			row = append(row, cell(s, done...))
		}
		return row
	}
	want := map[string][]string{ // starting, serving, validating, reexecuting, stopping, killing
		"stop": {cell(stopping, "stop"), cell(stopping, "stop"), cell(stopping, "stop"),
			cell(reexecuting), cell(killing, force), cell(killing, "kill")},
		"stop at once": {cell(stopping, "stop"), cell(stopping, "stop"), cell(stopping, "stop"),
			cell(reexecuting), cell(stopping), cell(killing)},
		"restart": {cell(validating, "check"), cell(validating, "check"), cell(validating),
			cell(reexecuting), cell(stopping), cell(killing)},
		"wake": {cell(starting, "refuse wake"), cell(serving, "run now"), cell(validating, "run now"),
			cell(reexecuting, "refuse wake"), cell(stopping, "refuse wake"), cell(killing, "refuse wake")},
		"dump":        all("dump"),
		"reopen":      all("reopen"),
		"served":      {cell(serving), cell(serving), cell(validating), cell(reexecuting), cell(stopping), cell(killing)},
		"job fails":   {cell(killing), cell(killing), cell(killing), cell(killing), cell(killing), cell(killing)},
		"checked: ok": {cell(starting), cell(serving), cell(reexecuting, "freeze"), cell(reexecuting), cell(stopping), cell(killing)},
		"again":       {cell(starting), cell(serving), cell(reexecuting, "freeze"), cell(reexecuting), cell(stopping), cell(killing)},
		"again, late": {cell(starting), cell(serving), cell(validating, "check"), cell(reexecuting), cell(stopping), cell(killing)},
		"again, busy": {cell(starting), cell(serving), cell(validating, "say it waits", "thaw", "again"),
			cell(reexecuting), cell(stopping), cell(killing)},
		"again, thawed": {cell(starting), cell(serving), cell(validating, "check"), cell(reexecuting), cell(stopping), cell(killing)},
		"again, hangs":  {cell(starting), cell(serving), cell(validating, "again"), cell(reexecuting), cell(stopping), cell(killing)},
		"hangs too long": {cell(starting), cell(serving), cell(serving, "say it waits", "say a disk does not answer, for 1m0s"),
			cell(reexecuting), cell(stopping), cell(killing)},
		"checked: no": {cell(starting), cell(serving), cell(serving, "say bad config"), cell(reexecuting), cell(stopping), cell(killing)},
		"job gave up": {cell(stopping), cell(stopping), cell(stopping), cell(reexecuting), cell(stopping), cell(killing)},
		"job ended":   {cell(stopping), cell(stopping), cell(stopping), cell(reexecuting), cell(stopping), cell(killing)},
		"panic": {cell(killing, panicked...), cell(killing, panicked...), cell(killing, panicked...),
			cell(killing, panicked...), cell(killing, panicked...), cell(killing, panicked...)},
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
			t.Run(e.name+" while "+from.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := &deeds{}
					m := newMachine(d, from, true)
					e.fire(m)
					if got := cell(m.state, d.done...); got != want[e.name][i] {
						t.Errorf("got %q, want %q", got, want[e.name][i])
					}
				})
			})
		}
	}
}

// TestSecondSigintForces: the first lets the run finish, the second stops it, the third kills it. What
// comes too soon after the one before is the same stop, so a burst of ten is one step, and two at most when it lasts.
func TestSecondSigintForces(t *testing.T) {
	force := "force: " + job.ErrInsisted.Error()
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		at   []time.Duration // of the stops
		want []string
	}{
		{"timeout(1) sends two", []time.Duration{0, 0}, []string{"stop"}},
		{"a burst of ten", []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []string{"stop"}},
		{"a burst that lasts", []time.Duration{0, 50 * ms, 100 * ms, 150 * ms, 200 * ms, 300 * ms, 400 * ms, 500 * ms, 599 * ms},
			[]string{"stop", force}},
		{"a burst counts from its first", []time.Duration{0, 60 * ms, 120 * ms}, []string{"stop", force}},
		{"by hand", []time.Duration{0, 150 * ms}, []string{"stop", force}},
		{"by hand, three times", []time.Duration{0, 100 * ms, 600 * ms}, []string{"stop", force, "kill"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &deeds{}
				m := newMachine(d, serving, true)
				began := time.Now()
				for _, at := range c.at {
					time.Sleep(time.Until(began.Add(at)))
					give(order.Stop)(m)
				}
				if !slices.Equal(d.done, c.want) {
					t.Errorf("stops at %v did %q, want %q", c.at, d.done, c.want)
				}
			})
		})
	}
}

// TestHupDuringShutdownIgnored and its like are cells of the table; this is the road through them.
func TestHupDuringShutdownIgnored(t *testing.T) {
	d := &deeds{}
	m := newMachine(d, serving, true)
	give(order.Stop)(m)
	give(order.Restart)(m)
	m.checked(nil)
	m.ended(nil)
	if m.state != stopping || !m.over() {
		t.Errorf("%v, over %v: want stopping and over", m.state, m.over())
	}
}

func TestHupTwiceQuickly(t *testing.T) {
	d := &deeds{}
	m := newMachine(d, serving, true)
	give(order.Restart)(m)
	give(order.Restart)(m)
	m.checked(nil)
	give(order.Restart)(m)
	m.ended(nil)
	if want := []string{"check", "freeze"}; !slices.Equal(d.done, want) || m.state != reexecuting {
		t.Errorf("did %q in %v, want one restart: %q", d.done, m.state, want)
	}
}

// TestFreezeIsTriedAgain: a run that is being started is waited for.
func TestFreezeIsTriedAgain(t *testing.T) {
	d := &deeds{stay: true}
	m := newMachine(d, serving, true)
	m.retried() // comes late, from an earlier restart
	give(order.Restart)(m)
	m.retried()
	m.checked(nil)
	if want := []string{"check", "freeze", "again"}; !slices.Equal(d.done, want) || m.state != validating || m.over() || !d.shut {
		t.Errorf("did %q in %v, want %q", d.done, m.state, want)
	}
	if !strings.HasSuffix(m.String(), errBusy.Error()) {
		t.Errorf("the dump shows %q", m)
	}
	d.stay = false
	m.retried()
	if m.state != reexecuting || !m.over() {
		t.Errorf("%v, want reexecuting", m.state)
	}
	m.retried()
	d = &deeds{stay: true}
	m = newMachine(d, serving, true)
	give(order.Restart)(m)
	m.checked(nil)
	give(order.Stop)(m)
	m.retried()
	if want := []string{"check", "freeze", "again", "stop", "thaw"}; !slices.Equal(d.done, want) || m.state != stopping || d.shut {
		t.Errorf("did %q in %v, want the stop to win: %q", d.done, m.state, want)
	}
}

// TestAnOldAnswerIsAskedForAnew: what cannot be frozen may take long, the config may change meanwhile, and runs
// must start again. It is named once.
func TestAnOldAnswerIsAskedForAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deeds{stay: true}
		m := newMachine(d, serving, true)
		give(order.Restart)(m)
		m.checked(nil)
		time.Sleep(soundFor)
		m.retried()
		if !d.shut {
			t.Error("runs start while the jobs are being frozen")
		}
		time.Sleep(time.Nanosecond)
		m.retried()
		if d.shut {
			t.Error("no run starts after the freeze was given up")
		}
		time.Sleep(thawedFor)
		m.retried()
		m.retried() // not before the answer
		if want := []string{"check", "freeze", "again", "freeze", "again", "say it waits", "thaw", "again", "check"}; !slices.Equal(d.done, want) || m.state != validating {
			t.Errorf("did %q in %v, want %q", d.done, m.state, want)
		}
		m.checked(nil)
		time.Sleep(2 * soundFor)
		m.retried()
		m.retried()
		if want := []string{"freeze", "again", "thaw", "again", "check"}; !slices.Equal(d.done[9:], want) || d.shut {
			t.Errorf("did %q in %v, want %q: the delay is told once", d.done[9:], m.state, want)
		}
		m.checked(errBad)
		if m.state != serving {
			t.Errorf("%v, want serving", m.state)
		}
	})
}

// TestNoRunWaitsForADisk: while a disk hangs everything continues, although a freeze was tried before.
func TestNoRunWaitsForADisk(t *testing.T) {
	d := &deeds{stay: true}
	m := newMachine(d, serving, true)
	give(order.Restart)(m)
	m.checked(nil)
	if !d.shut {
		t.Fatal("runs start while the jobs are being frozen")
	}
	m.quiet = hanging
	m.retried()
	if want := []string{"check", "freeze", "again", "thaw", "again"}; d.shut || !slices.Equal(d.done, want) || !strings.HasSuffix(m.String(), errHangs.Error()) {
		t.Errorf("did %q, shut %t, shows %q", d.done, d.shut, m)
	}
}

func TestStopDuringCheckWins(t *testing.T) {
	d := &deeds{}
	m := newMachine(d, serving, true)
	give(order.Restart)(m)
	give(order.Stop)(m)
	m.checked(nil)
	m.ended(nil)
	if m.state != stopping {
		t.Errorf("%v, want stopping: a restart must not resurrect", m.state)
	}
}

func TestFirstErrorIsTheOneToEndWith(t *testing.T) {
	d := &deeds{}
	m := newMachine(d, serving, true)
	m.failing(errLost)
	m.panicked(errFell)
	if !errors.Is(m.err, errLost) {
		t.Errorf("ends with %v, want %v", m.err, errLost)
	}
}
