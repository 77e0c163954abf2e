//go:build root && linux

package supervisor

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/job"
	"gophd/internal/status"
)

// A root without CAP_KILL, as in many containers, cannot stop the processes of another user. The
// messages must say so before a stop has no effect.
func TestRootReportsProcessesItMayNotSignal(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "3600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other := cmd.Process.Pid
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	var leftover, waits string
	message := func() string {
		run := status.ActiveRun{Run: job.Run{Number: 3}, PID: other, Since: time.Now()}
		return WaitEvent(job.Spec{}, "stopping", true, run, time.Now()).Message()
	}
	done := make(chan error)
	go func() { // its thread, which ends with it, may not signal others
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		err := unix.Capget(&header, &sets[0])
		sets[0].Effective &^= 1 << unix.CAP_KILL
		if err == nil {
			err = unix.Capset(&header, &sets[0])
		}
		waits = message()
		leftover = leftoverEvent(job.Spec{Stop: job.Stop{OnLeftover: job.LeftoverKill}},
			[]int{os.Getpid(), other}).Message()
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{leftover, waits} {
		if !strings.Contains(text, "CAP_KILL") || strings.Contains(text, "send TERM") ||
			strings.Contains(text, "stopping it") {
			t.Error(text)
		}
	}
	if free := message(); strings.Contains(free, "CAP_KILL") {
		t.Error(free)
	}
}
