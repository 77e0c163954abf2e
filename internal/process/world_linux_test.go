package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/job"
	"gophd/internal/self"
	"gophd/internal/world"
)

// in runs a command in a world and returns what it printed, or why it was not started.
func in(t *testing.T, s *Spawner, w *world.World, argv ...string) (string, error) {
	t.Helper()
	out := newCapture()
	p, err := s.Start(t.Context(), Command{Argv: argv, Dir: "/", Env: []string{"PATH=/bin:/usr/bin", "A=1", "A=2", "\xff"},
		World: w, Stdout: out.output(), Stderr: out.output2()})
	if err != nil {
		return "", err
	}
	if r := p.Wait(); !r.OK() {
		t.Errorf("%q: %v: %s", argv, r, out)
	}
	return strings.TrimSpace(out.String()), nil
}

// output2 is a second stream into the same buffer, whose end is nobody's event.
func (c *capture) output2() Output {
	return Output{Open: func(int) io.WriteCloser { return also{c} }}
}

type also struct{ *capture }

func (also) Close() error { return nil }

func ptr[T any](v T) *T { return &v }

func rlimit(t *testing.T, s string) world.Rlimit {
	t.Helper()
	r, err := world.ParseRlimit(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWorldIsAsAskedFor(t *testing.T) {
	s := newSpawner(t)
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 - niceness
	if err != nil {
		t.Fatal(err)
	}
	nicer := min(20-own+7, 19) // than this program: only root can have less
	for name, tc := range map[string]struct {
		world  world.World
		script string
		want   string
	}{
		"umask":           {world.World{Umask: ptr(0o27)}, "umask", "0027"},
		"no umask at all": {world.World{Umask: ptr(0)}, "umask", "0000"},
		"nice":            {world.World{Nice: &nicer}, "nice; cut -d' ' -f19 /proc/self/stat", fmt.Sprintf("%[1]d\n%[1]d", nicer)},
		"rlimits": {world.World{Rlimits: []world.Rlimit{rlimit(t, "nofile=123:456"), rlimit(t, "core=0")}},
			"ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc", "123\n456\n0\n0"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := in(t, s, &tc.world, "sh", "-c", tc.script); err != nil || got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
		})
	}
	// In a world that differs in nothing, all else is as without one too.
	script := "sed -n '/^Sig[BCI]/p; /^Shd/p; /^Umask/p' /proc/self/status; ls /proc/self/fd; cat /proc/self/limits; pwd; ps -o pgid=,sid=,ni= -p $$ | wc -w"
	plain, err := in(t, s, nil, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := in(t, s, &world.World{}, "sh", "-c", script); err != nil || got != plain {
		t.Errorf("got %s (%v)\nwant %s", got, err, plain)
	}
	// The words of the command are bytes, and its environment is not tidied up.
	got, err := in(t, s, &world.World{}, "printf", "%s", "\xff \n")
	if err != nil || got != "\xff" {
		t.Errorf("got %q (%v)", got, err)
	}
	got, err = in(t, s, &world.World{}, "cat", "/proc/self/environ")
	if want := "PATH=/bin:/usr/bin\x00A=1\x00A=2\x00\xff\x00"; err != nil || got != want {
		t.Errorf("its environment is %q (%v), want %q", got, err, want)
	}
}

// The limits of the command must not be what ends the shim. That of CPU time is no tight one here: it counts what
// the shim has used, and that has no bound on a slow machine.
func TestTightLimitsAreTheCommandsAlone(t *testing.T) {
	s := newSpawner(t)
	w := world.World{Rlimits: []world.Rlimit{rlimit(t, "as=20000000"), rlimit(t, "data=4000000"), rlimit(t, "nproc=0"), rlimit(t, "nofile=4"),
		rlimit(t, "fsize=0"), rlimit(t, "memlock=0"), rlimit(t, "cpu=600")}}
	large := "A=" + strings.Repeat("x", 100000)
	for range 20 {
		out := newCapture()
		p, err := s.Start(t.Context(), Command{Argv: []string{"/bin/echo", "here"}, Dir: "/", Env: slices.Repeat([]string{large}, 5), World: &w,
			Stdout: out.output(), Stderr: out.output2()})
		if err != nil {
			t.Fatal(err)
		}
		if r := p.Wait(); !r.OK() || out.String() != "here\n" {
			t.Fatalf("%v, %q", r, out)
		}
	}
}

// The runtime of gophd, and that of the shim, raise the soft limit of nofile; the command has that of
// the beginning, whatever other limits it is given.
func TestNofileLimitRestoredInAWorld(t *testing.T) {
	cmd := exec.Command("sh", "-c", `ulimit -Sn 123; exec "$0" "$@"`, os.Args[0], fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()), "sh", "-c", "ulimit -Sn; ulimit -c")
	cmd.Env = append(helperEnv("world"), "CORE=0")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "123\n0\n" {
		t.Errorf("got %q (%v), want the soft limit 123", out, err)
	}
}

func TestStdinIsGiven(t *testing.T) {
	s := newSpawner(t)
	for name, w := range map[string]*world.World{"plain": nil, "in a world": {}} {
		f, err := os.Open("/proc/self/stat")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out := newCapture()
		p, err := s.Start(t.Context(), Command{Argv: []string{"/bin/cat"}, Dir: "/", World: w, Stdin: f, Stdout: out.output(), Stderr: discard()})
		if err != nil {
			t.Fatal(err)
		}
		p.Wait()
		if want := fmt.Sprint(os.Getpid(), " ("); !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: it read %q", name, out)
		}
	}
}

// helpWorld tries to run its third and further arguments as the user that the second names, as gophd would.
func helpWorld() error {
	if _, err := self.Catch(); err != nil {
		return err
	}
	s, err := New()
	if err != nil {
		return err
	}
	defer s.Close()
	u, err := world.LookupUser(os.Args[1])
	if err != nil {
		return err
	}
	w := &world.World{User: &u}
	if os.Getenv("CORE") != "" {
		w.Rlimits = []world.Rlimit{{Name: "core", Resource: unix.RLIMIT_CORE}}
	}
	before := Permitted(w)
	p, err := s.Start(context.Background(), Command{Argv: os.Args[2:], Dir: "/", Env: []string{"PATH=/bin:/usr/bin"}, World: w,
		Stdout: Output{File: os.Stdout}, Stderr: Output{File: os.Stdout}})
	if err != nil {
		return fmt.Errorf("%w [errno %d, told beforehand: %v]", err, errno(err), before != nil)
	}
	if r := p.Wait(); !r.OK() {
		return errors.New(r.String())
	}
	return nil
}

// asHelper runs helpWorld by way of a wrapper, which takes rights away.
func asHelper(attr *syscall.SysProcAttr, wrapper []string, args ...string) string {
	words := append(append(wrapper, image), args...)
	if len(wrapper) > 0 {
		words[len(wrapper)] = "/proc/" + fmt.Sprint(os.Getpid()) + "/exe" // image would be the wrapper's
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = helperEnv("world")
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		out = []byte(err.Error())
	}
	return string(bytes.TrimSpace(out))
}

// Every failure to start is told apart, with a world as without; that of the world is added.
func TestWorldFailures(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	write(t, dir+"/plain", "#!/bin/sh\n", 0o644)
	write(t, dir+"/naked", "echo hi\n", 0o755)
	write(t, dir+"/crlf", "#!/bin/sh\r\n", 0o755)
	files, before := openFiles(t), children()
	for name, tc := range map[string]struct {
		argv0, dir string
		world      world.World
		errno      syscall.Errno
		code       int
		says       string
	}{
		"missing":         {argv0: "./no.sh", errno: syscall.ENOENT, code: 127, says: "no such file"},
		"not in path":     {argv0: "no.sh", errno: syscall.ENOENT, code: 127, says: "not found in PATH (/bin)"},
		"not executable":  {argv0: "./plain", errno: syscall.EACCES, code: 126, says: "chmod +x"},
		"no first line":   {argv0: "./naked", errno: syscall.ENOEXEC, code: 126, says: "must begin with a line"},
		"interpreter":     {argv0: "./crlf", errno: syscall.ENOENT, code: 127, says: "correct its first line"},
		"folder gone":     {argv0: "/bin/true", dir: dir + "/gone", errno: syscall.ENOENT, code: 1, says: "is gone"},
		"NUL":             {argv0: "./a\x00b", errno: syscall.EINVAL, code: 1, says: "NUL byte"},
		"limit too high":  {argv0: "/bin/true", world: world.World{Rlimits: []world.Rlimit{{Name: "nofile", Resource: unix.RLIMIT_NOFILE, Soft: world.Unlimited, Hard: world.Unlimited}}}, errno: syscall.EPERM, code: 1, says: "only root can raise that: ask for less"},
		"unknown limit":   {argv0: "/bin/true", world: world.World{Rlimits: []world.Rlimit{{Name: "none", Resource: 99}}}, errno: syscall.EINVAL, code: 1, says: "the limit none=0 is not known"},
		"limits crossed":  {argv0: "/bin/true", world: world.World{Rlimits: []world.Rlimit{{Name: "core", Resource: unix.RLIMIT_CORE, Soft: 2, Hard: 1}}}, errno: syscall.EINVAL, code: 1, says: "swap them"},
		"tight, then not": {argv0: "./naked", world: world.World{Rlimits: []world.Rlimit{{Name: "nofile", Resource: unix.RLIMIT_NOFILE}}}, errno: syscall.ENOEXEC, code: 126, says: "must begin with a line"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.dir == "" {
				tc.dir = dir
			}
			p, err := s.Start(t.Context(), Command{Argv: []string{tc.argv0}, Dir: tc.dir, Env: []string{"PATH=/bin"}, World: &tc.world, Stdout: discard(), Stderr: discard()})
			if err == nil {
				t.Fatalf("it was started: %v", p.Wait())
			}
			if !errors.Is(err, tc.errno) || job.StartCode(err) != tc.code || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v (code %d); want %v, code %d, %q in one line", err, job.StartCode(err), tc.errno, tc.code, tc.says)
			}
		})
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d descriptors are open, %d were before", now, files)
	}
	for _, pid := range children() {
		if !slices.Contains(before, pid) {
			t.Errorf("a shim is left behind: %d", pid)
		}
	}
}

// TestCommandAsOneself needs no right, and what it sets is what is there already.
func TestCommandAsOneself(t *testing.T) {
	s := newSpawner(t)
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	u := &world.User{Name: "oneself", UID: os.Getuid(), GID: os.Getgid(), Groups: groups}
	if err := Permitted(&world.World{User: u}); err != nil {
		t.Error(err)
	}
	script := `grep -E '^(Uid|Gid|Groups):' /proc/self/status`
	want, err := in(t, s, nil, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := in(t, s, &world.World{User: u}, "sh", "-c", script); err != nil || got != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
	me := fmt.Sprint(os.Getuid(), ":", os.Getgid())
	if got := asHelper(nil, nil, me, "id", "-u"); got != fmt.Sprint(os.Getuid()) {
		t.Errorf("as a program of its own: %q", got)
	}
}

// A shim that is killed on its way has not run the command, and that is said.
func TestShimIsKilled(t *testing.T) {
	s := newSpawner(t)
	// It is held up by a control group whose file is a pipe that nobody empties.
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/cgroup.procs", 0o600); err != nil {
		t.Fatal(err)
	}
	full, err := unix.Open(dir+"/cgroup.procs", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full)
	for err == nil {
		_, err = unix.Write(full, make([]byte, 4096))
	}
	events, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(events)
	if _, err := unix.InotifyAddWatch(events, dir, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.enter(Command{Argv: []string{"touch", dir + "/ran"}, Dir: "/", World: &world.World{}}, []*os.File{s.null, s.null, s.null}, leafAt(dir))
		ended <- err
	}()
	if _, err := unix.Read(events, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	for _, pid := range children() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "cannot start touch: what prepares its world ended early (signal KILL)") || job.StartCode(err) != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("the command ran")
	}
}

func TestShimWithoutAParent(t *testing.T) {
	out, _ := exec.Command(image, ShimCommand).CombinedOutput()
	if got := strings.TrimSpace(string(out)); got != ShimCommand+" is for gophd itself, when it starts a command" {
		t.Errorf("got %q", got)
	}
}
