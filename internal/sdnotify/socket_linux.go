package sdnotify

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
)

// Socket is a datagram socket in Linux's abstract namespace (unix(7)). It has no file, so nothing
// can be left behind, be in a directory that the command's user may not enter, or have too long a
// path. Any process in this network namespace may send to it. Socket therefore uses the credentials
// that the kernel adds to each message (SCM_CREDENTIALS); the name is no secret. A command with a
// network namespace of its own cannot reach it.
type Socket struct {
	file    *os.File // in the runtime's poller: waiting costs no thread
	conn    syscall.RawConn
	address string
	receive func(Message, error)
	listen  sync.Once
	reader  goroutine.Group

	mu  sync.Mutex // held while messages are read and reported, to keep their order
	buf []byte     // nil before the first message
}

// Open creates a socket. Call Close or Leave when done. From Listen on, receive is called for each
// message, never by two goroutines at once. It must not call the socket. With an error, the Message
// has only its sender.
func Open(receive func(Message, error)) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot create a notify socket for the command: %w", err)
	}
	f := os.NewFile(uintptr(fd), "notify socket")
	name := fmt.Sprintf("@gophd-notify-%d-%s", os.Getpid(), rand.Text())
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1),
		unix.Bind(fd, &unix.SockaddrUnix{Name: name}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot create a notify socket for the command: %w", err), f.Close())
	}
	return Adopt(f, receive)
}

// Adopt is Open with the descriptor that Leave returned, here or in the old process. On an error it
// closes the file.
func Adopt(f *os.File, receive func(Message, error)) (*Socket, error) {
	s := &Socket{file: f, receive: receive}
	raw, err := f.SyscallConn()
	if err == nil {
		s.conn = raw
		err = s.check()
	}
	if err == nil {
		err = f.SetReadDeadline(time.Time{}) // clears the one of Leave, if this is still the same process
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot adopt the command's notify socket: %w", err), f.Close())
	}
	return s, nil
}

// check verifies that the descriptor is such a socket, and reads its address.
func (s *Socket) check() (err error) {
	failed := s.conn.Control(func(fd uintptr) {
		var at unix.Sockaddr
		if at, err = unix.Getsockname(int(fd)); err != nil {
			return
		}
		kind, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
		creds, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED)
		u, ok := at.(*unix.SockaddrUnix)
		if !ok || u.Name == "" || kind != unix.SOCK_DGRAM || creds == 0 {
			err = errors.New("the descriptor is not a notify socket")
			return
		}
		s.address = u.Name
	})
	return errors.Join(failed, err)
}

// Address returns the value of NOTIFY_SOCKET for the command.
func (s *Socket) Address() string { return s.address }

// Listen starts to report messages; earlier ones wait in the socket until then. Calling it again
// does nothing.
func (s *Socket) Listen() {
	s.listen.Do(func() {
		s.reader.Go(func() {
			_ = s.conn.Read(func(fd uintptr) bool { // it fails only because of Leave or Close
				s.read(int(fd), math.MaxInt)
				return false
			})
		})
	})
}

// Drain returns when all messages that were sent before it are reported. A flood of messages does
// not block it: it reads at most as many as the queue of such a socket holds with the usual limits.
func (s *Socket) Drain() {
	const queue = 1024
	_ = s.conn.Control(func(fd uintptr) { s.read(int(fd), queue) }) // an error means closed: no messages
}

// Leave stops reading and keeps the socket open: messages wait in it for the Socket that adopts the
// file.
func (s *Socket) Leave() *os.File {
	_ = s.file.SetReadDeadline(time.Unix(1, 0))
	s.reader.Wait()
	return s.file
}

// Close closes the socket and waits for its goroutine. A panic of receive becomes a panic of Close.
func (s *Socket) Close() error {
	err := s.file.Close()
	s.reader.Wait()
	return err
}

// read reports the queued messages, at most limit of them.
func (s *Socket) read(fd, limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buf == nil {
		s.buf = make([]byte, maxMessage)
	}
	// A message may contain descriptors (FDSTORE=1, BARRIER=1). The buffer has no room for them
	// after the credentials, so the kernel closes them. The sender of a barrier waits for just
	// that.
	var control [unix.SizeofCmsghdr + unix.SizeofUcred]byte
	for range limit {
		n, cn, flags, _, err := unix.Recvmsg(fd, s.buf, control[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // no message is queued; or the kernel is out of memory, and the next message retries
			return
		}
		from, err := sender(control[:cn])
		if err == nil && flags&unix.MSG_TRUNC != 0 {
			err = fmt.Errorf("it has more than %d bytes", maxMessage)
		}
		var m Message
		if err == nil {
			m, err = Parse(s.buf[:n])
		}
		m.PID, m.UID = int(from.Pid), int(from.Uid)
		s.receive(m, err)
	}
}

// sender returns the credentials of the process that sent the message.
func sender(control []byte) (unix.Ucred, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return unix.Ucred{}, errors.Join(errors.New("it has no credentials of its sender"), err)
	}
	credentials, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return unix.Ucred{}, err
	}
	return *credentials, nil
}
