//go:build soak

package bench_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var runs = flag.Int("runs", 100_000, "number of runs, after the warm-up")

// warm is the duration of the warm-up: gophd triggers Go's garbage collection after a minute, and
// only after that is heap growth a leak.
const warm = 65 * time.Second

// The allowed increase from the first mark to the last.
const (
	// KiB. With 100,000 runs a leak of 12 bytes per run exceeds it, and so does a goroutine per 200
	// runs.
	moreRSS         = 1 << 10
	moreDescriptors = 0
	moreThreads     = 2 // Go starts one when all others are in system calls, and never stops it
)

// mark is the resource usage of a daemon after a number of runs: the median RSS of some samples,
// and the minimum of descriptors and goroutines, which is the usage between two runs.
type mark struct{ runs, rss, descriptors, threads, goroutines int }

// goroutines requests dumps, and returns the smallest number of goroutines in them.
func goroutines(t *testing.T, pid int, log string) int {
	t.Helper()
	dumped := func() []int {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		var numbers []int
		for _, m := range regexp.MustCompile(`(?m)\] +goroutines +(\d+)$`).FindAllSubmatch(text, -1) {
			n, _ := strconv.Atoi(string(m[1])) // the pattern has digits only
			numbers = append(numbers, n)
		}
		return numbers
	}
	const samples = 21
	before := len(dumped())
	for i := range samples {
		if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); len(dumped()) <= before+i; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no dump within 10 s")
			}
		}
	}
	return slices.Min(dumped()[before:])
}

// sample measures the resource usage while the runs continue.
func sample(t *testing.T, pid, at int, log string) mark {
	t.Helper()
	var rss, descriptors, threads []int
	m := mark{runs: at}
	for range 101 {
		status := fmt.Sprintf("/proc/%d/status", pid)
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		rss = append(rss, field(t, status, "VmRSS"))
		descriptors = append(descriptors, len(fds))
		threads = append(threads, field(t, status, "Threads"))
		time.Sleep(5 * time.Millisecond)
	}
	slices.Sort(rss)
	slices.Sort(descriptors)
	slices.Sort(threads)
	n := len(rss)
	m.rss, m.descriptors, m.threads, m.goroutines = rss[n/2], descriptors[0], threads[n-1], goroutines(t, pid, log)
	t.Logf("%7d runs: RSS %5d KiB, %2d descriptors (up to %d in a run), %2d threads, %2d goroutines",
		m.runs, m.rss, m.descriptors, descriptors[n-1], m.threads, m.goroutines)
	return m
}

// count returns how often the command has run.
func count(t *testing.T, file string) int {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return int(info.Size())
}

// TestSoakFullRate runs a command back to back, with a log file, and measures gophd after 1 %, 10 %
// and all of the runs.
func TestSoakFullRate(t *testing.T) {
	k := build(t)
	k.compile(t, "count")
	counted, log := k.path("counted"), filepath.Join(logDirectory(t), "log")
	cmd := k.start(t, k.path("gophd"), "run", "--name", "soak", "--interval", "0", "--log-file", log, "--",
		k.path("count"), counted)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	wait := func(until func() bool) {
		t.Helper()
		for !until() {
			select {
			case err := <-exited:
				t.Fatalf("gophd exited unexpectedly: %v", err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	started := time.Now()
	wait(func() bool { return time.Since(started) > warm })
	before := count(t, counted)
	t.Logf("%.0f runs/s", float64(before)/time.Since(started).Seconds())
	var marks []mark
	for _, at := range []int{*runs / 100, *runs / 10, *runs} {
		wait(func() bool { return count(t, counted)-before >= at })
		marks = append(marks, sample(t, cmd.Process.Pid, at, log))
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := <-exited; err != nil {
		t.Errorf("gophd: %v", err)
	}
	first, last := marks[0], marks[len(marks)-1]
	if last.rss > first.rss+moreRSS || last.descriptors > first.descriptors+moreDescriptors ||
		last.threads > first.threads+moreThreads || last.goroutines > first.goroutines {
		t.Errorf("gophd grew from %+v to %+v", first, last)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := bytes.Count(text, []byte("out: did run\n")), count(t, counted); got != want {
		t.Errorf("the log has %d lines of %d runs", got, want)
	}
	if strings.Contains(string(text), " failed ") {
		t.Error("the log reports a failed run")
	}
}
