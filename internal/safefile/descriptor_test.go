package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDescriptorIsRecognizedHoweverItIsNamed(t *testing.T) {
	dir := t.TempDir()
	link := func(name, target string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := filepath.Join(dir, "1")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	type named struct {
		n  int
		ok bool
	}
	cases := map[string]named{
		"/dev/stdin": {0, true}, "/dev/stdout": {1, true}, "/dev/stderr": {2, true},
		"/dev/fd/0": {0, true}, "/dev/fd/1": {1, true}, "/dev/fd/77": {77, true}, "/dev//stdout": {1, true},
		link("stdout", "/dev/stdout"): {1, true}, link("again", "stdout"): {1, true},
		link("dev", "/dev") + "/stderr": {2, true},

		"/dev/null": {}, "/dev/stdout.log": {}, "stdout": {}, "/dev/fd": {}, "/dev/fd/-1": {}, "/dev/fd/01": {},
		"/proc/x.log": {}, "/proc/self/x": {}, "/proc/self/fd": {}, "": {}, "/": {}, dir: {},
		file: {}, link("2", "1"): {}, link("loop", "loop"): {}, link("dangling", "none"): {},
	}
	if runtime.GOOS == "linux" {
		own, parent := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getppid())
		for path, want := range map[string]named{
			"/proc/self/fd/1": {1, true}, "/proc/thread-self/fd/2": {2, true}, "/proc/self/task/42/fd/1": {1, true},
			"/proc/" + own + "/fd/10": {10, true}, "/dev/fd/../fd/1": {1, true}, "/dev/../dev/stdout": {1, true},
			link("fd", "/proc/self/fd") + "/1":      {1, true},
			"/proc/" + parent + "/fd/1":             {Others, true},
			link("parent", "/proc/"+parent+"/fd/1"): {Others, true},
		} {
			cases[path] = want
		}
	}
	for path, want := range cases {
		if n, ok := Descriptor(path); (named{n, ok}) != want {
			t.Errorf("Descriptor(%q) = %d, %t, want %d, %t", path, n, ok, want.n, want.ok)
		}
	}
}

// Open duplicates stdout, stderr and stdin: the offset of a file is the same, and a socket, which
// cannot be opened, works too.
func TestOpenDuplicatesTheStandardDescriptors(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/stdin", link); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	stdin, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stdin)
	defer unix.Dup2(stdin, 0)
	if err := unix.Dup2(pair[0], 0); err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{"/dev/stdin", "/dev/fd/0", link} {
		f, err := Open(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint(i)
		_, err = f.WriteString(want)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
		got := make([]byte, 10)
		if n, err := unix.Read(pair[1], got); err != nil || string(got[:n]) != want {
			t.Errorf("%s: read %q, %v", path, got[:max(n, 0)], err)
		}
		if err := Check(path); err != nil {
			t.Error(err)
		}
	}
	// The others are files of gophd itself, such as its lock.
	f, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if other, err := Open(fmt.Sprintf("/dev/fd/%d", f.Fd()), os.O_WRONLY, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("a file of the process itself was opened: %v, %v", other, err)
	}
	if f, err := Open("/dev/stdin", os.O_RDONLY|unix.O_NOFOLLOW, 0); runtime.GOOS == "linux" && !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link was followed: %v, %v", f, err)
	}
}

func TestCreateSetsUpOnlyWhatItHasCreated(t *testing.T) {
	dir := t.TempDir()
	inDir := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(inDir("there"), []byte("old\n"), 0o600), os.Symlink("target", inDir("dangling")),
		os.Symlink("there", inDir("link")), os.Symlink("failed", inDir("to-failed"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, file string
		created    bool
	}{{"there", "there", false}, {"link", "there", false}, {"new", "new", true}, {"new", "new", false},
		{"dangling", "target", true}, {"dangling", "target", false}, {"/dev/null", "/dev/null", false}} {
		path := c.path
		if !filepath.IsAbs(path) {
			path = inDir(path)
		}
		created := false
		f, err := Create(path, os.O_WRONLY|os.O_APPEND, 0o640, func(f *os.File) error {
			created = true
			return f.Chmod(0o604)
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("line\n")
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
		if created != c.created {
			t.Errorf("%s: created is %t, want %t", c.path, created, c.created)
		}
		if info, err := os.Lstat(inDir(c.file)); c.created && (err != nil || info.Mode() != 0o604) {
			t.Errorf("%s: %v, %v", c.file, info, err)
		}
	}
	if text, err := os.ReadFile(inDir("there")); string(text) != "old\nline\nline\n" {
		t.Errorf("%q, %v", text, err)
	}
	// A file that cannot be set up is removed, and so is the target of a link, but not the link.
	bad := errors.New("bad")
	for _, name := range []string{"failed", "to-failed"} {
		if f, err := Create(inDir(name), os.O_WRONLY, 0o640, func(*os.File) error { return bad }); !errors.Is(err, bad) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
		if _, err := os.Stat(inDir("failed")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it exists: %v", name, err)
		}
	}
	if _, err := os.Lstat(inDir("to-failed")); err != nil {
		t.Error(err)
	}
	if f, err := Create(inDir("none/x"), os.O_WRONLY, 0o640, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, %v", f, err)
	}
}
