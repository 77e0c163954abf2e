//go:build root && linux

package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/credentials"
)

// A new output file belongs to the job's user. A file that exists belongs to whoever has created it.
func TestRootNewOutputBelongsToTheUser(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(path("there"), nil, 0o640), os.Symlink("target", path("link")),
		os.Mkdir(path("shared"), 0o755), os.Chown(path("shared"), 0, 4), os.Chmod(path("shared"), 0o755|os.ModeSetgid),
		os.Mkdir(path("theirs"), 0o755), os.Chown(path("theirs"), 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	user := &credentials.Credentials{User: &credentials.User{Name: "nobody", UID: 65534, GID: 65533}}
	for _, c := range []struct {
		file, at string
		w        *credentials.Credentials
		uid, gid uint32
	}{
		{"new", "new", user, 65534, 65533},
		{"there", "there", user, 0, 0},
		{"link", "target", user, 65534, 65533},
		{"shared/new", "shared/new", user, 65534, 4},
		{"theirs/new", "theirs/new", user, 65534, 65533},
		{"own", "own", nil, 0, 0},
		{"umask", "umask", &credentials.Credentials{Umask: new(int)}, 0, 0},
	} {
		f, err := openOutput(path(c.file), c.w, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		info, err := os.Lstat(path(c.at))
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Uid != c.uid || st.Gid != c.gid || info.Mode()&^0o640 != 0 {
			t.Errorf("%s belongs to %d:%d with mode %v, want %d:%d with 0640 at most",
				c.file, st.Uid, st.Gid, info.Mode(), c.uid, c.gid)
		}
	}
}

// Where a file cannot be given away (no CAP_CHOWN, vfat, NFS) the command can write to it all the
// same, and the log says what it cannot do.
func TestRootOutputThatCannotBeGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new")
	user := &credentials.Credentials{User: &credentials.User{Name: "nobody", UID: 65534, GID: 65534}}
	var problems []error
	done := make(chan error)
	go func() { // its thread, which ends with it, may not give files away
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		err := unix.Capget(&header, &sets[0])
		sets[0].Effective &^= 1 << unix.CAP_CHOWN
		if err == nil {
			err = unix.Capset(&header, &sets[0])
		}
		if err == nil {
			var f *os.File
			if f, err = openOutput(path, user, func(err error) { problems = append(problems, err) }); err == nil {
				_, err = f.WriteString("line\n")
				err = errors.Join(err, f.Close())
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "its output cannot be given to user nobody") ||
		!strings.Contains(problems[0].Error(), path) {
		t.Errorf("problems: %q", problems)
	}
	if text, err := os.ReadFile(path); string(text) != "line\n" {
		t.Errorf("%q, %v", text, err)
	}
}
