package memcached

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

const secret = "S3cr3t"

func TestPasswordFile(t *testing.T) {
	for content, want := range map[string]string{
		"user:" + secret:                          "user " + secret,
		"user:" + secret + "\n":                   "user " + secret,
		"user:" + secret + "\r\n":                 "user " + secret,
		"\ufeffuser:" + secret:                    "user " + secret,
		"user:a:" + secret + "\n":                 "user a:" + secret, // memcached splits at the first colon
		"":                                        "not one line user:password",
		"\n":                                      "not one line user:password",
		"user:\n":                                 "not one line user:password",
		":" + secret:                              "not one line user:password",
		secret + "\n":                             "not one line user:password",
		"user:\n\n":                               "not one line user:password",
		"user:" + secret + "\nuser2:x\n":          "more than one line: leave one",
		"\nuser:" + secret + "\n":                 "more than one line: leave one",
		"user:" + secret + "\n\n":                 "a blank line follows user:password: remove it",
		"user:" + secret + "\r\n \r\n":            "a blank line follows user:password: remove it",
		"user:" + secret + "\n\n\n":               "a blank line follows user:password: remove it",
		"user:" + secret + " \n":                  "a space or control character in user:password: remove it",
		"user: " + secret + "\n":                  "a space or control character in user:password: remove it",
		" user:" + secret + "\n":                  "a space or control character in user:password: remove it",
		"user:" + secret + "\x00\n":               "a space or control character in user:password: remove it",
		"\xff\xfeu\x00:\x00p\x00\n\x00":           "UTF-16 text, as some Windows editors save it: save the file as UTF-8",
		"\xfe\xff\x00u\x00:\x00p\x00\n":           "UTF-16 text, as some Windows editors save it: save the file as UTF-8",
		"u:" + secret + strings.Repeat("x", 1000): "longer than the 256 bytes",
	} {
		path := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(path, []byte(content), 0o600))
		switch got, err := login(path); {
		case err == nil:
			if got != want {
				t.Errorf("login of %q: %q; want %q", content, got, want)
			}
		case !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "heartbeat.password_file "+path) ||
			strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") || !errors.Is(err, ErrContent):
			t.Errorf("login of %q: %v; want %q, and not the password", content, err, want)
		}
	}
	directory := t.TempDir()
	must(t, unix.Mkfifo(directory+"/fifo", 0o600))
	for path, want := range map[string]string{
		directory + "/missing": "no such file or directory: choose another file",
		directory + "/fifo":    "not a regular file",
		directory:              "not a regular file",
	} {
		err := CheckPasswordFile(path)
		if err == nil || !strings.Contains(err.Error(), path+": "+want) || errors.Is(err, ErrContent) {
			t.Errorf("CheckPasswordFile of %s: %v; want %q", path, err, want)
		}
	}
}

// A password that the server rejects, and a file without one, are no outage.
func TestRejectedPasswordIsUnfit(t *testing.T) {
	login := passwords(t)
	server := heartbeattest.Memcached(t, "-Y", login)
	wrong := filepath.Join(t.TempDir(), "wrong")
	must(t, os.WriteFile(wrong, []byte("user:"+secret+"\n"), 0o600))
	empty := filepath.Join(t.TempDir(), "empty")
	must(t, os.WriteFile(empty, nil, 0o600))
	for path, want := range map[string]string{
		wrong:            "it rejects the user and password in " + wrong,
		empty:            "heartbeat.password_file " + empty + ": not one line user:password",
		login + ".other": login + ".other: no such file or directory",
		"":               "it requires a password: name a file with user:password in heartbeat.password_file",
	} {
		err := heartbeat.Look(t.Context(), openedWith(t, server.Addr(), path), job, time.Hour)
		wantUnfit(t, err, want)
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%v has the password in it", err)
		}
	}
}

// The file is read at each new connection.
func TestChangedPasswordIsUsedAtTheNextConnection(t *testing.T) {
	login := passwords(t)
	server := heartbeattest.Memcached(t, "-Y", login)
	s := openedWith(t, server.Addr(), login)
	absent := func(when string) {
		t.Helper()
		if _, err := s.Get(t.Context(), "k"); !errors.Is(err, heartbeat.ErrAbsent) {
			t.Errorf("Get %s: %v; want ErrAbsent", when, err)
		}
	}
	absent("at first")
	must(t, os.WriteFile(login, []byte("user:"+secret+"\n"), 0o644))
	absent("on the old connection")
	must(t, server.Restart())
	absent("after a change of the password")
}

// A server that asks for no password would store it as a value, where everybody can read it.
func TestPasswordIsSentOnlyWhenAsked(t *testing.T) {
	server := heartbeattest.Memcached(t)
	s := openedWith(t, server.Addr(), passwords(t))
	must(t, s.Add(t.Context(), "k", []byte("1"), 0))
	stats, err := server.Command("stats")
	must(t, err)
	for _, want := range []string{"STAT cmd_set 1\r\n", "STAT curr_items 1\r\n"} {
		if !strings.Contains(stats, want) {
			t.Errorf("the server reports %q; want %q", stats, want)
		}
	}
}

func TestUnusableSocket(t *testing.T) {
	path := socket(t)
	s := opened(t, path)
	_, err := s.Get(t.Context(), "k")
	unknown(t, "Get without a socket", err)
	if want := "no such file or directory: start memcached with -s " + path; errors.Is(err, heartbeat.ErrUnfit) ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("without a socket: %v; want %q", err, want)
	}
	must(t, os.WriteFile(path, nil, 0o600))
	wantUnfit(t, heartbeat.Look(t.Context(), s, job, time.Hour), path+": no lease can be kept there: it is not a socket")
	must(t, os.Remove(path))

	refused := &net.OpError{Op: "dial", Net: "unix", Err: unix.EACCES}
	wantUnfit(t, dialError("unix", path, refused), "permission denied: allow gophd's user to use it (memcached -a)")
	if err := dialError("tcp", "127.0.0.1:1", refused); err != refused {
		t.Errorf("a port: %v; want the error as it is", err)
	}

	server := heartbeattest.Memcached(t, "-s", path, "-a", "777")
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get of a started server: %v; want ErrAbsent", err)
	}
	must(t, server.Restart())
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, heartbeat.ErrAbsent) {
		t.Errorf("Get of a restarted server: %v; want ErrAbsent", err)
	}
}

// socket returns the path for a socket of a server, which runs as nobody when we are root. It is in
// /tmp: the path of a socket has at most 107 bytes.
func socket(t *testing.T) string {
	directory, err := os.MkdirTemp("", "mc")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(directory) })
	must(t, os.Chmod(directory, 0o777))
	return directory + "/s"
}
