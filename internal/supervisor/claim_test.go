package supervisor

import (
	"errors"
	"testing"

	"gophd/internal/lease"
)

func TestLeaseIsReleasedEarlyOnlyWhenNoCommandIsAliveAndNoneMayStart(t *testing.T) {
	active, dead := place{cancel: func(error) {}}, place{cancel: func(error) {}, dead: true}
	for name, c := range map[string]struct {
		state    state
		err      error
		draining bool
		runs     int32 // that the loop has started
		places   []place
		want     bool
	}{
		"the only command is dead":        {stopping, nil, true, 1, []place{dead}, true},
		"all commands are dead":           {killing, nil, true, 2, []place{dead, {}, dead}, true},
		"no run is active":                {stopping, nil, true, 0, []place{{}}, true},
		"gophd does not stop":             {serving, nil, true, 1, []place{dead}, false},
		"the loop may still start one":    {stopping, nil, false, 0, []place{{}}, false},
		"one is started and has no place": {stopping, nil, true, 1, []place{{}}, false},
		"a command is alive":              {stopping, nil, true, 1, []place{active}, false},
		"one of two is alive":             {killing, nil, true, 2, []place{active, dead}, false},
		"the new process will want it":    {killing, &fatalError{errors.New("a panic")}, true, 1, []place{dead}, false},
	} {
		r := &rig{machine: &machine{state: c.state, err: c.err}, runner: &runner{places: c.places}, lease: &lease.Lease{}}
		r.draining.Store(c.draining)
		r.underWay.Store(c.runs)
		if r.releaseEarly(); r.released != c.want {
			t.Errorf("%s: released %v", name, r.released)
		}
	}
}
