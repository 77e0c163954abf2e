package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TryCreate leaves nothing, not even another time of the directory where a file can be without a
// name.
func TestTryCreateLeavesTheDirectoryAsItIs(t *testing.T) {
	dir, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	before := time.Unix(1e9, 0)
	if err := errors.Join(os.Symlink(dir, link), os.Chtimes(dir, before, before)); err != nil {
		t.Fatal(err)
	}
	bad := errors.New("bad")
	for _, path := range []string{dir, link} {
		called := false
		if err := TryCreate(path, func(f *os.File) error {
			called = true
			info, err := f.Stat()
			if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: the file is %v, %v", path, info, err)
			}
			return nil
		}); err != nil || !called {
			t.Errorf("%s: %v; called: %t", path, err, called)
		}
		if err := TryCreate(path, func(*os.File) error { return bad }); !errors.Is(err, bad) {
			t.Errorf("%s: %v; want the error of setUp", path, err)
		}
		if err := TryCreate(path, nil); err != nil {
			t.Error(err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && !info.ModTime().Equal(before) {
		t.Errorf("the time of the directory is %v, was %v", info.ModTime(), before)
	}
	if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

func TestTryCreateFailsAsACreateDoes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		filepath.Join(dir, "none"): fs.ErrNotExist,
		file:                       unix.ENOTDIR,
	} {
		err := TryCreate(path, nil)
		if at := (*fs.PathError)(nil); !errors.Is(err, want) || !errors.As(err, &at) || at.Path != path {
			t.Errorf("%s: %v; want %v", path, err, want)
		}
	}
	if text, err := os.ReadFile(file); string(text) != "text" {
		t.Errorf("the file has %q, %v", text, err)
	}
}

// TryReplace changes no file, and accepts one that is missing.
func TestTryReplaceRemovesNothing(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0), os.Symlink("none", link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, filepath.Join(dir, "none")} {
		if err := TryReplace(path); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(dir); len(entries) != 2 || err != nil {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

// An error whose cause is not the path has its own fix, also if it is wrapped.
func TestFixIsForTheCause(t *testing.T) {
	for err, want := range map[error]string{
		unix.ENOSPC: "free some space", unix.EDQUOT: "quota", unix.EROFS: "mount its file system",
		unix.EFBIG: "ulimit -f", unix.EMFILE: "ulimit -n",
		unix.ENFILE: "fs.file-max", unix.EACCES: "allow gophd", unix.EPERM: "allow gophd", unix.ENAMETOOLONG: "shorten",
		unix.ELOOP: "symbolic links", unix.ENOENT: "--x", unix.ENOTDIR: "--x", unix.EIO: "--x",
	} {
		wrapped := fmt.Errorf("x: %w", &fs.PathError{Op: "open", Path: "/x", Err: err})
		got := Fix(wrapped, "choose another --x")
		if !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
		if helps := strings.HasSuffix(got, "choose another --x"); helps != Elsewhere(wrapped) ||
			helps == (err == unix.EMFILE || err == unix.ENFILE) {
			t.Errorf("%v: %q; the setting must be named if and only if another path may help", err, got)
		}
	}
	if Elsewhere(errors.New("x")) {
		t.Error("an error without a cause is one of another path")
	}
}

// What a full disk answers is in testdata/root/check_unwritable.txtar.
func TestTryWriteLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := TryWrite(dir, 3<<10); err != nil {
		t.Error(err)
	}
	if err := TryWrite(filepath.Join(dir, "none"), 1); !errors.Is(err, fs.ErrNotExist) || !Elsewhere(err) {
		t.Errorf("in a missing directory: %v", err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}
