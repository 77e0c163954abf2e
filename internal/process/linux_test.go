//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

// Helpers are this test binary, started again with the name of one in the environment.
const helperVar = "GOPHD_PROCESS_TEST_HELPER"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == ShimCommand {
		if err := Shim(); err != nil {
			fmt.Println(err)
		}
		os.Exit(1)
	}
	var help func() error
	switch os.Getenv(helperVar) {
	case "":
		os.Exit(m.Run())
	case "args":
		help = helpArgs
	case "run":
		help = helpRun
	case "world":
		help = helpWorld
	case "init":
		help = helpInit
	case "strays":
		help = helpStrays
	}
	if err := help(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// The race detector would hold up the exit of each for a second.
func helperEnv(name string) []string {
	return append(os.Environ(), helperVar+"="+name, "GORACE=atexit_sleep_ms=0")
}

// helpArgs prints its arguments.
func helpArgs() error {
	_, err := fmt.Printf("%q", os.Args[1:])
	return err
}

// helpRun runs its arguments as a command, as gophd would, with its own output. What its own parent left
// open is caught first, as in gophd.
func helpRun() error {
	if _, err := self.Catch(); err != nil {
		return err
	}
	s, err := New()
	if err != nil {
		return err
	}
	defer s.Close()
	return runHere(context.Background(), s, os.Args[1:])
}

func runHere(ctx context.Context, s *Spawner, argv []string) error {
	p, err := s.Start(ctx, Command{Argv: argv, Dir: "/", Env: []string{"PATH=/bin:/usr/bin"}, Stdout: Output{File: os.Stdout}, Stderr: discard()})
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
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT} {
		blocked.Val[0] |= 1 << (sig - 1)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &blocked, &old); err != nil {
		t.Fatal(err)
	}
	p, out, _ := begin(t, s, []string{"sed", "-n", "/SigBlk/p; /SigCgt/p", "/proc/self/status"})
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
	// 3 is the folder that ls reads.
	if f := strings.Join(strings.Fields(string(out)), " "); err != nil || f != "0 1 2 3" {
		t.Errorf("the command has the descriptors %s (%v)", f, err)
	}
}

// TestShortageOfDescriptorsIsWaitedOut in virtual time. The limit is set by a bare system call: the
// package syscall would stop giving commands the limit that this program began with.
func TestShortageOfDescriptorsIsWaitedOut(t *testing.T) {
	limit := func(new, old *unix.Rlimit) {
		t.Helper()
		if _, _, e := unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(new)), uintptr(unsafe.Pointer(old)), 0, 0); e != 0 {
			t.Fatal(e)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSpawner(t)
		c := Command{Argv: []string{"/bin/true"}, Dir: "/", Stdout: Output{File: s.null}, Stderr: Output{File: s.null}}
		var before unix.Rlimit
		limit(nil, &before)
		limit(&unix.Rlimit{Max: before.Max}, nil)
		defer limit(&before, nil)

		began := time.Now()
		_, err := s.Start(t.Context(), c)
		if took := time.Since(began); !errors.Is(err, syscall.EMFILE) || took <= 4500*time.Millisecond || took > 5*time.Second {
			t.Errorf("without a free descriptor: %v after %v, want EMFILE when another pause would be more than 5s", err, took)
		}

		began = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = s.Start(ctx, c)
		if took := time.Since(began); !errors.Is(err, syscall.EMFILE) || took != 100*time.Millisecond {
			t.Errorf("with a context of 100ms: %v after %v", err, took)
		}

		began = time.Now()
		time.AfterFunc(200*time.Millisecond, func() { limit(&before, nil) })
		p, err := s.Start(t.Context(), c)
		if err != nil {
			t.Fatalf("when descriptors are free again: %v", err)
		}
		if took := time.Since(began); took != 310*time.Millisecond {
			t.Errorf("it was started after %v, want the first try after 200ms", took)
		}
		if r := p.Wait(); !r.OK() {
			t.Error(r)
		}
	})
}

func TestPatienceHasBounds(t *testing.T) {
	for _, e := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE} {
		var last time.Duration
		for tries := range 100 {
			pause, limit := patience(&os.SyscallError{Syscall: "fork", Err: e}, tries)
			if pause < last || pause < 10*time.Millisecond || pause > 500*time.Millisecond || limit != 5*time.Second {
				t.Errorf("%v, try %d: pause %v after %v, limit %v", e, tries, pause, last, limit)
			}
			last = pause
		}
	}
	if pause, limit := patience(syscall.ETXTBSY, 50); pause != 10*time.Millisecond || limit != time.Second {
		t.Errorf("ETXTBSY: pause %v, limit %v", pause, limit)
	}
	if _, limit := patience(syscall.ENOENT, 0); limit != 0 {
		t.Errorf("ENOENT is tried again for %v", limit)
	}
}

// awaitEnd blocks until the process has ended, whosever child it is.
func awaitEnd(t *testing.T, pid int) {
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
	for err = unix.EINTR; err == unix.EINTR; { // the end of any other child interrupts
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
	}
	if n != 1 {
		t.Fatalf("process %d did not end (%v)", pid, err)
	}
}

func living(pid int) bool {
	p, err := procfs.ReadStat(pid)
	return err == nil && !p.Ended()
}

// stray starts a command that leaves a process with a session of its own behind; it holds the output,
// writes a line for each line that the returned function sends, and ends at "end".
func stray(t *testing.T, s *Spawner) (p *Process, out *capture, pid int, say func(string)) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/in", 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for both, so that neither side waits for the other.
	in, err := os.OpenFile(dir+"/in", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	p, out, _ = begin(t, s, sh(`exec 3<`+dir+`/in
		setsid sh -c 'echo stray $$; while read -r line <&3 && [ "$line" != end ]; do echo "$line"; done' 2>/dev/null &
		wait`))
	pid = number(t, strings.TrimPrefix(out.await(t, "\n"), "stray "))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return p, out, pid, func(line string) {
		if _, err := in.WriteString(line + "\n"); err != nil {
			t.Error(err)
		}
	}
}

// A stray that holds the output does not hold up the end, and survives it.
func TestStrayHoldsStdoutAndSurvives(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	p, out, pid, say := stray(t, s)
	p.Stop(time.Hour)
	if r := p.Wait(); r.String() != "signal TERM" || !living(pid) {
		t.Errorf("%v, and the stray lives: %v", r, living(pid))
	}
	say("after the end")
	out.await(t, "after the end\n")
	say("end")
	awaitEnd(t, pid)
	<-out.closed
	// The stray came home to this program, which has to collect it.
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	gone(t, pid)
}

// What ended while nothing ran is collected by the next run.
func TestOrphansOfAnEarlierRunAreCollected(t *testing.T) {
	s := newSpawner(t)
	p, _, pid, say := stray(t, s)
	p.Stop(time.Hour)
	p.Wait()
	say("end")
	awaitEnd(t, pid)
	s.collected = time.Time{}
	p, _, _ = begin(t, s, []string{"/bin/sleep", "3600"})
	ended := make(chan job.Result, 1)
	go func() { ended <- p.Wait() }()
	watch, out, _ := begin(t, s, whileThere(pid))
	watch.Wait()
	if out.String() != "collected" {
		t.Errorf("the stray is still a zombie: %q", out)
	}
	p.Stop(0)
	<-ended
}

// whileThere is a command that ends when the process is no more, not even a zombie.
func whileThere(pid int) []string {
	return sh(fmt.Sprintf(`while kill -0 %d; do sleep 0.01; done; printf collected`, pid))
}

func TestStraysThatFloodCannotHoldUpTheEnd(t *testing.T) {
	s := newSpawner(t)
	p, out, _ := begin(t, s, sh(`setsid sh -c 'echo $$; exec yes' & wait`))
	pid := number(t, strings.SplitN(out.await(t, "y\n"), "\n", 2)[0])
	defer awaitEnd(t, pid)
	defer syscall.Kill(pid, syscall.SIGKILL)
	p.Stop(time.Hour)
	p.Wait()
}

func TestStraysAreBounded(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	var says []func(string)
	var outs []*capture
	for range maxStrays + 1 {
		p, out, pid, say := stray(t, s)
		p.Stop(time.Hour)
		p.Wait()
		pids, says, outs = append(pids, pid), append(says, say), append(outs, out)
	}
	<-outs[0].closed // one more than allowed, so the oldest is no longer read
	for _, i := range []int{1, maxStrays} {
		says[i]("here")
		outs[i].await(t, "here\n")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for i, out := range outs {
		select {
		case <-out.closed:
		default:
			t.Errorf("the writer of stray %d is open after Close", i)
		}
		says[i]("nobody reads this")
		awaitEnd(t, pids[i]) // by SIGPIPE
	}
}

func TestPanicOfAStraysWriterClimbsFromClose(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	p, out, pid, say := stray(t, s)
	p.Stop(time.Hour)
	p.Wait()
	out.mu.Lock()
	out.fault = "the fault"
	out.mu.Unlock()
	say("end")
	awaitEnd(t, pid)
	if fault := goroutine.Catch(func() { _ = s.Close() }); fault == nil {
		t.Error("the panic was lost")
	}
}

// A member whose parent has left the group while it stayed is not a child of this program, ever.
func TestMemberWithAForeignParent(t *testing.T) {
	s := newSpawner(t)
	script := `(sleep 3600 & echo $!; echo $BASHPID; exec setsid sleep 3600) & while [ "$(ps -o pgid= -p $! | tr -d ' ')" != "$!" ]; do :; done; exit 4`
	for _, captured := range []bool{true, false} {
		out := newCapture()
		c := Command{Argv: []string{"bash", "-c", script}, Dir: t.TempDir(), Env: os.Environ(), Stdout: out.output(), Stderr: discard()}
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
		if r.String() != "exit 4" || len(pids) != 2 {
			t.Fatalf("%v, %q", r, text)
		}
		member, parent := number(t, pids[0]), number(t, pids[1])
		if captured && living(member) {
			t.Error("the member of the group lives on")
		}
		awaitEnd(t, member) // without a pipe its death is certain, and not awaited by Wait
		if !living(parent) {
			t.Error("the process that left the group was disturbed")
		}
		_ = syscall.Kill(parent, syscall.SIGKILL)
		awaitEnd(t, parent)
	}
}

func TestGroupAliveOnThisKernel(t *testing.T) {
	s := newSpawner(t)
	// The leader is killed, and not collected for as long as its child lives.
	p, out, _ := begin(t, s, sh(`trap '' TERM; sh -c 'echo $$; sleep 3600; :' & wait; sleep 3600`))
	child := number(t, out.await(t, "\n"))
	if alive, others := groupAlive(p.PID(), false); !alive || !others {
		t.Error("a living group was taken for dead")
	}
	if alive, _ := groupAlive(1<<22-1, true); alive {
		t.Error("a group that does not exist was taken for alive")
	}
	p.Stop(0)
	awaitEnd(t, child)
	awaitEnd(t, p.PID())
	p.Wait()
	if alive, others := groupAlive(p.PID(), true); alive || others {
		t.Error("a dead group was taken for alive")
	}
}

// A frozen member is a living one, and looking at it takes nothing from its state.
func TestFrozenLeftoverIsKilled(t *testing.T) {
	p, out, _ := begin(t, newSpawner(t), sh(`sh -c 'echo $$; kill -STOP $$' & while ! grep -q 'State:.T' /proc/$!/status; do :; done`))
	if r := p.Wait(); !r.OK() {
		t.Error(r)
	}
	gone(t, number(t, out.String()))
}

// A command that ends before its Wait begins is not observed; orphans are collected all the same.
func TestOrphansAreCollectedByQuickRuns(t *testing.T) {
	s := newSpawner(t)
	s.courtesy = time.Hour // until the child has its own session
	p, out, _ := begin(t, s, sh(`setsid sh -c 'echo $$; exec sleep 3600 >/dev/null 2>&1' &`))
	p.Wait()
	stray := number(t, out.await(t, "\n"))
	_ = syscall.Kill(stray, syscall.SIGKILL)
	awaitEnd(t, stray)
	s.collected = time.Time{}
	p, _, _ = begin(t, s, sh("exit 8"))
	awaitEnd(t, p.PID())
	if r := p.Wait(); r.Code != 8 {
		t.Error(r)
	}
	gone(t, stray)
}

func TestOtherChildrenAreLeftAlone(t *testing.T) {
	s := newSpawner(t)
	var all goroutine.Group
	stop := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.collectOrphans()
			}
		}
	})
	for i := range 60 {
		cmd := exec.Command("sh", "-c", "exit 7")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: i%2 == 0}
		err := cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 7 {
			t.Fatalf("the status of another room's child was taken: %v", err)
		}
		p, _, _ := begin(t, s, sh("exit 8"))
		if r := p.Wait(); r.Code != 8 {
			t.Fatal(r)
		}
	}
	close(stop)
	all.Wait()
}

// A command that runs for months may have orphans all the time: the end of each is an event for the Wait
// of its command, even while a child of another room is a zombie that its owner does not collect.
func TestOrphansOfARunningGroupAreCollected(t *testing.T) {
	for name, foreign := range map[string]bool{"alone": false, "beside a foreign zombie": true} {
		t.Run(name, func(t *testing.T) {
			s := newSpawner(t)
			other := exec.Command("/bin/true")
			if foreign {
				if err := other.Start(); err != nil {
					t.Fatal(err)
				}
				awaitEnd(t, other.Process.Pid)
			}
			p, out, _ := begin(t, s, sh(`o=$(sh -c 'sleep 0.05 >&2 & echo $!'); echo $o; while kill -0 $o; do sleep 0.01; done; echo collected; sleep 3600`))
			ended := make(chan job.Result, 1)
			go func() { ended <- p.Wait() }()
			out.await(t, "collected\n")
			p.Stop(0)
			if r := <-ended; r.Signal != syscall.SIGKILL || r.Outcome != job.Signaled {
				t.Error(r)
			}
			if foreign {
				if err := other.Wait(); err != nil {
					t.Errorf("the status of another room's child was taken: %v", err)
				}
			}
		})
	}
}

// The end of a child is waited for, and wakes nobody else.
func TestEndsOfChildrenAreNoSignalsToUs(t *testing.T) {
	newSpawner(t)
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "SigCgt:")
	caught, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	if err != nil || caught&(1<<(syscall.SIGCHLD-1)) != 0 || caught&(1<<(syscall.SIGTERM-1)) == 0 {
		t.Errorf("caught are %#x, %v", caught, err)
	}
}

// Between runs nothing fires: there is no goroutine that could wait for a timer, and a timer of a KILL is
// stopped with its run.
func TestNothingRunsWhileIdle(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newSpawner(t)
	p, err := s.Start(t.Context(), Command{Argv: []string{"/bin/sleep", "3600"}, Dir: "/", Stdout: Output{File: s.null}, Stderr: Output{File: s.null}})
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(time.Hour)
	if r := p.Wait(); r.String() != "signal TERM" {
		t.Error(r)
	}
	awaitGoroutines(before)
	if p.fatal == nil || p.fatal.Stop() {
		t.Error("the timer of the KILL outlives the run")
	}
}

func TestNoThreadLeak(t *testing.T) {
	s := newSpawner(t)
	threads := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	run := func(n int) {
		for range n {
			p, _, _ := begin(t, s, []string{"/bin/true"})
			p.Wait()
		}
	}
	run(50)
	before := threads()
	const runs = 300
	run(runs)
	// The runtime adds one when all that it has are in system calls at the same moment. A leak is one a run.
	if after := threads(); after > before+runs/20 {
		t.Errorf("%d threads after %d runs, %d before", after, runs, before)
	}
}
