package lockfile_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/lockfile"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func wantLocked(t *testing.T, path string, want bool) {
	t.Helper()
	f := open(t, path)
	defer f.Close()
	if locked, err := lockfile.Locked(int(f.Fd())); locked != want || err != nil {
		t.Errorf("locked %v, %v; want %v", locked, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSharedLocksExcludeExclusiveOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := int(open(t, path).Fd()), int(open(t, path).Fd())
	must(t, lockfile.TryLock(a, unix.LOCK_SH))
	must(t, lockfile.TryLock(b, unix.LOCK_SH))
	wantLocked(t, path, false)
	if err := lockfile.TryLock(b, unix.LOCK_EX); !errors.Is(err, lockfile.ErrLocked) {
		t.Errorf("exclusive beside shared: %v, want ErrLocked", err)
	}
	must(t, lockfile.Unlock(a))
	must(t, lockfile.TryLock(b, unix.LOCK_EX))
	wantLocked(t, path, true)
	if err := lockfile.TryLock(a, unix.LOCK_SH); !errors.Is(err, lockfile.ErrLocked) {
		t.Errorf("shared beside exclusive: %v, want ErrLocked", err)
	}
}

func TestErrorIsNotALock(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "lock"))
	must(t, f.Close())
	if locked, err := lockfile.Locked(int(f.Fd())); locked || !errors.Is(err, unix.EBADF) {
		t.Errorf("locked %v, %v; want EBADF", locked, err)
	}
}

func TestUnlockFreesTheLockOfADuplicate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f := open(t, path)
	fd, err := unix.Dup(int(f.Fd()))
	must(t, err)
	defer unix.Close(fd)
	must(t, lockfile.TryLock(fd, unix.LOCK_EX))
	must(t, f.Close())
	wantLocked(t, path, true)
	other, err := unix.Dup(fd)
	must(t, err)
	defer unix.Close(other)
	must(t, lockfile.Unlock(fd))
	wantLocked(t, path, false)
}

// The child gets the descriptor over fork and exec, and the parent closes its own.
func TestProcessKeepsAnInheritedLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f := open(t, path)
	must(t, lockfile.TryLock(int(f.Fd()), unix.LOCK_EX))
	cat := exec.CommandContext(t.Context(), "cat")
	cat.ExtraFiles = []*os.File{f}
	in, err := cat.StdinPipe()
	must(t, err)
	out, err := cat.StdoutPipe()
	must(t, err)
	must(t, cat.Start())
	must(t, f.Close())
	_, err = in.Write([]byte("x"))
	must(t, err)
	_, err = io.ReadFull(out, make([]byte, 1))
	must(t, err)
	wantLocked(t, path, true)
	must(t, in.Close())
	must(t, cat.Wait())
	wantLocked(t, path, false)
}

func TestNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	fd := int(open(t, path).Fd())
	check := func(when string, want bool) {
		t.Helper()
		if got := lockfile.Names(path, fd); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("opened", true)
	must(t, os.Rename(path, path+".old"))
	check("moved", false)
	must(t, os.Symlink(path+".old", path))
	check("a symlink to the file", false)
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, nil, 0o600))
	check("replaced", false)
	must(t, os.Rename(path+".old", path))
	check("moved back", true)
	if lockfile.Names(path, -1) {
		t.Error("no file has a name")
	}
}
