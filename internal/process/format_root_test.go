//go:build root && linux

package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"gophd/internal/credentials"
	"gophd/internal/job"
)

// TestRootCheckFollowsTheHandlersOfTheKernel registers handlers (binfmt_misc) in another mount
// namespace, as they are for a container: they apply here and are not visible.
func TestRootCheckFollowsTheHandlersOfTheKernel(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	for _, d := range []string{dir, dir + "/.."} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	foreign := []byte(program(t, "/lib/none.so.1"))
	foreign[18], foreign[19] = 0xe7, 0x03 // a machine that does not exist, 999
	files := map[string]string{
		"magic":     "\x9a\xf1GPH.",
		"mask":      "\x9b\xf1GPH1",
		"foreign":   string(foreign),
		"x.gophd-t": "#!/opt/none/sh\n",
		"text":      "GPH-text\n",
	}
	for name, text := range files {
		write(t, dir+"/"+name, text, 0o755)
	}
	write(t, dir+"/by-magic", "#!"+dir+"/magic\n", 0o755)
	names := []string{"magic", "mask", "foreign", "x.gophd-t", "text", "by-magic"}
	check := func(handled bool) {
		t.Helper()
		for _, name := range names {
			for _, creds := range []*credentials.Credentials{nil, {User: lookup(t, "nobody")}} {
				c := Command{Argv: []string{dir + "/" + name}, Dir: "/", Env: []string{"PATH=/bin"}, Credentials: creds}
				if err := agree(t, s, c); (err == nil) != handled {
					t.Errorf("%s, as nobody: %v: %v", name, creds != nil, err)
				}
			}
		}
	}
	check(false)

	_ = exec.Command("modprobe", "binfmt_misc").Run() // it may be a part of the kernel
	if systems, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(systems), "binfmt_misc") {
		t.Log("this kernel has no handlers: ", err)
		return
	}
	register := exec.Command("unshare", "--mount", "sh", "-ec", `
		mount -t binfmt_misc none "$1"
		mount -t tmpfs none "$2"
		cp /bin/true "$2/hidden"
		tag=gophd-test-$$
		for rule in ':magic:M::\x9a\xf1GPH.::/bin/true:' ':mask:M::\x9b\xf1GPH0:\xff\xff\xff\xff\xff\xfe:'"$2/hidden:OCF" \
			':foreign:M:18:\xe7\x03::/bin/true:POCF' ':extension:E::gophd-t::/bin/true:' ':text:M::GPH-text::/bin/true:P'; do
			printf '%s\n' ":$tag-${rule#:}" >"$1/register"
		done
		echo registered
		read -r _ || :
		for entry in "$1/$tag"-*; do echo -1 >"$entry"; done`, "sh", t.TempDir(), t.TempDir())
	in, err := register.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := register.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	register.Stderr = os.Stderr
	if err := register.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "registered\n" {
		t.Error(line, err)
	}
	check(true)
	// A handler that gets the file open does not need the permission to read it.
	chmod := func(mode os.FileMode) {
		if err := errors.Join(os.Chmod(dir+"/foreign", mode), os.Chmod(dir+"/mask", mode)); err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o711)
	check(true)
	chmod(0o755)
	_ = in.Close()
	if err := register.Wait(); err != nil {
		t.Fatal(err)
	}
	check(false)
}

// TestRootCheckReadsAScriptAsItsUser checks files that the user of the command may execute and not
// read. The kernel needs no more for a program, but an interpreter reads its script.
func TestRootCheckReadsAScriptAsItsUser(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	for _, d := range []string{dir, dir + "/.."} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	member := *lookup(t, "nobody")
	member.Groups = append(member.Groups, 4242)
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/reader", "#!/bin/sh\n", 0o711)
	write(t, dir+"/option", "#!/bin/sh -e\n", 0o711)
	write(t, dir+"/program", string(program), 0o711)
	write(t, dir+"/interpreter", "#!/bin/sh\n", 0o711)
	write(t, dir+"/by-interpreter", "#!"+dir+"/interpreter\n", 0o755)
	write(t, dir+"/by-env", "#!/usr/bin/env reader\n", 0o755)
	write(t, dir+"/of-group", "#!/bin/sh\n", 0o750)
	write(t, dir+"/of-owner", "#!/bin/sh\n", 0o744)
	write(t, dir+"/no-program", "#!/bin/sh\n", 0o600)
	write(t, dir+"/by-group", "#!"+dir+"/of-group\n", 0o755)
	write(t, dir+"/env-group", "#!/usr/bin/env of-group\n", 0o755)
	if err := os.Chown(dir+"/of-group", 0, 4242); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/closed", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/closed/job", "#!/bin/sh\n", 0o755)
	write(t, dir+"/by-closed", "#!"+dir+"/closed/job\n", 0o755)
	const unread = "may be executed but not read, and its interpreter reads it as the user of the command: allow it (chmod a+r)"
	for _, tc := range []struct {
		name string
		user *credentials.User
		want string
	}{
		{"reader", nil, ""},
		{"reader", lookup(t, "root"), ""},
		{"reader", lookup(t, "nobody"), "the script " + dir + "/reader " + unread},
		{"option", lookup(t, "nobody"), "the script " + dir + "/option " + unread},
		{"program", lookup(t, "nobody"), ""},
		{"by-interpreter", lookup(t, "nobody"), "the script " + dir + "/interpreter " + unread},
		{"by-env", lookup(t, "nobody"), "env starts " + dir + "/reader: the script " + dir + "/reader " + unread},
		{"closed/job", lookup(t, "nobody"), "permission denied: the directory " + dir + "/closed may not be entered: grant the right"},
		{"by-closed", lookup(t, "nobody"), "may not be executed: the directory " + dir + "/closed may not be entered"},
		{"of-group", &member, ""},
		{"of-group", lookup(t, "nobody"), "permission denied: user 65534 may neither read nor execute it: allow both (chmod a+rx " +
			dir + "/of-group)"},
		{"of-owner", lookup(t, "nobody"), "permission denied: user 65534 may read it and not execute it: allow that (chmod a+x " +
			dir + "/of-owner)"},
		{"no-program", lookup(t, "nobody"), "permission denied: user 65534 may neither read nor execute it: allow both (chmod a+rx "},
		{"by-group", lookup(t, "nobody"), "may not be executed: user 65534 may neither read nor execute it: allow both (chmod a+rx " +
			dir + "/of-group)"},
		{"env-group", lookup(t, "nobody"), "env may not execute of-group: user 65534 may neither read nor execute it: allow both"},
	} {
		var w *credentials.Credentials
		if tc.user != nil {
			w = &credentials.Credentials{User: tc.user}
		}
		t.Run(fmt.Sprintf("%s as %v", tc.name, tc.user), func(t *testing.T) {
			c := Command{Argv: []string{dir + "/" + tc.name}, Dir: "/", Env: []string{"PATH=/bin:/usr/bin:" + dir}, Credentials: w,
				Stdout: discard(), Stderr: discard()}
			_, err := Check(c)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v; want %q", err, tc.want)
			}
			if err != nil && job.StartCode(err) != 126 {
				t.Errorf("exit code %d", job.StartCode(err))
			}
			p, startErr := s.Start(t.Context(), c)
			if startErr != nil {
				if errno(startErr) != syscall.EACCES || err == nil {
					t.Error(startErr)
				}
				return
			}
			if got := p.Wait(); got.OK() != (err == nil) {
				t.Errorf("Check: %v; the run ends with %v", err, got)
			}
		})
	}
}
