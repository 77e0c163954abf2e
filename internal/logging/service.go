package logging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// The services that Options.File can name instead of a file, with a colon. They have their own
// formats.
const (
	journald = "journald"
	syslog   = "syslog"
)

// maxSyslog is the maximum length of a syslog text. The usual daemons cut a message at 8 KiB
// without an error.
const maxSyslog = 8000

// sockets has the addresses of the services.
type sockets struct{ journald, syslog string }

func standardSockets() sockets { return sockets{"/run/systemd/journal/socket", syslogSocket()} }

func (at sockets) of(service string) string {
	if service == syslog {
		return at.syslog
	}
	return at.journald
}

// CheckService returns an error if file, as in Options.File, names a log service that cannot be
// reached now. Open accepts that: the service may come later, and until then lines are lost.
// CheckService sends nothing to the service.
func CheckService(file string) error { return checkService(file, standardSockets()) }

func checkService(file string, at sockets) error {
	name, _, err := service(file)
	if err != nil || name == "" {
		return err
	}
	s := socket{service: name, address: at.of(name)}
	if err := s.connect(); err != nil {
		return s.unreachable(err)
	}
	return s.close()
}

// syslogSocket returns the address that the C library's syslog(3) uses.
func syslogSocket() string {
	switch runtime.GOOS {
	case "darwin":
		return "/var/run/syslog"
	case "freebsd":
		return "/var/run/log"
	}
	return "/dev/log"
}

// service returns the service in file and its tag, or "" if file is a path.
func service(file string) (name, tag string, err error) {
	name, tag, found := strings.Cut(file, ":")
	if !found || name != journald && name != syslog {
		return "", "", nil
	}
	for _, c := range tag {
		if c <= ' ' || c > '~' || strings.ContainsRune("[]:", c) {
			return "", "", fmt.Errorf("log file %q: tag contains %q: use letters, digits, - and _", file, c)
		}
	}
	if tag == "" {
		tag = "gophd"
	}
	return name, tag, nil
}

// severity returns the severity of syslog (RFC 5424, 6.2.1) and the journal for a level. A line
// without a level is a notice.
func severity(level zerolog.Level) int {
	switch level {
	case zerolog.TraceLevel, zerolog.DebugLevel:
		return 7
	case zerolog.InfoLevel:
		return commandSeverity
	case zerolog.WarnLevel:
		return 4
	case zerolog.ErrorLevel:
		return 3
	case zerolog.FatalLevel, zerolog.PanicLevel:
		return 2
	}
	return 5
}

// commandSeverity is info, for both streams: many commands report their progress on stderr.
const commandSeverity = 6

// daemonFacility is the facility daemon in a syslog priority.
const daemonFacility = 3 << 3

// socket is a target that sends each record as a datagram to a service on this host. The service
// may be absent, at the start or later. Then socket attempts to connect once a second.
type socket struct {
	service, address string
	job, tag         string

	now   time.Time // time of the batch
	retry time.Time // time of the next attempt to connect
	why   error
	buf   []byte

	current atomic.Pointer[net.UnixConn] // nil while the service is absent
}

func (s *socket) ready(now time.Time, _ *opened) readyResult {
	s.now = now
	return readyResult{path: s.service + ":"}
}

// Write sends the records one by one. It returns the number of bytes of the accepted records.
func (s *socket) Write(p []byte) (n int, err error) {
	for n < len(p) {
		end := n + bytes.IndexByte(p[n:], '\n')
		if err := s.send(p[n:end]); err != nil {
			return n, err
		}
		n = end + 1
	}
	return n, nil
}

func (s *socket) send(record []byte) error {
	if len(record) == 0 {
		return nil
	}
	if s.service == journald {
		s.buf = s.journal(s.buf[:0], record)
		record = s.buf
	}
	if c := s.current.Load(); c != nil {
		err := s.pass(c, record)
		if err == nil || errors.Is(err, net.ErrClosed) || isTimeout(err) {
			return err
		}
		s.disconnect(err) // perhaps it was restarted
	}
	if s.now.Before(s.retry) {
		return s.why
	}
	s.retry = s.now.Add(checkInterval)
	err := s.connect()
	if err == nil {
		err = s.pass(s.current.Load(), record)
	}
	if err != nil {
		s.disconnect(err)
		return s.why
	}
	return nil
}

// connect connects to the service, which does not notice it.
func (s *socket) connect() error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.address, Net: "unixgram"})
	if err == nil {
		s.current.Store(c)
	}
	return err
}

func (s *socket) unreachable(why error) error {
	return fmt.Errorf("cannot reach %s at %s: %w", s.service, s.address, systemError(why))
}

func (s *socket) disconnect(why error) {
	s.why = s.unreachable(why)
	if c := s.current.Swap(nil); c != nil {
		_ = c.Close() // it has no unsent data
	}
}

// pass sends one datagram. If it is too large, the journal gets it as a file descriptor.
func (s *socket) pass(c *net.UnixConn, record []byte) error {
	_, err := c.Write(record)
	if s.service == journald && (errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS)) {
		return passFile(c, record)
	}
	return err
}

// journal converts "6 4720 job/stdout: text" to an entry of the native protocol of systemd's journal:
// one field per line (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
func (s *socket) journal(dst, record []byte) []byte {
	priority, record, _ := bytes.Cut(record, []byte{' '})
	pid, record, _ := bytes.Cut(record, []byte{' '})
	stream, text, _ := bytes.Cut(record, []byte{' '})
	mark := stream[len(stream)-1]
	job, stream, _ := bytes.Cut(stream[:len(stream)-1], []byte{'/'})
	text, crlf := cutReturn(text, mark == '+')
	dst = appendField(dst, "MESSAGE", text)
	dst = appendField(dst, "PRIORITY", priority)
	dst = appendField(dst, "SYSLOG_IDENTIFIER", []byte(s.tag))
	dst = appendField(dst, "SYSLOG_PID", pid)
	if len(job) == 0 {
		job = []byte(s.job)
	}
	if len(job) > 0 {
		dst = appendField(dst, "GOPHD_JOB", job)
	}
	if len(stream) > 0 {
		dst = appendField(dst, "GOPHD_STREAM", stream)
	}
	if mark == '+' {
		dst = appendField(dst, "GOPHD_PARTIAL", []byte{'1'})
	}
	if crlf {
		dst = appendField(dst, "GOPHD_CRLF", []byte{'1'})
	}
	return dst
}

// appendField writes a field. A value that contains a newline is written with its length.
func appendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		dst = append(dst, '=')
	} else {
		dst = binary.LittleEndian.AppendUint64(append(dst, '\n'), uint64(len(value)))
	}
	return append(append(dst, value...), '\n')
}

func (s *socket) hasReader() bool { return false } // a datagram is accepted whole
func (s *socket) sync() error     { return nil }

func (s *socket) close() error {
	if c := s.current.Load(); c != nil {
		return c.Close()
	}
	return nil
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// systemError returns the error without the addresses, because the outer message names them.
func systemError(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// serviceHead returns the part of each record between time and text.
func (f format) serviceHead(job, stream string, pid int) string {
	if f.name == journald {
		return strconv.Itoa(commandSeverity) + " " + strconv.Itoa(pid) + " " + job + "/" + stream + ": "
	}
	return " " + f.tag + "[" + strconv.Itoa(pid) + "]: " + ofJob(job) + strings.TrimPrefix(stream, "std") + ": "
}

// serviceOwn renders one of gophd's own lines.
func (f format) serviceOwn(dst []byte, now time.Time, level zerolog.Level, job string, object []byte) []byte {
	if f.name == journald {
		dst = append(dst, strconv.Itoa(severity(level))+" "+f.pid+" "+job+"/: "...)
		return append(appendFields(dst, object), '\n')
	}
	dst = append(dst, "<"+strconv.Itoa(daemonFacility+severity(level))+">"...)
	dst = append(now.AppendFormat(dst, time.Stamp), " "+f.tag+"["+f.pid+"]: "...)
	text := appendFields([]byte(ofJob(job)), object)
	if len(text) > maxSyslog {
		text = append(text[:cut(text[:maxSyslog])], "..."...)
	}
	return append(append(dst, text...), '\n')
}
