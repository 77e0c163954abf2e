package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/request"
	"gophd/internal/status"
)

// Daemon is what a Server shows and steers. When it ends, its methods return errors.
type Daemon interface {
	// Snapshot returns the state of the daemon now. It does not block.
	Snapshot() status.Snapshot
	// Request carries out a request, and returns when that has begun. An error is a
	// *request.RejectedError, or that of ctx.
	Request(ctx context.Context, r request.Request) error
	// Plan returns what a reload would change, after the check of a reload; nil if this version cannot tell.
	// It blocks as long as that check. An error is like that of Request.
	Plan(ctx context.Context) (*Plan, error)
	// RequestJob does so for a job. For a start it returns the request that the run will have, which may
	// be an earlier one that is the same. An error may also be a *request.UnknownJobError.
	RequestJob(ctx context.Context, r request.ForJob) (*job.Request, error)
}

// Options configure a Server.
type Options struct {
	Daemon Daemon
	Dir    string // the runtime directory; created if it is missing
	Group  *int   // whose members may use the socket; nil for none
	Record Record // Daemon of it names the socket
	Events *Events
	// Unused is called when the socket has not been used for a minute, and its memory is free. It must
	// not block.
	Unused func()
	// Panicked is called with the panic of a handler.
	Panicked func(*goroutine.Panic)
}

// maxConnections limits the connections at a time. Any other is closed at once.
const maxConnections = 256

// Times of a connection.
const (
	headerTime = 5 * time.Second // from its start to the end of the header of a request, and from there to that of the body
	writeTime  = 5 * time.Second // for an answer
	idleTime   = time.Minute     // between two requests, and from the last connection until the HTTP server is dropped
	finishTime = 250 * time.Millisecond
)

// Server is the socket of one daemon. Any goroutine may call its methods.
type Server struct {
	o      Options
	idle   time.Duration // idleTime
	ending chan struct{} // closed when Close and HandOff accept no connection any more

	reexecuting atomic.Bool  // HandOff was called
	readers     atomic.Int32 // goroutines that read logs

	mu        sync.Mutex // guards the fields below
	ended     bool       // Close or HandOff was called
	socket    *socket    // nil while it does not listen
	accepting goroutine.Group
	site      *site // nil while nobody uses the socket
}

// New returns a Server that does not listen yet.
func New(o Options) *Server {
	return &Server{o: o, idle: idleTime, ending: make(chan struct{})}
}

// Listen creates the socket and answers. It blocks while another gophd creates one in the same
// directory. After Close or HandOff it does nothing.
func (s *Server) Listen() error {
	return s.start(func() (*socket, error) { return listen(s.o.Dir, s.o.Group, s.o.Record) })
}

// Adopt is Listen with the socket of the old process. If the new config has another socket, or if the
// file of the old one was removed, it listens on a new one. It closes handed.
func (s *Server) Adopt(handed *os.File, at Place) error {
	defer handed.Close()
	return s.start(func() (*socket, error) {
		adopted, err := adopt(s.o.Dir, handed, at, s.o.Group, s.o.Record)
		if err == nil {
			return adopted, nil
		}
		_ = at.Remove()
		return listen(s.o.Dir, s.o.Group, s.o.Record)
	})
}

func (s *Server) start(open func() (*socket, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.socket != nil {
		return nil
	}
	opened, err := open()
	if err != nil {
		return err
	}
	s.socket = opened
	s.accepting.Go(func() { s.accept(opened.listener) })
	return nil
}

// Close stops to answer and removes the socket. Answers that are being written are finished, for a
// quarter of a second at most.
func (s *Server) Close() error {
	socket := s.end()
	if socket == nil {
		return nil
	}
	err := socket.remove()
	s.finish()
	return err
}

// HandOff stops to answer in this process, as Close does. Connections wait for the new process, which
// calls Adopt. The file is nil if the Server does not listen.
func (s *Server) HandOff() (f *os.File, at Place, err error) {
	s.reexecuting.Store(true)
	socket := s.end()
	if socket == nil {
		return nil, at, nil
	}
	f, err = socket.listener.File()
	err = errors.Join(err, socket.listener.Close())
	s.finish()
	return f, socket.Place, err
}

func (s *Server) end() *socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	s.ended = true
	return s.socket
}

// finish waits for the goroutines. The listener is closed: what was accepted before is answered, and
// whoever connects from now on is not.
func (s *Server) finish() {
	s.accepting.Wait()
	close(s.ending)
	s.mu.Lock()
	site := s.site
	s.site = nil
	s.mu.Unlock()
	if site != nil {
		site.end()
	}
}

// acceptAgain is how long to wait when a connection cannot be accepted, for example because gophd has
// no descriptor left.
const acceptAgain = 100 * time.Millisecond

// accept accepts connections until the listener is closed.
func (s *Server) accept(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(acceptAgain)
		default:
			s.serve(c)
		}
	}
}

// serve passes a connection to the HTTP server, which it makes if there is none.
func (s *Server) serve(c *net.UnixConn) {
	p, err := peerOf(c)
	if err == nil && !p.may(s.o.Group) {
		err = fmt.Errorf("user %d may not use this socket", p.UID)
	}
	if err != nil {
		refuse(c, http.StatusForbidden, err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.site == nil:
		s.site = newSite(s)
	case s.site.open >= maxConnections:
		refuse(c, http.StatusServiceUnavailable, fmt.Sprintf("there are %d connections", maxConnections))
		return
	}
	s.site.open++
	s.site.idle.Stop()
	s.site.accepted <- &connection{UnixConn: c, peer: p, closed: sync.OnceFunc(s.site.connectionClosed)}
}

// refuse answers a connection that gets no request served. The answer is smaller than the buffer of
// the socket, so it does not block.
func refuse(c *net.UnixConn, code int, why string) {
	text, _ := failureText(why)
	fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		code, http.StatusText(code), len(text), text)
	_ = c.Close()
}

// Peer is a process that uses the socket.
type Peer struct {
	UID    int
	PID    int // 0 if the system does not tell
	groups []int
}

// peerOf returns the peer of a connection.
func peerOf(c *net.UnixConn) (p Peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	failed := raw.Control(func(fd uintptr) { p, err = peer(int(fd)) })
	if err = errors.Join(failed, err); err != nil {
		return p, fmt.Errorf("the user of the connection is not known: %w", err)
	}
	return p, nil
}

// may reports whether the process may use the socket: that of root, of gophd's own user, or of a member
// of the group.
func (p Peer) may(group *int) bool {
	return p.UID == 0 || p.UID == os.Geteuid() || group != nil && slices.Contains(p.groups, *group)
}

// connection is a connection whose end is noticed.
type connection struct {
	*net.UnixConn
	peer   Peer
	closed func()
}

func (c *connection) Close() error {
	defer c.closed()
	return c.UnixConn.Close()
}

// site is the HTTP server while the socket is in use. It is its listener too.
type site struct {
	server   *Server
	http     *http.Server
	accepted chan net.Conn // has room for all connections
	idle     *time.Timer   // runs while there is no connection
	open     int           // connections; guarded by Server.mu
	unused   chan struct{} // receives when there is no connection any more; capacity 1
	closed   chan struct{}
	closing  sync.Once
	group    goroutine.Group
	handlers sync.WaitGroup
}

func newSite(s *Server) *site {
	t := &site{server: s, accepted: make(chan net.Conn, maxConnections), idle: time.NewTimer(s.idle),
		unused: make(chan struct{}, 1), closed: make(chan struct{})}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	t.http = &http.Server{Handler: t.handler(), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, Protocols: protocols, ErrorLog: discard(),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c.(*connection).peer)
		}}
	t.group.Go(func() {
		_ = t.http.Serve(t) // that it was closed
		select {
		case <-s.ending:
		default:
			s.o.Unused()
		}
	})
	return t
}

// Accept returns the next connection. It ends the server when there was none for some time, and after
// Close when all that were accepted have been returned.
func (t *site) Accept() (net.Conn, error) {
	for {
		select {
		case c := <-t.accepted:
			return c, nil
		case <-t.idle.C:
			if t.drop() {
				return nil, net.ErrClosed
			}
		case <-t.closed:
			select {
			case c := <-t.accepted:
				return c, nil
			default:
				return nil, net.ErrClosed
			}
		}
	}
}

// drop makes the Server forget the site, unless there is a connection.
func (t *site) drop() bool {
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	if t.open > 0 {
		return false
	}
	if t.server.site == t {
		t.server.site = nil
	}
	return true
}

func (t *site) connectionClosed() {
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	if t.open--; t.open == 0 {
		t.idle.Reset(t.server.idle)
		select {
		case t.unused <- struct{}{}:
		default:
		}
	}
}

// Close ends Accept.
func (t *site) Close() error {
	t.closing.Do(func() { close(t.closed) })
	return nil
}

// Addr is for net.Listener.
func (t *site) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// end answers what was accepted, for finishTime at most, and waits for the goroutines. No connection is
// accepted any more.
func (t *site) end() {
	_ = t.Close()
	t.group.Wait() // now the HTTP server has all connections
	// Shutdown would drop the requests that come now.
	t.http.SetKeepAlivesEnabled(false)
	timeout := time.NewTimer(finishTime)
	defer timeout.Stop()
	for late := false; !late && t.connections() > 0; {
		select {
		case <-t.unused:
		case <-timeout.C:
			late = true
		}
	}
	_ = t.http.Close()
	t.handlers.Wait()
}

func (t *site) connections() int {
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	return t.open
}
