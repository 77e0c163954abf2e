package safefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestOpenWorksLikeOpenFile(t *testing.T) {
	for _, mode := range []fs.FileMode{0o755, 0o777, 0o1777} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode.Perm()|fs.ModeSticky*(mode>>9)); err != nil {
			t.Fatal(err)
		}
		inDir := func(name string) string { return dir + "/" + name }
		if err := os.Mkdir(inDir("sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		for link, target := range map[string]string{
			"link": "file", "chain": "link", "up": "sub/../file", "new": "sub/new", "loop": "loop",
			"absolute": inDir("sub") + "/absolute",
		} {
			if err := os.Symlink(target, inDir(link)); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range []string{"file", "link", "chain", "up", "new", "absolute"} {
			f, err := Open(inDir(path), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
			if err != nil {
				t.Fatalf("mode %04o: %v", mode, err)
			}
			if _, err := f.WriteString(path + "\n"); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if err := Check(inDir(path)); err != nil {
				t.Errorf("Check: %v", err)
			}
		}
		if text, err := os.ReadFile(inDir("file")); string(text) != "file\nlink\nchain\nup\n" {
			t.Errorf("mode %04o: %q, %v", mode, text, err)
		}
		for path, want := range map[string]error{
			"missing": fs.ErrNotExist, "none/file": fs.ErrNotExist, "file/x": nil, "loop": nil,
		} {
			f, err := Open(inDir(path), os.O_RDONLY, 0)
			if err == nil {
				f.Close()
				t.Errorf("%s was opened", path)
			}
			pathError := (*fs.PathError)(nil)
			if !errors.As(err, &pathError) || want != nil && !errors.Is(err, want) {
				t.Errorf("%s: %v (%T)", path, err, err)
			}
		}
	}
}

// In "link/../file", the kernel resolves ".." to the parent of the link's target. Open must do the
// same and not clean the path.
func TestOpenResolvesPathsAsTheKernel(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a/b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir+"/link/../file", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := os.Stat(filepath.Join(dir, "a/file")); err != nil {
		t.Error(err)
	}
	t.Chdir(dir)
	if f, err = Open("here", os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
	f.Close()
}
