package process

import "testing"

// TestTable walks every cell of the table in doc.go.
func TestTable(t *testing.T) {
	type cell struct {
		to state
		do action
	}
	events := []event{stopAsked, nextDue, killDue, leaderEnded, groupGone, delivered, left, escapeesFound, swept}
	none := func(s state) cell { return cell{s, nothing} }
	table := map[state][]cell{
		running:  {{stopping, ask}, none(running), {killing, kill}, {leaving, courtesy}, none(running), none(running), {handed, give}, none(running), none(running)},
		stopping: {none(stopping), {stopping, next}, {killing, kill}, none(leaving), none(stopping), none(stopping), {handed, give}, none(stopping), none(stopping)},
		killing:  {none(killing), none(killing), none(killing), {purging, kill}, none(killing), none(killing), {handed, give}, none(killing), none(killing)},
		leaving:  {{leaving, ask}, {leaving, next}, {purging, kill}, none(leaving), {draining, drain}, none(leaving), {handed, give}, none(leaving), none(leaving)},
		purging:  {none(purging), none(purging), none(purging), none(purging), {draining, drain}, none(purging), {handed, give}, none(purging), none(purging)},
		draining: {none(draining), none(draining), none(draining), none(draining), none(draining), {ended, reap}, none(draining), none(sweeping), none(draining)},
		sweeping: {none(sweeping), none(sweeping), none(sweeping), none(sweeping), none(sweeping), none(sweeping), {handed, give}, none(sweeping), none(draining)},
		ended:    {none(ended), none(ended), none(ended), none(ended), none(ended), none(ended), none(ended), none(ended), none(ended)},
		handed:   {none(handed), none(handed), none(handed), none(handed), none(handed), none(handed), none(handed), none(handed), none(handed)},
	}
	for s := running; s <= handed; s++ {
		for i, e := range events {
			to, do := transition(s, e)
			if want := table[s][i]; to != want.to || do != want.do {
				t.Errorf("state %d, event %d: got state %d, action %d; want %d, %d", s, e, to, do, want.to, want.do)
			}
		}
	}
}
