// Package memcached answers: which process holds the lease, according to one memcached server?
//
// It is a heartbeat.Store that uses the commands gets, add and cas, and reads the settings of the
// server when it connects. It never uses touch, delete or flush_all: they act on an entry regardless
// of its owner. So does set, which it sends only to log in, to a server that asks for a password and
// then stores nothing. It deletes its own entry by a cas with an expiration of -1. It keeps no
// deadline. It retries only after an idle connection turned out to be closed. It never distributes
// keys over several servers: two hosts that list the servers differently would hold two leases.
package memcached

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"gophd/internal/heartbeat"
)

// Limits of a server; see memcached's doc/protocol.txt.
const (
	maxKey   = 250
	maxValue = 1_000_000           // an item of the default -I 1m, less its header and key
	maxTTL   = 30 * 24 * time.Hour // the server reads a longer one as an absolute date
)

// Store is one memcached server. It has at most one connection and does one operation at a time;
// further callers wait.
type Store struct {
	address   string
	passwords string // path of the file with user and password; "" is none
	timeout   time.Duration
	semaphore chan struct{} // has one value during an operation; guards client and closed
	client    *memcache.Client
	closed    bool

	mu   sync.Mutex // a context may be canceled while a connection is being made
	conn *conn      // the one that was dialed last; the idle one, if there is one
}

// Open returns the store of the server at address: a host, a host:port or the path of a Unix
// socket. Each phase of an operation (the dial with its name lookup, the exchange) may take
// timeout; the whole operation may take twice that. Open does no I/O. The host name is resolved at
// each dial, because a server may move. If the name does not exist, the operations fail with an
// error that contains it.
//
// passwordFile is the path of a file that CheckPasswordFile accepts, or "". It is read at each dial
// to a server that asks for a password, because the password may change.
func Open(address, passwordFile string, timeout time.Duration) (*Store, error) {
	if timeout <= 0 {
		return nil, fmt.Errorf("timeout %s for memcached %s is not positive: use a value such as 500ms",
			timeout, address)
	}
	if strings.ContainsAny(address, ", \t\r\n") {
		return nil, fmt.Errorf("memcached %q is not one server: name a single host:port or socket path", address)
	}
	network := "tcp"
	if address != "" && !strings.ContainsAny(address, ":/") ||
		strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]") {
		address += ":11211" // memcached's default port
	}
	switch host, port, err := net.SplitHostPort(address); {
	case strings.Contains(address, "/"):
		network = "unix"
	case err != nil || host == "":
		return nil, fmt.Errorf("memcached %q is neither host:port nor the path of a socket: "+
			"write it like localhost:11211", address)
	default:
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("memcached %q: invalid port %q: use a number from 1 to 65535", address, port)
		}
	}
	client := memcache.NewFromSelector(server{network, address})
	client.Timeout = timeout
	client.MaxIdleConns = 1 // a restart of the server then costs one retry, not several
	return &Store{address: address, passwords: passwordFile, timeout: timeout,
		semaphore: make(chan struct{}, 1), client: client}, nil
}

// Traits reports the guarantees of one memcached. Measured: an entry with a ttl of n seconds lives
// for more than n-2 and at most n seconds. A restart loses all entries.
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
		return heartbeat.Entry{}, s.wrap(err)
	case item.Key != key:
		return heartbeat.Entry{}, s.wrap(fmt.Errorf("requested key %s, received key %s", key, item.Key))
	case item.CasID == 0: // a cas with id 0 would overwrite any entry
		return heartbeat.Entry{}, s.wrap(unfit("compare-and-swap (CAS) is switched off: start it without -C"))
	}
	return heartbeat.Entry{Value: item.Value, Token: item.CasID}, nil
}

// Add writes value if key has no entry. ttl is in whole seconds and at most 30 days. A fraction
// would have to be rounded, and an entry must not live longer than its owner asked for.
func (s *Store) Add(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	seconds, err := seconds(ttl)
	if err == nil {
		err = s.check(key, value)
	}
	if err != nil {
		return err
	}
	repeated, err := s.do(ctx, func() error {
		return s.client.Add(&memcache.Item{Key: key, Value: value, Expiration: seconds})
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, memcache.ErrNotStored) && !repeated:
		return heartbeat.ErrExists
	}
	return s.wrap(err)
}

// Swap writes value if the cas id of the entry is still that of old.
func (s *Store) Swap(ctx context.Context, key string, old heartbeat.Entry, value []byte, ttl time.Duration) error {
	seconds, err := seconds(ttl)
	if err != nil {
		return err
	}
	return s.cas(ctx, key, old, value, seconds)
}

// Expire removes the entry if its cas id is still that of old.
func (s *Store) Expire(ctx context.Context, key string, old heartbeat.Entry) error {
	return s.cas(ctx, key, old, nil, -1)
}

func (s *Store) cas(ctx context.Context, key string, old heartbeat.Entry, value []byte, seconds int32) error {
	id, ok := old.Token.(uint64)
	if !ok || id == 0 {
		return fmt.Errorf("the entry of key %s was not read from memcached %s: get it first", key, s.address)
	}
	if err := s.check(key, value); err != nil {
		return err
	}
	repeated, err := s.do(ctx, func() error {
		return s.client.CompareAndSwap(&memcache.Item{Key: key, Value: value, Expiration: seconds, CasID: id})
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, memcache.ErrCacheMiss), // documented by the library
		errors.Is(err, memcache.ErrNotStored): // returned by the library
		return heartbeat.ErrAbsent
	case errors.Is(err, memcache.ErrCASConflict) && !repeated:
		return heartbeat.ErrChanged
	}
	return s.wrap(err)
}

// Close closes the connection. It waits for the operation that is under way.
func (s *Store) Close() error {
	s.semaphore <- struct{}{}
	defer func() { <-s.semaphore }()
	s.closed = true
	return s.client.Close()
}

// do waits for other operations and runs op, for at most twice the timeout or until ctx is done. If
// the server closed an idle connection, only its use shows that. op then runs once more on a new
// connection, and repeated is true. The server may have executed the first attempt, so an answer
// that rejects the second one proves nothing.
func (s *Store) do(ctx context.Context, op func() error) (repeated bool, err error) {
	select {
	case s.semaphore <- struct{}{}:
		defer func() { <-s.semaphore }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if s.closed {
		return false, net.ErrClosed
	}
	limit := time.Now().Add(2 * s.timeout)
	dialed := false
	s.client.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		dialed = true
		return s.dial(ctx, limit, network, address)
	}
	s.setLimit(limit)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		s.setLimit(time.Unix(1, 0))
	})
	err = op()
	if !dialed && closedByPeer(err) {
		repeated = true
		err = op()
	}
	if !stop() {
		<-interrupted // otherwise it could interrupt the next operation
	}
	if cause := context.Cause(ctx); cause != nil && err != nil && !isAnswer(err) {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return repeated, err
}

// dial connects within one timeout. The library would look up the name only once and lose the
// error; the dialer looks it up each time.
func (s *Store) dial(ctx context.Context, limit time.Time, network, address string) (net.Conn, error) {
	phase, cancel := context.WithTimeout(ctx, min(s.timeout, time.Until(limit)))
	defer cancel()
	nc, err := new(net.Dialer).DialContext(phase, network, address)
	if err != nil {
		return nil, dialError(network, address, err)
	}
	c := &conn{Conn: nc}
	s.mu.Lock()
	s.conn = c
	s.mu.Unlock()
	c.setLimit(limit)
	err = ctx.Err() // ctx may have been canceled before s.conn was set
	if err == nil {
		err = checkServer(nc)
	}
	if errors.Is(err, errPassword) && s.passwords != "" {
		if err = authenticate(nc, s.passwords); err == nil {
			err = checkServer(nc)
		}
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// dialError adds the fix to an error of a dial to a Unix socket. A missing socket may be that of a
// server which is starting.
func dialError(network, address string, err error) error {
	if network != "unix" {
		return err
	}
	info, _ := os.Stat(address)
	switch {
	case info != nil && info.Mode()&fs.ModeSocket == 0:
		return unfit("it is not a socket: name the one of memcached -s")
	case errors.Is(err, fs.ErrPermission):
		return unfit(err.Error() + ": allow gophd's user to use it (memcached -a), and to enter its directory")
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: start memcached with -s %s", err, address)
	}
	return err
}

// checkServer returns an error if the server is not a memcached that can keep a lease. It sends the
// only command other than gets, add and cas, which changes nothing. An answer that the command is
// unknown is accepted, because a proxy may not know it (doc/protocol.txt, "Settings statistics").
func checkServer(c net.Conn) error {
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
		case strings.HasPrefix(line, "CLIENT_ERROR") && strings.Contains(line, "auth"):
			return errPassword
		case strings.HasPrefix(line, "CLIENT_ERROR"):
			return nil
		case line != "":
			return unfit(fmt.Sprintf("it is not a memcached: it answers %.40q: check host and port", line))
		case errors.Is(err, io.EOF), closedByPeer(err):
			return fmt.Errorf("it closed the connection without an answer "+
				"(it may be shutting down, or require TLS): %w", err)
		case err != nil:
			return err
		}
	}
}

// errPassword is returned for a server that answers nothing else before it has got a password (-Y).
var errPassword = unfit("it requires a password: name a file with user:password in heartbeat.password_file")

// maxSettings is many times the length of the answer in checkServer.
const maxSettings = 64 << 10

func unfit(reason string) error { return fmt.Errorf("%w: %s", heartbeat.ErrUnfit, reason) }

// setLimit sets the time at which all I/O on the connection fails, if there is a connection.
func (s *Store) setLimit(limit time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.setLimit(limit)
	}
}

// check returns an error for a key or value that a server would reject, or would read as two
// commands.
func (s *Store) check(key string, value []byte) error {
	switch {
	case key == "" || len(key) > maxKey:
		return fmt.Errorf("a key of %d bytes is not valid for memcached %s: it must have 1 to %d; "+
			"choose a shorter --name", len(key), s.address, maxKey)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("key %q is not valid for memcached %s: it has spaces or control characters; "+
			"choose another --name", key, s.address)
	case len(value) > maxValue:
		return fmt.Errorf("a value of %d bytes for key %s is too long for memcached %s: the maximum is %d",
			len(value), key, s.address, maxValue)
	}
	return nil
}

// wrap adds the server to an error that leaves the outcome of an operation unknown.
func (s *Store) wrap(err error) error { return fmt.Errorf("memcached %s: %w", s.address, err) }

func seconds(ttl time.Duration) (int32, error) {
	if ttl < 0 || ttl > maxTTL || ttl%time.Second != 0 {
		return 0, fmt.Errorf("ttl %s is not valid for memcached: use whole seconds, at most %s", ttl, maxTTL)
	}
	return int32(ttl / time.Second), nil
}

// closedByPeer reports whether err means that the other side closed the connection.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isAnswer reports whether err is an answer of the server, not the lack of one.
func isAnswer(err error) bool {
	return errors.Is(err, memcache.ErrCacheMiss) || errors.Is(err, memcache.ErrNotStored) ||
		errors.Is(err, memcache.ErrCASConflict)
}

// conn is a connection whose deadline the library cannot move past the limit of the operation. The
// library sets a new timeout for each line of a reply.
type conn struct {
	net.Conn
	mu    sync.Mutex
	limit time.Time

	firstLine []byte // of the answer that is being read, as far as it was received
	checked   bool   // firstLine is complete and was checked
}

// Errors for first lines of an answer that no memcached gives to gets, add or cas.
var (
	errTooLong = unfit(fmt.Sprintf("it announces a value of more than %d bytes, which gophd did not write", maxValue))
	errUnknown = unfit("it does not know the commands gets, add and cas: check host and port")
)

func (c *conn) Write(b []byte) (int, error) {
	c.firstLine, c.checked = nil, false // the next Read is the start of an answer
	return c.Conn.Write(b)
}

// Read checks the first line of an answer. It returns an error if the line announces a value that
// is too long, before the library allocates memory for it, or says that the command is unknown.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.checked {
		return n, err
	}
	line, _, whole := bytes.Cut(b[:n], []byte{'\n'})
	c.firstLine = append(c.firstLine, line...)
	if whole || len(c.firstLine) > maxKey+100 {
		c.checked = true
		// VALUE <key> <flags> <bytes> [<cas unique>] (doc/protocol.txt)
		if words := bytes.Fields(c.firstLine); len(words) > 3 && string(words[0]) == "VALUE" {
			if size, err := strconv.ParseUint(string(words[3]), 10, 64); err != nil || size > maxValue {
				return 0, errTooLong
			}
		}
		if string(bytes.TrimSpace(c.firstLine)) == "ERROR" {
			return 0, errUnknown
		}
	}
	return n, err
}

func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.limit) {
		t = c.limit
	}
	return c.Conn.SetDeadline(t)
}

// setLimit ignores a failure: it means that the connection is closed, and the next use reports
// that.
func (c *conn) setLimit(limit time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	_ = c.Conn.SetDeadline(limit)
}

// server is a memcache.ServerSelector with one address. Unlike the library's ServerList it does not
// resolve the name.
type server struct{ network, address string }

func (s server) Network() string                     { return s.network }
func (s server) String() string                      { return s.address }
func (s server) PickServer(string) (net.Addr, error) { return s, nil }
func (s server) Each(do func(net.Addr) error) error  { return do(s) }

var _ heartbeat.Store = (*Store)(nil)
