package lease

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"gophd/internal/heartbeat"
	"gophd/internal/process"
)

// sleeper starts a process of the job and returns its PID; it ends with the test.
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

// ownLock is a lock that no other run of these tests has, which may go on at the same time.
func ownLock() string { return fmt.Sprintf("12:%d", os.Getpid()) }

// TestDeadIsProvenOrDenied: whatever is missing from the proof, the answer is no.
func TestDeadIsProvenOrDenied(t *testing.T) {
	we := Self()
	we.Job, we.Lock = "dead-or-not", ownLock()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	r := heartbeat.Record{Boot: we.Boot, PIDNS: we.PIDNS, Lock: we.Lock, PID: gone.Process.Pid, PIDStart: 1}
	if !Dead(r, we, we.Lock+".", nil) {
		t.Fatalf("the owner of %+v is gone, and its lock is ours", r)
	}
	child := sleeper(t, "another")
	for name, change := range map[string]func(*heartbeat.Record){
		"another boot":          func(r *heartbeat.Record) { r.Boot = "another" },
		"no boot":               func(r *heartbeat.Record) { r.Boot = "" },
		"another PID namespace": func(r *heartbeat.Record) { r.PIDNS = "pid:[1]" },
		"another lock":          func(r *heartbeat.Record) { r.Lock = "1:3" },
		"no lock":               func(r *heartbeat.Record) { r.Lock = "" },
		"it lives":              func(r *heartbeat.Record) { r.PID, r.PIDStart = we.PID, we.PIDStart },
		"it may live":           func(r *heartbeat.Record) { r.PID, r.PIDStart = we.PID, 0 },
		"its command lives":     func(r *heartbeat.Record) { r.Child = child },
	} {
		denied := r
		change(&denied)
		if Dead(denied, we, we.Lock+".", nil) {
			t.Errorf("%s: taken for dead", name)
		}
	}
	sleeper(t, we.Lock)
	if Dead(r, we, we.Lock+".", nil) {
		t.Error("a process of the job lives, and its gophd was taken for dead")
	}
}
