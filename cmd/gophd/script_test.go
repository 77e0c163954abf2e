package main_test

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/heartbeat/heartbeattest"
)

// patience bounds every wait for the outside world. It says that something hangs; nothing is measured by it.
const patience = 5 * time.Minute

// bin is where the program under test was built: a real one, since it execs and detaches itself.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	// The scripts wait most of their time.
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(s) { // by a shell for its background commands, by nohup(1): what a script starts must not inherit it
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "gophd-script")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		bin = dir
		overlay, err := stepWallClock(bin)
		if err != nil {
			panic(err)
		}
		for name, args := range map[string][]string{
			"gophd":        {"."},
			"gophd-next":   {"-ldflags", "-X main.version=9.9.9", "."},
			"gophd-faults": {"-tags", "faults", "."},
			"gophd-wall":   {"-overlay", overlay, "."},
			"tell":         {"../../testdata/tell"},
		} {
			build := []string{"build", "-o", filepath.Join(bin, name)}
			if raceEnabled && name != "gophd-wall" && name != "tell" { // gophd-wall would take the standard library once more with the detector
				build = append(build, "-race")
			}
			if out, err := exec.Command("go", append(build, args...)...).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// TestScript runs the promises of the command line: one file in testdata/script each, named by command
// and case, to be read as a manual.
func TestScript(t *testing.T) {
	t.Parallel()
	runScripts(t, "../../testdata/script")
}

func runScripts(t *testing.T, dir string) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":         code,
			"start":        start,
			"signal":       signalPID,
			"waitfor":      waitFor,
			"waitgone":     waitGone,
			"waitstopped":  waitStopped,
			"alive":        alive,
			"memcached":    memcached,
			"lines":        lines,
			"notifysocket": notifySocket,
			"wallclock":    wallClock,
			"flat":         flat,
			"again":        again,
		},
	})
}

// setup gives each script a world of its own: folders, no config of the host's, and nothing left behind.
func setup(env *testscript.Env) error {
	jobs, err := filepath.Abs("../../testdata/jobs")
	if err != nil {
		return err
	}
	state := filepath.Join(env.WorkDir, "state")
	env.Setenv("JOBS", jobs)
	env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	env.Setenv("BIN", bin)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "xdg"))
	env.Setenv("GOPHD_STATE_DIR", state)
	env.Setenv("GOPHD_RUNTIME_DIR", state)
	env.Setenv("RESTARTS", cmp.Or(os.Getenv("GOPHD_TEST_RESTARTS"), "100"))
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else each end of a gophd takes a second
	env.Values["world"] = &world{pids: map[string]int{}, held: map[int]holding{}}
	env.Defer(func() { sweep("GOPHD_STATE_DIR=" + state) })
	return nil
}

// sweep kills what a failed script has left: every process with that in its environment.
func sweep(mark string) {
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(text, []byte(mark)) {
			continue
		}
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name))); pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// code runs a program that must leave with the code: "code 3 gophd run ...". Its output is kept in the
// files out and err.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	for _, stream := range []string{"stdout", "stderr"} {
		ts.Check(os.WriteFile(ts.MkAbs(stream[3:]), []byte(ts.ReadFile(stream)), 0o600))
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// start runs a program in the background: "start NAME program args...". Its output goes to NAME.out and
// NAME.err, its PID to NAME.pid and at its end its exit code to NAME.code. A shell's & would not do: the
// shell makes such a program ignore INT.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start name program [args...]")
	}
	name := ts.MkAbs(args[0])
	ts.Check(ts.Exec("env", "-0"))
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Env = strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\x00"), "\x00")
	cmd.Dir = ts.MkAbs(".")
	if !strings.Contains(args[1], "/") {
		cmd.Path, cmd.Err = filepath.Join(bin, args[1]), nil
		if _, err := os.Stat(cmd.Path); err != nil {
			path, err := exec.LookPath(args[1])
			ts.Check(err)
			cmd.Path = path
		}
	}
	stdout, err := os.Create(name + ".out")
	ts.Check(err)
	stderr, err := os.Create(name + ".err")
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	_ = os.Remove(name + ".code") // of an earlier program of that name
	ts.Check(cmd.Start())
	ts.Check(os.WriteFile(name+".pid", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	var waiter goroutine.Group
	waiter.Go(func() {
		_ = cmd.Wait() // its error is the code
		code := cmd.ProcessState.ExitCode()
		if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			code = 128 + int(s.Signal())
		}
		_ = os.WriteFile(name+".code", []byte(strconv.Itoa(code)+"\n"), 0o600)
		_ = errors.Join(stdout.Close(), stderr.Close())
	})
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		waiter.Wait()
	})
}

// pidIn reads the PID from a file, and waits for the file.
func pidIn(ts *testscript.TestScript, file string) int {
	var pid int
	await(ts, "a PID in "+file, func() bool {
		text, err := os.ReadFile(ts.MkAbs(file))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	ts.Value("world").(*world).pids[file] = pid
	return pid
}

// signalPID sends a signal to the process named by a PID file: "signal TERM x.pid".
func signalPID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME pidfile")
	}
	ts.Check(syscall.Kill(pidIn(ts, args[1]), unix.SignalNum("SIG"+args[0])))
}

// waitFor waits until a file has a line that matches, or that many: "waitfor log 'pattern' [N]".
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfor file pattern [times]")
	}
	pattern, times := regexp.MustCompile("(?m)"+args[1]), 1
	if len(args) > 2 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		times = n
	}
	file := ts.MkAbs(args[0])
	var text []byte
	defer func() {
		if len(pattern.FindAll(text, -1)) < times {
			const shown = 64 << 10
			ts.Logf("%s:\n%s", args[0], text[max(0, len(text)-shown):])
		}
	}()
	await(ts, fmt.Sprintf("%d times %q in %s", times, args[1], args[0]), func() bool {
		exited := hasExited(file)
		text = written(file)
		found := len(pattern.FindAll(text, times)) >= times
		if exited && !found {
			name := strings.TrimSuffix(file, filepath.Ext(file))
			code, _ := os.ReadFile(name + ".code")
			said, _ := os.ReadFile(name + ".err")
			ts.Fatalf("the program that writes %s has exited with %s without %d times %q; it said:\n%s",
				args[0], bytes.TrimSpace(code), times, args[1], said)
		}
		return found
	})
}

// written returns what is in the file now; nothing if it cannot be read. A program that floods a file may
// write faster than it is read, so what comes meanwhile is left for the next time.
func written(file string) []byte {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(f, info.Size()))
	return text
}

// hasExited says whether a file is the output of a program that start has started, and that has exited.
func hasExited(file string) bool {
	if ext := filepath.Ext(file); ext != ".out" && ext != ".err" {
		return false
	}
	_, err := os.Stat(strings.TrimSuffix(file, filepath.Ext(file)) + ".code")
	return err == nil
}

// waitGone waits until the process is gone whose PID a file holds: "waitgone x.pid". Where the file is gone
// already, it is that which the script has read there last: gophd removes its PID file before it lets go of the rest.
func waitGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitgone pidfile")
	}
	pid := ts.Value("world").(*world).pids[args[0]]
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	if !errors.Is(err, fs.ErrNotExist) {
		ts.Check(err)
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		ts.Check(err)
	}
	if pid == 0 {
		return
	}
	await(ts, fmt.Sprintf("the end of process %d", pid), func() bool { return !lives(pid) })
}

// alive says whether the process of a PID file lives: "alive x.pid", "! alive x.pid".
func alive(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] alive pidfile")
	}
	if pid := pidIn(ts, args[0]); lives(pid) == neg {
		ts.Fatalf("process %d of %s lives: %v", pid, args[0], !neg)
	}
}

// waitStopped waits until the process of a PID file is stopped, as by SIGSTOP: "waitstopped x.pid".
func waitStopped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitstopped pidfile")
	}
	pid := pidIn(ts, args[0])
	await(ts, fmt.Sprintf("process %d to be stopped", pid), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		ts.Check(err)
		_, rest, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(rest, "T")
	})
}

// lives says that the process is there and no zombie, which nobody may have collected yet. A zombie that
// has threads left still holds its files and locks.
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return !strings.HasPrefix(rest, "Z") || len(tasks) > 1
}

// lines checks how many lines of a file match: "lines log 'pattern' 2" or "lines log 'pattern' 2 4" for a range.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: lines file pattern min [max]")
	}
	n := len(regexp.MustCompile("(?m)"+args[1]).FindAllString(ts.ReadFile(args[0]), -1))
	low, err := strconv.Atoi(args[2])
	ts.Check(err)
	high := low
	if len(args) > 3 {
		high, err = strconv.Atoi(args[3])
		ts.Check(err)
	}
	if n < low || n > high {
		ts.Fatalf("%d matches of %q in %s, want %d to %d", n, args[1], args[0], low, high)
	}
}

// again sends a signal so many times, each when the one before has been answered by that text in a file:
// "again 10 HUP x.pid x.log 'goes on'". A program that follows is run before each.
func again(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: again N NAME pidfile file text [program [args...]]")
	}
	times, err := strconv.Atoi(args[0])
	ts.Check(err)
	answers := func() int {
		text, _ := os.ReadFile(ts.MkAbs(args[3])) // which may not be there yet
		return bytes.Count(text, []byte(args[4]))
	}
	before := answers()
	for i := 1; i <= times; i++ {
		if len(args) > 5 {
			ts.Check(ts.Exec(args[5], args[6:]...))
		}
		signalPID(ts, false, args[1:3])
		await(ts, fmt.Sprintf("answer %d of %q in %s", i, args[4], args[3]), func() bool { return answers() >= before+i })
	}
}

// holding is what a process has of what can add up.
type holding struct{ descriptors, threads, children, rss int } // rss in KiB

// spare is how many threads and descriptors more a process may have than it had: Go starts a thread when all others
// are in system calls, and never ends it; and the first look may fall in the middle of a restart, before the log is
// open again. What leaks one with each of the many tries between two looks has more.
const spare = 4

// flat notes what a process has, the first time; and then that it has no more, but for what is spare and so much
// memory: "flat x.pid MIB". What it has for a moment only is waited for.
func flat(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: flat pidfile [MiB]")
	}
	pid := pidIn(ts, args[0])
	held := ts.Value("world").(*world).held
	was, noted := held[pid]
	if !noted {
		held[pid] = holds(ts, pid)
		ts.Logf("%+v", held[pid])
		return
	}
	mib, err := strconv.Atoi(args[len(args)-1])
	ts.Check(err)
	var now holding
	defer func() { ts.Logf("%+v", now) }()
	await(ts, fmt.Sprintf("process %d to have hardly more than %+v", pid, was), func() bool {
		now = holds(ts, pid)
		return now.descriptors <= was.descriptors+spare && now.threads <= was.threads+spare &&
			now.children <= was.children && now.rss <= was.rss+mib<<10
	})
}

func holds(ts *testscript.TestScript, pid int) (h holding) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	descriptors, err := os.ReadDir(dir + "fd")
	ts.Check(err)
	threads, err := filepath.Glob(dir + "task/*/children")
	ts.Check(err)
	for _, name := range threads {
		children, _ := os.ReadFile(name) // the thread may have ended
		h.children += len(strings.Fields(string(children)))
	}
	status, err := os.ReadFile(dir + "status")
	ts.Check(err)
	if m := regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status); m != nil {
		h.rss, _ = strconv.Atoi(string(m[1]))
	}
	h.descriptors, h.threads = len(descriptors), len(threads)
	return h
}

// notifySocket plays the service manager of sd_notify(3): "notifysocket FILE" sets $NOTIFY_SOCKET and
// appends what is sent there to the file, a message per paragraph, in the order in which it came.
func notifySocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: notifysocket file")
	}
	path := ts.MkAbs(args[0] + ".socket")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	var reader goroutine.Group
	reader.Go(func() {
		message := make([]byte, 4096)
		for {
			n, err := socket.Read(message)
			if err != nil {
				return // closed
			}
			fmt.Fprintf(file, "%s\n\n", message[:n])
		}
	})
	ts.Defer(func() {
		_ = socket.Close()
		reader.Wait()
		_ = file.Close()
	})
	ts.Setenv("NOTIFY_SOCKET", path)
}

func await(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// world is what the commands of one script share.
type world struct {
	server *heartbeattest.Server
	pids   map[string]int // by PID file, as last read
	held   map[int]holding
}

// memcached runs a real one for the script: "memcached start [OPTION...]" sets $MEMCACHED to its address; stop, pause,
// resume and restart do what they say; "memcached released NAME" leaves there what a holder leaves that has released
// the job's lease, so that the next one need not wait; "memcached say LINE..." speaks its text protocol, as any poller or
// administrator would, and keeps the answer in the file answer; "memcached until 'pattern' LINE..." says it
// until the answer matches.
func memcached(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: memcached start|stop|pause|resume|restart|released NAME|say LINE...|until pattern LINE...")
	}
	w := ts.Value("world").(*world)
	var err error
	switch args[0] {
	case "start":
		w.server, err = heartbeattest.StartMemcached(args[1:]...)
		ts.Check(err)
		ts.Defer(w.server.Stop)
		ts.Setenv("MEMCACHED", w.server.Addr())
	case "stop":
		w.server.Stop()
	case "pause":
		err = w.server.Pause()
	case "resume":
		err = w.server.Resume()
	case "restart":
		err = w.server.Restart()
	case "released":
		state := `{"v":1,"fence":1,"owner":"an earlier one","op":"1","clean":true,"ttl":10,"slots":1}`
		var answer string
		answer, err = w.server.Command(fmt.Sprintf("set %s_process_heartbeat.state 0 0 %d", args[1], len(state)), state)
		if err == nil && answer != "STORED\r\n" {
			err = fmt.Errorf("memcached answers %q", answer)
		}
	case "say", "until":
		lines, pattern := args[1:], regexp.MustCompile("")
		if args[0] == "until" {
			lines, pattern = args[2:], regexp.MustCompile("(?m)"+args[1])
		}
		var answer string
		await(ts, fmt.Sprintf("an answer with %q", pattern), func() bool {
			answer, err = w.server.Command(lines...)
			return err != nil || pattern.MatchString(answer)
		})
		if err == nil {
			err = os.WriteFile(ts.MkAbs("answer"), []byte(strings.ReplaceAll(answer, "\r\n", "\n")), 0o600)
		}
	default:
		ts.Fatalf("unknown: memcached %s", args[0])
	}
	ts.Check(err)
}
