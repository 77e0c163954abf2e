package restart_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/restart"
)

func TestT54GuardAllowsNoStorm(t *testing.T) {
	const m = time.Minute
	type list = []time.Duration
	for name, c := range map[string]struct {
		memory    list
		born, now time.Duration
		allowed   bool
		after     list
	}{
		"first, old enough":            {born: 0, now: 10 * time.Second, allowed: true, after: list{10 * time.Second}},
		"first, a little too young":    {born: 0, now: 10*time.Second - 1},
		"at its very start":            {born: 5 * m, now: 5 * m},
		"clock before birth":           {born: 5 * m, now: 4 * m},
		"fifth in ten minutes":         {memory: list{1 * m, 2 * m, 3 * m, 4 * m}, born: 4 * m, now: 5 * m, allowed: true, after: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}},
		"sixth in ten minutes":         {memory: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}, born: 5 * m, now: 11*m - 1, after: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}},
		"sixth, the first is too old":  {memory: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}, born: 5 * m, now: 11 * m, allowed: true, after: list{2 * m, 3 * m, 4 * m, 5 * m, 11 * m}},
		"all too old":                  {memory: list{1 * m, 2 * m, 3 * m, 4 * m, 5 * m}, born: 5 * m, now: 60 * m, allowed: true, after: list{60 * m}},
		"readings from the future":     {memory: list{90 * m, 91 * m, 92 * m, 93 * m, 94 * m}, born: 0, now: 5 * m, allowed: true, after: list{5 * m}},
		"more readings than there are": {memory: list{m, m, m, m, m, m, m, m}, born: 0, now: 2 * m, after: list{m, m, m, m, m, m, m, m}},
	} {
		t.Run(name, func(t *testing.T) {
			g := restart.Guard{Recoveries: c.memory}
			err := g.Recover(c.born, c.now)
			if (err == nil) != c.allowed {
				t.Errorf("allowed is %t (%v), want %t", err == nil, err, c.allowed)
			}
			if d := cmp.Diff(c.after, g.Recoveries); d != "" {
				t.Errorf("memory (-want +got):\n%s", d)
			}
		})
	}
}

// An image that breaks as soon as the guard would forgive it uses up its recoveries and ends.
func TestT54ImageThatDiesAsSoonAsItMayIsGivenUp(t *testing.T) {
	var g restart.Guard
	now, restarts := time.Duration(0), 0
	for {
		born := now
		now += restart.MinAge
		if g.Recover(born, now) != nil {
			break
		}
		restarts++
	}
	if restarts != 5 {
		t.Errorf("it was restarted %d times, want 5", restarts)
	}
}
