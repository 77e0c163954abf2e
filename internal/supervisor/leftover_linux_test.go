package supervisor

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A leftover run that is suspended would be waited for without end, and no signal of gophd's tells it.
func TestSuspendedLeftoverRunIsNamed(t *testing.T) {
	child := exec.Command("sleep", "3600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	pid := child.Process.Pid
	if text := pids([]int{pid}); strings.Contains(text, "suspended") {
		t.Errorf("a running process: %s", text)
	}
	var status unix.WaitStatus
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatal(err, status)
	}
	if text := pids([]int{pid}); !strings.Contains(text, "(sleep, suspended: ") {
		t.Errorf("a stopped process: %s", text)
	}
}
