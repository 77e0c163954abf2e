package process

import "testing"

// TestTable walks every cell of the table in doc.go.
func TestTable(t *testing.T) {
	type cell struct {
		to state
		do action
	}
	events := []event{stopAsked, killDue, leaderEnded, groupGone, delivered, left}
	table := map[state][]cell{
		running:  {{stopping, term}, {killing, kill}, {leaving, courtesy}, {running, nothing}, {running, nothing}, {handed, nothing}},
		stopping: {{stopping, nothing}, {killing, kill}, {leaving, nothing}, {stopping, nothing}, {stopping, nothing}, {stopping, nothing}},
		killing:  {{killing, nothing}, {killing, nothing}, {purging, kill}, {killing, nothing}, {killing, nothing}, {killing, nothing}},
		leaving:  {{leaving, term}, {purging, kill}, {leaving, nothing}, {draining, drain}, {leaving, nothing}, {leaving, nothing}},
		purging:  {{purging, nothing}, {purging, nothing}, {purging, nothing}, {draining, drain}, {purging, nothing}, {purging, nothing}},
		draining: {{draining, nothing}, {draining, nothing}, {draining, nothing}, {draining, nothing}, {ended, reap}, {draining, nothing}},
		ended:    {{ended, nothing}, {ended, nothing}, {ended, nothing}, {ended, nothing}, {ended, nothing}, {ended, nothing}},
		handed:   {{handed, nothing}, {handed, nothing}, {handed, nothing}, {handed, nothing}, {handed, nothing}, {handed, nothing}},
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
