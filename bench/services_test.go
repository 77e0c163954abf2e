package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkServices measures what a running service costs whose output is captured: gophd with 500
// services, against gophd with as many jobs that wait for their first tick. It fails if a service
// takes more than 48 KiB, or if the threads grow with the services.
func BenchmarkServices(b *testing.B) {
	const (
		services = 500
		limit    = 48.0             // KiB for each
		threads  = services / 10    // more than without them
		settle   = 15 * time.Second // the looks for suspended processes are 1 s and 10 s after each start
		watch    = 20 * time.Second // the next look is a minute after it
	)
	k := build(b)
	for b.Loop() {
		waiting := k.manyJobs(b, services, "interval: 1h, run_at_start: no")
		running := k.manyJobs(b, services, "service: yes")
		for len(children(b, running)) < services {
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(settle)
		woken := wakes(b, running)
		time.Sleep(watch)
		woken = wakes(b, running) - woken
		more := func(name string) int {
			return field(b, fmt.Sprintf("/proc/%d/status", running), name) -
				field(b, fmt.Sprintf("/proc/%d/status", waiting), name)
		}
		size := float64(more("VmRSS")) / services
		b.ReportMetric(size, "KiB/service")
		b.ReportMetric(float64(more("Threads")), "more-threads")
		b.ReportMetric(float64(descriptors(b, running)-descriptors(b, waiting))/services, "descriptors/service")
		b.ReportMetric(float64(woken), "wake-ups")
		if size > limit || more("Threads") > threads {
			b.Errorf("a service takes %.1f KiB (limit %.0f), %d of them take %d threads (limit %d)",
				size, limit, services, more("Threads"), threads)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// manyJobs starts gophd with n jobs whose command waits, and returns its PID.
func (k kit) manyJobs(tb testing.TB, n int, schedule string) int {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "jobs.yaml")
	text := fmt.Sprintf("config: {auto_restart_interval: 24h}\nheartbeat: {url: 'none:'}\nlog: {file: %s.log}\n"+
		"job: {command: [sleep, '86400'], %s}\njobs:\n", file, schedule)
	for i := range n {
		text += fmt.Sprintf("  job%d: {}\n", i)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := k.start(tb, k.path("gophd"), "run", "-q", "-c", file)
	tb.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func children(tb testing.TB, pid int) (pids []string) {
	tb.Helper()
	for _, thread := range under(tb, pid, "task/*/children") {
		list, err := os.ReadFile(thread)
		if err != nil {
			tb.Fatal(err)
		}
		pids = append(pids, strings.Fields(string(list))...)
	}
	return pids
}

func descriptors(tb testing.TB, pid int) int {
	tb.Helper()
	return len(under(tb, pid, "fd/*"))
}
