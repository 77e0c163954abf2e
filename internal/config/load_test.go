package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"gophd/internal/job"
)

// parsed adds the flags and the command of a command line to a request.
func parsed(t testing.TB, r Request, args ...string) Request {
	t.Helper()
	r.Flags = pflag.NewFlagSet("run", pflag.ContinueOnError)
	AddFlags(r.Flags)
	if err := r.Flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	r.Command = r.Flags.Args()
	r.NeedCommand = true
	return r
}

func load(t testing.TB, r Request) *Config {
	t.Helper()
	c, err := Load(r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func source(c *Config, key string) string {
	for _, v := range c.Values() {
		if v.Key == key {
			return v.Source
		}
	}
	return ""
}

const minimal = "config: {auto_restart_interval: 24h}\n"

func TestPrecedence(t *testing.T) {
	r := request(t)
	file := write(t, filepath.Join(r.Dir, "x.yaml"), minimal+"job: {interval: 3, timeout: 3, grace: 3}\n")
	r.Env = []string{"GOPHD_JOB_INTERVAL=2", "GOPHD_JOB_TIMEOUT=2", "GOPHD_LOG_LEVEL=debug"}
	c := load(t, parsed(t, r, "-c", "x.yaml", "--interval", "1", "--log-level=warn", "--", "./job.sh"))
	s := c.Jobs[0]
	if s.Interval != time.Second || s.Timeout != 2*time.Second || s.Grace != 3*time.Second || c.Log.Level != "warn" {
		t.Errorf("interval %v, timeout %v, grace %v, level %s", s.Interval, s.Timeout, s.Grace, c.Log.Level)
	}
	for key, want := range map[string]string{
		"job.interval": "flag --interval",
		"job.timeout":  "environment GOPHD_JOB_TIMEOUT",
		"job.grace":    file + ":2",
		"job.overlap":  "default",
		"job.command":  "command line",
		"log.level":    "flag --log-level",
	} {
		if got := source(c, key); got != want {
			t.Errorf("%s comes from %q, want %q", key, got, want)
		}
	}
	if c.File != file || s.Name != "x" {
		t.Errorf("file %s, name %s", c.File, s.Name)
	}
}

func TestFlags(t *testing.T) {
	r := request(t)
	c := load(t, parsed(t, r, "-dvp", "x.pid", "-n", "nightly", "-i", "0.2", "--no-run-at-start", "--standby",
		"--held-exit-code", "75", "--heartbeat", "memcached://db1:11211", "--output", "out/x",
		"--auto-restart-interval=0", "--heartbeat-password-file", "mc.pw",
		"./job.sh", "-d", "--", "--once"))
	s := c.Jobs[0]
	want := job.Spec{
		Name:     "nightly",
		Exec:     job.Exec{Command: []string{"./job.sh", "-d", "--", "--once"}, Dir: r.Dir, Stdin: job.StdinNull},
		Schedule: job.Schedule{Interval: 200 * time.Millisecond, Overlap: job.OverlapQueue, MaxParallel: 1},
		Stop: job.Stop{Grace: 10 * time.Second, StopSignals: []syscall.Signal{syscall.SIGTERM},
			Escaped: job.EscapedReport, OnLeftover: job.LeftoverWait},
		Output: job.Output(filepath.Join(r.Dir, "out/x")),
		Retry:  job.Retry{SuccessCodes: []int{0}, RetryDelay: time.Second, StartLimitInterval: time.Minute},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if !c.Daemon || c.Verbose || c.PIDFile != filepath.Join(r.Dir, "x.pid") || c.AutoRestart != 0 ||
		!c.Heartbeat.Standby || c.Heartbeat.HeldExitCode != 75 || c.Log.File != filepath.Join(c.LogDir, "nightly.log") {
		t.Errorf("%+v", c)
	}
	if got, _ := c.Get("heartbeat.password_file"); got != filepath.Join(r.Dir, "mc.pw") || got != c.Heartbeat.PasswordFile ||
		!slices.ContainsFunc(c.Values(), func(v Value) bool { return v.Key == "heartbeat.password_file" && v.Text == got }) {
		t.Errorf("heartbeat.password_file is %q, and shown as %q", c.Heartbeat.PasswordFile, got)
	}
	if got, _ := c.Get("log.file"); got != c.Log.File || source(c, "log.file") != "default" {
		t.Errorf("log.file is shown as %q from %s", got, source(c, "log.file"))
	}
	if c := load(t, parsed(t, r, "-d", "-n", "50%d", "./x")); filepath.Base(c.Log.File) != "50%%d.log" {
		t.Errorf("%s contains a pattern that is not in the job name", c.Log.File)
	}
	if text, _ := c.Get("job.run_at_start"); text != "false" {
		t.Errorf("job.run_at_start is shown as %q", text)
	}
	if c := load(t, parsed(t, r, "--no-run-at-start=false", "./job.sh")); !c.Jobs[0].RunAtStart {
		t.Error("--no-run-at-start=false does not run at start")
	}
}

// TestInvalidSettingErrors checks the exact errors of an invalid flag, environment or command line.
func TestInvalidSettingErrors(t *testing.T) {
	const fix = "write seconds (5, 0.2) or a Go duration (200ms, 1h)"
	tests := []struct {
		args []string
		env  string
		want string
	}{
		{[]string{"--interval", "5x", "x"}, "", "--interval 5x: not a duration; " + fix},
		{[]string{"--interval", "", "x"}, "", `--interval "": not a duration; ` + fix},
		{[]string{"--interval", "1d", "x"}, "", "--interval 1d: unit d is not known; write 24h"},
		{[]string{"-interval", "5", "x"}, "", "-interval: one dash is for flags of one letter; write --interval"},
		{[]string{"-name", "nightly", "x"}, "", "-name: one dash is for flags of one letter; write --name"},
		{[]string{"-pid-file", "/x", "x"}, "", "-pid-file: one dash is for flags of one letter; write --pid-file"},
		{[]string{"--chdir", "${APP}", "x"}, "",
			"--chdir ${APP}: variables are expanded by shells only; write the value, or set GOPHD_JOB_CHDIR"},
		{[]string{"-n", "$JOB", "x"}, "",
			"--name $JOB: variables are expanded by shells only; write the value, or set GOPHD_CONFIG_NAME"},
		{[]string{"--env-file", "a.env,$HOME/b.env", "x"}, "",
			"--env-file a.env,$HOME/b.env: variables are expanded by shells only; write the value, or set GOPHD_JOB_ENV_FILE"},
		{[]string{"x"}, "GOPHD_JOB_TIMEOUT=${T}",
			"GOPHD_JOB_TIMEOUT ${T}: variables are expanded by shells only; write the value"},
		{[]string{"-c", "$APP/x.yaml", "x"}, "",
			"--config $APP/x.yaml: variables are expanded by shells only; write the value, or set GOPHD_CONFIG"},
		{[]string{"--interval=-5", "x"}, "", "--interval -5: negative; " + fix},
		{[]string{"--interval", "500us", "x"}, "", "--interval 500us: too short; the minimum is 1ms, or 0"},
		{[]string{"x"}, "GOPHD_JOB_INTERVAL=NaN", "GOPHD_JOB_INTERVAL NaN: not a duration; " + fix},
		{[]string{"-i", "5", "x"}, "GOPHD_JOB_INTERVAL=+Inf", "GOPHD_JOB_INTERVAL +Inf: not a duration; " + fix},
		{[]string{"--auto-restart-interval", "9.9", "x"}, "",
			"--auto-restart-interval 9.9: too short; the minimum is 10s, or 0"},
		{[]string{"--once=perhaps", "x"}, "", "--once perhaps: neither yes nor no; write true or false"},
		{[]string{"--no-run-at-start=x", "x"}, "", "--no-run-at-start x: neither yes nor no; write true or false"},
		{[]string{"--overlap", "lap", "x"}, "", "--overlap lap: no such choice; write queue, skip, replace or allow"},
		{[]string{"--overlap", "run", "x"}, "", "--overlap run: renamed; write queue"},
		{[]string{"--overlap", "kill", "x"}, "", "--overlap kill: renamed; write replace"},
		{[]string{"--overlap", "overlap", "x"}, "", "--overlap overlap: renamed; write allow"},
		{[]string{"x"}, "GOPHD_JOB_STRAYS=kill", "GOPHD_JOB_STRAYS: renamed; set GOPHD_JOB_ESCAPED"},
		{[]string{"x"}, "GOPHD_JOB_ON_ORPHAN=kill", "GOPHD_JOB_ON_ORPHAN: renamed; set GOPHD_JOB_ON_LEFTOVER"},
		{[]string{"x"}, "GOPHD_JOB_OVERRUN=skip", "GOPHD_JOB_OVERRUN: renamed; set GOPHD_JOB_OVERLAP"},
		{[]string{"x"}, "GOPHD_JOB_KEEP=yes", "GOPHD_JOB_KEEP: renamed; set GOPHD_JOB_SERVICE"},
		{[]string{"x"}, "GOPHD_HEARTBEAT_WAIT=yes", "GOPHD_HEARTBEAT_WAIT: renamed; set GOPHD_HEARTBEAT_STANDBY"},
		{[]string{"--log-format", "xml", "x"}, "", "--log-format xml: no such choice; write simple, json or console"},
		{[]string{"--output", "on_failure", "x"}, "",
			"--output on_failure: did you mean on-failure? for a file of that name write ./on_failure"},
		{[]string{"--output", "Inherit", "x"}, "",
			"--output Inherit: did you mean inherit? for a file of that name write ./Inherit"},
		{[]string{"--output", "log", "x"}, "",
			"--output log: there is no log file; add --log-file FILE, or use inherit"},
		{[]string{"-d", "--output", "inherit", "x"}, "",
			"--output inherit: a daemon has no terminal, the output would be lost; use log, on-failure, discard or a file"},
		{[]string{"-p", "-", "x"}, "", "--pid-file -: not a file here; for a file of that name write ./-"},
		{[]string{"-c", "-", "x"}, "", "--config -: not a file here; for a file of that name write ./-"},
		{[]string{"-p", "", "x"}, "", `--pid-file "": empty; name a file, or leave it out`},
		{[]string{"-p", "~/x", "x"}, "", "--pid-file ~/x: ~ is expanded by shells only; write the full path"},
		{[]string{"-p", "~me/x", "x"}, "", "--pid-file ~me/x: ~ is expanded by shells only; write the full path"},
		{[]string{"-c", "~/x.yaml", "x"}, "", "--config ~/x.yaml: ~ is expanded by shells only; write the full path"},
		{[]string{"--output", "on-fail", "x"}, "",
			"--output on-fail: did you mean on-failure? for a file of that name write ./on-fail"},
		{[]string{"--log-file", "journal", "x"}, "",
			"--log-file journal: did you mean journald:? for a file of that name write ./journal"},
		{[]string{"--log-file", "/var/log/", "x"}, "", "--log-file /var/log/: a directory; name a file in it"},
		{[]string{"--log-file", "a\nb", "x"}, "", `--log-file "a\nb": contains a control character`},
		{[]string{"--held-exit-code", "256", "x"}, "", "--held-exit-code 256: not a whole number from 0 to 255"},
		{[]string{"--shell", "--", "a", "|", "b"}, "",
			"--shell: takes a command of one word, this one has 3; quote the line, as in 'a | b'"},
		{[]string{"--shell", " "}, "", `command line " ": an empty line for the shell; write the command`},
		{[]string{""}, "", `command line "": an empty word instead of a command; write the command first`},
		{nil, "", "no command: write it after --, as in gophd run -- ./job.sh, or set job.command in a config file"},
		{nil, "GOPHD_JOB_COMMAND=  ", `GOPHD_JOB_COMMAND "  ": an empty line for the shell; write the command`},
		{[]string{"-c", "", "x"}, "", `--config "": empty; name a file, or leave it out`},
		{[]string{"-c", "x.conf", "x"}, "",
			"--config x.conf: the extension is not a known format; use .yaml, .yml, .toml, .json or .ini; " +
				"for a crontab write --crontab"},
		{[]string{"-c", "/none/x.yaml", "x"}, "", "/none/x.yaml: no such file or directory; check its path"},
		{[]string{"x"}, "GOPHD_CONFIG=/none/x.yaml", "/none/x.yaml: no such file or directory; check its path"},
		{[]string{"-c", "/dev/null/x.ini", "x"}, "", "/dev/null/x.ini: not a directory"},
		{[]string{"--env", "=x", "x"}, "",
			`--env: "" is not the KEY of a KEY=VALUE; write letters, digits and _, no digit first`},
		{[]string{"--env", "PASSWORD", "x"}, "", "--env: no = sign; write KEY=VALUE"},
		{[]string{"--env", "A=1", "--env", "é=secret", "x"}, "",
			"--env: é is not the KEY of a KEY=VALUE; write letters, digits and _, no digit first"},
		{[]string{"--env", "GOPHD_FENCE=7", "x"}, "", "--env: GOPHD_FENCE is gophd's own; rename it"},
		{[]string{"x"}, "GOPHD_JOB_ENV=A=1\n\nB=2", "GOPHD_JOB_ENV: no = sign; write KEY=VALUE"},
		{[]string{"--env-file", "/none/a.env", "x"}, "", "--env-file /none/a.env: no such file or directory; " +
			"create it, or write a - before its path if it may be missing"},
		{[]string{"--env-file", "-", "x"}, "", "--env-file: -: not a file here; for a file of that name write ./-"},
		{[]string{"--env-file", "-/dev/null", "x"}, "",
			"--env-file /dev/null: not a regular file; name a file of KEY=VALUE lines"},
		{[]string{"--chdir", "", "x"}, "", `--chdir "": empty; name a directory, or leave it out`},
		{[]string{"--chdir", "~", "x"}, "", "--chdir ~: ~ is expanded by shells only; write the full path"},
		{[]string{"--output", "journald:x", "x"}, "", "--output journald:x: a log service; " +
			"write log, and --log-file journald:x; for a file of that name write ./journald:x"},
		{[]string{"--stdin", "nul", "x"}, "", "--stdin nul: did you mean null? for a file of that name write ./nul"},
		{[]string{"-d", "--stdin", "inherit", "x"}, "",
			"--stdin inherit: a daemon has no terminal; use null or a file"},
		{[]string{"--user", "", "x"}, "",
			`--user "": not a user; write USER or USER:GROUP, names or numbers up to 4294967294`},
		{[]string{"--user", "4294967295", "x"}, "",
			"--user 4294967295: not a user; write USER or USER:GROUP, names or numbers up to 4294967294"},
		{[]string{"--user", "a", "--group", "b:c", "x"}, "",
			"--group b:c: not a group; write a name, or a number up to 4294967294"},
		{[]string{"--user", "a:b", "--group", "c", "x"}, "",
			"--group c: job.user names a group too; leave one of them out"},
		{[]string{"--group", "c", "x"}, "", "--group c: there is no user; set job.user, or leave it out"},
		{[]string{"--umask", "0888", "x"}, "", "--umask 0888: not an octal number from 0 to 0777; write one like 027"},
		{[]string{"--nice", "-21", "x"}, "", "--nice -21: not a whole number from -20 to 19"},
		{[]string{"--nice", "+5", "x"}, "", "--nice +5: not a whole number from -20 to 19"},
		{[]string{"--stop-signals", "TERM,,INT", "x"}, "",
			"--stop-signals: an empty value; write one, or several with commas between them"},
		{[]string{"--stop-signals", "TERM", "--stop-signals", "KILL", "x"}, "",
			"--stop-signals: KILL is always sent after the last signal; leave it out"},
		{[]string{"x"}, "GOPHD_JOB_SUCCESS_EXIT_CODES=0 3",
			`GOPHD_JOB_SUCCESS_EXIT_CODES: "0 3" is not an exit code; write numbers from 0 to 255 with commas between them`},
		{[]string{"x"}, "GOPHD_JOB_MEMORY_MAX=1.5g", "GOPHD_JOB_MEMORY_MAX 1.5g: not a size; write 1536M"},
		{[]string{"x"}, "GOPHD_JOB_MEMORY_MAX=1000K", "GOPHD_JOB_MEMORY_MAX 1000K: too small; the minimum is 1M, or 0"},
		{[]string{"x"}, "GOPHD_JOB_CPU_MAX=150",
			"GOPHD_JOB_CPU_MAX 150: not a percentage; write one from 1% to 100000%, or 0"},
		{[]string{"--log-file", "journal:", "x"}, "",
			"--log-file journal:: did you mean journald:? for a file of that name write ./journal:"},
		{[]string{"--log-file", "syslog:a b", "x"}, "",
			`--log-file "syslog:a b": not a valid tag after syslog:; write at most 32 letters, digits and . _ -`},

		{[]string{"x"}, "GOPHD_LOG_MODE=440", "GOPHD_LOG_MODE 440: its owner could not write it; write one like 0640"},
		{[]string{"x"}, "GOPHD_LOG_MODE=0", "GOPHD_LOG_MODE 0: its owner could not write it; write one like 0640"},

		{[]string{"-q", "-v", "x"}, "",
			"--quiet true: config.verbose prints more and this prints less; leave one of them out"},
		{[]string{"--service", "--once", "x"}, "",
			"--service true: a service is restarted when it exits, and --once is one run; leave one of them out"},
		{[]string{"--service", "--overlap", "allow", "x"}, "",
			"--overlap allow: a service has no ticks; leave it out, or job.service"},
		{[]string{"--service", "--retries", "3", "x"}, "",
			"--retries 3: a service is always restarted; leave it out, or job.service"},
		{[]string{"--overlap", "allow", "-i", "0", "x"}, "",
			"--overlap allow: back to back there is no tick during a run; set an interval"},
		{[]string{"--overlap", "allow", "--stdin", "inherit", "x"}, "",
			"--stdin inherit: overlapping runs would take each other's input; use null or a file"},
		{[]string{"--max-parallel", "2", "x"}, "",
			"--max-parallel 2: runs do not overlap; set job.overlap to allow, or leave it out"},
		{[]string{"--overlap", "allow", "--max-parallel", "1", "x"}, "",
			"--max-parallel 1: not a whole number from 2 to 1000"},
		{[]string{"x"}, "GOPHD_JOB_RETRY_DELAY=1",
			"GOPHD_JOB_RETRY_DELAY 1: nothing is retried; set job.retries, or leave it out"},
		{[]string{"x"}, "GOPHD_JOB_FATAL_EXIT_CODES=1,0",
			"GOPHD_JOB_FATAL_EXIT_CODES 1,0: 0 is in job.success_exit_codes too; leave it out of one"},
		{[]string{"--log-file", "journald:", "x"}, "GOPHD_LOG_KEEP=3",
			"GOPHD_LOG_KEEP 3: applies to log files only, and the log goes to journald:; leave it out"},
		{
			[]string{"-i", "x", "--timeout", "y", "x"}, "",
			"--interval x: not a duration; " + fix + "\n--timeout y: not a duration; " + fix,
		},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			r := request(t)
			r.Env = []string{tt.env}
			_, err := Load(parsed(t, r, tt.args...))
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Error(diff)
			}
			if e := (*Error)(nil); !errors.As(err, &e) {
				t.Errorf("no *Error: %T", err)
			}
		})
	}
}

// longestSocket is the length of the longest path of a socket on Linux; see unix(7).
const longestSocket = 107

func TestHeartbeatURL(t *testing.T) {
	for url, want := range map[string]string{
		"file:": "", "none:": "",
		"memcached://db1": "", "memcached://10.0.0.5:11211": "", "memcached://[::1]": "",
		"memcached://[::1]:1": "", "memcached://db1:65535": "", "memcached://db_1.example.": "",
		"memcached://[fe80::1%eth0]:1": "", "memcached://[fec0::1]": "", "memcached://[::ffff:169.254.0.1]": "", "memcached://[fe80::1%25eth0]": "", "memcached://1a.2b": "",
		"memcached:///run/m.sock": "", "memcached:///m@h:1": "", "memcached:///" + strings.Repeat("x", longestSocket-1): "",
		"":                        "empty",
		"file":                    "not a heartbeat store",
		"file:/tmp/x":             "nothing may follow file:",
		"none://":                 "nothing may follow none:",
		"memcache://db1":          "not a heartbeat store",
		"memcached:db1":           "not a heartbeat store",
		"redis://db1":             "redis is not in this version",
		"etcd://db1":              "etcd is not in this version",
		"memcached://":            "not an address",
		"memcached://:11211":      "not an address",
		"memcached://a,b":         "several servers are not in this version",
		"memcached://a:1,b:2":     "several servers are not in this version",
		"memcached://u:p@db1":     "no user and password",
		"memcached://db1/key":     "nothing may follow",
		"memcached://db1?x":       "nothing may follow",
		"memcached://db1#x":       "nothing may follow",
		"memcached://db1:":        "not a port",
		"memcached://db1:0":       "not a port",
		"memcached://db1:65536":   "not a port",
		"memcached://[::1]:":      "not a port",
		"memcached://db1:x":       "not a port",
		"memcached://db1:+1":      "not a port",
		"memcached://[::1]1":      "not a port",
		"memcached://::1":         "an IPv6 address needs brackets; write memcached://[::1]",
		"memcached://fe80::1:1":   "an IPv6 address needs brackets",
		"memcached://[]":          "not an IPv6 address",
		"memcached://[db1]":       "not an IPv6 address",
		"memcached://[10.0.0.5]":  "not an IPv6 address",
		"memcached://[::1%a b]":   "not an IPv6 address",
		"memcached://[fe80::1]":   "a link-local address is one of an interface; add that, as in memcached://[fe80::1%eth0]",
		"memcached://[febf::1]:7": "a link-local address is one of an interface",
		"memcached://[::g]:1":     "not an IPv6 address",
		"memcached://10.0.0.256":  "not an address",
		"memcached://10.0.0":      "not an address",
		"memcached://db1..x":      "not an address",
		"memcached://-db1":        "not an address",
		"memcached://d\u00fc":     "not an address",
		"memcached://d b":         "not an address",
		"memcached://[::1":        "no ] after the IPv6 address",
		"memcached://%zz":         "not an address",
		"memcached://db1\x00:1":   "not an address",
		"memcached:///" + strings.Repeat("x", longestSocket): fmt.Sprintf(
			"the path of the socket has %d bytes, and the system allows %d; choose a shorter one", longestSocket+1, longestSocket),
		"memcached://run/m.sock":  "nothing may follow host and port; write memcached://HOST[:PORT], or memcached:///SOCKET with an absolute path",
		"memcached://./m.sock":    "with an absolute path",
		"memcached:///":           "not the path of a socket",
		"memcached:///run/":       "not the path of a socket",
		"memcached:////run/m":     "not the path of a socket",
		"memcached:///run/../m":   "not the path of a socket",
		"memcached:///run/m s":    "a space, a comma, ? or # in the path",
		"memcached:///run/m\x00":  "a space, a comma, ? or # in the path",
		"memcached:///run/m?x":    "a space, a comma, ? or # in the path",
		"memcached:///run/m,/n":   "several servers",
		"MEMCACHED://db1":         "not a heartbeat store",
		" memcached://db1":        "not a heartbeat store",
		"memcached://db1:11211\n": "not a port",
	} {
		err := checkURL(url)
		if want == "" && err != nil {
			t.Errorf("%s: %v", url, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %s", url, err, want)
		}
	}
	for url, want := range map[string]string{
		"memcached://db1": "db1:11211", "memcached://[::1]": "[::1]:11211", "memcached://[::1]:7": "[::1]:7",
		"memcached://[fe80::1%25eth0]": "[fe80::1%eth0]:11211", "memcached:///run/m%20.sock": "/run/m%20.sock",
	} {
		if got, err := MemcachedAddress(url); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", url, got, err, want)
		}
	}
}

// TestHeartbeatMinimumTTL checks the minimum ttl for some settings.
func TestHeartbeatMinimumTTL(t *testing.T) {
	for _, tt := range []struct {
		renew, grace, timeout string
		least                 time.Duration
	}{
		{"2", "2", "500ms", 8 * time.Second}, // (2.15 + 2.2 + 2 + 1) / 0.99 = 7.42
		{"1", "0", "1ms", 5 * time.Second},
		{"60", "2", "1s", 73 * time.Second},    // (2.15 + 66 + 2 + 2) / 0.99 = 72.88
		{"600", "10", "1s", 681 * time.Second}, // (2.15 + 660 + 10 + 2) / 0.99 = 680.96
	} {
		ok := func(ttl time.Duration) bool {
			r := request(t)
			r.Command = []string{"x"}
			r.Env = []string{
				"GOPHD_HEARTBEAT_URL=memcached://db1", "GOPHD_HEARTBEAT_TTL=" + ttl.String(),
				"GOPHD_HEARTBEAT_RENEW=" + tt.renew,
				"GOPHD_HEARTBEAT_STOP_GRACE=" + tt.grace, "GOPHD_HEARTBEAT_TIMEOUT=" + tt.timeout,
			}
			_, err := Load(r)
			return err == nil
		}
		if !ok(tt.least) || ok(tt.least-time.Second) {
			t.Errorf("renew %s, stop_grace %s, timeout %s: minimum ttl is not %v", tt.renew, tt.grace,
				tt.timeout, tt.least)
		}
	}
}

func TestEmptyEnvValue(t *testing.T) {
	r := request(t)
	for _, k := range keys() {
		r.Env = append(r.Env, k.env()+"=")
	}
	r.Env = append(r.Env, "GOPHD_CONFIG=", "GOPHD_RUNTIME_DIR=", "GOPHD_STATE_DIR=", "GOPHD_JOB_INTERVALL=",
		"=", "", "x")
	r.Command = []string{"x"}
	c := load(t, r)
	for _, v := range c.Values() {
		if v.Source != "default" && v.Key != "job.command" {
			t.Errorf("%+v", v)
		}
	}
	if c.Warnings != nil {
		t.Errorf("warnings %q", c.Warnings)
	}
}

func TestUserSections(t *testing.T) {
	r := request(t)
	write(t, filepath.Join(r.Dir, "x.ini"),
		"config.auto_restart_interval=0\n[db]\nhost=db1\nport=1\nApi_Key=hunter2\nurl=redis://u:hunter2@h/?auth=hunter2\n")
	r.Env = []string{"GOPHD_DB_HOST=old", "GOPHD_DB_HOST=db2", "GOPHD_DB_PORT=", "GOPHD_DB_OTHER=x"}
	c := load(t, parsed(t, r, "-c", "x.ini", "x"))
	want := []string{"GOPHD_DB_HOST=db2", "GOPHD_DB_PORT=1", "GOPHD_DB_API_KEY=hunter2",
		"GOPHD_DB_URL=redis://u:hunter2@h/?auth=hunter2"}
	if diff := cmp.Diff(want, c.Jobs[0].Env); diff != "" {
		t.Error(diff)
	}
	if got := source(c, "db.host"); got != "environment GOPHD_DB_HOST" {
		t.Errorf("db.host is from %s", got)
	}
	if text, ok := c.Get("db.Api_Key"); !ok || text != "hunter2" {
		t.Errorf("Get gives %q, %v", text, ok)
	}
	if _, ok := c.Get("db.api_key"); ok {
		t.Error("Get ignores case")
	}
	for _, v := range c.Values() {
		if strings.Contains(v.Text, "hunter2") {
			t.Errorf("%+v", v)
		}
	}
}

func TestPrivate(t *testing.T) {
	env := []string{"PATH=/bin", "GOPHD_CONFIG=x", "GOPHD_JOB_INTERVAL=1", "GOPHD_JOB_=", "GOPHD_LOG_FILE=x",
		"GOPHD_CONFIG_DAEMON=1",
		"GOPHD_HEARTBEAT_URL=x", "GOPHD_RESTART_WHEN=x", "GOPHD_JOBS=1", "GOPHD_DB_HOST=x", "GOPHD_RUN=7", "GOPHD_STATE_DIR=/x", "odd"}
	before := slices.Clone(env)
	want := []string{"PATH=/bin", "GOPHD_JOBS=1", "GOPHD_DB_HOST=x", "GOPHD_RUN=7", "GOPHD_STATE_DIR=/x", "odd"}
	if diff := cmp.Diff(want, Private(env)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, env); diff != "" {
		t.Errorf("the argument was changed: %s", diff)
	}
}

func TestName(t *testing.T) {
	name := func(dir string, args ...string) string {
		r := request(t)
		r.Dir = dir
		return load(t, parsed(t, r, args...)).Jobs[0].Name
	}
	base := name("/srv", "python3", "x.py")
	if !strings.HasPrefix(base, "python3-") || len(base) != len("python3-")+6 {
		t.Errorf("name %s", base)
	}
	if again := name("/tmp", "python3", "x.py"); again != base {
		t.Errorf("the same line is %s and %s", base, again)
	}
	for _, other := range [][]string{{"python3", "y.py"}, {"python3", "x.py", ""}, {"python3x.py"},
		{"python3", "x", ".py"}, {"./python3", "x.py"}} {
		if name("/srv", other...) == base {
			t.Errorf("%q has the name of another line", other)
		}
	}
	if a, b := name("/srv", "./job.sh"), name("/srv/x", "../job.sh"); a != b {
		t.Errorf("one file is %s and %s", a, b)
	}
	if a, b := name("/srv", "./job.sh"), name("/tmp", "./job.sh"); a == b {
		t.Errorf("two files are both %s", a)
	}
	if a := name("/srv", "--shell", "cd /x; ./y"); !strings.HasPrefix(a, "sh-") {
		t.Errorf("a line for the shell is %s", a)
	}
	for in, want := range map[string]string{"/bin/my job": "my_job-", "/bin/-x": "x-", "/bin/日本": "__-", "/bin/...": "job-", "/x/" + strings.Repeat("a", 200): "aaa"} {
		got := name("/srv", in)
		if !strings.HasPrefix(got, want) || checkName(got) != nil {
			t.Errorf("%s becomes %s", in, got)
		}
	}
	if a := name("/srv", "-n", "x", "y"); a != "x" {
		t.Errorf("given name is %s", a)
	}
	for _, bad := range []string{"", "a/b", ".", "..", "a b", "a\tb", "a\nb", "-x", "a\x7f", "a\u2028b",
		"a\xff", strings.Repeat("x", 101)} {
		if checkName(bad) == nil {
			t.Errorf("name %q is accepted", bad)
		}
	}
	for _, good := range []string{"a", "a.b", "...", "日本", "x@y:z", strings.Repeat("x", 100)} {
		if err := checkName(good); err != nil {
			t.Errorf("name %q: %v", good, err)
		}
	}
}

func TestDirectories(t *testing.T) {
	base := t.TempDir()
	// A file: no user can create a directory in it, root neither.
	none := write(t, base+"/none", "") + "/x"
	for _, tt := range []struct {
		uid                 int
		home                string
		env                 []string
		runtime, state, log string
		warns               bool
	}{
		{0, "/root", []string{"XDG_RUNTIME_DIR=/x", "XDG_STATE_HOME=/y"}, "/run/gophd", "/var/lib/gophd",
			"/var/log/gophd", false},
		{7, "B/h", nil, "B/h/.local/state/gophd", "B/h/.local/state/gophd", "B/h/.local/state/gophd", false},
		{7, "B/h", []string{"TMPDIR=B/t"}, "B/h/.local/state/gophd", "B/h/.local/state/gophd", "B/h/.local/state/gophd", false},
		{7, "B/h", []string{"XDG_RUNTIME_DIR=B/x", "XDG_STATE_HOME=B/y"}, "B/x/gophd", "B/y/gophd", "B/y/gophd", false},
		{7, "B/h", []string{"XDG_RUNTIME_DIR=x", "XDG_STATE_HOME=y", "TMPDIR=t"}, "B/h/.local/state/gophd",
			"B/h/.local/state/gophd", "B/h/.local/state/gophd", false},
		// No home is as one where nothing can be created.
		{7, "", nil, "/tmp/gophd-7", "/tmp/gophd-7", "/tmp/gophd-7", true},
		{7, "h", nil, "/tmp/gophd-7", "/tmp/gophd-7", "/tmp/gophd-7", true},
		{7, "", []string{"TMPDIR=B/t", "XDG_STATE_HOME=y"}, "B/t/gophd-7", "B/t/gophd-7", "B/t/gophd-7", true},
		{7, "", []string{"XDG_STATE_HOME=B/y"}, "B/y/gophd", "B/y/gophd", "B/y/gophd", false},
		{7, "", []string{"GOPHD_STATE_DIR=/s"}, "/s", "/s", "/s", false},
		{7, "", []string{"GOPHD_HEARTBEAT_URL=none:"}, "/tmp/gophd-7", "/tmp/gophd-7", "/tmp/gophd-7", false},
		{0, "", nil, "/run/gophd", "/var/lib/gophd", "/var/log/gophd", false},
		{7, "B/h", []string{"GOPHD_RUNTIME_DIR=r", "GOPHD_STATE_DIR=/s"}, "/d/r", "/s", "/s", false},
		{0, "/h", []string{"GOPHD_STATE_DIR=s"}, "/run/gophd", "/d/s", "/d/s", false},
		// What is set and cannot be used counts as not set, with a warning if the state moves.
		{7, none, []string{"TMPDIR=B/t"}, "B/t/gophd-7", "B/t/gophd-7", "B/t/gophd-7", true},
		{7, none, []string{"XDG_RUNTIME_DIR=" + none, "TMPDIR=" + none}, "/tmp/gophd-7", "/tmp/gophd-7", "/tmp/gophd-7",
			true},
		{7, "B/h", []string{"XDG_RUNTIME_DIR=" + none}, "B/h/.local/state/gophd", "B/h/.local/state/gophd",
			"B/h/.local/state/gophd", false},
		{7, none, []string{"GOPHD_STATE_DIR=/s"}, "/s", "/s", "/s", false},
		{7, none, []string{"GOPHD_HEARTBEAT_URL=none:"}, "/tmp/gophd-7", "/tmp/gophd-7", "/tmp/gophd-7", false},
		// A user who names a directory gets that one or an error of a start.
		{7, "B/h", []string{"XDG_STATE_HOME=" + none}, none + "/gophd", none + "/gophd", none + "/gophd", false},
		{7, "B/h", []string{"GOPHD_STATE_DIR=" + none}, none, none, none, false},
	} {
		in := func(text string) string { return strings.ReplaceAll(text, "B/", base+"/") }
		env := []string{}
		for _, kv := range tt.env {
			env = append(env, in(kv))
		}
		c := load(t, Request{Dir: "/d", Home: in(tt.home), UID: tt.uid, Env: env, SystemDir: "/none"})
		if c.RuntimeDir != in(tt.runtime) || c.StateDir != in(tt.state) || c.LogDir != in(tt.log) {
			t.Errorf("%+v: %s, %s, %s", tt, c.RuntimeDir, c.StateDir, c.LogDir)
		}
		warning := strings.Join(c.Warnings, "\n")
		if strings.Contains(warning, "the state directory is "+c.StateDir) != tt.warns || tt.warns &&
			!strings.Contains(warning, "set GOPHD_STATE_DIR") {
			t.Errorf("%+v: warnings %q", tt, c.Warnings)
		}
	}
}

func TestWarningNamesWhatIsWrongWithHome(t *testing.T) {
	for home, want := range map[string]string{"": "(HOME is not set)", "h": "(HOME=h is not an absolute path)"} {
		c := load(t, Request{Dir: "/d", Home: home, UID: 7, SystemDir: "/none"})
		if text := strings.Join(c.Warnings, "\n"); !strings.Contains(text, want) {
			t.Errorf("HOME=%s: %q, want %s", home, text, want)
		}
	}
}

func TestVariableThatNamesTheStateDirectory(t *testing.T) {
	for env, want := range map[string]string{
		"": "", "XDG_STATE_HOME=/x": "XDG_STATE_HOME", "XDG_STATE_HOME=x": "", "GOPHD_STATE_DIR=x": "GOPHD_STATE_DIR",
		"XDG_STATE_HOME=/x GOPHD_STATE_DIR=/y": "GOPHD_STATE_DIR",
	} {
		r := Request{Dir: "/d", Home: "/h", UID: 7, SystemDir: "/none", Env: strings.Fields(env)}
		if got := load(t, r).StateFrom; got != want {
			t.Errorf("%q: %q, want %q", env, got, want)
		}
		r.UID = 0
		if got := load(t, r).StateFrom; got == "XDG_STATE_HOME" {
			t.Errorf("%q: root uses XDG_STATE_HOME", env)
		}
	}
}

func TestConfigFileSearchOrder(t *testing.T) {
	r := request(t)
	r.Home, r.SystemDir = filepath.Join(r.Dir, "home"), filepath.Join(r.Dir, "etc")
	r.Dir = filepath.Join(r.Dir, "work")
	file := func(r Request) string { return load(t, r).File }
	with := func(words ...string) Request { r := r; r.Command = words; return r }

	if got := file(with("x")); got != "" {
		t.Errorf("read %s", got)
	}
	system := write(t, filepath.Join(r.SystemDir, "gophd.ini"), "config.auto_restart_interval=0\n")
	if got := file(with("x")); got != system {
		t.Errorf("read %q, not the system's", got)
	}
	home := write(t, filepath.Join(r.Home, ".config/gophd/gophd.yml"), minimal)
	if got := file(with("x")); got != home {
		t.Errorf("read %q, not the one at home", got)
	}
	here := write(t, filepath.Join(r.Dir, "gophd.yaml"), minimal+"job: {command: x, interval: 7}")
	if got := file(with("x")); got != home {
		t.Errorf("%q in the working directory was read", got)
	}
	c := load(t, with())
	if c.File != here || c.Jobs[0].Name != "gophd" || c.Jobs[0].Interval != 7*time.Second {
		t.Errorf("without a command: %q, %+v", c.File, c.Jobs)
	}
	if c := load(t, with("x")); !strings.HasPrefix(c.Jobs[0].Name, "x-") {
		t.Errorf("a file that was found by the search gives the name %s", c.Jobs[0].Name)
	}
	xdg := with("x")
	xdg.Env = []string{"XDG_CONFIG_HOME=" + r.SystemDir}
	other := write(t, filepath.Join(r.SystemDir, "gophd/gophd.json"), `{"config": {"auto_restart_interval": 0}}`)
	if got := file(xdg); got != other {
		t.Errorf("read %q, not that of XDG_CONFIG_HOME", got)
	}
	env := with("x")
	env.Env = []string{"GOPHD_CONFIG=gophd.yaml"}
	if got := file(env); got != here {
		t.Errorf("read %q, not that of GOPHD_CONFIG", got)
	}

	second := write(t, filepath.Join(r.Dir, "gophd.toml"), "config.auto_restart_interval=0\n")
	_, err := Load(with())
	want := here + " and " + second + ": two config files in one directory; remove one, or choose with --config"
	if err == nil || err.Error() != want {
		t.Errorf("two files: %v, want %s", err, want)
	}
	if err := os.Remove(home); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/none", home); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(with("x")); err == nil || err.Error() != home+": no such file or directory; check its path" {
		t.Errorf("a dangling link: %v", err)
	}
}

func TestUnusableFilesAreRejected(t *testing.T) {
	r := request(t)
	r.UID = os.Getuid()
	r.Command = []string{"x"}
	loadError := func(path string) string {
		r := r
		r.Env = []string{"GOPHD_CONFIG=" + path}
		_, err := Load(r)
		if err == nil {
			t.Errorf("%s is accepted", path)
			return ""
		}
		return strings.TrimPrefix(err.Error(), path+": ")
	}
	fifo := filepath.Join(r.Dir, "fifo.yaml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(r.Dir, "dir.yaml")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir} {
		if got := loadError(path); got != "not a regular file; name a config file" {
			t.Errorf("%s: %s", path, got)
		}
	}
	big := write(t, filepath.Join(r.Dir, "big.yaml"), strings.Repeat("#", maxFile+1))
	if got := loadError(big); got != "larger than 1 MiB; not a config file" {
		t.Error(got)
	}
	bad := write(t, filepath.Join(r.Dir, "bad.ini"), strings.Repeat("[job]\nx=1\n", 100))
	if got := loadError(bad); strings.Count(got, "\n") != maxProblems ||
		!strings.HasSuffix(got, "and more: fix these first") {
		t.Errorf("garbage gives %d lines: %s", strings.Count(got, "\n"), got)
	}

	open := write(t, filepath.Join(r.Dir, "open.yaml"), minimal)
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	r.Env, r.UID = []string{"GOPHD_CONFIG=" + open, "GOPHD_JOB_INTERVALL=7", "GOPHD_LOG_x=7", "GOPHD_DB_X=1"},
		os.Getuid()
	want := []string{
		open + ": writable by every user, who could change what runs; fix it with chmod o-w",
		"environment GOPHD_JOB_INTERVALL: gophd has no such setting; did you mean GOPHD_JOB_INTERVAL?",
		"environment GOPHD_LOG_x: gophd has no such setting",
	}
	if diff := cmp.Diff(want, load(t, r).Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestSharedHeartbeatWithoutNameGivesAWarning(t *testing.T) {
	r := request(t)
	for _, tt := range []struct {
		args []string
		warn bool
	}{
		{[]string{"--heartbeat", "memcached://db1", "./x"}, true},
		{[]string{"--heartbeat", "memcached://db1", "-n", "x", "./x"}, false},
		{[]string{"./x"}, false},
	} {
		if c := load(t, parsed(t, r, tt.args...)); (len(c.Warnings) == 1) != tt.warn {
			t.Errorf("%q: %q", tt.args, c.Warnings)
		}
	}
}

// TestFileOfAnotherUser checks that only one's own files and those of root give no warning.
func TestFileOfAnotherUser(t *testing.T) {
	for _, c := range []struct {
		owner, uid int
		want       bool
	}{{0, 0, false}, {0, 7, false}, {7, 7, false}, {7, 8, true}, {7, 0, true}} {
		if got := foreign(c.owner, c.uid); got != c.want {
			t.Errorf("a file of user %d for user %d: %v", c.owner, c.uid, got)
		}
	}
	r := request(t)
	r.Command = []string{"x"}
	r.Env = []string{"GOPHD_CONFIG=" + write(t, filepath.Join(r.Dir, "x.yaml"), minimal)}
	if got := load(t, r).Warnings; got != nil {
		t.Errorf("one's own file: %q", got)
	}
}

// TestHugeConfigLine and TestCRLFConfig cover known bugs of other schedulers.
func TestHugeConfigLine(t *testing.T) {
	huge := strings.Repeat("x", maxFile-200)
	for name, text := range map[string]string{
		"x.yaml": minimal + "my: {text: \"" + huge + "\"}",
		"x.toml": "config.auto_restart_interval = 0\nmy.text = '" + huge + "'",
		"x.json": `{"config": {"auto_restart_interval": 0}, "my": {"text": "` + huge + `"}}`,
		"x.ini":  "config.auto_restart_interval = 0\nmy.text = " + huge,
	} {
		r := request(t)
		r.Env = []string{"GOPHD_CONFIG=" + write(t, filepath.Join(r.Dir, name), text)}
		if got := load(t, r).Jobs[0].Env; len(got) != 1 || got[0] != "GOPHD_MY_TEXT="+huge {
			t.Errorf("%s: %d variables", name, len(got))
		}
		// A rejected value of that length must not fill the screen.
		r.Env = []string{"GOPHD_CONFIG=" + write(t, filepath.Join(r.Dir, name),
			strings.ReplaceAll(text, "my", "log.level #"))}
		if _, err := Load(r); err == nil || len(err.Error()) > 2000 {
			t.Errorf("%s: error of %d bytes", name, len(err.Error()))
		}
	}
}

func TestCRLFConfig(t *testing.T) {
	for _, format := range formats {
		if format == "yml" {
			continue
		}
		data, err := Starter(format)
		if err != nil {
			t.Fatal(err)
		}
		for _, bom := range []string{"", "\ufeff"} {
			r := request(t)
			r.Command = []string{"x"}
			text := bom + strings.ReplaceAll(string(data), "\n", "\r\n")
			r.Env = []string{"GOPHD_CONFIG=" + write(t, filepath.Join(r.Dir, "x."+format), text)}
			if c := load(t, r); c.AutoRestart != 24*time.Hour {
				t.Errorf("%s: %v", format, c.AutoRestart)
			}
		}
	}
}

// TestHostileFilesGiveShortErrors checks that excessive nesting or length is rejected in short
// lines.
func TestHostileFilesGiveShortErrors(t *testing.T) {
	n := 20000
	const must = "config.auto_restart_interval"
	for name, text := range map[string]string{
		"flow.yaml":   must + ": 0\nmy: " + strings.Repeat("{a: ", n) + "1" + strings.Repeat("}", n),
		"some.yaml":   must + ": 0\nmy: " + strings.Repeat("{a: ", 40) + "1" + strings.Repeat("}", 40),
		"list.yaml":   must + ": 0\nmy: " + strings.Repeat("[", n) + strings.Repeat("]", n),
		"long.yaml":   must + ": 0\n" + strings.Repeat("x", maxFile/2) + ":\n" + strings.Repeat(" a: 1\n", n),
		"table.toml":  must + " = 0\nmy = " + strings.Repeat("{a = ", n) + "1" + strings.Repeat("}", n),
		"list.toml":   must + " = 0\nmy.a = " + strings.Repeat("[", n) + strings.Repeat("]", n),
		"dotted.toml": must + " = 0\nmy" + strings.Repeat(".a", 20*n) + " = 1",
		"header.toml": must + " = 0\n[my" + strings.Repeat(".a", 20*n) + "]\na = 1",
		"long.toml":   must + " = 0\n[" + strings.Repeat("x", maxFile/2) + "]\n" + strings.Repeat("a.b=1\n", n),
		"table.json":  `{"` + must + `": 0, "my": ` + strings.Repeat(`{"a": `, n) + "1" + strings.Repeat("}", n) + "}",
		"some.json": `{"` + must + `": 0, "my": ` + strings.Repeat(`{"a": `,
			40) + "1" + strings.Repeat("}", 40) + "}",
		"list.json":  `{"` + must + `": 0, "my.a": ` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"long.ini":   must + " = 0\n[" + strings.Repeat("x", maxFile/2) + "]\n" + strings.Repeat("a=1\n", n),
		"many.ini":   must + " = 0\n" + strings.Repeat("job.x=\n", 20000),
		"pairs.ini":  must + " = 0\n[job.env]\n" + numbered("V%d=\n", n),
		"pairs.json": `{"` + must + `": 0, "job.env": [` + numbered(`"V%d=",`, n) + `"A="]}`,
		"limits.yaml": must + ": 0\njob.rlimit: [" + strings.Repeat("nofile="+strings.Repeat("9", 300)+", ",
			1000) + "]",
		"codes.yaml":   must + ": 0\njob.fatal_exit_codes: [" + strings.Repeat("7,", n) + "x]",
		"carriage.ini": must + " = 0\n[my]\na\rb = 1",
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t)
			r.Env = []string{"GOPHD_CONFIG=" + write(t, filepath.Join(r.Dir, name), text)}
			_, err := Load(r)
			if err == nil || len(err.Error()) > 4000 || strings.Contains(err.Error(), "missing") {
				t.Errorf("%.500v", err)
			}
		})
	}
}

// numbered repeats the format n times, each with its number.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestLoadHasNoSideEffects checks that Load creates nothing, whatever the directories are.
func TestLoadHasNoSideEffects(t *testing.T) {
	r := request(t)
	r.Home, r.UID = r.Dir, 7
	r.Env = []string{"XDG_RUNTIME_DIR=" + r.Dir, "TMPDIR=" + r.Dir}
	load(t, parsed(t, r, "-d", "-p", "x.pid", "./x"))
	entries, err := os.ReadDir(r.Dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// The PATH of a command may be set by each of these, and none expands a variable.
func TestUnexpandedPathIsAWarning(t *testing.T) {
	const want = "job.env PATH: $PATH is not expanded, because only shells do that; write all directories of PATH"
	r := request(t)
	write(t, filepath.Join(r.Dir, "x.env"), "PATH=$PATH:/opt/bin\n")
	write(t, filepath.Join(r.Dir, "x.yaml"), "config: {auto_restart_interval: 24h}\njob: {env: {PATH: '/opt/bin:$PATH'}}\n")
	write(t, filepath.Join(r.Dir, "jobs.yaml"), "config: {auto_restart_interval: 24h}\njob: {command: 'true'}\n"+
		"jobs: {a: {env: {PATH: '$PATH:/opt'}}, b: {}}\n")
	for args, want := range map[string]string{
		"--env PATH=/opt/bin:$PATH true":        want,
		"--env-file x.env true":                 want,
		"-c x.yaml true":                        want,
		"-c jobs.yaml":                          strings.Replace(want, "job.", "jobs.a.", 1),
		"--env-file x.env --env PATH=/bin true": "",
		"--env PATH=/opt/bin:/bin true":         "",
		"--env X=$PATH true":                    "",
	} {
		if got := strings.Join(load(t, parsed(t, r, strings.Fields(args)...)).Warnings, "\n"); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

func TestLimitsThatAreTooLowAreAWarning(t *testing.T) {
	for limit, want := range map[string]string{
		"nofile=0": "4", "nofile=3:1024": "4", "stack=1": "16384", "as=1": "1048576", "data=1": "65536",
		"nofile=4": "", "stack=unlimited": "", "as=1048576": "", "fsize=0": "", "core=0": "", "memlock=0": "",
	} {
		name, value, _ := strings.Cut(limit, "=")
		value, _, _ = strings.Cut(value, ":")
		if want != "" {
			want = "job.rlimit " + name + "=" + value + ": hardly any program starts with that; write at least " + want
		}
		if got := strings.Join(load(t, parsed(t, request(t), "--rlimit", limit, "x")).Warnings, "\n"); got != want {
			t.Errorf("%s: %q, want %q", limit, got, want)
		}
	}
}

func TestALineOfACrontabIsNoCommand(t *testing.T) {
	for line, bad := range map[string]bool{
		"0 4 * * * true": true, "*/5 * * * * ./job.sh --all": true, "0 4 * JAN-MAR mon true": true, "@daily true": true,
		"@every 5m true": true, "@every true": true, "@home true": false, "0 4 1 1 1 true": false, "echo 4 * * * true": false, "echo 1 * * * * *": false, "* * * * *": false,
		"@daily": false,
	} {
		for form, args := range map[string][]string{
			"words": append([]string{"--"}, strings.Fields(line)...), "word": {"--", line}, "shell": {"--shell", "--", line},
		} {
			_, err := Load(parsed(t, request(t), args...))
			const want = "command line: it looks like a line of a crontab; write its schedule in quotes after --schedule, " +
				"or into job.schedule, and the rest as the command; --crontab FILE runs a whole one"
			if bad && (err == nil || err.Error() != want) || !bad && err != nil {
				t.Errorf("%s %q: %v", form, line, err)
			}
		}
	}
	r := request(t)
	write(t, filepath.Join(r.Dir, "jobs.yaml"), "config: {auto_restart_interval: 24h}\njobs: {a: {command: '0 4 * * * true'}}\n")
	if _, err := Load(parsed(t, r, "-c", "jobs.yaml")); err == nil ||
		!strings.Contains(err.Error(), "jobs.yaml:2: jobs.a.command: it looks like a line of a crontab") {
		t.Error(err)
	}
}
