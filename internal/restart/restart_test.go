package restart_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gophd/internal/request"
	"gophd/internal/restart"
	"gophd/internal/self"
)

// role makes the test binary act as a daemon that re-execs itself.
const role = "RESTART_TEST_ROLE"

// restarts is how often a daemon of these tests re-execs itself.
const restarts = 10

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "restarts":
		err = restartInSequence()
	case "signals":
		err = restartUnderSignals()
	case "many jobs":
		err = restartWithManyJobs()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func command(t *testing.T, as string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe, args...)
	c.Env = append(os.Environ(), role+"="+as, "GORACE=atexit_sleep_ms=0")
	c.Stderr = os.Stderr
	return c
}

// process is what one process of the sequence reports about itself.
type process struct {
	PID, Restarts   int
	Args            []string
	Descriptors     int
	Limit           string // soft limit of open files, as its command sees it
	Leaked          bool   // a private variable reached the command
	Handoff         *restart.Handoff
	Due             restart.Instant // of the job, after a conversion to time.Time and back
	PipeNonblocking bool
	PipeText        string
}

func restartInSequence() error {
	s, err := self.Catch()
	if err != nil {
		return err
	}
	h, err := restart.Inherit(s)
	if err != nil {
		return err
	}
	if h == nil {
		if h, err = firstHandoff(s); err != nil {
			return err
		}
	} else {
		h.Restarts++
	}
	now := process{PID: os.Getpid(), Restarts: h.Restarts, Args: s.Args, Handoff: h}
	out, err := exec.Command("/bin/sh", "-c", "ulimit -Sn; env").Output()
	if err != nil {
		return err
	}
	limit, env, _ := strings.Cut(string(out), "\n")
	now.Limit, now.Leaked = limit, strings.Contains(env, self.HandoffVariable)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	now.Descriptors = len(open)
	var grid restart.Grid
	if err := json.Unmarshal(h.State, &grid); err != nil {
		return err
	}
	due := grid.Anchor.Time().Add(time.Duration(grid.Tick) * grid.Interval)
	now.Due = restart.At(due)
	grid.Anchor = restart.At(grid.Anchor.Time())
	if h.State, err = json.Marshal(grid); err != nil {
		return err
	}

	flags, err := unix.FcntlInt(h.Files["reader"].Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	now.PipeNonblocking = flags&unix.O_NONBLOCK != 0
	if err := unix.SetNonblock(int(h.Files["reader"].Fd()), true); err != nil {
		return err
	}
	var text [64]byte
	n, err := h.Files["reader"].Read(text[:])
	if err != nil {
		return err
	}
	now.PipeText = string(text[:n])
	if _, err := fmt.Fprintf(h.Files["writer"], "from process %d", h.Restarts); err != nil {
		return err
	}

	if err := json.NewEncoder(os.Stdout).Encode(now); err != nil {
		return err
	}
	if h.Restarts == restarts { // the lock stays until the test has looked
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	return h.Exec(s, noSignals)
}

// restartWithManyJobs re-execs once, and prints the size of what was handed off.
func restartWithManyJobs() error {
	s, err := self.Catch()
	if err != nil {
		return err
	}
	h, err := restart.Inherit(s)
	if err != nil || h != nil {
		fmt.Println(len(h.State))
		return err
	}
	return (&restart.Handoff{Jobs: 100, State: huge()}).Exec(s, noSignals)
}

// The limit of the size follows the number of jobs.
func TestHandoffOfManyJobsMayBeLarger(t *testing.T) {
	out, err := command(t, "many jobs").Output()
	if want := fmt.Sprintln(len(huge())); err != nil || string(out) != want {
		t.Errorf("%q, %v: want %q", out, err, want)
	}
}

// noSignals is for a process that does not listen to signals.
func noSignals() []request.Request { return nil }

// firstHandoff makes the handoff of the first process: a locked file, and a pipe with text in it.
func firstHandoff(s self.Self) (*restart.Handoff, error) {
	lock, err := os.OpenFile(s.Args[1], os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if _, err := w.WriteString("from the start"); err != nil {
		return nil, err
	}
	anchor, err := strconv.ParseInt(s.Args[2], 10, 64)
	if err != nil {
		return nil, err
	}
	state, err := json.Marshal(restart.Grid{Anchor: restart.Instant(anchor), Tick: 3, Interval: time.Hour, Runs: 2})
	if err != nil {
		return nil, err
	}
	return &restart.Handoff{
		Instance: "i-1", Daemon: true, Born: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Guard:    restart.Guard{Recoveries: []time.Duration{5, 7}},
		State:    state,
		Requests: []request.Request{{Verb: request.RunNow, From: "signal CONT"}},
		Files:    map[string]*os.File{"lock": lock, "reader": r, "writer": w},
	}, nil
}

// A restart keeps the PID, arguments, locks, pipes and state, and leaks neither descriptors nor
// limits.
func TestTenRestartsKeepTheDaemonAndLeakNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	anchor := restart.At(time.Now())
	args := []string{file, strconv.FormatInt(int64(anchor), 10), "", "two words", "--", "-d"}
	// The shell lowers the soft limit. The runtime of each process raises it; commands must not see
	// that.
	c := command(t, "restarts", args...)
	c.Args = append([]string{"/bin/sh", "-c", `ulimit -Sn 123; exec "$0" "$@"`, c.Path}, args...)
	c.Path = "/bin/sh"
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	hold, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	free := 0
	var first process
	line := <-lines
	for i := range restarts + 1 {
		var got process
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("process %d: %q: %v", i, line, err)
		}
		if i == 0 {
			first = got
		}
		// Between this line and the next one the process re-execs: is the lock ever free?
		for line = nil; line == nil && i < restarts; {
			if locked(t, file) {
				free++
			}
			select {
			case next, ok := <-lines:
				if line = next; !ok {
					t.Fatalf("process %d is the last: %v", i, c.Wait())
				}
			case <-time.After(time.Millisecond):
			}
		}
		if got.PID != c.Process.Pid || got.Restarts != i {
			t.Errorf("process %d: PID %d after %d restarts, want PID %d", i, got.PID, got.Restarts, c.Process.Pid)
		}
		if d := cmp.Diff(args, got.Args[1:]); d != "" {
			t.Errorf("process %d: arguments (-want +got):\n%s", i, d)
		}
		if got.Limit != "123" {
			t.Errorf("process %d: a command may open %s files, want 123", i, got.Limit)
		}
		if got.Leaked {
			t.Errorf("process %d: the private variable reached a command", i)
		}
		if i == 1 {
			first.Descriptors = got.Descriptors // in the first process the runtime opens some of its own meanwhile
		}
		if i > 0 && got.Descriptors > first.Descriptors {
			t.Errorf("process %d: %d descriptors, the one after the first had %d", i, got.Descriptors, first.Descriptors)
		}
		if want := anchor + restart.Instant(3*time.Hour); time.Duration(got.Due-want).Abs() > time.Millisecond {
			t.Errorf("process %d: the tick has moved by %v", i, time.Duration(got.Due-want))
		}
		if !got.PipeNonblocking && i > 0 {
			t.Errorf("process %d: the pipe has become blocking", i)
		}
		want := "from the start"
		if i > 0 {
			want = fmt.Sprintf("from process %d", i-1)
		}
		if got.PipeText != want {
			t.Errorf("process %d: the pipe holds %q, want %q", i, got.PipeText, want)
		}
		got.Handoff.Restarts = first.Handoff.Restarts
		got.Handoff.State, first.Handoff.State = nil, nil // Due compares it
		if d := cmp.Diff(first.Handoff, got.Handoff); d != "" {
			t.Errorf("process %d: the state has changed (-first +now):\n%s", i, d)
		}
	}
	_ = hold.Close()
	<-lines // closed
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	if free > 0 {
		t.Errorf("the lock was free %d times", free)
	}
	if !locked(t, file) {
		t.Error("the lock is held after the last process has exited")
	}
}

// locked takes the lock through a descriptor of its own, and releases it. It returns whether it
// could.
func locked(t *testing.T, file string) bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// restartUnderSignals re-execs as soon as one more USR2 has arrived, before or during the last
// re-exec.
func restartUnderSignals() error {
	s, err := self.Catch()
	if err != nil {
		return err
	}
	h, err := restart.Inherit(s)
	if err != nil {
		return err
	}
	if h == nil {
		h = &restart.Handoff{Restarts: -1}
	}
	h.Restarts++
	if signal.Ignored(unix.SIGHUP) || !signal.Ignored(unix.SIGINT) {
		return fmt.Errorf("process %d: HUP counts as ignored, or INT does not", h.Restarts)
	}
	arrived := make(chan os.Signal, 8)
	signal.Notify(arrived, unix.SIGUSR2)
	for len(h.Requests) < h.Restarts {
		<-arrived
		h.Requests = append(h.Requests, request.Request{Verb: request.Reopen, From: "signal USR2"})
	}
	unread := make(chan os.Signal, 8)
	signal.Notify(unread, unix.SIGHUP)
	fmt.Println(h.Restarts)
	if h.Restarts == 5*restarts {
		return nil
	}
	return h.Exec(s, func() (late []request.Request) {
		signal.Stop(arrived)
		for range len(arrived) {
			<-arrived
			late = append(late, request.Request{Verb: request.Reopen, From: "signal USR2"})
		}
		return late
	})
}

// During each restart come one USR2, which the old or the new process must serve, and one HUP,
// which must not end the process. INT is ignored from the start and stays ignored.
func TestSignalDuringExecIsServedAfterwards(t *testing.T) {
	c := command(t, "signals")
	c.Args = []string{"/bin/sh", "-c", `trap "" INT; exec "$0"`, c.Path}
	c.Path = "/bin/sh"
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// An Exec that failed in another test leaves HUP ignored for children, unless it is caught.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGHUP)
	defer signal.Stop(caught)
	release, err := self.HoldSignals() // as Exec starts the new process
	if err != nil {
		t.Fatal(err)
	}
	err = c.Start()
	release()
	if err != nil {
		t.Fatal(err)
	}
	const end = 5 * restarts
	lines := bufio.NewScanner(out)
	last := ""
	for lines.Scan() {
		if last = lines.Text(); last == strconv.Itoa(end) {
			continue
		}
		for _, s := range []os.Signal{unix.SIGUSR2, unix.SIGHUP} {
			if err := c.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Wait(); err != nil || last != strconv.Itoa(end) {
		t.Errorf("the daemon exited with %v after restart %s, want all of %d", err, last, end)
	}
}

// An exec that succeeds by mistake ends the test, and must not end it with success.
func TestFailedExecChangesNothing(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	here, gone := t.TempDir(), t.TempDir()
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	t.Chdir(here)
	closed, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	script := write("script", "echo hi\n", 0o755)
	for name, c := range map[string]struct {
		path, dir string
		file      *os.File
		state     []byte
		want      error
	}{
		"missing":                 {path: filepath.Join(dir, "none"), want: unix.ENOENT},
		"deleted program":         {path: "/x/gophd (deleted)", want: unix.ENOENT},
		"not executable":          {path: write("plain", "x", 0o644), want: unix.EACCES},
		"a directory":             {path: dir, want: unix.EACCES},
		"not a binary":            {path: script, want: unix.ENOEXEC},
		"empty":                   {path: write("empty", "", 0o755), want: unix.ENOEXEC},
		"deleted directory":       {path: "/bin/false", dir: gone, want: unix.ENOENT},
		"closed descriptor":       {path: "/bin/false", file: closed, want: os.ErrClosed},
		"nil descriptor":          {path: "/bin/false", file: (*os.File)(nil), want: os.ErrInvalid},
		"too much state":          {path: "/bin/false", state: huge()},
		"a path with a NUL in it": {path: "/bin/false\x00x", want: unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			files := map[string]*os.File{"r": r, "w": w}
			if name == "closed descriptor" || name == "nil descriptor" {
				files["x"] = c.file
			}
			if c.dir == "" {
				c.dir = "/"
			}
			before := processState(t, r)
			h := &restart.Handoff{Files: files, State: c.state}
			err = h.Exec(self.Self{Path: c.path, Args: []string{"gophd"}, Dir: c.dir}, noSignals)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			named := strings.Contains(err.Error(), strings.TrimSuffix(c.path, "\x00x"))
			if strings.Contains(err.Error(), "\n") || !named {
				t.Errorf("the error should name the program, in one line: %q", err)
			}
			if d := cmp.Diff(before, processState(t, r)); d != "" {
				t.Errorf("process state (-before +after):\n%s", d)
			}
		})
	}
}

// huge returns more than the handoff of one job may be.
func huge() []byte { return bytes.Repeat([]byte{'x'}, 17<<20) }

// processState returns what a failed Exec could have left changed.
func processState(t *testing.T, kept *os.File) map[string]string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var flags int
	raw, err := kept.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { flags, _ = unix.FcntlInt(fd, unix.F_GETFD, 0) })
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/bin/sh", "-c", "grep SigBlk /proc/self/status; ulimit -n; ls /proc/$$/fd; :").Output()
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"directory": dir, "flags": strconv.Itoa(flags), "command": string(out),
		"open": strconv.Itoa(len(open))}
}

func TestInheritWithoutAHandoffIsNil(t *testing.T) {
	if h, err := restart.Inherit(self.Self{}); h != nil || err != nil {
		t.Errorf("got %v, %v", h, err)
	}
}

func TestInheritRejectsGarbage(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	id, pid := strings.TrimSpace(string(boot)), os.Getpid()
	text := func(format string, args ...any) func(*testing.T) string {
		return func(t *testing.T) string { return openFile(t, fmt.Sprintf(format, args...)) }
	}
	value := func(s string) func(*testing.T) string { return func(*testing.T) string { return s } }
	for name, c := range map[string]struct {
		value func(*testing.T) string
		want  string
	}{
		"a word":            {value("seven"), "not the number"},
		"a number and more": {value("7 8"), "not the number"},
		"a huge number":     {value(strings.Repeat("9", 400)), "not the number"},
		"negative":          {value("-1"), "not the number"},
		"standard output":   {value("1"), "not the number"},
		"closed":            {value("1019"), "not open"},
		"a pipe":            {pipe, "not that of a regular file"},
		"a directory":       {directory, "not that of a regular file"},
		"empty":             {text(""), "incomplete"},
		"truncated":         {text(`{"Version":10,"PID":%d,"Boo`, pid), "incomplete"},
		"another type":      {text(`[1]`), "incomplete"},
		"more than one":     {text(`{"Version":10}{}`), "incomplete"},
		"a part is missing": {text("{\"Version\":10,\"Sizes\":[1,0,2]}\nab"), "1 bytes of 2 are left"},
		"a part too many":   {text("{\"Version\":10,\"Sizes\":[1,0,2]}\nabcd"), "1 more bytes"},
		"no version":        {text(`{"PID":%d,"BootID":%q}`, pid, id), "version is 0"},
		"newer":             {text(`{"Version":11,"PID":%d,"BootID":%q}`, pid, id), "version is 11"},
		"foreign PID":       {text(`{"Version":10,"PID":%d,"BootID":%q}`, pid+1, id), "it is for process"},
		"foreign boot":      {text(`{"Version":10,"PID":%d,"BootID":"x"}`, pid), "another boot"},
		"unknown request":   {text(`{"Version":10,"PID":%d,"BootID":%q,"Requests":[{"Verb":77}]}`, pid, id), "request 77"},
		"negative count":    {text(`{"Version":10,"PID":%d,"BootID":%q,"Restarts":-1}`, pid, id), "-1 restarts"},
		"closed file":       {text(`{"Version":10,"PID":%d,"BootID":%q,"Descriptors":{"a":1019}}`, pid, id), "not open"},
		"standard file":     {text(`{"Version":10,"PID":%d,"BootID":%q,"Descriptors":{"a":2}}`, pid, id), "standard one"},
		"file named twice": {text(`{"Version":10,"PID":%d,"BootID":%q,"Descriptors":{"a":1018,"b":1018}}`, pid, id),
			"named twice"},
		"too much": {text("%s", bytes.Repeat([]byte{' '}, 17<<20)), "more than"},
		"too much for its jobs": {text(`{"Version":10,"PID":%d,"BootID":%q,"Jobs":9,"State":%s}`, pid, id, huge()),
			"more than"},
		"too much for another process": {text(`{"Version":10,"PID":%d,"BootID":%q,"Jobs":900,"State":%s}`, pid+1, id, huge()),
			"more than"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := restart.Inherit(self.Self{Handoff: c.value(t)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v and error %v, want one with %q", h, err, c.want)
			}
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("the error should be one line of bounded length: %q", err)
			}
		})
	}
}

// openFile writes text to a file and returns the number of its open descriptor.
func openFile(t *testing.T, text string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "handoff"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(int(f.Fd()))
}

func pipe(t *testing.T) string {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return strconv.Itoa(int(r.Fd()))
}

func directory(t *testing.T) string {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return strconv.Itoa(int(f.Fd()))
}

func TestInstantKeepsTheMonotonicReading(t *testing.T) {
	if i := restart.At(time.Time{}); i != 0 || !i.Time().IsZero() {
		t.Errorf("the zero time becomes %d, and this %s", i, i.Time())
	}
	start := time.Now()
	for _, d := range []time.Duration{0, time.Nanosecond, -time.Hour, 400 * 24 * time.Hour} {
		moment := start.Add(d)
		for range 100 {
			moment = restart.At(moment).Time()
		}
		if off := moment.Sub(start.Add(d)); off.Abs() > time.Millisecond {
			t.Errorf("%v from now: a hundred restarts moved it by %v", d, off)
		}
		if !strings.Contains(moment.String(), "m=") {
			t.Errorf("%v from now: the monotonic reading is lost", d)
		}
	}
}
