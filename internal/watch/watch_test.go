package watch

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// watched watches the files as they are now.
func watched(t *testing.T, paths ...string) *Watcher {
	t.Helper()
	var files []File
	for _, path := range paths {
		files = append(files, File{Path: path})
	}
	w, err := New(Unchanged(files))
	do(t, err)
	t.Cleanup(func() { do(t, w.Close()) })
	return w
}

// has waits for the change of a file.
func (w *Watcher) has(t *testing.T, path string) {
	t.Helper()
	if got := <-w.Changed(); got != path {
		t.Fatalf("%s has changed, want %s", got, path)
	}
}

func TestWriteAndReplacement(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "jobs.cron"), "0")
	w := watched(t, path)
	for i := range 3 {
		write(t, path, "in place "+strconv.Itoa(i))
		w.has(t, path)
		do(t, os.Rename(write(t, filepath.Join(dir, "new"), "renamed "+strconv.Itoa(i)), path))
		w.has(t, path)
		do(t, os.Rename(path, path+"~")) // an editor that keeps a backup
		write(t, path, "new file "+strconv.Itoa(i))
		w.has(t, path)
	}
}

// A file that another one precedes in the channel is the only one that is reported: what is not a change
// would have been reported before it.
func TestWhatIsNoChange(t *testing.T) {
	dir := t.TempDir()
	path, last := write(t, filepath.Join(dir, "a"), "a"), write(t, filepath.Join(dir, "last"), "0")
	w := watched(t, path, last)
	write(t, filepath.Join(dir, "other"), "x")
	write(t, path, "a")
	do(t, os.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0)), os.Chmod(path, 0o644), os.Remove(path))
	write(t, last, "1")
	w.has(t, last)
	write(t, path, "a") // as it was
	write(t, last, "2")
	w.has(t, last)
	write(t, path, "b")
	w.has(t, path)
}

func TestChangeBeforeTheStart(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "a"), "now")
	w, err := New([]File{{path, Sum([]byte("before"))}})
	do(t, err)
	w.has(t, path)
	do(t, w.Close())
}

// Kubernetes mounts a ConfigMap as FILE -> ..data/FILE, and replaces the symlink ..data.
func TestSwapOfSymlinks(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		do(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, "jobs.cron"), text)
		do(t, os.Symlink(name, filepath.Join(dir, "..tmp")), os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", "one")
	path := filepath.Join(dir, "jobs.cron")
	do(t, os.Symlink(filepath.Join("..data", "jobs.cron"), path))
	w := watched(t, path)
	for i := 2; i < 5; i++ {
		version(".."+strconv.Itoa(i), "version "+strconv.Itoa(i))
		w.has(t, path)
		do(t, os.RemoveAll(filepath.Join(dir, ".."+strconv.Itoa(i-1))))
	}
	write(t, filepath.Join(dir, "..4", "jobs.cron"), "in place")
	w.has(t, path)
	// The path leads elsewhere, and there too it is watched.
	other := write(t, filepath.Join(t.TempDir(), "other"), "other")
	do(t, os.Remove(path), os.Symlink(other, path))
	w.has(t, path)
	write(t, other, "more")
	w.has(t, path)
}

func TestNewDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	path := filepath.Join(dir, "b", "jobs.cron")
	do(t, os.MkdirAll(filepath.Dir(path), 0o700))
	write(t, path, "0")
	w := watched(t, path)
	for i := range 3 {
		do(t, os.Rename(dir, dir+strconv.Itoa(i)))
		do(t, os.MkdirAll(filepath.Dir(path), 0o700))
		write(t, path, "moved "+strconv.Itoa(i))
		w.has(t, path)
		do(t, os.RemoveAll(filepath.Dir(path)))
		do(t, os.MkdirAll(filepath.Dir(path), 0o700))
		write(t, path, "removed "+strconv.Itoa(i))
		w.has(t, path)
	}
}

func TestSteps(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	do(t, err, os.Mkdir(dir+"/real", 0o700), os.Symlink("real", dir+"/a"), os.Symlink("../a/./f", dir+"/real/g"), os.Symlink("loop", dir+"/loop"))
	for path, want := range map[string][]string{
		"/real/f": {"/real", "/real/f"},
		"/a/f":    {"/a", "/real", "/real/f"},
		"/a/g":    {"/a", "/real", "/real/g", "/real/f"},
		"/none/x": {"/none", "/none/x"},
		"/loop":   {"/loop"},
	} {
		got := steps(dir + path)
		got = slices.DeleteFunc(got, func(step string) bool { return !strings.HasPrefix(step, dir+"/") })
		for i := range want {
			want[i] = dir + want[i]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
