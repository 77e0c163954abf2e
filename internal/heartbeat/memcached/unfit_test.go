package memcached

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

// If a server answers but cannot keep a lease, Run and Look fail at once. They do not wait as in an
// outage.
func TestUnfitServerFailsAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"without cas": {[]string{"-C"}, "compare-and-swap (CAS) is switched off: start it without -C"},
		"with a password": {
			[]string{"-Y", passwords(t)},
			"it requires a password: name a file with user:password in heartbeat.password_file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := heartbeattest.Memcached(t, c.args...)
				for _, standby := range []bool{false, true} {
					start := time.Now()
					i := heartbeattest.Launch(t, opened(t, server.Addr()), job, func(o *heartbeat.Options) {
						o.Standby = standby
					})
					wantUnfit(t, i.Wait(), c.want)
					if d := time.Since(start); d > 0 {
						t.Errorf("it took %v", d)
					}
				}
				wantUnfit(t, heartbeat.Look(t.Context(), opened(t, server.Addr()), job, time.Hour), c.want)
			})
		})
	}
	t.Run("HTTP", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		defer server.Close()
		s := opened(t, server.Listener.Addr().String())
		wantUnfit(t, heartbeat.Look(t.Context(), s, job, time.Hour),
			`it is not a memcached: it answers "HTTP/1.1 400 Bad Request": check host and port`)
	})
	for answer, want := range map[string]string{
		"-NOAUTH Authentication required.\r\n":       `not a memcached: it answers "-NOAUTH Authentication required."`,
		"-ERR unknown command 'stats'\r\n":           `not a memcached: it answers "-ERR unknown command 'stats'"`,
		"SSH-2.0-OpenSSH_9.2\r\n":                    `it is not a memcached: it answers "SSH-2.0-OpenSSH_9.2"`,
		strings.Repeat("x", 100_000):                 "it is not a memcached",
		"\x81\x00\x00\x00\x00\x00\x00\x81\x00\x00\n": "it is not a memcached", // memcached's binary protocol
	} {
		t.Run(fmt.Sprintf("%.12q", answer), func(t *testing.T) {
			s := opened(t, answering(t, func(string) string { return answer }))
			wantUnfit(t, heartbeat.Look(t.Context(), s, job, time.Hour), want)
		})
	}
	for answer, want := range map[string]string{
		"VALUE k 0 3000000000 1\r\nxxx": "it announces a value of more than 1000000 bytes",
		"ERROR\r\n":                     "it does not know the commands gets, add and cas",
	} {
		t.Run(fmt.Sprintf("%.12q to gets", answer), func(t *testing.T) {
			s := opened(t, answering(t, func(command string) string {
				if strings.HasPrefix(command, "gets") {
					return answer
				}
				return "ERROR\r\n" // as a proxy in front of a memcached may answer stats
			}))
			wantUnfit(t, heartbeat.Look(t.Context(), s, job, time.Hour), want)
		})
	}
}

// A server that closes the connection may be shutting down, so the answer is unknown and the caller
// may retry. The error also names TLS as a possible reason.
func TestServerThatClosesTheConnectionIsUnknown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-closed
	})
	_, err = opened(t, l.Addr().String()).Get(t.Context(), "k")
	unknown(t, "Get", err)
	const want = "it closed the connection without an answer (it may be shutting down, or require TLS)"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
}

func wantUnfit(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.Is(err, heartbeat.ErrUnfit) || !strings.Contains(err.Error(), want) ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v; want ErrUnfit: %s", err, want)
	}
}

// The store allocates no memory for a value that is longer than any that gophd writes.
func TestTooLongValueIsNotRead(t *testing.T) {
	s := opened(t, answering(t, func(command string) string {
		if strings.HasPrefix(command, "gets") {
			return "VALUE k 0 3000000000 1\r\nxxx"
		}
		return "END\r\n"
	}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := s.Get(t.Context(), "k")
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "announces a value of more than 1000000 bytes") {
		t.Errorf("got %v", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 10<<20 {
		t.Errorf("it allocated %d bytes", got)
	}
}

// answering starts a server that answers each line of a client, for answers that a real server does
// not give, and returns its address.
func answering(t *testing.T, answer func(line string) string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all goroutine.Group
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if _, err := c.Write([]byte(answer(lines.Text()))); err != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// passwords returns the path of a password file for memcached's -Y.
func passwords(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte("user:secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755)) // memcached runs as nobody when we are root
	}
	return path
}
