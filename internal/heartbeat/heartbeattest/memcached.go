package heartbeattest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Server is a memcached process of one's own on a port of the loopback, to be hung, killed and
// started again. One goroutine uses it. It can be used inside a bubble of virtual time
// (testing/synctest) and outside: no virtual time passes in its methods.
type Server struct {
	args []string
	port int
	hold *os.File  // reserves the port as long as the Server is in use, see reserve
	cmd  *exec.Cmd // nil while it is stopped
}

// Memcached starts a server for one test and stops it when the test ends. A memcached that is not
// installed fails the test: a suite that skips its only real server has tested nothing.
func Memcached(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := StartMemcached(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// StartMemcached is Memcached for a caller that has no testing.TB, such as a testscript's Setup. The
// caller must also call Stop. args come after those that set address and user.
func StartMemcached(args ...string) (*Server, error) {
	hold, port, err := reserve()
	if err != nil {
		return nil, fmt.Errorf("no port for memcached: %w", err)
	}
	s := &Server{args: args, port: port, hold: hold}
	if err := s.start(); err != nil {
		hold.Close()
		return nil, err
	}
	return s, nil
}

// reserve returns a free port of the loopback, and the socket that keeps it. The socket is bound and
// does not listen: memcached, which sets SO_REUSEADDR too, can bind the port and listen, but the kernel
// gives the port to nobody else, also while memcached is stopped. A port that only was free a moment
// ago could be another program's by then, or a client's own port.
func reserve() (*os.File, int, error) {
	syscall.ForkLock.RLock() // no command that is started meanwhile may inherit it
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, 0, err
	}
	hold := os.NewFile(uintptr(fd), "port of memcached")
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, 0, errors.Join(err, hold.Close())
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, 0, errors.Join(err, hold.Close())
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, 0, errors.Join(err, hold.Close())
	}
	return hold, name.(*unix.SockaddrInet4).Port, nil
}

// Addr is the host:port of the server, the same over a Restart.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Stop kills the server, hung or not; all it knew is lost. A second Stop does nothing. The port stays
// reserved for a Restart as long as the Server is in use.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // its error is the signal
	s.cmd = nil
}

// Restart kills the server and starts an empty one on the same port.
func (s *Server) Restart() error {
	s.Stop()
	return s.start()
}

// Pause hangs the server: the kernel goes on accepting connections and data for it. It returns when
// the last of its threads has stopped.
func (s *Server) Pause() error {
	if err := s.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	var status syscall.WaitStatus
	_, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	if err == nil && !status.Stopped() {
		err = errors.New("memcached ended instead of stopping")
	}
	return err
}

// Resume lets a paused server go on, with all that was sent to it meanwhile.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	if s.cmd == nil {
		return errors.New("memcached is stopped: restart it first")
	}
	return s.cmd.Process.Signal(sig)
}

// Command sends lines in the server's text protocol, each ended by CRLF, on a connection of their
// own and returns all that comes back: how another's program, or an administrator, acts on keys.
func (s *Server) Command(lines ...string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Addr(), patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, strings.Join(append(lines, "quit"), "\r\n")+"\r\n"); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil { // one that wants a password does not quit
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

func (s *Server) start() error {
	path, err := exec.LookPath("memcached")
	if err != nil {
		return fmt.Errorf("memcached is not installed (make test installs it): %w", err)
	}
	args := []string{"-l", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "0"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	cmd := exec.Command(path, append(args, s.args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := s.await(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		said, _ := bufio.NewReader(stderr).ReadString('\n')
		_ = cmd.Wait()
		return fmt.Errorf("memcached on port %d: %w: %s", s.port, err, strings.TrimSpace(said))
	}
	s.cmd = cmd
	return nil
}

// await returns when the process answers on the port, or has exited. A server tells nobody that it
// listens, so the only way is to ask. The answer must have its PID: another server is not ours.
func (s *Server) await(pid int) error {
	for {
		if said, err := s.Command("stats"); err == nil {
			if strings.Contains(said, fmt.Sprintf("STAT pid %d\r\n", pid)) ||
				slices.Contains(s.args, "-Y") && strings.Contains(said, "unauthenticated") { // it tells strangers nothing else
				return nil
			}
			return errors.New("another server has the port")
		}
		var status syscall.WaitStatus
		if ended, _ := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); ended == pid {
			return errors.New("exited at its start")
		}
		// The kernel's sleep and not time.Sleep, which in a bubble would let virtual time pass.
		_, _ = unix.Poll(nil, 5)
	}
}
