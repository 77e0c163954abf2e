//go:build budget

package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	// perRenewal is how often threads are put to sleep for one renewal with memcached: the alarm, gets, the
	// moment between, cas, each served by the poller, the goroutine that waits and the one that works, and
	// Go's scheduler looks for more work before each sleep. Measured: about 40.
	perRenewal = 64
)

// idle starts gophd with a job that runs once an hour.
func idle(t *testing.T, k kit, args ...string) int {
	t.Helper()
	cmd := k.start(t, append([]string{k.path("gophd"), "run", "-i", "1h"}, append(args, "--", "true")...)...)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
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

// idleBudget holds three idle daemons against the limits, by their medians: how much of a file's pages the
// kernel maps at once differs by some dozens of kilobytes from start to start.
func idleBudget(t *testing.T, what string, settled time.Duration, most int, args ...string) {
	t.Helper()
	k := build(t)
	var pids []int
	for i := range 3 {
		pids = append(pids, idle(t, k, append([]string{"-n", fmt.Sprintf("idle%d", i)}, args...)...))
	}
	time.Sleep(settle + settled)
	before := make([]int, len(pids))
	for i, pid := range pids {
		before[i] = wakes(t, pid)
	}
	time.Sleep(watch)
	var woken, rss []int
	for i, pid := range pids {
		woken = append(woken, wakes(t, pid)-before[i])
		rss = append(rss, field(t, fmt.Sprintf("/proc/%d/status", pid), "VmRSS"))
	}
	slices.Sort(woken)
	slices.Sort(rss)
	t.Logf("idle, %s: RSS %d KiB, median of %d (limit %d); %d wake-ups in %s, median of %d (limit %d)",
		what, rss[1], rss, maxRSS, woken[1], watch, woken, most)
	if rss[1] > maxRSS || woken[1] > most {
		t.Error("past the limit")
	}
}

func TestBudgetIdle(t *testing.T) {
	idleBudget(t, "file heartbeat", 0, maxWakes)
}

func TestBudgetIdleMemcached(t *testing.T) {
	server := heartbeattest.Memcached(t)
	renewals := int(watch / (2 * time.Second))
	idleBudget(t, fmt.Sprintf("memcached heartbeat, %d renewals", renewals), 11*time.Second, // the proof that nobody else runs
		maxWakes+perRenewal*renewals, "--heartbeat", "memcached://"+server.Addr())
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
