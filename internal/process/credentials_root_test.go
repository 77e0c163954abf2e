//go:build root && linux

package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/credentials"
	"gophd/internal/job"
)

// TestRootSupplementaryGroupsExact is the matrix of gosu's own test.
func TestRootSupplementaryGroupsExact(t *testing.T) {
	s := newSpawner(t)
	for _, spec := range []string{"root", "0", "0:0", "nobody", "65534", "nobody:root", "nobody:0", "0:nogroup", "games:users",
		"1000:1000", "1000:0", "mail", "daemon:daemon", "4294967294:4294967294"} {
		u := lookup(t, spec)
		script := `grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status`
		got, err := runWith(t, s, &credentials.Credentials{User: u}, "sh", "-c", script)
		var groups []string
		for _, g := range slices.Sorted(slices.Values(u.Groups)) {
			groups = append(groups, fmt.Sprint(g))
		}
		want := strings.TrimSpace(fmt.Sprintf(
			"Uid: %[1]d %[1]d %[1]d %[1]d Gid: %[2]d %[2]d %[2]d %[2]d Groups: %[3]s",
			u.UID, u.GID, strings.Join(groups, " ")))
		got, caps, _ := strings.Cut(strings.Join(strings.Fields(got), " "), " CapEff: ")
		if err != nil || got != want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", spec, err, got, want)
		}
		if u.UID != 0 && caps != "0000000000000000" {
			t.Errorf("%s: it kept the capabilities %s", spec, caps)
		}
	}
}

func TestRootSetuidFailureNeverRunsAsRoot(t *testing.T) {
	const ran = "it ran as"
	const onlyRoot = "only root can run a command as nobody (uid 65534, gid 65534): " +
		"run gophd as root, or leave the user out [errno 1, reported beforehand: true]"
	const lacks = "gophd lacks the capabilities CAP_SETUID and CAP_SETGID, so it cannot run a command as nobody (uid 65534, " +
		"gid 65534): give them to it, or leave the user out [errno 1, reported beforehand: true]"
	command := []string{"sh", "-c", "echo " + ran + "; id -u"}
	args := func(user string) []string { return append([]string{user}, command...) }
	// In a user namespace with one user, gophd is root, has no other ids and may not set groups.
	namespace := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}}
	for name, tc := range map[string]struct {
		attr    *syscall.SysProcAttr
		wrapper []string
		message string
	}{
		"user namespace": {attr: namespace, message: "check that gophd's container or user namespace has that id"},
		"root without CAP_SETUID": {wrapper: []string{"setpriv", "--bounding-set", "-setuid", "--"},
			message: lacks},
		"root without CAP_SETGID": {wrapper: []string{"setpriv", "--bounding-set", "-setgid", "--"}, message: "gophd lacks"},
		"another user":            {attr: credential(1000), message: onlyRoot},
	} {
		t.Run(name, func(t *testing.T) {
			got := asHelper(tc.attr, tc.wrapper, args("nobody")...)
			if strings.Contains(got, ran) || !strings.Contains(got, tc.message) {
				t.Errorf("got %q, want an error with %q", got, tc.message)
			}
		})
	}
	// The current user needs no permission.
	if got := asHelper(credential(1000), nil, args("1000:1000")...); got != ran+"\n1000" {
		t.Errorf("oneself: %q", got)
	}
}

// A command of another user opens /dev/stdout, /dev/stderr and /proc/self/fd again, as the images of
// nginx, httpd and php-fpm do. Its pipes belong to it and to nobody else.
func TestRootCommandOpensItsPipesAgain(t *testing.T) {
	s := newSpawner(t)
	const script = `echo a > /dev/stdout; echo b > /proc/self/fd/1; echo c > /dev/fd/1
		echo d > /dev/stderr; echo e > /proc/self/fd/2; stat -L -c '%u:%g %a' /dev/stdout /dev/stderr; id -u`
	for _, spec := range []string{"nobody", "games:users", "1000:0", "4294967294:4294967294", "0:nogroup", "root"} {
		u := lookup(t, spec)
		owner := fmt.Sprintf("%d:%d 600\n", u.UID, u.GID)
		for name, shared := range map[string]bool{"one pipe": true, "two pipes": false} {
			stdout, stderr := newCapture(), newCapture()
			c := Command{Argv: []string{"sh", "-c", script}, Dir: "/", Env: []string{"PATH=/bin:/usr/bin"},
				Credentials: &credentials.Credentials{User: u}, Stdout: stdout.output(), Stderr: stderr.output()}
			want, wantErr := "a\nb\nc\n", "d\ne\n"
			if shared {
				c.Stderr = Output{Same: true}
				want, wantErr = want+wantErr, ""
			}
			want += owner + owner + fmt.Sprintln(u.UID)
			p, err := s.Start(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if r := p.Wait(); !r.OK() || stdout.String() != want || stderr.String() != wantErr {
				t.Errorf("%s, %s: %v, %q and %q, want %q and %q", spec, name, r, stdout, stderr, want, wantErr)
			}
		}
	}
	// Without a user of its own a command has gophd's pipes.
	got, err := runWith(t, s, &credentials.Credentials{Umask: ptr(0o77)}, "stat", "-L", "-c", "%u:%g", "/dev/stdout")
	if want := fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid()); err != nil || got != want {
		t.Errorf("the pipe of a command with a umask belongs to %s (%v), want %s", got, err, want)
	}
}

// Without CAP_CHOWN the command runs, and only the opening fails, which MayGive reports.
func TestRootPipesWithoutCapChown(t *testing.T) {
	script := []string{"sh", "-c", "{ echo again > /dev/stdout; } 2>/dev/null || echo once"}
	const fix = "the command cannot open /dev/stdout or /dev/stderr: gophd may not give its pipes to user nobody; " +
		"give gophd the capability CAP_CHOWN"
	without := []string{"setpriv", "--bounding-set", "-chown", "--"}
	if got := asHelper(nil, without, append([]string{"nobody"}, script...)...); got != "once\n"+fix {
		t.Errorf("got %q", got)
	}
	if got := asHelper(nil, nil, append([]string{"nobody"}, script...)...); got != "again" {
		t.Errorf("with it: %q", got)
	}
	if got := asHelper(nil, without, append([]string{"root"}, script...)...); got != "again" {
		t.Errorf("as gophd's own user: %q", got)
	}
}

func credential(id uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
}

func TestRootTooManyGroups(t *testing.T) {
	s := newSpawner(t)
	w := credentials.Credentials{User: &credentials.User{Name: "x", UID: 1, GID: 1, Groups: make([]int, 70000)}}
	_, err := s.Start(t.Context(), Command{
		Argv: []string{"/bin/true"}, Dir: "/", Credentials: &w, Stdout: discard(), Stderr: discard(),
	})
	if !errors.Is(err, syscall.EINVAL) || job.StartCode(err) != 1 || !strings.Contains(err.Error(), "user") {
		t.Errorf("%v (code %d), want EINVAL and code 1", err, job.StartCode(err))
	}
}

// The permissions of the user, not of root, decide about the directory and the file.
func TestRootFailuresAreTheUsersOwn(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	write(t, dir+"/private", "#!/bin/sh\n", 0o700)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := credentials.Credentials{User: lookup(t, "nobody")}
	for argv0, want := range map[string]string{"./private": "may not be entered", "/bin/true": "may not be entered"} {
		_, err := s.Start(t.Context(), Command{
			Argv: []string{argv0}, Dir: dir, Credentials: &w, Stdout: discard(), Stderr: discard(),
		})
		if err == nil || !strings.Contains(err.Error(), want) || job.StartCode(err) != 1 {
			t.Errorf("%s: %v (code %d), want %q", argv0, err, job.StartCode(err), want)
		}
	}
}

// Check looks as the user of the command, in its directory: what root may do does not count.
func TestRootCheckLooksAsTheUser(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	for _, at := range []string{dir, filepath.Dir(dir)} { // only the owner can enter a TempDir
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(dir+"/roots", 0o700), os.Mkdir(dir+"/bin", 0o755)); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/roots/x", "#!/bin/sh\n", 0o755)
	write(t, dir+"/private", "#!/bin/sh\n", 0o700)
	write(t, dir+"/public", "#!/bin/sh\n", 0o755)
	write(t, dir+"/by-private", "#!"+dir+"/private\n", 0o755)
	write(t, dir+"/bin/private", "#!/bin/sh\n", 0o755)
	for name, tc := range map[string]struct {
		argv0, dir, want string
	}{
		"public":              {"./public", dir, ""},
		"private":             {"./private", dir, "permission denied"},
		"private interpreter": {"./by-private", dir, "its interpreter " + dir + "/private may not be executed"},
		"private directory":   {"/bin/true", dir + "/roots", "may not be entered"},
		"private part":        {dir + "/roots/x", dir, "permission denied"},
		"second in PATH":      {"private", dir, ""},
	} {
		for _, user := range []string{"nobody", "root"} {
			w := credentials.Credentials{User: lookup(t, user)}
			c := Command{Argv: []string{tc.argv0}, Dir: tc.dir, Env: []string{"PATH=" + dir + ":" + dir + "/bin"}, Credentials: &w}
			want := tc.want
			if user == "root" {
				want = ""
			}
			if err := agree(t, s, c); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s as %s: %v; want %q", name, user, err, want)
			}
		}
	}
}

// An escaped process that changed its user can be neither read nor signaled. It is spared, and does
// not block Wait.
func TestRootStrayOfAnotherUser(t *testing.T) {
	s := newSpawner(t)
	if name, pid, killed := setuidEscaped(t, credential(1000)); name != "other" || killed != "false" {
		t.Errorf("reported %s, %s; want one that is called other and was spared", name, killed)
	} else {
		killSpared(t, s, pid)
	}
}

// TestRootAsProcessOne is TestReapingAsProcess1 in a PID namespace, in which nothing else is left.
func TestRootAsProcessOne(t *testing.T) {
	// unshare(1) makes /proc private before it mounts another one. In a chroot it cannot make the
	// other mounts private.
	cmd := exec.Command("unshare", "--pid", "--fork", "--propagation", "unchanged", "--mount-proc", os.Args[0])
	cmd.Env = helperEnv("init")
	if out, _ := cmd.CombinedOutput(); string(out) != "all is well\n" {
		t.Errorf("%s", out)
	}
}

func lookup(t *testing.T, spec string) *credentials.User {
	t.Helper()
	u, err := credentials.LookupUser(spec)
	if err != nil {
		t.Fatal(err)
	}
	return &u
}
