package job

import (
	"testing"
	"time"
)

func TestFastestStarts(t *testing.T) {
	for _, c := range []struct {
		s    Schedule
		n    int
		want time.Duration
	}{
		{Schedule{Interval: 16 * time.Second}, 5, 64 * time.Second},
		{Schedule{Interval: time.Second}, 0, 0},
		{Schedule{Interval: time.Second}, 1, 0},
		{Schedule{}, 4, 630 * time.Millisecond}, // 90, 180 and 360 ms
		{Schedule{Service: true, Interval: 200 * time.Millisecond}, 4, 760 * time.Millisecond},
		{Schedule{}, 12, 45990*time.Millisecond + 2*27*time.Second},
	} {
		if got := c.s.FastestStarts(c.n); got != c.want {
			t.Errorf("%d starts of %+v take %v, want %v", c.n, c.s, got, c.want)
		}
	}
	if (Schedule{}).FastestStarts(1<<31-1) < time.Hour {
		t.Error("a billion starts take no time")
	}
}
