package restart_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/restart"
)

func TestGuardLimitsRecoveries(t *testing.T) {
	const m = time.Minute
	type list = []time.Duration
	for name, c := range map[string]struct {
		recoveries   list
		started, now time.Duration
		allowed      bool
		after        list
	}{
		"first, old enough":         {started: 0, now: 10 * time.Second, allowed: true, after: list{10 * time.Second}},
		"first, a little too young": {started: 0, now: 10*time.Second - 1},
		"at its very start":         {started: 5 * m, now: 5 * m},
		"clock before the start":    {started: 5 * m, now: 4 * m},
		"fifth in ten minutes": {recoveries: list{1 * m, 2 * m, 3 * m, 4 * m}, started: 4 * m, now: 5 * m,
			allowed: true, after: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}},
		"sixth in ten minutes": {recoveries: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}, started: 5 * m, now: 11*m - 1,
			after: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}},
		"sixth, the first is too old": {recoveries: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}, started: 5 * m, now: 11 * m,
			allowed: true, after: list{2 * m, 3 * m, 4 * m, 5 * m, 11 * m}},
		"all too old": {recoveries: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}, started: 5 * m, now: 60 * m,
			allowed: true, after: list{60 * m}},
		"readings from the future": {recoveries: list{90 * m, 91 * m, 92 * m, 93 * m, 94 * m}, started: 0, now: 5 * m,
			allowed: true, after: list{5 * m}},
		"more readings than the limit": {recoveries: list{m, m, m, m, m, m, m, m}, started: 0, now: 2 * m,
			after: list{m, m, m, m, m, m, m, m}},
	} {
		t.Run(name, func(t *testing.T) {
			g := restart.Guard{Recoveries: c.recoveries}
			err := g.Recover(c.started, c.now)
			if (err == nil) != c.allowed {
				t.Errorf("allowed is %t (%v), want %t", err == nil, err, c.allowed)
			}
			if d := cmp.Diff(c.after, g.Recoveries); d != "" {
				t.Errorf("recoveries (-want +got):\n%s", d)
			}
		})
	}
}

// A process that fails as soon as the guard allows a recovery uses up its recoveries and exits.
func TestGuardGivesUpOnAProcessThatFailsAtMinAge(t *testing.T) {
	var g restart.Guard
	now, restarts := time.Duration(0), 0
	for {
		started := now
		now += restart.MinAge
		if g.Recover(started, now) != nil {
			break
		}
		restarts++
	}
	if restarts != 5 {
		t.Errorf("it was restarted %d times, want 5", restarts)
	}
}

// A process that can go on waits until the guard allows a re-exec.
func TestGuardSaysHowLongToWait(t *testing.T) {
	const m = time.Minute
	five := []time.Duration{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}
	for name, c := range map[string]struct {
		recoveries         []time.Duration
		started, now, want time.Duration
	}{
		"old enough":               {now: restart.MinAge},
		"too young":                {started: 2 * m, now: 2*m + 3*time.Second, want: 7 * time.Second},
		"sixth in ten minutes":     {recoveries: five, started: 5 * m, now: 6 * m, want: 5 * m},
		"sixth, and too young":     {recoveries: five, started: 11*m - 1, now: 11*m - 1, want: restart.MinAge},
		"readings from the future": {recoveries: []time.Duration{90 * m, 91 * m, 92 * m, 93 * m, 94 * m}, now: 5 * m},
	} {
		g := restart.Guard{Recoveries: c.recoveries}
		got := g.Wait(c.started, c.now)
		if got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if err := g.Recover(c.started, c.now+got); err != nil {
			t.Errorf("%s: after that time: %v", name, err)
		}
	}
}
