package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/request"
	"gophd/internal/status"
)

// daemon is a Daemon of one job.
type daemon struct{ snapshot func() status.Snapshot }

func (d daemon) Snapshot() status.Snapshot { return d.snapshot() }

func (d daemon) Request(context.Context, request.Request) error {
	return &request.RejectedError{Why: "gophd is draining"}
}

func (d daemon) Plan(context.Context) (*Plan, error) {
	setting := []Setting{{Name: "job.interval", From: "5s", To: "2s"}}
	return &Plan{Settings: setting, Unchanged: 4, Jobs: []PlannedJob{
		{Name: "poll", Change: "changed", Settings: setting, Effect: "from its next run"}, {Name: "report", Change: "added", Schedule: "every 1h"}}}, nil
}

// RequestJob starts the job nightly, and rejects all else with what was requested.
func (d daemon) RequestJob(_ context.Context, r request.ForJob) (*job.Request, error) {
	switch {
	case r.Job != "nightly":
		return nil, &request.UnknownJobError{Name: r.Job}
	case r.Verb == request.Start && r.Args == nil:
		return &job.Request{ID: 7}, nil
	}
	r.From = ""
	return nil, &request.RejectedError{Why: fmt.Sprintf("%+v", struct {
		Args   []string
		Count  int
		Signal syscall.Signal
	}{r.Args, r.Count, r.Signal})}
}

func nightly() status.Snapshot {
	return status.Snapshot{Name: "nightly", PID: 812, State: "serving", Version: "0.2.0",
		Jobs: []status.Job{{Name: "nightly", State: job.Waiting, Schedule: "every 5s"}}}
}

// newServer returns a Server that is closed at the end of the test. Its panics fail the test.
func newServer(t *testing.T, dir string, change func(*Options)) *Server {
	t.Helper()
	o := Options{Daemon: daemon{nightly}, Dir: dir, Record: Record{Daemon: "nightly", PID: 812, StateDir: "/var/lib/gophd"},
		Events: NewEvents(SavedEvents{}), Unused: func() {}, Panicked: func(p *goroutine.Panic) { t.Error(p) }}
	if change != nil {
		change(&o)
	}
	s := New(o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func listenTo(t *testing.T, s *Server) string {
	t.Helper()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	return s.socket.Path
}

func connect(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a request and returns code and body of the answer.
func ask(t *testing.T, c net.Conn, request string) (int, string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\n\r\n", request); err != nil {
		t.Fatal(err)
	}
	return read(t, c)
}

func read(t *testing.T, c net.Conn) (int, string) {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if kind := answer.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("an answer of type %q: %s", kind, body)
	}
	return answer.StatusCode, string(body)
}

func TestAnswers(t *testing.T) {
	path := listenTo(t, newServer(t, t.TempDir(), nil))
	c := connect(t, path)
	for _, tt := range []struct {
		request string
		code    int
		body    string
	}{
		{"GET /v1/status", 200, `{"daemon":"nightly","pid":812,"state":"serving",`},
		{"GET /v1/jobs", 200, `[{"daemon":"nightly","pid":812,"name":"nightly","state":"waiting",`},
		{"GET /v1/jobs/nightly", 200, `{"daemon":"nightly","pid":812,"name":"nightly","state":"waiting",`},
		{"GET /v1/jobs/other", 404, `{"error":"there is no job \"other\""}`},
		{"GET /v1/jobs/a%2Fb", 404, `{"error":"there is no job \"a/b\""}`},
		{"POST /v1/status", 405, `{"error":"POST is not for /v1/status; use GET"}`},
		{"GET /v2", 404, `{"error":"there is nothing at \"/v2\"; the API is below /v1"}`},
	} {
		if code, body := ask(t, c, tt.request); code != tt.code || !strings.HasPrefix(body, tt.body) {
			t.Errorf("%s: %d %s, want %d %s", tt.request, code, body, tt.code, tt.body)
		}
	}
}

func TestFilesAreForTheOwnUser(t *testing.T) {
	s := newServer(t, t.TempDir(), nil)
	path := listenTo(t, s)
	for _, file := range []string{path, strings.TrimSuffix(path, ".sock") + ".json"} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	group := os.Getegid()
	of := newServer(t, t.TempDir(), func(o *Options) { o.Group = &group })
	if info, err := os.Stat(listenTo(t, of)); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("with a group: %v, %v", info.Mode(), err)
	}
}

func TestMayUse(t *testing.T) {
	group, own := 4, os.Geteuid()
	for _, tt := range []struct {
		peer        Peer
		alone, with bool // without a group, and with it
	}{
		{Peer{UID: 0}, true, true},
		{Peer{UID: own}, true, true},
		{Peer{UID: own + 1}, false, false},
		{Peer{UID: own + 1, groups: []int{3, 4}}, false, true},
		{Peer{UID: own + 1, groups: []int{3}}, false, false},
	} {
		if tt.peer.may(nil) != tt.alone || tt.peer.may(&group) != tt.with {
			t.Errorf("%+v: %v and %v", tt.peer, tt.peer.may(nil), tt.peer.may(&group))
		}
	}
}

func TestPeerIsThisProcess(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect(t, l.Addr().String())
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := peerOf(c)
	groups, _ := os.Getgroups()
	if err != nil || p.UID != os.Geteuid() || len(p.groups) <= len(groups)-1 {
		t.Errorf("%+v, %v; the groups are %v", p, err, groups)
	}
}

func TestStaleSocketIsReplacedAndALiveOneNever(t *testing.T) {
	dir := t.TempDir()
	first := newServer(t, dir, nil)
	path := listenTo(t, first)
	second := newServer(t, dir, nil)
	if err := second.Listen(); err == nil || !strings.Contains(err.Error(), "another process listens on "+path) {
		t.Fatalf("a second one: %v", err)
	}
	if code, _ := ask(t, connect(t, path), "GET /v1/status"); code != 200 {
		t.Errorf("the first one answers %d", code)
	}
	_ = first.socket.listener.Close() // as if it was killed
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the socket is gone: %v", err)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Fatal("it still listens")
	}
	listenTo(t, second)
	if err := first.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if code, _ := ask(t, connect(t, path), "GET /v1/status"); code != 200 { // its socket was not removed
		t.Errorf("the second one answers %d", code)
	}
}

func TestFileThatIsNoSocketIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "nightly.sock")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newServer(t, dir, nil).Listen(); err == nil || err.Error() != path+" is no socket; remove it" {
		t.Error(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Errorf("the file has %q", text)
	}
}

func TestLongNamesAreHashed(t *testing.T) {
	dir := "/run/gophd"
	long := strings.Repeat("x", 200)
	a, err := base(dir, long+"a")
	if err != nil || len(a+socketSuffix) != maxPath {
		t.Errorf("%s has %d bytes; %v", a, len(a), err)
	}
	if b, _ := base(dir, long+"b"); a == b || len(a) != len(b) {
		t.Errorf("two names are both %s", a)
	}
	fits := strings.Repeat("x", maxPath-len("/run/gophd/.sock"))
	if got, err := base(dir, fits); got != dir+"/"+fits || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := base("/"+long, "x"); err == nil || !strings.Contains(err.Error(), "set GOPHD_RUNTIME_DIR to a shorter one") {
		t.Error(err)
	}
	// The kernel accepts the longest path.
	short := t.TempDir()
	name := strings.Repeat("n", 300)
	path := listenTo(t, newServer(t, short, func(o *Options) { o.Record.Daemon = name }))
	if code, _ := ask(t, connect(t, path), "GET /v1/status"); code != 200 {
		t.Errorf("answer %d", code)
	}
}

func TestRecordIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, dir, nil)
	path := listenTo(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket: %v", err)
	}
	r, err := readRecord(filepath.Join(dir, "nightly.json"))
	if want := (Record{Daemon: "nightly", PID: 812, StateDir: "/var/lib/gophd"}); err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("%+v, %v", r, err)
	}
	// A shorter one replaces it.
	second := newServer(t, dir, func(o *Options) { o.Record.StateDir = "/s" })
	listenTo(t, second)
	if r, err := readRecord(filepath.Join(dir, "nightly.json")); err != nil || r.StateDir != "/s" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	path := listenTo(t, newServer(t, t.TempDir(), nil))
	var all []net.Conn
	for range maxConnections {
		c := connect(t, path)
		all = append(all, c)
		if code, _ := ask(t, c, "GET /v1/status"); code != 200 {
			t.Fatalf("connection %d: %d", len(all), code)
		}
	}
	if code, body := read(t, connect(t, path)); code != 503 || body != "{\"error\":\"there are 256 connections\"}\n" {
		t.Errorf("one more: %d %s", code, body)
	}
	_ = all[0].Close()
	for { // until the server has noticed
		c := connect(t, path)
		if code, _ := ask(t, c, "GET /v1/status"); code == 200 {
			break
		}
		_ = c.Close()
	}
}

func TestHalfOpenConnectionIsClosed(t *testing.T) {
	t.Parallel()
	path := listenTo(t, newServer(t, t.TempDir(), nil))
	silent, half, full := connect(t, path), connect(t, path), connect(t, path)
	if _, err := io.WriteString(half, "GET /v1/status HTTP/1.1\r\nHost"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(full, "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{silent, half, full} {
		if _, err := io.ReadAll(c); err != nil { // until the end
			t.Error(err)
		}
	}
}

func TestLargeHeaderIsRejected(t *testing.T) {
	path := listenTo(t, newServer(t, t.TempDir(), nil))
	c := connect(t, path)
	_, _ = fmt.Fprintf(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 1<<20)) // it may be cut off
	if answer, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && answer.StatusCode != 431 {
		t.Errorf("answer %s", answer.Status)
	}
}

func TestUnusedServerIsDropped(t *testing.T) {
	unused := make(chan struct{}, 1)
	s := newServer(t, t.TempDir(), func(o *Options) { o.Unused = func() { unused <- struct{}{} } })
	s.idle = time.Millisecond
	path := listenTo(t, s)
	for range 3 {
		c := connect(t, path)
		if code, _ := ask(t, c, "GET /v1/status"); code != 200 {
			t.Errorf("answer %d", code)
		}
		select {
		case <-unused:
			t.Error("dropped with a connection")
		default:
		}
		_ = c.Close()
		<-unused
		s.mu.Lock()
		if s.site != nil {
			t.Error("it was not dropped")
		}
		s.mu.Unlock()
	}
}

func TestPanicIsOfOneRequest(t *testing.T) {
	panicked := make(chan *goroutine.Panic, 1)
	fails := true
	s := newServer(t, t.TempDir(), func(o *Options) {
		o.Panicked = func(p *goroutine.Panic) { panicked <- p }
		o.Daemon = daemon{func() status.Snapshot {
			if fails {
				panic("index out of range")
			}
			return nightly()
		}}
	})
	c := connect(t, listenTo(t, s))
	if code, body := ask(t, c, "GET /v1/status"); code != 500 || !strings.Contains(body, "index out of range") {
		t.Errorf("%d %s", code, body)
	}
	if p := <-panicked; p.Value != "index out of range" {
		t.Error(p)
	}
	fails = false
	if code, _ := ask(t, c, "GET /v1/status"); code != 200 {
		t.Errorf("after it: %d", code)
	}
}

// No connection is refused over a re-exec: those that come meanwhile wait for the new process.
func TestConnectionsWaitOverAHandOff(t *testing.T) {
	dir := t.TempDir()
	old := newServer(t, dir, nil)
	path := listenTo(t, old)
	used := connect(t, path)
	if code, _ := ask(t, used, "GET /v1/status"); code != 200 {
		t.Errorf("answer %d", code)
	}
	f, at, err := old.HandOff()
	if err != nil || f == nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(used); err != nil { // until the end
		t.Error(err)
	}
	waits := connect(t, path)
	s := newServer(t, dir, func(o *Options) { o.Record.Version = "0.2.1" })
	if err := s.Adopt(f, at); err != nil {
		t.Fatal(err)
	}
	if code, _ := ask(t, waits, "GET /v1/status"); code != 200 {
		t.Errorf("answer %d", code)
	}
	if r, err := readRecord(filepath.Join(dir, "nightly.json")); err != nil || r.Version != "0.2.1" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := old.Listen(); err != nil || old.site != nil { // a start that comes too late changes nothing
		t.Error(err)
	}
}

// A connection that was accepted before the end is answered.
func TestAcceptedConnectionIsAnsweredAtTheEnd(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newServer(t, t.TempDir(), nil)
	for range 50 {
		c := connect(t, l.Addr().String())
		fmt.Fprint(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
		accepted, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		s.serve(accepted)
		s.site.end()
		s.site = nil
		if code, _ := read(t, c); code != 200 {
			t.Errorf("answer %d", code)
		}
	}
}

func TestSocketThatWasRemovedIsCreatedAgainAtARestart(t *testing.T) {
	for name, change := range map[string]func(path string, o *Options) error{
		"removed": func(path string, _ *Options) error { return os.Remove(path) },
		"renamed": func(_ string, o *Options) error { o.Record.Daemon = "other"; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			old := newServer(t, dir, nil)
			path := listenTo(t, old)
			f, at, err := old.HandOff()
			if err != nil {
				t.Fatal(err)
			}
			var failed error
			s := newServer(t, dir, func(o *Options) { failed = change(path, o) })
			if err := errors.Join(failed, s.Adopt(f, at)); err != nil {
				t.Fatal(err)
			}
			if code, _ := ask(t, connect(t, s.socket.Path), "GET /v1/status"); code != 200 {
				t.Errorf("answer %d", code)
			}
			if _, err := os.Lstat(path); s.socket.Path != path && err == nil {
				t.Error("the old socket is still there")
			}
		})
	}
}

func TestStatesOfJobs(t *testing.T) {
	active := []status.ActiveRun{{PID: 7}}
	for want, j := range map[JobState]status.Job{
		Starting: {},
		Waiting:  {State: job.Waiting},
		Running:  {State: job.Running, Active: active},
		Standby:  {Lease: status.Lease{State: "standby"}},
		Stopping: {State: job.Draining, Active: active},
		Stopped:  {State: job.Done},
		Failed:   {State: job.Done, Failed: "giving up"},
	} {
		if got := stateOf(j); got != want {
			t.Errorf("%+v is %s, want %s", j, got, want)
		}
	}
	if got := stateOf(status.Job{State: job.Held}); got != Waiting {
		t.Errorf("a run that is held: %s", got)
	}
	stopped := status.Job{State: job.Running, Held: "stopped", Active: active, Next: time.Now()}
	if got := jobOf(stopped); got.State != Stopping || got.NextRun != nil || got.Ended {
		t.Errorf("a job that was stopped during a run: %+v", got)
	}
	if got := jobOf(status.Job{State: job.Done}); got.State != Stopped || !got.Ended {
		t.Errorf("a job that has ended: %+v", got)
	}
}

// The shape is a promise: fields are only added.
func TestShape(t *testing.T) {
	at, code := time.Date(2026, 11, 27, 3, 17, 0, 0, time.UTC), 3
	got, err := json.MarshalIndent(statusOf(status.Snapshot{Name: "jobs", PID: 812, State: "serving", Version: "0.2.0",
		Born: at, Config: "/etc/gophd/jobs.yaml", Log: status.Log{File: "/var/log/gophd/jobs.log"},
		Jobs: []status.Job{{
			Name: "nightly", State: job.Running, Schedule: "every 1h", Every: time.Hour, Next: at.Add(time.Hour),
			Active:  []status.ActiveRun{{Run: job.Run{Number: 8}, PID: 901, Since: at}},
			Counts:  status.Counts{Runs: 7, Failures: 1, Late: 2, Missed: 3},
			Last:    &status.Last{Run: 7, Outcome: job.EndingFailure, ExitCode: &code, Started: at, Ended: at.Add(time.Second), Length: time.Second, Text: "exit code 3"},
			Lengths: status.Lengths{Of: 7, P50: time.Second, P99: 2 * time.Second},
			Lease:   status.Lease{Store: "memcached://10.0.0.5", State: "held", Fence: 41, Holder: "this instance"},
		}, {Name: "new"}}}), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "daemon": "jobs",
 "pid": 812,
 "state": "serving",
 "started": "2026-11-27T03:17:00Z",
 "version": "0.2.0",
 "config": "/etc/gophd/jobs.yaml",
 "log": "/var/log/gophd/jobs.log",
 "jobs": [
  {
   "name": "nightly",
   "state": "running",
   "schedule": "every 1h",
   "next_run": "2026-11-27T04:17:00Z",
   "paused": false,
   "running": [
    {
     "run": 8,
     "pid": 901,
     "started": "2026-11-27T03:17:00Z"
    }
   ],
   "last": {
    "run": 7,
    "outcome": "failure",
    "exit_code": 3,
    "started": "2026-11-27T03:17:00Z",
    "ended": "2026-11-27T03:17:01Z",
    "duration_seconds": 1,
    "text": "exit code 3"
   },
   "runs": 7,
   "failures": 1,
   "late": 2,
   "missed": 3,
   "interval_seconds": 3600,
   "durations": {
    "runs": 7,
    "p50_seconds": 1,
    "p99_seconds": 2
   },
   "lease": {
    "store": "memcached://10.0.0.5",
    "state": "held",
    "fence": 41,
    "holder": "this instance"
   }
  },
  {
   "name": "new",
   "state": "starting",
   "schedule": "",
   "paused": false,
   "runs": 0,
   "failures": 0,
   "late": 0,
   "missed": 0
  }
 ]
}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
}

func TestRequests(t *testing.T) {
	c := connect(t, listenTo(t, newServer(t, t.TempDir(), nil)))
	for _, tt := range []struct {
		path, body string
		code       int
		want       string
	}{
		{"/v1/jobs/nightly/start", "", 200, `{"message":"nightly is started","after":`},
		{"/v1/jobs/nightly/start", `{"args":["--full","x y"]}`, 409, `{"error":"{Args:[--full x y] Count:0 Signal:signal 0}"}`},
		{"/v1/jobs/nightly/skip", `{"count":3}`, 409, `{"error":"{Args:[] Count:3 Signal:signal 0}"}`},
		{"/v1/jobs/nightly/skip", "", 409, `{"error":"{Args:[] Count:1 Signal:signal 0}"}`},
		{"/v1/jobs/nightly/skip", `{"count":-1}`, 400, `{"error":"count -1: not a number of runs from 0 to 1000"}`},
		{"/v1/jobs/nightly/signal", `{"signal":"USR1"}`, 409, `{"error":"{Args:[] Count:0 Signal:user defined signal 1}"}`},
		{"/v1/jobs/nightly/signal", "{}", 400, `{"error":"signal: `},
		{"/v1/jobs/nightly/pause", `{"count":1}`, 400, `{"error":"a field of the body is not for pause"}`},
		{"/v1/jobs/nightly/pause", `{"x":1}`, 400, `{"error":"the body is not valid: json: unknown field \"x\""}`},
		{"/v1/jobs/nightly/pause", `{} {}`, 400, `{"error":"the body is not valid: more than one value"}`},
		{"/v1/jobs/nightly/dance", "", 404, `{"error":"\"dance\" is no request for a job; use start, `},
		{"/v1/jobs/other/pause", "", 404, `{"error":"there is no job other"}`},
		{"/v1/stop", "", 409, `{"error":"gophd is draining"}`},
		{"/v1/reload", "[]", 400, `{"error":"the body is not valid: `},
		{"/v1/jobs/nightly/start", `{"args":["` + strings.Repeat("x", maxBody) + `"]}`, 413, `{"error":"the body has more than 65536 bytes"}`},
	} {
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", tt.path, len(tt.body), tt.body)
		if code, body := read(t, c); code != tt.code || !strings.HasPrefix(body, tt.want) {
			t.Errorf("%s %.50s: %d %s, want %d %s", tt.path, tt.body, code, body, tt.code, tt.want)
		}
	}
}

// fetch sends a request, and returns the code, the type and the body of the answer.
func fetch(t *testing.T, socket, method, path, body string) (code int, kind, text string) {
	t.Helper()
	c := connect(t, socket)
	defer c.Close()
	_, _ = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("Content-Type"), string(read)
}

// FuzzServer sends anything: the server answers, or closes the connection, and goes on.
func FuzzServer(f *testing.F) {
	for _, seed := range []string{"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/events?after=1 HTTP/1.0\r\n\r\n",
		"POST /v1/jobs/nightly/start HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"args\":[\"x\"]}",
		"POST /v1/jobs/%2e%2e/signal HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x00", "GET", "DELETE /v1/jobs/nightly HTTP/1.1\r\nHost:\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	var failed atomic.Value
	s := New(Options{Daemon: daemon{nightly}, Dir: dir, Record: Record{Daemon: "nightly"}, Events: NewEvents(SavedEvents{}),
		Unused: func() {}, Panicked: func(p *goroutine.Panic) { failed.Store(p) }})
	if err := s.Listen(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, request []byte) {
		c, err := net.Dial("unix", s.socket.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(request); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		_ = c.(*net.UnixConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the server closes it
		if p := failed.Load(); p != nil {
			t.Fatalf("%v\n%s", p, p.(*goroutine.Panic).Stack)
		}
	})
}
