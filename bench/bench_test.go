// Package bench measures gophd as a whole program against a plain loop of clock_nanosleep and posix_spawn,
// and its log against other logs, in one run, so that what docs/PERFORMANCE.md states is a ratio. `make bench` runs it.
package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kit is the programs of a measurement, built in a folder of its own.
type kit struct{ dir string }

func build(tb testing.TB) kit {
	tb.Helper()
	k := kit{tb.TempDir()}
	run := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	run("make", "-s", "-C", "..", "build", "OUT="+k.path("gophd"), "VERSION=bench") // what is measured is what is shipped
	run("cc", "-O2", "-o", k.path("plain"), "programs/plain.c")
	run("cc", "-O2", "-static", "-o", k.path("stamp"), "programs/stamp.c")
	return k
}

func (k kit) path(name string) string { return filepath.Join(k.dir, name) }

// gophd runs the program with folders of its own until it ends, or for d if that is not zero.
func (k kit) gophd(tb testing.TB, d time.Duration, args ...string) {
	tb.Helper()
	k.during(tb, d, k.start(tb, append([]string{k.path("gophd"), "run", "--name", "bench"}, args...)...))
}

func (k kit) start(tb testing.TB, argv ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "GOPHD_STATE_DIR="+k.dir, "GOPHD_RUNTIME_DIR="+k.dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	return cmd
}

func (k kit) during(tb testing.TB, d time.Duration, cmd *exec.Cmd) {
	tb.Helper()
	if d > 0 {
		time.Sleep(d)
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	if err := cmd.Wait(); err != nil && d == 0 {
		tb.Fatalf("%s: %v", cmd, err)
	}
}

// stamp is one line of the command: when it began, and when it was due.
type stamp struct{ began, due time.Duration }

func (k kit) stamps(tb testing.TB) (all []stamp) {
	tb.Helper()
	text, err := os.ReadFile(k.path("stamps"))
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Remove(k.path("stamps")); err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		began, due, ok := strings.Cut(strings.TrimSpace(line), " ")
		b, err := strconv.ParseInt(began, 10, 64)
		if !ok || err != nil {
			tb.Fatalf("bad line %q", line)
		}
		d, err := strconv.ParseInt(due, 10, 64)
		if t, e := time.Parse(time.RFC3339Nano, due); e == nil {
			d, err = t.UnixNano(), nil
		}
		if err != nil {
			tb.Fatalf("bad due time %q", due)
		}
		all = append(all, stamp{time.Duration(b), time.Duration(d)})
	}
	return all
}

// rank is the p-th percentile by the nearest rank.
func rank(ds []time.Duration, p int) time.Duration {
	return slices.Sorted(slices.Values(ds))[(len(ds)*p+99)/100-1]
}

// BenchmarkInterval measures how long after its due time the command is at work, and the drift.
func BenchmarkInterval(b *testing.B) {
	const interval, ticks, rounds = 20 * time.Millisecond, 250, 4
	k := build(b)
	late := map[string][]time.Duration{}
	drift := map[string]time.Duration{}
	for b.Loop() {
		for range rounds { // in turn, so that both see the same machine
			k.during(b, 0, k.start(b, k.path("plain"), fmt.Sprint(interval.Nanoseconds()), fmt.Sprint(ticks), k.path("stamp"), k.path("stamps")))
			collect(k.stamps(b), "plain", interval, late, drift)
			k.gophd(b, ticks*interval, "--interval", interval.String(), "--", k.path("stamp"), k.path("stamps"))
			collect(k.stamps(b), "gophd", interval, late, drift)
		}
	}
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	for _, p := range []int{50, 99} {
		plain, ours := rank(late["plain"], p), rank(late["gophd"], p)
		b.ReportMetric(us(plain), fmt.Sprintf("plain-p%d-us", p))
		b.ReportMetric(us(ours), fmt.Sprintf("gophd-p%d-us", p))
		b.ReportMetric(float64(ours)/float64(plain), fmt.Sprintf("ratio-p%d", p))
	}
	b.ReportMetric(us(drift["gophd"]), "gophd-drift-us")
	b.ReportMetric(us(drift["plain"]), "plain-drift-us")
	b.ReportMetric(0, "ns/op")
}

func collect(ss []stamp, who string, interval time.Duration, late map[string][]time.Duration, drift map[string]time.Duration) {
	for _, s := range ss {
		late[who] = append(late[who], s.began-s.due)
	}
	n := len(ss) - 1
	if d := (ss[n].due - ss[0].due - time.Duration(n)*interval).Abs(); d > drift[who] {
		drift[who] = d // of the grid itself, the worst round
	}
}

// BenchmarkBackToBack measures runs per second at an interval of 0.
func BenchmarkBackToBack(b *testing.B) {
	const length, rounds = 2 * time.Second, 4
	k := build(b)
	runs := map[string]float64{}
	for b.Loop() {
		for range rounds {
			k.during(b, length, k.start(b, k.path("plain"), "0", "100000000", k.path("stamp"), k.path("stamps")))
			runs["plain"] += rate(k.stamps(b))
			k.gophd(b, length, "--interval", "0", "--", k.path("stamp"), k.path("stamps"))
			runs["gophd"] += rate(k.stamps(b))
		}
	}
	b.ReportMetric(runs["plain"]/rounds, "plain-runs/s")
	b.ReportMetric(runs["gophd"]/rounds, "gophd-runs/s")
	b.ReportMetric(runs["gophd"]/runs["plain"], "ratio")
	b.ReportMetric(0, "ns/op")
}

func rate(ss []stamp) float64 {
	return float64(len(ss)-1) / (ss[len(ss)-1].began - ss[0].began).Seconds()
}

// BenchmarkFirstRun measures the time from exec of gophd to the first act of its command.
func BenchmarkFirstRun(b *testing.B) {
	const starts = 50
	k := build(b)
	var took []time.Duration
	for b.Loop() {
		for range starts {
			before := time.Duration(time.Now().UnixNano())
			k.gophd(b, 0, "--once", "--", k.path("stamp"), k.path("stamps"))
			took = append(took, k.stamps(b)[0].began-before)
		}
	}
	b.ReportMetric(float64(rank(took, 50).Nanoseconds())/1e6, "p50-ms")
	b.ReportMetric(float64(rank(took, 1).Nanoseconds())/1e6, "min-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRestartGap measures how long nobody reads what the command writes while one image of gophd is replaced
// by the next: from the last line that the old one has read to the first that the new one has, by their times.
func BenchmarkRestartGap(b *testing.B) {
	const restarts = 30
	k := build(b)
	var gaps []time.Duration
	for b.Loop() {
		log := k.path("gap.log")
		cmd := k.start(b, k.path("gophd"), "run", "--name", "gap", "--log-file", log, "--interval", "0", "--",
			"sh", "-c", "while :; do echo line; done")
		for n := range restarts {
			time.Sleep(100 * time.Millisecond)
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				b.Fatal(err)
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				text, err := os.ReadFile(log)
				if err != nil || time.Now().After(end) {
					b.Fatalf("restart %d did not come: %v", n+1, err)
				}
				if strings.Count(string(text), " goes on, pid ") > n {
					break
				}
			}
		}
		for range 2 { // the second stop ends the run
			time.Sleep(200 * time.Millisecond)
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		gaps = append(gaps, readingGaps(b, log)...)
		if err := os.Remove(log); err != nil {
			b.Fatal(err)
		}
	}
	if len(gaps) != b.N*restarts {
		b.Fatalf("%d gaps for %d restarts", len(gaps), b.N*restarts)
	}
	b.ReportMetric(float64(rank(gaps, 50).Nanoseconds())/1e6, "p50-ms")
	b.ReportMetric(float64(rank(gaps, 100).Nanoseconds())/1e6, "max-ms")
	b.ReportMetric(0, "ns/op")
}

// readingGaps are the times between the lines of the command on either side of each new image's first word.
func readingGaps(tb testing.TB, log string) (gaps []time.Duration) {
	tb.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		tb.Fatal(err)
	}
	const stamp = "2006-01-02 15:04:05.000"
	var last time.Time
	replaced := false
	for line := range strings.Lines(string(text)) {
		at, err := time.Parse(stamp, line[:min(len(stamp), len(line))])
		if err != nil {
			tb.Fatal(err)
		}
		switch {
		case strings.Contains(line, " goes on as a new image"):
			replaced = true
		case strings.HasSuffix(line, "] out: line\n"):
			if replaced {
				gaps = append(gaps, at.Sub(last))
			}
			last, replaced = at, false
		}
	}
	return gaps
}
