// Package memcached answers: who has the heartbeat, according to one memcached server?
//
// It is a heartbeat.Store that speaks gets, add and cas, and asks a server for its settings when it connects. set, touch, delete and
// flush_all act on an entry whoever owns it, and "cas with an expiration of -1" is the delete that
// does not. It keeps no deadline, retries nothing but a dead idle connection, and never spreads keys
// over several servers: two hosts that list them differently would hold two heartbeats.
package memcached

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"gophd/internal/heartbeat"
)

// What a server takes; see memcached's doc/protocol.txt.
const (
	maxKey   = 250
	maxValue = 1_000_000           // an item of the default -I 1m, less its header and key
	maxTTL   = 30 * 24 * time.Hour // anything longer is read as an absolute date
)

// Store is one memcached server. It has at most one connection and does one operation at a time;
// further callers wait their turn.
type Store struct {
	address string
	timeout time.Duration
	turn    chan struct{} // holds one value while an operation is under way; guards what follows
	client  *memcache.Client
	closed  bool

	mu   sync.Mutex // a context that ends meets a connection that is being made
	conn *conn      // the one that was dialled last; the idle one, if there is one
}

// Open returns the store of the server at address, a host, a host:port or the path of a Unix socket. A phase
// of an operation (the dial with its name lookup, the exchange) may take timeout, a whole operation
// twice that. It does no I/O: a name is resolved at each dial, for servers move, so a name that
// does not exist is the error of the operations, each of which names it.
func Open(address string, timeout time.Duration) (*Store, error) {
	if timeout <= 0 {
		return nil, fmt.Errorf("timeout %s of memcached %s is not positive: give it some 500ms", timeout, address)
	}
	if strings.ContainsAny(address, ", \t\r\n") {
		return nil, fmt.Errorf("memcached %q is not one server: name a single host:port or socket path", address)
	}
	network := "tcp"
	if address != "" && !strings.ContainsAny(address, ":/") || strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]") {
		address += ":11211" // memcached's own
	}
	switch host, port, err := net.SplitHostPort(address); {
	case strings.Contains(address, "/"):
		network = "unix"
	case err != nil || host == "":
		return nil, fmt.Errorf("memcached %q is not host:port nor the path of a socket: write it as in localhost:11211", address)
	default:
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("memcached %q has port %q: a number from 1 to 65535 is wanted", address, port)
		}
	}
	client := memcache.NewFromSelector(server{network, address})
	client.Timeout = timeout
	client.MaxIdleConns = 1 // a restart of the server then costs one retry, not several
	return &Store{address: address, timeout: timeout, turn: make(chan struct{}, 1), client: client}, nil
}

// Traits tells what one memcached can be trusted with: an entry of n seconds was seen to live
// (n-2, n], and all memory is lost in a restart.
func (s *Store) Traits() heartbeat.Traits {
	return heartbeat.Traits{Margin: 2 * time.Second, MinTTL: 5 * time.Second, Granularity: time.Second}
}

// Get reads the entry of key. Its Token is the cas id.
func (s *Store) Get(ctx context.Context, key string) (heartbeat.Entry, error) {
	if err := s.check(key, nil); err != nil {
		return heartbeat.Entry{}, err
	}
	var item *memcache.Item
	_, err := s.do(ctx, func() (err error) {
		item, err = s.client.Get(key)
		return err
	})
	switch {
	case errors.Is(err, memcache.ErrCacheMiss):
		return heartbeat.Entry{}, heartbeat.ErrAbsent
	case err != nil:
		return heartbeat.Entry{}, s.unknown(err)
	case item.Key != key:
		return heartbeat.Entry{}, s.unknown(fmt.Errorf("asked for %s and was given %s", key, item.Key))
	case item.CasID == 0: // with 0 for an id, a cas would overwrite whatever is there
		return heartbeat.Entry{}, s.unknown(unfit("compare-and-swap (CAS) is switched off: start it without -C"))
	}
	return heartbeat.Entry{Value: item.Value, Token: item.CasID}, nil
}

// Add writes value if there is none. ttl is in whole seconds and at most 30 days: a fraction could
// only be rounded, and a lease must not live longer than was asked at the expense of others.
func (s *Store) Add(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	seconds, err := seconds(ttl)
	if err == nil {
		err = s.check(key, value)
	}
	if err != nil {
		return err
	}
	again, err := s.do(ctx, func() error {
		return s.client.Add(&memcache.Item{Key: key, Value: value, Expiration: seconds})
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, memcache.ErrNotStored) && !again:
		return heartbeat.ErrExists
	}
	return s.unknown(err)
}

// Swap writes value if the cas id is still that of old.
func (s *Store) Swap(ctx context.Context, key string, old heartbeat.Entry, value []byte, ttl time.Duration) error {
	seconds, err := seconds(ttl)
	if err != nil {
		return err
	}
	return s.cas(ctx, key, old, value, seconds)
}

// Expire removes the entry if the cas id is still that of old.
func (s *Store) Expire(ctx context.Context, key string, old heartbeat.Entry) error {
	return s.cas(ctx, key, old, nil, -1)
}

func (s *Store) cas(ctx context.Context, key string, old heartbeat.Entry, value []byte, seconds int32) error {
	id, ok := old.Token.(uint64)
	if !ok || id == 0 {
		return fmt.Errorf("entry of key %s was not read from memcached %s: get it first", key, s.address)
	}
	if err := s.check(key, value); err != nil {
		return err
	}
	again, err := s.do(ctx, func() error {
		return s.client.CompareAndSwap(&memcache.Item{Key: key, Value: value, Expiration: seconds, CasID: id})
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, memcache.ErrCacheMiss), errors.Is(err, memcache.ErrNotStored): // the library documents one and returns the other
		return heartbeat.ErrAbsent
	case errors.Is(err, memcache.ErrCASConflict) && !again:
		return heartbeat.ErrChanged
	}
	return s.unknown(err)
}

// Close ends the connection. It waits for the operation under way.
func (s *Store) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.closed = true
	return s.client.Close()
}

// do runs op when its turn comes, within twice the timeout and until ctx ends. A connection that
// the server closed while it was idle is found out only by its use, so op is then run once more on
// a new one, and again is true: the first attempt may have been executed, so that a refusal of the
// second one proves nothing.
func (s *Store) do(ctx context.Context, op func() error) (again bool, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if s.closed {
		return false, net.ErrClosed
	}
	end := time.Now().Add(2 * s.timeout)
	dialled := false
	s.client.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		dialled = true
		return s.dial(ctx, end, network, address)
	}
	s.bound(end)
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		s.bound(time.Unix(1, 0))
	})
	err = op()
	if !dialled && broken(err) {
		again = true
		err = op()
	}
	if !stop() {
		<-cut // else it could cut the next operation short
	}
	if ended := context.Cause(ctx); ended != nil && err != nil && !refused(err) {
		err = fmt.Errorf("%w (%w)", err, ended)
	}
	return again, err
}

// dial connects within one timeout. The library looks names up once, and loses the error; the
// dialer does it each time.
func (s *Store) dial(ctx context.Context, end time.Time, network, address string) (net.Conn, error) {
	phase, cancel := context.WithTimeout(ctx, min(s.timeout, time.Until(end)))
	defer cancel()
	nc, err := new(net.Dialer).DialContext(phase, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc}
	s.mu.Lock()
	s.conn = c
	s.mu.Unlock()
	c.bound(end)
	err = ctx.Err() // it may have ended before the connection could be seen by bound
	if err == nil {
		err = examine(nc)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// examine asks who is there, by the one command beside gets, add and cas; it changes nothing. What is not known is
// taken for a memcached, for a proxy before one may not know the command (doc/protocol.txt, "Settings statistics").
func examine(c net.Conn) error {
	if _, err := io.WriteString(c, "stats settings\r\n"); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(io.LimitReader(c, maxSettings), 1<<10)
	for {
		text, err := lines.ReadSlice('\n')
		line := strings.TrimRight(string(text), "\r\n")
		setting, stat := strings.CutPrefix(line, "STAT ")
		switch {
		case setting == "cas_enabled no":
			return unfit("compare-and-swap (CAS) is switched off: start it without -C")
		case stat && err == nil:
			continue
		case line == "END", line == "RESET", line == "ERROR", strings.HasPrefix(line, "SERVER_ERROR"):
			return nil
		case strings.Contains(line, "auth") || strings.HasPrefix(line, "-NOAUTH"):
			return unfit("it wants a password, and gophd has none to give: start it without -Y and -S")
		case strings.HasPrefix(line, "CLIENT_ERROR"):
			return nil
		case line != "":
			return unfit(fmt.Sprintf("it is no memcached, since it answers %.40q: check host and port", line))
		case errors.Is(err, io.EOF), broken(err):
			return fmt.Errorf("it closes the connection without an answer, as one does that shuts down or wants TLS: %w", err)
		case err != nil:
			return err
		}
	}
}

// maxSettings is many times the length of the answer to examine.
const maxSettings = 64 << 10

func unfit(why string) error { return fmt.Errorf("%w: %s", heartbeat.ErrUnfit, why) }

// bound lets the connection, if there is one, work until end and not beyond.
func (s *Store) bound(end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.bound(end)
	}
}

// check refuses what a server would refuse, or worse, would take for two commands.
func (s *Store) check(key string, value []byte) error {
	switch {
	case key == "" || len(key) > maxKey:
		return fmt.Errorf("key of %d bytes does not suit memcached %s: 1 to %d are wanted; choose a shorter --name", len(key), s.address, maxKey)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("key %q does not suit memcached %s: it has spaces or control characters; choose another --name", key, s.address)
	case len(value) > maxValue:
		return fmt.Errorf("value of %d bytes for key %s does not suit memcached %s: at most %d are taken", len(value), key, s.address, maxValue)
	}
	return nil
}

func (s *Store) unknown(err error) error { return fmt.Errorf("memcached %s: %w", s.address, err) }

func seconds(ttl time.Duration) (int32, error) {
	if ttl < 0 || ttl > maxTTL || ttl%time.Second != 0 {
		return 0, fmt.Errorf("ttl %s does not suit memcached: whole seconds up to %s are wanted", ttl, maxTTL)
	}
	return int32(ttl / time.Second), nil
}

// broken says that the other side had closed the connection.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// refused says that err is an answer of the server and not the lack of one.
func refused(err error) bool {
	return errors.Is(err, memcache.ErrCacheMiss) || errors.Is(err, memcache.ErrNotStored) || errors.Is(err, memcache.ErrCASConflict)
}

// conn is a connection whose deadlines the library moves only within the bound of the operation:
// it grants a new timeout for each line of a reply.
type conn struct {
	net.Conn
	mu  sync.Mutex
	end time.Time

	head    []byte // of the answer that is being read: its first line as far as it has come
	checked bool   // that line was read
}

// What the first line of an answer may be that no memcached gives to gets, add or cas.
var (
	errTooLong = unfit(fmt.Sprintf("it announces a value of more than %d bytes, which gophd did not write", maxValue))
	errUnknown = unfit("it does not know the commands gets, add and cas: check host and port")
)

func (c *conn) Write(b []byte) (int, error) {
	c.head, c.checked = nil, false // an answer begins
	return c.Conn.Write(b)
}

// Read refuses an answer by its first line: one that announces a value that is too long, before the library makes room
// for it, and one that says that the command is unknown.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.checked {
		return n, err
	}
	line, _, whole := bytes.Cut(b[:n], []byte{'\n'})
	c.head = append(c.head, line...)
	if whole || len(c.head) > maxKey+100 {
		c.checked = true
		// VALUE <key> <flags> <bytes> [<cas unique>] (doc/protocol.txt)
		if words := bytes.Fields(c.head); len(words) > 3 && string(words[0]) == "VALUE" {
			if size, err := strconv.ParseUint(string(words[3]), 10, 64); err != nil || size > maxValue {
				return 0, errTooLong
			}
		}
		if string(bytes.TrimSpace(c.head)) == "ERROR" {
			return 0, errUnknown
		}
	}
	return n, err
}

func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.end) {
		t = c.end
	}
	return c.Conn.SetDeadline(t)
}

// bound moves the bound; a failure means that the connection is closed, which its next use tells.
func (c *conn) bound(end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = end
	_ = c.Conn.SetDeadline(end)
}

// server is the one address, for the library's choice of servers by key. Unlike the library's own
// list it is not resolved here.
type server struct{ network, address string }

func (s server) Network() string                     { return s.network }
func (s server) String() string                      { return s.address }
func (s server) PickServer(string) (net.Addr, error) { return s, nil }
func (s server) Each(do func(net.Addr) error) error  { return do(s) }

var _ heartbeat.Store = (*Store)(nil)
