package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/job"
	"gophd/internal/logread"
	"gophd/internal/status"
)

// writeLog writes a log of the jobs nightly and other.
func writeLog(t *testing.T, path string) {
	t.Helper()
	at := time.Date(2026, 11, 27, 3, 17, 0, 0, time.UTC).Local().Format("2006-01-02 15:04:05")
	text := at + ".100 [812] gophd 0.2.0 started, pid 812\n" +
		at + ".200 [812] nightly: runs every 1h\n" +
		at + ".300 [901] nightly: out: one\n" +
		at + ".300 [902] other: out: not this one\n" +
		at + ".300 [901] nightly: err+ t\xffwo\n" +
		at + ".400 [812] warn: nightly: run 8 failed after 1s: exit code 3\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// logServer returns the socket of a daemon of jobs whose log is x.log in its directory.
func logServer(t *testing.T, change func(*Options)) (socket, log string) {
	dir := t.TempDir()
	log = filepath.Join(dir, "x.log")
	writeLog(t, log)
	return listenTo(t, newServer(t, dir, func(o *Options) {
		o.Daemon, o.Record.StateDir = daemon{full}, dir
		o.Record.Logs = Logs{Log: log, Many: true, Jobs: []JobLogs{{Name: "nightly"}, {Name: "other"}}}
		if change != nil {
			change(o)
		}
	})), log
}

func TestLogsHasTheLinesOfOneJob(t *testing.T) {
	path, _ := logServer(t, nil)
	for query, want := range map[string]string{
		"":                                    "runs every 1h|out: one|err+ t\xffwo|warn: run 8 failed after 1s: exit code 3",
		"lines=2":                             "err+ t\xffwo|warn: run 8 failed after 1s: exit code 3",
		"since=2026-11-27T03:17:00.3Z":        "out: one|err+ t\xffwo|warn: run 8 failed after 1s: exit code 3",
		"since=2026-11-27T03:17:00.4Z":        "warn: run 8 failed after 1s: exit code 3",
		"run=8":                               "out: one|err+ t\xffwo|warn: run 8 failed after 1s: exit code 3",
		"run=8&lines=1":                       "warn: run 8 failed after 1s: exit code 3",
		"since=2026-11-27T03:17:00.3Z&skip=2": "warn: run 8 failed after 1s: exit code 3",
		"failed=true":                         "",
	} {
		code, kind, body := fetch(t, path, "GET", "/v1/jobs/nightly/logs?"+query, "")
		var got []string
		for text := range strings.Lines(body) {
			got = append(got, logread.ParseJSON([]byte(text)).Brief(false))
		}
		if code != 200 || kind != "application/x-ndjson" || strings.Join(got, "|") != want {
			t.Errorf("%s: %d %s: %q, want %q", query, code, kind, strings.Join(got, "|"), want)
		}
	}
	for query, want := range map[string]string{
		"lines=x": "is not a number from 0", "lines=100001": "is not a number from 0", "since=now": "is not a time", "run=0": "is not the number",
		"follow=x": "is not true or false", "skip=-1": "is not a number", "tail=1": "is no parameter", "run=1&failed=true": "exclude each other",
	} {
		if code, _, body := fetch(t, path, "GET", "/v1/jobs/nightly/logs?"+query, ""); code != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		if code, _, body := fetch(t, path, method, "/v1/jobs/nightly/logs", ""); code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d %s", method, code, body)
		}
	}
}

// Each line to come is there, and after a re-exec the client continues with the next one.
func TestLogsContinueOverAReexec(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "x.log")
	write := func(text string) {
		f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	record := func(o *Options) { o.Record.Logs = Logs{Log: log, Jobs: []JobLogs{{Name: "nightly"}}} }
	first := newServer(t, dir, record)
	path := listenTo(t, first)
	write("2026-11-27 03:17:00.300 [901] out: 0\n2026-11-27 03:17:00.300 [901] out: 1\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines, ended := make(chan string), make(chan error, 1)
	go func() {
		ended <- NewClient(path).Logs(ctx, "nightly", &LogQuery{Follow: true}, func(l logread.Line) bool {
			lines <- string(l.Text)
			return true
		})
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-lines; got != want {
			t.Fatalf("the line %q, want %q", got, want)
		}
	}
	expect("0")
	expect("1")
	write("2026-11-27 03:17:00.300 [901] out: 2\n")
	expect("2")
	f, at, err := first.HandOff()
	if err != nil {
		t.Fatal(err)
	}
	write("2026-11-27 03:17:00.300 [901] out: 3\n")
	if err := newServer(t, dir, record).Adopt(f, at); err != nil {
		t.Fatal(err)
	}
	expect("3")
	write("2026-11-27 03:17:00.301 [901] out: 4\n")
	expect("4")
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A reader that waits for a disk delays neither the end of the server nor any other answer.
func TestLogsThatHangDelayNothing(t *testing.T) {
	s := newServer(t, t.TempDir(), nil)
	path := listenTo(t, s)
	hangs := &lineBuffer{news: make(chan struct{}, 1), space: make(chan struct{}, 1), done: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.sendLines(t.Context(), httptest.NewRecorder(), hangs)
	}()
	if code, _, _ := fetch(t, path, "GET", "/v1/status", ""); code != 200 {
		t.Errorf("status answers %d", code)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}

// A log that is no file is refused, and so is one reader too many.
func TestLogsThatAreNotRead(t *testing.T) {
	path, log := logServer(t, nil)
	_ = os.Remove(log)
	if err := unix.Mkfifo(log, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, body := fetch(t, path, "GET", "/v1/jobs/nightly/logs", ""); code != 409 || !strings.Contains(body, "not a regular file") {
		t.Errorf("a FIFO: %d %s", code, body)
	}
	_ = os.Remove(log)
	const request = "GET /v1/jobs/nightly/logs?follow=true HTTP/1.1\r\nHost: x\r\n\r\n"
	for range maxReaders {
		_, _ = io.WriteString(connect(t, path), request)
	}
	for code := 0; code != http.StatusServiceUnavailable; { // each that gets no answer is one reader more
		c := connect(t, path)
		_, _ = io.WriteString(c, request)
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		var buf [64]byte
		n, _ := c.Read(buf[:])
		_, _ = fmt.Sscanf(string(buf[:n]), "HTTP/1.1 %d", &code)
	}
}

func TestSourceOfAJob(t *testing.T) {
	l := Logs{Log: "/var/log/d.log", Many: true, Jobs: []JobLogs{{Name: "a"}, {Name: "b", Log: "/var/log/b.log", Output: "discard"}}}
	for name, want := range map[string]string{"a": "/var/log/d.log a true log", "b": "/var/log/b.log b false discard", "": "/var/log/d.log  true log"} {
		s, output, ok := l.Source(name)
		if got := fmt.Sprintf("%s %s %t %s", s.File, s.Job, s.Shared, output); got != want || !ok {
			t.Errorf("%q: %s, %t", name, got, ok)
		}
	}
	if _, _, ok := l.Source("c"); ok {
		t.Error("a job that does not exist has a log")
	}
}

func TestWhereaboutsNameThePlace(t *testing.T) {
	for _, tt := range []struct {
		file   string
		output job.Output
		want   string
	}{
		{"journald:x", job.OutputLog, "journalctl -t x GOPHD_JOB=nightly"},
		{"syslog:", job.OutputLog, "the tag gophd"},
		{"unit:x.service", job.OutputLog, "journalctl -u x.service"},
		{"", job.OutputInherit, "to its stdout and stderr"},
		{"", job.OutputDiscard, "is discarded"},
		{"", job.OutputOnFailure, "of failed runs too"},
		{"", "/tmp/out", "to /tmp/out"},
	} {
		if got := Whereabouts("nightly", logread.Source{File: tt.file}, tt.output); !strings.Contains(got, tt.want) {
			t.Errorf("%s, %s: %s", tt.file, tt.output, got)
		}
	}
}

// A run is suspended, and by what, is in its shape.
func TestSuspendedRunIsShown(t *testing.T) {
	s := statusOf(status.Snapshot{Jobs: []status.Job{{Active: []status.ActiveRun{{PID: 5, Suspended: status.Suspended{PID: 5, By: unix.SIGTTIN}}, {PID: 6}}}}})
	if by := s.Jobs[0].Running[0].Suspended; by == nil || *by != (Suspended{PID: 5, Signal: "TTIN"}) || s.Jobs[0].Running[1].Suspended != nil {
		t.Errorf("%+v", s.Jobs[0].Running)
	}
}
