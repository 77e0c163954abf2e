//go:build root && linux

package safefile

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// mount mounts a file system at a new directory until the test ends.
func mount(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Fatalf("mount %q: %v: %s", args, err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// chattr adds an attribute to a file until the test ends.
func chattr(t *testing.T, attribute, path string) {
	t.Helper()
	if out, err := exec.Command("chattr", "+"+attribute, path).CombinedOutput(); err != nil {
		t.Fatalf("chattr: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := exec.Command("chattr", "-"+attribute, path).Run(); err != nil {
			t.Error(err)
		}
	})
}

// For root, the permissions show none of these.
func TestRootTryCreateFindsWhatPermissionsDoNotShow(t *testing.T) {
	immutable, appended := t.TempDir(), t.TempDir()
	chattr(t, "i", immutable)
	chattr(t, "a", appended)
	full := mount(t, "-t", "tmpfs", "-o", "nr_inodes=1", "none")
	nameless := mount(t, "-t", "mqueue", "none") // it has no O_TMPFILE
	for dir, want := range map[string]error{
		immutable: unix.EPERM, full: unix.ENOSPC, mount(t, "-t", "tmpfs", "-o", "ro", "none"): unix.EROFS,
		"/proc": fs.ErrNotExist, "/sys": fs.ErrPermission, appended: nil, nameless: nil,
	} {
		if err := TryCreate(dir, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v; want %v", dir, err, want)
		}
	}
	for _, dir := range []string{appended, nameless} {
		if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil {
			t.Errorf("%s has %v, %v", dir, entries, err)
		}
	}
}

func TestRootTryReplaceFindsWhatPermissionsDoNotShow(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"immutable", "append", "of root"} {
		if err := os.WriteFile(path(name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	chattr(t, "i", path("immutable"))
	chattr(t, "a", path("append"))
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"immutable": unix.EPERM, "append": unix.EPERM, "of root": nil} {
		if err := TryReplace(path(name)); !errors.Is(err, want) {
			t.Errorf("%s: %v; want %v", name, err, want)
		}
	}
	runtime.LockOSThread() // never unlocked, so that the thread ends with the test
	if err := unix.Setfsuid(other); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	if err := TryReplace(path("of root")); !errors.Is(err, unix.EPERM) {
		t.Errorf("a file of root in a sticky directory: %v", err)
	}
}
