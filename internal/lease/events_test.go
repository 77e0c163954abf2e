package lease

import (
	"errors"
	"testing"

	"gophd/internal/event"
	"gophd/internal/heartbeat"
)

// Who sees warnings only learns of an outage and of its end, however it ends.
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
	anew := with(func(l *heartbeat.Lease) { l.Fence = 8 })
	for _, c := range []struct {
		name    string
		was, is heartbeat.Lease
		want    string
	}{
		{"the first claim", heartbeat.Lease{}, held, "info|heartbeat S is ours, fence 7"},
		{"an outage", held, silent, "warn|heartbeat S cannot be reached, trying on: no answer"},
		{"its end", silent, held, "warn|heartbeat S answers again"},
		{"a long one", silent, without, "error|heartbeat S cannot be reached, going on without it as configured: no answer"},
		{"it answers, and does not say yet whose it is", without, answers, "warn|heartbeat S answers again"},
		{"it is as before", answers, held, "warn|heartbeat S answers again"},
		{"it had forgotten us", without, anew, "warn|heartbeat S is ours, fence 8"},
		{"after we had lost it", heartbeat.Lease{State: heartbeat.Out}, anew, "warn|heartbeat S is ours, fence 8"},
		{"short before it was asked", held, heartbeat.Lease{State: heartbeat.Doubtful}, "warn|heartbeat S cannot be renewed, no run starts until it is"},
	} {
		e, ok := eventOf("x", "S", c.was, c.is)
		level := map[event.Level]string{event.Info: "info", event.Warn: "warn", event.Error: "error"}[e.Level]
		if got := level + "|" + e.Message(); !ok || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.name, got, ok, c.want)
		}
	}
}
