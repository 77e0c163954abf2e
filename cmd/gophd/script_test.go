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

// patience limits every wait for another process. After it something hangs; it measures nothing.
const patience = 5 * time.Minute

// bin is the directory of the built program. The tests need the real program, because it re-execs
// and detaches itself.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	// The scripts are idle most of the time.
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		// A shell ignores them for background commands, nohup(1) ignores HUP. The programs of a
		// script must not inherit that.
		if signal.Ignored(s) {
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
			// gophd-wall would compile the standard library once more with the race detector.
			if raceEnabled && name != "gophd-wall" && name != "tell" {
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

// TestScript runs the scripts in testdata/script. Each tests one promise of the command line, is
// named after the command and the case, and can be read as a manual.
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

// setup gives each script its own directories, without the config of the host, and kills leftover
// processes at the end.
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
	env.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise each exit of gophd takes a second
	env.Values[stateKey] = &scriptState{pids: map[string]int{}, used: map[int]usage{}}
	env.Defer(func() { sweep("GOPHD_STATE_DIR=" + state) })
	return nil
}

// sweep kills the processes that a failed script left: every process with mark in its environment.
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

// code runs a program that must exit with the code: "code 3 gophd run ...". Its output is in the
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

// start runs a program in the background: "start NAME program args...". Its output goes to NAME.out
// and NAME.err, its PID to NAME.pid and after its exit its exit code to NAME.code. The & of a shell
// is no replacement, because the shell makes such a program ignore INT.
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
	state(ts).pids[file] = pid
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
			stderr, _ := os.ReadFile(name + ".err")
			ts.Fatalf("the program that writes %s has exited with %s without %d times %q; its stderr:\n%s",
				args[0], bytes.TrimSpace(code), times, args[1], stderr)
		}
		return found
	})
}

// written returns the current content of the file; nothing if it cannot be read. A program may
// write faster than the file is read, so later output is left for the next call.
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

// hasExited reports whether a file is the output of a program that start has started, and that has
// exited.
func hasExited(file string) bool {
	if ext := filepath.Ext(file); ext != ".out" && ext != ".err" {
		return false
	}
	_, err := os.Stat(strings.TrimSuffix(file, filepath.Ext(file)) + ".code")
	return err == nil
}

// waitGone waits until the process of a PID file has exited: "waitgone x.pid". If the file was
// removed already, it uses the PID that the script has read there last: gophd removes its PID file
// before it releases its other resources.
func waitGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitgone pidfile")
	}
	pid := state(ts).pids[args[0]]
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	if !errors.Is(err, fs.ErrNotExist) {
		ts.Check(err)
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		ts.Check(err)
	}
	if pid == 0 {
		return
	}
	await(ts, fmt.Sprintf("the exit of process %d", pid), func() bool { return !isAlive(pid) })
}

// alive checks whether the process of a PID file is alive: "alive x.pid", "! alive x.pid".
func alive(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] alive pidfile")
	}
	if pid := pidIn(ts, args[0]); isAlive(pid) == neg {
		ts.Fatalf("process %d of %s is alive: %v, want %v", pid, args[0], neg, !neg)
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

// isAlive reports whether the process exists and is not a zombie, which its parent has not waited
// for yet. A zombie with other threads left still has its files and locks.
func isAlive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return !strings.HasPrefix(rest, "Z") || len(tasks) > 1
}

// lines checks how many lines of a file match: "lines log 'pattern' 2" or "lines log 'pattern' 2 4"
// for a range.
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

// again sends a signal several times, each after the text for the one before has appeared in a
// file: "again 10 HUP x.pid x.log 'resumed'". An optional program is run before each signal.
func again(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: again N NAME pidfile file text [program [args...]]")
	}
	times, err := strconv.Atoi(args[0])
	ts.Check(err)
	answers := func() int {
		text, _ := os.ReadFile(ts.MkAbs(args[3])) // the file may not exist yet
		return bytes.Count(text, []byte(args[4]))
	}
	before := answers()
	for i := 1; i <= times; i++ {
		if len(args) > 5 {
			ts.Check(ts.Exec(args[5], args[6:]...))
		}
		signalPID(ts, false, args[1:3])
		await(ts, fmt.Sprintf("answer %d of %q in %s", i, args[4], args[3]),
			func() bool { return answers() >= before+i })
	}
}

// usage is the resource usage of a process that a leak would increase.
type usage struct{ descriptors, threads, children, rss int } // rss in KiB

// spare is the allowed increase of threads and descriptors. Go starts a thread when all others are
// in system calls, and never stops it. And the first measurement may be in the middle of a restart,
// before the log is open again. A leak in each of the many restarts between two measurements
// exceeds it.
const spare = 4

// flat records the resource usage of a process at the first call. At later calls it checks that the
// usage has not increased, except for spare and so much memory: "flat x.pid MIB". It waits until a
// temporary increase is over.
func flat(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: flat pidfile [MiB]")
	}
	pid := pidIn(ts, args[0])
	used := state(ts).used
	first, measured := used[pid]
	if !measured {
		used[pid] = measure(ts, pid)
		ts.Logf("%+v", used[pid])
		return
	}
	mib, err := strconv.Atoi(args[len(args)-1])
	ts.Check(err)
	var now usage
	defer func() { ts.Logf("%+v", now) }()
	await(ts, fmt.Sprintf("process %d to use hardly more than %+v", pid, first), func() bool {
		now = measure(ts, pid)
		return now.descriptors <= first.descriptors+spare && now.threads <= first.threads+spare &&
			now.children <= first.children && now.rss <= first.rss+mib<<10
	})
}

// measure returns the current resource usage of a process.
func measure(ts *testscript.TestScript, pid int) (u usage) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	descriptors, err := os.ReadDir(dir + "fd")
	ts.Check(err)
	threads, err := filepath.Glob(dir + "task/*/children")
	ts.Check(err)
	for _, name := range threads {
		children, _ := os.ReadFile(name) // the thread may have exited
		u.children += len(strings.Fields(string(children)))
	}
	status, err := os.ReadFile(dir + "status")
	ts.Check(err)
	if m := regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status); m != nil {
		u.rss, _ = strconv.Atoi(string(m[1]))
	}
	u.descriptors, u.threads = len(descriptors), len(threads)
	return u
}

// notifySocket acts as the service manager of sd_notify(3): "notifysocket FILE" sets $NOTIFY_SOCKET
// and appends each message to the file, in order, with an empty line after it.
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

// scriptState is the state that the commands of one script share.
type scriptState struct {
	server *heartbeattest.Server
	pids   map[string]int // by PID file, as last read
	used   map[int]usage  // by PID, from the first call of flat
}

const stateKey = "state"

func state(ts *testscript.TestScript) *scriptState { return ts.Value(stateKey).(*scriptState) }

// memcached runs a real server for the script. "memcached start [OPTION...]" sets $MEMCACHED to its
// address; stop, pause, resume and restart do that. "memcached released NAME" writes the state of a
// holder that has released the job's lease, so that the next one need not wait. "memcached say
// LINE..." sends lines of the text protocol and writes the answer to the file answer. "memcached
// until 'pattern' LINE..." repeats that until the answer matches.
func memcached(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: memcached start|stop|pause|resume|restart|released NAME|say LINE...|until pattern LINE...")
	}
	w := state(ts)
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
		record := `{"v":1,"fence":1,"owner":"an earlier one","op":"1","clean":true,"ttl":10}`
		var answer string
		answer, err = w.server.Command(fmt.Sprintf("set %s_process_heartbeat.state 0 0 %d", args[1],
			len(record)), record)
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
