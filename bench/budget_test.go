//go:build budget

package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gophd/internal/heartbeat/heartbeattest"
)

// The limits of the budget.
const (
	maxRSS  = 8 << 10 // KiB
	maxInit = 2 * time.Millisecond
	settle  = 3 * time.Second // after the start, until nothing of it is left to do
	watch   = 20 * time.Second
	// maxWakes is over watch with a heartbeat that needs no renewal. Go's own runtime looks round once a
	// minute (its forced GC period), whatever the program does.
	maxWakes = 2
	// perRenewal is how often threads wake for one renewal with memcached: the alarm, and the answers to
	// gets and cas, each by the poller and by the goroutine that waits.
	perRenewal = 16
)

// idle starts gophd with a job that runs once an hour and returns its PID once nothing happens any more.
func idle(t *testing.T, k kit, args ...string) int {
	t.Helper()
	cmd := k.start(t, append([]string{k.path("gophd"), "run", "-n", "idle", "-i", "1h"}, append(args, "--", "true")...)...)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	time.Sleep(settle)
	return cmd.Process.Pid
}

// field is a number from /proc/PID/status, of one thread or the whole process.
func field(t *testing.T, path, name string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+)`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no %s", path, name)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// wakes is how often threads of the process have been put to sleep by their own will, and so been woken.
func wakes(t *testing.T, pid int) (sum int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads of process %d", pid)
	}
	for _, task := range tasks {
		sum += field(t, task, "voluntary_ctxt_switches")
	}
	return sum
}

func TestBudgetIdle(t *testing.T) {
	k := build(t)
	pid := idle(t, k)
	before := wakes(t, pid)
	time.Sleep(watch)
	woken := wakes(t, pid) - before
	rss := field(t, fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	t.Logf("idle, file heartbeat: RSS %d KiB (limit %d), %d wake-ups in %s (limit %d)", rss, maxRSS, woken, watch, maxWakes)
	if rss > maxRSS || woken > maxWakes {
		t.Error("past the limit")
	}
}

func TestBudgetIdleMemcached(t *testing.T) {
	k := build(t)
	server := heartbeattest.Memcached(t)
	pid := idle(t, k, "--heartbeat", "memcached://"+server.Addr())
	time.Sleep(10 * time.Second) // the proof that nobody else runs
	before := wakes(t, pid)
	time.Sleep(watch)
	renewals := int(watch / (2 * time.Second))
	woken := wakes(t, pid) - before
	rss := field(t, fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	t.Logf("idle, memcached heartbeat: RSS %d KiB (limit %d), %d wake-ups in %s with %d renewals (limit %d)",
		rss, maxRSS, woken, watch, renewals, maxWakes+perRenewal*renewals)
	if rss > maxRSS || woken > maxWakes+perRenewal*renewals {
		t.Error("past the limit")
	}
}

// TestBudgetInit adds up what every package does before main, at its best of some starts: what else the
// machine does at the time is not the program's.
func TestBudgetInit(t *testing.T) {
	k := build(t)
	best := time.Hour
	for range 20 {
		cmd := exec.Command(k.path("gophd"), "version")
		cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		var sum time.Duration
		for line := range strings.Lines(string(out)) {
			if m := regexp.MustCompile(`^init \S+ @\S+ ms, (\S+) ms clock`).FindStringSubmatch(line); m != nil {
				ms, _ := strconv.ParseFloat(m[1], 64)
				sum += time.Duration(ms * float64(time.Millisecond))
			}
		}
		best = min(best, sum)
	}
	t.Logf("package init: %s (limit %s)", best, maxInit)
	if best > maxInit || best == 0 {
		t.Error("past the limit")
	}
}
