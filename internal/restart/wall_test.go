package restart_test

import (
	"testing"
	"time"
	"unsafe"

	"gophd/internal/restart"
)

// A step of the wall clock between the reading of a moment and its handoff does not move it. The
// new process shows it by its own wall clock.
func TestInstantIgnoresStepsOfTheWallClock(t *testing.T) {
	for _, step := range []time.Duration{-24 * time.Hour, -time.Hour, time.Hour, 24 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			at := time.Now().Add(-time.Minute)
			read := stepped(t, at, step)
			got := restart.At(read).Time()
			if off := got.Sub(at).Abs(); off > time.Second {
				t.Errorf("the moment was moved by %v", off)
			}
			if off := got.Round(0).Sub(at.Round(0)).Abs(); off > time.Second {
				t.Errorf("it is shown as %v, off by %v from the wall clock of now", got, off)
			}
		})
	}
}

// stepped returns at as it is when the wall clock was set back by d after the reading: the same
// moment with another wall reading. Package time cannot make one, so stepped checks and writes its
// layout.
func stepped(t *testing.T, at time.Time, d time.Duration) time.Time {
	const monotonic, secondShift = 1 << 63, 30
	moved := at
	wall := (*uint64)(unsafe.Pointer(&moved))
	*wall += uint64(d/time.Second) << secondShift
	if *wall&monotonic == 0 || moved.Sub(at) != 0 || moved.Round(0).Sub(at.Round(0)) != d {
		t.Fatalf("the layout of time.Time is unknown to this test: %v became %v", at, moved)
	}
	return moved
}
