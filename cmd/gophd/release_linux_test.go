package main_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPIDFileIsRemovedBeforeTheLocalLockIsReleased checks the order with inotify(7). A standby on
// this host may use the same PID file, and creates it as soon as the local lock is free. The time
// between the two is too short for a test to hit it by chance.
func TestPIDFileIsRemovedBeforeTheLocalLockIsReleased(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	pid := filepath.Join(dir, "x.pid")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "gophd"), "run", "-n", "x", "-i", "60", "-p", pid, "--", "true")
	cmd.Env = append(os.Environ(), "GOPHD_STATE_DIR="+state, "GOPHD_RUNTIME_DIR="+state, "XDG_CONFIG_HOME="+dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if text, _ := os.ReadFile(pid); len(text) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no PID file")
		}
	}

	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	for _, d := range []string{dir, state} {
		events := uint32(unix.IN_DELETE | unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE)
		if _, err := unix.InotifyAddWatch(watch, d, events); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}

	var seen []string
	buf := make([]byte, 64<<10)
	n, err := unix.Read(watch, buf)
	if err != nil {
		t.Fatal(err)
	}
	for b := buf[:n]; len(b) > 0; {
		what, size := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size], []byte{0})
		b = b[unix.SizeofInotifyEvent+size:]
		kind := map[uint32]string{unix.IN_DELETE: "removed", unix.IN_MODIFY: "written", unix.IN_MOVED_TO: "replaced",
			unix.IN_CLOSE_WRITE: "closed"}[what]
		seen = append(seen, string(name)+" "+kind)
	}
	removed := slices.Index(seen, "x.pid removed")
	released := slices.Index(seen, "x.heartbeat.state replaced") // the record of a clean release
	unlocked := slices.Index(seen, "x.heartbeat closed")         // releases the lock
	if removed < 0 || released < removed || unlocked < removed {
		t.Errorf("saw %q: want x.pid removed before x.heartbeat is released", seen)
	}
}
