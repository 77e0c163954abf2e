package supervisor

import (
	"errors"
	"os"
	"sync"

	"gophd/internal/sdnotify"
)

// notices is the notify socket of a job whose runs have a timeout. It is open from the start of a run
// until the job waits for its next one or has ended, so that it costs no descriptor then. Any goroutine
// may use it.
type notices struct {
	receive func(sdnotify.Message, error)

	mu     sync.Mutex       // guards socket
	socket *sdnotify.Socket // nil while it is closed, and on a system that has none
}

// adopt takes over the socket of the old process.
func (n *notices) adopt(f *os.File) error {
	s, err := sdnotify.Adopt(f, n.receive)
	return n.set(s, err)
}

// open opens the socket for a run, unless it is open.
func (n *notices) open() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.socket != nil {
		return nil
	}
	s, err := sdnotify.Open(n.receive)
	return n.set(s, err)
}

func (n *notices) set(s *sdnotify.Socket, err error) error {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err == nil:
		n.socket = s
	}
	return err
}

// current returns the socket, nil if it is closed.
func (n *notices) current() *sdnotify.Socket {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.socket
}

// leave returns the descriptor of the socket for the next process, nil if it is closed. Messages wait
// in it from here on.
func (n *notices) leave() *os.File {
	s := n.take()
	if s == nil {
		return nil
	}
	return s.Leave()
}

// close reports the messages that have been sent, and closes the socket. No run may be active.
func (n *notices) close() error {
	s := n.take()
	if s == nil {
		return nil
	}
	s.Drain()
	return s.Close()
}

// take returns the socket, for which the caller is responsible from here on.
func (n *notices) take() (s *sdnotify.Socket) {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, n.socket = n.socket, nil
	return s
}
