package lease

import (
	"errors"
	"testing"

	"gophd/internal/event"
	"gophd/internal/heartbeat"
)

// TestEventsOfALease: the start and the end of an outage are both at least warnings.
func TestEventsOfALease(t *testing.T) {
	held := heartbeat.Lease{State: heartbeat.Held, Fence: 7}
	with := func(change func(*heartbeat.Lease)) heartbeat.Lease {
		l := held
		change(&l)
		return l
	}
	silent := with(func(l *heartbeat.Lease) { l.Err = errors.New("no answer") })
	without := with(func(l *heartbeat.Lease) { l.Err, l.Unproven = errors.New("no answer"), true })
	answers := with(func(l *heartbeat.Lease) { l.Unproven = true })
	again := with(func(l *heartbeat.Lease) { l.Fence = 8 })
	for _, c := range []struct {
		name    string
		was, is heartbeat.Lease
		want    string
	}{
		{"the first claim", heartbeat.Lease{}, held, "info|lease acquired from S, fencing token 7"},
		{"an outage", held, silent, "warn|lease S: store unreachable, retrying: no answer"},
		{"its end", silent, held, "warn|lease S: store reachable again"},
		{"a long outage", silent, without, "error|lease S: store unreachable, running without a lease " +
			"(heartbeat.on_unreachable: continue): no answer"},
		{"the store answers, no proof yet", without, answers, "warn|lease S: store reachable again"},
		{"proven, same token", answers, held, "warn|lease S: store reachable again"},
		{"proven, new token", without, again, "warn|lease acquired from S, fencing token 8"},
		{"held after it expired", heartbeat.Lease{State: heartbeat.Out}, again,
			"warn|lease acquired from S, fencing token 8"},
		{"short before a renewal", held, heartbeat.Lease{State: heartbeat.Doubtful},
			"warn|lease S not renewed; no run starts until it is renewed"},
	} {
		e, ok := eventOf("x", "S", c.was, c.is)
		level := map[event.Level]string{event.Info: "info", event.Warn: "warn", event.Error: "error"}[e.Level]
		if got := level + "|" + e.Message(); !ok || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.name, got, ok, c.want)
		}
	}
}
