package bench_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// many is a gophd with many jobs.
type many struct {
	cmd  *exec.Cmd
	dir  string
	read int64 // of the log, see await
}

func (m *many) log() string { return filepath.Join(m.dir, "log") }

// config writes the config of a daemon with these jobs, each a line of YAML after its name, and
// returns its file. All files are in a new directory.
func (k kit) config(tb testing.TB, jobs map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	var text strings.Builder
	fmt.Fprintf(&text, "config: {auto_restart_interval: 24h}\nlog: {file: %s/log}\njobs:\n", dir)
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		fmt.Fprintf(&text, "  %s: {%s}\n", name, jobs[name])
	}
	file := filepath.Join(dir, "many.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// same returns n jobs with the same settings.
func same(n int, settings string) map[string]string {
	jobs := map[string]string{}
	for i := range n {
		jobs[fmt.Sprintf("job-%05d", i)] = settings
	}
	return jobs
}

// run starts gophd in the foreground.
func (k kit) run(tb testing.TB, file string) *many {
	tb.Helper()
	m := &many{cmd: exec.Command(k.path("gophd"), "run", "-c", file), dir: filepath.Dir(file)}
	m.cmd.Env = append(os.Environ(), "GOPHD_STATE_DIR="+m.dir, "GOPHD_RUNTIME_DIR="+m.dir)
	if err := m.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	return m
}

// stop stops gophd and its runs.
func (m *many) stop(tb testing.TB) {
	tb.Helper()
	ended := make(chan error, 1)
	go func() { ended <- m.cmd.Wait() }()
	for {
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				tb.Fatal(err)
			}
			return
		case <-time.After(time.Second): // a second stop counts as such only after a moment
		}
	}
}

// await returns when the log has a new line with this text, since the last await.
func (m *many) await(tb testing.TB, text string) {
	tb.Helper()
	for {
		if log, err := os.Open(m.log()); err == nil {
			found := m.find(log, text)
			_ = log.Close()
			if found {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// find reads complete lines from the log, until one has the text.
func (m *many) find(log *os.File, text string) bool {
	if _, err := log.Seek(m.read, io.SeekStart); err != nil {
		return false
	}
	for lines := bufio.NewReader(log); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return false
		}
		m.read += int64(len(line))
		if strings.Contains(line, text) {
			return true
		}
	}
}

func (m *many) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(m.cmd.Process.Pid), name)
}

// BenchmarkIdleJobs measures what jobs cost that wait for their next run, a minute after the start:
// then the memory of the start is given back.
func BenchmarkIdleJobs(b *testing.B) {
	const settled, watched = 70 * time.Second, 20 * time.Second
	k := build(b)
	counts := []int{1, 100, 1000, 10000}
	daemons := map[int]*many{}
	for _, n := range counts {
		daemons[n] = k.run(b, k.config(b, same(n, `command: "true", interval: 1h, run_at_start: no, timeout: 1m`)))
	}
	for b.Loop() {
		time.Sleep(settled)
		before := map[int]int{}
		for n, m := range daemons {
			before[n] = contextSwitches(b, m)
		}
		time.Sleep(watched)
		first := field(b, daemons[1].proc("status"), "VmRSS")
		for _, n := range counts {
			m := daemons[n]
			rss := field(b, m.proc("status"), "VmRSS")
			fds, err := os.ReadDir(m.proc("fd"))
			if err != nil {
				b.Fatal(err)
			}
			report := func(value float64, unit string) { b.ReportMetric(value, fmt.Sprintf("%s/%d-jobs", unit, n)) }
			report(float64(rss), "KiB")
			report(float64(len(fds)), "descriptors")
			report(float64(field(b, m.proc("status"), "Threads")), "threads")
			report(float64(contextSwitches(b, m)-before[n]), "wake-ups")
			if n > 1 {
				report(float64(rss-first)/float64(n-1), "KiB-each")
			}
		}
	}
	for _, m := range daemons {
		m.stop(b)
	}
	b.ReportMetric(0, "ns/op")
}

func contextSwitches(tb testing.TB, m *many) (sum int) {
	tb.Helper()
	tasks, err := filepath.Glob(m.proc("task/*/status"))
	if err != nil || len(tasks) == 0 {
		tb.Fatalf("no threads: %v", err)
	}
	for _, task := range tasks {
		sum += field(tb, task, "voluntary_ctxt_switches")
	}
	return sum
}

// BenchmarkJobsAtOnce measures the delay from the due time to the first instruction of the command,
// for 100 jobs that are due every second, against a plain loop that starts 100 commands a second.
func BenchmarkJobsAtOnce(b *testing.B) {
	const jobs, ticks, rounds = 100, 10, 3
	k := build(b)
	late := map[string][]time.Duration{}
	b.Setenv("PLAIN_JOBS", strconv.Itoa(jobs))
	file := k.config(b, same(jobs, fmt.Sprintf("command: [%q, %q], interval: 1s", k.path("stamp"), k.path("stamps"))))
	for b.Loop() {
		for range rounds { // in turn, so that both run under the same conditions
			k.during(b, 0, k.start(b, k.path("plain"), "1000000000", strconv.Itoa(ticks), k.path("stamp"), k.path("stamps")))
			for _, s := range k.stamps(b)[jobs:] {
				late["plain"] = append(late["plain"], s.started-s.due)
			}
			m := k.run(b, file)
			time.Sleep(ticks * time.Second)
			m.stop(b)
			for _, s := range k.stamps(b)[jobs:] { // not those at the start
				late["gophd"] = append(late["gophd"], s.started-s.due)
			}
		}
	}
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	for _, p := range []int{50, 99} {
		plain, ours := percentile(late["plain"], p), percentile(late["gophd"], p)
		b.ReportMetric(us(plain), fmt.Sprintf("plain-p%d-us", p))
		b.ReportMetric(us(ours), fmt.Sprintf("gophd-p%d-us", p))
		b.ReportMetric(float64(ours)/float64(plain), fmt.Sprintf("ratio-p%d", p))
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRestartManyJobs measures the re-exec of a gophd with 1,000 jobs, 50 of which have a
// running command, against that of one job: how long the output of a command is not read. It fails if
// a line of any command is lost, doubled or out of order.
func BenchmarkRestartManyJobs(b *testing.B) {
	const idle, active, restarts = 950, 50, 20
	k := build(b)
	// One command writes without a pause, so that the gap can be seen; the others number their lines.
	const writer = `service: yes, command: [sh, -c, "while :; do echo line; done"]`
	counter := fmt.Sprintf(`service: yes, command: [%q]`, k.path("counter"))
	jobs := same(idle, `command: "true", interval: 1h, run_at_start: no`)
	jobs["writer"] = writer
	for i := range active - 1 {
		jobs[fmt.Sprintf("counter-%02d", i)] = counter
	}
	gaps := map[string][]time.Duration{}
	for b.Loop() {
		for name, jobs := range map[string]map[string]string{"one": {"writer": writer}, "many": jobs} {
			m := k.run(b, k.config(b, jobs))
			m.await(b, "writer: out: line")
			for range restarts {
				if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
					b.Fatal(err)
				}
				m.await(b, "writer: adopted run ")
				m.await(b, "writer: out: line")
			}
			m.stop(b)
			gaps[name] = readingGaps(b, m.log(), " writer: out: line\n")
			if len(gaps[name]) != restarts {
				b.Fatalf("%s: %d gaps for %d restarts", name, len(gaps[name]), restarts)
			}
			complete(b, m.log())
		}
	}
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	one, all := percentile(gaps["one"], 50), percentile(gaps["many"], 50)
	b.ReportMetric(ms(one), "one-p50-ms")
	b.ReportMetric(ms(all), "many-p50-ms")
	b.ReportMetric(ms(percentile(gaps["many"], 100)), "many-max-ms")
	b.ReportMetric(float64(all)/float64(one), "ratio-p50")
	b.ReportMetric(0, "ns/op")
}

// complete fails if the numbered lines of a job are not 1, 2, 3 and so on.
func complete(tb testing.TB, log string) {
	tb.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		tb.Fatal(err)
	}
	last := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m) (counter-\d+): out: line (\d+)$`).FindAllStringSubmatch(string(text), -1) {
		n, _ := strconv.Atoi(m[2])
		if n != last[m[1]]+1 {
			tb.Fatalf("%s: line %d follows line %d", m[1], n, last[m[1]])
		}
		last[m[1]] = n
	}
}
