package file

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOtherUser looks at files as a user without privileges does, by the user id that the kernel
// checks for files, which on Linux a thread has for itself (setfsuid(2)).
func TestOtherUser(t *testing.T) {
	path := lockPath(t)
	holder := opened(t, path)
	must(t, holder.Add(t.Context(), key, []byte("h"), 0))
	must(t, holder.Add(t.Context(), key+".state", []byte("1"), 0))
	must(t, os.Chmod(filepath.Join(path, "../../.."), 0o755)) // what TempDir makes is its owner's alone
	must(t, os.Chmod(filepath.Dir(path), 0o555))
	t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o755) }) // else TempDir cannot be removed by a plain user

	runtime.LockOSThread() // for good: the thread ends with the test
	if os.Geteuid() == 0 {
		must(t, unix.Setfsuid(65534))
		defer unix.Setfsuid(0)
	} else {
		must(t, os.Chmod(path, 0o444))
	}
	if s, err := Open(path); err == nil || !strings.Contains(err.Error(), "choose a file that this user can write") {
		t.Errorf("Open of another user's file: %v, %v; want the advice", s, err)
	}
	if s, err := Open(filepath.Join(filepath.Dir(path), "new")); err == nil || !strings.Contains(err.Error(), "choose a file that this user can write") {
		t.Errorf("Open in another user's folder: %v, %v; want the advice", s, err)
	}
	if b, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(b)) != "h" {
		t.Errorf("another user polls %q, %v; want the record", b, err)
	}
	// A write of the state that fails leaves the state and the lock as they were.
	old, err := holder.Get(t.Context(), key+".state")
	must(t, err)
	if err := holder.Swap(t.Context(), key+".state", old, []byte("2"), 0); err == nil {
		t.Error("the state was written in a folder that cannot be written")
	}
	if e, err := holder.Get(t.Context(), key+".state"); err != nil || string(e.Value) != "1" {
		t.Errorf("state after a failed write: %q, %v; want 1", e.Value, err)
	}
	if f := holder.Descriptor(); f == nil {
		t.Error("the lock was lost by a failed write of the state")
	}
}

func TestRemote(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	defer f.Close()
	if kind, err := remote(int(f.Fd())); kind != "" || err != nil {
		t.Errorf("the folder for temporary files is on %q, %v; want a local disk", kind, err)
	}
	for magic, want := range map[uint32]string{ // as stat -f -c %t prints them
		0x6969: "NFS", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x517b: "SMB", 0x65735546: "FUSE",
		0x01021997: "9P", 0xef53: "", 0x58465342: "", 0x01021994: "", 0x794c7630: "", 0x9123683e: "", 0x2fc12fc1: "",
	} {
		if got := kind(magic); got != want {
			t.Errorf("kind(%#x) is %q; want %q", magic, got, want)
		}
	}
}
