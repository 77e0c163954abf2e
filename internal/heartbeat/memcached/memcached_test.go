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
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

func TestSuite(t *testing.T) {
	login := passwords(t)
	for name, c := range map[string]struct {
		password string
		args     []string
	}{
		"port":                   {},
		"port, password":         {login, []string{"-Y", login}},
		"socket":                 {"", []string{"-s", socket(t), "-a", "777"}},
		"socket, password":       {login, []string{"-s", socket(t), "-a", "777", "-Y", login}},
		"password not asked for": {login, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := heartbeattest.Memcached(t, c.args...)
			heartbeattest.Run(t, func(t *testing.T) heartbeat.Store {
				return openedWith(t, server.Addr(), c.password)
			})
		})
	}
}

func TestOpenRejectsInvalidArguments(t *testing.T) {
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
		"nosuch.invalid:1":    "", // the name may exist later
	} {
		_, err := Open(address, "", time.Second)
		if (want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), fmt.Sprintf("%q", address))) {
			t.Errorf("Open(%q): %v; want %q", address, err, want)
		}
	}
	for _, timeout := range []time.Duration{0, -1} {
		if _, err := Open("localhost:11211", "", timeout); err == nil {
			t.Errorf("Open with timeout %d succeeded", timeout)
		}
	}
}

func TestErrorContainsUnresolvableName(t *testing.T) {
	t.Parallel()
	const host = "nosuch.invalid" // never exists (RFC 6761, section 6.4)
	s := opened(t, host+":11211")
	setTimeout(s, shortTimeout) // the machine's name server may give no answer
	_, err := s.Get(t.Context(), "k")
	if err == nil || !strings.Contains(err.Error(), host) {
		t.Errorf("Get from a host that does not exist: %v; want its name", err)
	}
}

// The name is looked up at each dial, so the next dial finds a server that has moved.
func TestNameIsResolvedAtEachDial(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	serve(t, l, func(int, string) string { return "VALUE k 0 1 7\r\nx\r\nEND\r\n" })
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)

	address := [4]byte{127, 0, 0, 2} // no process listens there
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
		t.Errorf("Get at the old address: %v; want the server's name in it", err)
	}
	address = [4]byte{127, 0, 0, 1}
	if e, err := s.Get(t.Context(), "k"); err != nil || string(e.Value) != "x" {
		t.Errorf("Get at the new address: %q, %v; want x", e.Value, err)
	}
}

func TestSilentNameServerCostsOneTimeout(t *testing.T) {
	system := net.DefaultResolver
	defer func() { net.DefaultResolver = system }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := opened(t, "cache.test.:1")
		setTimeout(s, shortTimeout) // shorter than the resolver's own
		_, err := s.Get(t.Context(), "k")
		unknown(t, "Get without a name server", err)
		if took := time.Since(start); took > shortTimeout {
			t.Errorf("a dial took %s; want at most one timeout of %s", took, shortTimeout)
		}
	})
}

// The config accepts these keys. The operations reject them with an error that names the fix.
func TestInvalidKeysAreRejected(t *testing.T) {
	s := opened(t, "127.0.0.1:1") // nothing is sent
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

// serveName answers queries for an IPv4 address with address, and other queries with an empty
// answer (RFC 1035, sections 4.1 and 4.2.2).
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

// Failures of the real server, without the engine.

func TestClosedIdleConnectionIsRetried(t *testing.T) {
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
			t.Errorf("%s after a restart: %v; want ErrAbsent from one call", name, err)
		}
	}
	must(t, server.Restart())
	must(t, s.Add(ctx, "k", []byte("3"), 0))
}

func TestTimedOutWriteMayHappenLater(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	s, ctx := opened(t, server.Addr()), t.Context()
	must(t, s.Add(ctx, "idle", nil, 0)) // opens the connection for the next write

	must(t, server.Pause())
	timeOutAfterWrite(s)
	unknown(t, "Add to a hung server", s.Add(ctx, "k", []byte("timed out"), 0))
	must(t, server.Resume())
	e := eventually(t, s, "k")
	if string(e.Value) != "timed out" {
		t.Fatalf("after Resume: %q; want the write that timed out", e.Value)
	}
	must(t, s.Swap(ctx, "k", e, []byte("adopted"), 0)) // the entry is certainly ours after this

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

// timeOutAfterWrite makes the next operation on the idle connection time out once it is sent.
func timeOutAfterWrite(s *Store) {
	s.conn.Conn = &timeoutAfterWriteConn{s.conn.Conn, s.conn}
}

type timeoutAfterWriteConn struct {
	net.Conn
	outer *conn
}

func (c *timeoutAfterWriteConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.outer.setLimit(time.Unix(1, 0))
	return n, err
}

func TestTooManyConnectionsIsUnknown(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t, "-t", "1", "-c", "32")
	first := opened(t, server.Addr())
	must(t, first.Add(t.Context(), "k", nil, 0))
	failed := 0
	for range 48 {
		s := opened(t, server.Addr())
		err := s.Add(t.Context(), "k", nil, 0)
		if err != nil && !errors.Is(err, heartbeat.ErrExists) {
			failed++
			if _, err := s.Get(t.Context(), "k"); err == nil || errors.Is(err, heartbeat.ErrAbsent) {
				t.Errorf("Get on a full server: %v; want unknown", err)
			}
		}
	}
	if failed == 0 {
		t.Error("a server for 32 connections accepted 49")
	}
}

func TestServerWithoutCAS(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t, "-C")
	s := opened(t, server.Addr())
	if err := s.Add(t.Context(), "k", []byte("x"), 0); err == nil || !strings.Contains(err.Error(), "without -C") {
		t.Errorf("Add to a server without cas: %v; want the option in it", err)
	}
}

func TestOperationOnHungServerIsBounded(t *testing.T) {
	t.Parallel()
	server := heartbeattest.Memcached(t)
	slow := opened(t, server.Addr())
	if _, err := slow.Get(t.Context(), "k"); !errors.Is(err, heartbeat.ErrAbsent) { // opens the connection
		t.Fatal(err)
	}
	must(t, server.Pause())
	s := opened(t, server.Addr())
	setTimeout(s, shortTimeout)
	for _, name := range []string{"first", "second"} { // without a limit it would not return
		unknown(t, name+" Add to a hung server", s.Add(t.Context(), "k", nil, 0))
	}

	// The limit of an operation is two timeouts. The end of its context interrupts it.
	ctx, cancel := context.WithCancel(t.Context())
	added := make(chan error, 1)
	go func() { added <- slow.Add(ctx, "k", nil, 0) }()
	var limit time.Time
	for limit.IsZero() {
		time.Sleep(time.Millisecond)
		limit = operationLimit(slow)
	}
	if left := time.Until(limit); left <= 0 || left > 2*longTimeout {
		t.Errorf("an operation may take %s; want at most two timeouts of %s", left, longTimeout)
	}
	select {
	case err := <-added:
		t.Errorf("Add to a hung server: %v; want it to wait", err)
	default:
	}
	cancel()
	if err := <-added; !errors.Is(err, context.Canceled) {
		t.Errorf("Add with a canceled context: %v; want its error", err)
	}
	short, cancel := context.WithTimeout(t.Context(), shortTimeout)
	defer cancel()
	if err := slow.Add(short, "k", nil, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Add with an expired context: %v; want its error", err)
	}
	must(t, server.Resume())
	setTimeout(s, longTimeout)
	eventually(t, s, "k") // no rest of an interrupted operation is on the connection
}

// Tests with a fake server, for answers that the real one rarely gives.

func TestRejectedRepeatedWriteIsUnknown(t *testing.T) {
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
		"Expire done, then claimed": {"EXISTS\r\n", expire, nil},
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
					return "" // executed, and the connection is closed
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

func TestUnexpectedRepliesAreUnknown(t *testing.T) {
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
				setTimeout(s, shortTimeout) // the rest of the line is never sent
			}
			_, err = s.Get(t.Context(), "k")
			unknown(t, "Get", err)
			unknown(t, "Add", add(t.Context(), s, heartbeat.Entry{}))
			unknown(t, "Swap", swap(t.Context(), s, heartbeat.Entry{Token: uint64(7)}))
			unknown(t, "Expire", expire(t.Context(), s, heartbeat.Entry{Token: uint64(7)}))
		})
	}
}

// The library sets a new timeout for each line. The limit of the operation still holds. The reply
// is endless and the timeout is an hour, so a Get that ignores its limit does not return.
func TestEndlessReplyIsBounded(t *testing.T) {
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
	_, err = in.ReadString('\n') // from checkServer
	must(t, err)
	_, err = io.WriteString(c, "END\r\n")
	must(t, err)
	_, err = in.ReadString('\n') // gets; an answer must not be sent before it
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
	s.setLimit(time.Unix(1, 0)) // as if two timeouts had passed
	unknown(t, "Get", <-got)
	must(t, c.Close())
	<-done
}

// The test parses the source: the package must use only those methods of the library that act on
// its own entries.
func TestOnlyCommandsOnOwnEntriesAreUsed(t *testing.T) {
	allowed := map[string]bool{
		"Get": true, "Add": true, "CompareAndSwap": true, "Close": true,
		"DialContext": true, "Timeout": true, "MaxIdleConns": true,
	}
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
			case on != "client": // the only name of a client in this package
				switch use.Sel.Name {
				case "Set", "Touch", "GetAndTouch", "Delete", "DeleteAll", "FlushAll",
					"Replace", "Append", "Prepend", "Increment", "Decrement":
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
		t.Errorf("memcached.go uses %q of the client, and %d allowed methods; "+
			"want no method that acts on entries of others", forbidden, uses)
	}
	for _, call := range []string{"s.client.Delete(k)", "client.Touch(k, 1)", "other.FlushAll()", "s.client.Set(nil)"} {
		if forbidden, _ := check("bad.go", "package p\nfunc f() { "+call+" }"); len(forbidden) != 1 {
			t.Errorf("%s was not detected", call)
		}
	}
}

const (
	// longTimeout is the timeout of a store whose server answers. No machine exceeds it.
	longTimeout = time.Hour
	// shortTimeout is the timeout of a store whose server does not answer. Any other value works
	// too.
	shortTimeout = 20 * time.Millisecond
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

// serve answers each request with the result of reply, which gets the number of the connection. An
// empty answer closes the connection. serve handles one connection at a time, until the client
// closes it, and stops at the end of the test.
func serve(t *testing.T, l net.Listener, reply func(connection int, request string) string) {
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
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
				if strings.HasPrefix(request, "stats ") { // from checkServer
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
	return openedWith(t, address, "")
}

func openedWith(t *testing.T, address, passwordFile string) *Store {
	t.Helper()
	s, err := Open(address, passwordFile, longTimeout)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// setTimeout sets the timeout of the store, between two operations.
func setTimeout(s *Store, timeout time.Duration) {
	s.semaphore <- struct{}{}
	defer func() { <-s.semaphore }()
	s.timeout, s.client.Timeout = timeout, timeout
}

// operationLimit returns the limit of the operation that is under way, or zero while it has no
// connection.
func operationLimit(s *Store) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return time.Time{}
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.conn.limit
}

// eventually waits until key has an entry and returns it.
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

// unknown fails the test unless err is an unknown answer, as heartbeat.Store defines it.
func unknown(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, heartbeat.ErrAbsent) || errors.Is(err, heartbeat.ErrExists) ||
		errors.Is(err, heartbeat.ErrChanged) {
		t.Errorf("%s: %v; want an unknown answer", what, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
