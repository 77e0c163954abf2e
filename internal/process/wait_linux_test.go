package process

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

// TestWaitsInThePoller repeats the tests of this package in a process in which no Wait blocks a
// thread. The tests that it leaves out start commands by the shim, and wait for them like all others.
func TestWaitsInThePoller(t *testing.T) {
	if os.Getenv(pollerVar) != "" {
		return
	}
	cmd := exec.Command(os.Args[0], "-test.skip=Check|Shim|Credentials")
	cmd.Env = append(os.Environ(), pollerVar+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// users returns how many Waits observe their command in the runtime's poller.
func (s *Spawner) users() int {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	return s.watch.users
}

// awaitUsers blocks until n Waits observe their command in the runtime's poller.
func awaitUsers(s *Spawner, n int) {
	for s.users() != n {
		time.Sleep(time.Millisecond)
	}
}

// startReaders starts n commands at the same time. They exit when end is called.
func startReaders(tb testing.TB, s *Spawner, n int) (all []*Process, end func()) {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	all = make([]*Process, n)
	var starts goroutine.Group
	for i := range all {
		starts.Go(func() {
			p, err := s.Start(tb.Context(), Command{Argv: []string{"/bin/cat"}, Dir: "/", Env: os.Environ(), Stdin: r,
				Stdout: Output{File: s.null}, Stderr: Output{File: s.null}})
			if err != nil {
				tb.Error(err)
			}
			all[i] = p
		})
	}
	if starts.Wait(); tb.Failed() {
		tb.FailNow()
	}
	return all, func() { _ = w.Close() }
}

// Threads do not increase with the commands that are started at the same time, and run. A command
// that runs for long leaves the blocking wait to others. Nothing is left of a wait in the poller.
func TestManyCommandsAreWaitedForByFewThreads(t *testing.T) {
	const runs = 200
	s := newSpawner(t)
	warm, end := startReaders(t, s, 10)
	var all goroutine.Group
	wait := func(p *Process) {
		all.Go(func() {
			if r := p.Wait(); !r.OK() || r.Usage.MaxRSS == 0 {
				t.Errorf("%v, usage %+v", r, r.Usage)
			}
		})
	}
	for _, p := range warm {
		wait(p)
	}
	awaitUsers(s, len(warm))
	end()
	all.Wait()

	files, before, goroutines := openFiles(t), threads(t), runtime.NumGoroutine()
	processes, end := startReaders(t, s, runs)
	for _, p := range processes {
		wait(p)
	}
	awaitUsers(s, runs)
	// The runtime adds a thread when all others are in system calls at the same moment.
	if now := threads(t); now > before+runs/10 {
		t.Errorf("%d threads wait for %d commands, %d were before", now, runs, before)
	}
	if len(s.blocking) != 0 || !catches(t, syscall.SIGCHLD) {
		t.Errorf("%d blocking waits are in use, SIGCHLD is caught: %v", len(s.blocking), catches(t, syscall.SIGCHLD))
	}
	short, _, _ := startCommand(t, s, []string{"/bin/true"})
	if r := short.Wait(); !r.OK() {
		t.Error(r)
	}
	end()
	all.Wait()
	if now := openFiles(t); now > files {
		t.Errorf("%d descriptors are open, %d were before", now, files)
	}
	if catches(t, syscall.SIGCHLD) {
		t.Error("SIGCHLD is still caught")
	}
	awaitGoroutines(goroutines)
}

// Where there is no pidfd, Wait blocks a thread. Here there is no free descriptor.
func TestWaitWithoutAPidfd(t *testing.T) {
	s := newSpawner(t)
	processes, end := startReaders(t, s, 2)
	var before unix.Rlimit
	limitFiles(t, nil, &before)
	limitFiles(t, &unix.Rlimit{Max: before.Max}, nil)
	defer limitFiles(t, &before, nil)
	results := make(chan job.Result, len(processes))
	for _, p := range processes {
		go func() { results <- p.Wait() }()
	}
	awaitUsers(s, len(processes))
	processes[0].Stop(0)
	if r := <-results; r.PID != processes[0].PID() || r.Signal != syscall.SIGKILL {
		t.Errorf("%d exited first: %v", r.PID, r)
	}
	end()
	if r := <-results; r.PID != processes[1].PID() || !r.OK() {
		t.Errorf("%d exited second: %v", r.PID, r)
	}
}

// A signal interrupts poll(2) even if it does not wait. That is not the exit of the process: the Wait
// would leave the poller and block a thread.
func TestASignalDoesNotEndTheWait(t *testing.T) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, looks := unix.Gettid(), make(chan struct{})
	var signals goroutine.Group
	defer signals.Wait()
	defer close(looks)
	signals.Go(func() {
		for {
			select {
			case <-looks:
				return
			default: // Go's runtime sends the same signal to its threads
				_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
			}
		}
	})
	for i := range 200_000 {
		if poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, time.Time{}) != 0 {
			t.Fatalf("look %d shows an exit", i)
		}
	}
}

// A command that has joined another process group looks like an orphan, and is reaped by its Wait all
// the same.
func TestACommandIsNotReapedAsAnOrphan(t *testing.T) {
	s := newSpawner(t)
	p, err := s.Start(t.Context(), Command{Argv: []string{os.Args[0]}, Dir: "/", Env: helperEnv("move"),
		Stdout: Output{File: s.null}, Stderr: Output{File: s.null}})
	if err != nil {
		t.Fatal(err)
	}
	awaitExit(t, p.PID())
	s.reapOrphansNow()
	if r := p.Wait(); r.Code != 7 {
		t.Error(r)
	}
}

// The end of a run, and a look for suspended processes, read nothing of the commands of other runs.
func TestARunDoesNotSearchTheOthers(t *testing.T) {
	const others = 200
	s := newSpawner(t)
	processes, end := startReaders(t, s, others)
	defer func() {
		end()
		for _, p := range processes {
			p.Wait()
		}
	}()
	reads := func() int {
		b, err := os.ReadFile("/proc/self/io")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "syscr: ")
		count, _, _ := strings.Cut(rest, "\n")
		return number(t, count)
	}
	p, err := s.Start(t.Context(), Command{Argv: []string{"/bin/true"}, Dir: "/", Env: os.Environ(),
		Stdout: Output{File: s.null}, Stderr: Output{File: s.null},
		Escapes: &EscapeRules{Mark: "GOPHD_RUN_ID=none"}})
	if err != nil {
		t.Fatal(err)
	}
	awaitExit(t, p.PID())
	before := reads()
	SuspendedBelow(processes[:1])
	looked := reads()
	if p.Wait(); !p.others {
		t.Error("no other command was active")
	}
	// There is a list of children for each thread.
	if look, run := looked-before, reads()-looked; look >= others || run >= others {
		t.Errorf("the look read %d times, and the end of the run %d times", look, run)
	}
}

// A Spawner that is closed leaves SIGCHLD to the next one, whenever the Waits of its detached
// commands end.
func TestDetachedWaitsOutliveTheirSpawner(t *testing.T) {
	old, err := New()
	if err != nil {
		t.Fatal(err)
	}
	old.readAtOnce = true
	all, end := startReaders(t, old, 2)
	defer end()
	var oldWaits goroutine.Group
	for _, p := range all {
		oldWaits.Go(func() {
			if r := p.Wait(); r.PID != 0 {
				t.Errorf("the Wait of a detached command returned %+v", r)
			}
		})
	}
	awaitUsers(old, len(all))
	if Detach(all...) != nil {
		t.Fatal("they were not detached")
	}
	handed := []Handed{all[0].HandOff(), all[1].HandOff()}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if catches(t, syscall.SIGCHLD) {
		t.Error("SIGCHLD is caught for a closed Spawner")
	}

	s := newSpawner(t)
	results := make(chan job.Result, len(handed))
	for _, h := range handed {
		p, err := s.Adopt(h, func(HandedStream) io.WriteCloser { return discardWriter{} })
		if err != nil {
			t.Fatal(err)
		}
		go func() { results <- p.Wait() }()
	}
	awaitUsers(s, len(handed))
	Forget(all...)
	oldWaits.Wait()
	if n := old.users(); n != 0 || !catches(t, syscall.SIGCHLD) {
		t.Errorf("%d old Waits are left; the new Spawner watches: %v", n, catches(t, syscall.SIGCHLD))
	}
	end()
	for range handed {
		if r := <-results; !r.OK() {
			t.Error(r)
		}
	}
}

// An orphan that exits before the watch begins is reaped while the command runs.
func TestOrphanThatExitsEarlyIsReaped(t *testing.T) {
	s := newSpawner(t)
	p, out, _ := startCommand(t, s, sh(`o=$(sh -c 'sleep 3600 >&2 & echo $!'); kill $o; echo $o; `+
		`while kill -0 $o; do sleep 0.01; done; echo collected; sleep 3600`))
	awaitExit(t, number(t, out.await(t, "\n")))
	result := make(chan job.Result, 1)
	go func() { result <- p.Wait() }()
	out.await(t, "collected\n")
	p.Stop(0)
	<-result
}

// BenchmarkWaits measures what it costs to wait for 500 commands at a time.
func BenchmarkWaits(b *testing.B) {
	const runs = 500
	for b.Loop() {
		s := newSpawner(b)
		processes, end := startReaders(b, s, runs)
		resident := func() int { return number(b, strings.TrimSuffix(ownStatus(b, "VmRSS"), " kB")) }
		threadsBefore, residentBefore := threads(b), resident()
		var all goroutine.Group
		for _, p := range processes {
			all.Go(func() { p.Wait() })
		}
		awaitUsers(s, runs)
		b.ReportMetric(float64(threads(b)-threadsBefore), "threads")
		b.ReportMetric(float64(resident()-residentBefore)/runs, "KiB/wait")
		end()
		all.Wait()
	}
	b.ReportMetric(0, "ns/op")
}
