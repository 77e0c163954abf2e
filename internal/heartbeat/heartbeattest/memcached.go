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

// Server is a memcached process on a port of the loopback interface, or on the Unix socket of the
// option -s, which a test can pause, kill and restart. Only one goroutine may use it. It can be used inside a bubble of virtual time
// (testing/synctest) and outside: no virtual time passes in its methods.
type Server struct {
	args []string
	port int
	hold *os.File  // reserves the port as long as the Server is in use, see reserve
	cmd  *exec.Cmd // nil while the server is stopped
}

// Memcached starts a server for one test and stops it at the end of the test. If memcached is not
// installed, the test fails: a suite that skips its only real server has tested nothing.
func Memcached(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := StartMemcached(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// StartMemcached is Memcached for a caller that has no testing.TB, such as the Setup of a
// testscript. The caller must call Stop. args are appended to those that set address and user. With
// -s PATH the directory of the socket must be writable by nobody if we are root.
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

// reserve returns a free port of the loopback interface, and a socket that reserves it. The socket
// is bound and does not listen. memcached, which sets SO_REUSEADDR too, can bind the port and
// listen, but the kernel gives the port to no other program, also while memcached is stopped.
// Without that, a port that was free a moment ago could already belong to another program or to a
// client's connection.
func reserve() (*os.File, int, error) {
	syscall.ForkLock.RLock() // no command that is started meanwhile may inherit the socket
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

// Addr returns the host:port of the server, or the path of its socket. It does not change in a
// Restart.
func (s *Server) Addr() string {
	if path := s.option("-s"); path != "" {
		return path
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// option returns the argument of an option of the server; "" if it has none.
func (s *Server) option(name string) string {
	if i := slices.Index(s.args, name); i >= 0 && i+1 < len(s.args) {
		return s.args[i+1]
	}
	return ""
}

// Stop kills the server, paused or not. All its entries are lost. A second Stop does nothing. The
// port stays reserved for a Restart as long as the Server is in use.
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

// Pause stops the server with SIGSTOP: the kernel still accepts connections and data for it. Pause
// returns when all threads have stopped.
func (s *Server) Pause() error {
	if err := s.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	var status syscall.WaitStatus
	_, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	if err == nil && !status.Stopped() {
		err = errors.New("memcached exited instead of stopping")
	}
	return err
}

// Resume continues a paused server. It then handles all that was sent to it meanwhile.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	if s.cmd == nil {
		return errors.New("memcached is stopped: restart it first")
	}
	return s.cmd.Process.Signal(sig)
}

// Command sends lines in the server's text protocol, each with CRLF appended, on a new connection
// and returns the whole answer. With -Y it logs in first, with the line in that file. A test uses it
// to act on keys as another program or an administrator does.
func (s *Server) Command(lines ...string) (string, error) {
	network := "tcp"
	if s.option("-s") != "" {
		network = "unix"
	}
	login := ""
	if file := s.option("-Y"); file != "" {
		line, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		login = strings.Replace(strings.TrimSpace(string(line)), ":", " ", 1)
		lines = append([]string{fmt.Sprintf("set login 0 0 %d", len(login)), login}, lines...)
	}
	c, err := net.DialTimeout(network, s.Addr(), maxWait)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(maxWait)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, strings.Join(append(lines, "quit"), "\r\n")+"\r\n"); err != nil {
		return "", err
	}
	// A server that wants a password ignores quit.
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	answer := string(b)
	if rest, ok := strings.CutPrefix(answer, "STORED\r\n"); ok && login != "" {
		answer = rest
	}
	return answer, err
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
		output, _ := bufio.NewReader(stderr).ReadString('\n')
		_ = cmd.Wait()
		return fmt.Errorf("memcached on %s: %w: %s", s.Addr(), err, strings.TrimSpace(output))
	}
	s.cmd = cmd
	return nil
}

// await returns when the process answers on the port, or has exited. A server does not report that
// it listens, so await has to poll. The answer must contain the PID, because it could come from
// another server.
func (s *Server) await(pid int) error {
	for {
		if answer, err := s.Command("stats"); err == nil {
			if strings.Contains(answer, fmt.Sprintf("STAT pid %d\r\n", pid)) {
				return nil
			}
			return errors.New("another server has the port")
		}
		var status syscall.WaitStatus
		if exited, _ := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); exited == pid {
			return errors.New("exited at its start")
		}
		// A sleep in the kernel. time.Sleep would let virtual time pass in a bubble.
		_, _ = unix.Poll(nil, 5)
	}
}
