package bench_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkReload measures the start and the reload of many idle jobs, and the time between the last
// line of the old process and the first of the new one.
func BenchmarkReload(b *testing.B) {
	k := build(b)
	for _, jobs := range []int{1, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("jobs=%d", jobs), func(b *testing.B) {
			var start, reload, gap time.Duration
			for b.Loop() {
				file, log := k.path("many.yaml"), k.path("many.log")
				if err := os.WriteFile(file, []byte(idleJobs(jobs)), 0o600); err != nil {
					b.Fatal(err)
				}
				_ = os.Remove(log)
				began := time.Now()
				cmd := k.start(b, k.path("gophd"), "run", "-c", file, "--log-file", log)
				waitFor(b, log, " lease acquired ", 1)
				start += time.Since(began)
				began = time.Now()
				_ = cmd.Process.Signal(syscall.SIGHUP)
				text := waitFor(b, log, " lease acquired ", 2)
				reload += time.Since(began)
				if want := fmt.Sprintf(" %d job", jobs); !strings.Contains(text, want) {
					b.Fatalf("the log has no line with %q", want)
				}
				gap += stampOf(b, text, "resumed after re-exec").Sub(stampOf(b, text, "re-executing"))
				_ = cmd.Process.Signal(syscall.SIGTERM)
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
			}
			report := func(total time.Duration, unit string) {
				b.ReportMetric(float64(total.Milliseconds())/float64(b.N), unit)
			}
			report(start, "start-ms")
			report(reload, "reload-ms")
			report(gap, "gap-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// idleJobs returns a config with that many jobs that are not due for an hour.
func idleJobs(n int) string {
	var all strings.Builder
	all.WriteString("config: {auto_restart_interval: 24h}\njob: {interval: 1h, run_at_start: no}\njobs:\n")
	for i := range n {
		fmt.Fprintf(&all, "  job-%d: {command: [/bin/echo, 'number %d']}\n", i, i)
	}
	return all.String()
}

// waitFor returns the file once it has that many lines with text.
func waitFor(tb testing.TB, file, text string, lines int) string {
	tb.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if all, _ := os.ReadFile(file); strings.Count(string(all), text) >= lines {
			return string(all)
		}
	}
	tb.Fatalf("%s has not %d lines with %q", file, lines, text)
	return ""
}

// stampOf returns the time of the first line with text.
func stampOf(tb testing.TB, log, text string) time.Time {
	tb.Helper()
	line := regexp.MustCompile(`(?m)^(\S+ \S+) .*` + text).FindStringSubmatch(log)
	if line == nil {
		tb.Fatalf("the log has no line with %q", text)
	}
	at, err := time.Parse("2006-01-02 15:04:05.000", line[1])
	if err != nil {
		tb.Fatal(err)
	}
	return at
}
