package process

import "testing"

// TestTransitions checks every cell of the table in doc.go.
func TestTransitions(t *testing.T) {
	type cell struct {
		to state
		do action
	}
	events := []event{stopRequested, nextDue, killDue, leaderExited, groupGone, delivered, detach, escapedFound, swept}
	none := func(s state) cell { return cell{s, nothing} }
	table := map[state][]cell{
		running:     {{stopping, sendFirst}, none(running), {killing, kill}, {lingering, grantGrace}, none(running), none(running), {detached, cancelTimers}, none(running), none(running)},
		stopping:    {none(stopping), {stopping, sendNext}, {killing, kill}, none(lingering), none(stopping), none(stopping), {detached, cancelTimers}, none(stopping), none(stopping)},
		killing:     {none(killing), none(killing), none(killing), {killingRest, kill}, none(killing), none(killing), {detached, cancelTimers}, none(killing), none(killing)},
		lingering:   {{lingering, sendFirst}, {lingering, sendNext}, {killingRest, kill}, none(lingering), {draining, drain}, none(lingering), {detached, cancelTimers}, none(lingering), none(lingering)},
		killingRest: {none(killingRest), none(killingRest), none(killingRest), none(killingRest), {draining, drain}, none(killingRest), {detached, cancelTimers}, none(killingRest), none(killingRest)},
		draining:    {none(draining), none(draining), none(draining), none(draining), none(draining), {exited, reap}, none(draining), none(sweeping), none(draining)},
		sweeping:    {none(sweeping), none(sweeping), none(sweeping), none(sweeping), none(sweeping), none(sweeping), {detached, cancelTimers}, none(sweeping), none(draining)},
		exited:      {none(exited), none(exited), none(exited), none(exited), none(exited), none(exited), none(exited), none(exited), none(exited)},
		detached:    {none(detached), none(detached), none(detached), none(detached), none(detached), none(detached), none(detached), none(detached), none(detached)},
	}
	for s := running; s <= detached; s++ {
		for i, e := range events {
			to, do := transition(s, e)
			if want := table[s][i]; to != want.to || do != want.do {
				t.Errorf("state %d, event %d: got state %d, action %d; want %d, %d", s, e, to, do, want.to, want.do)
			}
		}
	}
}
