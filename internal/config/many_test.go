package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/job"
	"gophd/internal/schedule"
)

// manyEntries returns a config file with n jobs.
func manyEntries(n int) string {
	var b strings.Builder
	b.WriteString(minimal + "job: {user: nobody, env: {TZ: UTC}}\njobs:\n")
	for i := range n {
		fmt.Fprintf(&b, "  job-%05d: {command: [./run.sh, %q], interval: %ds, timeout: 1m}\n", i, fmt.Sprint(i), 1+i%3600)
	}
	b.WriteString("database: {host: db1, port: 5432}\n")
	return b.String()
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := request(b)
			r.NeedCommand = true
			r.Env = []string{"GOPHD_CONFIG=" + write(b, filepath.Join(r.Dir, "x.yaml"), manyEntries(n))}
			b.ReportAllocs()
			for b.Loop() {
				load(b, r)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := request(b)
			r.NeedCommand = true
			r.Env = []string{"GOPHD_CONFIG=" + write(b, filepath.Join(r.Dir, "x.yaml"), manyEntries(n))}
			c := load(b, r)
			for b.Loop() {
				text := c.Encode()
				b.ReportMetric(float64(len(text)/n), "B/job")
			}
		})
	}
}

// jobsOf loads a file with the text, and returns the config.
func jobsOf(t *testing.T, text string, env ...string) *Config {
	t.Helper()
	r := request(t)
	r.NeedCommand = true
	r.Env = append(env, "GOPHD_CONFIG="+write(t, filepath.Join(r.Dir, "backup.jobs.yaml"), minimal+text))
	return load(t, r)
}

func TestEntryOverridesTheDefaults(t *testing.T) {
	c := jobsOf(t, `
job: {command: "true", timeout: 1m, stop_signals: [INT, QUIT], nice: 5, env: {A: "1", B: "2"}, rlimit: {core: 0}}
jobs:
  first: {}
  second: {timeout: 2m, stop_signals: [HUP], nice: 7, env: {B: "3"}, rlimit: {core: 1, nofile: 9}, command: [x]}
  third: {env: {C: "4"}}
db.host: h
`)
	if !c.Many || c.Name != "backup.jobs" || c.Heartbeat.Scope != "daemon" || c.MaxRunning != 0 {
		t.Errorf("name %s, scope %s", c.Name, c.Heartbeat.Scope)
	}
	type result struct {
		Name    string
		Timeout time.Duration
		Signals []syscall.Signal
		Nice    int
		Env     []string
		Limits  int
		Command string
	}
	var got []result
	for _, s := range c.Jobs {
		got = append(got, result{s.Name, s.Timeout, s.StopSignals, *s.Nice, s.Env, len(s.Rlimits), s.Command[0]})
	}
	inherited := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}
	want := []result{
		{"first", time.Minute, inherited, 5, []string{"GOPHD_DB_HOST=h", "A=1", "B=2"}, 1, "/bin/sh"},
		{"second", 2 * time.Minute, []syscall.Signal{syscall.SIGHUP}, 7, []string{"GOPHD_DB_HOST=h", "A=1", "B=3"}, 2, "x"},
		{"third", time.Minute, inherited, 5, []string{"GOPHD_DB_HOST=h", "A=1", "B=2", "C=4"}, 1, "/bin/sh"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[string]string{
		"jobs.second.env.A": "1", "jobs.second.env.B": "3", "jobs.third.timeout": "1m", "jobs.third.name": "third",
		"jobs.first.command": "true", "job.timeout": "1m", "jobs.third.overlap": "queue",
	} {
		if got, _ := c.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for _, key := range []string{"jobs.fourth.timeout", "jobs.first", "jobs.first.env.C", "jobs.first.db.host", "jobs."} {
		if text, ok := c.Get(key); ok {
			t.Errorf("%s is %q", key, text)
		}
	}
	if got := c.Nearest("jobs.secnd.timeout"); got != "jobs.second.timeout" {
		t.Errorf("nearest %q", got)
	}
}

// TestEverySettingOfAJobCanBeInAnEntry checks that each key of job: has the same effect in an
// entry.
func TestEverySettingOfAJobCanBeInAnEntry(t *testing.T) {
	needs := map[string]string{"group": "user: root", "max_parallel": "overlap: allow", "retry_delay": "retries: 1",
		"retry_exit_codes": "retries: 1", "seconds": "schedule: '@daily'", "year": "schedule: '@daily'", "timezone": "schedule: '@daily'",
		"catch_up": "schedule: '@daily'", "catch_up_window": "schedule: '@daily'", "start_deadline": "schedule: '@daily'",
		"between": "schedule: '* * * * *'", "exclude": "schedule: '@daily'",
		"splay": "schedule: '@daily'", "jitter": "schedule: '@daily'",
		"start_limit_interval": "start_limit: 2", "shell": "command: [x]"}
	for _, k := range keys() {
		key, ok := strings.CutPrefix(k.name, "job.")
		if !ok || key == "name" {
			continue
		}
		lines := "    command: x\n"
		if needs[key] != "" {
			lines += "    " + needs[key] + "\n"
		}
		if key == "command" || key == "shell" {
			lines = strings.Replace(lines, "    command: x\n", "", 1)
		}
		example := strings.Replace(k.example, "-/etc", "-/none", 1) // a file that is missing
		lines += fmt.Sprintf("    %s: %q\n", key, example)
		r := request(t)
		r.NeedCommand = true
		spec := func(text string) job.Spec {
			r.Env = []string{"GOPHD_CONFIG=" + write(t, filepath.Join(r.Dir, "a.yaml"), minimal+text)}
			return load(t, r).Jobs[0]
		}
		one, entry := spec("job:\n"+lines), spec("jobs:\n  a:\n"+lines)
		if diff := cmp.Diff(one, entry); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
		if plain := spec("job: {command: x}\n"); cmp.Equal(plain, one) && key != "env_file" && key != "shell" {
			t.Errorf("%s: the example is the default", key)
		}
	}
}

// TestTimingOfAnEntryReplacesTheInherited checks that an entry with one of interval, service, once
// and schedule drops the others, and that a service drops what needs ticks.
func TestTimingOfAnEntryReplacesTheInherited(t *testing.T) {
	daily, err := schedule.Parse("@daily", schedule.Options{Zone: time.Local})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		defaults, entry string
		want            job.Schedule
		interval        string
	}{
		{"interval: 1m", "schedule: '@daily'", job.Schedule{Calendar: &daily}, ""},
		{"service: yes", "schedule: '@daily'", job.Schedule{Calendar: &daily}, ""},
		{"once: yes", "schedule: '@daily'", job.Schedule{Calendar: &daily}, ""},
		{"schedule: '@daily'", "", job.Schedule{Calendar: &daily}, ""},
		{"schedule: '@hourly'", "schedule: '@daily'", job.Schedule{Calendar: &daily}, ""},
		{"schedule: '@daily', timezone: Europe/Berlin", "interval: 2", job.Schedule{Interval: 2 * time.Second}, "2"},
		{"schedule: '@daily', seconds: yes", "service: yes", job.Schedule{Interval: time.Second, Service: true}, "1s"},
		{"schedule: '@daily'", "once: yes", job.Schedule{Interval: 5 * time.Second, Once: true}, "5s"},
		{"interval: 1m", "", job.Schedule{Interval: time.Minute}, "1m"},
		{"interval: 1m", "service: yes", job.Schedule{Interval: time.Second, Service: true}, "1s"},
		{"interval: 1m", "service: yes, interval: 3", job.Schedule{Interval: 3 * time.Second, Service: true}, "3"},
		{"interval: 1m", "once: yes", job.Schedule{Interval: 5 * time.Second, Once: true}, "5s"},
		{"service: yes, interval: 9", "interval: 2", job.Schedule{Interval: 2 * time.Second}, "2"},
		{"service: yes, interval: 9", "", job.Schedule{Interval: 9 * time.Second, Service: true}, "9"},
		{"once: yes", "interval: 2", job.Schedule{Interval: 2 * time.Second}, "2"},
		{"once: yes", "service: no", job.Schedule{Interval: 5 * time.Second}, "5s"},
		{"overlap: skip, retries: 3, retry_delay: 2, retry_exit_codes: 75", "service: yes", job.Schedule{Interval: time.Second, Service: true}, "1s"},
		{"overlap: allow, max_parallel: 7", "overlap: queue", job.Schedule{Interval: 5 * time.Second}, "5s"},
	} {
		c := jobsOf(t, fmt.Sprintf("job: {command: x, %s}\njobs: {a: {%s}, b: {interval: 77}}\n", tt.defaults, tt.entry))
		got := c.Jobs[0].Schedule
		tt.want.RunAtStart, tt.want.Overlap, tt.want.MaxParallel = tt.want.Calendar == nil, job.OverlapQueue, 1
		if tt.want.Calendar != nil {
			tt.want.CatchUp = job.CatchUpOne
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s and %s: %s", tt.defaults, tt.entry, diff)
		}
		if text, _ := c.Get("jobs.a.interval"); text != tt.interval {
			t.Errorf("%s and %s: jobs.a.interval is %s, want %s", tt.defaults, tt.entry, text, tt.interval)
		}
		if retries, _ := c.Get("jobs.a.retries"); c.Jobs[0].Retries != 0 || retries != "0" || c.Jobs[0].RetryCodes != nil {
			t.Errorf("%s and %s: %s retries for %v", tt.defaults, tt.entry, retries, c.Jobs[0].RetryCodes)
		}
	}
}

func TestSettingsOfOneJobAreRefusedWithJobs(t *testing.T) {
	r := request(t)
	file := write(t, filepath.Join(r.Dir, "x.yaml"), minimal+"jobs: {a: {command: x}}\n")
	r.Env = []string{"GOPHD_JOB_INTERVAL=5", "GOPHD_JOB_NAME=n", "GOPHD_LOG_LEVEL=debug", "GOPHD_CONFIG_NAME=d"}
	_, err := Load(parsed(t, r, "-c", file, "--once", "-v", "--env", "A=1", "--", "./job.sh", "--password=s3cret"))
	fix := func(name string) string {
		return fmt.Sprintf("it is for one job, and %s:2 has jobs:; set jobs.NAME.%s there, or job.%[2]s for all jobs", file, name)
	}
	want := []string{
		`command line ["./job.sh","--password=(hidden)"]: the jobs of ` + file + ":2 have their own commands; leave it out",
		"GOPHD_JOB_NAME: the jobs of " + file + ":2 have their own names; set config.name for the daemon",
		"--env: " + fix("env"), "GOPHD_JOB_INTERVAL: " + fix("interval"), "--once: " + fix("once"),
	}
	if err == nil {
		t.Fatal("accepted")
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
	_, err = Load(parsed(t, request(t), "-c", write(t, file, minimal+"job.name: x\njobs: {a: {command: x}}\n")))
	if want := file + ":2: job.name: the jobs of " + file + ":3 have their own names; set config.name for the daemon"; err == nil ||
		err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = Load(parsed(t, request(t), "-c", write(t, file, minimal+"jobs:\n  a: {interval: 5}\n  b: {command: x}\n")))
	if want := file + ":3: jobs.a: no command; set jobs.a.command, or job.command for all jobs"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	write(t, file, minimal+"jobs: {b: {command: x}}\n")
	if c := load(t, parsed(t, request(t), "-c", file, "-n", "d", "-q")); c.Name != "d" || c.Jobs[0].Name != "b" {
		t.Errorf("the daemon is %s", c.Name)
	}
}

// TestNameOfOneJob checks which of the names of one job counts, and that both are shown.
func TestNameOfOneJob(t *testing.T) {
	for _, tt := range []struct {
		env  []string
		args []string
		want string
		from string
	}{
		{[]string{"GOPHD_JOB_NAME=j"}, []string{"x"}, "j", "environment GOPHD_JOB_NAME"},
		{[]string{"GOPHD_JOB_NAME=j", "GOPHD_CONFIG_NAME=c"}, []string{"x"}, "c", "environment GOPHD_CONFIG_NAME"},
		{[]string{"GOPHD_JOB_NAME=j", "GOPHD_CONFIG_NAME=c"}, []string{"-n", "f", "x"}, "f", "flag --name"},
	} {
		r := request(t)
		r.Env = tt.env
		c := load(t, parsed(t, r, tt.args...))
		if c.Many || c.Name != tt.want || c.Jobs[0].Name != tt.want || c.FileName(c.Jobs[0]) != tt.want {
			t.Errorf("%+v: daemon %s, job %s", tt, c.Name, c.Jobs[0].Name)
		}
		for _, key := range []string{"config.name", "job.name"} {
			if c.Shown(key) != tt.want || source(c, key) != tt.from {
				t.Errorf("%+v: %s is %s from %s", tt, key, c.Shown(key), source(c, key))
			}
		}
		if c.Heartbeat.Scope != "job" {
			t.Errorf("scope %s", c.Heartbeat.Scope)
		}
	}
}

func TestFilesOfEachJob(t *testing.T) {
	c := jobsOf(t, `
config.name: D
job: {command: x, output: "/o/%{job}"}
jobs: {a: {}, b: {output: "/p/%{job}/%{job}"}, c: {output: log}}
log.file: "/l/%%{job}/%{job}-%Y.log"
`)
	if got := c.FileName(c.Jobs[1]); got != "D.b" {
		t.Errorf("files of b are named %s", got)
	}
	if got := c.LogFile("b"); got != "/l/%%{job}/b-%Y.log" {
		t.Errorf("log of b: %s", got)
	}
	if got := c.LogFile(c.Name); got != "/l/%%{job}/D-%Y.log" {
		t.Errorf("log of the daemon: %s", got)
	}
	for i, want := range []job.Output{"/o/a", "/p/b/b", "log"} {
		if got := c.Jobs[i].Output; got != want {
			t.Errorf("output of %s: %s, want %s", c.Jobs[i].Name, got, want)
		}
	}
	for key, want := range map[string]string{"jobs.a.output": "/o/a", "jobs.b.output": "/p/b/b", "job.output": "/o/%{job}"} {
		if got, _ := c.Get(key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	one := load(t, parsed(t, request(t), "-n", "50%d", "--log-file", "/l/%{job}.log", "--output", "/o/%{job}", "x"))
	if one.Log.File != "/l/50%%d.log" || one.LogFile("50%d") != one.Log.File || one.Jobs[0].Output != "/o/50%d" {
		t.Errorf("one job: log %s, output %s", one.Log.File, one.Jobs[0].Output)
	}
	daemon := jobsOf(t, "jobs: {a: {command: x}}\n", "GOPHD_CONFIG_DAEMON=yes", "GOPHD_STATE_DIR=/s")
	if got := daemon.LogFile("a"); got != "/s/backup.jobs.log" || daemon.Jobs[0].Output != job.OutputLog {
		t.Errorf("log of a daemon: %s", got)
	}
}

func TestNameOfAJob(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "A-b_3": true, "_": true, "7": true, strings.Repeat("x", 100): true,
		"": false, "-a": false, "a.b": false, ".": false, "a b": false, "ü": false, "a/b": false, "a:b": false,
		strings.Repeat("x", 101): false} {
		if err := checkJobName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	// A name that suggests a secret is shown.
	c := jobsOf(t, "jobs: {rotate-token: {command: x, env: {API_KEY: s3cret}}}\n")
	if got := source(c, "jobs.rotate-token.command"); got == "" {
		t.Errorf("%+v", c.Values())
	}
	for _, v := range c.Values() {
		if strings.Contains(v.Text, "s3cret") {
			t.Errorf("%+v", v)
		}
	}
	if text, _ := c.Get("jobs.rotate-token.env.API_KEY"); text != "s3cret" {
		t.Errorf("Get gives %q", text)
	}
}

// TestEnvFileOfManyJobs checks that a file of job.env_file is read and reported once.
func TestEnvFileOfManyJobs(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir+"/e", "A=1\nB=x # y\n")
	c := jobsOf(t, "job: {command: x, env_file: "+file+"}\njobs: {a: {}, b: {}, c: {success_exit_codes: 3}, d: {success_exit_codes: 3}}\n")
	for _, s := range c.Jobs {
		if !slices.Equal(s.Env, []string{"A=1", "B=x # y"}) {
			t.Errorf("%s: %q", s.Name, s.Env)
		}
	}
	const zero = "success_exit_codes does not contain 0: a command that exits with 0 has failed"
	if len(c.Warnings) != 3 || !strings.HasPrefix(c.Warnings[0], file+": ") || c.Warnings[1] != "jobs.c."+zero ||
		c.Warnings[2] != "jobs.d."+zero {
		t.Errorf("%q", c.Warnings)
	}
	c = jobsOf(t, "job: {command: x, success_exit_codes: 3}\njobs: {a: {}, b: {}}\n")
	if want := []string{"job." + zero}; !slices.Equal(c.Warnings, want) {
		t.Errorf("%q, want %q", c.Warnings, want)
	}
	// A file that is missing makes only its job unfit, and one in job: each job that inherits it.
	const fix = ": no such file or directory; create it, or write a - before its path if it may be missing"
	c = jobsOf(t, "job: {command: x}\njobs:\n  a: {}\n  b: {env_file: [/none, /none2, "+file+"]}\n")
	at := c.File + ":5: jobs.b.env_file "
	if got := fmt.Sprint(c.Unfit(c.Jobs[1])); c.Unfit(c.Jobs[0]) != nil || got != "["+at+"/none"+fix+" "+at+"/none2"+fix+"]" {
		t.Errorf("unfit: %s", got)
	}
	if got := c.Jobs[1].Env; !slices.Equal(got, []string{"A=1", "B=x # y"}) {
		t.Errorf("the variables of the other file: %q", got)
	}
	again, err := Decode(c.Encode())
	if err != nil || !cmp.Equal(fmt.Sprint(again.Unfit(c.Jobs[1])), fmt.Sprint(c.Unfit(c.Jobs[1]))) {
		t.Errorf("after a handoff: %v, %v", again, err)
	}
	x := write(t, dir+"/x.yaml", minimal+"job: {command: x, env_file: /none}\njobs:\n  a: {}\n  b: {env_file: /none2}\n  c: {}\n")
	_, err = Load(parsed(t, request(t), "-c", x))
	if want := x + ":2: job.env_file /none" + fix; !errors.As(err, new(*UnfitError)) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	c = jobsOf(t, "job: {command: x, env_file: /none}\njobs:\n  b: {env_file: "+file+"}\n")
	if c.Unfit(c.Jobs[0]) != nil {
		t.Errorf("no job has the file of job:, and %v", c.Unfit(c.Jobs[0]))
	}
}

// TestManyJobsAreHandedOff checks that the handoff of a thousand jobs is exact, and has no values
// that no file has.
func TestManyJobsAreHandedOff(t *testing.T) {
	r := request(t)
	r.NeedCommand = true
	r.Env = []string{"GOPHD_CONFIG=" + write(t, filepath.Join(r.Dir, "x.yaml"), manyEntries(1000))}
	c := load(t, r)
	text := c.Encode()
	got, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.read(), got.read(), cmp.AllowUnexported(Config{}, texts{}, entries{})); diff != "" {
		t.Error(diff)
	}
	if n := len(c.Values()); n > 4*1000 {
		t.Errorf("%d values", n)
	}
	if _, err := Decode([]byte("{\"Config\":{\"Many\":true},\"Jobs\":[\"x\"]}\n{\"Name\":\"x\"}\n")); err == nil {
		t.Error("jobs without entries are accepted")
	}
}

// The limit of the size follows the number of jobs.
func TestLargeConfigOfManyJobsIsHandedOff(t *testing.T) {
	for _, c := range []struct {
		jobs, size int // of a variable in each
		handedOff  bool
	}{{1, 500 << 10, true}, {1, 2 << 20, false}, {500, 14 << 10, true}, {500, 20 << 10, false}} {
		r := request(t)
		r.NeedCommand = true
		r.Env = []string{"GOPHD_CONFIG=" + write(t, filepath.Join(r.Dir, "x.yaml"), manyEntries(c.jobs))}
		config := load(t, r)
		for i := range config.Jobs {
			config.Jobs[i].Env = []string{"A=" + strings.Repeat("a", c.size)}
		}
		if n := len(config.Encode()); (n > c.jobs*c.size) != c.handedOff || n > 0 && !c.handedOff {
			t.Errorf("a config of %d jobs with %d bytes each is encoded in %d bytes", c.jobs, c.size, n)
		}
	}
}

func TestCompareFindsTheJobsThatDiffer(t *testing.T) {
	dir := t.TempDir()
	env := write(t, dir+"/e", "A=1\n")
	const before = `
config.name: d
job: {user: u, chdir: /, timeout: 1m, env: {X: "1"}}
jobs:
  same: {command: a, timeout: 2m}
  edited: {command: a, interval: 5s, env: {Y: "1", TOKEN: "1"}}
  default: {command: a}
  service: {command: a, interval: 5s}
  removed: {command: a}
  renamed: {command: a}
  file: {command: a, timeout: 2m, env_file: ENV}
`
	load := func(text string) []byte { return jobsOf(t, strings.ReplaceAll(text, "ENV", env)).Encode() }
	first := load(before)
	if got := Compare(first, first); !cmp.Equal(got, Changes{Unchanged: 7}) {
		t.Errorf("%+v", got)
	}
	write(t, env, "A=2\n")
	edit := strings.NewReplacer("timeout: 1m", "timeout: 3m", `interval: 5s, env: {Y: "1", TOKEN: "1"}`,
		`interval: 2s, env: {Y: "1", TOKEN: "2"}`, "service: {command: a, interval: 5s", "service: {command: a, service: yes",
		"  removed: {command: a}\n", "  added: {command: a}\n", "renamed", "renamed2", "config.name: d", "config.max_running: 3")
	got := Compare(first, load(edit.Replace(before)))
	want := Changes{
		Settings: []string{"config.name", "config.max_running"},
		Added:    []string{"added", "renamed2"},
		Changed: []ChangedJob{
			{"edited", []string{"job.timeout", "job.env.TOKEN", "job.interval"}},
			{"default", []string{"job.timeout"}},
			{"service", []string{"job.timeout", "job.interval", "job.service"}},
			{"file", []string{"job.env_file"}},
		},
		Removed:   []string{"removed", "renamed"},
		Unchanged: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// A section of the user reaches every job.
	section := Compare(first, load(strings.ReplaceAll(before, "jobs:\n", "db: {password: x}\njobs:\n")))
	if len(section.Changed) != 7 || !slices.Equal(section.Changed[0].Settings, []string{"db.password"}) {
		t.Errorf("%+v", section)
	}
	if got := Compare(nil, first); len(got.Added) != 7 || got.Unchanged != 0 {
		t.Errorf("against nothing: %+v", got)
	}
}

// TestGlobOfInclude checks which files a glob finds, and that a directory that cannot be read is an
// error.
func TestGlobOfInclude(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/x.yaml", "a/.y.yaml", "a/z.yml", "b/x.yaml", "b/q?.yaml", "x.yaml", "line\n.yaml"} {
		write(t, dir+"/"+name, "")
	}
	for pattern, want := range map[string]string{
		"a/*.yaml": "a/x.yaml", "a/.*.yaml": "a/.y.yaml", "a/*": "a/x.yaml a/z.yml", "*/x.yaml": "a/x.yaml b/x.yaml",
		"?/x.*": "a/x.yaml b/x.yaml", "none/*.yaml": "", "*/none*": "", "b/[x].yaml": "b/x.yaml",
	} {
		got, err := glob(dir + "/" + pattern)
		text := strings.ReplaceAll(strings.Join(got, " "), dir+"/", "")
		if err != nil || text != want {
			t.Errorf("%s: %q, %v; want %s", pattern, text, err, want)
		}
	}
	for pattern, want := range map[string]string{
		"x.yaml/*": "x.yaml: not a directory", "a/[": "not a pattern", "[/x": "not a pattern", "*/[": "not a pattern",
	} {
		if got, err := glob(dir + "/" + pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want %s", pattern, got, err, want)
		}
	}
	r := request(t)
	_, err := Load(parsed(t, r, "-c", write(t, dir+"/m.yml", minimal+"include: ['line*.yaml']\n"), "x"))
	if want := fmt.Sprintf("%s/m.yml:2: include %q: contains a control character", dir, dir+"/line\n.yaml"); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = Load(parsed(t, r, "-c", write(t, dir+"/m.yml", minimal+"include: a\n"), "x"))
	if want := "include " + dir + "/a: a directory; write a/*.yaml for its files"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func BenchmarkDecode(b *testing.B) {
	r := request(b)
	r.NeedCommand = true
	r.Env = []string{"GOPHD_CONFIG=" + write(b, filepath.Join(r.Dir, "x.yaml"), manyEntries(1000))}
	text := load(b, r).Encode()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}

// Flags of one job are refused with jobs:, so advice names the keys of the job. The words of the user
// stay as they are.
func TestAdviceForOneOfManyJobsNamesItsKeys(t *testing.T) {
	for _, k := range keys() {
		if k.flag == "" {
			continue
		}
		want := "--" + k.flag
		if key, ok := strings.CutPrefix(k.name, "job."); ok {
			want = "jobs.a." + key
		}
		err := OfJob("a", fmt.Errorf("use --%s (--%s x): %w", k.flag, k.flag, fs.ErrNotExist))
		if err.Error() != "use "+want+" ("+want+" x): file does not exist" || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", k.flag, err)
		}
	}
	for _, text := range []string{
		`cannot start "a --user b \" --user c": x`, "cannot start --user: x", "before the --, and", "x--user", "./--user/--user", "--users",
	} {
		if err := OfJob("a", errors.New(text)); err.Error() != text {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := OfJob("a", nil); err != nil {
		t.Error(err)
	}
}
