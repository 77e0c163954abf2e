package eventlog

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/event"
	"gophd/internal/job"
)

// stream has one reader, which writes to the log out.
func stream(out io.Writer) *event.Stream {
	return event.NewStream(New(zerolog.New(out).Level(zerolog.InfoLevel), zerolog.Nop(), false).Read)
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
				events := stream(&out)
				const runs = 1500
				var want []uint64
				for n := uint64(1); n <= runs; n++ {
					tick := job.Tick{Result: job.Result{Run: job.Run{Number: n}, Outcome: job.Exited}, Interval: time.Minute, Missed: n % 3 / 2}
					if fails(n) {
						tick.Code = 7
						want = append(want, n)
					}
					events.Publish(event.RunEnded("x", tick))
					time.Sleep(10 * time.Millisecond)
				}
				events.Publish(event.Exiting("all is done"))
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

func TestLimiterCountsWhatItSuppresses(t *testing.T) {
	var l limiter
	now := time.Now()
	let := 0
	for range 1000 { // a failure each 10 ms
		if _, ok := l.allow("failure", now); ok {
			let++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if let < burst || let > burst+2 {
		t.Errorf("%d of 1000 lines in 10 s were let through, want about %d", let, burst+1)
	}
	if _, ok := l.allow("overrun", now); !ok {
		t.Error("another kind was kept back")
	}
	now = now.Add(period)
	if skipped, ok := l.allow("failure", now); !ok || skipped != 1000-let {
		t.Errorf("let through %v with %d skipped, want true with %d", ok, skipped, 1000-let)
	}
}

// A re-exec may come while they are being stopped, and the end of the run is then another process's event.
func TestEscapedProcessesAreNamedBeforeAReexec(t *testing.T) {
	var b bytes.Buffer
	events := stream(&b)
	for run := range uint64(2) {
		for pid := range 20 {
			events.Publish(event.ProcessEscaped("x", job.Run{Number: 7 + run}, 1000*int(1+run)+pid, "sleep", false))
		}
	}
	events.Publish(event.Exiting("a new image goes on"))
	for run := range 2 {
		for pid := range 20 {
			if n := strings.Count(b.String(), fmt.Sprintf("pid %d (sleep)", 1000*(1+run)+pid)); n != 1 {
				t.Errorf("process %d is named %d times", 1000*(1+run)+pid, n)
			}
		}
	}
	if !regexp.MustCompile(`(?s)run 7 has left \d+ more .*run 8 has left 20 more .*a new image goes on`).MatchString(b.String()) {
		t.Errorf("the log:\n%s", b.String())
	}
}

func TestEachEscapedProcessIsNamedOnce(t *testing.T) {
	var b bytes.Buffer
	r := New(zerolog.New(&b), zerolog.Nop(), false)
	events := event.NewStream(r.Read)
	for pid := range 50 {
		events.Publish(event.ProcessEscaped("x", job.Run{Number: 7}, 1000+pid, "sleep", pid%2 == 1))
	}
	events.Publish(event.RunEnded("x", job.Tick{Result: job.Result{Run: job.Run{Number: 7}}}))
	for pid := range 50 {
		if n := strings.Count(b.String(), fmt.Sprintf("pid %d (sleep)", 1000+pid)); n != 1 {
			t.Errorf("stray %d is named %d times", 1000+pid, n)
		}
	}
	if lines := strings.Count(b.String(), "behind"); lines != burst+2 {
		t.Errorf("%d lines:\n%s", lines, b.String())
	}
	b.Reset()
	r.limit.kinds["stray"].left = 1
	events.Publish(event.ProcessEscaped("x", job.Run{Number: 8}, 2000, "sleep", false))
	if strings.Contains(b.String(), "more") {
		t.Errorf("those that were named are counted again: %s", b.String())
	}
	for run := range uint64(1000) { // a loop that leaves one at each run
		events.Publish(event.ProcessEscaped("x", job.Run{Number: 100 + run}, 3000, "sleep", true))
		events.Publish(event.RunEnded("x", job.Tick{Result: job.Result{Run: job.Run{Number: 100 + run}}}))
	}
	if lines := strings.Count(b.String(), "behind"); lines > burst+1 || len(r.escaped.names) > 0 {
		t.Errorf("%d lines of a loop, %d runs are remembered", lines, len(r.escaped.names))
	}
}
