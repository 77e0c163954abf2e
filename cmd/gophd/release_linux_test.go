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

// TestPIDFileGoesBeforeTheLocalLock: whoever stands by on this host may want the same PID file, and takes it as
// soon as the local lock is free. What is between the two is too short to be hit by chance; but inotify(7) tells
// in which order they were done, and how.
func TestPIDFileGoesBeforeTheLocalLock(t *testing.T) {
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
		if _, err := unix.InotifyAddWatch(watch, d, unix.IN_DELETE|unix.IN_MODIFY|unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
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
	gone := slices.Index(seen, "x.pid removed")
	clean := slices.Index(seen, "x.heartbeat.state replaced") // by the word of a clean release
	free := slices.Index(seen, "x.heartbeat closed")          // and with it the lock
	if gone < 0 || clean < gone || free < gone {
		t.Errorf("saw %q: want x.pid removed before x.heartbeat is released", seen)
	}
}
