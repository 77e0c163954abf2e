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

// stream returns a Stream whose one reader writes to out.
func stream(out io.Writer) *event.Stream {
	log := zerolog.New(out).Level(zerolog.InfoLevel)
	return event.NewStream(New(Loggers{Failures: log, Rest: log}, false).Read)
}

// failedRun matches a line about one failed run or a list of failed runs.
var failedRun = regexp.MustCompile(`run (\d+) (?:failed|took)[^"]*exit code 7|more failed runs: ([-, \d]+)`)

// The log has the number of every failed run, in a line of its own or in a list.
func TestEachFailedRunIsNamed(t *testing.T) {
	for name, fails := range map[string]func(n uint64) bool{
		"all":          func(uint64) bool { return true },
		"every second": func(n uint64) bool { return n%2 == 0 },
		"in series":    func(n uint64) bool { return n%50 < 30 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				events := stream(&out)
				const runs = 1500
				var want []uint64
				for n := uint64(1); n <= runs; n++ {
					result := job.Result{Run: job.Run{Number: n}, Outcome: job.Exited}
					tick := job.Tick{Result: result, Interval: time.Minute, Missed: n % 3 / 2}
					if fails(n) {
						tick.Code = 7
						want = append(want, n)
					}
					events.Publish(event.RunEnded("x", tick))
					time.Sleep(10 * time.Millisecond)
				}
				events.Publish(event.Exiting(nil))
				var got []uint64
				for _, m := range failedRun.FindAllStringSubmatch(out.String(), -1) {
					for item := range strings.SplitSeq(m[1]+m[2], ", ") {
						var first, last uint64
						if n, _ := fmt.Sscanf(item, "%d-%d", &first, &last); n == 1 {
							last = first
						}
						for ; first <= last; first++ {
							got = append(got, first)
						}
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("the log names %d runs, want %d; the log:\n%s", len(got), len(want), out.String())
				}
				if n := strings.Count(out.String(), "\n"); n > 40 {
					t.Errorf("the log has %d lines, want at most 40", n)
				}
			})
		})
	}
}

func TestLimiterCountsWhatItSuppresses(t *testing.T) {
	var l limiter
	now := time.Now()
	allowed := 0
	for range 1000 { // a failure each 10 ms
		if _, ok := l.allow("failure", now); ok {
			allowed++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if allowed < burst || allowed > burst+2 {
		t.Errorf("%d of 1000 lines in 10 s were allowed, want about %d", allowed, burst+1)
	}
	if _, ok := l.allow("late", now); !ok {
		t.Error("an event of another kind was suppressed")
	}
	now = now.Add(period)
	if suppressed, ok := l.allow("failure", now); !ok || suppressed != 1000-allowed {
		t.Errorf("allowed is %v with %d suppressed, want true with %d", ok, suppressed, 1000-allowed)
	}
}

// A re-exec is possible while escaped processes are being stopped. Then the new process publishes
// the end of the run.
func TestEscapedProcessesAreNamedBeforeAReexec(t *testing.T) {
	var b bytes.Buffer
	events := stream(&b)
	for run := range uint64(2) {
		for pid := range 20 {
			events.Publish(event.ProcessEscaped("x", job.Run{Number: 7 + run}, 1000*int(1+run)+pid, "sleep", false, "--service"))
		}
	}
	events.Publish(event.Reexecuting())
	for run := range 2 {
		for pid := range 20 {
			if n := strings.Count(b.String(), fmt.Sprintf(" %d (sleep)", 1000*(1+run)+pid)); n != 1 {
				t.Errorf("process %d is named %d times", 1000*(1+run)+pid, n)
			}
		}
	}
	if !regexp.MustCompile(`(?s)run 7: \d+ more processes .*run 8: 20 more .*re-executing`).MatchString(b.String()) {
		t.Errorf("the log:\n%s", b.String())
	}
}

func TestEachEscapedProcessIsNamedOnce(t *testing.T) {
	var b bytes.Buffer
	log := zerolog.New(&b)
	r := New(Loggers{Failures: log, Rest: log}, false)
	events := event.NewStream(r.Read)
	for pid := range 50 {
		events.Publish(event.ProcessEscaped("x", job.Run{Number: 7}, 1000+pid, "sleep", pid%2 == 1, "--service"))
	}
	events.Publish(event.RunEnded("x", job.Tick{Result: job.Result{Run: job.Run{Number: 7}}}))
	for pid := range 50 {
		if n := strings.Count(b.String(), fmt.Sprintf(" %d (sleep)", 1000+pid)); n != 1 {
			t.Errorf("process %d is named %d times", 1000+pid, n)
		}
	}
	if lines := strings.Count(b.String(), "escaped the process group"); lines != burst+2 {
		t.Errorf("%d lines:\n%s", lines, b.String())
	}
	b.Reset()
	r.limit.kinds["escaped"].left = 1
	events.Publish(event.ProcessEscaped("x", job.Run{Number: 8}, 2000, "sleep", false, "--service"))
	if strings.Contains(b.String(), "more") {
		t.Errorf("named processes are counted again: %s", b.String())
	}
	for run := range uint64(1000) { // each run leaves one behind
		events.Publish(event.ProcessEscaped("x", job.Run{Number: 100 + run}, 3000, "sleep", true, "--service"))
		events.Publish(event.RunEnded("x", job.Tick{Result: job.Result{Run: job.Run{Number: 100 + run}}}))
	}
	if lines := strings.Count(b.String(), "escaped the process group"); lines > burst+1 || len(r.escaped.names) > 0 {
		t.Errorf("%d lines for 1000 runs, %d runs are remembered", lines, len(r.escaped.names))
	}
	for pid := range 1000 { // no run ends with which they could be listed
		events.Publish(event.ProcessEscaped("", job.Run{}, pid, "sleep", true, "--service"))
	}
	if len(r.escaped.names) > 0 {
		t.Errorf("the names of escaped processes of no known run are kept: %v", r.escaped.names)
	}
}

// With fields no line of a dump has a name twice: a parser would keep one of them. Each of several jobs
// has a line of its own.
func TestDumpHasEachFieldOnce(t *testing.T) {
	one := []event.Variable{{Name: "state", Text: "serving"}, {Name: "pid", Text: "7"},
		{Name: "job", Text: "a"}, {Name: "loop", Text: "waiting"}}
	many := append(slices.Clone(one), event.Variable{Name: "job", Text: "b"},
		event.Variable{Name: "loop", Text: "held"})
	dump := func(dump []event.Variable, jobs ...string) string {
		var out bytes.Buffer
		r := New(Loggers{Failures: zerolog.New(&out)}, true)
		read := r.Read
		if jobs != nil {
			read = r.Jobs(jobs, func(string) Loggers { return Loggers{} }).Read
		}
		read(event.Dump(dump))
		return out.String()
	}
	// The log adds time, pid and the name of the only job to every line.
	if got, want := dump(one), `{"state":"serving","loop":"waiting","message":"dump"}`+"\n"; got != want {
		t.Errorf("with one job: %s, want %s", got, want)
	}
	want := `{"state":"serving","message":"dump"}` + "\n" + `{"job":"a","loop":"waiting","message":"dump"}` + "\n" +
		`{"job":"b","loop":"held","message":"dump"}` + "\n"
	if got := dump(many, "a", "b"); got != want {
		t.Errorf("with several jobs: %s, want %s", got, want)
	}
}
