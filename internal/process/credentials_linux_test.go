package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	"gophd/internal/self"
)

// runWith runs a command with credentials and returns what it printed, or why it was not started.
func runWith(t *testing.T, s *Spawner, w *credentials.Credentials, argv ...string) (string, error) {
	t.Helper()
	out := newCapture()
	p, err := s.Start(t.Context(), Command{
		Argv: argv, Dir: "/", Env: []string{"PATH=/bin:/usr/bin", "A=1", "A=2", "\xff"}, Credentials: w,
		Stdout: out.output(), Stderr: out.sharedOutput(),
	})
	if err != nil {
		return "", err
	}
	if r := p.Wait(); !r.OK() {
		t.Errorf("%q: %v: %s", argv, r, out)
	}
	return strings.TrimSpace(out.String()), nil
}

// sharedOutput is a second stream into the same buffer. Its end does not close the buffer.
func (c *capture) sharedOutput() Output {
	return Output{Open: func(int) io.WriteCloser { return sharedCapture{c} }}
}

type sharedCapture struct{ *capture }

func (sharedCapture) Close() error { return nil }

func ptr[T any](v T) *T { return &v }

func rlimit(t *testing.T, s string) credentials.Rlimit {
	t.Helper()
	r, err := credentials.ParseRlimit(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCredentialsAreApplied(t *testing.T) {
	s := newSpawner(t)
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 - niceness
	if err != nil {
		t.Fatal(err)
	}
	nicer := min(20-own+7, 19) // than this program: only root can lower it
	for name, tc := range map[string]struct {
		creds  credentials.Credentials
		script string
		want   string
	}{
		"umask":           {credentials.Credentials{Umask: ptr(0o27)}, "umask", "0027"},
		"no umask at all": {credentials.Credentials{Umask: ptr(0)}, "umask", "0000"},
		"nice": {credentials.Credentials{Nice: &nicer}, "nice; cut -d' ' -f19 /proc/self/stat",
			fmt.Sprintf("%[1]d\n%[1]d", nicer)},
		"rlimits": {
			credentials.Credentials{Rlimits: []credentials.Rlimit{rlimit(t, "nofile=123:456"), rlimit(t, "core=0")}},
			"ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc", "123\n456\n0\n0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := runWith(t, s, &tc.creds, "sh", "-c", tc.script); err != nil || got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
		})
	}
	// With empty credentials everything is as without credentials.
	script := "sed -n '/^Sig[BCI]/p; /^Shd/p; /^Umask/p' /proc/self/status; ls /proc/self/fd; " +
		"cat /proc/self/limits; pwd; ps -o pgid=,sid=,ni= -p $$ | wc -w"
	plain, err := runWith(t, s, nil, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := runWith(t, s, &credentials.Credentials{}, "sh", "-c", script); err != nil || got != plain {
		t.Errorf("got %s (%v)\nwant %s", got, err, plain)
	}
	// The arguments of the command are bytes, and its environment is passed unchanged.
	got, err := runWith(t, s, &credentials.Credentials{}, "printf", "%s", "\xff \n")
	if err != nil || got != "\xff" {
		t.Errorf("got %q (%v)", got, err)
	}
	got, err = runWith(t, s, &credentials.Credentials{}, "cat", "/proc/self/environ")
	if want := "PATH=/bin:/usr/bin\x00A=1\x00A=2\x00\xff\x00"; err != nil || got != want {
		t.Errorf("its environment is %q (%v), want %q", got, err, want)
	}
}

// The limits of the command must not make the shim fail. The limit of CPU time is not tight here:
// it includes what the shim has used, which has no bound on a slow machine.
func TestTightLimitsDoNotAffectTheShim(t *testing.T) {
	s := newSpawner(t)
	w := credentials.Credentials{Rlimits: []credentials.Rlimit{
		rlimit(t, "as=20000000"), rlimit(t, "data=4000000"), rlimit(t, "nproc=0"), rlimit(t, "nofile=4"),
		rlimit(t, "fsize=0"), rlimit(t, "memlock=0"), rlimit(t, "cpu=600"),
	}}
	large := "A=" + strings.Repeat("x", 100000)
	for range 20 {
		out := newCapture()
		p, err := s.Start(t.Context(), Command{
			Argv: []string{"/bin/echo", "here"}, Dir: "/", Env: slices.Repeat([]string{large}, 5),
			Credentials: &w, Stdout: out.output(), Stderr: out.sharedOutput(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if r := p.Wait(); !r.OK() || out.String() != "here\n" {
			t.Fatalf("%v, %q", r, out)
		}
	}
}

// The runtimes of gophd and of the shim raise the soft limit of nofile. The command gets the
// original one, whatever other limits it is given.
func TestNofileLimitRestoredWithCredentials(t *testing.T) {
	me := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	cmd := exec.Command("sh", "-c", `ulimit -Sn 123; exec "$0" "$@"`, os.Args[0], me,
		"sh", "-c", "ulimit -Sn; ulimit -c")
	cmd.Env = append(helperEnv("credentials"), "CORE=0")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "123\n0\n" {
		t.Errorf("got %q (%v), want the soft limit 123", out, err)
	}
}

func TestStdin(t *testing.T) {
	s := newSpawner(t)
	for name, w := range map[string]*credentials.Credentials{"plain": nil, "with credentials": {}} {
		f, err := os.Open("/proc/self/stat")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out := newCapture()
		p, err := s.Start(t.Context(), Command{
			Argv: []string{"/bin/cat"}, Dir: "/", Credentials: w, Stdin: f, Stdout: out.output(),
			Stderr: discard(),
		})
		if err != nil {
			t.Fatal(err)
		}
		p.Wait()
		if want := fmt.Sprint(os.Getpid(), " ("); !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: it read %q", name, out)
		}
	}
}

// helpCredentials runs its third and further arguments as the user that the second names, as gophd
// would.
func helpCredentials() error {
	if _, err := self.Catch(); err != nil {
		return err
	}
	s, err := New()
	if err != nil {
		return err
	}
	s.readAtOnce = true
	defer s.Close()
	u, err := credentials.LookupUser(os.Args[1])
	if err != nil {
		return err
	}
	w := &credentials.Credentials{User: &u}
	if os.Getenv("CORE") != "" {
		w.Rlimits = []credentials.Rlimit{{Name: "core", Resource: unix.RLIMIT_CORE}}
	}
	before := Permitted(w)
	p, err := s.Start(context.Background(), Command{
		Argv: os.Args[2:], Dir: "/", Env: []string{"PATH=/bin:/usr/bin"}, Credentials: w,
		Stdout: Output{Open: func(int) io.WriteCloser { return openStdout{} }}, Stderr: Output{Same: true},
	})
	if err != nil {
		return fmt.Errorf("%w [errno %d, reported beforehand: %v]", err, errno(err), before != nil)
	}
	if r := p.Wait(); !r.OK() {
		return errors.New(r.String())
	}
	return MayGive(w)
}

// openStdout writes to stdout and does not close it.
type openStdout struct{}

func (openStdout) Write(b []byte) (int, error) { return os.Stdout.Write(b) }
func (openStdout) Close() error                { return nil }

// asHelper runs helpCredentials through a wrapper that drops permissions.
func asHelper(attr *syscall.SysProcAttr, wrapper []string, args ...string) string {
	words := append(append(wrapper, selfExe), args...)
	if len(wrapper) > 0 {
		words[len(wrapper)] = "/proc/" + fmt.Sprint(os.Getpid()) + "/exe" // selfExe would be the wrapper
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = helperEnv("credentials")
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		out = []byte(err.Error())
	}
	return string(bytes.TrimSpace(out))
}

// Every failure to start has its own error, as without credentials. The errors of the credentials
// themselves are tested as well.
func TestStartErrorsWithCredentials(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	write(t, dir+"/plain", "#!/bin/sh\n", 0o644)
	write(t, dir+"/naked", "echo hi\n", 0o755)
	write(t, dir+"/crlf", "#!/bin/sh\r\n", 0o755)
	files, before := openFiles(t), children()
	for name, tc := range map[string]struct {
		argv0, dir string
		creds      credentials.Credentials
		errno      syscall.Errno
		code       int
		message    string
	}{
		"missing":        {argv0: "./no.sh", errno: syscall.ENOENT, code: 127, message: "no such file"},
		"not in path":    {argv0: "no.sh", errno: syscall.ENOENT, code: 127, message: "not found in PATH: give its path, or add its directory to PATH (--env PATH=...)"},
		"not executable": {argv0: "./plain", errno: syscall.EACCES, code: 126, message: "chmod +x"},
		"no first line":  {argv0: "./naked", errno: syscall.ENOEXEC, code: 126, message: "must start with a line"},
		"interpreter":    {argv0: "./crlf", errno: syscall.ENOENT, code: 127, message: "have Windows ends"},
		"directory gone": {argv0: "/bin/true", dir: dir + "/gone", errno: syscall.ENOENT, code: 1, message: "does not exist"},
		"NUL":            {argv0: "./a\x00b", errno: syscall.EINVAL, code: 1, message: "NUL byte"},
		"limit too high": {
			argv0: "/bin/true",
			creds: credentials.Credentials{Rlimits: []credentials.Rlimit{{
				Name: "nofile", Resource: unix.RLIMIT_NOFILE, Soft: credentials.Unlimited, Hard: credentials.Unlimited,
			}}},
			errno: syscall.EPERM, code: 1, message: ": choose a lower one",
		},
		"unknown limit": {
			argv0: "/bin/true",
			creds: credentials.Credentials{Rlimits: []credentials.Rlimit{{Name: "none", Resource: 99}}},
			errno: syscall.EINVAL, code: 1, message: "the limit none=0 is not known",
		},
		"limits crossed": {
			argv0: "/bin/true",
			creds: credentials.Credentials{Rlimits: []credentials.Rlimit{{
				Name: "core", Resource: unix.RLIMIT_CORE, Soft: 2, Hard: 1,
			}}},
			errno: syscall.EINVAL, code: 1, message: "swap them",
		},
		"tight, then not": {
			argv0: "./naked",
			creds: credentials.Credentials{Rlimits: []credentials.Rlimit{{
				Name: "nofile", Resource: unix.RLIMIT_NOFILE,
			}}},
			errno: syscall.ENOEXEC, code: 126, message: "must start with a line",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.dir == "" {
				tc.dir = dir
			}
			p, err := s.Start(t.Context(), Command{
				Argv: []string{tc.argv0}, Dir: tc.dir, Env: []string{"PATH=/bin"}, Credentials: &tc.creds,
				Stdout: discard(), Stderr: discard(),
			})
			if err == nil {
				t.Fatalf("it was started: %v", p.Wait())
			}
			path, checkErr := Check(Command{
				Argv: []string{tc.argv0}, Dir: tc.dir, Env: []string{"PATH=/bin"}, Credentials: &tc.creds,
			})
			if checkErr == nil {
				t.Fatalf("Check found %s; Start: %v", path, err)
			}
			for _, err := range []error{err, checkErr} {
				if !errors.Is(err, tc.errno) || job.StartCode(err) != tc.code ||
					!strings.Contains(err.Error(), tc.message) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v (code %d); want %v, code %d, %q in one line",
						err, job.StartCode(err), tc.errno, tc.code, tc.message)
				}
			}
		})
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d descriptors are open, %d were before", now, files)
	}
	for _, pid := range children() {
		if !slices.Contains(before, pid) {
			t.Errorf("a shim is left: %d", pid)
		}
	}
}

// TestCommandAsTheCurrentUser needs no permission: what it sets is already set.
func TestCommandAsTheCurrentUser(t *testing.T) {
	s := newSpawner(t)
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	u := &credentials.User{Name: "oneself", UID: os.Getuid(), GID: os.Getgid(), Groups: groups}
	if err := Permitted(&credentials.Credentials{User: u}); err != nil {
		t.Error(err)
	}
	script := `grep -E '^(Uid|Gid|Groups):' /proc/self/status`
	want, err := runWith(t, s, nil, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := runWith(t, s, &credentials.Credentials{User: u}, "sh", "-c", script); err != nil || got != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
	me := fmt.Sprint(os.Getuid(), ":", os.Getgid())
	if got := asHelper(nil, nil, me, "id", "-u"); got != fmt.Sprint(os.Getuid()) {
		t.Errorf("as a program of its own: %q", got)
	}
}

// If the shim is killed, the command has not run, and the error reports it.
func TestKilledShimIsReported(t *testing.T) {
	s := newSpawner(t)
	// The shim blocks on a control group whose file is a pipe that nobody reads.
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
	result := make(chan error, 1)
	go func() {
		_, err := s.startShim(Command{
			Argv: []string{"touch", dir + "/ran"}, Dir: "/", Credentials: &credentials.Credentials{},
		}, []*os.File{s.null, s.null, s.null}, leafAt(dir))
		result <- err
	}()
	if _, err := unix.Read(events, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	for _, pid := range children() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	const want = "cannot start touch: the process that sets up its user and limits exited early (signal KILL)"
	if err := <-result; err == nil || !strings.Contains(err.Error(), want) || job.StartCode(err) != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("the command ran")
	}
}

func TestShimWithoutAParent(t *testing.T) {
	out, _ := exec.Command(selfExe, ShimCommand).CombinedOutput()
	if got := strings.TrimSpace(string(out)); got != ShimCommand+" is for gophd itself, when it starts a command" {
		t.Errorf("got %q", got)
	}
}

// The results of many commands are in their order, whatever process has checked them, and an error
// names its command.
func TestCheckAllKeepsTheOrder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	shared, other := &credentials.Credentials{Umask: ptr(0o27)}, &credentials.Credentials{Umask: ptr(0o77)}
	cannot := &credentials.Credentials{
		Rlimits: []credentials.Rlimit{{Name: "nofile", Resource: unix.RLIMIT_NOFILE, Soft: 2, Hard: 1}}}
	var all []Command
	for i := range 3 * checkedAtOnce {
		c := Command{Argv: []string{"./x"}, Dir: dir, Credentials: shared}
		switch i % 7 {
		case 1:
			c.Credentials = nil
		case 2:
			c.Credentials = other
		case 3:
			c.Argv[0] = fmt.Sprintf("./missing-%d", i)
		case 4:
			c.Argv[0], c.Credentials = fmt.Sprintf("./limited-%d", i), cannot
		case 5:
			c.Argv = nil
		}
		all = append(all, c)
	}
	for i, got := range CheckAll(all) {
		want, message := filepath.Join(dir, "x"), ""
		switch i % 7 {
		case 3:
			want, message = "", fmt.Sprintf("cannot start ./missing-%d: no such file", i)
		case 4:
			want, message = "", fmt.Sprintf("cannot start ./limited-%d: the limit nofile", i)
		case 5:
			want, message = "", errNoName.Error()
		}
		if got.Path != want || (got.Err == nil) != (message == "") || got.Err != nil && !strings.HasPrefix(got.Err.Error(), message) {
			t.Errorf("command %d: %q, %v; want %q, %q", i, got.Path, got.Err, want, message)
		}
	}
}

// BenchmarkCheck1000 is the check of 1,000 jobs with the same user.
func BenchmarkCheck1000(b *testing.B) {
	all := slices.Repeat([]Command{{Argv: []string{"/bin/echo"}, Dir: "/", Env: os.Environ(),
		Credentials: &credentials.Credentials{Umask: ptr(0o27)}}}, 1000)
	for b.Loop() {
		for _, c := range CheckAll(all) {
			if c.Err != nil {
				b.Fatal(c.Err)
			}
		}
	}
}
