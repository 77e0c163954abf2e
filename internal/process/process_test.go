package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/line"
)

// The tests wait for commands without a time limit of their own. If one hangs, the time limit of
// the test binary ends it and prints all goroutines.

// newSpawner returns a Spawner for the test. Tests are not parallel to each other, because a
// Spawner reaps the orphans of the whole program. A process that was sent KILL has an hour to exit:
// on a busy machine it may have to wait for a processor.
func newSpawner(t testing.TB) *Spawner {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	s.killWait, s.readAtOnce = time.Hour, true
	limitBlocking(s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// pollerVar is set in the environment of a test binary whose Waits may not block a thread.
const pollerVar = "GOPHD_PROCESS_TEST_POLLER"

func limitBlocking(s *Spawner) {
	if os.Getenv(pollerVar) != "" {
		s.blocking = nil // so no Wait can send to it
	}
}

// capture is a writer that keeps all its input and can be waited for.
type capture struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	opens  int
	fault  any           // what Close panics with
	wrote  chan struct{} // one token after a write
	closed chan struct{}
}

func newCapture() *capture {
	return &capture{wrote: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (c *capture) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.wrote <- struct{}{}:
	default:
	}
	return c.buf.Write(b)
}

func (c *capture) Close() error {
	close(c.closed)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != nil {
		panic(c.fault)
	}
	return nil
}

func (c *capture) Rest() line.Rest    { return line.Rest{} }
func (c *capture) Continue(line.Rest) {}

func (c *capture) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

func (c *capture) output() Output {
	return Output{Open: func(int) io.WriteCloser {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.opens++
		return c
	}}
}

// await blocks until what was written contains s, and returns all of it.
func (c *capture) await(t *testing.T, s string) string {
	t.Helper()
	for closed := false; ; {
		if all := c.String(); strings.Contains(all, s) {
			return all
		} else if closed {
			t.Fatalf("%q was not written; got %q", s, all)
		}
		select {
		case <-c.wrote:
		case <-c.closed:
			closed = true
		}
	}
}

type discardWriter struct{}

func (discardWriter) Write(b []byte) (int, error) { return len(b), nil }
func (discardWriter) Close() error                { return nil }

func discard() Output { return Output{Open: func(int) io.WriteCloser { return discardWriter{} }} }

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

func script(t *testing.T, name string) []string {
	t.Helper()
	path, err := filepath.Abs("../../testdata/jobs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return []string{path}
}

// startCommand starts a command whose streams go to the two returned captures.
func startCommand(t *testing.T, s *Spawner, argv []string) (p *Process, out, err *capture) {
	t.Helper()
	out, err = newCapture(), newCapture()
	p, fault := s.Start(t.Context(), Command{
		Argv: argv, Dir: t.TempDir(), Env: os.Environ(), Stdout: out.output(), Stderr: err.output(),
	})
	if fault != nil {
		t.Fatal(fault)
	}
	return p, out, err
}

// gone fails the test unless the process has exited and was reaped.
func gone(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("process %d is still there (%v)", pid, err)
	}
}

func number(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestExecEnvironment(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	out := newCapture()
	p, err := s.Start(t.Context(), Command{
		Argv: sh(`cat; pwd -P; env; ps -o pgid= -p $$`), Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH"), "A=b"},
		Stdout: out.output(), Stderr: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := p.Wait()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if real, _ := filepath.EvalSymlinks(dir); lines[0] != real {
		t.Errorf("it read something from stdin, or ran in %q, not %q", lines[0], real)
	}
	if got := number(t, lines[len(lines)-1]); got != p.PID() {
		t.Errorf("its process group is %d, want its own, %d", got, p.PID())
	}
	for _, kv := range lines[1 : len(lines)-1] {
		k, _, _ := strings.Cut(kv, "=")
		if !slices.Contains([]string{"A", "PATH", "PWD", "OLDPWD", "SHLVL", "_"}, k) {
			t.Errorf("it got %s, which was not set", kv)
		}
	}
	if r.PID != p.PID() || !r.Started.Equal(p.Started()) || !r.Ended.After(r.Started) {
		t.Errorf("pid %d, started %v, ended %v: not those of the process", r.PID, r.Started, r.Ended)
	}
	if r.Usage.MaxRSS < 100<<10 || r.Usage.MaxRSS > 1<<30 {
		t.Errorf("MaxRSS %d is not in bytes", r.Usage.MaxRSS)
	}
}

func TestCPUIsCounted(t *testing.T) {
	p, _, _ := startCommand(t, newSpawner(t), sh(`i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done`))
	// One thread cannot use more CPU time than the time that passes.
	if r := p.Wait(); r.Usage.User < time.Millisecond || r.Usage.User > r.Length() {
		t.Errorf("user time %v for 100000 turns of a shell loop, in %v", r.Usage.User, r.Length())
	}
}

func TestRelativeNames(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/bin/me", "#!/bin/sh\necho \"$0\"\n", 0o755)
	for _, tc := range []struct{ argv0, path, want string }{
		{"bin/me", "", "bin/me"},
		{"./bin/me", "", "./bin/me"},
		{"me", "/nowhere:bin:/bin", dir + "/bin/me"},
		{"me", dir + "/bin", dir + "/bin/me"},
	} {
		out := newCapture()
		p, err := s.Start(t.Context(), Command{
			Argv: []string{tc.argv0}, Dir: dir, Env: []string{"PATH=" + tc.path}, Stdout: out.output(),
			Stderr: discard(),
		})
		if err != nil {
			t.Error(err)
			continue
		}
		if r := p.Wait(); !r.OK() || out.String() != tc.want+"\n" {
			t.Errorf("%s: %v, its name was %q, want %q", tc.argv0, r, out, tc.want)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestStartErrors(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	write(t, dir+"/plain", "#!/bin/sh\n", 0o644)
	write(t, dir+"/naked", "echo hi\n", 0o755)
	write(t, dir+"/empty", "", 0o755)
	write(t, dir+"/crlf", "#!/bin/sh\r\necho hi\r\n", 0o755)
	for to, link := range map[string]string{"loop": "loop", "releases/7/run.sh": "dangling"} {
		if err := os.Symlink(to, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/directory", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, argv0, dir, path string
		errno                  syscall.Errno
		code                   int
		message                string
		onlyFormat             bool // LookPath does not find it
	}{
		{
			name: "missing", argv0: "./no.sh", errno: syscall.ENOENT, code: 127,
			message: "cannot start ./no.sh: no such file: check the path, or the directory it is started in (" + dir + ")",
		},
		{
			name: "dangling link", argv0: "./dangling", errno: syscall.ENOENT, code: 127,
			message: "dangling is a link to releases/7/run.sh, and there is no such file: correct the link",
		},
		{
			name: "not in path", argv0: "no.sh", path: "/bin:" + dir, errno: syscall.ENOENT, code: 127,
			message: "cannot start no.sh: not found in PATH: give its path, or add its directory to PATH (--env PATH=...)",
		},
		{
			name: "in the directory", argv0: "plain", path: "/bin", errno: syscall.ENOENT, code: 127,
			message: "cannot start plain: not found in PATH, but in " + dir + ": write ./plain",
		},
		{name: "empty name", argv0: "", errno: syscall.ENOENT, code: 127, message: "the name is empty"},
		{name: "under a file", argv0: "./plain/x", errno: syscall.ENOTDIR, code: 127, message: "not a directory"},
		{
			name: "long", argv0: "./" + strings.Repeat("x", 300), errno: syscall.ENAMETOOLONG, code: 127,
			message: "too long",
		},
		{name: "loop", argv0: "./loop", errno: syscall.ELOOP, code: 126, message: "symbolic links"},
		{
			name: "not executable", argv0: "./plain", errno: syscall.EACCES, code: 126,
			message: "chmod +x " + dir + "/plain",
		},
		{
			name: "not executable in path", argv0: "plain", path: dir + ":/bin", errno: syscall.EACCES,
			code: 126, message: "chmod +x " + dir + "/plain",
		},
		{
			name: "directory", argv0: "./directory", errno: syscall.EISDIR, code: 126,
			message: "is a directory: name a program in it",
		},
		{
			name: "no first line", argv0: "./naked", errno: syscall.ENOEXEC, code: 126,
			message: "must start with a line like #!/bin/sh", onlyFormat: true,
		},
		{
			name: "empty file", argv0: "empty", path: dir, errno: syscall.ENOEXEC, code: 126,
			message: "is empty: a script must start", onlyFormat: true,
		},
		{
			name: "interpreter", argv0: "./crlf", errno: syscall.ENOENT, code: 127,
			message: `its interpreter "/bin/sh\r" does not exist: the lines of ` + dir +
				`/crlf have Windows ends; convert it with dos2unix`,
			onlyFormat: true,
		},
		{
			name: "directory gone", argv0: "./plain", dir: dir + "/gone", errno: syscall.ENOENT, code: 1,
			message: "the directory it is started in (" + dir + "/gone) does not exist",
		},
		{
			name: "directory gone, command absolute", argv0: "/bin/true", dir: dir + "/gone",
			errno: syscall.ENOENT, code: 1,
			message:    "the directory it is started in (" + dir + "/gone) does not exist: create it, or choose another --chdir",
			onlyFormat: true,
		},
		{
			name: "directory a file", argv0: "/bin/true", dir: dir + "/plain", errno: syscall.ENOTDIR, code: 1,
			message: "is not a directory: choose another --chdir", onlyFormat: true,
		},
		{name: "newline", argv0: "./a\nb", errno: syscall.ENOENT, code: 127, message: `cannot start "./a\nb"`},
		{name: "nul", argv0: "./a\x00b", errno: syscall.EINVAL, code: 1, message: "NUL byte"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.dir == "" {
				tc.dir = dir
			}
			env := []string{"PATH=" + tc.path}
			p, err := s.Start(t.Context(), Command{
				Argv: []string{tc.argv0}, Dir: tc.dir, Env: env, Stdout: discard(), Stderr: discard(),
			})
			if err == nil {
				t.Fatalf("it was started: %v", p.Wait())
			}
			check := func(by string, err error) {
				if !errors.Is(err, tc.errno) && !(tc.errno == syscall.EISDIR && errors.Is(err, syscall.EACCES)) {
					t.Errorf("%s: %v is not %v", by, err, tc.errno)
				}
				if code := job.StartCode(err); code != tc.code {
					t.Errorf("%s: code %d, want %d", by, code, tc.code)
				}
				if !strings.Contains(err.Error(), tc.message) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %q does not contain %q in one line", by, err, tc.message)
				}
			}
			check("Start", err)
			switch path, err := LookPath(tc.argv0, tc.dir, env); {
			case tc.onlyFormat && err != nil:
				t.Errorf("Look: %v", err)
			case !tc.onlyFormat && err == nil:
				t.Errorf("Look found %s", path)
			case !tc.onlyFormat:
				check("Look", err)
			}
			if path, err := Check(Command{Argv: []string{tc.argv0}, Dir: tc.dir, Env: env}); err == nil {
				t.Errorf("Check found %s", path)
			} else {
				check("Check", err)
			}
		})
	}
}

func TestBusyFileIsRetriedForASecond(t *testing.T) {
	path := t.TempDir() + "/fresh"
	raw, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(raw), 0o755)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	synctest.Test(t, func(t *testing.T) {
		s := newSpawner(t)
		c := Command{Argv: []string{path}, Dir: "/", Stdout: Output{File: s.null}, Stderr: Output{File: s.null}}
		started := time.Now()
		if _, err := s.Start(t.Context(), c); !errors.Is(err, syscall.ETXTBSY) || job.StartCode(err) != 126 {
			t.Fatalf("a file that stays open: %v", err)
		}
		if took := time.Since(started); took != 990*time.Millisecond {
			t.Errorf("it was retried for %v, want a second minus the pause of 10ms", took)
		}

		started = time.Now()
		time.AfterFunc(55*time.Millisecond, func() { f.Close() })
		p, err := s.Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took != 60*time.Millisecond {
			t.Errorf("it was started after %v, want the first attempt after the file was closed", took)
		}
		if r := p.Wait(); !r.OK() {
			t.Error(r)
		}
	})
}

func TestStartStopsWithItsContext(t *testing.T) {
	s := newSpawner(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(job.ErrInsisted)
	_, err := s.Start(ctx, Command{Argv: []string{"/bin/true"}, Dir: "/", Stdout: discard(), Stderr: discard()})
	if !errors.Is(err, job.ErrInsisted) {
		t.Errorf("got %v, want the cause", err)
	}
}

// Output to one destination keeps its order, whichever stream it was written to.
func TestStdoutStderrOrder(t *testing.T) {
	s := newSpawner(t)
	out := newCapture()
	p, err := s.Start(t.Context(), Command{
		Argv: sh("for i in $(seq 500); do echo $i; echo $i >&2; done"), Dir: "/", Env: os.Environ(),
		Stdout: out.output(), Stderr: Output{Same: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 500 {
		fmt.Fprintf(&want, "%d\n%d\n", i+1, i+1)
	}
	if r := p.Wait(); !r.OK() || out.String() != want.String() {
		t.Errorf("%v, and it wrote %q", r, out)
	}
}

func TestIncompleteCommand(t *testing.T) {
	s := newSpawner(t)
	for _, c := range []Command{
		{Stdout: discard(), Stderr: discard()},
		{Argv: []string{"/bin/true"}, Stdout: discard()},
		{Argv: []string{"/bin/true"}, Stdout: Output{Same: true}, Stderr: discard()},
		{Argv: []string{"/bin/true"}, Stdout: discard(), Stderr: Output{Same: true, File: s.null}},
		{Argv: []string{"/bin/true"}, Stdout: discard(), Stderr: Output{File: s.null, Open: discard().Open}},
	} {
		if p, err := s.Start(t.Context(), c); err == nil {
			t.Errorf("%+v was started: %v", c, p.Wait())
		}
	}
}

func TestOutcomes(t *testing.T) {
	s := newSpawner(t)
	for _, tc := range []struct {
		name, script, want string
		code               int
	}{
		{"ok", "exit 0", "exit code 0", 0},
		{"code 2 is a failure", "exit 2", "exit code 2", 2},
		{"255", "exit 255", "exit code 255", 255},
		{"143 is a code", "exit 143", "exit code 143", 143},
		{"signal", "kill -TERM $$", "signal TERM", 143},
		{"kill", "kill -KILL $$", "signal KILL", 137},
		{"group kills itself", "kill -INT 0", "signal INT", 130},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, _, _ := startCommand(t, s, sh(tc.script))
			if r := p.Wait(); r.String() != tc.want || r.ExitCode() != tc.code || r.OK() != (tc.code == 0) {
				t.Errorf("got %v, code %d; want %s, code %d", r, r.ExitCode(), tc.want, tc.code)
			}
			gone(t, p.PID())
		})
	}
}

func TestJobs(t *testing.T) {
	s := newSpawner(t)
	t.Setenv("GOPHD_RUN", "7")
	for _, tc := range []struct{ name, result, out, err string }{
		{"ok.sh", "exit code 0", "run 7 at ", ""},
		{"fail.sh", "exit code 3", "", "run 7 failed"},
		{"chatty.sh", "exit code 0", "out 10\nthe last word of out", "err 10\nthe last word of err"},
	} {
		p, out, errs := startCommand(t, s, script(t, tc.name))
		r := p.Wait()
		if r.String() != tc.result || !strings.Contains(out.String(), tc.out) ||
			!strings.Contains(errs.String(), tc.err) {
			t.Errorf("%s: %v, %q, %q", tc.name, r, out, errs)
		}
	}
}

func TestBurstAtExitIsKept(t *testing.T) {
	const size = 10 << 20
	p, out, _ := startCommand(t, newSpawner(t), sh(fmt.Sprintf(`head -c %d /dev/zero; printf end`, size)))
	p.Wait()
	if all := out.String(); len(all) != size+3 || !strings.HasSuffix(all, "\x00end") {
		t.Errorf("%d bytes arrived of %d", len(all), size+3)
	}
}

func TestLastPartialLineAndBinaryOutput(t *testing.T) {
	p, out, errs := startCommand(t, newSpawner(t), sh(`printf '\377\376\000a\r\n\033[1mb'; printf 'c' >&2`))
	p.Wait()
	if out.String() != "\xff\xfe\x00a\r\n\x1b[1mb" || errs.String() != "c" {
		t.Errorf("got %q and %q", out, errs)
	}
	select {
	case <-out.closed:
	default:
		t.Error("the writer was not closed at the end of the stream")
	}
}

func TestOutputToFileIsDirect(t *testing.T) {
	s := newSpawner(t)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := s.Start(t.Context(), Command{
		Argv: sh("echo out; echo err >&2"), Dir: "/", Stdout: Output{File: f}, Stderr: Output{File: f},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	if got, _ := os.ReadFile(f.Name()); string(got) != "out\nerr\n" {
		t.Errorf("the file holds %q", got)
	}
}

// badWriter is a writer with configurable errors.
type badWriter struct{ write, close func() error }

func (w badWriter) Write(b []byte) (int, error) { return len(b), w.write() }
func (w badWriter) Close() error                { return w.close() }

func TestWriterFaultsDoNotHangTheCommand(t *testing.T) {
	s := newSpawner(t)
	fine := func() error { return nil }
	fault := func() error { panic("the fault") }
	for _, tc := range []struct {
		name   string
		open   func(int) io.WriteCloser
		panics bool
	}{
		{"write error", func(int) io.WriteCloser { return badWriter{func() error { return syscall.ENOSPC }, fine} }, false},
		{"write panic", func(int) io.WriteCloser { return badWriter{fault, fine} }, true},
		{"close panic", func(int) io.WriteCloser { return badWriter{fine, fault} }, true},
		{"open panic", func(int) io.WriteCloser { panic("the fault") }, true},
		{"nil writer", func(int) io.WriteCloser { return nil }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			done := t.TempDir() + "/done"
			p, err := s.Start(t.Context(), Command{
				Argv: sh("head -c 1000000 /dev/zero && : > " + done), Dir: "/", Env: os.Environ(),
				Stdout: Output{Open: tc.open}, Stderr: discard(),
			})
			if err != nil {
				t.Fatal(err)
			}
			if fault := goroutine.Catch(func() { p.Wait() }); (fault != nil) != tc.panics {
				t.Errorf("the panic of Wait: %v", fault)
			}
			if _, err := os.Stat(done); err != nil {
				t.Error("the command could not write all of its output")
			}
			gone(t, p.PID())
		})
	}
}

func TestStopStaysResponsiveWhileTheWriterHangs(t *testing.T) {
	s := newSpawner(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w := badWriter{
		write: func() error { once.Do(func() { close(entered) }); <-release; return nil },
		close: func() error { return nil },
	}
	p, err := s.Start(t.Context(), Command{
		Argv: script(t, "stubborn.sh"), Dir: "/", Env: os.Environ(),
		Stdout: Output{Open: func(int) io.WriteCloser { return w }}, Stderr: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	result, dead := make(chan job.Result, 1), make(chan struct{})
	p.OnDeath(func() { close(dead) })
	go func() { result <- p.Wait() }()
	for range 100 {
		p.Stop(0)
	}
	<-dead
	select {
	case r := <-result:
		t.Errorf("%v: Wait returned before the output was delivered", r)
	default:
	}
	close(release)
	if r := <-result; r.String() != "signal KILL" {
		t.Error(r)
	}
	p.Stop(0)
	p.Stop(time.Hour)
}

// The grace is an hour: Wait returns when the group is gone and does not wait for the rest of it.
func TestStopKillsGrandchildren(t *testing.T) {
	p, out, _ := startCommand(t, newSpawner(t), sh(`sh -c 'sleep 3600 & echo $!; wait' & echo $!; wait`))
	for strings.Count(out.String(), "\n") < 2 {
		<-out.wrote
	}
	p.Stop(time.Hour)
	if r := p.Wait(); r.String() != "signal TERM" {
		t.Error(r)
	}
	for pid := range strings.FieldsSeq(out.String()) {
		gone(t, number(t, pid))
	}
}

func TestKillFollowsTheGrace(t *testing.T) {
	p, out, _ := startCommand(t, newSpawner(t), script(t, "stubborn.sh"))
	out.await(t, "still here")
	started := time.Now()
	p.Stop(100 * time.Millisecond)
	r := p.Wait()
	if took := time.Since(started); r.String() != "signal KILL" || took < 100*time.Millisecond {
		t.Errorf("%v after %v", r, took)
	}
}

func TestEarlierKillWins(t *testing.T) {
	s := newSpawner(t)
	for name, graces := range map[string][]time.Duration{
		"earlier later": {time.Hour, 50 * time.Millisecond},
		"later later":   {50 * time.Millisecond, time.Hour},
		"now":           {time.Hour, 0},
		"negative":      {-time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p, out, _ := startCommand(t, s, script(t, "stubborn.sh"))
			out.await(t, "ready")
			for _, g := range graces {
				p.Stop(g)
			}
			if r := p.Wait(); r.String() != "signal KILL" {
				t.Error(r)
			}
		})
	}
}

func TestStoppedCommandGetsCont(t *testing.T) {
	p, out, _ := startCommand(t, newSpawner(t), sh(
		`trap 'echo graceful; exit 5' TERM; echo ready; kill -STOP $$; while :; do sleep 0.01; done`))
	awaitStopped(t, p)
	p.Stop(time.Hour)
	if r := p.Wait(); r.String() != "exit code 5" || !strings.Contains(out.String(), "graceful") {
		t.Errorf("%v, %q: output after the stop signal is kept", r, out)
	}
}

// awaitStopped blocks until the command is suspended by a signal. It returns once for each time.
func awaitStopped(t *testing.T, p *Process) {
	t.Helper()
	var status syscall.WaitStatus
	if _, err := wait4(p.PID(), &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("process %d is not stopped: %v, status %#x", p.PID(), err, status)
	}
}

func TestStopRightAfterStart(t *testing.T) {
	s := newSpawner(t)
	for i := range 50 {
		p, _, _ := startCommand(t, s, []string{"/bin/sleep", "3600"})
		p.Stop(time.Duration(i%2) * time.Hour)
		if r := p.Wait(); r.Outcome != job.Signaled {
			t.Fatalf("%d: %v", i, r)
		}
	}
}

func TestStopAfterTheExit(t *testing.T) {
	s := newSpawner(t)
	for range 50 {
		p, _, _ := startCommand(t, s, []string{"/bin/true"})
		for range 4 {
			go p.Stop(time.Hour)
		}
		if r := p.Wait(); r.Outcome != job.Exited && r.Signal != syscall.SIGTERM {
			t.Fatal(r)
		}
		p.Stop(0)
	}
}

func TestRestOfTheGroupGetsAGrace(t *testing.T) {
	for name, argv := range map[string][]string{
		"process substitution": {"bash", "-c", "exec > >(sleep 0.01; cat); echo the last line"},
		"background":           sh(`(sleep 0.01; echo the last line) & exit 0`),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpawner(t)
			s.groupGrace = time.Hour
			p, out, _ := startCommand(t, s, argv)
			if r := p.Wait(); !r.OK() || out.String() != "the last line\n" {
				t.Errorf("%v, %q", r, out)
			}
		})
	}
}

// The background child would run for an hour. It gets the group grace, and then KILL.
func TestBackgroundChildHoldsPipe(t *testing.T) {
	s := newSpawner(t)
	for _, captured := range []bool{true, false} {
		out := newCapture()
		c := Command{
			Argv: append(script(t, "forks.sh"), "3600"), Dir: t.TempDir(), Env: os.Environ(),
			Stdout: out.output(), Stderr: discard(),
		}
		file, err := os.Create(c.Dir + "/out")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if !captured {
			c.Stdout, c.Stderr = Output{File: file}, Output{File: file}
		}
		p, err := s.Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		r := p.Wait()
		if took := time.Since(r.Started); !r.OK() || took < groupGrace {
			t.Errorf("%v after %v, want success after the group grace", r, took)
		}
		text := out.String()
		if !captured {
			b, _ := os.ReadFile(file.Name())
			text = string(b)
		}
		gone(t, number(t, strings.TrimPrefix(text, "child ")))
	}
}

func TestParallelRunsKeepTheirStatus(t *testing.T) {
	warm, _, _ := startCommand(t, newSpawner(t), []string{"/bin/true"}) // opens what the runtime opens only once
	warm.Wait()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	s.readAtOnce = true
	limitBlocking(s)
	const parallel, runs = 4, 250
	run := func(i int) {
		c := Command{Argv: sh("exit " + strconv.Itoa(i%256)), Dir: "/", Stdout: discard(), Stderr: Output{File: s.null}}
		p, err := s.Start(t.Context(), c)
		if err != nil {
			t.Error(err)
			return
		}
		if r := p.Wait(); r.Outcome != job.Exited || r.Code != i%256 {
			t.Errorf("run %d: %v", i, r)
		}
	}
	var all goroutine.Group
	for k := range parallel {
		all.Go(func() {
			for i := range runs {
				run(k*runs + i)
			}
		})
	}
	all.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got := openFiles(t); got > files {
		t.Errorf("%d descriptors are open, %d were before", got, files)
	}
	awaitGoroutines(goroutines)
}

// awaitGoroutines blocks until there are no more than n goroutines: one that was waited for may not
// have returned yet. If one is leaked, awaitGoroutines never returns.
func awaitGoroutines(n int) {
	for runtime.NumGoroutine() > n {
		time.Sleep(time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
