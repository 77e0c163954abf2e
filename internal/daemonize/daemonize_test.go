package daemonize_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/daemonize"
	"gophd/internal/self"
)

// role makes the test binary act as `gophd run -d`; its value is what the daemon does. address is
// the socket on which the daemon reports its properties to the test.
const (
	role    = "DAEMONIZE_TEST_ROLE"
	address = "DAEMONIZE_TEST_SOCKET"
)

func TestMain(m *testing.M) {
	as := os.Getenv(role)
	if as == "" {
		os.Exit(m.Run())
	}
	s, err := self.Catch()
	if err == nil && s.Ready == "" {
		err = startDaemon(s)
	} else if err == nil {
		err = runDaemon(s, as)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// outcome is what Start returned to the parent at the terminal.
type outcome struct {
	Report   daemonize.Report
	Err      string
	Children bool // the parent still has a child, running or zombie
}

func startDaemon(s self.Self) error {
	var o outcome
	r, err := daemonize.Start(s)
	if o.Report = r; err != nil {
		o.Err = err.Error()
	}
	_, err = unix.Wait4(-1, nil, unix.WNOHANG, nil)
	o.Children = !errors.Is(err, unix.ECHILD)
	return json.NewEncoder(os.Stdout).Encode(o)
}

// properties is what a daemon reports about itself to the test.
type properties struct {
	PID, Session int
	Dir          string
	Args         []string
	Descriptors  []string // targets, by number
	Blocked      string
	Private      bool
	Leaked       bool // a descriptor of the process that started the parent
}

func runDaemon(s self.Self, as string) error {
	// The mask as inherited, before os/signal changes it.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "SigBlk:\t")
	blocked, _, _ := strings.Cut(rest, "\n")
	terms := make(chan os.Signal, 1)
	ready, err := daemonize.Inherit(s)
	if err != nil {
		return err
	}
	switch as {
	case "fail":
		fmt.Fprintln(os.Stderr, "a warning")
		return ready.Failed(2, "bad config\nline 2: no such key \"x\"\n\x00\xff")
	case "fail-and-stay":
		if err := ready.Failed(0, "failed, but still running"); err != nil {
			return err
		}
		select {}
	case "exit":
		fmt.Fprintln(os.Stderr, strings.Repeat("text ", 100000), "the\nlast lines")
		os.Exit(3)
	case "panic":
		panic("a fault")
	case "kill":
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	case "garbage":
		_, err := os.NewFile(3, "").WriteString(`{"Text":"looks good"}`)
		return err
	case "flood":
		_, err := os.NewFile(3, "").Write(bytes.Repeat([]byte("x"), 1<<20))
		if !errors.Is(err, unix.EPIPE) {
			return fmt.Errorf("the parent has read all of it: %v", err)
		}
		return nil
	case "escaped":
		// A descendant keeps stderr's pipe open until the test kills it.
		c := exec.Command("/bin/sleep", "3600")
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		fmt.Fprint(os.Stderr, c.Process.Pid)
		os.Exit(4)
	case "slow":
		signal.Notify(terms, unix.SIGTERM)
		if err := reportProperties(io.Discard, s, blocked); err != nil {
			return err
		}
		<-terms
		return ready.Failed(1, "stopped while it started")
	case "ignores-term":
		signal.Ignore(unix.SIGTERM)
		if err := reportProperties(io.Discard, s, blocked); err != nil {
			return err
		}
		select {}
	case "serve":
		signal.Notify(terms, unix.SIGTERM)
		fmt.Fprintln(os.Stderr, "a warning")
		if err := ready.Serving("pid " + strconv.Itoa(os.Getpid()) + strings.Repeat("\x01", 20000)); err != nil {
			return err
		}
		if ready.Serving("again") == nil || ready.Failed(1, "again") == nil {
			return errors.New("a second report was accepted")
		}
		conn, err := net.Dial("unix", os.Getenv(address))
		if err != nil {
			return err
		}
		// Fails if stderr is still the pipe of a parent that has exited.
		if _, err := fmt.Fprintln(os.Stderr, "to /dev/null"); err != nil {
			return err
		}
		if err := reportProperties(conn, s, blocked); err != nil {
			return err
		}
		<-terms
		_, err = fmt.Fprintln(conn, "stopped, child of", os.Getppid())
		return err
	}
	return fmt.Errorf("no such role: %s", as)
}

// reportProperties sends the daemon's properties to the test. With io.Discard it makes a new
// connection, which stays open until the daemon exits.
func reportProperties(w io.Writer, s self.Self, blocked string) error {
	if w == io.Discard {
		conn, err := net.Dial("unix", os.Getenv(address))
		if err != nil {
			return err
		}
		w = conn
	}
	l := properties{PID: os.Getpid(), Dir: s.Dir, Args: s.Args, Blocked: blocked}
	l.Private = os.Getenv(self.ReadyVariable) != ""
	_, err := os.Readlink("/proc/self/fd/77")
	l.Leaked = err == nil
	if l.Session, err = unix.Getsid(0); err != nil {
		return err
	}
	// The descriptors that a command inherits. The one with which the shell reads the directory is
	// closed before it prints.
	out, err := exec.Command("/bin/sh", "-c", "for fd in /proc/$$/fd/*; do [ ! -e $fd ] || echo ${fd##*/}; done").Output()
	if err != nil {
		return err
	}
	l.Descriptors = strings.Fields(string(out))
	for fd := range 3 {
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return err
		}
		l.Descriptors = append(l.Descriptors, target)
	}
	return json.NewEncoder(w).Encode(l)
}

// terminal is one `gophd run -d`, and the socket to which its daemon connects.
type terminal struct {
	*exec.Cmd
	out    bytes.Buffer
	socket *net.UnixListener
}

func newTerminal(t *testing.T, as string, args ...string) *terminal {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	term := &terminal{Cmd: exec.CommandContext(t.Context(), exe, args...), socket: l}
	term.Env = append(os.Environ(), role+"="+as, address+"="+at, "GORACE=atexit_sleep_ms=0")
	term.Stdout, term.Stderr = &term.out, os.Stderr
	return term
}

// outcome waits until the parent exits, and returns what it printed.
func (term *terminal) outcome(t *testing.T) outcome {
	t.Helper()
	if err := term.Wait(); err != nil {
		t.Fatal(err)
	}
	var o outcome
	if err := json.Unmarshal(term.out.Bytes(), &o); err != nil {
		t.Fatalf("%v in %q", err, &term.out)
	}
	return o
}

func (term *terminal) run(t *testing.T) outcome {
	t.Helper()
	if err := term.Start(); err != nil {
		t.Fatal(err)
	}
	return term.outcome(t)
}

// accept waits for the daemon to connect. It returns the daemon's properties, and the connection,
// which ends when the daemon exits.
func (term *terminal) accept(t *testing.T) (properties, *net.UnixConn, *json.Decoder) {
	t.Helper()
	conn, err := term.socket.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var l properties
	d := json.NewDecoder(conn)
	if err := d.Decode(&l); err != nil {
		t.Fatal(err)
	}
	return l, conn, d
}

func TestDaemonIsDetachedFromTheTerminal(t *testing.T) {
	term := newTerminal(t, "serve", "-d", "", "two words")
	term.Dir = t.TempDir()
	// A session like that of a login, with a descriptor left open.
	term.Args = append([]string{"/bin/bash", "-c", `exec 77</dev/null; exec "$0" "$@"`, term.Path}, term.Args[1:]...)
	term.Path = "/bin/bash"
	term.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	o := term.run(t)
	l, conn, _ := term.accept(t)
	if o.Err != "" || o.Report.Code != 0 || !strings.HasPrefix(o.Report.Text, "pid "+strconv.Itoa(l.PID)+"\x01") {
		t.Errorf("the terminal got %.60q and error %q", o.Report.Text, o.Err)
	}
	if o.Report.Stderr != "a warning\n" {
		t.Errorf("its stderr is %q, want the warning", o.Report.Stderr)
	}
	if l.Session != l.PID || l.PID == term.Process.Pid {
		t.Errorf("session %d, PID %d: not detached from %d", l.Session, l.PID, term.Process.Pid)
	}
	if l.Leaked {
		t.Error("the daemon has a descriptor of the shell that started its parent")
	}
	if l.Private {
		t.Error("the private variable is still set")
	}
	if l.Dir != term.Dir || len(l.Args) != 4 || l.Args[1] != "-d" || l.Args[2] != "" || l.Args[3] != "two words" {
		t.Errorf("it runs in %s as %q", l.Dir, l.Args)
	}
	// Those of a command, and the targets of the daemon's first three.
	want := []string{"0", "1", "2", os.DevNull, os.DevNull, os.DevNull}
	if !slices.Equal(l.Descriptors, want) {
		t.Errorf("descriptors are %q, want %q", l.Descriptors, want)
	}
	// The session of the terminal ends: its process group gets HUP, and the daemon does not.
	if err := unix.Kill(-term.Process.Pid, unix.SIGHUP); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
	if err := unix.Kill(l.PID, unix.SIGTERM); err != nil {
		t.Fatalf("the daemon exited with the terminal: %v", err)
	}
	rest, err := io.ReadAll(conn)
	stopped, parent, _ := strings.Cut(strings.TrimSpace(string(rest)), ", child of ")
	if err != nil || stopped != "stopped" || parent == strconv.Itoa(term.Process.Pid) {
		t.Errorf("it reported %q and %v, want a graceful stop with another parent", rest, err)
	}
}

func TestDaemonStartsWithControlSignalsBlocked(t *testing.T) {
	term := newTerminal(t, "serve")
	term.run(t)
	l, _, _ := term.accept(t)
	defer unix.Kill(l.PID, unix.SIGTERM)
	mask, err := strconv.ParseUint(l.Blocked, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT} {
		if mask&(1<<(s-1)) == 0 {
			t.Errorf("%v is not blocked in the daemon's mask %s: it can end the daemon before Listen", s, l.Blocked)
		}
	}
}

func TestFailureReachesTheTerminal(t *testing.T) {
	for as, want := range map[string]struct {
		code      int
		text, err string
		stderr    string
	}{
		"fail":          {code: 2, text: "bad config\nline 2: no such key \"x\"\n\x00\ufffd", stderr: "a warning\n"},
		"fail-and-stay": {code: 1, text: "failed, but still running"},
		"exit": {err: "the daemon exited before it was ready: exit code 3; its stderr: text",
			stderr: "the\nlast lines\n"},
		"panic": {err: "the daemon exited before it was ready: exit code 2; its stderr: panic: a fault goroutine 1",
			stderr: ".go:"},
		"kill":    {err: "the daemon exited before it was ready: signal KILL"},
		"garbage": {err: "the daemon's report is malformed: \"{\\\"Text\\\":\\\"looks good\\\"}\": it has no exit code"},
		"flood":   {err: "the daemon's report is malformed: \"xxxx"},
	} {
		t.Run(as, func(t *testing.T) {
			t.Parallel()
			o := newTerminal(t, as).run(t)
			if o.Report.Code != want.code || o.Report.Text != want.text {
				t.Errorf("the report is %d %q, want %d %q", o.Report.Code, o.Report.Text, want.code, want.text)
			}
			if (o.Err == "") != (want.err == "") || !strings.HasPrefix(o.Err, want.err) ||
				len(o.Err) > 700 || strings.Contains(o.Err, "\n") {
				t.Errorf("the error is %q, want one line with %q", o.Err, want.err)
			}
			if !strings.Contains(o.Report.Stderr, want.stderr) || len(o.Report.Stderr) > 4096 {
				t.Errorf("its stderr is %q, want the last part with %q", o.Report.Stderr, want.stderr)
			}
			if o.Children {
				t.Error("a zombie or a running daemon is left")
			}
		})
	}
}

func TestEscapedProcessWithStderrDoesNotBlockTheTerminal(t *testing.T) {
	o := newTerminal(t, "escaped").run(t) // returns while the escaped process runs
	if !strings.HasPrefix(o.Err, "the daemon exited before it was ready: exit code 4; its stderr: ") {
		t.Errorf("the error is %q", o.Err)
	}
	if pid, err := strconv.Atoi(o.Report.Stderr); err != nil || unix.Kill(pid, unix.SIGKILL) != nil {
		t.Errorf("the escaped process %q is not running", o.Report.Stderr)
	}
}

func TestSignalToTheWaitingParentLeavesNoPartlyStartedDaemon(t *testing.T) {
	for _, c := range []struct {
		as    string
		sigs  []syscall.Signal
		texts []string
	}{
		{"slow", []syscall.Signal{unix.SIGINT}, []string{"stopped while it started", ""}},
		{"slow", []syscall.Signal{unix.SIGTERM}, []string{"stopped while it started", ""}},
		{"ignores-term", []syscall.Signal{unix.SIGINT, unix.SIGTERM},
			[]string{"", "the daemon exited before it was ready: signal KILL"}},
	} {
		term := newTerminal(t, c.as)
		if err := term.Start(); err != nil {
			t.Fatal(err)
		}
		_, conn, _ := term.accept(t)
		for _, sig := range c.sigs {
			if err := term.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
		o := term.outcome(t)
		if o.Report.Text != c.texts[0] || o.Err != c.texts[1] || o.Children {
			t.Errorf("%s, %v: got %+v, want %q", c.as, c.sigs, o, c.texts)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s, %v: the daemon is still running: %v", c.as, c.sigs, err)
		}
	}
}

// pipes returns the targets of the open descriptors of this process that Start could have left.
func pipes(t *testing.T) (open []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if to, err := os.Readlink(fd); err == nil && (strings.HasPrefix(to, "pipe:") || to == os.DevNull) {
			open = append(open, to)
		}
	}
	return open
}

func TestStartOfAMissingProgramIsAnError(t *testing.T) {
	before := pipes(t)
	if r, err := daemonize.Start(self.Self{Path: "/none/gophd", Args: []string{"gophd"}, Dir: "/"}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v, %v", r, err)
	}
	if after := pipes(t); !slices.Equal(after, before) {
		t.Errorf("the pipes were %q and are %q", before, after)
	}
	// A program that does not know the protocol exits without a report.
	r, err := daemonize.Start(self.Self{Path: "/bin/true", Args: []string{"true"}, Dir: "/"})
	if err == nil || err.Error() != "the daemon exited before it was ready: exit code 0" {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestWithoutAParentNothingIsReported(t *testing.T) {
	r, err := daemonize.Inherit(self.Self{})
	if r != nil || err != nil {
		t.Fatalf("got %v, %v", r, err)
	}
	if err := errors.Join(r.Serving("x"), r.Failed(1, "x")); err != nil {
		t.Error(err)
	}
}

func TestInheritRejectsGarbage(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, v := range []string{"x", "-3", "2", "1019", "3 ", strings.Repeat("9", 300),
		strconv.Itoa(int(r.Fd())), strconv.Itoa(int(file.Fd()))} {
		if ready, err := daemonize.Inherit(self.Self{Ready: v}); err == nil || ready != nil || len(err.Error()) > 200 {
			t.Errorf("%.20q: got %v, %v", v, ready, err)
		}
	}
}

// The parent may have been killed, or have got HUP, when the daemon is ready.
func TestReportToAnExitedParentIsNoError(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(w.Fd())) // Ready owns what it inherits
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	ready, err := daemonize.Inherit(self.Self{Ready: strconv.Itoa(fd)})
	if err != nil {
		t.Fatal(err)
	}
	if err := ready.Failed(1, "x"); err != nil {
		t.Error(err)
	}
	if err := ready.Failed(1, "x"); err == nil {
		t.Error("a second report was accepted")
	}
}
