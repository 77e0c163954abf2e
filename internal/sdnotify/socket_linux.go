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

// Socket is a datagram socket in Linux's abstract namespace (unix(7)): it has no file that could be left behind, be
// in a folder that the command's user may not enter, or have too long a path. Anyone in this network namespace
// may send to it, so it goes by the credentials that the kernel adds to each message (SCM_CREDENTIALS), and
// never by who could know its name. A command with a network namespace of its own cannot reach it.
type Socket struct {
	file    *os.File // in the runtime's poller: waiting costs no thread
	conn    syscall.RawConn
	address string
	hear    func(Message, error)
	listen  sync.Once
	reader  goroutine.Group

	mu  sync.Mutex // held while messages are read and reported, so that they are in their order
	buf []byte     // nil before the first
}

// Open makes a socket. Close or Leave it. hear is called for each message from Listen on, never by two
// goroutines at once, and must not call the socket. With an error the Message has no more than its sender.
func Open(hear func(Message, error)) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a notify socket for the command: %w", err)
	}
	f := os.NewFile(uintptr(fd), "notify socket")
	name := fmt.Sprintf("@gophd-notify-%d-%s", os.Getpid(), rand.Text())
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1), unix.Bind(fd, &unix.SockaddrUnix{Name: name}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make a notify socket for the command: %w", err), f.Close())
	}
	return Adopt(f, hear)
}

// Adopt is Open with the descriptor that Leave returned, maybe in another image of this program. On an error
// the file is closed.
func Adopt(f *os.File, hear func(Message, error)) (*Socket, error) {
	s := &Socket{file: f, hear: hear}
	raw, err := f.SyscallConn()
	if err == nil {
		s.conn = raw
		err = s.check()
	}
	if err == nil {
		err = f.SetReadDeadline(time.Time{}) // the one that Leave set, if this is still that image
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot go on with the command's notify socket: %w", err), f.Close())
	}
	return s, nil
}

// check sees that the descriptor is such a socket, and finds its address.
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
			err = errors.New("the descriptor is something else")
			return
		}
		s.address = u.Name
	})
	return errors.Join(failed, err)
}

// Address is what NOTIFY_SOCKET has to be for the command.
func (s *Socket) Address() string { return s.address }

// Listen begins to report messages; those that came before wait until then. Again it does nothing.
func (s *Socket) Listen() {
	s.listen.Do(func() {
		s.reader.Go(func() {
			_ = s.conn.Read(func(fd uintptr) bool { // its only errors are the ends that Leave and Close make
				s.read(int(fd), math.MaxInt)
				return false
			})
		})
	})
}

// Drain returns when all that was sent before it is reported. A flood does not hold it: it reads at most as
// many as the queue of such a socket has by the usual limits.
func (s *Socket) Drain() {
	const queue = 1024
	_ = s.conn.Control(func(fd uintptr) { s.read(int(fd), queue) }) // closed: then nothing is there
}

// Leave ends the reading without the socket: messages wait in it for the Socket that adopts the file.
func (s *Socket) Leave() *os.File {
	_ = s.file.SetReadDeadline(time.Unix(1, 0))
	s.reader.Wait()
	return s.file
}

// Close ends the socket and waits for its goroutine, of which a panic of hear climbs.
func (s *Socket) Close() error {
	err := s.file.Close()
	s.reader.Wait()
	return err
}

// read reports what is there, until nothing is or most were read.
func (s *Socket) read(fd, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buf == nil {
		s.buf = make([]byte, maxMessage)
	}
	// Descriptors may come with a message (FDSTORE=1, BARRIER=1). There is no room for them behind the
	// credentials, so the kernel closes them: which is what one who waits at a barrier waits for.
	var control [unix.SizeofCmsghdr + unix.SizeofUcred]byte
	for range most {
		n, cn, flags, _, err := unix.Recvmsg(fd, s.buf, control[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // nothing is there; or the kernel has no room just now, and the next message wakes us
			return
		}
		who, err := sender(control[:cn])
		if err == nil && flags&unix.MSG_TRUNC != 0 {
			err = fmt.Errorf("it has more than %d bytes", maxMessage)
		}
		var m Message
		if err == nil {
			m, err = Parse(s.buf[:n])
		}
		m.PID, m.UID = int(who.Pid), int(who.Uid)
		s.hear(m, err)
	}
}

func sender(control []byte) (unix.Ucred, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return unix.Ucred{}, errors.Join(errors.New("it does not say who sent it"), err)
	}
	who, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return unix.Ucred{}, err
	}
	return *who, nil
}
