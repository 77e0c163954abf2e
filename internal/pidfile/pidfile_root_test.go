//go:build root

package pidfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gophd/internal/pidfile"
)

func TestRootLinkOfAnotherUserIsRefused(t *testing.T) {
	dir := t.TempDir()
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "x.pid")
	put(t, victim, "precious")
	if err := os.Symlink("victim", link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, err := pidfile.Take(link)
	if err == nil || !strings.Contains(err.Error(), "symbolic link of user 65534: remove it") {
		t.Errorf("got %v, want the owner and the fix", err)
	}
	if got := content(t, victim); got != "precious" {
		t.Errorf("the victim holds %q", got)
	}
}
