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

var runs = flag.Int("runs", 100_000, "how many runs the soak takes, after it is warm")

// warm is how long runs go on before they count: gophd lets Go collect when a minute is over, and only then is
// growth of the heap a leak.
const warm = 65 * time.Second

// What the last mark may have more than the first.
const (
	moreRSS         = 1 << 10 // KiB; with 100,000 runs a leak of 12 bytes a run is past it, and so is a goroutine in 200 runs
	moreDescriptors = 0
	moreThreads     = 2 // Go starts one when all others are in system calls, and never ends it
)

// mark is what a daemon holds after so many runs: RSS as the median of some samples, descriptors and goroutines as the
// least, which is what it has between two runs.
type mark struct{ runs, rss, descriptors, threads, goroutines int }

// goroutines asks for dumps, and returns the least number that one of them tells.
func goroutines(t *testing.T, pid int, log string) int {
	t.Helper()
	told := func() []int {
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
	before := len(told())
	for i := range samples {
		if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); len(told()) <= before+i; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("there was no dump for 10 s")
			}
		}
	}
	return slices.Min(told()[before:])
}

// look takes some samples while runs go on.
func look(t *testing.T, pid, at int, log string) mark {
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

// count is how often the command has run.
func count(t *testing.T, file string) int {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return int(info.Size())
}

// TestSoakFullRate runs a command back to back, with the log on, and looks at gophd after 1 %, 10 %
// and all of the runs.
func TestSoakFullRate(t *testing.T) {
	k := build(t)
	k.compile(t, "count")
	counted, log := k.path("counted"), filepath.Join(logFolder(t), "log")
	cmd := k.start(t, k.path("gophd"), "run", "--name", "soak", "--interval", "0", "--log-file", log, "--", k.path("count"), counted)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	wait := func(until func() bool) {
		t.Helper()
		for !until() {
			select {
			case err := <-ended:
				t.Fatalf("gophd ended by itself: %v", err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	began := time.Now()
	wait(func() bool { return time.Since(began) > warm })
	before := count(t, counted)
	t.Logf("%.0f runs/s", float64(before)/time.Since(began).Seconds())
	var marks []mark
	for _, at := range []int{*runs / 100, *runs / 10, *runs} {
		wait(func() bool { return count(t, counted)-before >= at })
		marks = append(marks, look(t, cmd.Process.Pid, at, log))
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("gophd: %v", err)
	}
	first, last := marks[0], marks[len(marks)-1]
	if last.rss > first.rss+moreRSS || last.descriptors > first.descriptors+moreDescriptors || last.threads > first.threads+moreThreads ||
		last.goroutines > first.goroutines {
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
		t.Error("a run failed; the log says so")
	}
}
