package memcached

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
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
	"testing/synctest"
	"time"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

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
	s := opened(t, host+":11211")
	grant(s, brief) // the machine may have a name server that is silent
	_, err := s.Get(t.Context(), "k")
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
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := opened(t, "cache.test.:1")
		grant(s, brief) // less than the resolver's own
		_, err := s.Get(t.Context(), "k")
		unknown(t, "Get without a name server", err)
		if took := time.Since(began); took > brief {
			t.Errorf("a dial took %s; want at most one timeout of %s", took, brief)
		}
	})
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
	timeOutAfterWrite(s)
	unknown(t, "Add to a hung server", s.Add(ctx, "k", []byte("ghost"), 0))
	must(t, server.Resume())
	e := eventually(t, s, "k")
	if string(e.Value) != "ghost" {
		t.Fatalf("after Resume: %q; want the write that timed out", e.Value)
	}
	must(t, s.Swap(ctx, "k", e, []byte("adopted"), 0)) // from here on it is ours for certain

	e, err := s.Get(ctx, "k")
	must(t, err)
	must(t, server.Pause())
	timeOutAfterWrite(s)
	unknown(t, "Swap on a hung server", s.Swap(ctx, "k", e, []byte("late"), 0))
	must(t, server.Resume())
	for string(e.Value) != "late" { // the write that timed out
		time.Sleep(5 * time.Millisecond)
		e, err = s.Get(ctx, "k")
		must(t, err)
	}
}

// timeOutAfterWrite lets the next operation on the idle connection time out when it is sent.
func timeOutAfterWrite(s *Store) {
	s.conn.Conn = &impatient{s.conn.Conn, s.conn}
}

type impatient struct {
	net.Conn
	bounded *conn
}

func (i *impatient) Write(b []byte) (int, error) {
	n, err := i.Conn.Write(b)
	i.bounded.bound(time.Unix(1, 0))
	return n, err
}

func TestTooManyConnectionsIsUnknown(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t, "-t", "1", "-c", "32")
	first := opened(t, server.Addr())
	must(t, first.Add(t.Context(), "k", nil, 0))
	refused := 0
	for range 48 {
		s := opened(t, server.Addr())
		err := s.Add(t.Context(), "k", nil, 0)
		if err != nil && !errors.Is(err, heartbeat.ErrExists) {
			refused++
			if _, err := s.Get(t.Context(), "k"); err == nil || errors.Is(err, heartbeat.ErrAbsent) {
				t.Errorf("Get on a full server: %v; want unknown", err)
			}
		}
	}
	if refused == 0 {
		t.Error("a server for 32 connections took 49")
	}
}

func TestServerWithoutCAS(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t, "-C")
	s := opened(t, server.Addr())
	if err := s.Add(t.Context(), "k", []byte("x"), 0); err == nil || !strings.Contains(err.Error(), "without -C") {
		t.Errorf("Add to a server without cas: %v; want the option named", err)
	}
}

func TestHungServerIsBounded(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	slow := opened(t, server.Addr())
	if _, err := slow.Get(t.Context(), "k"); !errors.Is(err, heartbeat.ErrAbsent) { // it has a connection, on which it can send
		t.Fatal(err)
	}
	must(t, server.Pause())
	s := opened(t, server.Addr())
	grant(s, brief)
	for _, name := range []string{"first", "second"} { // without a bound it would not return
		unknown(t, name+" Add to a hung server", s.Add(t.Context(), "k", nil, 0))
	}

	// The bound of an operation is two timeouts, and a context that ends cuts it short.
	ctx, cancel := context.WithCancel(t.Context())
	added := make(chan error, 1)
	go func() { added <- slow.Add(ctx, "k", nil, 0) }()
	var end time.Time
	for end.IsZero() {
		time.Sleep(time.Millisecond)
		end = bound(slow)
	}
	if left := time.Until(end); left <= 0 || left > 2*patience {
		t.Errorf("an operation may take %s; want at most two timeouts of %s", left, patience)
	}
	select {
	case err := <-added:
		t.Errorf("Add to a hung server: %v; want it to wait", err)
	default:
	}
	cancel()
	if err := <-added; !errors.Is(err, context.Canceled) {
		t.Errorf("Add with a context that was cancelled: %v; want its error", err)
	}
	brevity, cancel := context.WithTimeout(t.Context(), brief)
	defer cancel()
	if err := slow.Add(brevity, "k", nil, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Add with a context that ended: %v; want its error", err)
	}
	must(t, server.Resume())
	grant(s, patience)
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
			s := opened(t, l.Addr().String())
			if reply == "STORED" {
				grant(s, brief) // the rest of the line never comes
			}
			_, err = s.Get(t.Context(), "k")
			unknown(t, "Get", err)
			unknown(t, "Add", add(t.Context(), s, heartbeat.Entry{}))
			unknown(t, "Swap", swap(t.Context(), s, heartbeat.Entry{Token: uint64(7)}))
			unknown(t, "Expire", expire(t.Context(), s, heartbeat.Entry{Token: uint64(7)}))
		})
	}
}

// The library grants a new timeout for each line; the operation is bounded all the same. The reply has
// no end and the timeout is an hour, so a Get that ignores its bound does not return.
func TestDrippingReplyIsBounded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	s := opened(t, l.Addr().String())
	got := make(chan error, 1)
	go func() {
		_, err := s.Get(t.Context(), "k")
		got <- err
	}()
	c, err := l.Accept()
	must(t, err)
	in := bufio.NewReader(c)
	_, err = in.ReadString('\n') // that of examine
	must(t, err)
	_, err = io.WriteString(c, "END\r\n")
	must(t, err)
	_, err = in.ReadString('\n') // gets: what came before it would be an answer to nothing
	must(t, err)
	flowing, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			if n == 1000 {
				close(flowing)
			}
			if _, err := io.WriteString(c, "VALUE k 0 1 7\r\nx\r\n"); err != nil {
				return
			}
		}
	}()
	<-flowing
	s.bound(time.Unix(1, 0)) // as if the two timeouts had passed
	unknown(t, "Get", <-got)
	must(t, c.Close())
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
	// patience is the timeout of a store whose server answers, or refuses: no machine exceeds it.
	patience = time.Hour
	// brief is the timeout of a store whose server is silent. The test holds for any other too.
	brief = 20 * time.Millisecond
)

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
// closes the connection. It serves one connection at a time, until the client closes it, and ends with
// the test.
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
				if strings.HasPrefix(request, "stats ") { // that of examine
					if _, err := io.WriteString(c, "END\r\n"); err != nil {
						break
					}
					continue
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

func opened(t *testing.T, address string) *Store {
	t.Helper()
	s, err := Open(address, patience)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// grant sets the timeout of the store, between two operations.
func grant(s *Store, timeout time.Duration) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.timeout, s.client.Timeout = timeout, timeout
}

// bound returns the bound of the operation under way, zero while it has no connection.
func bound(s *Store) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return time.Time{}
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.conn.end
}

// eventually returns the entry of key when there is one.
func eventually(t *testing.T, s *Store, key string) heartbeat.Entry {
	t.Helper()
	for {
		e, err := s.Get(t.Context(), key)
		if err == nil {
			return e
		}
		if !errors.Is(err, heartbeat.ErrAbsent) {
			t.Fatalf("Get of %s: %v", key, err)
		}
		time.Sleep(5 * time.Millisecond)
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
