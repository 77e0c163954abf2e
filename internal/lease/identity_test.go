package lease

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"gophd/internal/heartbeat"
	"gophd/internal/process"
)

// sleeper starts a process of the job and returns its PID. The process exits with the test.
func sleeper(t *testing.T, lock string) int {
	t.Helper()
	cmd := exec.Command("sleep", "3600")
	cmd.Env = append(os.Environ(), process.RunID+"="+lock+".1.2.3")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// ownLock returns the id of a lock that no parallel run of these tests uses.
func ownLock() string { return fmt.Sprintf("12:%d", os.Getpid()) }

// TestDeadNeedsACompleteProof: Dead returns false if any part of the proof is missing.
func TestDeadNeedsACompleteProof(t *testing.T) {
	self := Self()
	self.Job, self.Lock = "dead-owner", ownLock()
	exited := exec.Command("true")
	if err := exited.Run(); err != nil {
		t.Fatal(err)
	}
	r := heartbeat.Record{Boot: self.Boot, PIDNS: self.PIDNS, Lock: self.Lock, PID: exited.Process.Pid, PIDStart: 1}
	if !Dead(r, self, self.Lock+".", nil) {
		t.Fatalf("the owner of %+v has exited and its lock is ours, but it does not count as dead", r)
	}
	child := sleeper(t, "another")
	for name, change := range map[string]func(*heartbeat.Record){
		"another boot":          func(r *heartbeat.Record) { r.Boot = "another" },
		"no boot":               func(r *heartbeat.Record) { r.Boot = "" },
		"another PID namespace": func(r *heartbeat.Record) { r.PIDNS = "pid:[1]" },
		"another lock":          func(r *heartbeat.Record) { r.Lock = "1:3" },
		"no lock":               func(r *heartbeat.Record) { r.Lock = "" },
		"it is alive":           func(r *heartbeat.Record) { r.PID, r.PIDStart = self.PID, self.PIDStart },
		"it may be alive":       func(r *heartbeat.Record) { r.PID, r.PIDStart = self.PID, 0 },
		"its command is alive":  func(r *heartbeat.Record) { r.Child = child },
	} {
		other := r
		change(&other)
		if Dead(other, self, self.Lock+".", nil) {
			t.Errorf("%s: counts as dead", name)
		}
	}
	sleeper(t, self.Lock)
	if Dead(r, self, self.Lock+".", nil) {
		t.Error("a process of the job is alive, and its gophd counts as dead")
	}
}
