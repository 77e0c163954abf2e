package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// field returns a number from /proc/PID/status, of one thread or of the whole process.
func field(tb testing.TB, path, name string) int {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+)`).FindSubmatch(text)
	if m == nil {
		tb.Fatalf("%s has no %s", path, name)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// under returns the paths in /proc/PID that match the pattern.
func under(tb testing.TB, pid int, pattern string) []string {
	tb.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/%s", pid, pattern))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("process %d has no %s", pid, pattern)
	}
	return paths
}

// wakes returns the number of voluntary context switches of all threads of the process, which is
// the number of their wake-ups.
func wakes(tb testing.TB, pid int) (sum int) {
	tb.Helper()
	for _, status := range under(tb, pid, "task/*/status") {
		sum += field(tb, status, "voluntary_ctxt_switches")
	}
	return sum
}
