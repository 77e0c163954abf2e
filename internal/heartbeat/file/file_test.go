package file

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
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

	"golang.org/x/sys/unix"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
	"gophd/internal/lockfile"
)

const key = "job_process_heartbeat"

// TestMain runs the tests. In a child process that a test starts, it runs instance instead.
func TestMain(m *testing.M) {
	path := os.Getenv("FILE_TEST_PATH")
	if path == "" {
		os.Exit(m.Run())
	}
	if err := instance(path, os.Getenv("FILE_TEST_ROLE")); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// instance is the main function of a child process. It acts as its role says, prints what it did
// line by line, and exits at EOF on stdin.
func instance(path, role string) error {
	if role == "adopt" {
		fd, err := strconv.Atoi(os.Getenv("FILE_TEST_FD"))
		if err != nil {
			return err
		}
		s, err := Adopt(path, os.NewFile(uintptr(fd), path), true)
		if err != nil {
			return err
		}
		e, err := s.Get(context.Background(), key)
		if err != nil {
			return err
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil {
			return err
		}
		fmt.Printf("adopted %s close-on-exec %d\n", e.Value, flags)
		_, err = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(s)
		return err
	}
	s, err := Open(path)
	if err != nil {
		return err
	}
	if role == "no-note" { // as if it was stopped before it wrote its note
		f, err := open(path, os.O_RDWR)
		if err == nil {
			err = lockfile.TryLock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			return err
		}
		fmt.Println("held")
		_, err = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(f)
		return err
	}
	if err := s.Add(context.Background(), key, []byte(`{"pid":1}`), 0); err != nil {
		return err
	}
	if role == "job" { // a command that outlives its gophd
		job := exec.Command("/bin/cat")
		job.Stdin, job.Stdout = os.Stdin, os.Stdout
		if err := job.Start(); err != nil {
			return err
		}
	}
	fmt.Println("held")
	if role == "exec" {
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		fd := s.Descriptor().Fd()
		if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
			return err
		}
		os.Setenv("FILE_TEST_ROLE", "adopt")
		os.Setenv("FILE_TEST_FD", fmt.Sprint(fd))
		return unix.Exec(self, os.Args, os.Environ())
	}
	if role == "job" {
		select {} // the command reads this process's stdin
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// other is an instance in a child process.
type other struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

func start(t *testing.T, path, role string) *other {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FILE_TEST_PATH="+path, "FILE_TEST_ROLE="+role)
	// These are not cmd.StdoutPipe and so on: Wait would close those, and a command prints after
	// it.
	r, in, err := os.Pipe()
	must(t, err)
	out, w, err := os.Pipe()
	must(t, err)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, w, os.Stderr
	must(t, cmd.Start())
	r.Close()
	w.Close()
	o := &other{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close() // a command exits then
		o.kill()
		out.Close()
	})
	o.expect("held")
	return o
}

func (o *other) expect(line string) {
	o.t.Helper()
	if got, err := o.out.ReadString('\n'); err != nil || got != line+"\n" {
		o.t.Fatalf("the other process printed %q, %v; want %q", got, err, line)
	}
}

// kill sends SIGKILL and waits for the exit.
func (o *other) kill() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

func TestSuite(t *testing.T) {
	directory := t.TempDir()
	heartbeattest.Run(t, func(t *testing.T) heartbeat.Store {
		return opened(t, filepath.Join(directory, strings.ReplaceAll(t.Name(), "/", "_")+".lock"))
	})
}

func TestKilledHolderFreesLockAtOnce(t *testing.T) {
	path, ctx := lockPath(t), t.Context()
	s := opened(t, path)
	for range 3 {
		o := start(t, path, "")
		wantHeld(t, s, `{"pid":1}`)
		o.kill()
		if content, err := os.ReadFile(path); err != nil || len(content) == 0 {
			t.Fatalf("content after the crash: %q, %v; want the holder's note", content, err)
		}
		if e, err := s.Get(ctx, key); !errors.Is(err, heartbeat.ErrAbsent) {
			t.Fatalf("Get after the crash: %q, %v; want ErrAbsent in spite of the note", e.Value, err)
		}
	}
	must(t, s.Add(ctx, key, []byte("ours"), 0))
}

// A run of a killed holder may still be active, also if other holders took and released the lock
// since then without a search for leftover runs.
func TestUncleanUntilCleanIsCalled(t *testing.T) {
	path, ctx := lockPath(t), t.Context()
	release := func(s *Store) {
		t.Helper()
		e, err := s.Get(ctx, key)
		must(t, err)
		must(t, s.Expire(ctx, key, e))
	}
	start(t, path, "").kill()
	for i := range 3 {
		s := opened(t, path)
		must(t, s.Add(ctx, key, []byte("does not search"), 0))
		if !s.Unclean() {
			t.Fatalf("the lock is clean for holder %d after the kill", i)
		}
		release(s)
	}
	s := opened(t, path)
	must(t, s.Add(ctx, key, []byte("searches"), 0))
	s.Clean()
	release(s)
	must(t, s.Add(ctx, key, []byte("again"), 0))
	if s.Unclean() {
		t.Error("the lock is unclean for the next holder after Clean")
	}
}

func TestStoppedHolderKeepsLock(t *testing.T) {
	path := lockPath(t)
	o := start(t, path, "")
	must(t, o.cmd.Process.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(o.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the holder is not stopped: status %#x, %v", status, err)
	}
	wantHeld(t, opened(t, path), `{"pid":1}`)
}

// A command that outlives a killed gophd must not keep its lock: the next gophd could not start,
// and the reason would be hard to find.
func TestCommandDoesNotInheritLock(t *testing.T) {
	path := lockPath(t)
	o := start(t, path, "job")
	o.kill()
	must(t, opened(t, path).Add(t.Context(), key, []byte("ours"), 0))
	if _, err := io.WriteString(o.in, "job is alive\n"); err != nil {
		t.Fatal(err)
	}
	o.expect("job is alive")
}

// The garbage collector closes an os.File that is only kept as a descriptor number.
func TestLockSurvivesGC(t *testing.T) {
	path := lockPath(t)
	s := opened(t, path)
	must(t, s.Add(t.Context(), key, []byte("1"), 0))
	s.Descriptor() // the caller does not become its owner
	for range 3 {
		runtime.GC()
	}
	wantHeld(t, opened(t, path), "1")
	runtime.KeepAlive(s)
}

func TestHandoffAcrossExecKeepsLock(t *testing.T) {
	path := lockPath(t)
	o := start(t, path, "exec")
	s := opened(t, path)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { // the lock must be held at every moment of the exec
		for {
			select {
			case <-stop:
				return
			default:
				if err := s.Add(context.Background(), key, []byte("thief"), 0); !errors.Is(err, heartbeat.ErrExists) {
					t.Errorf("Add during the exec: %v; want ErrExists", err)
					return
				}
			}
		}
	})
	if _, err := io.WriteString(o.in, "x"); err != nil {
		t.Fatal(err)
	}
	o.expect(fmt.Sprintf(`adopted {"pid":1} close-on-exec %d`, unix.FD_CLOEXEC))
	close(stop)
	wg.Wait()
	o.kill()
	must(t, s.Add(t.Context(), key, []byte("ours"), 0))
}

func TestAdoptRejectsWrongDescriptors(t *testing.T) {
	locked := func(t *testing.T, path string) *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
		return f
	}
	for name, c := range map[string]struct {
		f    func(t *testing.T, path string) *os.File
		want string
	}{
		"replaced": {func(t *testing.T, path string) *os.File {
			f := locked(t, path)
			must(t, os.Rename(path, path+".old"))
			must(t, os.WriteFile(path, nil, 0o600))
			return f
		}, "replaced"},
		"unlinked": {func(t *testing.T, path string) *os.File {
			f := locked(t, path)
			must(t, os.Remove(path))
			return f
		}, "replaced"},
		"another has the lock": {func(t *testing.T, path string) *os.File {
			holder := locked(t, path)
			t.Cleanup(func() { holder.Close() })
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			return f
		}, "was handed off without its lock"},
		"another file": {func(t *testing.T, path string) *os.File {
			must(t, os.WriteFile(path, nil, 0o600))
			return locked(t, path+".other")
		}, "replaced"},
		"a pipe": {func(t *testing.T, path string) *os.File {
			r, w, err := os.Pipe()
			must(t, err)
			t.Cleanup(func() { w.Close() })
			return r
		}, "not a regular file"},
		"closed": {func(t *testing.T, path string) *os.File {
			f := locked(t, path)
			f.Close()
			return f
		}, "bad file descriptor"},
	} {
		t.Run(name, func(t *testing.T) {
			path := lockPath(t)
			f := c.f(t, path)
			s, err := Adopt(path, f, false)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Adopt: %v, %v; want an error with %q", s, err, c.want)
			}
			if err := f.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("the descriptor was left open: Close returns %v", err)
			}
		})
	}
}

func TestUnlinkedOrReplacedFileLosesLock(t *testing.T) {
	for name, c := range map[string]struct {
		remove func(path string) error
		swap   error // what the holder's next write returns when no other process has claimed the path
	}{
		"unlinked": {os.Remove, heartbeat.ErrAbsent},
		"renamed":  {func(path string) error { return os.Rename(path, path+".old") }, heartbeat.ErrAbsent},
		"replaced": {func(path string) error {
			if err := os.WriteFile(path+".new", nil, 0o644); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}, heartbeat.ErrAbsent},
	} {
		for _, claimed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/claimed=%v", name, claimed), func(t *testing.T) {
				path, ctx := lockPath(t), t.Context()
				a, b := opened(t, path), opened(t, path)
				must(t, a.Add(ctx, key, []byte(`{"v":1,"id":"a"}`), 0))
				e, err := a.Get(ctx, key)
				must(t, err)
				must(t, c.remove(path))
				if claimed {
					must(t, b.Add(ctx, key, []byte(`{"v":1,"id":"b"}`), 0))
					if err := a.Swap(ctx, key, e, []byte("a2"), 0); !errors.Is(err, heartbeat.ErrChanged) {
						t.Errorf("Swap: %v; want ErrChanged", err)
					}
					wantHeld(t, a, `{"v":1,"id":"b"}`)
					return
				}
				if err := a.Swap(ctx, key, e, []byte("a2"), 0); !errors.Is(err, heartbeat.ErrAbsent) {
					t.Errorf("Swap: %v; want ErrAbsent", err)
				}
				must(t, a.Add(ctx, key, []byte(`{"v":1,"id":"a3"}`), 0)) // claimed again, at the path
				wantHeld(t, b, `{"v":1,"id":"a3"}`)
			})
		}
	}
}

// An administrator removes the file. The lock on it then protects nothing. The holder detects this
// at the next tick of the loop, also if no other process has claimed the path by then.
func TestRemovedFileLosesLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := lockPath(t)
		i := heartbeattest.Launch(t, opened(t, path), key, nil)
		i.Await(heartbeat.Held)
		must(t, os.Remove(path))
		i.Beat(heartbeat.Pulse{Tick: 1})
		var lost *heartbeat.LostError
		if err := i.Wait(); !errors.As(err, &lost) {
			t.Errorf("Run after its file was removed: %v; want *LostError", err)
		}
	})
}

// The only way to test a lock is to attempt to lock it. A process that only tests it must not make
// a start fail as if the lease were held.
func TestPollersSharedLockDoesNotBlockAdd(t *testing.T) {
	synctest.Test(t, pollersSharedLockDoesNotBlockAdd) // the poller unlocks between two attempts on any machine
}

func pollersSharedLockDoesNotBlockAdd(t *testing.T) {
	path, ctx := lockPath(t), t.Context()
	s := opened(t, path)
	poller, err := os.Open(path)
	must(t, err)
	defer poller.Close()
	must(t, lockfile.TryLock(int(poller.Fd()), unix.LOCK_SH))
	err = s.Add(ctx, key, []byte("x"), 0)
	if err == nil || errors.Is(err, heartbeat.ErrExists) || errors.Is(err, heartbeat.ErrUnfit) {
		t.Errorf("Add beside a lasting shared lock: %v; want an unknown answer", err)
	}
	owner := fmt.Sprintf("locked by PID %d", os.Getpid())
	if runtime.GOOS == "linux" && err != nil && !strings.Contains(err.Error(), owner) {
		t.Errorf("Add beside a lasting shared lock: %v; want %s", err, owner)
	}
	if e, err := s.Get(ctx, key); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get beside a shared lock: %q, %v; want ErrAbsent", e.Value, err)
	}
	time.AfterFunc(maxAttempts*retryPause/2, func() { poller.Close() })
	must(t, s.Add(ctx, key, []byte("x"), 0))
	if e, err := opened(t, path).Get(ctx, key); err != nil || string(e.Value) != "x" {
		t.Errorf("Get: %q, %v; want x", e.Value, err)
	}
}

// A process that polls while the record is written reads either the old or the new record, never a
// mix.
func TestPollersReadWholeRecords(t *testing.T) {
	path, ctx := lockPath(t), t.Context()
	s := opened(t, path)
	must(t, s.Add(ctx, key, []byte(`{"v":1}`), 0))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				e, err := s.Get(ctx, key)
				if err == nil {
					err = s.Swap(ctx, key, e, fmt.Appendf(nil, `{"v":%q}`, strings.Repeat("x", i*37%9000)), 0)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 5000 {
		b, err := os.ReadFile(RecordPath(path))
		if err != nil || !json.Valid(b) || !bytes.HasSuffix(b, []byte("}\n")) {
			t.Errorf("read %q, %v; want a line of JSON", b, err)
			break
		}
	}
	close(stop)
	wg.Wait()
}

func TestReleaseEmptiesLockFileAndRemovesRecord(t *testing.T) {
	path, ctx := lockPath(t), t.Context()
	s := opened(t, path)
	must(t, s.Add(ctx, key, []byte(`{"v":1}`), 0))
	if content, err := os.ReadFile(RecordPath(path)); string(content) != `{"v":1}`+"\n" {
		t.Errorf("the record: %q, %v", content, err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, RecordPath(path): 0o644} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	e, err := s.Get(ctx, key)
	must(t, err)
	must(t, s.Expire(ctx, key, e))
	if content, err := os.ReadFile(path); err != nil || len(content) > 0 {
		t.Errorf("the lock file after its release: %q, %v; want an empty file", content, err)
	}
	if left, err := filepath.Glob(RecordPath(path) + "*"); len(left) > 0 || err != nil {
		t.Errorf("left after the release: %q, %v", left, err)
	}
	if f := s.Descriptor(); f != nil {
		t.Errorf("Descriptor after release: %v; want nil", f.Name())
	}
}

// A process that can open a lock file can lock it, so Open corrects the mode of a file that other
// users can open.
func TestOpenMakesLockFilePrivate(t *testing.T) {
	path := lockPath(t)
	for _, old := range []fs.FileMode{0o644, 0o666, 0o604, 0o640} {
		must(t, errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, old)))
		if _, err := Peek(path); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != old {
			t.Errorf("Peek changed mode %v to %v, %v", old, info.Mode(), err)
		}
		must(t, opened(t, path).Close())
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v became %v, %v", old, info.Mode(), err)
		}
	}
}

// A lock that another program holds is an error that names the program, after the time that a gophd
// may need to write its note. This is also true if the file has the note of a killed gophd.
func TestLockOfAnotherProgramIsAnError(t *testing.T) {
	for name, content := range map[string]string{
		"empty":                       "",
		"a note of an exited process": `{"v":2,"holder":{"pid":4194305,"pidstart":1,"boot":"b","pidns":"n"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { lockOfAnotherProgramIsAnError(t, content) })
		})
	}
}

func lockOfAnotherProgramIsAnError(t *testing.T, content string) {
	path, ctx := lockPath(t), t.Context()
	must(t, os.WriteFile(path, []byte(content), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, lockfile.TryLock(int(f.Fd()), unix.LOCK_EX))
	s := opened(t, path)
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		_, err := s.Get(ctx, key)
		locked := (*LockedError)(nil)
		if errors.As(err, &locked) != errors.Is(err, heartbeat.ErrUnfit) || err == nil ||
			errors.Is(err, heartbeat.ErrAbsent) || errors.Is(err, heartbeat.ErrExists) {
			t.Fatalf("%v; want an unknown answer", err)
		}
		if waited := time.Since(start); locked == nil {
			if waited > NoteTime+time.Second {
				t.Fatalf("%v after %v", err, waited)
			}
			continue
		} else if waited < NoteTime {
			t.Errorf("a *LockedError after %v: a gophd may be slow to write its note", waited)
		}
		if runtime.GOOS == "linux" && !slices.Equal(locked.PIDs, []int{os.Getpid()}) {
			t.Errorf("the lock is held by %v; want PID %d", locked.PIDs, os.Getpid())
		}
		break
	}
	must(t, lockfile.Unlock(int(f.Fd())))
	must(t, s.Add(ctx, key, []byte("ours"), 0))
	if s.Unclean() != (content != "") {
		t.Errorf("unclean: %v", s.Unclean())
	}
	wantHeld(t, opened(t, path), "ours")
}

// A gophd that locked the file and was stopped before it wrote its note is not reported as another
// program.
func TestStoppedGophdWithoutNoteIsNotAnotherProgram(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // other systems do not report which process holds a lock
	}
	path := lockPath(t)
	s := opened(t, path)
	start(t, path, "no-note")
	synctest.Test(t, func(t *testing.T) {
		for range 30 {
			_, err := s.Get(t.Context(), key)
			if err == nil || errors.Is(err, heartbeat.ErrUnfit) || errors.Is(err, heartbeat.ErrAbsent) {
				t.Fatalf("%v; want an unknown answer", err)
			}
			time.Sleep(NoteTime / 10)
		}
	})
}

// A file that gophd did not write is neither overwritten nor emptied.
func TestContentOfOtherProgramsIsKept(t *testing.T) {
	ctx := t.Context()
	for content, accepted := range map[string]bool{
		"": true, "\x00\x00\x00": true, "\n": true, `{"v":2,"holder":{}}`: true, `{"v":2,"holder":{"pi`: true,
		"precious": false, `{"v":1,"id":"x"}`: false, `{"v":2,"id":"x"}`: false, "4711\n": false,
		strings.Repeat(" ", maxSize) + "precious":                          false,
		`{"v":2,"holder":{}}` + strings.Repeat("\n", maxSize) + "precious": false,
	} {
		path := lockPath(t)
		must(t, os.WriteFile(path, []byte(content), 0o600))
		s := opened(t, path)
		err := s.Add(ctx, key, []byte("ours"), 0)
		if (err == nil) != accepted || errors.Is(err, heartbeat.ErrUnfit) == accepted {
			t.Errorf("%.20q: %v", content, err)
		}
		if unclean := accepted && strings.HasPrefix(content, noteStart); s.Unclean() != unclean {
			t.Errorf("%.20q: unclean is %v", content, !unclean)
		}
		if got, err := os.ReadFile(path); !accepted && string(got) != content {
			t.Errorf("%.20q became %.20q, %v", content, got, err)
		}
		must(t, s.Close())
	}
	for _, incomplete := range []string{"", "\x00\x00", `{"v":1,"pi`} { // after a crash of the machine
		path := lockPath(t)
		must(t, os.WriteFile(RecordPath(path), []byte(incomplete), 0o644))
		must(t, opened(t, path).Add(ctx, key, []byte("ours"), 0))
	}
	for _, content := range []string{"precious", `{"v":"mine"}`} {
		path := lockPath(t)
		must(t, os.WriteFile(RecordPath(path), []byte(content), 0o600))
		s := opened(t, path)
		if err := s.Add(ctx, key, []byte("ours"), 0); err == nil || !strings.Contains(err.Error(), "choose another --name") {
			t.Errorf("Add with the record file %q: %v", content, err)
		}
		if got, err := os.ReadFile(RecordPath(path)); string(got) != content {
			t.Errorf("%q became %q, %v", content, got, err)
		}
		if got, err := os.ReadFile(path); len(got) > 0 || err != nil {
			t.Errorf("the lock file is %q, %v; want it empty", got, err)
		}
	}
}

// Check and Peek reject a state that the engine would reject, and name the file. A state that was
// lost is none.
func TestStateOfOtherProgramsIsRejected(t *testing.T) {
	start := time.Now()
	for content, accepted := range map[string]bool{
		"": true, "\x00\x00\x00": true, "\n\n": true, `{"v":1,"fence":7,"owner":"x"}`: true,
		"junk": false, `{"v":9}`: false, `{"v":1,"fence":7}`: false, "{}": false, `{"v":1,"fence":`: false,
	} {
		path := lockPath(t)
		must(t, os.WriteFile(path+".state", []byte(content), 0o644))
		_, peeked := Peek(path)
		for _, err := range []error{Check(path), peeked} {
			if (err == nil) != accepted || errors.Is(err, heartbeat.ErrUnfit) == accepted {
				t.Errorf("%q: %v", content, err)
			}
			if want := "state file " + path + ".state was not written by this version of gophd: remove it"; err != nil &&
				!strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q: %v; want %q", content, err, want)
			}
		}
		hb, err := heartbeat.New(heartbeat.Options{Key: key, TTL: time.Minute, Renew: time.Second,
			StopGrace: time.Second, Timeout: time.Second, Dead: func(heartbeat.Record) bool { return false },
			Boot:   func() time.Duration { return time.Since(start) },
			Jitter: func() float64 { return 0 }}, opened(t, path))
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { err = hb.Run(ctx); close(ended) }()
		lease, changed := hb.Watch()
		for done := false; lease.State != heartbeat.Held && !done; {
			select {
			case <-changed:
				lease, changed = hb.Watch()
			case <-ended:
				done = true
			}
		}
		if strings.Trim(content, "\x00\n") == "" && lease.Fence < 1e12 {
			t.Errorf("%q: fencing token %d, which may be lower than the lost one", content, lease.Fence)
		}
		cancel()
		if <-ended; (err == nil) != accepted {
			t.Errorf("%q: the engine: %v", content, err)
		}
	}
}

// Each next holder gets the users that runs may belong to, until one has searched for leftover
// runs.
func TestNextHolderGetsUsersOfKilledHolder(t *testing.T) {
	path, ctx := lockPath(t), t.Context()
	first := opened(t, path)
	first.AddUsers(1000)
	must(t, first.Add(ctx, key, []byte("1"), 0))
	first.AddUsers(33, 1000)
	e, err := first.Get(ctx, key)
	must(t, err)
	must(t, first.Swap(ctx, key, e, []byte("1"), 0))
	must(t, first.Close()) // as if killed
	second := opened(t, path)
	second.AddUsers(7)
	must(t, second.Add(ctx, key, []byte("2"), 0))
	if got := second.Users(); !second.Unclean() || !slices.Equal(got, []int{7, 33, 1000}) {
		t.Errorf("users %v, unclean %v", got, second.Unclean())
	}
	must(t, second.Close())
	third := opened(t, path)
	third.AddUsers(7)
	must(t, third.Add(ctx, key, []byte("3"), 0))
	if got := third.Users(); !slices.Equal(got, []int{7, 33, 1000}) {
		t.Errorf("users %v; want all, because no holder has searched for leftover runs", got)
	}
	third.Clean()
	e, err = third.Get(ctx, key)
	must(t, err)
	must(t, third.Expire(ctx, key, e))
	fourth := opened(t, path)
	must(t, fourth.Add(ctx, key, []byte("4"), 0))
	if got := fourth.Users(); fourth.Unclean() || len(got) > 0 {
		t.Errorf("users %v, unclean %v", got, fourth.Unclean())
	}
}

func TestOnlyHolderWritesState(t *testing.T) {
	path, ctx := lockPath(t), t.Context()
	holder, s := opened(t, path), opened(t, path)
	must(t, holder.Add(ctx, key, []byte("h"), 0))
	must(t, holder.Add(ctx, key+".state", []byte("1"), 0))
	wantHeld(t, s, "h")
	old, err := s.Get(ctx, key+".state")
	must(t, err)
	if err := s.Swap(ctx, key+".state", old, []byte("2"), 0); err == nil {
		t.Error("a process that does not hold the lock wrote the state")
	}
	if err := s.Expire(ctx, key+".state", old); err == nil {
		t.Error("a process that does not hold the lock removed the state")
	}
	if e, err := s.Get(ctx, key+".state"); err != nil || string(e.Value) != "1" {
		t.Errorf("state: %q, %v; want 1", e.Value, err)
	}
}

// The target of a symbolic link at the path of the state is neither read nor written.
func TestStateSymlinkNotFollowed(t *testing.T) {
	path, ctx := lockPath(t), t.Context()
	victim := filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	must(t, os.Symlink(victim, path+".state"))
	s := opened(t, path)
	must(t, s.Add(ctx, key, []byte("h"), 0))
	if e, err := s.Get(ctx, key+".state"); err == nil || errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get of a state that is a link: %q, %v; want an unknown answer", e.Value, err)
	}
	if err := s.Add(ctx, key+".state", []byte("1"), 0); err == nil {
		t.Error("Add of a state at the path of a link succeeded")
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the target of the link: %q, %v", b, err)
	}
}

func TestOpenRejectsUnsafeFiles(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	for name, c := range map[string]struct {
		prepare func(path string) error
		want    string
	}{
		"missing directory": {
			func(path string) error { return os.Remove(filepath.Dir(path)) }, "does not exist: create it",
		},
		"directory":     {func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
		"link":          {func(path string) error { return os.Symlink(victim, path) }, "symbolic link"},
		"dangling link": {func(path string) error { return os.Symlink(path+"x", path) }, "symbolic link"},
		"hard link":     {func(path string) error { return os.Link(victim, path) }, "2 hard links"},
		"fifo":          {func(path string) error { return unix.Mkfifo(path, 0o600) }, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := lockPath(t)
			must(t, c.prepare(path))
			s, err := Open(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) ||
				!strings.Contains(err.Error(), "set GOPHD_STATE_DIR to ") {
				t.Errorf("Open: %v, %v; want an error with the path, %q and the setting", s, err, c.want)
			}
		})
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the target of the links: %q, %v", b, err)
	}
}

// read returns the value of the last write, independent of the earlier content. A process that
// reads the whole file gets valid JSON if the value is JSON.
func FuzzWriteRead(f *testing.F) {
	f.Add([]byte(`{"v":1}`), []byte("\n \n"))
	f.Add([]byte(strings.Repeat("x", 1022)), []byte(strings.Repeat(" ", 1023)))
	f.Add([]byte(strings.Repeat("\n", 3000)), []byte(nil))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		file, err := os.Create(filepath.Join(t.TempDir(), "f"))
		must(t, err)
		defer file.Close()
		for _, value := range [][]byte{first, second, first} {
			if err := write(file, value); len(value) > maxValue {
				if err == nil {
					t.Fatalf("a value of %d bytes was written", len(value))
				}
				continue
			}
			got, err := read(file)
			if err != nil || !bytes.Equal(got, value) {
				t.Fatalf("read %q, %v; want %q", got, err, value)
			}
			all, err := os.ReadFile(file.Name())
			if err != nil || len(all)%block != 0 || json.Valid(all) != json.Valid(value) {
				t.Fatalf("the file has %q, %v", all, err)
			}
		}
	})
}

func lockPath(t *testing.T) string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "run")
	must(t, os.Mkdir(directory, 0o755))
	return filepath.Join(directory, "job.lock")
}

func opened(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// wantHeld fails unless another process holds the lock with that record, and s cannot take it.
func wantHeld(t *testing.T, s *Store, record string) {
	t.Helper()
	if e, err := s.Get(t.Context(), key); err != nil || string(e.Value) != record {
		t.Errorf("Get: %q, %v; want %q", e.Value, err, record)
	}
	if err := s.Add(t.Context(), key, []byte("thief"), 0); !errors.Is(err, heartbeat.ErrExists) {
		t.Errorf("Add: %v; want ErrExists", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Peek and Check reject the same files as Open and create nothing. Only Check needs the directory.
func TestPeekCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/directory", 0o700))
	must(t, os.Symlink(dir+"/nothing", dir+"/link"))
	holder := opened(t, dir+"/held")
	must(t, holder.Add(t.Context(), key, []byte("theirs"), 0))
	for name, want := range map[string]string{
		"free": "", "held": "", "directory": "is a directory", "link": "is a symbolic link",
		"missing/file": "does not exist: create it",
	} {
		s, err := Peek(filepath.Join(dir, name))
		if checked := Check(filepath.Join(dir, name)); name == "missing/file" {
			err = checked
		} else if (checked == nil) != (err == nil) {
			t.Errorf("%s: Check: %v, Peek: %v", name, checked, err)
		}
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", name, err, want)
			}
			continue
		}
		must(t, err)
		e, err := s.Get(t.Context(), key)
		if name == "free" && !errors.Is(err, heartbeat.ErrAbsent) ||
			name == "held" && (err != nil || string(e.Value) != "theirs") {
			t.Errorf("%s: %q, %v", name, e.Value, err)
		}
		must(t, s.Close())
	}
	if _, err := os.Lstat(dir + "/free"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Peek created the file: %v", err)
	}
	e, err := holder.Get(t.Context(), key)
	must(t, err)
	must(t, holder.Swap(t.Context(), key, e, []byte("still theirs"), 0))
}
