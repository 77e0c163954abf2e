package logging

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Files has the archives of a log in order, each once, and then the file in use; and no other file.
func TestFilesOfALog(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 27, 3, 17, 0, 0, time.Local)
	for i, name := range []string{
		"x.log.20261127T031700.000000Z", "x.log.20261127T031700.000000Z.gz", "x.log.20261126T031700.000000Z.gz", "x.log.1",
		"x.log.20261127T031800.000000Z.gz.tmp", "x.log.20261127T031800.000000Z", "y.log", "x.log", "d-2026-11-26.log.gz", "d-2026-11-27.log",
		"d-2026-11-25.log", "d-other.log",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at.Add(time.Duration(i)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	for name, old := range map[string]int{"d-2026-11-25.log": 2, "d-2026-11-26.log.gz": 1} {
		if err := os.Chtimes(filepath.Join(dir, name), at, at.AddDate(0, 0, -old)); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{
		"x.log":          "x.log.20261126T031700.000000Z.gz x.log.20261127T031700.000000Z x.log.20261127T031800.000000Z x.log",
		"d-%Y-%m-%d.log": "d-2026-11-25.log d-2026-11-26.log.gz d-2026-11-27.log",
		"z.log":          "",
		"missing/z.log":  "",
		"x.log/z.log":    "",
	} {
		files, err := Files(filepath.Join(dir, file), at)
		var names []string
		for _, f := range files {
			names = append(names, filepath.Base(f.Path))
			if f.Compressed != strings.HasSuffix(f.Path, ".gz") || f.Rotated.IsZero() == strings.Contains(f.Path, "Z") {
				t.Errorf("%+v", f)
			}
		}
		if got := strings.Join(names, " "); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", file, got, err, want)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "x.log"), filepath.Join(dir, "link.log")); err != nil {
		t.Fatal(err)
	}
	if files, err := Files(filepath.Join(dir, "link.log"), at); len(files) != 4 || err != nil { // archives are beside the file
		t.Errorf("by a symbolic link: %d files, %v", len(files), err)
	}
	if _, err := Files("/dev/null", at); !errors.Is(err, errNoFile) {
		t.Errorf("/dev/null: %v", err)
	}
	if _, err := Files(filepath.Join(dir, "%"), at); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that cannot be understood: %v", err)
	}
}
