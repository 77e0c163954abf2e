package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"gophd/internal/supervisor"
)

// The runs of many jobs that no process can adopt are stopped, and the lines about each begin with the
// name of its job.
func TestAbandonedRunsOfManyJobsAreNamed(t *testing.T) {
	for range 2 {
		c := exec.Command("sleep", "3600")
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil { // abandon waits for it
			t.Fatal(err)
		}
	}
	runs := supervisor.UnknownRuns()
	if len(runs) != 2 {
		t.Fatalf("%d children", len(runs))
	}
	path := t.TempDir() + "/log"
	var s handedState
	s.Log.File, s.Log.Format = path, "simple"
	for i, name := range []string{"a", "b"} {
		s.Jobs = append(s.Jobs, supervisor.JobState{Name: name, ID: "x." + name, Runs: runs[i : i+1]})
	}
	abandon(s, nil, errors.New("the test"))
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b"} {
		want := fmt.Sprintf(`(?m)^\S+ \S+ \[\d+\] error: %s: stopping .*\b%d\b`, name, runs[i].PID)
		if !regexp.MustCompile(want).Match(log) {
			t.Errorf("no line matches %s:\n%s", want, log)
		}
	}
}
