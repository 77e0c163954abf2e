package preflight

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gophd/internal/config"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/self"
)

// manyJobs loads a config file with jobs:, in a directory of the test.
func manyJobs(t *testing.T, dir, text string) *config.Config {
	t.Helper()
	path := filepath.Join(dir, "d.yaml")
	if err := os.WriteFile(path, []byte("config: {auto_restart_interval: 24h}\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Request{Dir: dir, UID: 1, NeedCommand: true, SystemDir: dir,
		Env: []string{"GOPHD_STATE_DIR=" + dir, "GOPHD_CONFIG=" + path}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEachJobIsCheckedByItself checks that the reasons of an unfit job name it, that the others are
// fit, and that what concerns the daemon is no reason of a job.
func TestEachJobIsCheckedByItself(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/old", nil, 0o600), os.Mkdir(dir+"/out", 0o700)); err != nil {
		t.Fatal(err)
	}
	c := manyJobs(t, dir, `
config.pid_file: pid
heartbeat.scope: job
log.file: "%{job}.log"
job: {command: ['true']}
jobs:
  fit: {output: out/../old}
  command: {command: [./none]}
  several: {command: [./none], stdin: missing, output: none/x}
  user: {user: no-such-user}
  log: {output: log.log}
  log-of-another: {output: fit.log}
  daemon-log: {output: d.log}
  lock: {output: d.fit.heartbeat}
  pid: {stdin: pid}
  env: {env_file: [none, none2], command: [./none]}
`)
	k := NewChecker(c, os.Environ())
	if err := k.Daemon(); err != nil {
		t.Errorf("the daemon: %v", err)
	}
	want := map[string]struct {
		code  int
		lines []string
	}{
		"fit":     {},
		"command": {127, []string{"jobs.command: cannot start ./none: no such file"}},
		"several": {1, []string{"jobs.several: cannot start ./none", "jobs.several: job.output " + dir + "/none/x: directory",
			"jobs.several: job.stdin " + dir + "/missing: no such file"}},
		"user": {1, []string{"jobs.user: there is no user no-such-user"}},
		"env": {1, []string{"jobs.env: " + dir + "/d.yaml:17: jobs.env.env_file " + dir + "/none: no such file",
			"jobs.env: " + dir + "/d.yaml:17: jobs.env.env_file " + dir + "/none2: no such file", "jobs.env: cannot start ./none"}},
		"log":            {1, []string{"jobs.log: job.output " + dir + "/log.log is the log file itself"}},
		"log-of-another": {1, []string{"jobs.log-of-another: job.output " + dir + "/fit.log is the log of job fit: choose another file"}},
		"daemon-log":     {1, []string{"jobs.daemon-log: job.output " + dir + "/d.log is the log of daemon d: choose another file"}},
		"lock":           {1, []string{"jobs.lock: the lock of job fit and job.output have the same file"}},
		"pid":            {1, []string{"jobs.pid: config.pid_file and job.stdin have the same file", "jobs.pid: job.stdin " + dir + "/pid: no"}},
	}
	var all []string
	for _, spec := range c.Jobs {
		program, err := k.Job(spec)
		w := want[spec.Name]
		if len(w.lines) == 0 {
			if err != nil || filepath.Base(program) != "true" {
				t.Errorf("%s: %s, %v", spec.Name, program, err)
			}
			continue
		}
		if err == nil || job.StartCode(err) != w.code {
			t.Errorf("%s: %v; want exit code %d", spec.Name, err, w.code)
			continue
		}
		err = k.Named(spec, err)
		lines := strings.Split(err.Error(), "\n")
		all = append(all, lines...)
		if len(lines) != len(w.lines) {
			t.Errorf("%s: %q, want %q", spec.Name, lines, w.lines)
		}
		for i := range min(len(lines), len(w.lines)) {
			if !strings.HasPrefix(lines[i], w.lines[i]) {
				t.Errorf("%s: %s, want %s", spec.Name, lines[i], w.lines[i])
			}
		}
	}
	for name, check := range map[string]func() error{
		"Check":     func() error { _, err := Check(c, os.Environ()); return err },
		"CheckNext": func() error { return CheckNext(t.Context(), c, self.Self{Env: os.Environ()}) },
	} {
		if err := check(); err == nil || !slices.Equal(strings.Split(err.Error(), "\n"), all) {
			t.Errorf("%s: %v; want the reasons of each job", name, err)
		}
	}
}

// TestTheDaemonIsCheckedOnce checks that one problem of the daemon is reported once, whatever the
// number of jobs.
func TestTheDaemonIsCheckedOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const jobs = "job: {command: ['true']}\njobs: {a: {}, b: {}}\n"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"fit":           {"", nil},
		"PID file":      {"config.pid_file: none/x\n", []string{"choose another --pid-file"}},
		"log":           {"log.file: none/x\n", []string{"log.file " + dir + "/none/x: directory"}},
		"PID and log":   {"config.pid_file: x\nlog.file: x\n", []string{"config.pid_file and log.file have the same file"}},
		"PID and lock":  {"config.pid_file: d.daemon.lock\n", []string{"config.pid_file and the lock of daemon d have"}},
		"PID and locks": {"config.pid_file: d.b.heartbeat\nheartbeat.scope: job\n", []string{"config.pid_file and the lock of job b have"}},
		"another lock":  {"config.pid_file: d.b.heartbeat\n", nil},
		"password": {"heartbeat: {url: 'memcached://a', password_file: none}\n",
			[]string{"heartbeat.password_file " + dir + "/none: no such file"}},
	} {
		c := manyJobs(t, dir, jobs+tc.text)
		_, err := Check(c, os.Environ())
		var got []string
		if err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if len(got) != len(tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		for i := range min(len(got), len(tc.want)) {
			if !strings.Contains(got[i], tc.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], tc.want[i])
			}
		}
	}
}

// TestHoldersOfManyLeases checks who is found to hold the lease of the daemon, or that of a job.
func TestHoldersOfManyLeases(t *testing.T) {
	dir := t.TempDir()
	hold := func(path, name string) {
		lock, err := file.Open(dir + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = lock.Close() })
		if err := lock.Add(t.Context(), name, []byte("pid 7"), 0); err != nil {
			t.Fatal(err)
		}
	}
	hold("d.daemon.lock", "d")
	hold("d.b.heartbeat", "d.b")
	const jobs = "job: {command: ['true']}\njobs: {a: {}, b: {}}\n"
	c := manyJobs(t, dir, jobs)
	if _, lock, err := Holders(c); err != nil || !strings.HasPrefix(lock, "PID 7 ") {
		t.Errorf("scope daemon: held by %q, %v", lock, err)
	}
	for _, spec := range c.Jobs {
		if lock, err := JobHolder(c, spec); lock != "" || err != nil {
			t.Errorf("scope daemon: %s is held by %q, %v", spec.Name, lock, err)
		}
	}
	asked := self.Self{Env: append(os.Environ(), Running{}.Variable())}
	if err := CheckNext(t.Context(), c, asked); err == nil || !strings.Contains(err.Error(), "lease d is held by PID 7") {
		t.Errorf("scope daemon: reload gives %v", err)
	}
	c = manyJobs(t, dir, jobs+"heartbeat.scope: job\n")
	if _, lock, err := Holders(c); err != nil || !strings.HasPrefix(lock, "PID 7 ") {
		t.Errorf("scope job: held by %q, %v", lock, err)
	}
	for i, want := range []string{"", "PID 7 "} {
		if lock, err := JobHolder(c, c.Jobs[i]); err != nil || (lock == "") != (want == "") || !strings.HasPrefix(lock, want) {
			t.Errorf("scope job: %s is held by %q, %v", c.Jobs[i].Name, lock, err)
		}
	}
	asked.Env[len(asked.Env)-1] = Running{Lock: lease.PathID(dir + "/d.daemon.lock")}.Variable()
	if err := CheckNext(t.Context(), c, asked); err != nil {
		t.Errorf("scope job: job b would stand by, and reload gives %v", err)
	}
}

func TestLogOptionsOfEachJob(t *testing.T) {
	c := manyJobs(t, t.TempDir(), "log.file: '/l/%{job}.log'\njob: {command: ['true'], user: root}\njobs: {a: {}, b: {}}\n")
	l, err := LogOptions(c)
	if err != nil || l.File != "/l/d.log" || l.Job != "" || l.Trusted != nil {
		t.Errorf("the daemon: %+v, %v", l, err)
	}
	l, err = JobLogOptions(c, c.Jobs[1])
	if err != nil || l.File != "/l/b.log" || l.Job != "b" || !slices.Equal(l.Trusted, []int{0}) {
		t.Errorf("job b: %+v, %v", l, err)
	}
	// A job with the name of the daemon has its lines in the log of the daemon.
	named := manyJobs(t, t.TempDir(), "log.file: '/l/%{job}.log'\njob: {command: ['true']}\njobs: {a: {}, d: {}}\n")
	shared := manyJobs(t, t.TempDir(), "log: {file: /l/x, on_full: block}\njob: {command: ['true']}\njobs: {a: {}, b: {}}\n")
	for _, c := range []struct {
		config *config.Config
		own    []bool
	}{{c, []bool{true, true}}, {named, []bool{true, false}}, {shared, []bool{false, false}}} {
		for i, spec := range c.config.Jobs {
			if got := OwnLog(c.config, spec); got != c.own[i] {
				t.Errorf("log.file %s: job %s has its own log: %v", c.config.Log.File, spec.Name, got)
			}
		}
	}
	if got := Cautions(shared); len(got) != 1 || !strings.HasPrefix(got[0], "log.on_full block: the jobs share one log") {
		t.Errorf("%q", got)
	}
	for _, text := range []string{"log: {file: /l/x}", "log: {file: '/l/%{job}', on_full: block}", "log: {on_full: block}"} {
		if got := Cautions(manyJobs(t, t.TempDir(), text+"\njob: {command: ['true']}\njobs: {a: {}, b: {}}\n")); got != nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}
