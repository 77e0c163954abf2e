package logging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
)

// listen returns a socket that receives datagrams at a path.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// receive returns one datagram, or the contents of the file sent instead.
func receive(t *testing.T, c *net.UnixConn) []byte {
	t.Helper()
	b, oob := make([]byte, 1<<16), make([]byte, 1000)
	n, m, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil || flags&unix.MSG_TRUNC != 0 {
		t.Fatal(n, flags, err)
	}
	if m == 0 {
		return b[:n]
	}
	messages, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil || n > 0 || len(messages) != 1 {
		t.Fatal(n, len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "entry")
	defer f.Close()
	if _, err := f.WriteAt([]byte{'x'}, 0); !errors.Is(err, syscall.EPERM) {
		t.Errorf("the file can be changed: %v", err)
	}
	b, err = io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entry parses an entry of the journal's native protocol, byte by byte.
func entry(t *testing.T, b []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(b) > 0 {
		i := bytes.IndexAny(b, "=\n")
		if i < 1 {
			t.Fatalf("no field in %q", b)
		}
		name := string(b[:i])
		size := bytes.IndexByte(b[i+1:], '\n')
		start := i + 1
		if b[i] == '\n' {
			size, start = int(binary.LittleEndian.Uint64(b[i+1:])), i+9
		}
		valid := regexp.MustCompile(`^[A-Z][A-Z_]*$`).MatchString(name)
		if _, twice := fields[name]; twice || size < 0 || b[start+size] != '\n' || !valid {
			t.Fatalf("a bad field %q", name)
		}
		fields[name], b = string(b[start:start+size]), b[start+size+1:]
	}
	return fields
}

func at(path string) sockets { return sockets{path, path} }

func openAt(t *testing.T, o Options, path string) *Log {
	t.Helper()
	l, err := openLog(o, at(path))
	if err != nil {
		t.Fatal(err)
	}
	return withTestTimeouts(l)
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	c := listen(t, path)
	l := openAt(t, Options{File: "journald:", Format: simple, Job: "night\nly", PID: 9}, path)
	z := l.Logger()
	z.Warn().Int("n", 7).Str("why", "a\nb").Msg("late")
	w := l.Capture("stderr")(4720)
	if _, err := io.WriteString(w, "\x00\xff=a line\r\n\nunfinished"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	command := func(text, field string) map[string]string {
		m := map[string]string{
			"MESSAGE": text, "PRIORITY": "6", "SYSLOG_IDENTIFIER": "gophd", "SYSLOG_PID": "4720",
			"GOPHD_JOB": "night\nly", "GOPHD_STREAM": "stderr",
		}
		if field != "" {
			m[field] = "1"
		}
		return m
	}
	for _, want := range []map[string]string{
		{
			"MESSAGE": `late n=7 why="a\nb"`, "PRIORITY": "4", "SYSLOG_IDENTIFIER": "gophd", "SYSLOG_PID": "9",
			"GOPHD_JOB": "night\nly",
		},
		command("\x00\xff=a line", "GOPHD_CRLF"), command("", ""), command("unfinished", "GOPHD_PARTIAL"),
	} {
		if diff := cmp.Diff(want, entry(t, receive(t, c))); diff != "" {
			t.Error(diff)
		}
	}
	closeLog(t, l)
	if l.Path() != "journald:" || l.Stats() != (Stats{Lines: 4}) {
		t.Error(l.Path(), l.Stats())
	}
}

// An entry that is too large for a datagram is sent as a sealed file.
func TestJournalGetsALargeEntryAsAFile(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // there is no journal elsewhere
	}
	path := filepath.Join(t.TempDir(), "socket")
	c := listen(t, path)
	l := openAt(t, Options{File: "journald:x", Format: simple}, path)
	z := l.Logger()
	huge := strings.Repeat("0123456789", 50_000) // more than net.core.wmem_default
	z.Info().Msg(huge)
	if got := entry(t, receive(t, c)); got["MESSAGE"] != huge || got["SYSLOG_IDENTIFIER"] != "x" {
		t.Errorf("got %d bytes, with %q", len(got["MESSAGE"]), got["SYSLOG_IDENTIFIER"])
	}
	closeLog(t, l)
}

func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := listen(t, path)
	l := openAt(t, Options{File: "syslog:nightly", Format: inJSON, PID: 9}, path)
	z := l.Logger()
	z.Error().Err(errors.New("no\nluck")).Msg("late")
	z.Log().Msg(strings.Repeat("x", 9000))
	w := l.Capture("stdout")(4720)
	long := strings.Repeat("é", 5000)
	fmt.Fprintf(w, "a line\n%s\nunfinished", long)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<27># nightly[9]: late error="no\nluck"`,
		"<29># nightly[9]: " + strings.Repeat("x", 8000) + "...",
		"<30># nightly[4720]: out: a line",
		"<30># nightly[4720]: out+ " + long[:8000],
		"<30># nightly[4720]: out: " + long[8000:],
		"<30># nightly[4720]: out+ unfinished",
	} {
		got := string(receive(t, c))
		if _, err := time.Parse(time.Stamp, got[4:min(len(got), 4+len(time.Stamp))]); err != nil {
			t.Fatalf("%v in %.80q", err, got)
		}
		if got = got[:4] + "#" + got[4+len(time.Stamp):]; got != want {
			t.Errorf("got %.100q, want %.100q", got, want)
		}
	}
	closeLog(t, l)
	if s := l.Stats(); s != (Stats{Lines: 6}) {
		t.Errorf("%+v", s)
	}
}

// The service is absent at the start, is started, restarted, and stopped at the end. The log
// attempts to connect once a second, and counts and reports each loss.
func TestSyslogMayBeAbsentOrRestarted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		l := openAt(t, Options{File: "syslog:", Format: simple}, path)
		missing := "cannot reach syslog at " + path + ": no such file or directory"
		z := l.Logger()
		logLine := func(text string) { z.Info().Msg(text); synctest.Wait() }
		for range 2 { // the log does not attempt to send the second line
			logLine("nobody is there")
			if s := l.Stats(); s.Err == nil || s.Err.Error() != missing {
				t.Errorf("%+v", s)
			}
		}
		check := func(c *net.UnixConn, want ...string) {
			t.Helper()
			for _, w := range want {
				if got := string(receive(t, c)); !strings.HasSuffix(got, " gophd[0]: "+w) {
					t.Errorf("got %q, want %q", got, w)
				}
			}
		}
		c := listen(t, path)
		time.Sleep(checkInterval - 1)
		logLine("it is there, but a second has not gone by")
		time.Sleep(time.Nanosecond)
		logLine("hello")
		check(c, fmt.Sprintf("log lines were lost lines=3 error=%q", missing), "hello")

		if err := errors.Join(c.Close(), os.RemoveAll(path)); err != nil {
			t.Fatal(err)
		}
		c = listen(t, path)
		time.Sleep(checkInterval)
		logLine("it was restarted, and nothing is lost")
		check(c, "it was restarted, and nothing is lost")

		if err := errors.Join(c.Close(), os.RemoveAll(path)); err != nil {
			t.Fatal(err)
		}
		logLine("it has gone")
		closeLog(t, l)
		if s := l.Stats(); s.Lines != 2 || s.Dropped != 4 {
			t.Errorf("%+v", s)
		}
	})
}

// The log waits for a service that reads nothing, and reports it. Close gives it up.
func TestCheckServiceConnectsAndSendsNothing(t *testing.T) {
	dir := t.TempDir()
	at := sockets{filepath.Join(dir, "journal"), filepath.Join(dir, "log")}
	for _, file := range []string{"journald:", "syslog:tag"} {
		name, _, _ := strings.Cut(file, ":")
		err := checkService(file, at)
		if want := "cannot reach " + name + " at " + at.of(name) + ": no such file or directory"; err == nil || err.Error() != want {
			t.Errorf("%v; want %s", err, want)
		}
	}
	journal := listen(t, at.journald)
	listen(t, at.syslog)
	for _, file := range []string{"journald:x", "syslog:", "", "/dev/null", "/journald:"} {
		if err := checkService(file, at); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := journal.WriteTo([]byte("the first"), journal.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := string(receive(t, journal)); got != "the first" {
		t.Errorf("the journal got %q", got)
	}
	if err := journal.Close(); err != nil { // its name stays
		t.Fatal(err)
	}
	if err := checkService("journald:", at); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOENT) {
		t.Errorf("without a listener: %v", err)
	}
}

func TestCloseGivesUpAStuckService(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	listen(t, path)
	l := openAt(t, Options{File: "syslog:", Format: simple}, path)
	l.readerTime = time.Millisecond
	var command goroutine.Group
	command.Go(func() {
		w := l.Capture("stdout")(4720)
		_, _ = w.Write(bytes.Repeat([]byte("0123456789\n"), 100_000))
	})
	for l.Stats().Pending < commandLimit || l.Stats().Stalled == 0 {
		shortSleep()
	}
	z := l.Logger()
	z.Info().Msg("does not wait")
	const want = "the log to syslog: accepted no more data: its last lines are lost: check its disk or its reader"
	if err := l.Close(); err == nil || err.Error() != want {
		t.Errorf("got error %v", err)
	}
	command.Wait()
	if s := l.Stats(); s.Lines+s.Dropped != 100_001 || s.Dropped == 0 {
		t.Errorf("%+v", s)
	}
}

func TestAServiceBesideAnEcho(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := listen(t, path)
	var echo bytes.Buffer
	l := openAt(t, Options{
		File: "syslog:", Format: simple, Echo: &echo, EchoLevel: zerolog.WarnLevel, EchoCommand: true,
	}, path)
	fmt.Fprintln(l.Capture("stdout")(4720), "a line")
	if got := string(receive(t, c)); !strings.HasSuffix(got, " gophd[4720]: out: a line") {
		t.Errorf("got %q", got)
	}
	closeLog(t, l)
	if got := untimed(echo.Bytes()); got != " [4720] out: a line\n" {
		t.Errorf("got %q", got)
	}
}

// The two have different formats with different lengths. Both get every line.
func TestAServiceAndAnEchoUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := listen(t, path)
	var in bytes.Buffer
	const lines = 5000
	for i := range lines {
		fmt.Fprintf(&in, "line %d %s\n", i, strings.Repeat("x", i%100))
	}
	in.WriteString(strings.Repeat("y", 20_000))
	var sent []byte
	var reader goroutine.Group
	reader.Go(func() {
		for range lines + 3 { // the last one in three pieces
			_, text, _ := bytes.Cut(receive(t, c), []byte("out"))
			sent = append(sent, text[2:]...)
			if text[0] == ':' {
				sent = append(sent, '\n')
			}
		}
	})
	var echo bytes.Buffer
	l := openAt(t, Options{
		File: "syslog:", Format: simple, Echo: &echo, EchoLevel: zerolog.Disabled, EchoCommand: true,
	}, path)
	s := capture(t, l, in.Bytes())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	reader.Wait()
	if got := restored(t, simple, echo.Bytes()); !bytes.Equal(got, in.Bytes()) {
		t.Errorf("the echo got %d of %d bytes, or they differ", len(got), in.Len())
	}
	if !bytes.Equal(sent, in.Bytes()) {
		t.Errorf("the service got %d of %d bytes, or they differ", len(sent), in.Len())
	}
}

func TestServiceNames(t *testing.T) {
	for file, want := range map[string][]string{
		"journald:": {journald, "gophd"}, "syslog:x-1_y.z": {syslog, "x-1_y.z"},
		"syslog": {"", ""}, "/syslog:": {"", ""}, "other:": {"", ""},
	} {
		name, tag, err := service(file)
		if err != nil || !slices.Equal([]string{name, tag}, want) {
			t.Errorf("%q: %q, %q, %v", file, name, tag, err)
		}
	}
	for file, want := range map[string]string{
		"syslog:a b":      `log file "syslog:a b": tag contains ' ': use letters, digits, - and _`,
		"journald:a[1]":   `log file "journald:a[1]": tag contains '[': use letters, digits, - and _`,
		"journald:a\nb=c": `log file "journald:a\nb=c": tag contains '\n': use letters, digits, - and _`,
		"syslogd:":        `log file "syslogd:" is not an absolute path: start it with /`,
	} {
		o := Options{File: file, Format: simple}
		_, err := Open(o)
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v", file, err)
		}
		if err := Check(o); err == nil || err.Error() != want {
			t.Errorf("%q: %v", file, err)
		}
	}
}
