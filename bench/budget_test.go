//go:build budget

package bench_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gophd/internal/heartbeat/heartbeattest"
)

// The limits of the budget. A time limit is a ratio to the smallest Go program, measured in the
// same run, because the time to start a process differs by a factor of ten between machines. The
// ratio differs too, with the cost of a page fault and of a wake-up: for one commit, the first run
// was 3.5 on one virtual machine and 6.2 on another, the gap 4.1 and 9.6. The limits are about 1.5
// times the highest ratio that was measured.
const (
	maxRSS        = 8 << 10 // KiB
	maxInit       = 1.6     // of the time of the smallest Go program from exec to exit
	maxFirstRun   = 9.0     // exec of gophd to the first instruction of its command, likewise
	maxRestartGap = 14.0    // how long the command's output is not read during a restart, likewise

	settle = 3 * time.Second // after the first run, until the start is complete
	watch  = 20 * time.Second
	// maxWakes is the limit during watch with a heartbeat that needs no renewal. Go's runtime wakes
	// up once a minute (its forced GC period) in every program.
	maxWakes = 2
	// perRenewal is the limit of thread wake-ups for one renewal with memcached: the timer, gets,
	// the time between, cas. Each needs the poller, a waiting and a working goroutine, and Go's
	// scheduler looks for more work before each sleep. Measured: about 40.
	perRenewal = 64
	renew      = 2 * time.Second // the default of heartbeat.renew
)

// idle starts gophd with a job that runs once an hour, and returns when it has run.
func idle(t *testing.T, k kit, name string, args ...string) int {
	t.Helper()
	ran := k.path(name + ".ran")
	argv := append([]string{k.path("gophd"), "run", "-n", name, "-i", "1h"}, append(args, "--", "touch", ran)...)
	cmd := k.start(t, argv...)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for {
		if _, err := os.Stat(ran); err == nil {
			return cmd.Process.Pid
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// idleBudget compares the medians of three idle daemons with the limits. Medians, because the
// number of file pages that the kernel maps at once differs by some dozens of kilobytes from start
// to start. perRenewal is the limit of wake-ups for a renewal.
func idleBudget(t *testing.T, what string, perRenewal int, args ...string) {
	t.Helper()
	k := build(t)
	var pids []int
	for i := range 3 {
		pids = append(pids, idle(t, k, fmt.Sprintf("idle%d", i), args...))
	}
	time.Sleep(settle)
	before := make([]int, len(pids))
	started := time.Now()
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
	passed := time.Since(started)
	limit := maxWakes + perRenewal*int(passed/renew+1)
	t.Logf("idle, %s: RSS %d KiB, median of %d (limit %d); %d wake-ups in %s, median of %d (limit %d)",
		what, rss[1], rss, maxRSS, woken[1], passed.Round(time.Second), woken, limit)
	if rss[1] > maxRSS || woken[1] > limit {
		t.Error("limit exceeded")
	}
}

func TestBudgetIdle(t *testing.T) {
	idleBudget(t, "file heartbeat", 0)
}

func TestBudgetIdleMemcached(t *testing.T) {
	server := heartbeattest.Memcached(t)
	idleBudget(t, "memcached heartbeat", perRenewal, "--heartbeat", "memcached://"+server.Addr())
}

// within compares a time with that of the smallest Go program in the same run.
func within(t *testing.T, what string, took, smallest time.Duration, limit float64) {
	t.Helper()
	ratio := float64(took) / float64(smallest)
	t.Logf("%s: %s, %.2f of the smallest Go program's %s (limit %.1f)", what, took.Round(time.Microsecond), ratio,
		smallest.Round(time.Microsecond), limit)
	if ratio > limit || took <= 0 {
		t.Error("limit exceeded")
	}
}

// TestBudgetInit adds up the init times of all packages, and takes the best of some starts, because
// other programs on the machine disturb the measurement.
func TestBudgetInit(t *testing.T) {
	k := build(t)
	best, smallest := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for range 40 { // in turn, so that both run under the same conditions
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
	within(t, "exec to first run, median", percentile(first, 50), percentile(smallest, 50), maxFirstRun)
}

func TestBudgetRestartGap(t *testing.T) {
	k := build(t)
	var smallest []time.Duration
	gaps := k.restartGaps(t, 20, func() { smallest = append(smallest, k.smallest(t)) })
	within(t, "restart gap, median", percentile(gaps, 50), percentile(smallest, 50), maxRestartGap)
}
