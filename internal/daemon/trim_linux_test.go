package daemon

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// Less of the program is in memory afterwards, and it continues to run.
func TestUnmapProgramReducesResidentMemory(t *testing.T) {
	resident := func() int {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`(?m)^RssFile:\s+(\d+) kB$`).FindSubmatch(b)
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := resident()
	unmapProgram()
	if after := resident(); after > before*3/4 {
		t.Errorf("%d KiB of files are resident, %d were before", after, before)
	}
}
