//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/procfs"
	"gophd/internal/self"
)

// Helpers are this test binary, executed again with the name of a helper in the environment.
const helperVar = "GOPHD_PROCESS_TEST_HELPER"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == ShimCommand {
		if err := Shim(); err != nil {
			fmt.Println(err)
		}
		os.Exit(1)
	}
	// The goroutine of os/signal must not start in a test in virtual time, which would wait for it.
	signal.Notify(childExits, syscall.SIGCHLD)
	signal.Stop(childExits)
	var help func() error
	switch os.Getenv(helperVar) {
	case "":
		os.Exit(m.Run())
	case "args":
		help = helpArgs
	case "run":
		help = helpRun
	case "credentials":
		help = helpCredentials
	case "init":
		help = helpInit
	case "escaped":
		help = helpEscaped
	case "move":
		help = helpMove
	}
	if err := help(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// helperEnv returns the environment of a helper. The race detector would delay each exit by a
// second.
func helperEnv(name string) []string {
	return append(os.Environ(), helperVar+"="+name, "GORACE=atexit_sleep_ms=0")
}

// helpArgs prints its arguments.
func helpArgs() error {
	_, err := fmt.Printf("%q", os.Args[1:])
	return err
}

// helpRun runs its arguments as a command, as gophd would, with its own output. It first catches
// the descriptors that its parent left open, as in gophd.
func helpRun() error {
	if _, err := self.Catch(); err != nil {
		return err
	}
	s, err := New()
	if err != nil {
		return err
	}
	s.readAtOnce = true
	defer s.Close()
	return runHere(context.Background(), s, os.Args[1:])
}

// helpMove exits with code 7 as a member of a process group that it does not lead.
func helpMove() error {
	other := exec.Command("sleep", "3600")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := other.Start(); err != nil {
		return err
	}
	err := syscall.Setpgid(0, other.Process.Pid)
	_ = other.Process.Kill()
	_ = other.Wait()
	if err == nil {
		os.Exit(7)
	}
	return err
}

func runHere(ctx context.Context, s *Spawner, argv []string) error {
	p, err := s.Start(ctx, Command{
		Argv: argv, Dir: "/", Env: []string{"PATH=/bin:/usr/bin"}, Stdout: Output{File: os.Stdout},
		Stderr: discard(),
	})
	if err != nil {
		return err
	}
	if r := p.Wait(); !r.OK() {
		return errors.New(r.String())
	}
	return nil
}

func TestArgvIsExact(t *testing.T) {
	s := newSpawner(t)
	args := []string{"a b", "", `"q"`, "'", "--", "-v", "%d%%", "$HOME", "*", "line\nline", "\xff", "back\\slash"}
	out := newCapture()
	p, err := s.Start(t.Context(), Command{
		Argv: append([]string{os.Args[0]}, args...), Dir: t.TempDir(), Env: helperEnv("args"),
		Stdout: out.output(), Stderr: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(); !r.OK() {
		t.Error(r)
	}
	if want := fmt.Sprintf("%q", args); out.String() != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
}

func TestInheritedSignalState(t *testing.T) {
	s := newSpawner(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var blocked, old, after unix.Sigset_t
	for _, sig := range []syscall.Signal{
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT,
	} {
		blocked.Val[0] |= 1 << (sig - 1)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &blocked, &old); err != nil {
		t.Fatal(err)
	}
	p, out, _ := startCommand(t, s, []string{"sed", "-n", "/SigBlk/p; /SigCgt/p", "/proc/self/status"})
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, &after); err != nil {
		t.Fatal(err)
	}
	if after != blocked {
		t.Errorf("the mask of the thread that starts commands was changed: %x, was %x", after.Val[0], blocked.Val[0])
	}
	p.Wait()
	if want := "SigBlk:\t0000000000000000\nSigCgt:\t0000000000000000\n"; out.String() != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestNofileLimitRestored(t *testing.T) {
	cmd := exec.Command("sh", "-c", `ulimit -Sn 123; exec "$0" grep 'Max open files' /proc/self/limits`, os.Args[0])
	cmd.Env = helperEnv("run")
	out, err := cmd.CombinedOutput()
	if f := strings.Fields(string(out)); err != nil || len(f) < 4 || f[3] != "123" {
		t.Errorf("got %q (%v), want the soft limit 123", out, err)
	}
}

func TestNoFdLeakToJob(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := exec.Command(os.Args[0], "ls", "/proc/self/fd")
	cmd.Env = helperEnv("run")
	cmd.ExtraFiles = []*os.File{r, w, r} // gophd's own parent left these open
	out, err := cmd.CombinedOutput()
	// 3 is the directory that ls reads.
	if f := strings.Join(strings.Fields(string(out)), " "); err != nil || f != "0 1 2 3" {
		t.Errorf("the command has the descriptors %s (%v)", f, err)
	}
}

// limitFiles sets and returns the limit of open files by a bare system call: after a call of package
// syscall, commands would no longer get the limit that this program started with.
func limitFiles(t *testing.T, new, old *unix.Rlimit) {
	t.Helper()
	_, _, e := unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE,
		uintptr(unsafe.Pointer(new)), uintptr(unsafe.Pointer(old)), 0, 0)
	if e != 0 {
		t.Fatal(e)
	}
}

// TestShortageOfDescriptorsIsWaitedOut runs in virtual time.
func TestShortageOfDescriptorsIsWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpawner(t)
		c := Command{Argv: []string{"/bin/true"}, Dir: "/", Stdout: Output{File: s.null}, Stderr: Output{File: s.null}}
		var before unix.Rlimit
		limitFiles(t, nil, &before)
		limitFiles(t, &unix.Rlimit{Max: before.Max}, nil)
		defer limitFiles(t, &before, nil)

		started := time.Now()
		_, err := s.Start(t.Context(), c)
		took := time.Since(started)
		if !errors.Is(err, syscall.EMFILE) || took <= 4500*time.Millisecond || took > 5*time.Second {
			t.Errorf("without a free descriptor: %v after %v, want EMFILE when another pause would be more than 5s",
				err, took)
		}

		started = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = s.Start(ctx, c)
		if took := time.Since(started); !errors.Is(err, syscall.EMFILE) || took != 100*time.Millisecond {
			t.Errorf("with a context of 100ms: %v after %v", err, took)
		}

		started = time.Now()
		time.AfterFunc(200*time.Millisecond, func() { limitFiles(t, &before, nil) })
		p, err := s.Start(t.Context(), c)
		if err != nil {
			t.Fatalf("when descriptors are free again: %v", err)
		}
		if took := time.Since(started); took != 310*time.Millisecond {
			t.Errorf("it was started after %v, want the first attempt after 200ms", took)
		}
		if r := p.Wait(); !r.OK() {
			t.Error(r)
		}
	})
}

func TestStartBackoffIsBounded(t *testing.T) {
	for _, e := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE} {
		var last time.Duration
		for attempts := range 100 {
			pause, limit := backoff(&os.SyscallError{Syscall: "fork", Err: e}, attempts)
			if pause < last || pause < 10*time.Millisecond || pause > 500*time.Millisecond || limit != 5*time.Second {
				t.Errorf("%v, attempt %d: pause %v after %v, limit %v", e, attempts, pause, last, limit)
			}
			last = pause
		}
	}
	if pause, limit := backoff(syscall.ETXTBSY, 50); pause != 10*time.Millisecond || limit != time.Second {
		t.Errorf("ETXTBSY: pause %v, limit %v", pause, limit)
	}
	if _, limit := backoff(syscall.ENOENT, 0); limit != 0 {
		t.Errorf("ENOENT is retried for %v", limit)
	}
}

// awaitExit blocks until the process has exited, even if it is not a child.
func awaitExit(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n := 0
	for err = unix.EINTR; err == unix.EINTR; { // the exit of any other child interrupts
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
	}
	if n != 1 {
		t.Fatalf("process %d did not end (%v)", pid, err)
	}
}

func isAlive(pid int) bool {
	p, err := procfs.ReadStat(pid)
	return err == nil && !p.Ended()
}

// startEscaped starts a command that leaves a process in a session of its own. That process holds
// the output, writes a line for each line that the returned function sends, and exits at "end".
func startEscaped(t *testing.T, s *Spawner) (p *Process, out *capture, pid int, send func(string)) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/in", 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for reading and writing, so that neither side waits for the other.
	in, err := os.OpenFile(dir+"/in", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	p, out, _ = startCommand(t, s, sh(`exec 3<`+dir+`/in
		setsid sh -c 'echo escaped $$; while read -r line <&3 && [ "$line" != end ]; do echo "$line"; done' 2>/dev/null &
		wait`))
	pid = number(t, strings.TrimPrefix(out.await(t, "\n"), "escaped "))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return p, out, pid, func(line string) {
		if _, err := in.WriteString(line + "\n"); err != nil {
			t.Error(err)
		}
	}
}

// An escaped process that holds the output does not block Wait, and survives it.
func TestEscapedProcessHoldsStdoutAndSurvives(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	s.readAtOnce = true
	p, out, pid, send := startEscaped(t, s)
	p.Stop(time.Hour)
	if r := p.Wait(); r.String() != "signal TERM" || !isAlive(pid) {
		t.Errorf("%v, and the escaped process is alive: %v", r, isAlive(pid))
	}
	send("after the end")
	out.await(t, "after the end\n")
	send("end")
	awaitExit(t, pid)
	<-out.closed
	// The escaped process became a child of this program, which has to reap it.
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	gone(t, pid)
}

// The next run reaps what exited between runs.
func TestOrphansOfAnEarlierRunAreReaped(t *testing.T) {
	s := newSpawner(t)
	p, _, pid, send := startEscaped(t, s)
	p.Stop(time.Hour)
	p.Wait()
	send("end")
	awaitExit(t, pid)
	s.lastReap = time.Time{}
	p, _, _ = startCommand(t, s, []string{"/bin/sleep", "3600"})
	result := make(chan job.Result, 1)
	go func() { result <- p.Wait() }()
	watch, out, _ := startCommand(t, s, whileThere(pid))
	watch.Wait()
	if out.String() != "collected" {
		t.Errorf("the escaped process is still a zombie: %q", out)
	}
	p.Stop(0)
	<-result
}

// whileThere is a command that exits when the process is gone, not even a zombie.
func whileThere(pid int) []string {
	return sh(fmt.Sprintf(`while kill -0 %d; do sleep 0.01; done; printf collected`, pid))
}

func TestFloodingEscapedProcessDoesNotBlockWait(t *testing.T) {
	s := newSpawner(t)
	p, out, _ := startCommand(t, s, sh(`setsid sh -c 'echo $$; exec yes' & wait`))
	pid := number(t, strings.SplitN(out.await(t, "y\n"), "\n", 2)[0])
	defer awaitExit(t, pid)
	defer syscall.Kill(pid, syscall.SIGKILL)
	p.Stop(time.Hour)
	p.Wait()
}

func TestEscapedStreamsAreBounded(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	s.readAtOnce = true
	var pids []int
	var sends []func(string)
	var outs []*capture
	for range maxEscapedStreams + 1 {
		p, out, pid, send := startEscaped(t, s)
		p.Stop(time.Hour)
		p.Wait()
		pids, sends, outs = append(pids, pid), append(sends, send), append(outs, out)
	}
	<-outs[0].closed // one more than allowed, so the oldest is no longer read
	for _, i := range []int{1, maxEscapedStreams} {
		sends[i]("here")
		outs[i].await(t, "here\n")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for i, out := range outs {
		select {
		case <-out.closed:
		default:
			t.Errorf("the writer of escaped process %d is open after Close", i)
		}
		sends[i]("nobody reads this")
		awaitExit(t, pids[i]) // by SIGPIPE
	}
}

func TestCloseRaisesAWritersPanic(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	s.readAtOnce = true
	p, out, pid, send := startEscaped(t, s)
	p.Stop(time.Hour)
	p.Wait()
	out.mu.Lock()
	out.fault = "the fault"
	out.mu.Unlock()
	send("end")
	awaitExit(t, pid)
	if fault := goroutine.Catch(func() { _ = s.Close() }); fault == nil {
		t.Error("the panic was lost")
	}
}

// A member whose parent left the group while it stayed never becomes a child of this program.
func TestMemberWithAForeignParent(t *testing.T) {
	s := newSpawner(t)
	script := `(sleep 3600 & echo $!; echo $BASHPID; exec setsid sleep 3600) & ` +
		`while [ "$(ps -o pgid= -p $! | tr -d ' ')" != "$!" ]; do :; done; exit 4`
	for _, captured := range []bool{true, false} {
		out := newCapture()
		c := Command{
			Argv: []string{"bash", "-c", script}, Dir: t.TempDir(), Env: os.Environ(), Stdout: out.output(),
			Stderr: discard(),
		}
		file, err := os.Create(filepath.Join(c.Dir, "out"))
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
		text := out.String()
		if !captured {
			b, _ := os.ReadFile(file.Name())
			text = string(b)
		}
		pids := strings.Fields(text)
		if r.String() != "exit code 4" || len(pids) != 2 {
			t.Fatalf("%v, %q", r, text)
		}
		member, parent := number(t, pids[0]), number(t, pids[1])
		if captured && isAlive(member) {
			t.Error("the member of the group is still alive")
		}
		awaitExit(t, member) // without a pipe it is certain to be killed, but Wait does not wait for it
		if !isAlive(parent) {
			t.Error("the process that left the group was disturbed")
		}
		_ = syscall.Kill(parent, syscall.SIGKILL)
		awaitExit(t, parent)
	}
}

func TestGroupAliveOnThisKernel(t *testing.T) {
	s := newSpawner(t)
	// The leader is killed, and not reaped as long as its child is alive.
	p, out, _ := startCommand(t, s, sh(`trap '' TERM; sh -c 'echo $$; sleep 3600; :' & wait; sleep 3600`))
	child := number(t, out.await(t, "\n"))
	if alive, others := groupAlive(p.PID(), false); !alive || !others {
		t.Error("a living group counts as dead")
	}
	if alive, _ := groupAlive(1<<22-1, true); alive {
		t.Error("a group that does not exist counts as alive")
	}
	p.Stop(0)
	awaitExit(t, child)
	awaitExit(t, p.PID())
	p.Wait()
	if alive, others := groupAlive(p.PID(), true); alive || others {
		t.Error("a dead group counts as alive")
	}
}

// A suspended member counts as alive, and checking it does not change its state.
func TestSuspendedGroupMemberIsKilled(t *testing.T) {
	p, out, _ := startCommand(t, newSpawner(t), sh(
		`sh -c 'echo $$; kill -STOP $$' & while ! grep -q 'State:.T' /proc/$!/status; do :; done`))
	if r := p.Wait(); !r.OK() {
		t.Error(r)
	}
	gone(t, number(t, out.String()))
}

// A command that exits before its Wait starts is not observed; orphans are reaped all the same.
func TestQuickRunsReapOrphans(t *testing.T) {
	s := newSpawner(t)
	s.groupGrace = time.Hour // until the child has its own session
	p, out, _ := startCommand(t, s, sh(`setsid sh -c 'echo $$; exec sleep 3600 >/dev/null 2>&1' &`))
	p.Wait()
	escaped := number(t, out.await(t, "\n"))
	_ = syscall.Kill(escaped, syscall.SIGKILL)
	awaitExit(t, escaped)
	s.lastReap = time.Time{}
	p, _, _ = startCommand(t, s, sh("exit 8"))
	awaitExit(t, p.PID())
	if r := p.Wait(); r.Code != 8 {
		t.Error(r)
	}
	gone(t, escaped)
}

func TestOtherChildrenAreNotReaped(t *testing.T) {
	s := newSpawner(t)
	var all goroutine.Group
	stop := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.reapOrphansNow()
			}
		}
	})
	for i := range 60 {
		cmd := exec.Command("sh", "-c", "exit 7")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: i%2 == 0}
		err := cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 7 {
			t.Fatalf("the status of another package's child was taken: %v", err)
		}
		p, _, _ := startCommand(t, s, sh("exit 8"))
		if r := p.Wait(); r.Code != 8 {
			t.Fatal(r)
		}
	}
	close(stop)
	all.Wait()
}

// A command that runs for months may have orphans as a service. The exit of each orphan is an event
// for the Wait of the command, even if a child of another package is a zombie that is not reaped.
func TestOrphansOfARunningGroupAreReaped(t *testing.T) {
	for name, foreign := range map[string]bool{"alone": false, "beside a foreign zombie": true} {
		t.Run(name, func(t *testing.T) {
			s := newSpawner(t)
			other := exec.Command("/bin/true")
			if foreign {
				if err := other.Start(); err != nil {
					t.Fatal(err)
				}
				awaitExit(t, other.Process.Pid)
			}
			p, out, _ := startCommand(t, s, sh(`o=$(sh -c 'sleep 0.05 >&2 & echo $!'); echo $o; `+
				`while kill -0 $o; do sleep 0.01; done; echo collected; sleep 3600`))
			result := make(chan job.Result, 1)
			go func() { result <- p.Wait() }()
			out.await(t, "collected\n")
			p.Stop(0)
			if r := <-result; r.Signal != syscall.SIGKILL || r.Outcome != job.Signaled {
				t.Error(r)
			}
			if foreign {
				if err := other.Wait(); err != nil {
					t.Errorf("the status of another package's child was taken: %v", err)
				}
			}
		})
	}
}

// A thread that waits for the exit of a short command is woken by it, and nothing else is.
func TestSIGCHLDIsNotCaught(t *testing.T) {
	newSpawner(t)
	if catches(t, syscall.SIGCHLD) || !catches(t, syscall.SIGTERM) {
		t.Error("SIGCHLD is caught, or TERM is not")
	}
}

// catches reports whether this program has a handler for the signal.
func catches(t *testing.T, sig syscall.Signal) bool {
	t.Helper()
	caught, err := strconv.ParseUint(ownStatus(t, "SigCgt"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return caught&(1<<(sig-1)) != 0
}

// ownStatus returns a value of proc_pid_status(5) of this program.
func ownStatus(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

// No timer is active between runs: no goroutine is left that could wait for one, and the timer of a
// KILL is stopped with its run.
func TestNothingRunsWhileIdle(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newSpawner(t)
	p, err := s.Start(t.Context(), Command{
		Argv: []string{"/bin/sleep", "3600"}, Dir: "/", Stdout: Output{File: s.null},
		Stderr: Output{File: s.null},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(time.Hour)
	if r := p.Wait(); r.String() != "signal TERM" {
		t.Error(r)
	}
	awaitGoroutines(before)
	if p.killTimer == nil || p.killTimer.Stop() {
		t.Error("the timer of the KILL outlives the run")
	}
}

func TestNoThreadLeak(t *testing.T) {
	s := newSpawner(t)
	run := func(n int) {
		for range n {
			p, _, _ := startCommand(t, s, []string{"/bin/true"})
			p.Wait()
		}
	}
	run(50)
	before := threads(t)
	const runs = 300
	run(runs)
	// The runtime adds a thread when all others are in system calls at the same moment. A leak is
	// one per run.
	if after := threads(t); after > before+runs/20 {
		t.Errorf("%d threads after %d runs, %d before", after, runs, before)
	}
}

// threads returns how many threads this program has.
func threads(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		tb.Fatal(err)
	}
	return len(entries)
}
