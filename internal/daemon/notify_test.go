package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"gophd/internal/event"
)

func TestWatchdogOfTheServiceManager(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		micros, pid string
		want        time.Duration
		fails       bool
	}{
		{"", "", 0, false},
		{"10000000", own, 5 * time.Second, false},
		{"10000000", "", 5 * time.Second, false},
		{"10000000", "1", 0, false}, // that of another process
		{"1", own, time.Millisecond, false},
		{"0", own, 0, true},
		{"-5", own, 0, true},
		{"10s", own, 0, true},
		{"99999999999999999999", own, 0, true},
		{"9223372036854775807", own, 0, true},
	} {
		if got, err := watchdogTime(c.micros, c.pid); got != c.want || (err != nil) != c.fails {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %s, %v", c.micros, c.pid, got, err)
		}
	}
}

// A service manager that does not read holds up nothing.
func TestServiceManagerThatDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	m := &manager{address: path}
	for err = nil; err == nil; {
		err = m.send("STATUS=x", time.Millisecond)
	}
	if ne, ok := err.(net.Error); !(ok && ne.Timeout()) && err.(*net.OpError).Err != syscall.ENOBUFS {
		t.Errorf("%v, want a timeout", err)
	}
	message := make([]byte, 100)
	n, err := socket.Read(message)
	if got := string(message[:n]); got != "STATUS=x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Events set the timer of the status line once, until it was sent.
func TestStatusLineIsDueOnce(t *testing.T) {
	m := newManager()
	m.noticed(event.Event{})
	<-m.line.C
	m.noticed(event.Event{})
	m.wait.Store(int64(time.Hour))
	if m.line.Stop() {
		t.Error("a second event has set the timer, although the first line was not sent yet")
	}
	m.due.Store(false)
	m.noticed(event.Event{})
	if !m.line.Stop() {
		t.Error("the timer does not run")
	}
}
