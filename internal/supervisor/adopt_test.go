package supervisor

import "testing"

// TestRunThatOnlyOneSideKnowsIsNotLeft: between the loop's count and the runner's places lie two goroutines, at the
// begin of a run and at its end.
func TestRunThatOnlyOneSideKnowsIsNotLeft(t *testing.T) {
	for count, want := range map[int]bool{0: true, 1: false, 2: false} {
		r := &runner{places: make([]place, 2)}
		if got := r.leave(count); got != want {
			t.Errorf("the loop has %d runs and the runner none: left is %t", count, got)
		}
	}
}
