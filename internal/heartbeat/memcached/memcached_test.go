package memcached

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

// TestMain lets more tests run side by side than there are processors: they wait for ttls to pass.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestSuite(t *testing.T) {
	server := heartbeattest.Memcached(t)
	heartbeattest.Run(t, func(t *testing.T) heartbeat.Store { return opened(t, server.Addr()) })
}

func TestOpenRefuses(t *testing.T) {
	for address, want := range map[string]string{
		"":                    "host:port",
		"localhost":           "",
		"[::1]":               "",
		"::1":                 "host:port",
		":11211":              "host:port",
		"localhost:":          "port",
		"localhost:0":         "port",
		"localhost:65536":     "port",
		"localhost:memcache":  "port",
		"::1:11211":           "host:port",
		"a:11211,b:11211":     "not one server",
		"a,b":                 "not one server",
		"a:11211 b:11211":     "not one server",
		"/run/a, /run/b":      "not one server",
		"/run/memcached.sock": "",
		"[::1]:11211":         "",
		"nosuch.invalid:1":    "", // names may come to exist
	} {
		_, err := Open(address, time.Second)
		if (want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", address))) {
			t.Errorf("Open(%q): %v; want %q", address, err, want)
		}
	}
	for _, timeout := range []time.Duration{0, -1} {
		if _, err := Open("localhost:11211", timeout); err == nil {
			t.Errorf("Open with timeout %d succeeded", timeout)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	// A folder of /tmp: the path of a socket has 107 bytes.
	folder, err := os.MkdirTemp("", "mc")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	path := folder + "/s"
	l, err := net.Listen("unix", path)
	must(t, err)
	serve(t, l, func(_ int, request string) string { return "VALUE k 0 1 7\r\nx\r\nEND\r\n" })
	if e, err := opened(t, path).Get(t.Context(), "k"); err != nil || string(e.Value) != "x" {
		t.Errorf("Get by a socket: %q, %v; want x", e.Value, err)
	}
}

func TestUnresolvableNameIsNamed(t *testing.T) {
	t.Parallel()
	const host = "nosuch.invalid" // never exists (RFC 6761, section 6.4)
	_, err := opened(t, host+":11211").Get(t.Context(), "k")
	if err == nil || !strings.Contains(err.Error(), host) {
		t.Errorf("Get from a host that does not exist: %v; want its name", err)
	}
}

// A name is looked up at each dial: when a server has moved, the next dial finds it.
func TestNameIsResolvedAnew(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	serve(t, l, func(int, string) string { return "VALUE k 0 1 7\r\nx\r\nEND\r\n" })
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)

	address := [4]byte{127, 0, 0, 2} // nobody listens there
	var servers sync.WaitGroup
	defer servers.Wait()
	system := net.DefaultResolver
	defer func() { net.DefaultResolver = system }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		answer := address
		servers.Go(func() { serveName(server, answer) })
		return client, nil
	}}
	s := opened(t, "cache.test.:"+port)
	_, err = s.Get(t.Context(), "k")
	unknown(t, "Get at the old address", err)
	if !strings.Contains(err.Error(), "cache.test.:"+port) {
		t.Errorf("Get at the old address: %v; want the server as it was named", err)
	}
	address = [4]byte{127, 0, 0, 1}
	if e, err := s.Get(t.Context(), "k"); err != nil || string(e.Value) != "x" {
		t.Errorf("Get at the new address: %q, %v; want x", e.Value, err)
	}
}

func TestSilentNameServerIsBounded(t *testing.T) {
	system := net.DefaultResolver
	defer func() { net.DefaultResolver = system }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	_, err := hasty(t, "cache.test.:1").Get(t.Context(), "k") // it returns, although no answer ever comes
	unknown(t, "Get without a name server", err)
}

// What the config lets pass, the operations refuse in words that help.
func TestUnfitKeysAreNamed(t *testing.T) {
	s := opened(t, "127.0.0.1:1") // nobody is asked
	for key, want := range map[string]string{
		strings.Repeat("k", 251): "shorter --name",
		"two words":              `"two words"`,
		"a\x7f":                  "another --name",
		"":                       "--name",
	} {
		if _, err := s.Get(t.Context(), key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Get of key %.20q: %v; want %q", key, err, want)
		}
	}
}

// serveName answers questions for an IPv4 address, and all others with nothing (RFC 1035, sections 4.1 and 4.2.2).
func serveName(c net.Conn, address [4]byte) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		end := 12
		for query[end] != 0 {
			end += 1 + int(query[end])
		}
		end += 5
		isA := query[end-3] == 1
		reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
		if isA {
			reply[7] = 1
			reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			reply = append(reply, address[:]...)
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// The real server, broken in ways that need no lease.

func TestEOFOnIdleConnectionIsNoOutage(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	s, ctx := opened(t, server.Addr()), t.Context()
	must(t, s.Add(ctx, "k", []byte("1"), 0))
	old, err := s.Get(ctx, "k")
	must(t, err)
	for name, op := range map[string]func() error{
		"Get":    func() error { _, err := s.Get(ctx, "k"); return err },
		"Swap":   func() error { return s.Swap(ctx, "k", old, []byte("2"), 0) },
		"Expire": func() error { return s.Expire(ctx, "k", old) },
	} {
		must(t, server.Restart())
		if err := op(); !errors.Is(err, heartbeat.ErrAbsent) {
			t.Errorf("%s after a restart: %v; want ErrAbsent, by one attempt", name, err)
		}
	}
	must(t, server.Restart())
	must(t, s.Add(ctx, "k", []byte("3"), 0))
}

func TestGhosts(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	s, ctx := opened(t, server.Addr()), t.Context()
	must(t, s.Add(ctx, "idle", nil, 0)) // there is a connection for the write to be sent on

	must(t, server.Pause())
	unknown(t, "Add to a hung server", during(t, func(ctx context.Context) error { return s.Add(ctx, "k", []byte("ghost"), 0) }))
	must(t, server.Resume())
	e := eventually(t, s, "k")
	if string(e.Value) != "ghost" {
		t.Fatalf("after Resume: %q; want the write that timed out", e.Value)
	}
	must(t, s.Swap(ctx, "k", e, []byte("adopted"), 0)) // from here on it is ours for certain

	e, err := s.Get(ctx, "k")
	must(t, err)
	must(t, server.Pause())
	unknown(t, "Swap on a hung server", during(t, func(ctx context.Context) error { return s.Swap(ctx, "k", e, []byte("late"), 0) }))
	must(t, server.Resume())
	for string(e.Value) != "late" { // the write that timed out
		time.Sleep(5 * time.Millisecond)
		e, err = s.Get(ctx, "k")
		must(t, err)
	}
}

func TestTooManyConnectionsIsUnknown(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t, "-t", "1", "-c", "32")
	first := opened(t, server.Addr())
	must(t, first.Add(t.Context(), "k", nil, 0))
	refused := 0
	for range 36 {
		s := hasty(t, server.Addr())
		err := s.Add(t.Context(), "k", nil, 0)
		if err != nil && !errors.Is(err, heartbeat.ErrExists) {
			refused++
			if _, err := s.Get(t.Context(), "k"); err == nil || errors.Is(err, heartbeat.ErrAbsent) {
				t.Errorf("Get on a full server: %v; want unknown", err)
			}
		}
	}
	if refused == 0 {
		t.Error("a server for 32 connections took 37")
	}
}

func TestServerWithoutCAS(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t, "-C")
	s := opened(t, server.Addr())
	must(t, s.Add(t.Context(), "k", []byte("x"), 0))
	if _, err := s.Get(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "without -C") {
		t.Errorf("Get from a server without cas: %v; want the option named", err)
	}
}

func TestHungServerIsBounded(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	must(t, server.Pause())
	s := hasty(t, server.Addr())
	for _, name := range []string{"first", "second"} { // they return, although no answer comes before Resume
		unknown(t, name+" Add to a hung server", s.Add(t.Context(), "k", nil, 0))
	}
	slow, err := Open(server.Addr(), 24*time.Hour)
	must(t, err)
	defer slow.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := slow.Add(ctx, "k", nil, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Add with a context that ended: %v; want its error, before the timeout", err)
	}
	must(t, server.Resume())
	eventually(t, s, "k") // nothing of a cut operation is left on the connection
}

// A fake server, for the answers that the real one gives too seldom.

func TestRepeatedWriteRefusedIsUnknown(t *testing.T) {
	t.Parallel()
	get := "VALUE k 0 1 7\r\nx\r\nEND\r\n"
	for name, c := range map[string]struct {
		again string // to the write on the second connection
		op    func(context.Context, *Store, heartbeat.Entry) error
		want  error // nil: unknown
	}{
		"Add stored, reply lost":    {"NOT_STORED\r\n", add, nil},
		"Swap stored, reply lost":   {"EXISTS\r\n", swap, nil},
		"Swap stored, then gone":    {"NOT_FOUND\r\n", swap, heartbeat.ErrAbsent},
		"Swap, gone, as documented": {"NOT_STORED\r\n", swap, heartbeat.ErrAbsent},
		"Expire done, reply lost":   {"NOT_FOUND\r\n", expire, heartbeat.ErrAbsent},
		"Expire done, then beaten":  {"EXISTS\r\n", expire, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			serve(t, l, func(connection int, request string) string {
				switch {
				case strings.HasPrefix(request, "gets"):
					return get
				case connection == 0:
					return "" // executed, and the connection ends
				}
				return c.again
			})
			s := opened(t, l.Addr().String())
			old, err := s.Get(t.Context(), "k")
			must(t, err)
			err = c.op(t.Context(), s, old)
			if c.want == nil {
				unknown(t, "the write", err)
			} else if !errors.Is(err, c.want) {
				t.Errorf("the write: %v; want %v", err, c.want)
			}
		})
	}
}

func TestOddRepliesAreUnknown(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		"SERVER_ERROR out of memory storing object\r\n",
		"ERROR Too many open connections\r\n",
		"ERROR\r\n",
		"CLIENT_ERROR bad data chunk\r\n",
		"STORED",
		"stored\r\n",
		"VALUE other 0 1 7\r\nx\r\nEND\r\n",
		"\x80\x00\x00\x00\r\n",
		strings.Repeat("x", 100_000),
		"",
	} {
		t.Run(fmt.Sprintf("%.20q", reply), func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			serve(t, l, func(int, string) string { return reply })
			s := hasty(t, l.Addr().String()) // some of these are no whole reply
			_, err = s.Get(t.Context(), "k")
			unknown(t, "Get", err)
			unknown(t, "Add", add(t.Context(), s, heartbeat.Entry{}))
			unknown(t, "Swap", swap(t.Context(), s, heartbeat.Entry{Token: uint64(7)}))
			unknown(t, "Expire", expire(t.Context(), s, heartbeat.Entry{Token: uint64(7)}))
		})
	}
}

// The library grants a new timeout for each line; the operation is bounded all the same.
func TestDrippingReplyIsBounded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			select {
			case <-stop:
				return
			case <-time.After(brief / 2):
				if _, err := io.WriteString(c, "VALUE k 0 1 7\r\nx\r\n"); err != nil {
					<-stop
					return
				}
			}
		}
	}()
	_, err = hasty(t, l.Addr().String()).Get(t.Context(), "k") // it returns, although the reply goes on
	unknown(t, "Get", err)
	close(stop)
	<-done
}

// TestCommands reads the source: of the library, only what acts on our own entries is used.
func TestCommands(t *testing.T) {
	allowed := map[string]bool{"Get": true, "Add": true, "CompareAndSwap": true, "Close": true, "DialContext": true, "Timeout": true, "MaxIdleConns": true}
	check := func(name string, source any) (forbidden []string, uses int) {
		f, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
		must(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			use, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			on := ""
			switch x := use.X.(type) {
			case *ast.Ident:
				on = x.Name
			case *ast.SelectorExpr:
				on = x.Sel.Name
			}
			switch {
			case on != "client": // the one name that a client has in this package
				switch use.Sel.Name {
				case "Set", "Touch", "GetAndTouch", "Delete", "DeleteAll", "FlushAll", "Replace", "Append", "Prepend", "Increment", "Decrement":
					forbidden = append(forbidden, use.Sel.Name)
				}
			case !allowed[use.Sel.Name]:
				forbidden = append(forbidden, use.Sel.Name)
			default:
				uses++
			}
			return true
		})
		return forbidden, uses
	}
	if forbidden, uses := check("memcached.go", nil); len(forbidden) > 0 || uses < 4 {
		t.Errorf("memcached.go uses %q of the client, and %d that is allowed; want none that acts on others' entries", forbidden, uses)
	}
	for _, planted := range []string{"s.client.Delete(k)", "client.Touch(k, 1)", "other.FlushAll()", "s.client.Set(nil)"} {
		if forbidden, _ := check("planted.go", "package p\nfunc f() { "+planted+" }"); len(forbidden) != 1 {
			t.Errorf("%s was not noticed", planted)
		}
	}
}

const (
	patience = 5 * time.Minute // with a server that answers
	brief    = time.Second     // with one that does not
)

// during is an operation on a server that hangs: it is given up after a moment, in which its request has been sent.
func during(t *testing.T, op func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), brief)
	defer cancel()
	return op(ctx)
}

func add(ctx context.Context, s *Store, _ heartbeat.Entry) error {
	return s.Add(ctx, "k", []byte("y"), 0)
}

func swap(ctx context.Context, s *Store, old heartbeat.Entry) error {
	return s.Swap(ctx, "k", old, []byte("y"), 0)
}

func expire(ctx context.Context, s *Store, old heartbeat.Entry) error {
	return s.Expire(ctx, "k", old)
}

// serve answers each request with what reply says, by the number of its connection; an empty answer
// closes the connection. It ends with the test.
func serve(t *testing.T, l net.Listener, reply func(connection int, request string) string) {
	ended := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(c)
			for {
				request, err := in.ReadString('\n')
				if err != nil {
					break
				}
				if !strings.HasPrefix(request, "get") {
					if _, err := in.ReadString('\n'); err != nil {
						break
					}
				}
				answer := reply(n, request)
				if _, err := io.WriteString(c, answer); err != nil || answer == "" {
					break
				}
			}
			c.Close()
		}
	}()
}

// opened is a store for a server that answers, on a machine as busy as may be.
func opened(t *testing.T, address string) *Store {
	t.Helper()
	return within(t, address, patience)
}

// hasty is a store for a server that does not answer, or not in full.
func hasty(t *testing.T, address string) *Store {
	t.Helper()
	return within(t, address, brief)
}

func within(t *testing.T, address string, timeout time.Duration) *Store {
	t.Helper()
	s, err := Open(address, timeout)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// eventually returns the entry of key when there is one.
func eventually(t *testing.T, s *Store, key string) heartbeat.Entry {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		e, err := s.Get(t.Context(), key)
		if err == nil {
			return e
		}
		if time.Now().After(end) {
			t.Fatalf("Get of %s: %v", key, err)
		}
	}
}

func unknown(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, heartbeat.ErrAbsent) || errors.Is(err, heartbeat.ErrExists) || errors.Is(err, heartbeat.ErrChanged) {
		t.Errorf("%s: %v; want an error that is no refusal", what, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
