package config

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is how the text of a setting is read.
type kind uint8

const (
	word     kind = iota // any text that the key's check accepts
	path                 // a file; made absolute
	duration             // see parseDuration
	boolean              // see parseBool
	number               // a whole number from 0 to 255
	choice               // one of the key's choices
	command              // a list is executed, a text is a line for the shell
)

// String is the name of the kind in help and reference.
func (k kind) String() string {
	return [...]string{"text", "file", "time", "yes/no", "number 0-255", "choice", "command"}[k]
}

// key is one setting of gophd.
type key struct {
	name    string // section.key, as in a file
	flag    string // long flag, without dashes; none when empty
	short   string // its single letter
	negated bool   // the flag says the opposite of the key
	kind    kind
	arg     string   // stands for the value in help
	def     string   // the default, as a user would write it
	choices []string // the words of a choice, or those that a path may be instead of a file
	min     time.Duration
	zero    bool // a duration may be 0 although it is below min
	check   func(string) error
	help    string // one sentence
	example string // a valid value that differs from the default
}

// env is the environment variable of the key.
func (k key) env() string { return variable(k.name) }

// variable is the environment variable that carries a dotted key, own or the user's.
func variable(name string) string {
	return "GOPHD_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

const (
	configFlag     = "config"
	configVariable = "GOPHD_CONFIG"
	restartKey     = "config.auto_restart_interval" // the one key that the seed demands of a file
)

// RunVariable is the environment variable that tells a command the config file of the gophd that runs
// it, for `gophd config get`. It configures nothing: a gophd that is started by the command ignores it.
const RunVariable = "GOPHD_RUN_CONFIG"

// Sections of versions to come. They are refused now, so that no one's file means something else
// after an upgrade.
var laterSections = []string{"jobs", "http", "notify", "history"}

// ownVariables are set by gophd for the command or for itself; a user's section must not shadow one.
var ownVariables = []string{
	"GOPHD_NAME", "GOPHD_RUN", RunVariable, "GOPHD_DUE", "GOPHD_FENCE", "GOPHD_SLOT", configVariable,
	"GOPHD_READY", "GOPHD_HANDOFF", "GOPHD_RUNTIME_DIR", "GOPHD_STATE_DIR",
}

// keys is the table of every setting, in the order in which it is shown.
// It is made once, on the first call, since every start would pay for it otherwise.
var keys = sync.OnceValue(func() []key {
	return []key{
		{
			name: restartKey, flag: "auto-restart-interval", kind: duration, arg: "TIME",
			def: "24h", min: 10 * time.Second, zero: true, example: "12h",
			help: "replace gophd by a fresh image of itself after this long; 0 is never",
		},
		{
			name: "config.daemon", flag: "daemon", short: "d", kind: boolean, def: "false", example: "true",
			help: "detach and run in the background",
		},
		{
			name: "config.verbose", flag: "verbose", short: "v", kind: boolean, def: "false", example: "true",
			help: "echo all that is logged; ignored with --daemon",
		},
		{
			name: "config.pid_file", flag: "pid-file", short: "p", kind: path, arg: "FILE",
			check: checkPath, example: "/run/nightly.pid",
			help: "write the process id to this file",
		},
		{
			name: "job.name", flag: "name", short: "n", kind: word, arg: "NAME",
			check: checkName, example: "nightly",
			help: "what the job is called; keys its heartbeat, log and state",
		},
		{
			name: "job.command", kind: command, example: "./job.sh --all",
			help: "what to run: a list is executed word by word, a text is a line for /bin/sh -c",
		},
		{
			name: "job.shell", flag: "shell", kind: boolean, def: "false", example: "true",
			help: "the one word of the command is a line for /bin/sh -c",
		},
		{
			name: "job.interval", flag: "interval", short: "i", kind: duration, arg: "TIME",
			def: "5s", min: time.Millisecond, zero: true, example: "0.2",
			help: "time from the start of one run to the start of the next; 0 is back to back",
		},
		{
			name: "job.once", flag: "once", kind: boolean, def: "false", example: "true",
			help: "run one time, then leave with the command's exit code",
		},
		{
			name: "job.run_at_start", flag: "no-run-at-start", negated: true, kind: boolean, def: "true", example: "false",
			help: "run at once when gophd starts",
		},
		{
			name: "job.overrun", flag: "overrun", kind: choice, arg: "RULE",
			def: "run", choices: []string{"run", "skip", "kill"}, example: "skip",
			help: "when a run is late: run the next at once, skip to the next tick, or kill the late one",
		},
		{
			name: "job.timeout", flag: "timeout", kind: duration, arg: "TIME",
			def: "0", min: time.Millisecond, zero: true, example: "10m",
			help: "stop a run that takes longer; 0 is no limit",
		},
		{
			name: "job.grace", flag: "grace", kind: duration, arg: "TIME",
			def: "10s", min: time.Millisecond, zero: true, example: "30s",
			help: "time from TERM to KILL when a run is stopped",
		},
		{
			name: "job.output", flag: "output", kind: path, arg: "WHERE",
			choices: outputs, check: checkOutput, example: "discard",
			help: "where the command's output goes; without it to the log when there is a log file, else where gophd's own goes",
		},
		{
			name: "heartbeat.url", flag: "heartbeat", kind: word, arg: "URL",
			def: "file:", check: checkURL, example: "memcached://10.0.0.5:11211",
			help: "store that says who runs the job: file:, memcached://HOST[:PORT] or none:",
		},
		{
			name: "heartbeat.ttl", kind: duration, def: "10s", min: 5 * time.Second, example: "30s",
			help: "how long a heartbeat counts when it is not renewed",
		},
		{
			name: "heartbeat.renew", kind: duration, def: "2s", min: time.Second, example: "5s",
			help: "time between two renewals",
		},
		{
			name: "heartbeat.stop_grace", kind: duration, def: "2s", min: time.Millisecond, zero: true, example: "5s",
			help: "time that a run gets to stop before the heartbeat could belong to another",
		},
		{
			name: "heartbeat.timeout", kind: duration, def: "500ms", min: time.Millisecond, example: "1s",
			help: "how long the store may take to connect, and again to answer",
		},
		{
			name: "heartbeat.acquire_timeout", kind: duration, def: "30s", min: time.Millisecond, zero: true, example: "5m",
			help: "how long a store that cannot be reached is tried at start",
		},
		{
			name: "heartbeat.on_unreachable", kind: choice, def: "pause",
			choices: []string{"pause", "continue"}, example: "continue",
			help: "when the store cannot be reached: pause the job, or continue although another may run it too",
		},
		{
			name: "heartbeat.wait", flag: "wait", kind: boolean, def: "false", example: "true",
			help: "stand by while another holds the heartbeat, instead of leaving",
		},
		{
			name: "heartbeat.held_exit_code", flag: "held-exit-code", kind: number, arg: "CODE", def: "0", example: "75",
			help: "exit code when another holds the heartbeat at start",
		},
		{
			name: "log.file", flag: "log-file", kind: path, arg: "FILE",
			check: checkPath, example: "/var/log/nightly.log",
			help: "log to this file; its name may hold strftime patterns; with --daemon the default is NAME.log in the log folder",
		},
		{
			name: "log.format", flag: "log-format", kind: choice, arg: "FORMAT", def: "simple",
			choices: []string{"simple", "json", "console"}, example: "json",
			help: "form of a log line",
		},
		{
			name: "log.level", flag: "log-level", kind: choice, arg: "LEVEL", def: "info",
			choices: []string{"debug", "info", "warn", "error"}, example: "debug",
			help: "least weight of gophd's own lines that is logged",
		},
		{
			name: "restart.when", kind: choice, def: "daemon",
			choices: []string{"daemon", "always", "never"}, example: "always",
			help: "when config.auto_restart_interval counts: in daemon mode only, always or never",
		},
	}
})

// sections are gophd's own, in table order.
var sections = sync.OnceValue(func() []string {
	var names []string
	for _, k := range keys() {
		section, _, _ := strings.Cut(k.name, ".")
		if !slices.Contains(names, section) {
			names = append(names, section)
		}
	}
	return names
})

// values describes what may stand as the value of the key.
func (k key) values() string {
	switch {
	case k.kind == path && k.choices != nil:
		return strings.Join(k.choices, ", ") + " or a file"
	case k.kind == choice:
		return strings.Join(k.choices, ", ")
	case k.kind == duration:
		return k.kind.String() + ", at least " + k.least()
	}
	return k.kind.String()
}
