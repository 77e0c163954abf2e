package supervisor

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"gophd/internal/heartbeat"
)

// TestWhatIsSaidOfALease: who sees warnings only hears of an outage and of its end, however it ends.
func TestWhatIsSaidOfALease(t *testing.T) {
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
		var out bytes.Buffer
		s := &speaker{log: zerolog.New(&out)}
		s.lease("S", c.was, c.is)
		level, text, _ := strings.Cut(c.want, "|")
		if want := `{"level":"` + level + `","message":"` + text + `"}` + "\n"; out.String() != want {
			t.Errorf("%s: got %s, want %s", c.name, out.String(), want)
		}
	}
}
