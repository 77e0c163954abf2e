package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestFlagErrors(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--intervall", "5"}, "unknown flag: --intervall; did you mean --interval?"},
		{[]string{"--Interval=5"}, "unknown flag: --Interval; did you mean --interval?"},
		{[]string{"--time", "5"}, "unknown flag: --time; did you mean --timeout?"},
		{[]string{"--no-run"}, "unknown flag: --no-run; did you mean --no-run-at-start?"},
		{[]string{"--log", "x"}, "unknown flag: --log; did you mean --log-file?"},   // as supervisord calls it
		{[]string{"--heart", "x"}, "unknown flag: --heart; --help lists the flags"}, // one of several
		{[]string{"--signal", "INT"}, "unknown flag: --signal; did you mean --stop-signals?"},
		{[]string{"--working-directory=/"}, "unknown flag: --working-directory; did you mean --chdir?"},
		{[]string{"--log_file", "x"}, "unknown flag: --log_file; write --log-file"},
		{[]string{"--job.stop_signals=INT"}, "unknown flag: --job.stop_signals; write --stop-signals"},
		{[]string{"--memory-max", "1G"},
			"unknown flag: --memory-max; job.memory_max has no flag: set it in a config file, or set GOPHD_JOB_MEMORY_MAX"},
		{[]string{"--command", "x"},
			"unknown flag: --command; job.command has no flag: set it in a config file, or set GOPHD_JOB_COMMAND"},
		{[]string{"--colour"}, "unknown flag: --colour; --help lists the flags"},
		{[]string{"--strays=kill"}, "--strays: renamed; write --escaped"},
		{[]string{"-once"}, "-once: one dash is for flags of one letter; write --once"},
		{[]string{"-daemon"}, "-daemon: one dash is for flags of one letter; write --daemon"},
		{[]string{"-once=yes"}, "-once: one dash is for flags of one letter; write --once"},
		{[]string{"-timeout=5"}, "-timeout: one dash is for flags of one letter; write --timeout"},
		{[]string{"--cron", "* * * * *"},
			"unknown flag: --cron; did you mean --schedule?"},
		{[]string{"--inotify"}, "unknown flag: --inotify; did you mean --watch?"},
		{[]string{"--foreground"},
			"unknown flag: --foreground; gophd is in the foreground unless it is told to be a daemon; leave it out"},
		{[]string{"--no-daemon"},
			"unknown flag: --no-daemon; gophd is in the foreground unless it is told to be a daemon; leave it out"},
		{[]string{"--daemonize"}, "unknown flag: --daemonize; did you mean --daemon?"},
		{[]string{"--silent"}, "unknown flag: --silent; did you mean --quiet?"},
		{[]string{"--oneshot"}, "unknown flag: --oneshot; did you mean --once?"},
		{[]string{"--username", "x"}, "unknown flag: --username; did you mean --user?"},
		{[]string{"--format", "json"}, "unknown flag: --format; did you mean --log-format?"},
		{[]string{"--json"}, "unknown flag: --json; write --log-format json"},
		{[]string{"--working-dir", "/"}, "unknown flag: --working-dir; did you mean --chdir?"},
		{[]string{"--config-file", "x"}, "unknown flag: --config-file; did you mean --config?"},
		{[]string{"--debug"}, "unknown flag: --debug; write --log-level debug"},
		{[]string{"--dry-run"}, "unknown flag: --dry-run; write gophd check in place of gophd run"},
		{[]string{"--memory", "1G"},
			"unknown flag: --memory; job.memory_max has no flag: set it in a config file, or set GOPHD_JOB_MEMORY_MAX"},
		{[]string{"-I", "5"}, "unknown shorthand flag: 'I' in -I; did you mean -i?"},
		{[]string{"-e", "A=1"}, "unknown shorthand flag: 'e' in -e; did you mean --env?"},
		{[]string{"-dx"}, "unknown shorthand flag: 'x' in -x; --help lists the flags"},
		{[]string{"--interval"}, "flag needs an argument: --interval; write one, as in --interval 0.2"},
		{[]string{"-n"}, "flag needs an argument: 'n' in -n; write one, as in --name nightly"},
		{[]string{"-c"}, "flag needs an argument: 'c' in -c; write one, as in --config job.yaml"},
	} {
		fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
		AddFlags(fs)
		err := fs.Parse(tt.args)
		if err == nil {
			t.Errorf("%q is accepted", tt.args)
		} else if got := FlagError(fs, err).Error(); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.args, got, tt.want)
		}
	}
}

// pflag takes -interval=5 for -i with a value.
func TestOneDashWithAValueIsAnError(t *testing.T) {
	for args, want := range map[string]string{
		"-interval=5":    "-interval: one dash is for flags of one letter; write --interval",
		"-interval 5":    "-interval: one dash is for flags of one letter; write --interval",
		"-name=x":        "-name: one dash is for flags of one letter; write --name",
		"-pid-file=x":    "-pid-file: one dash is for flags of one letter; write --pid-file",
		"-intervall 5":   "-interval: one dash is for flags of one letter; write --interval",
		"-pidfile x":     "-pid-file: one dash is for flags of one letter; write --pid-file",
		"-conf x.yaml":   "-config: one dash is for flags of one letter; write --config",
		"-config x.yaml": "-config: one dash is for flags of one letter; write --config",
		"-config=x.yaml": "-config: one dash is for flags of one letter; write --config",
	} {
		if _, err := Load(parsed(t, request(t), append(strings.Fields(args), "x")...)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

// A flag right after the command is an argument of the command. It is a warning only if gophd has it,
// and if no -- says that it is meant.
func TestAFlagAfterTheCommandIsAWarning(t *testing.T) {
	const want = " after the command is an argument of the command; if it is for gophd, write it before the command, " +
		"otherwise write -- before the command"
	for args, want := range map[string]string{
		"true --once":                   "command line: --once" + want,
		"./job.sh --interval=10":        "command line: --interval" + want,
		"-i 5 ./job.sh --config x.yaml": "command line: --config" + want,
		"-- true --once":                "",
		"-i 5 -- true --once":           "",
		"true -- --once":                "",
		"true --one":                    "",
		"true --verbosity":              "",
		"sleep 5 --once":                "",
		"true -d":                       "",
		"true":                          "",
	} {
		if got := strings.Join(load(t, parsed(t, request(t), strings.Fields(args)...)).Warnings, "\n"); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

// A key under the name of another tool gets gophd's own.
func TestOtherNamesOfKeys(t *testing.T) {
	for written, want := range map[string]string{
		"job.cwd": "did you mean job.chdir?", "job.workdir": "did you mean job.chdir?", "job.working_dir": "did you mean job.chdir?",
		"job.retry": "did you mean job.retries?", "job.cmd": "did you mean job.command?", "job.restart": "did you mean job.service?",
		"log.path": "did you mean log.file?", "job.memory": "did you mean job.memory_max?",
		"job.environment.TZ": "did you mean job.env?", "job.environment": "did you mean job.env?", "config.pid": "did you mean config.pid_file?",
		"job.cron":          "did you mean job.schedule?",
		"config.foreground": "gophd is in the foreground unless it is told to be a daemon; leave it out",
	} {
		if got := unknown(written); got != "no such setting; "+want {
			t.Errorf("%s: %s, want %s", written, got, want)
		}
	}
	for other, name := range otherKeys {
		if !slices.ContainsFunc(keys(), func(k key) bool { return k.name == name }) {
			t.Errorf("%s is the key %s", other, name)
		}
	}
}

// A variable that is almost one of gophd's is a warning. Those of the user's sections are none.
func TestOtherVariablesAreAWarning(t *testing.T) {
	for name, want := range map[string]string{
		"GOPHD_INTERVAL": "GOPHD_JOB_INTERVAL", "GOPHD_TIMEOUT": "GOPHD_JOB_TIMEOUT", "GOPHD_USER": "GOPHD_JOB_USER",
		"GOPHD_STATEDIR": "GOPHD_STATE_DIR", "GOPHD_RUNTIMEDIR": "GOPHD_RUNTIME_DIR", "GOPHD_LOGFILE": "GOPHD_LOG_FILE",
		"GOPHD_HEARTBEAT": "GOPHD_HEARTBEAT_URL", "GOPHD_PIDFILE": "GOPHD_CONFIG_PID_FILE", "GOPHD_CWD": "GOPHD_JOB_CHDIR",
		"GOPHD_JOBINTERVAL": "GOPHD_JOB_INTERVAL", "GOPHD_VERBOSE": "GOPHD_CONFIG_VERBOSE", "GOPHD_LOG": "GOPHD_LOG_FILE",
		"GOPHD_NAME": "", "GOPHD_RUN": "", "GOPHD_DATABASE_HOST": "", "GOPHD_DB_USER": "", "GOPHD_STATE_DIR": "", "INTERVAL": "",
		"GOPHD_HANDOFF": "", "GOPHD_RUN_CONFIG": "",
	} {
		r := request(t)
		r.Command, r.Env = []string{"x"}, []string{name + "=/1"}
		if want != "" {
			want = "environment " + name + ": gophd has no such setting; did you mean " + want + "?"
		}
		if got := strings.Join(load(t, r).Warnings, "\n"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Each flag under the name of another tool is one of gophd, and its other name is not.
func TestOtherNamesAreOfFlags(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	AddFlags(fs)
	for other, flag := range otherNames {
		if fs.Lookup(flag) == nil || fs.Lookup(other) != nil {
			t.Errorf("%s is the flag %s", other, flag)
		}
	}
}

// The value of a flag is named with what it should be, in no words of a library.
func TestInvalidValues(t *testing.T) {
	fs := pflag.NewFlagSet("logs", pflag.ContinueOnError)
	fs.IntP("number", "n", 100, "")
	fs.Uint64("run", 0, "")
	fs.Bool("json", false, "")
	for want, args := range map[string][]string{
		"--number abc: not a number in range": {"-n", "abc"},
		"--run -1: not a number in range":     {"--run", "-1"},
		"--json maybe: not true or false":     {"--json=maybe"},
	} {
		if got := FlagError(fs, fs.Parse(args)); got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}
