package supervisor

import (
	"testing"
	"time"
)

// A run is looked at 1 s, 10 s and then every minute after its start.
func TestNextLook(t *testing.T) {
	started := time.Now()
	for _, c := range []struct{ uptime, want time.Duration }{
		{0, time.Second},
		{999 * time.Millisecond, time.Second},
		{time.Second, 10 * time.Second},
		{9 * time.Second, 10 * time.Second},
		{10 * time.Second, time.Minute},
		{59 * time.Second, time.Minute},
		{time.Minute, 2 * time.Minute},
		{90*time.Second + time.Hour, 2*time.Minute + time.Hour},
	} {
		if got := nextLook(started, started.Add(c.uptime)).Sub(started); got != c.want {
			t.Errorf("after %s the next look is at %s, want %s", c.uptime, got, c.want)
		}
	}
}
