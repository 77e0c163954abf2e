package config

import (
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
		{[]string{"-I", "5"}, "unknown shorthand flag: 'I' in -I; did you mean -i?"},
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
