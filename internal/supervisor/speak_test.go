package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/heartbeat"
	"gophd/internal/job"
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

// Every failed run is in the log with its number, in a line of its own or in a list.
func TestEachFailedRunIsNamed(t *testing.T) {
	for name, fails := range map[string]func(n uint64) bool{
		"all":          func(uint64) bool { return true },
		"every second": func(n uint64) bool { return n%2 == 0 },
		"in rows":      func(n uint64) bool { return n%50 < 30 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				s := &speaker{log: zerolog.New(&out).Level(zerolog.InfoLevel)}
				const runs = 1500
				var want []uint64
				for n := uint64(1); n <= runs; n++ {
					tick := job.Tick{Result: job.Result{Run: job.Run{Number: n}, Outcome: job.Exited}, Interval: time.Minute, Missed: n % 3 / 2}
					if fails(n) {
						tick.Code = 7
						want = append(want, n)
					}
					s.ended(tick)
					time.Sleep(10 * time.Millisecond)
				}
				s.ends("all is done")
				var got []uint64
				for _, m := range regexp.MustCompile(`run (\d+) (?:failed|took)[^"]*exit 7|more failed runs: ([-, \d]+)`).FindAllStringSubmatch(out.String(), -1) {
					for row := range strings.SplitSeq(m[1]+m[2], ", ") {
						var first, last uint64
						if n, _ := fmt.Sscanf(row, "%d-%d", &first, &last); n == 1 {
							last = first
						}
						for ; first <= last; first++ {
							got = append(got, first)
						}
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%d runs are named, want %d; the log:\n%s", len(got), len(want), out.String())
				}
				if n := strings.Count(out.String(), "\n"); n > 40 {
					t.Errorf("it took %d lines", n)
				}
			})
		})
	}
}
