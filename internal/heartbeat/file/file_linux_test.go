package file

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
)

// The files are read-only and belong to this user. As root, the test drops the capabilities that
// override permissions, on a separate thread, so that it is the same for every user.
func TestFilesWithoutWritePermission(t *testing.T) {
	path, holder := heldForAll(t)
	must(t, os.Chmod(path, 0o444))
	runtime.LockOSThread() // and never unlocked: the thread exits with the test
	obeyPermissions(t)
	wantDenied(t, path, holder)
}

// heldForAll returns the path of a held lock with a state. Every user can enter and read its
// directory; none can write to it.
func heldForAll(t *testing.T) (string, *Store) {
	path := lockPath(t)
	holder := opened(t, path)
	must(t, holder.Add(t.Context(), key, []byte("h"), 0))
	must(t, holder.Add(t.Context(), key+".state", []byte("1"), 0))
	must(t, os.Chmod(filepath.Join(path, "../../.."), 0o755)) // TempDir lets only its owner in
	must(t, os.Chmod(filepath.Dir(path), 0o555))
	t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o755) }) // else TempDir cannot be removed
	return path, holder
}

// obeyPermissions drops the capabilities to read and write any file from the calling thread.
func obeyPermissions(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	must(t, unix.Capget(&header, &sets[0]))
	sets[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	must(t, unix.Capset(&header, &sets[0]))
}

// wantDenied fails unless this thread can read the record of the lock file at path, but can write
// neither the lock file nor a file next to it.
func wantDenied(t *testing.T, path string, holder *Store) {
	t.Helper()
	const fix = "set GOPHD_STATE_DIR to a directory that user "
	if s, err := Open(path); err == nil || !strings.Contains(err.Error(), fix) {
		t.Errorf("Open of another user's file: %v, %v; want the fix", s, err)
	}
	if s, err := Open(filepath.Join(filepath.Dir(path), "new")); err == nil || !strings.Contains(err.Error(), fix) {
		t.Errorf("Open in another user's directory: %v, %v; want the fix", s, err)
	}
	if b, err := os.ReadFile(RecordPath(path)); err != nil || string(b) != "h\n" {
		t.Errorf("another user reads %q, %v; want the record", b, err)
	}
	// A failed write of the state leaves the state and the lock as they were.
	old, err := holder.Get(t.Context(), key+".state")
	must(t, err)
	if err := holder.Swap(t.Context(), key+".state", old, []byte("2"), 0); err == nil {
		t.Error("the state was written in a directory that cannot be written")
	}
	if e, err := holder.Get(t.Context(), key+".state"); err != nil || string(e.Value) != "1" {
		t.Errorf("state after a failed write: %q, %v; want 1", e.Value, err)
	}
	if f := holder.Descriptor(); f == nil {
		t.Error("the lock was lost by a failed write of the state")
	}
}

func TestRemoteKnowsNetworkFileSystems(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	defer f.Close()
	if kind, err := remote(int(f.Fd())); kind != "" || err != nil {
		t.Errorf("the directory for temporary files is on %q, %v; want a local disk", kind, err)
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

// A holder can only search the processes that are visible in its PID namespace. Runs in others may
// still be active.
func TestCleanCoversVisiblePIDNamespacesOnly(t *testing.T) {
	self := procfs.Self()
	for name, c := range map[string]struct {
		holder     procfs.Identity
		namespaces []string
		clean      bool
	}{
		"here": {self, nil, true},
		"in another container": {
			procfs.Identity{PID: 1, Boot: self.Boot, PIDNS: "pid:[7]"}, nil, self.SeesAll(),
		},
		"an earlier holder in another container": {self, []string{"pid:[7]"}, self.SeesAll()},
		"before the last reboot": {
			procfs.Identity{PID: 1, Boot: "another", PIDNS: "pid:[7]"}, []string{"pid:[8]"}, true,
		},
		"a note without a holder": {procfs.Identity{}, nil, true},
	} {
		path := lockPath(t)
		text, err := json.Marshal(note{V: noteVersion, Holder: c.holder, PIDNamespaces: c.namespaces})
		must(t, err)
		must(t, os.WriteFile(path, text, 0o600))
		s := opened(t, path)
		must(t, s.Add(t.Context(), key, []byte(`{"v":1,"id":"x"}`), 0))
		if !s.Unclean() {
			t.Errorf("%s: clean before Clean was called", name)
		}
		s.Clean()
		if s.Unclean() == c.clean {
			t.Errorf("%s: clean is %v", name, !s.Unclean())
		}
		must(t, s.Close())
	}
}
