package supervisor

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"gophd/internal/event"
	"gophd/internal/job"
)

// Who asks for a dump wants to know now what is waited for, and not at the next reminder.
func TestLeftoverRunIsNamedWhenAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		s := &Supervisor{spec: &job.Spec{}, o: Options{Events: event.NewStream(func(e event.Event) {
			lines = append(lines, e.Message())
		})}}
		ctx, cancel := context.WithCancel(t.Context())
		asked := make(chan struct{}, 1)
		go s.waitForLeftover(ctx, "", []int{os.Getpid()}, asked)
		synctest.Wait()
		asked <- struct{}{}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if len(lines) != 1 || !strings.Contains(lines[0], "its run is still active") {
			t.Errorf("%q", lines)
		}
	})
}

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
	if text := Processes([]int{pid}); strings.Contains(text, "suspended") {
		t.Errorf("a running process: %s", text)
	}
	var status unix.WaitStatus
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatal(err, status)
	}
	if text := Processes([]int{pid}); !strings.Contains(text, "(sleep, suspended: ") {
		t.Errorf("a stopped process: %s", text)
	}
}
