package procfs

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
)

func TestMayLive(t *testing.T) {
	if runtime.GOOS != "linux" {
		if !(Identity{PID: 1 << 30}).MayLive() {
			t.Error("a process counts as exited where none can be seen")
		}
		return
	}
	self := Self()
	if self.PID != os.Getpid() || self.Start == 0 || self.Boot == "" || self.PIDNS == "" {
		t.Fatalf("%+v", self)
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := self
	exited.PID = cmd.Process.Pid
	start, err := StartTime(exited.PID)
	if err != nil && start == 0 {
		start = self.Start + 1 // it has exited already
	}
	exited.Start = start
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Identity)
		live   bool
	}{
		"this process":            {func(*Identity) {}, true},
		"its PID, reused":         {func(i *Identity) { i.Start-- }, false},
		"without a start time":    {func(i *Identity) { i.Start = 0 }, true},
		"before a reboot":         {func(i *Identity) { i.Boot = "another" }, false},
		"in another container":    {func(i *Identity) { i.PIDNS, i.PID, i.Start = "another", 1<<22+1, 1 }, true},
		"of a system without one": {func(i *Identity) { i.Boot, i.PID, i.Start = "", 1<<22+1, 1 }, true},
		"has exited":              {func(i *Identity) { *i = exited }, false},
	} {
		i := self
		c.change(&i)
		if i.MayLive() != c.live {
			t.Errorf("%s: may live: %v", name, !c.live)
		}
	}
}

func TestUIDs(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	real, effective, err := UIDs(os.Getpid())
	if err != nil || real != os.Getuid() || effective != os.Geteuid() {
		t.Errorf("%d %d %v", real, effective, err)
	}
	if _, _, err := UIDs(1 << 23); err == nil {
		t.Error("a PID above the maximum has a user")
	}
}
