package supervisor

import (
	"errors"
	"testing"

	"gophd/internal/lease"
)

func TestLeaseIsReleasedEarlyOnlyIfNoCommandIsAliveAndNoneMayStart(t *testing.T) {
	alive, dead := slot{cancel: func(error) {}}, slot{cancel: func(error) {}, dead: true}
	for name, c := range map[string]struct {
		state    state
		err      error
		draining bool
		runs     int32 // that the loop has started
		slots    []slot
		want     bool
	}{
		"the only command is dead":       {draining, nil, true, 1, []slot{dead}, true},
		"all commands are dead":          {failing, nil, true, 2, []slot{dead, {}, dead}, true},
		"no run is active":               {draining, nil, true, 0, []slot{{}}, true},
		"gophd does not stop":            {active, nil, true, 1, []slot{dead}, false},
		"the loop may still start one":   {draining, nil, false, 0, []slot{{}}, false},
		"one is started and has no slot": {draining, nil, true, 1, []slot{{}}, false},
		"a command is alive":             {draining, nil, true, 1, []slot{alive}, false},
		"one of two is alive":            {failing, nil, true, 2, []slot{alive, dead}, false},
		"the new process may need it":    {failing, Fatal(errors.New("a panic")), true, 1, []slot{dead}, false},
	} {
		s := &Supervisor{machine: &machine{state: c.state, err: c.err}, runner: &runner{slots: c.slots},
			lease: &lease.Lease{},
			o:     Options{Host: host{}}}
		s.loopRun.draining.Store(c.draining)
		s.loopRun.active.Store(c.runs)
		if s.releaseEarly(); s.acquire.released != c.want {
			t.Errorf("%s: released %v", name, s.acquire.released)
		}
	}
}

type host struct{}

func (host) OnLocked()          {}
func (host) TakePIDFile() error { return nil }
func (host) RemovePIDFile()     {}
