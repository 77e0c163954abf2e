package self_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/self"
)

// role makes the test binary act as gophd: it calls Catch and prints the result.
const role = "SELF_TEST_ROLE"

// noRaceSleep removes the second that a program built with -race sleeps before it exits.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "zone":
		fmt.Printf("%q %s", self.UnknownZone(), time.Now().Location())
		os.Exit(0)
	case "deleted":
		_ = os.Remove(os.Args[0])
	case "replaced":
		_ = os.Remove(os.Args[0])
		_ = os.WriteFile(os.Args[0], []byte("#!/bin/sh\n"), 0o755)
	}
	os.Exit(printCaught())
}

// caught is what the child reports.
type caught struct {
	self.Self
	Environ []string // of the process, after Catch
	Open    []string // descriptors that an exec would pass on
}

func printCaught() int {
	s, err := self.Catch()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	open, err := exec.Command("/bin/sh", "-c", "/bin/ls /proc/$$/fd; :").Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(caught{s, os.Environ(), strings.Fields(string(open))}); err != nil {
		return 1
	}
	return 0
}

func start(t *testing.T, c *exec.Cmd, as string) caught {
	t.Helper()
	c.Env = append(c.Environ(), role+"="+as, noRaceSleep)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var s caught
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return s
}

// The warning is exactly for the zones for which Go falls back to UTC.
func TestUnknownZone(t *testing.T) {
	file := install(t, t.TempDir(), "gophd")
	for tz, unknown := range map[string]bool{
		"Europe/Berlin": false, ":Europe/Berlin": false, "UTC": false, ":UTC": false, "": false, ":": false,
		"Etc/UTC": false, "UTC0": false, "/usr/share/zoneinfo/Europe/Berlin": false,
		"Mars/Base": true, ":Mars/Base": true, "CET-1CEST": true, "Europe/Berlin ": true, "../../etc/passwd": true,
		"/none": true, "/etc/passwd": true,
	} {
		cmd := exec.Command(file)
		cmd.Env = []string{role + "=zone", "TZ=" + tz, noRaceSleep}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%q ", "")
		if unknown {
			want = fmt.Sprintf("%q UTC", tz)
		}
		if !strings.HasPrefix(string(out), want) {
			t.Errorf("TZ=%q: %s, want %s", tz, out, want)
		}
	}
	cmd := exec.Command(file)
	cmd.Env = []string{role + "=zone", noRaceSleep}
	if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), `"" `) {
		t.Errorf("without TZ: %s, %v", out, err)
	}
}

// install links or copies the test binary to dir/name.
func install(t *testing.T, dir, name string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, name)
	if os.Link(exe, to) == nil {
		return to
	}
	data, err := os.ReadFile(exe) // another file system, or a file of another user
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// realDir returns a temporary directory without symbolic links in its path, like the system's name
// of a running program.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPathIsTheCalledNameIfItIsTheRunningFile(t *testing.T) {
	dir := realDir(t)
	v1 := filepath.Join(dir, "v1")
	if err := os.MkdirAll(v1, 0o755); err != nil {
		t.Fatal(err)
	}
	file := install(t, v1, "gophd")
	if err := os.WriteFile(filepath.Join(dir, "other"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("v1", filepath.Join(dir, "current")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		argv0, path, want string
	}{
		"absolute":                {argv0: file, want: file},
		"absolute through a link": {argv0: dir + "/current/gophd", want: dir + "/current/gophd"},
		"relative":                {argv0: "./v1/gophd", want: file},
		"relative upwards":        {argv0: "../" + filepath.Base(dir) + "/current/gophd", want: dir + "/current/gophd"},
		"by PATH":                 {argv0: "gophd", path: "/nowhere:" + dir + "/current", want: dir + "/current/gophd"},
		"by a relative PATH":      {argv0: "gophd", path: "current", want: dir + "/current/gophd"},
		"not in PATH":             {argv0: "gophd", path: "/nowhere", want: file},
		"a login shell's dash":    {argv0: "-gophd", want: file},
		"empty":                   {argv0: "", want: file},
		"another program's name":  {argv0: "./other", want: file},
		"a directory's name":      {argv0: "./current", want: file},
		"a missing file's name":   {argv0: "./none", want: file},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := &exec.Cmd{Path: file, Args: []string{c.argv0, "-d", "", "two words"}, Dir: dir}
			if c.path != "" {
				cmd.Env = []string{"PATH=" + c.path}
			}
			s := start(t, cmd, "gophd")
			if s.Path != c.want {
				t.Errorf("path is %s, want %s", s.Path, c.want)
			}
			if d := cmp.Diff(cmd.Args, s.Args); d != "" {
				t.Errorf("arguments (-given +caught):\n%s", d)
			}
			if s.Dir != dir {
				t.Errorf("directory is %s, want %s", s.Dir, dir)
			}
		})
	}
}

func TestPathHasNoDeletedSuffix(t *testing.T) {
	for _, as := range []string{"deleted", "replaced"} {
		file := install(t, realDir(t), "gophd")
		if s := start(t, exec.Command(file), as); s.Path != file {
			t.Errorf("%s while running: path is %q, want %q", as, s.Path, file)
		}
	}
	odd := install(t, realDir(t), "gophd (deleted)")
	if s := start(t, exec.Command(odd), "gophd"); s.Path != odd {
		t.Errorf("path is %q, want the true name %q", s.Path, odd)
	}
}

func TestPrivateVariablesAreNotPassedOn(t *testing.T) {
	c := exec.Command(install(t, t.TempDir(), "gophd"))
	c.Env = []string{self.HandoffVariable + "=7", "A=1", self.ReadyVariable + "=8", "PATH=/bin:/usr/bin", "EMPTY="}
	s := start(t, c, "gophd")
	if s.Handoff != "7" || s.Ready != "8" {
		t.Errorf("caught %q and %q, want 7 and 8", s.Handoff, s.Ready)
	}
	want := []string{"A=1", "EMPTY=", noRaceSleep, "PATH=/bin:/usr/bin", role + "=gophd"}
	for what, env := range map[string][]string{"Env": s.Env, "the process's environment": s.Environ} {
		if d := cmp.Diff(want, slices.Sorted(slices.Values(env))); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
}

func TestInheritedDescriptorsDoNotReachTheCommand(t *testing.T) {
	file := install(t, t.TempDir(), "gophd")
	// 100 is far above the runtime's descriptors. The shell leaves both without close-on-exec.
	sh := exec.Command("/bin/bash", "-c", `exec 5</dev/null 100</dev/null; exec "$0"`, file)
	s := start(t, sh, "gophd")
	var extra []string
	for _, fd := range s.Open {
		if len(fd) > 1 || fd > "2" {
			extra = append(extra, fd)
		}
	}
	if len(s.Open) < 3 || len(extra) > 0 {
		t.Errorf("the command has descriptors %v, want 0, 1 and 2 only", s.Open)
	}
}

func TestStartWithClosedStandardDescriptors(t *testing.T) {
	file := install(t, t.TempDir(), "gophd")
	out := filepath.Join(t.TempDir(), "out")
	sh := exec.Command("/bin/sh", "-c", `"$0" <&- 2>&- >"$1"`, file, out)
	sh.Env = append(os.Environ(), role+"=gophd", noRaceSleep)
	if err := sh.Run(); err != nil {
		t.Fatal(err)
	}
	var s caught
	data, err := os.ReadFile(out)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.Path != file {
		t.Errorf("path is %s, want %s", s.Path, file)
	}
}

func TestMissingWorkingDirectoryIsNamed(t *testing.T) {
	file, dir := install(t, t.TempDir(), "gophd"), t.TempDir()
	sh := exec.Command("/bin/sh", "-c", `rmdir "$1" && exec "$0"`, file, dir)
	sh.Dir, sh.Env = dir, append(os.Environ(), role+"=gophd", noRaceSleep)
	out, err := sh.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "start gophd in a directory that exists") {
		t.Errorf("got %v and %q, want the fix", err, out)
	}
}
