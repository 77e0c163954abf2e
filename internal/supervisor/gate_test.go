package supervisor

import (
	"testing"
	"time"

	"gophd/internal/config"
	"gophd/internal/lease"
)

// The gate of a job asks in this sequence: the lease, the record of the last holder, a place, the store. While the
// store does not have the due time, the job holds up no other job that waits for a place.
func TestGateAsksTheStoreLast(t *testing.T) {
	free, err := lease.Open(lease.Options{Config: &config.Config{}})
	if err != nil {
		t.Fatal(err)
	}
	running := NewRunning(1)
	kept := make(chan struct{})
	var asked []time.Time
	due := time.Date(2026, 11, 30, 3, 17, 0, 0, time.UTC)
	g := gate{lease: free, place: place{running: running}, resumed: make(chan struct{}), took: 1,
		keep: func(last time.Time) <-chan struct{} {
			asked = append(asked, last)
			return kept
		}}
	other := place{running: running}

	shut := g.Shut(due)
	if shut == nil || g.why() != shutByOwn || len(asked) > 0 {
		t.Errorf("before the job continues from the last record: shut by %d, and the store was asked for %v", g.why(), asked)
	}
	g.resume(0)
	if !opened(shut) {
		t.Error("nobody is told that the job continues")
	}

	if other.take() != nil {
		t.Fatal("there is no place")
	}
	if shut = g.Shut(due); shut == nil || g.why() != shutByPlace || len(asked) > 0 {
		t.Errorf("without a place: shut by %d, and the store was asked for %v", g.why(), asked)
	}
	other.leave()
	if !opened(shut) {
		t.Error("nobody is told of the place")
	}
	if g.Shut(due) != (<-chan struct{})(kept) || g.why() != shutByStore || len(asked) != 1 || !asked[0].Equal(due) {
		t.Errorf("before the store has the due time: shut by %d, and it was asked for %v", g.why(), asked)
	}
	if other.take() != nil {
		t.Error("another job waits for the store too")
	}
	other.leave()

	kept = nil
	if g.Shut(due) != nil || g.why() != notShut {
		t.Errorf("shut by %d", g.why())
	}
	if other.take() == nil {
		t.Error("the run has no place")
	}
}
