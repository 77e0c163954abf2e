// Package bench measures the gophd program against a plain loop of clock_nanosleep and posix_spawn,
// and its log against other logs, in one run. So the figures in docs/PERFORMANCE.md are ratios.
// `make bench` runs it.
package bench_test

import (
	"bytes"
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

// kit is the directory with the programs of a measurement.
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
	// The measured program is built like a release.
	run("make", "-s", "-C", "..", "build", "OUT="+k.path("gophd"), "VERSION=bench")
	run("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", k.path("smallest"), "./programs/smallest")
	run("cc", "-O2", "-o", k.path("plain"), "programs/plain.c")
	for _, name := range []string{"stamp", "counter"} {
		run("cc", "-O2", "-static", "-o", k.path(name), "programs/"+name+".c")
	}
	return k
}

func (k kit) path(name string) string { return filepath.Join(k.dir, name) }

// gophd runs the program with its own directories until it exits, or for d if that is not zero.
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

// stamp is one line of the command: its start time and its due time.
type stamp struct{ started, due time.Duration }

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
		started, due, ok := strings.Cut(strings.TrimSpace(line), " ")
		s, err := strconv.ParseInt(started, 10, 64)
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
		all = append(all, stamp{time.Duration(s), time.Duration(d)})
	}
	return all
}

// percentile returns the p-th percentile by the nearest rank.
func percentile(ds []time.Duration, p int) time.Duration {
	return slices.Sorted(slices.Values(ds))[(len(ds)*p+99)/100-1]
}

// BenchmarkInterval measures the delay from the due time to the start of the command, and the
// drift.
func BenchmarkInterval(b *testing.B) {
	const interval, ticks, rounds = 20 * time.Millisecond, 250, 4
	k := build(b)
	late := map[string][]time.Duration{}
	drift := map[string]time.Duration{}
	for b.Loop() {
		for range rounds { // in turn, so that both run under the same conditions
			k.during(b, 0, k.start(b, k.path("plain"), fmt.Sprint(interval.Nanoseconds()), fmt.Sprint(ticks),
				k.path("stamp"), k.path("stamps")))
			collect(k.stamps(b), "plain", interval, late, drift)
			k.gophd(b, ticks*interval, "--interval", interval.String(), "--", k.path("stamp"), k.path("stamps"))
			collect(k.stamps(b), "gophd", interval, late, drift)
		}
	}
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	for _, p := range []int{50, 99} {
		plain, ours := percentile(late["plain"], p), percentile(late["gophd"], p)
		b.ReportMetric(us(plain), fmt.Sprintf("plain-p%d-us", p))
		b.ReportMetric(us(ours), fmt.Sprintf("gophd-p%d-us", p))
		b.ReportMetric(float64(ours)/float64(plain), fmt.Sprintf("ratio-p%d", p))
	}
	b.ReportMetric(us(drift["gophd"]), "gophd-drift-us")
	b.ReportMetric(us(drift["plain"]), "plain-drift-us")
	b.ReportMetric(0, "ns/op")
}

func collect(ss []stamp, name string, interval time.Duration,
	late map[string][]time.Duration, drift map[string]time.Duration) {
	for _, s := range ss {
		late[name] = append(late[name], s.started-s.due)
	}
	n := len(ss) - 1
	if d := (ss[n].due - ss[0].due - time.Duration(n)*interval).Abs(); d > drift[name] {
		drift[name] = d // of the grid itself, in the worst round
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
	return float64(len(ss)-1) / (ss[len(ss)-1].started - ss[0].started).Seconds()
}

// smallest returns how long the smallest Go program takes from its start to its exit.
func (k kit) smallest(tb testing.TB) time.Duration {
	tb.Helper()
	started := time.Now()
	if err := exec.Command(k.path("smallest")).Run(); err != nil {
		tb.Fatal(err)
	}
	return time.Since(started)
}

// firstRuns returns the times from the exec of gophd to the first instruction of its command, and
// the times of the smallest Go program, in turn, so that both run under the same conditions.
func (k kit) firstRuns(tb testing.TB, starts int) (first, smallest []time.Duration) {
	tb.Helper()
	for range starts {
		smallest = append(smallest, k.smallest(tb))
		before := time.Duration(time.Now().UnixNano())
		k.gophd(tb, 0, "--once", "--", k.path("stamp"), k.path("stamps"))
		first = append(first, k.stamps(tb)[0].started-before)
	}
	return first, smallest
}

// BenchmarkFirstRun measures the time from the exec of gophd to the first instruction of its
// command, and that of s6-supervise, if it is installed.
func BenchmarkFirstRun(b *testing.B) {
	const starts = 50
	k := build(b)
	var first, smallest, s6 []time.Duration
	for b.Loop() {
		for range starts { // in turn, so that all run under the same conditions
			one, small := k.firstRuns(b, 1)
			first, smallest = append(first, one...), append(smallest, small...)
			if _, err := exec.LookPath("s6-supervise"); err == nil {
				s6 = append(s6, k.firstOfS6(b))
			}
		}
	}
	reportAgainstSmallest(b, first, smallest)
	if s6 != nil {
		b.ReportMetric(float64(percentile(s6, 50).Nanoseconds())/1e6, "s6-p50-ms")
		b.ReportMetric(float64(percentile(first, 50))/float64(percentile(s6, 50)), "ratio-s6-p50")
	}
}

// firstOfS6 returns the time from the exec of s6-supervise to the first instruction of its command.
func (k kit) firstOfS6(tb testing.TB) time.Duration {
	tb.Helper()
	service := k.path("service")
	if err := os.Mkdir(service, 0o700); err == nil { // later starts find what the first one has made
		err = os.Link(k.path("stamp"), filepath.Join(service, "run"))
		if err != nil {
			tb.Fatal(err)
		}
	}
	cmd := exec.Command("s6-supervise", service)
	cmd.Env = append(os.Environ(), "PLAIN_DUE=0", "STAMPS="+k.path("stamps"))
	before := time.Duration(time.Now().UnixNano())
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	for text := []byte(nil); !bytes.HasSuffix(text, []byte("\n")); text, _ = os.ReadFile(k.path("stamps")) {
		time.Sleep(time.Millisecond)
	}
	_ = cmd.Process.Kill() // between two runs, a second apart
	_ = cmd.Wait()
	return k.stamps(tb)[0].started - before
}

func reportAgainstSmallest(b *testing.B, took, smallest []time.Duration) {
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	b.ReportMetric(ms(percentile(took, 50)), "p50-ms")
	b.ReportMetric(ms(percentile(took, 100)), "max-ms")
	b.ReportMetric(ms(percentile(smallest, 50)), "smallest-p50-ms")
	b.ReportMetric(float64(percentile(took, 50))/float64(percentile(smallest, 50)), "ratio-p50")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRestartGap measures how long the output of the command is not read during a re-exec.
func BenchmarkRestartGap(b *testing.B) {
	k := build(b)
	var gaps, smallest []time.Duration
	for b.Loop() {
		gaps = k.restartGaps(b, 30, func() { smallest = append(smallest, k.smallest(b)) })
	}
	reportAgainstSmallest(b, gaps, smallest)
}

// restartGaps restarts gophd while its command writes continuously. A gap is the time from the last
// line that the old process has read to the first line that the new one has read. between is called
// before each restart.
func (k kit) restartGaps(tb testing.TB, restarts int, between func()) []time.Duration {
	tb.Helper()
	log := k.path("gap.log")
	cmd := k.start(tb, k.path("gophd"), "run", "--name", "gap", "--log-file", log, "--interval", "0", "--",
		"sh", "-c", "while :; do echo line; done")
	defer func() { _ = cmd.Process.Kill() }()
	await := func(what string, times int) {
		tb.Helper()
		for {
			text, err := os.ReadFile(log)
			if err == nil && strings.Count(string(text), what) >= times {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	await("out: line", 1)
	for n := range restarts {
		between()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			tb.Fatal(err)
		}
		await("adopted run ", n+1)
	}
	stop := func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			tb.Fatal(err)
		}
	}
	stop()
	await("draining: waiting for run 1", 1)
	time.Sleep(200 * time.Millisecond) // an earlier signal counts as the same request
	stop()
	if err := cmd.Wait(); err != nil {
		tb.Fatal(err)
	}
	gaps := readingGaps(tb, log, "] out: line\n")
	if len(gaps) != restarts {
		tb.Fatalf("%d gaps for %d restarts", len(gaps), restarts)
	}
	if err := os.Remove(log); err != nil {
		tb.Fatal(err)
	}
	return gaps
}

// readingGaps returns the times between the last line of the command before each new process and
// the first line after it. Its lines end with suffix.
func readingGaps(tb testing.TB, log, suffix string) (gaps []time.Duration) {
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
		case strings.Contains(line, " resumed after re-exec"):
			replaced = true
		case strings.HasSuffix(line, suffix):
			if replaced {
				gaps = append(gaps, at.Sub(last))
			}
			last, replaced = at, false
		}
	}
	return gaps
}
