package config

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gophd/internal/job"
)

// kind is how the text of a setting is read.
type kind uint8

const (
	word     kind = iota // any text that the key's check accepts
	path                 // a file; made absolute
	folder               // the same of a folder
	duration             // see parseDuration
	boolean              // see parseBool
	number               // a whole number within the key's bounds
	size                 // bytes, see parseSize
	percent              // a whole number within the key's bounds, and a percent sign; or 0
	octal                // the bits of a umask or a file mode
	choice               // one of the key's choices
	command              // a list is executed, a text is a line for the shell
	codes                // a list of exit codes
	signals              // a list of signals
	files                // a list of files, each made absolute behind an optional dash
	mapping              // names and their values; merged name by name
)

// String is the name of the kind in help and reference.
func (k kind) String() string {
	return [...]string{"text", "file", "folder", "time", "yes/no", "number", "size", "percentage", "octal number 0 to 0777", "choice", "command",
		"list of exit codes", "list of signals", "list of files", "mapping"}[k]
}

// list says that the kind has several values, which stand between commas in one text.
func (k kind) list() bool { return k == codes || k == signals || k == files }

// repeated says that the flag of such a key may be given several times.
func (k kind) repeated() bool { return k.list() || k == mapping }

// key is one setting of gophd.
type key struct {
	name     string // section.key, as in a file
	flag     string // long flag, without dashes; none when empty
	short    string // its single letter
	negated  bool   // the flag says the opposite of the key
	kind     kind
	arg      string   // stands for the value in help
	def      string   // the default, as a user would write it
	choices  []string // the words of a choice, or those that a path may be instead of a file
	min      time.Duration
	lo, hi   int64 // bounds of a number, a percentage or a size; a size has no upper one
	zero     bool  // 0 is taken although it is below min or lo
	check    func(string) error
	help     string // one sentence
	example  string // a valid value that differs from the default
	advanced bool   // left out of the starter file
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
	"GOPHD_NAME", "GOPHD_RUN", "GOPHD_RUN_ID", "GOPHD_PLACE", RunVariable, "GOPHD_DUE", "GOPHD_FENCE", "GOPHD_SLOT", configVariable,
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
			name: "job.chdir", flag: "chdir", kind: folder, arg: "DIR", check: checkFolder, example: "/srv/app",
			help: "working folder of the command; without it the one in which gophd was started",
		},
		{
			name: "job.env", flag: "env", kind: mapping, arg: "KEY=VALUE", check: checkVariable, example: "TZ=UTC",
			help: "a variable for the command (repeatable)",
		},
		{
			name: "job.env_file", flag: "env-file", kind: files, arg: "FILE", check: checkEnvFile, example: "-/etc/default/nightly",
			help:     "lines KEY=VALUE with variables for the command; with a - before the name it may be missing (repeatable)",
			advanced: true,
		},
		{
			name: "job.clear_env", flag: "clear-env", kind: boolean, def: "false", example: "true", advanced: true,
			help: "pass nothing of gophd's own environment on; a command that is given no PATH gets the usual one",
		},
		{
			name: "job.stdin", flag: "stdin", kind: path, arg: "WHERE", def: job.StdinNull,
			choices: inputs, check: checkInput, example: "/srv/app/batch.txt", advanced: true,
			help: "what each run reads",
		},
		{
			name: "job.user", flag: "user", kind: word, arg: "USER[:GROUP]", check: checkUser, example: "www-data",
			help: "run the command as this user, by name or number, with all its groups or with GROUP alone; as root only",
		},
		{
			name: "job.group", flag: "group", kind: word, arg: "GROUP", check: checkGroup, example: "www-data", advanced: true,
			help: "run the command with this group alone; wants --user",
		},
		{
			name: "job.umask", flag: "umask", kind: octal, arg: "MASK", example: "027", advanced: true,
			help: "umask of the command; without it gophd's own",
		},
		{
			name: "job.nice", flag: "nice", kind: number, arg: "N", lo: -20, hi: 19, example: "10", advanced: true,
			help: "niceness of the command; without it gophd's own",
		},
		{
			name: "job.rlimit", flag: "rlimit", kind: mapping, arg: "NAME=SOFT[:HARD]", check: checkLimit, example: "nofile=1024:4096",
			help:     "a resource limit of the command, named as in setrlimit(2): a number or unlimited (repeatable)",
			advanced: true,
		},
		{
			name: "job.memory_max", kind: size, def: "0", lo: 1 << 20, zero: true, example: "512M", advanced: true,
			help: "memory that a run and its descendants may use together, by cgroup v2; 0 is no limit",
		},
		{
			name: "job.cpu_max", kind: percent, def: "0", lo: 1, hi: 100_000, zero: true, example: "150%", advanced: true,
			help: "share of one processor that a run and its descendants may use together, by cgroup v2; 0 is no limit",
		},
		{
			name: "job.tasks_max", kind: number, def: "0", hi: 1 << 22, example: "100", advanced: true,
			help: "how many processes and threads a run and its descendants may be, by cgroup v2; 0 is no limit",
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
			name: "job.keep", flag: "keep", kind: boolean, def: "false", example: "true",
			help: "keep a service running: when it ends start it again, at the earliest --interval (here 1s) after its start",
		},
		{
			name: "job.run_at_start", flag: "no-run-at-start", negated: true, kind: boolean, def: "true", example: "false",
			help: "run at once when gophd starts",
		},
		{
			name: "job.overrun", flag: "overrun", kind: choice, arg: "RULE",
			def: "run", choices: []string{"run", "skip", "kill", "overlap"}, example: "skip",
			help: "when a run is late: run the next at once, skip to the next tick, kill the late one, or overlap, the next beside it",
		},
		{
			name: "job.max_parallel", flag: "max-parallel", kind: number, arg: "N", def: "2", lo: 2, hi: 1000, example: "4", advanced: true,
			help: "how many runs may overlap; with as many a tick is skipped; wants --overrun overlap",
		},
		{
			name: "job.timeout", flag: "timeout", kind: duration, arg: "TIME",
			def: "0", min: time.Millisecond, zero: true, example: "10m",
			help: "stop a run that takes longer, unless it asks for more time; 0 is no limit",
		},
		{
			name: "job.grace", flag: "grace", kind: duration, arg: "TIME",
			def: "10s", min: time.Millisecond, zero: true, example: "30s",
			help: "time from TERM to KILL when a run is stopped",
		},
		{
			name: "job.stop_signals", flag: "stop-signals", kind: signals, arg: "LIST", def: "TERM", example: "INT,TERM", advanced: true,
			help: "what a run gets that is stopped: one signal after the other, --grace after each, then KILL",
		},
		{
			name: "job.strays", flag: "strays", kind: choice, arg: "RULE",
			def: "report", choices: []string{"report", "kill", "ignore"}, example: "kill", advanced: true,
			help: "when processes leave their run's group and outlive it: report them, kill them too, or ignore them",
		},
		{
			name: "job.on_orphan", flag: "on-orphan", kind: choice, arg: "RULE",
			def: "wait", choices: []string{"wait", "kill", "refuse"}, example: "refuse", advanced: true,
			help: "when a run goes on whose gophd was killed: wait for its end, kill it, or refuse to start",
		},
		{
			name: "job.retries", flag: "retries", kind: number, arg: "N", def: "0", hi: 1000, example: "3",
			help: "how often a run that failed is tried again before the next tick",
		},
		{
			name: "job.retry_delay", kind: duration, def: "1s", min: time.Millisecond, zero: true, example: "10s", advanced: true,
			help: "time before the first retry; doubles with each",
		},
		{
			name: "job.retry_exit_codes", kind: codes, example: "75", advanced: true,
			help: "exit codes that are retried; without it every failure is",
		},
		{
			name: "job.success_exit_codes", kind: codes, def: "0", example: "0,3", advanced: true,
			help: "exit codes that are a success",
		},
		{
			name: "job.fatal_exit_codes", kind: codes, example: "70", advanced: true,
			help: "exit codes that replace gophd by a fresh image, or end it with 1 in the first 10 s after its start",
		},
		{
			name: "job.start_limit", kind: number, def: "0", hi: 1000, example: "5", advanced: true,
			help: "leave with 1 when so many runs in a row failed, each with its retries, that were started within job.start_limit_interval; 0 is never",
		},
		{
			name: "job.start_limit_interval", kind: duration, def: "1m", min: time.Millisecond, example: "10m", advanced: true,
			help: "time in which the starts for job.start_limit are counted",
		},
		{
			name: "job.output", flag: "output", kind: path, arg: "WHERE",
			choices: outputs, check: checkOutput, example: "discard",
			help: "where the command's output goes, on-failure when a run failed; without it to the log when there is one, else where gophd's own goes",
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
			name: "heartbeat.held_exit_code", flag: "held-exit-code", kind: number, arg: "CODE", def: "0", hi: 255, example: "75",
			help: "exit code when another holds the heartbeat at start",
		},
		{
			name: "log.file", flag: "log-file", kind: path, arg: "FILE", choices: services,
			check: checkLogFile, example: "/var/log/nightly.log",
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
			name: "log.rotate_size", kind: size, def: "0", lo: 4 << 10, zero: true, example: "100M",
			help: "begin a new file before the log grows beyond this; 0 is never",
		},
		{
			name: "log.rotate_age", kind: duration, def: "0", min: time.Second, zero: true, example: "24h", advanced: true,
			help: "begin a new file when the log's first line is this old; 0 is never",
		},
		{
			name: "log.keep", kind: number, def: "0", hi: 1_000_000, example: "10",
			help: "how many older files of the log are kept; 0 is all",
		},
		{
			name: "log.keep_size", kind: size, def: "0", lo: 4 << 10, zero: true, example: "10G", advanced: true,
			help: "how many bytes the older files of the log may have together; 0 is no limit",
		},
		{
			name: "log.compress", kind: boolean, def: "false", example: "true", advanced: true,
			help: "compress older files of the log with gzip",
		},
		{
			name: "log.mode", kind: octal, check: checkMode, example: "0600", advanced: true,
			help: "access rights of a new log file, whatever the umask; without it 0640 less the umask",
		},
		{
			name: "log.owner", kind: word, check: checkUser, example: "root:adm", advanced: true,
			help: "owner of a new log file: USER or USER:GROUP, by name or number; as root only",
		},
		{
			name: "log.sync", kind: choice, def: "never", choices: []string{"never", "second", "always"}, example: "second", advanced: true,
			help: "when lines are forced to the disk: never, within a second and at the end of each file, or before the next lines",
		},
		{
			name: "log.on_full", kind: choice, def: "drop", choices: []string{"drop", "block"}, example: "block", advanced: true,
			help: "when the log cannot be written: drop lines and count them, or block the command until it can",
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
	case k.kind == duration, k.kind == size:
		return k.kind.String() + ", at least " + k.least()
	case k.kind == number, k.kind == percent:
		return k.kind.String() + " " + k.bounds()
	case k.kind == mapping:
		return k.kind.String() + " " + k.arg
	}
	return k.kind.String()
}

// least tells the smallest duration or size of the key.
func (k key) least() string {
	least := k.min.String()
	if k.kind == size {
		least = showSize(k.lo)
	}
	if k.zero {
		least += ", or 0"
	}
	return least
}

// bounds tells the range of a number or a percentage.
func (k key) bounds() string {
	sign := ""
	if k.kind == percent {
		sign = "%"
	}
	bounds := fmt.Sprintf("%d%s to %d%s", k.lo, sign, k.hi, sign)
	if k.zero {
		bounds += ", or 0"
	}
	return bounds
}
