package config

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/job"
)

// TestSettingsFromFlagsAndEnvironment checks how the settings of a command, its limits and its
// policies are parsed, from any source.
func TestSettingsFromFlagsAndEnvironment(t *testing.T) {
	umask, nice := 0o27, -5
	want := job.Spec{
		Name: "x",
		Exec: job.Exec{Command: []string{"./job.sh"}, Dir: "/srv/app/",
			Env: []string{"TZ=UTC", "B=a,b\nc"}, Stdin: "/in/put", User: "www-data:4294967294", Umask: &umask,
			Nice: &nice, Rlimits: []job.Rlimit{{Name: "nofile", Soft: 1024, Hard: 4096},
				{Name: "core", Soft: math.MaxUint64, Hard: math.MaxUint64}}, MemoryMax: 512 << 20, CPUMax: 150,
			TasksMax: 100},
		Schedule: job.Schedule{Interval: 5 * time.Second, RunAtStart: true, Overlap: job.OverlapAllow, MaxParallel: 4},
		Stop: job.Stop{StopSignals: []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT},
			Grace: 10 * time.Second, Escaped: job.EscapedKill, OnLeftover: job.LeftoverRefuse},
		Retry: job.Retry{SuccessCodes: []int{0, 3}, FatalCodes: []int{70}, RetryCodes: []int{75, 111},
			Retries: 3, RetryDelay: 500 * time.Millisecond, StartLimit: 5, StartLimitInterval: 10 * time.Minute},
		Output: job.OutputOnFailure,
	}
	r := request(t)
	r.Env = []string{
		"GOPHD_JOB_MEMORY_MAX=512M", "GOPHD_JOB_CPU_MAX=150%", "GOPHD_JOB_TASKS_MAX=100", "GOPHD_JOB_RETRY_DELAY=0.5",
		"GOPHD_JOB_RETRY_EXIT_CODES=75, 111", "GOPHD_JOB_SUCCESS_EXIT_CODES=0,3",
		"GOPHD_JOB_FATAL_EXIT_CODES=70", "GOPHD_JOB_START_LIMIT=5",
		"GOPHD_JOB_START_LIMIT_INTERVAL=10m", "GOPHD_LOG_FILE=syslog:x", "GOPHD_LOG_ON_FULL=block",
	}
	c := load(t, parsed(t, r, "-n", "x", "--chdir", "/srv/app/", "--env", "TZ=UTC", "--env", "B=a,b\nc",
		"--stdin", "/in/put",
		"--user", "www-data", "--group", "4294967294", "--umask", "027", "--nice", "-5", "--rlimit",
		"nofile=1024:4096", "--rlimit", "core=unlimited",
		"--overlap", "allow", "--max-parallel", "4", "--stop-signals", "INT", "--stop-signals", "sigquit",
		"--escaped", "kill",
		"--on-leftover", "refuse", "--retries", "3", "--output", "on-failure", "--", "./job.sh"))
	for i := range c.Jobs[0].Rlimits {
		c.Jobs[0].Rlimits[i].Resource = 0 // depends on the system
	}
	if diff := cmp.Diff(want, c.Jobs[0]); diff != "" {
		t.Error(diff)
	}
	if c.Log.File != "syslog:x" || c.Log.OnFull != "block" || c.Warnings != nil {
		t.Errorf("%+v, warnings %q", c.Log, c.Warnings)
	}

	r.Env = []string{"GOPHD_LOG_ROTATE_SIZE=100M", "GOPHD_LOG_ROTATE_AGE=24h", "GOPHD_LOG_KEEP=10",
		"GOPHD_LOG_KEEP_SIZE=1T", "GOPHD_LOG_COMPRESS=on",
		"GOPHD_LOG_MODE=600", "GOPHD_LOG_OWNER=root:adm", "GOPHD_LOG_SYNC=second"}
	log := Log{File: "/x.log", Format: "simple", Level: "info", RotateSize: 100 << 20,
		RotateAge: 24 * time.Hour, Keep: 10, KeepSize: 1 << 40, Compress: true,
		Mode: 0o600, Owner: "root:adm", Sync: "second", OnFull: "drop"}
	if diff := cmp.Diff(log, load(t, parsed(t, r, "--log-file", "/x.log", "x")).Log); diff != "" {
		t.Error(diff)
	}
}

// TestServiceDefaultInterval checks that the default interval of a service is one second.
func TestServiceDefaultInterval(t *testing.T) {
	r := request(t)
	c := load(t, parsed(t, r, "--service", "x"))
	if s := c.Jobs[0]; !s.Service || s.Interval != time.Second || c.Shown("job.interval") != "1s" {
		t.Errorf("service %v, interval %v, shown as %s", s.Service, s.Interval, c.Shown("job.interval"))
	}
	if s := load(t, parsed(t, r, "--service", "-i", "5", "x")).Jobs[0]; s.Interval != 5*time.Second {
		t.Errorf("interval %v", s.Interval)
	}
}

// TestLogServiceIsNoPath checks that a log service is not made a path, and that the command's
// output goes there by default.
func TestLogServiceIsNoPath(t *testing.T) {
	for _, file := range []string{"journald:", "journald:x", "syslog:", "syslog:my-job.7"} {
		c := load(t, parsed(t, request(t), "-d", "--log-file", file, "x"))
		if c.Log.File != file || c.Jobs[0].Output != job.OutputLog || c.Shown("log.file") != file {
			t.Errorf("%s: log to %s, output to %s", file, c.Log.File, c.Jobs[0].Output)
		}
	}
}

// TestMappingMerges checks that file, environment and flags each add to a mapping and replace its
// names, and that a list is replaced.
func TestMappingMerges(t *testing.T) {
	r := request(t)
	file := write(t, filepath.Join(r.Dir, "x.yaml"),
		minimal+"job:\n  env: {A: file, B: file, C: file}\n  stop_signals: [INT, QUIT]\n")
	r.Env = []string{"GOPHD_JOB_ENV=B=env\nD=env, too\n"}
	c := load(t, parsed(t, r, "-c", "x.yaml", "--env", "C=flag", "--env", "E=1", "--env", "E=2",
		"--stop-signals", "HUP", "./x"))
	want := []string{"A=file", "B=env", "C=flag", "D=env, too", "E=2"}
	if diff := cmp.Diff(want, c.Jobs[0].Env); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[string]string{
		"job.env.A": file + ":3", "job.env.B": "environment GOPHD_JOB_ENV", "job.env.C": "flag --env", "job.env": "",
		"job.stop_signals": "flag --stop-signals",
	} {
		if got := source(c, key); got != want {
			t.Errorf("%s comes from %q, want %q", key, got, want)
		}
	}
	if got, _ := c.Get("job.env.D"); got != "env, too" {
		t.Errorf("Get gives %q", got)
	}
	if got := c.Jobs[0].StopSignals; !slices.Equal(got, []syscall.Signal{syscall.SIGHUP}) {
		t.Errorf("stop signals %v", got)
	}
}

// TestEnvironmentOrder checks that later values override earlier ones: sections, files, variables.
// Each name has one value.
func TestEnvironmentOrder(t *testing.T) {
	r := request(t)
	write(t, filepath.Join(r.Dir, "a.env"), "# a comment\nA='a a'\nB=a\nC=a\nGOPHD_DB_HOST=a\n")
	write(t, filepath.Join(r.Dir, "b.env"), "B=b\nC=b\n")
	write(t, filepath.Join(r.Dir, "x.yaml"),
		minimal+"job: {env_file: [a.env, -none.env, b.env], env: {C: c, GOPHD_DB_PORT: c}, clear_env: yes}\ndb: {host: x, port: x, name: x}\n")
	c := load(t, parsed(t, r, "-c", "x.yaml", "./x"))
	want := []string{"PATH=" + usualPath, "GOPHD_DB_HOST=a", "GOPHD_DB_PORT=c", "GOPHD_DB_NAME=x", "A=a a",
		"B=b", "C=c"}
	if diff := cmp.Diff(want, c.Jobs[0].Env); diff != "" || !c.Jobs[0].ClearEnv {
		t.Error(diff)
	}
	if got := c.Shown("job.env_file"); got != r.Dir+"/a.env,-"+r.Dir+"/none.env,"+r.Dir+"/b.env" {
		t.Errorf("shown as %s", got)
	}
	env := load(t, parsed(t, r, "-c", "x.yaml", "--env", "PATH=/bin", "./x")).Jobs[0].Env
	if !slices.Contains(env, "PATH=/bin") ||
		slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=/usr") }) {
		t.Errorf("a PATH that was given is lost: %q", env)
	}

	// A command that runs gophd config get may have no right to read the files of its gophd.
	for _, file := range []string{"a.env", "b.env"} {
		if err := os.Remove(filepath.Join(r.Dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	r.Env = []string{"GOPHD_CONFIG=x.yaml"}
	load(t, r)
}

// TestMissingEnvFileIsUnfit checks that a file which cannot be read makes a config unfit, and that
// one whose content cannot be understood makes it invalid, also beside the other.
func TestMissingEnvFileIsUnfit(t *testing.T) {
	r := request(t)
	write(t, filepath.Join(r.Dir, "bad.env"), "A")
	for name, tc := range map[string]struct {
		args  []string
		unfit bool
		want  []string
	}{
		"missing":      {[]string{"--env-file", "none"}, true, []string{"/none: no such file or directory; create it"}},
		"two":          {[]string{"--env-file", "none", "--env-file", "none2"}, true, []string{"/none: ", "/none2: "}},
		"no directory": {[]string{"--env-file", "bad.env/x"}, true, []string{"/x: not a directory; allow gophd to read it"}},
		"directory":    {[]string{"--env-file", "-" + r.Dir}, true, []string{"not a regular file; name a file of KEY=VALUE"}},
		"content":      {[]string{"--env-file", "bad.env"}, false, []string{"bad.env: line 1 has no ="}},
		"both": {[]string{"--env-file", "none", "--env-file", "bad.env"}, false,
			[]string{"bad.env: line 1 has no =", "/none: no such file"}},
		"beside a wrong setting": {[]string{"--env-file", "none", "-i", "soon"}, false, []string{"-interval soon"}},
		"no config file":         {[]string{"-c", "none.yaml"}, false, []string{"/none.yaml: no such file"}},
	} {
		_, err := Load(parsed(t, r, append(tc.args, "x")...))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if unfit := errors.As(err, new(*UnfitError)); unfit != tc.unfit {
			t.Errorf("%s: unfit is %t: %v", name, unfit, err)
		}
		if missing := strings.Contains(err.Error(), "no such file"); missing && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the cause is lost: %v", name, err)
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", name, err, want)
			}
		}
	}
}

func TestInvalidEnvFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\nB":                       "line 2 has no =: write KEY=VALUE, # before a comment, or quotes around a value of several lines",
		"\xff\xfeA\x00=\x001\x00":      "UTF-16 text, as some Windows editors save it; save the file as UTF-8",
		"\xfe\xff\x00A\x00=\x001":      "UTF-16 text, as some Windows editors save it; save the file as UTF-8",
		"A\x00=\x001\x00":              "line 1 holds a NUL byte: save the file as UTF-8 text",
		"A=1\n\nPW=\"hunter2":          "line 3: the value of PW has no closing quote: add it",
		"GOPHD_RUN=7":                  "GOPHD_RUN is gophd's own; rename it",
		strings.Repeat("x", maxFile+1): "larger than 1 MiB; not a file of KEY=VALUE lines",
	} {
		r := request(t)
		path := write(t, filepath.Join(r.Dir, "a.env"), text)
		_, err := Load(parsed(t, r, "--env-file", "a.env", "x"))
		if err == nil || strings.TrimPrefix(strings.TrimPrefix(err.Error(), "--env-file "), path+": ") != want {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	r := request(t)
	write(t, filepath.Join(r.Dir, "a.env"), strings.Repeat("\xff", maxFile-2)+"=")
	if _, err := Load(parsed(t, r, "--env-file", "a.env", "x")); err == nil || len(err.Error()) > 1000 {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
	r = request(t)
	path := write(t, filepath.Join(r.Dir, "a.env"), "\ufeffexport A=1\r\n"+strings.Repeat("B=2 # why\n", 2*maxProblems))
	c := load(t, parsed(t, r, "--env-file", "a.env", "x"))
	if diff := cmp.Diff([]string{"A=1", "B=2 # why"}, c.Jobs[0].Env); diff != "" {
		t.Error(diff)
	}
	if len(c.Warnings) != maxProblems || !strings.HasPrefix(c.Warnings[0], path+": line 2: the value of B goes up to the end") {
		t.Errorf("%d warnings: %q", len(c.Warnings), c.Warnings)
	}
	r = request(t)
	if err := os.Chmod(write(t, filepath.Join(r.Dir, "a.env"), "A=1"), 0o666); err != nil {
		t.Fatal(err)
	}
	got := load(t, parsed(t, r, "--env-file", "a.env", "x")).Warnings
	if len(got) != 1 || !strings.HasSuffix(got[0], "chmod o-w") {
		t.Errorf("warnings %q", got)
	}
}

// TestVariablesAreSecret checks that no error has the value of a variable, and that a variable with
// the name of a secret is not shown.
func TestVariablesAreSecret(t *testing.T) {
	c := load(t, parsed(t, request(t), "--env", "API_TOKEN=hunter2 hunter2", "--env",
		"URL=redis://u:hunter2@h", "--env", "SECRET_BASE=hunter2",
		"--env", "USER=me", "x"))
	shown := map[string]string{}
	for _, v := range c.Values() {
		shown[v.Key] = v.Text
		if strings.Contains(v.Text, "hunter2") {
			t.Errorf("%+v", v)
		}
	}
	if shown["job.env.USER"] != "me" || shown["job.env.API_TOKEN"] != hidden {
		t.Errorf("shown are %q", shown)
	}
	for _, text := range []string{"1=hunter2", "A B=hunter2", "GOPHD_RUN=hunter2", "A=hunter2\x00",
		"=hunter2", "hunter2"} {
		if _, err := Load(parsed(t, request(t), "--env", text, "x")); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWarningsForUnlikelySettings(t *testing.T) {
	for _, tt := range []struct {
		env  []string
		want string
	}{
		{[]string{"GOPHD_JOB_SUCCESS_EXIT_CODES=1"},
			"job.success_exit_codes does not contain 0: a command that exits with 0 has failed"},
		{[]string{"GOPHD_JOB_SUCCESS_EXIT_CODES=1,0"}, ""},
		{[]string{"GOPHD_JOB_START_LIMIT=5", "GOPHD_JOB_INTERVAL=16"},
			"job.start_limit 5 is never reached: so many starts at an interval of 16s take longer than job.start_limit_interval 1m0s"},
		{[]string{"GOPHD_JOB_START_LIMIT=5", "GOPHD_JOB_INTERVAL=15"}, ""},
		{[]string{"GOPHD_JOB_START_LIMIT=1", "GOPHD_JOB_INTERVAL=1h"}, ""},
		{[]string{"GOPHD_JOB_START_LIMIT=10", "GOPHD_JOB_SERVICE=yes"}, ""},
		{[]string{"GOPHD_JOB_START_LIMIT=11", "GOPHD_JOB_SERVICE=yes"},
			"job.start_limit 11 is never reached: so many starts that fail at once, each of which waits longer than the last, take longer than job.start_limit_interval 1m0s"},
		{[]string{"GOPHD_JOB_START_LIMIT=8", "GOPHD_JOB_INTERVAL=0", "GOPHD_JOB_START_LIMIT_INTERVAL=10"},
			"job.start_limit 8 is never reached: so many starts that fail at once, each of which waits longer than the last, take longer than job.start_limit_interval 10s"},
		{[]string{"GOPHD_JOB_START_LIMIT=5", "GOPHD_JOB_INTERVAL=1h", "GOPHD_JOB_RETRIES=3"},
			"job.start_limit 5 is never reached: so many starts at an interval of 1h0m0s take longer than job.start_limit_interval 1m0s"},
	} {
		r := request(t)
		r.Command, r.Env = []string{"x"}, tt.env
		if got := strings.Join(load(t, r).Warnings, "\n"); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.env, got, tt.want)
		}
	}
}

// TestNameDependsOnDirectory checks that a relative command has different names in two directories.
func TestNameDependsOnDirectory(t *testing.T) {
	name := func(args ...string) string { return load(t, parsed(t, request(t), args...)).Jobs[0].Name }
	if a, b := name("--chdir", "/a", "./x"), name("--chdir", "/b", "./x"); a == b {
		t.Errorf("both are %s", a)
	}
	if a, b := name("--chdir", "/a/", "./x"), name("/a/x"); a != b {
		t.Errorf("one command is %s and %s", a, b)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": 1, "4096": 4096, "1K": 1024, "3M": 3 << 20, "2G": 2 << 30, "1T": 1 << 40, "007K": 7 << 10,
		"8388607T": 8388607 << 40, "9223372036854775807": math.MaxInt64} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"": "not a size", "K": "not a size", "1k": "not a size", "1KB": "not a size", "1KK": "not a size",
		"-1": "not a size", "-1K": "not a size", "+1": "not a size",
		"1.5G": "not a size", " 1": "not a size", "1 K": "not a size", "0x10": "not a size",
		"1_0": "not a size", "1e3": "not a size", "1P": "not a size",
		"8388608T": "too large", "9223372036854775808": "too large", strings.Repeat("9", 400) + "K": "too large",
	} {
		if got, err := parseSize(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %d, %v; want %s", text, got, err, want)
		}
	}
}

// FuzzSize checks that an accepted size is never negative, that showSize is its inverse, and that
// another digit never makes it smaller.
func FuzzSize(f *testing.F) {
	for _, seed := range []string{"0", "1K", "512M", "8388607T", "-1", "1k", "9223372036854775808", "1.5G", "K"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseSize(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || n != 0 {
				t.Errorf("%q: %d, %v", text, n, err)
			}
			return
		}
		if n < 0 {
			t.Fatalf("%q is negative: %d", text, n)
		}
		if again, err := parseSize(showSize(n)); err != nil || again != n {
			t.Errorf("%q is shown as %s, and that is %d, %v", text, showSize(n), again, err)
		}
		if more, err := parseSize("1" + text); err == nil && more <= n {
			t.Errorf("1%s is %d, %[1]s is %[3]d", text, more, n)
		}
	})
}

// FuzzLists checks that the error of a list or mapping is one short line, and that an accepted text
// means the same when its items are written again.
func FuzzLists(f *testing.F) {
	for _, seed := range []string{"0,3", "TERM, INT", "SIGHUP", "15", "a.env,-b.env", ",", "TZ=UTC",
		"A=1\nB=2", "A=a,b", "nofile=1:2", "256", "KILL"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"job.success_exit_codes", "job.stop_signals", "job.env_file", "job.env",
			"job.rlimit"} {
			l := newLoader(Request{})
			k := l.table[name]
			g := l.read(k, given{text: text, source: "here"})
			if len(l.problems) != 0 {
				for _, problem := range l.problems {
					if s := problem.Error(); strings.Contains(s, "\n") || len(s) > 1000 {
						t.Errorf("%s %q: %q", name, text, s)
					}
				}
				continue
			}
			again := g
			again.value, again.pairs = nil, nil
			if k.kind == mapping {
				for _, p := range g.pairs {
					again = l.pair(k, again, p.name+"="+p.text)
				}
			} else {
				again.text = " " + strings.Join(strings.Split(text, ","), " ,\t") + " "
				again = l.read(k, again)
			}
			again.text = g.text
			if diff := cmp.Diff(g, again, cmp.AllowUnexported(given{}, pair{})); diff != "" || len(l.problems) != 0 {
				t.Errorf("%s %q: %s %v", name, text, diff, l.problems)
			}
		}
	})
}
