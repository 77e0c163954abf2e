package bench_test

import (
	"os"
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
