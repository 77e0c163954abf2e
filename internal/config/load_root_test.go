//go:build root

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestRootFileOfAnotherUserGivesAWarning checks that a file of another user is read, with a
// warning.
func TestRootFileOfAnotherUserGivesAWarning(t *testing.T) {
	r := request(t)
	r.Command = []string{"x"}
	file := write(t, filepath.Join(r.Dir, "x.yaml"), minimal)
	r.Env = []string{"GOPHD_CONFIG=" + file, "GOPHD_STATE_DIR=" + r.Dir}
	const owner = 12345
	if err := os.Chown(file, owner, -1); err != nil {
		t.Fatal(err)
	}
	for _, r.UID = range []int{0, owner + 1} {
		want := fmt.Sprintf("%s: owned by user %d, who could change what runs; fix it with chown", file, owner)
		if got := load(t, r).Warnings; len(got) != 1 || got[0] != want {
			t.Errorf("user %d: got %q, want %q", r.UID, got, want)
		}
	}
	r.UID = owner
	if got := load(t, r).Warnings; got != nil {
		t.Errorf("one's own file: %q", got)
	}
}

// TestRootLinkOfAnotherUserGivesAWarning checks that a link of another user is followed, with a
// warning: that user could make it lead to a file of root.
func TestRootLinkOfAnotherUserGivesAWarning(t *testing.T) {
	r := request(t)
	write(t, filepath.Join(r.Dir, "a.env"), "A=1")
	link := filepath.Join(r.Dir, "link")
	if err := os.Symlink("a.env", link); err != nil {
		t.Fatal(err)
	}
	if got := load(t, parsed(t, r, "--env-file", "link", "x")).Warnings; got != nil {
		t.Errorf("a link of root: %q", got)
	}
	if err := os.Lchown(link, 12345, -1); err != nil {
		t.Fatal(err)
	}
	want := link + ": a symbolic link of user 12345, who could change what runs; name the file itself, or fix it with chown -h"
	if got := load(t, parsed(t, r, "--env-file", "link", "x")).Warnings; len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
