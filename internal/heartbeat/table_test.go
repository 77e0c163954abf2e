package heartbeat

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// manual has the table of TestTableOfTheManual.
const manual = "../../docs/heartbeat.md"

// defaults are those of heartbeat.ttl, renew and stop_grace.
var defaults = timing{10 * time.Second, 2 * time.Second, 2 * time.Second}

// A fault of the table lasts for that long, with that instance as the holder.
type tableFault struct {
	name string
	does func(w *world, holder *process, long time.Duration)
}

// at changes the world.
func at(w *world, change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// during changes the world for so long.
func during(w *world, long time.Duration, change, back func()) {
	at(w, change)
	w.sleep(long)
	at(w, back)
}

var tableFaults = []tableFault{
	{"holder stopped in order", func(w *world, p *process, _ time.Duration) {
		at(w, func() { p.command.dies = w.now(); stop(w, p, nil) })
	}},
	{"holder killed, with its command", func(w *world, p *process, _ time.Duration) { crash(w, p, nil) }},
	{"key evicted", func(w *world, _ *process, _ time.Duration) {
		at(w, func() { delete(w.server.items, simKey) })
	}},
	{"holder cut off from the server", func(w *world, p *process, long time.Duration) {
		during(w, long, func() { p.cut = true }, func() { p.cut = false })
	}},
	{"server cut off from all", func(w *world, _ *process, long time.Duration) {
		set := func(cut bool) {
			for _, p := range w.slots[:2] {
				p.cut = cut
			}
		}
		during(w, long, func() { set(true) }, func() { set(false) })
	}},
	{"server stopped (SIGSTOP)", func(w *world, _ *process, long time.Duration) {
		during(w, long, w.server.pause, w.server.resume)
	}},
	{"server stopped, holder cut off for longer", func(w *world, p *process, long time.Duration) {
		during(w, long, func() { w.server.pause(); p.cut = true }, w.server.resume)
		w.sleep(20 * time.Second)
		at(w, func() { p.cut = false })
	}},
	{"server restarted, its memory lost", func(w *world, _ *process, long time.Duration) {
		lose := func() { w.server.life++; clear(w.server.items); w.server.down = true }
		during(w, long, lose, func() { w.server.down = false })
	}},
}

// outage runs one fault against a holder and a standby, and returns for how long no command ran
// because of it.
func outage(t *testing.T, seed uint64, fault tableFault, long time.Duration) (idle time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		rng := dice(seed, 0)
		w := &world{
			rules: rules{margin: 2 * time.Second, steady: &defaults}, start: time.Now(), commands: map[*command]bool{},
			over: make(chan struct{}), gone: map[string]bool{},
		}
		w.server = server{
			w: w, rng: dice(seed, 1), items: map[string]item{}, phase: between(rng, time.Hour, time.Hour+time.Second),
			drift: between(rng, 800*time.Microsecond, 10*time.Millisecond),
		}
		holder := w.spawn(0, true, rng.Uint64())
		w.sleep(20 * time.Second)
		w.spawn(1, true, rng.Uint64())
		w.sleep(between(rng, 10*time.Second, 14*time.Second))
		w.mu.Lock()
		w.idle = 0
		if holder.command == nil {
			t.Error("the holder runs nothing")
		}
		w.mu.Unlock()
		fault.does(w, holder, long)
		w.sleep(30 * time.Second)
		w.mu.Lock()
		if len(w.commands) != 1 {
			t.Errorf("seed %d: %s for %s: %d commands run half a minute later", seed, fault.name, long, len(w.commands))
		}
		idle = w.idle
		if w.violation != "" {
			t.Errorf("seed %d: %s", seed, w.violation)
		} else {
			close(w.over)
		}
		w.mu.Unlock()
		w.all.Wait()
	})
	return idle
}

// TestTableOfTheManual simulates each fault of the manual's table, with the default settings, and
// demands that no command runs for as long as it says at most, and not for much less. With -v it
// prints the table; -seeds=100 makes it exact.
func TestTableOfTheManual(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("\n| U in seconds |"))
	head, text, _ := bytes.Cut(text, []byte("\n"))
	var lengths []time.Duration
	for _, cell := range strings.Split(strings.Trim(string(head), "| "), "|") {
		long, err := time.ParseDuration(strings.ReplaceAll(cell, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		lengths = append(lengths, long)
	}
	slack := 10. // how much less three faults of a kind may show, in seconds
	if *flagSeeds >= 100 {
		slack = 3
	}
	for _, fault := range tableFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			_, row, found := strings.Cut(string(text), "\n| "+fault.name+" |")
			row, _, _ = strings.Cut(row, "\n")
			cells := strings.Split(strings.Trim(row, "| "), "|") // one cell where the fault has no length
			if !found || len(cells) > len(lengths) {
				t.Fatalf("%s has no such row: %q", manual, row)
			}
			printed := "| " + fault.name
			for i, cell := range cells {
				said, err := strconv.ParseFloat(strings.TrimSpace(cell), 64)
				if err != nil {
					t.Fatal(err)
				}
				var most time.Duration
				seeds(3, func(seed uint64) bool {
					most = max(most, outage(t, seed, fault, lengths[i]))
					return true
				})
				if most.Seconds() > said || most.Seconds() < said-slack {
					t.Errorf("for %s no command ran for %s; the manual says %g s", lengths[i], most, said)
				}
				printed += fmt.Sprintf(" | %.1f", math.Ceil(most.Seconds()*10)/10)
			}
			t.Log(printed + " |")
		})
	}
}
