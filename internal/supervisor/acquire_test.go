package supervisor

import (
	"errors"
	"testing"

	"gophd/internal/lease"
)

func TestLeaseIsReleasedEarlyOnlyWhenNoCommandIsAliveAndNoneMayStart(t *testing.T) {
	alive, dead := place{cancel: func(error) {}}, place{cancel: func(error) {}, dead: true}
	for name, c := range map[string]struct {
		state    state
		err      error
		draining bool
		runs     int32 // that the loop has started
		places   []place
		want     bool
	}{
		"the only command is dead":        {draining, nil, true, 1, []place{dead}, true},
		"all commands are dead":           {failing, nil, true, 2, []place{dead, {}, dead}, true},
		"no run is active":                {draining, nil, true, 0, []place{{}}, true},
		"gophd does not stop":             {active, nil, true, 1, []place{dead}, false},
		"the loop may still start one":    {draining, nil, false, 0, []place{{}}, false},
		"one is started and has no place": {draining, nil, true, 1, []place{{}}, false},
		"a command is alive":              {draining, nil, true, 1, []place{alive}, false},
		"one of two is alive":             {failing, nil, true, 2, []place{alive, dead}, false},
		"the new process will want it":    {failing, Fatal(errors.New("a panic")), true, 1, []place{dead}, false},
	} {
		s := &Supervisor{machine: &machine{state: c.state, err: c.err}, runner: &runner{places: c.places}, lease: &lease.Lease{},
			o: Options{Host: host{}}}
		s.turning.draining.Store(c.draining)
		s.turning.active.Store(c.runs)
		if s.releaseEarly(); s.acquire.released != c.want {
			t.Errorf("%s: released %v", name, s.acquire.released)
		}
	}
}

type host struct{}

func (host) Locked()            {}
func (host) TakePIDFile() error { return nil }
func (host) RemovePIDFile()     {}
