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

// TestDeniedByPermissions is about files that this user owns and made read-only. Root gives up what
// lets it pass over the permissions, on a thread of its own, so that the test is the same for all.
func TestDeniedByPermissions(t *testing.T) {
	path, holder := heldForAll(t)
	must(t, os.Chmod(path, 0o444))
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	obeyPermissions(t)
	wantDenied(t, path, holder)
}

// heldForAll returns the path of a lock that is held, with a state, in a directory that everybody can
// enter and read and nobody can write.
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

// wantDenied fails unless this thread can read the lock file at path and not write it or beside it.
func wantDenied(t *testing.T, path string, holder *Store) {
	t.Helper()
	if s, err := Open(path); err == nil || !strings.Contains(err.Error(), "choose a file that this user can write") {
		t.Errorf("Open of another user's file: %v, %v; want the advice", s, err)
	}
	if s, err := Open(filepath.Join(filepath.Dir(path), "new")); err == nil || !strings.Contains(err.Error(), "choose a file that this user can write") {
		t.Errorf("Open in another user's directory: %v, %v; want the advice", s, err)
	}
	if b, err := os.ReadFile(RecordPath(path)); err != nil || string(b) != "h\n" {
		t.Errorf("another user polls %q, %v; want the record", b, err)
	}
	// A write of the state that fails leaves the state and the lock as they were.
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

// A holder in another PID namespace that finds nothing proves nothing for those that cannot be seen from there.
func TestCleanIsForWhatCanBeSeen(t *testing.T) {
	self := procfs.Self()
	for name, c := range map[string]struct {
		holder procfs.Identity
		spaces []string
		clean  bool
	}{
		"here":                    {self, nil, true},
		"in another container":    {procfs.Identity{PID: 1, Boot: self.Boot, PIDNS: "pid:[7]"}, nil, self.SeesAll()},
		"long ago, in another":    {self, []string{"pid:[7]"}, self.SeesAll()},
		"before the last reboot":  {procfs.Identity{PID: 1, Boot: "another", PIDNS: "pid:[7]"}, []string{"pid:[8]"}, true},
		"before there were notes": {procfs.Identity{}, nil, true},
	} {
		path := lockPath(t)
		text, err := json.Marshal(note{V: noteVersion, Holder: c.holder, Spaces: c.spaces})
		must(t, err)
		must(t, os.WriteFile(path, text, 0o600))
		s := opened(t, path)
		must(t, s.Add(t.Context(), key, []byte(`{"v":1,"id":"x"}`), 0))
		if !s.Unclean() {
			t.Errorf("%s: clean before anybody has looked", name)
		}
		s.Clean()
		if s.Unclean() == c.clean {
			t.Errorf("%s: clean is %v", name, !s.Unclean())
		}
		must(t, s.Close())
	}
}
