//go:build root

package pidfile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gophd/internal/pidfile"
)

func TestRootLinkOfAnotherUserIsRejected(t *testing.T) {
	dir := t.TempDir()
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "x.pid")
	writeFile(t, victim, "precious")
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
		t.Errorf("the target of the link contains %q", got)
	}
}

// Every user can lock a file that they can read. gophd still replaces the file of a dead process.
func TestRootLockOfAnotherUserDoesNotCount(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for how, flag := range map[string]string{"shared": "-s", "exclusive": "-x"} {
		path := filepath.Join(dir, how+".pid")
		writeFile(t, path, "4194305\n") // above the greatest PID
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		other := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
			"flock", flag, path, "sh", "-c", "echo locked; read x")
		in, err := other.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := other.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		if err := pidfile.Check(path); err != nil {
			t.Errorf("%s: Check: %v", how, err)
		}
		f, err := pidfile.Take(path)
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if got := content(t, path); got != strconv.Itoa(os.Getpid())+"\n" {
			t.Errorf("%s: the file contains %q", how, got)
		}
		if _, err := pidfile.Take(path); err == nil {
			t.Errorf("%s: taken twice", how)
		}
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
		in.Close()
		_ = other.Wait() // flock exits with the code of read, which is not 0 at EOF
	}
}

// A stale file that no process may remove cannot be replaced. Only an attempt tells root.
func TestRootImmutableFileIsRejected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pid")
	writeFile(t, path, "4194305\n") // above the greatest PID
	if err := pidfile.Check(path); err != nil {
		t.Error(err)
	}
	if out, err := exec.Command("chattr", "+i", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := exec.Command("chattr", "-i", path).Run(); err != nil {
			t.Error(err)
		}
	})
	want := "cannot create pid file " + path + ": operation not permitted"
	f, taken := pidfile.Take(path)
	for _, err := range []error{taken, pidfile.Check(path)} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, %v; want %q", f, err, want)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); len(entries) != 1 || err != nil {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}
