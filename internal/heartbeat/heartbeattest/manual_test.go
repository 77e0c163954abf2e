package heartbeattest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/heartbeat/heartbeattest"
	"gophd/internal/heartbeat/memcached"
	"gophd/internal/procfs"
)

const job = "job_process_heartbeat"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "nc" {
		os.Exit(m.Run())
	}
	if err := netcat(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const manual = "../../../docs/heartbeat.md"

// netcat replaces nc on a machine that does not have it. TestMain runs it if the program name is
// nc. It implements as much of nc as the manual's script uses.
func netcat() error {
	c, err := net.Dial("tcp", net.JoinHostPort(os.Args[3], os.Args[4])) // nc -w 2 HOST PORT
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.Copy(c, os.Stdin); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, c)
	return err
}

// script writes the manual's script of that name to a file, so that a test can run it as a reader
// does.
func script(t *testing.T, language, name string) string {
	t.Helper()
	text, err := os.ReadFile(manual)
	must(t, err)
	for _, block := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(block[1], "# "+name+" ") {
			path := filepath.Join(t.TempDir(), name)
			must(t, os.WriteFile(path, []byte(withLongTimeouts(block[1])), 0o755))
			return path
		}
	}
	t.Fatalf("%s has no %s script %s", manual, language, name)
	return ""
}

// withLongTimeouts replaces the timeouts of 2 s in a script of the manual, which a busy machine
// exceeds.
func withLongTimeouts(script string) string {
	return strings.NewReplacer("nc -w 2 ", "nc -w 600 ", "timeout=2)", "timeout=600)").Replace(script)
}

func TestMemcachedPollersOfTheManual(t *testing.T) {
	t.Parallel()
	synctest.Test(t, memcachedPollersOfTheManual)
}

func memcachedPollersOfTheManual(t *testing.T) {
	path := os.Getenv("PATH")
	if _, err := exec.LookPath("nc"); err != nil {
		directory := t.TempDir()
		self, err := os.Executable()
		must(t, err)
		must(t, os.Symlink(self, filepath.Join(directory, "nc")))
		path = directory + ":" + path
	}
	server := heartbeattest.Memcached(t)
	host, port, err := net.SplitHostPort(server.Addr())
	must(t, err)
	run := func(script string, args ...string) (string, int) {
		cmd := exec.Command(script, args...)
		cmd.Env = append(os.Environ(), "PATH="+path)
		out, _ := cmd.Output()
		return string(out), cmd.ProcessState.ExitCode()
	}
	sh, py := script(t, "sh", "heartbeat.sh"), script(t, "python", "heartbeat.py")
	if out, code := run(sh, host, port, "job"); out != "" || code != 1 {
		t.Errorf("the shell poller, without a holder: %q, code %d; want code 1", out, code)
	}
	store, err := memcached.Open(server.Addr(), "", time.Hour)
	must(t, err)
	t.Cleanup(func() { store.Close() })
	lease := heartbeattest.Launch(t, store, job, nil).Await(heartbeat.Held)
	out, code := run(sh, host, port, "job")
	var r heartbeat.Record
	err = json.Unmarshal([]byte(out), &r)
	if err != nil || code != 0 || r.ID != lease.ID || r.State != heartbeat.Active {
		t.Errorf("the shell poller: %q, code %d; want the record of %s", out, code, lease.ID)
	}
	if out, code := run(py, host, port, "job"); !strings.HasPrefix(out, "active host 1 ") || code != 0 {
		t.Errorf("the Python poller: %q, code %d; want state, host, PID and fencing token", out, code)
	}
	if out, code := run(py, host, port, "other"); out != "" || code != 1 {
		t.Errorf("the Python poller, without a holder: %q, code %d; want code 1", out, code)
	}
	server.Stop()
	if out, code := run(sh, host, port, "job"); out != "" || code != 2 {
		t.Errorf("the shell poller, without a server: %q, code %d; want code 2", out, code)
	}
}

func TestFilePollerOfTheManual(t *testing.T) {
	t.Parallel()
	sh, path := script(t, "sh", "heartbeat-file.sh"), filepath.Join(t.TempDir(), "job.heartbeat")
	s, err := file.Open(path)
	must(t, err)
	defer s.Close()
	poll := func() (string, int) {
		cmd := exec.Command(sh, file.RecordPath(path))
		out, _ := cmd.Output()
		return strings.TrimSpace(string(out)), cmd.ProcessState.ExitCode()
	}
	if out, code := poll(); out != "" || code != 1 {
		t.Errorf("without a holder: %q, code %d; want code 1", out, code)
	}
	exited := exec.Command("true")
	must(t, exited.Run())
	self := procfs.Self()
	for name, c := range map[string]struct {
		change func(*heartbeat.Record)
		code   int
	}{
		"with a holder":                    {func(*heartbeat.Record) {}, 0},
		"after a crash":                    {func(r *heartbeat.Record) { r.PID = exited.Process.Pid }, 1},
		"after a crash, the PID is reused": {func(r *heartbeat.Record) { r.PIDStart-- }, 1},
		"after a reboot":                   {func(r *heartbeat.Record) { r.Boot = "another" }, 1},
	} {
		r := heartbeat.Record{
			V: 1, ID: "i", Job: job, PID: self.PID, PIDStart: self.Start, Boot: self.Boot, PIDNS: self.PIDNS,
		}
		c.change(&r)
		record, err := json.Marshal(r)
		must(t, err)
		must(t, s.Add(t.Context(), job, record, 0))
		want := string(record)
		if c.code != 0 {
			want = ""
		}
		if out, code := poll(); out != want || code != c.code {
			t.Errorf("%s: %q, code %d; want %q, code %d", name, out, code, want, c.code)
		}
		e, err := s.Get(t.Context(), job)
		must(t, err)
		must(t, s.Expire(t.Context(), job, e))
	}
	if out, code := poll(); out != "" || code != 1 {
		t.Errorf("after the release: %q, code %d; want code 1", out, code)
	}
}

func TestManualExplainsEveryField(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(manual)
	must(t, err)
	fields := reflect.TypeFor[heartbeat.Record]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		if name != "-" && !regexp.MustCompile("(?m)^\\|[^|]*`"+name+"`").Match(text) {
			t.Errorf("%s does not explain the field %s", manual, name)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
