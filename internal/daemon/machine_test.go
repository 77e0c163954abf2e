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
	"gophd/internal/request"
)

// actionLog records the actions of the machine, in sequence.
type actionLog struct {
	done         []string
	cannotFreeze bool // the job cannot be frozen
	frozen       bool // no run starts
}

func (d *actionLog) add(what string) func() { return func() { d.done = append(d.done, what) } }
func (d *actionLog) addCause(what string) func(error) {
	return func(err error) { d.done = append(d.done, fmt.Sprintf("%s: %v", what, err)) }
}

func (d *actionLog) publish(e event.Event) {
	switch e.Type {
	case event.TypeRequestRejected:
		verb, _, _ := strings.Cut(e.Text, " (")
		d.done = append(d.done, "reject "+verb)
	case event.TypeReloadDelayed:
		d.done = append(d.done, "log the delay")
	case event.TypeReloadRejected, event.TypeProblem, event.TypeFatal:
		d.done = append(d.done, "log "+e.Err.Error())
	}
}

func (d *actionLog) freeze() error {
	d.add("freeze")()
	if d.cannotFreeze {
		d.frozen = true
		return errBusy
	}
	return nil
}

func (d *actionLog) thaw() {
	d.add("thaw")()
	d.frozen = false
}

func blocked() error { return errBlocked }

func newMachine(d *actionLog, in state, alive bool) *machine {
	return &machine{state: in, alive: alive, active: in != starting, actions: actions{
		stop: d.add("stop"), force: d.addCause("force"), kill: d.add("kill"),
		runNow: func() (bool, error) { d.add("run now")(); return true, nil },
		freeze: d.freeze, thaw: d.thaw, retryAfter: func(time.Duration) { d.add("retry")() },
		pauseWrites: func() error { return nil }, resume: func() {},
		check: d.add("check"), dump: d.add("dump"), reopen: d.add("reopen"),
		stateChanged: func(state) {}, publish: d.publish}}
}

var (
	errLost    = errors.New("lost")
	errPanic   = errors.New("panic")
	errBad     = errors.New("bad config")
	errBlocked = errors.New("a disk does not answer")
	errBusy    = errors.New("a run is being started")
)

// events are the rows of the table in doc.go, and how to cause each.
var events = []struct {
	name string
	fire func(*machine)
}{
	{"stop", func(m *machine) { m.entered = time.Now().Add(-time.Minute); requesting(request.Stop)(m) }},
	{"duplicate stop", func(m *machine) { m.entered = time.Now(); requesting(request.Stop)(m) }},
	{"reload", requesting(request.Reload)},
	{"run now", requesting(request.RunNow)},
	{"dump", requesting(request.Dump)},
	{"reopen", requesting(request.Reopen)},
	{"served", (*machine).served},
	{"job fails", func(m *machine) { m.failing(errLost) }},
	{"checked: ok", func(m *machine) { m.checked(nil) }},
	{"retry", func(m *machine) { m.validated = time.Now(); m.retry() }},
	{"retry, late", func(m *machine) { m.validated = time.Now().Add(-2 * validFor); m.retry() }},
	{"retry, busy", func(m *machine) {
		m.validated, m.busy = time.Now().Add(-2*validFor), errBusy
		m.retry()
	}},
	{"retry, thawed", func(m *machine) { m.thawed = true; m.retry() }},
	{"retry, blocked", func(m *machine) { m.pauseWrites = blocked; m.validated = time.Now(); m.retry() }},
	{"blocked too long", func(m *machine) {
		m.pauseWrites, m.validated, m.blockedSince = blocked, time.Now(), time.Now().Add(-blockedLimit)
		m.retry()
	}},
	{"checked: no", func(m *machine) { m.checked(errBad) }},
	{"job ended", func(m *machine) { m.ended(nil) }},
	{"job gave up", func(m *machine) { m.ended(errLost) }},
	{"panic", func(m *machine) { m.panicked(errPanic) }},
}

func requesting(v request.Verb) func(*machine) {
	return func(m *machine) { m.request(request.Request{Verb: v, From: "test"}) }
}

// TestEachCellOfTheTable covers every cell of the table in doc.go, including those that do nothing.
// A cell is the state after the event and the actions, in sequence. A job is alive, and was served
// in every state except starting.
func TestEachCellOfTheTable(t *testing.T) {
	force := "force: " + job.ErrInsisted.Error()
	panicked := []string{"force: gophd failed", "log panic"}
	cell := func(to state, done ...string) string { return to.String() + " " + strings.Join(done, ", ") }
	all := func(done ...string) (row []string) {
		for _, s := range states {
			row = append(row, cell(s, done...))
		}
		return row
	}
	want := map[string][]string{ // starting, serving, validating, reexecuting, draining, stopping
		"stop": {cell(draining, "stop"), cell(draining, "stop"), cell(draining, "stop"),
			cell(reexecuting), cell(stopping, force), cell(stopping, "kill")},
		"duplicate stop": {cell(draining, "stop"), cell(draining, "stop"), cell(draining, "stop"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"reload": {cell(validating, "check"), cell(validating, "check"), cell(validating),
			cell(reexecuting), cell(draining), cell(stopping)},
		"run now": {cell(starting, "reject run now"), cell(serving, "run now"), cell(validating, "run now"),
			cell(reexecuting, "reject run now"), cell(draining, "reject run now"), cell(stopping, "reject run now")},
		"dump":   all("dump"),
		"reopen": all("reopen"),
		"served": {cell(serving), cell(serving), cell(validating),
			cell(reexecuting), cell(draining), cell(stopping)},
		"job fails": {cell(stopping), cell(stopping), cell(stopping), cell(stopping), cell(stopping), cell(stopping)},
		"checked: ok": {cell(starting), cell(serving), cell(reexecuting, "freeze"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"retry": {cell(starting), cell(serving), cell(reexecuting, "freeze"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"retry, late": {cell(starting), cell(serving), cell(validating, "check"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"retry, busy": {cell(starting), cell(serving), cell(validating, "log the delay", "thaw", "retry"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"retry, thawed": {cell(starting), cell(serving), cell(validating, "check"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"retry, blocked": {cell(starting), cell(serving), cell(validating, "retry"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"blocked too long": {cell(starting), cell(serving),
			cell(serving, "log the delay", "log a disk does not answer, for 1m0s"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"checked: no": {cell(starting), cell(serving), cell(serving, "log bad config"),
			cell(reexecuting), cell(draining), cell(stopping)},
		"job gave up": {cell(draining), cell(draining), cell(draining),
			cell(reexecuting), cell(draining), cell(stopping)},
		"job ended": {cell(draining), cell(draining), cell(draining),
			cell(reexecuting), cell(draining), cell(stopping)},
		"panic": {cell(stopping, panicked...), cell(stopping, panicked...), cell(stopping, panicked...),
			cell(stopping, panicked...), cell(stopping, panicked...), cell(stopping, panicked...)},
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
					d := &actionLog{}
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

// The first stop lets the run finish, the second stops it, the third kills it. A stop that comes
// too soon counts as the one before, so a burst of ten is one step, and two at most if it lasts.
func TestSecondStopForces(t *testing.T) {
	force := "force: " + job.ErrInsisted.Error()
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		at   []time.Duration // of the stops
		want []string
	}{
		{"timeout(1) sends two", []time.Duration{0, 0}, []string{"stop"}},
		{"a burst of ten", []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []string{"stop"}},
		{"a burst that lasts",
			[]time.Duration{0, 50 * ms, 100 * ms, 150 * ms, 200 * ms, 300 * ms, 400 * ms, 500 * ms, 599 * ms},
			[]string{"stop", force}},
		{"a burst counts from its first", []time.Duration{0, 60 * ms, 120 * ms}, []string{"stop", force}},
		{"by hand", []time.Duration{0, 150 * ms}, []string{"stop", force}},
		{"by hand, three times", []time.Duration{0, 100 * ms, 600 * ms}, []string{"stop", force, "kill"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &actionLog{}
				m := newMachine(d, serving, true)
				started := time.Now()
				for _, at := range c.at {
					time.Sleep(time.Until(started.Add(at)))
					requesting(request.Stop)(m)
				}
				if !slices.Equal(d.done, c.want) {
					t.Errorf("stops at %v did %q, want %q", c.at, d.done, c.want)
				}
			})
		})
	}
}

// The table covers each cell; this test is a path through them.
func TestReloadDuringShutdownIsIgnored(t *testing.T) {
	d := &actionLog{}
	m := newMachine(d, serving, true)
	requesting(request.Stop)(m)
	requesting(request.Reload)(m)
	m.checked(nil)
	m.ended(nil)
	if m.state != draining || !m.over() {
		t.Errorf("%v, over %v: want draining and over", m.state, m.over())
	}
}

func TestSecondReloadDuringAReloadIsIgnored(t *testing.T) {
	d := &actionLog{}
	m := newMachine(d, serving, true)
	requesting(request.Reload)(m)
	requesting(request.Reload)(m)
	m.checked(nil)
	requesting(request.Reload)(m)
	m.ended(nil)
	if want := []string{"check", "freeze"}; !slices.Equal(d.done, want) || m.state != reexecuting {
		t.Errorf("did %q in %v, want one re-exec: %q", d.done, m.state, want)
	}
}

// The re-exec waits for a run that is being started.
func TestFreezeIsRetried(t *testing.T) {
	d := &actionLog{cannotFreeze: true}
	m := newMachine(d, serving, true)
	m.retry() // comes late, from an earlier reload
	requesting(request.Reload)(m)
	m.retry()
	m.checked(nil)
	want := []string{"check", "freeze", "retry"}
	if !slices.Equal(d.done, want) || m.state != validating || m.over() || !d.frozen {
		t.Errorf("did %q in %v, want %q", d.done, m.state, want)
	}
	if !strings.HasSuffix(m.String(), errBusy.Error()) {
		t.Errorf("the dump shows %q", m)
	}
	d.cannotFreeze = false
	m.retry()
	if m.state != reexecuting || !m.over() {
		t.Errorf("%v, want reexecuting", m.state)
	}
	m.retry()
	d = &actionLog{cannotFreeze: true}
	m = newMachine(d, serving, true)
	requesting(request.Reload)(m)
	m.checked(nil)
	requesting(request.Stop)(m)
	m.retry()
	want = []string{"check", "freeze", "retry", "stop", "thaw"}
	if !slices.Equal(d.done, want) || m.state != draining || d.frozen {
		t.Errorf("did %q in %v, want the stop to take precedence: %q", d.done, m.state, want)
	}
}

// A freeze may take long, the config may change meanwhile, and runs must start again. The delay is
// reported once.
func TestAnOldCheckIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &actionLog{cannotFreeze: true}
		m := newMachine(d, serving, true)
		requesting(request.Reload)(m)
		m.checked(nil)
		time.Sleep(validFor)
		m.retry()
		if !d.frozen {
			t.Error("runs start while the jobs are being frozen")
		}
		time.Sleep(time.Nanosecond)
		m.retry()
		if d.frozen {
			t.Error("no run starts after the freeze was given up")
		}
		time.Sleep(thawedFor)
		m.retry()
		m.retry() // not before the answer of the check
		want := []string{"check", "freeze", "retry", "freeze", "retry", "log the delay", "thaw", "retry", "check"}
		if !slices.Equal(d.done, want) || m.state != validating {
			t.Errorf("did %q in %v, want %q", d.done, m.state, want)
		}
		m.checked(nil)
		time.Sleep(2 * validFor)
		m.retry()
		m.retry()
		want = []string{"freeze", "retry", "thaw", "retry", "check"}
		if !slices.Equal(d.done[9:], want) || d.frozen {
			t.Errorf("did %q in %v, want %q: the delay is reported once", d.done[9:], m.state, want)
		}
		m.checked(errBad)
		if m.state != serving {
			t.Errorf("%v, want serving", m.state)
		}
	})
}

// While a disk hangs everything continues, although a freeze was attempted before.
func TestRunsStartWhileADiskHangs(t *testing.T) {
	d := &actionLog{cannotFreeze: true}
	m := newMachine(d, serving, true)
	requesting(request.Reload)(m)
	m.checked(nil)
	if !d.frozen {
		t.Fatal("runs start while the jobs are being frozen")
	}
	m.pauseWrites = blocked
	m.retry()
	want := []string{"check", "freeze", "retry", "thaw", "retry"}
	if d.frozen || !slices.Equal(d.done, want) || !strings.HasSuffix(m.String(), errBlocked.Error()) {
		t.Errorf("did %q, frozen %t, shows %q", d.done, d.frozen, m)
	}
}

func TestStopDuringCheckWins(t *testing.T) {
	d := &actionLog{}
	m := newMachine(d, serving, true)
	requesting(request.Reload)(m)
	requesting(request.Stop)(m)
	m.checked(nil)
	m.ended(nil)
	if m.state != draining {
		t.Errorf("%v, want draining: a reload must not cancel the stop", m.state)
	}
}

func TestFirstErrorIsReported(t *testing.T) {
	d := &actionLog{}
	m := newMachine(d, serving, true)
	m.failing(errLost)
	m.panicked(errPanic)
	if !errors.Is(m.err, errLost) {
		t.Errorf("ends with %v, want %v", m.err, errLost)
	}
}

// A log line has all errors of the other gophd: without its name, and without an escaped newline.
func TestErrorsOfThePreflightAreOneLine(t *testing.T) {
	for printed, want := range map[string]string{
		"":                        "",
		"\n":                      "",
		"gophd: a: b\n":           "a: b",
		"gophd: a\ngophd: b\n":    "a; b",
		"gophd: a\n\n  more\nend": "a; more; end",
	} {
		if got := oneLine(printed); got != want {
			t.Errorf("%q became %q, want %q", printed, got, want)
		}
	}
}
