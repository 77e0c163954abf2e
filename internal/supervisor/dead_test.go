package supervisor

import "testing"

func TestDeadOnlyIfNoCommandIsAliveAndNoneMayStart(t *testing.T) {
	alive, dead := slot{cancel: func(error) {}}, slot{cancel: func(error) {}, dead: true}
	for name, c := range map[string]struct {
		state    state
		draining bool
		runs     int32 // that the loop has started
		slots    []slot
		want     bool
	}{
		"the only command is dead":       {draining, true, 1, []slot{dead}, true},
		"all commands are dead":          {failing, true, 2, []slot{dead, {}, dead}, true},
		"no run is active":               {draining, true, 0, []slot{{}}, true},
		"gophd does not stop":            {active, true, 1, []slot{dead}, false},
		"the loop may still start one":   {draining, false, 0, []slot{{}}, false},
		"one is started and has no slot": {draining, true, 1, []slot{{}}, false},
		"a command is alive":             {draining, true, 1, []slot{alive}, false},
		"one of two is alive":            {failing, true, 2, []slot{alive, dead}, false},
	} {
		s := &Supervisor{machine: &machine{state: c.state}, runner: &runner{slots: c.slots}}
		s.loopRun.draining.Store(c.draining)
		s.loopRun.active.Store(c.runs)
		if got := s.dead(); got != c.want {
			t.Errorf("%s: dead %v", name, got)
		}
	}
}
