package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLeftoverFindsProcessesByMark(t *testing.T) {
	sleeper := func(mark string) int {
		cmd := exec.Command("sleep", "3600")
		cmd.Env = append(os.Environ(), RunID+"="+mark+".1.2.3")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	// No other run of these tests has this mark, even at the same time.
	mark := fmt.Sprintf("12:%d", os.Getpid())
	pid := sleeper(mark)
	sleeper(mark + "1")
	sleeper("1" + mark)
	sleeper(mark + ".7")
	got, err := Leftover(mark+".", func(rest string) bool { return strings.HasPrefix(rest, "7.") })
	if err != nil || !slices.Equal(got, []int{pid}) {
		t.Errorf("got %v, %v; want %d", got, err, pid)
	}
}

// A search that could not read all processes must not report that nothing is left.
func TestLeftoverWithoutDescriptorsIsAnError(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 0, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	pids, err := Leftover("a mark", func(string) bool { return false })
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("got %v, %v", pids, err)
	}
}
