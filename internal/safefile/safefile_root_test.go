//go:build root

package safefile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const other = 65534 // nobody

// A file of another user is rejected in a directory that other users can write to, and only there.
func TestRootOpenRejectsFilesOfOtherUsers(t *testing.T) {
	for _, c := range []struct {
		name      string
		mode      os.FileMode
		owner     int
		fileOwner int
		owners    []int
		want      string // in the error
	}{
		{name: "sticky", mode: 0o777 | os.ModeSticky, fileOwner: other, want: "user 65534"},
		{name: "group", mode: 0o775, fileOwner: other, want: "user 65534"},
		{name: "their directory", mode: 0o755, owner: other, fileOwner: other, want: "user 65534"},
		{name: "our file in their directory", mode: 0o755, owner: other},
		{name: "one of owners", mode: 0o777, fileOwner: other, owners: []int{other}},
		{name: "our directory", mode: 0o755, fileOwner: other},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			victim := filepath.Join(t.TempDir(), "victim")
			inDir := func(name string) string { return filepath.Join(dir, name) }
			file, link, dangling := inDir("file"), inDir("link"), inDir("dangling")
			err := errors.Join(os.WriteFile(victim, nil, 0o600), os.WriteFile(file, nil, 0o666),
				os.Symlink(victim, link), os.Symlink(victim+"-new", dangling),
				os.Lchown(file, c.fileOwner, 0), os.Lchown(link, c.fileOwner, 0), os.Lchown(dangling, c.fileOwner, 0),
				os.Chown(dir, c.owner, 0), os.Chmod(dir, c.mode))
			if err != nil {
				t.Fatal(err)
			}
			if len(c.owners) > 0 { // owners does not apply to links
				_, err := Open(link, os.O_WRONLY|os.O_APPEND, 0, c.owners...)
				if err == nil || !strings.Contains(err.Error(), "is a symbolic link of user 65534") {
					t.Errorf("a link of one of owners: %v", err)
				}
				return
			}
			for _, path := range []string{file, link, dangling} {
				checked := Check(path, c.owners...)
				f, err := Open(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600, c.owners...)
				if err == nil {
					f.Close()
				}
				for _, err := range []error{err, checked} {
					unsafe := (*Error)(nil)
					if (c.want != "") != errors.As(err, &unsafe) ||
						err != nil && !strings.Contains(err.Error(), c.want) {
						t.Errorf("%s: %v", path, err)
					}
				}
			}
			if _, err := os.Lstat(victim + "-new"); (err == nil) != (c.want == "") {
				t.Errorf("the link's target: %v", err)
			}
		})
	}
}

func TestRootCheckRejectsDirectoryOfOtherUser(t *testing.T) {
	parent := t.TempDir()
	theirs, link := filepath.Join(parent, "theirs"), filepath.Join(parent, "link")
	err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, other, 0),
		os.Symlink(t.TempDir(), link), os.Lchown(link, other, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{theirs, link} {
		if err := Check(path); err != nil {
			t.Error(err)
		}
	}
	if err := os.Chmod(parent, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := Check(theirs); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Error(err)
	}
	if err := Check(link); err == nil || !strings.Contains(err.Error(), "is a symbolic link of user 65534") {
		t.Error(err)
	}
}
