package supervisor

import (
	"syscall"
	"testing"
	"time"

	"gophd/internal/process"
)

// A run is looked at 1 s, 10 s and then every minute after its start.
func TestNextLook(t *testing.T) {
	started := time.Now()
	for _, c := range []struct{ uptime, want time.Duration }{
		{0, time.Second},
		{999 * time.Millisecond, time.Second},
		{time.Second, 10 * time.Second},
		{9 * time.Second, 10 * time.Second},
		{10 * time.Second, time.Minute},
		{59 * time.Second, time.Minute},
		{time.Minute, 2 * time.Minute},
		{90*time.Second + time.Hour, 2*time.Minute + time.Hour},
	} {
		if got := nextLook(started, started.Add(c.uptime)).Sub(started); got != c.want {
			t.Errorf("after %s the next look is at %s, want %s", c.uptime, got, c.want)
		}
	}
}

// An adopted run is looked at immediately, but none in its first second.
func TestFirstLook(t *testing.T) {
	started := time.Now()
	for _, c := range []struct {
		uptime  time.Duration
		adopted bool
		want    time.Duration
	}{
		{0, false, time.Second},
		{999 * time.Millisecond, true, time.Second},
		{time.Second, false, 10 * time.Second},
		{time.Second, true, time.Second},
		{time.Hour, true, time.Hour},
	} {
		if got := firstLook(started, started.Add(c.uptime), c.adopted).Sub(started); got != c.want {
			t.Errorf("after %s, adopted %v, the first look is at %s, want %s", c.uptime, c.adopted, got, c.want)
		}
	}
}

// A program that suspends and continues its children on purpose causes no report. A process that
// the terminal has suspended is reported at once, and another one if it stays suspended.
func TestChooseReportsWhatStaysSuspended(t *testing.T) {
	var none process.Suspended
	by := func(pid int, sig syscall.Signal, switches uint64) process.Suspended {
		return process.Suspended{PID: pid, Name: "sleep", Group: pid, Signal: sig, Switches: switches}
	}
	stopped, later := by(7, syscall.SIGSTOP, 1), by(7, syscall.SIGSTOP, 2)
	asks, unknown := by(8, syscall.SIGTTIN, 1), by(9, 0, 1)
	list := func(all ...process.Suspended) []process.Suspended { return all }
	for _, c := range []struct {
		name        string
		seen, found []process.Suspended
		reported    process.Suspended
		dump        bool
		want        process.Suspended
	}{
		{"nothing", list(stopped, unknown), nil, stopped, false, none},
		{"reads from the terminal", nil, list(asks), none, false, asks},
		{"writes to the terminal", nil, list(by(8, syscall.SIGTTOU, 1)), none, false, by(8, syscall.SIGTTOU, 1)},
		{"suspended once", nil, list(stopped), none, false, none},
		{"and still", list(stopped), list(stopped), none, false, stopped},
		{"and again", list(stopped), list(later), none, false, none},
		{"by an unknown signal once", nil, list(unknown), none, false, none},
		{"and still", list(unknown), list(unknown), none, false, unknown},
		{"beside one that comes and goes", list(stopped, unknown), list(later, unknown), none, false, unknown},
		{"the terminal first", list(stopped), list(stopped, asks), none, false, asks},
		{"at a dump the state of the moment", nil, list(stopped), none, true, stopped},
		{"the reported one remains", list(stopped), list(stopped, asks), stopped, false, stopped},
		{"and at a dump", nil, list(stopped, unknown), unknown, true, unknown},
		{"the reported one has run", nil, list(later), stopped, false, none},
	} {
		s := &suspension{seen: c.seen, reported: c.reported}
		if got := s.choose(c.found, c.dump); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}
