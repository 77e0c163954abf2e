package sdnotify

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
)

// role makes the test binary act as another process.
const role = "SDNOTIFY_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "holder": // holds a socket until it is killed
		s, err := Open(func(Message, error) {})
		if err != nil {
			panic(err)
		}
		fmt.Println(s.Address())
		select {}
	}
}

// inbox takes the messages of the socket's goroutine for the test.
type inbox chan received

type received struct {
	Message
	err error
}

func (in inbox) receive(m Message, err error) { in <- received{m, err} }

// next blocks until a message arrives.
func (in inbox) next() received { return <-in }

func open(t *testing.T) (*Socket, inbox) {
	t.Helper()
	in := make(inbox, 100)
	s, err := Open(in.receive)
	if err != nil {
		t.Fatal(err)
	}
	return s, in
}

func dial(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c *net.UnixConn, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

func closeSocket(t *testing.T, s *Socket) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestMessagesComeInOrderWithTheirSender(t *testing.T) {
	s, in := open(t)
	defer closeSocket(t, s)
	c := dial(t, s.Address())
	send(t, c, "STATUS=before") // before Listen
	s.Listen()
	s.Listen()
	send(t, c, "STATUS=1", "", "no message", strings.Repeat("A=1\n", maxMessage/4)+"A=1",
		strings.Repeat("A=1\n", maxMessage/4), "STATUS=2")
	for i, want := range []string{
		"STATUS=before", "STATUS=1", "", "not like NAME=VALUE", "more than 4096 bytes", "", "STATUS=2",
	} {
		h := in.next()
		if h.PID != os.Getpid() || h.UID != os.Getuid() {
			t.Errorf("%d: from pid %d, uid %d", i, h.PID, h.UID)
		}
		got := ""
		switch {
		case h.err != nil:
			got = h.err.Error()
		case h.Status != nil:
			got = "STATUS=" + *h.Status
		}
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%d: %q, want %q", i, got, want)
		}
	}
}

// systemd-notify(1) waits until the receiver has closed the descriptor that it sends. The socket
// keeps no descriptor open.
func TestBarrierIsReleased(t *testing.T) {
	s, in := open(t)
	defer closeSocket(t, s)
	s.Listen()
	c := dial(t, s.Address())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rights := unix.UnixRights(int(w.Fd()), int(w.Fd()), int(w.Fd()))
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if raw.Control(func(fd uintptr) { err = unix.Sendmsg(int(fd), []byte("BARRIER=1"), rights, nil, 0) }); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if h := in.next(); h.err != nil || h.PID != os.Getpid() {
		t.Errorf("%+v", h)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF { // blocks while a descriptor is open
		t.Errorf("got %d bytes, %v, want the end", n, err)
	}
}

func TestDrainReportsBeforeItReturns(t *testing.T) {
	s, in := open(t)
	c := dial(t, s.Address())
	s.Drain()
	send(t, c, "READY=1", "READY=1")
	s.Drain()
	if len(in) != 2 {
		t.Errorf("%d of 2 messages reported", len(in))
	}
	s.Listen() // Drain works beside the reader too
	for range 500 {
		send(t, c, "READY=1")
		s.Drain()
		if h := in.next(); !h.Ready && len(in) > 1 {
			t.Fatalf("%+v", h)
		}
	}
	closeSocket(t, s)
	s.Drain()
}

func TestNoMessageIsLostDuringARestart(t *testing.T) {
	s, in := open(t)
	s.Listen()
	c := dial(t, s.Address())
	var sent []string
	sendStatus := func(status string) {
		send(t, c, "STATUS="+status)
		sent = append(sent, status)
	}
	for i := range 9 {
		sendStatus(fmt.Sprint(i))
		f := s.Leave()
		if i%2 == 0 {
			sendStatus("between")
		}
		address := s.Address()
		var err error
		if s, err = Adopt(f, in.receive); err != nil {
			t.Fatal(err)
		}
		if s.Address() != address {
			t.Errorf("the address is %q, and was %q", s.Address(), address)
		}
		s.Listen()
		if i%3 < 2 {
			continue
		}
		// A Socket that is left at once may have read nothing. A queue of more than ten messages
		// blocks the sender.
		for _, want := range sent {
			if h := in.next(); h.err != nil || *h.Status != want {
				t.Errorf("%+v, want %s", h, want)
			}
		}
		sent = nil
	}
	closeSocket(t, s)
}

func TestAdoptRejectsOtherDescriptors(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	noCredentials, err := other.File()
	if err != nil {
		t.Fatal(err)
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for _, f := range []*os.File{file, noCredentials, closed} {
		if s, err := Adopt(f, nil); err == nil {
			t.Errorf("%s was adopted as %s", f.Name(), s.Address())
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s is still open: %v", f.Name(), err)
		}
	}
}

// A panic of receive is not lost, and does not keep the socket open.
func TestPanicOfReceiveBecomesAPanicOfClose(t *testing.T) {
	called := make(chan struct{})
	s, err := Open(func(Message, error) { close(called); panic("a fault") })
	if err != nil {
		t.Fatal(err)
	}
	s.Listen()
	send(t, dial(t, s.Address()), "READY=1")
	<-called
	p := goroutine.Catch(func() { _ = s.Close() })
	if p == nil || p.Value != "a fault" {
		t.Errorf("Close panicked with %v", p)
	}
}

// A killed holder leaves nothing behind, two sockets at once do not conflict, and there is no path
// that could be too long.
func TestKilledHolderLeavesNothing(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), role+"=holder", "TMPDIR=/"+strings.Repeat("x", 200))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSpace(line)
	s, _ := open(t)
	defer closeSocket(t, s)
	if address == s.Address() || len(address) > 107 || address[0] != '@' {
		t.Errorf("addresses %q and %q", address, s.Address())
	}
	send(t, dial(t, address), "READY=1")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the socket of a killed process: %v", err)
	}
}

// child starts a process that runs until the test ends.
func child(t *testing.T, attr syscall.SysProcAttr, env ...string) int {
	t.Helper()
	cmd := exec.Command("sleep", "3600")
	cmd.SysProcAttr, cmd.Env = &attr, env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func TestRunOfAMessage(t *testing.T) {
	leader := child(t, syscall.SysProcAttr{Setpgid: true})
	member := child(t, syscall.SysProcAttr{Setpgid: true, Pgid: leader})
	escaped := child(t, syscall.SysProcAttr{Setsid: true}, "A=1", "GOPHD_RUN_ID=b", "B=2")
	ofEarlier := child(t, syscall.SysProcAttr{Setsid: true}, "GOPHD_RUN_ID=z")
	unrelated := child(t, syscall.SysProcAttr{Setsid: true})
	const gone = 1 << 29 // above every PID of the kernel: the PID of an exited process may be reused
	zombie := exec.Command("true")
	zombie.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = zombie.Wait() })
	zombiePID := zombie.Process.Pid
	for unix.Waitid(unix.P_PID, zombiePID, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}

	a, b, starting := Run{ID: "a", Leader: leader}, Run{ID: "b", Leader: 1 << 30}, Run{ID: "c"}
	const ours, other = 7, 8
	for _, c := range []struct {
		name string
		m    Message
		runs []Run
		want int
	}{
		{"the command", Message{PID: leader, UID: other}, []Run{b, a}, 1},
		{"a member of its group", Message{PID: member, UID: other}, []Run{b, a}, 1},
		{"a process that left the group", Message{PID: escaped, UID: other}, []Run{a, b}, 1},
		{"a process of an earlier run", Message{PID: ofEarlier, UID: ours}, []Run{a}, -1},
		{"unrelated", Message{PID: unrelated, UID: ours}, []Run{a}, -1},
		{"unrelated, no active run", Message{PID: unrelated, UID: ours}, nil, -1},
		{"unrelated, a run is being started", Message{PID: unrelated, UID: ours}, []Run{starting}, -1},
		{"in the name of gophd", Message{PID: os.Getpid(), UID: ours}, []Run{a}, 0},
		{"in the name of gophd, two active runs", Message{PID: os.Getpid(), UID: ours}, []Run{a, b}, -1},
		{"gone", Message{PID: gone, UID: ours}, []Run{a}, 0},
		{"zombie", Message{PID: zombiePID, UID: ours}, []Run{a}, 0},
		{"zombie, two active runs", Message{PID: zombiePID, UID: ours}, []Run{a, b}, -1},
		{"gone, another user", Message{PID: gone, UID: other}, []Run{a}, -1},
		{"gone, two active runs", Message{PID: gone, UID: ours}, []Run{a, b}, -1},
		{"gone, no active run", Message{PID: gone, UID: ours}, nil, -1},
		{"gone, names its run", Message{PID: gone, UID: ours, RunID: "b"}, []Run{a, b}, 1},
		{"gone, names a run that has ended", Message{PID: gone, UID: ours, RunID: "z"}, []Run{a}, -1},
		{"another user, names a run", Message{PID: unrelated, UID: other, RunID: "a"}, []Run{a}, -1},
		{"unrelated, names the run", Message{PID: unrelated, UID: ours, RunID: "a"}, []Run{b, a}, 1},
		{"in a PID namespace that is not visible", Message{PID: 0, UID: ours}, []Run{a}, 0},
	} {
		if got := c.m.Run(c.runs, 0, ours); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
