//go:build budget

package bench_test

import (
	"fmt"
	"math"
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

// The limits of the budget. A limit in time is a ratio to the smallest Go program, measured in the same run: machines
// differ by a factor of ten in how fast they start processes.
const (
	maxRSS        = 8 << 10 // KiB
	maxInit       = 1.6     // of the time that the smallest Go program takes from exec to exit
	maxFirstRun   = 6.0     // exec of gophd to the first act of its command, likewise
	maxRestartGap = 10.0    // how long nobody reads the command's output during a restart, likewise

	settle = 3 * time.Second // after the first run, until nothing of the start is left to do
	watch  = 20 * time.Second
	// maxWakes is over watch with a heartbeat that needs no renewal. Go's own runtime looks round once a
	// minute (its forced GC period), whatever the program does.
	maxWakes = 2
	// perRenewal is how often threads are put to sleep for one renewal with memcached: the alarm, gets, the
	// moment between, cas, each served by the poller, the goroutine that waits and the one that works, and
	// Go's scheduler looks for more work before each sleep. Measured: about 40.
	perRenewal = 64
	renew      = 2 * time.Second // heartbeat.renew, as is the default
)

// idle starts gophd with a job that runs once an hour, and returns when it has run.
func idle(t *testing.T, k kit, name string, args ...string) int {
	t.Helper()
	ran := k.path(name + ".ran")
	cmd := k.start(t, append([]string{k.path("gophd"), "run", "-n", name, "-i", "1h"}, append(args, "--", "touch", ran)...)...)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for {
		if _, err := os.Stat(ran); err == nil {
			return cmd.Process.Pid
		}
		time.Sleep(50 * time.Millisecond)
	}
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
// kernel maps at once differs by some dozens of kilobytes from start to start. perRenewal is what a renewal may cost.
func idleBudget(t *testing.T, what string, perRenewal int, args ...string) {
	t.Helper()
	k := build(t)
	var pids []int
	for i := range 3 {
		pids = append(pids, idle(t, k, fmt.Sprintf("idle%d", i), args...))
	}
	time.Sleep(settle)
	before := make([]int, len(pids))
	began := time.Now()
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
	passed := time.Since(began)
	most := maxWakes + perRenewal*int(passed/renew+1)
	t.Logf("idle, %s: RSS %d KiB, median of %d (limit %d); %d wake-ups in %s, median of %d (limit %d)",
		what, rss[1], rss, maxRSS, woken[1], passed.Round(time.Second), woken, most)
	if rss[1] > maxRSS || woken[1] > most {
		t.Error("past the limit")
	}
}

func TestBudgetIdle(t *testing.T) {
	idleBudget(t, "file heartbeat", 0)
}

func TestBudgetIdleMemcached(t *testing.T) {
	server := heartbeattest.Memcached(t)
	idleBudget(t, "memcached heartbeat", perRenewal, "--heartbeat", "memcached://"+server.Addr())
}

// within holds a figure against the time that the smallest Go program took in the same run.
func within(t *testing.T, what string, took, smallest time.Duration, limit float64) {
	t.Helper()
	ratio := float64(took) / float64(smallest)
	t.Logf("%s: %s, %.2f of the smallest Go program's %s (limit %.1f)", what, took.Round(time.Microsecond), ratio,
		smallest.Round(time.Microsecond), limit)
	if ratio > limit || took <= 0 {
		t.Error("past the limit")
	}
}

// TestBudgetInit adds up what every package does before main, at its best of some starts: what else the
// machine does at the time is not the program's.
func TestBudgetInit(t *testing.T) {
	k := build(t)
	best, smallest := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for range 40 { // in turn, so that both see the same machine
		smallest = min(smallest, k.smallest(t))
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
	within(t, "package init", best, smallest, maxInit)
}

func TestBudgetFirstRun(t *testing.T) {
	k := build(t)
	first, smallest := k.firstRuns(t, 40)
	within(t, "exec to first run, median", rank(first, 50), rank(smallest, 50), maxFirstRun)
}

func TestBudgetRestartGap(t *testing.T) {
	k := build(t)
	var smallest []time.Duration
	gaps := k.restartGaps(t, 20, func() { smallest = append(smallest, k.smallest(t)) })
	within(t, "restart gap, median", rank(gaps, 50), rank(smallest, 50), maxRestartGap)
}
