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
	word       kind = iota // any text that the check of the key accepts
	path                   // a file; made absolute
	directory              // the same of a directory
	duration               // see parseDuration
	boolean                // see parseBool
	number                 // an integer within the bounds of the key
	size                   // bytes, see parseSize
	percent                // an integer within the bounds of the key and a percent sign, or 0
	octal                  // the bits of a umask or a file mode
	choice                 // one of the choices of the key
	command                // a list is executed, a text is a line for the shell
	codes                  // a list of exit codes
	signals                // a list of signals
	files                  // a list of files, each made absolute after an optional dash
	exclusions             // a list of days, expressions and files
	mapping                // names and their values; merged name by name
)

// String is the name of the kind in help and reference.
func (k kind) String() string {
	return [...]string{"text", "file", "directory", "time", "yes/no", "number", "size", "percentage",
		"octal number 0 to 0777", "choice", "command", "list of exit codes", "list of signals",
		"list of files", "list of days and expressions", "mapping"}[k]
}

// list reports whether the kind has several values, separated by commas in one text.
func (k kind) list() bool { return k == codes || k == signals || k == files || k == exclusions }

// repeated reports whether the flag of such a key may be given several times.
func (k kind) repeated() bool { return k.list() || k == mapping }

// key is one setting of gophd.
type key struct {
	name     string // section.key, as in a file
	flag     string // long flag, without dashes; none when empty
	short    string // its single letter
	negated  bool   // the flag means the opposite of the key
	kind     kind
	arg      string   // placeholder of the value in help
	def      string   // the default, as a user would write it
	choices  []string // the values of a choice, or those of a path that are not files
	min      time.Duration
	lo, hi   int64 // bounds of a number, a percentage or a size; a size has no upper bound
	zero     bool  // 0 is accepted although it is below min or lo
	check    func(string) error
	help     string // one sentence
	example  string // a valid value that differs from the default
	advanced bool   // not in the starter file
	literal  bool   // a $NAME in the text may be meant
}

// env returns the environment variable of the key.
func (k key) env() string { return variable(k.name) }

// variable returns the environment variable of a dotted key, gophd's or the user's.
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
	restartKey     = "config.auto_restart_interval" // the only key that every file must have
)

// RunVariable is the environment variable with the config file of the gophd that runs a command,
// for `gophd config get`. It configures nothing: a gophd that the command starts ignores it.
const RunVariable = "GOPHD_RUN_CONFIG"

// laterSections are sections of later versions. They are rejected now, so that no file changes its
// meaning with an upgrade.
var laterSections = []string{"http", "notify"}

// jobsSection has an entry for each job, with the keys of jobSection.
const (
	jobsSection = "jobs"
	jobSection  = "job"
	apiSection  = "api"
	includeKey  = "include" // the only key outside every section
)

// The scopes of a lease.
const (
	scopeDaemon = "daemon"
	scopeJob    = "job"
)

// renamed maps the names of settings before the first release to their names now.
var renamed = map[string]string{
	"job.strays":     "job.escaped",
	"job.on_orphan":  "job.on_leftover",
	"job.overrun":    "job.overlap",
	"job.keep":       "job.service",
	"heartbeat.wait": "heartbeat.standby",
}

// renamedChoices does the same for choices, by setting.
var renamedChoices = map[string]map[string]string{
	"job.overlap": {"run": "queue", "kill": "replace", "overlap": "allow"},
}

// renamedVariable returns today's name of an environment variable, or "" if it was not renamed.
func renamedVariable(name string) string {
	for before, now := range renamed {
		if variable(before) == name {
			return variable(now)
		}
	}
	return ""
}

// ownVariables are set by gophd for the command or for itself. A user's section must not set one.
var ownVariables = []string{
	"GOPHD_NAME", "GOPHD_RUN", "GOPHD_RUN_ID", "GOPHD_SLOT", RunVariable, "GOPHD_DUE", "GOPHD_FENCE",
	configVariable, "GOPHD_READY", "GOPHD_HANDOFF", "GOPHD_RUNTIME_DIR", "GOPHD_STATE_DIR",
}

// keys is the table of all settings, in the order in which they are shown. It is built on the first
// call, so that a start that does not need it does not pay for it.
var keys = sync.OnceValue(func() []key {
	return []key{
		{
			name: restartKey, flag: "auto-restart-interval", kind: duration, arg: "TIME",
			def: "24h", min: 10 * time.Second, zero: true, example: "12h",
			help: "re-exec gophd after this time; the run continues; 0 is never; applies with --daemon only, " +
				"unless the key restart.when is set",
		},
		{
			name: "config.daemon", flag: "daemon", short: "d", kind: boolean, def: "false", example: "true",
			help: "detach and run in the background",
		},
		{
			name: "config.verbose", flag: "verbose", short: "v", kind: boolean, def: "false", example: "true",
			help: "also print log lines to stderr; ignored with --daemon",
		},
		{
			name: "config.quiet", flag: "quiet", short: "q", kind: boolean, def: "false", example: "true",
			help: "of gophd's own lines print errors and failed runs only: no warnings, no start of a daemon, " +
				"and not that another instance holds the lease, unless --held-exit-code makes that an error",
		},
		{
			name: "config.name", flag: "name", short: "n", kind: word, arg: "NAME",
			check: checkName, example: "nightly",
			help: "name of the daemon; with one job that of the job; identifies its lease, log and state files",
		},
		{
			name: "config.max_running", kind: number, def: "0", hi: 100_000, example: "20", advanced: true,
			help: "how many runs of all jobs may be active at a time; the others wait, in due order; 0 is no limit; " +
				"requires jobs:",
		},
		{
			name: "config.pid_file", flag: "pid-file", short: "p", kind: path, arg: "FILE",
			check: checkPIDFile, example: "/run/nightly.pid",
			help: "write the process ID to this file",
		},
		{
			name: crontabKey, flag: "crontab", kind: path, arg: "FILE", check: checkPath, example: "/etc/crontab",
			help: "run the jobs of this crontab", advanced: true,
		},
		{
			name: "config.crontab_system", flag: "system", kind: boolean, def: "false", example: "true", advanced: true,
			help: "the crontab has a user before each command; default: that of /etc/crontab and of files in /etc/cron.d " +
				"has, another has not",
		},
		{
			name: "config.crontab_seconds", flag: "crontab-seconds", kind: boolean, def: "false", example: "true", advanced: true,
			help: "the crontab may have six and seven fields, as that of supercronic: see job.year",
		},
		{
			name: watchKey, flag: "watch", kind: boolean, def: "false", example: "true",
			help: "reload when the crontab or the config file has changed, or another file that was read with it", advanced: true,
		},
		{
			name: "job.name", kind: word, check: checkName, example: "nightly", advanced: true,
			help: "the same as config.name, which takes precedence; not with jobs:",
		},
		{
			name: "job.command", kind: command, example: "./job.sh --all",
			help: "the command: a list is executed as it is, a string is a line for /bin/sh -c",
		},
		{
			name: "job.shell", flag: "shell", kind: boolean, def: "false", example: "true",
			help: "the command is one argument, a line for /bin/sh -c",
		},
		{
			name: "job.chdir", flag: "chdir", kind: directory, arg: "DIR", check: checkDirectory, example: "/srv/app",
			help: "working directory of the command; default: that of gophd",
		},
		{
			name: "job.env", flag: "env", kind: mapping, arg: "KEY=VALUE", check: checkVariable, example: "TZ=UTC",
			help: "environment variable of the command (repeatable)",
		},
		{
			name: "job.env_file", flag: "env-file", kind: files, arg: "FILE",
			check: checkEnvFile, example: "-/etc/default/nightly",
			help: "file of KEY=VALUE lines with environment variables of the command (repeatable); a - before the " +
				"name: no error if the file is missing",
			advanced: true,
		},
		{
			name: "job.clear_env", flag: "clear-env", kind: boolean, def: "false", example: "true", advanced: true,
			help: "do not pass gophd's own environment to the command; PATH is set if nothing else sets it",
		},
		{
			name: "job.stdin", flag: "stdin", kind: path, arg: "WHERE", def: job.StdinNull,
			choices: inputs, check: checkInput, example: "/srv/app/batch.txt", advanced: true,
			help: "standard input of each run; - is inherit",
		},
		{
			name: "job.stdin_text", kind: word, arg: "TEXT", example: "hello", advanced: true, literal: true,
			help: "standard input of each run is this text; excludes job.stdin",
		},
		{
			name: "job.user", flag: "user", kind: word, arg: "USER[:GROUP]", check: checkUser, example: "www-data",
			help: "run the command as this user, with all its groups or with GROUP alone; requires root",
		},
		{
			name: "job.group", flag: "group", kind: word, arg: "GROUP",
			check: checkGroup, example: "www-data", advanced: true,
			help: "run the command with this group alone; requires --user",
		},
		{
			name: "job.umask", flag: "umask", kind: octal, arg: "MASK", example: "027", advanced: true,
			help: "umask of the command; default: gophd's own",
		},
		{
			name: "job.nice", flag: "nice", kind: number, arg: "N", lo: -20, hi: 19, example: "10", advanced: true,
			help: "niceness of the command; default: gophd's own",
		},
		{
			name: "job.rlimit", flag: "rlimit", kind: mapping, arg: "NAME=SOFT[:HARD]",
			check: checkLimit, example: "nofile=1024:4096",
			help:     "resource limit of the command, named as in setrlimit(2): a number or unlimited (repeatable)",
			advanced: true,
		},
		{
			name: "job.memory_max", kind: size, def: "0", lo: 1 << 20, zero: true, example: "512M", advanced: true,
			help: "memory limit of a run with its descendants (cgroup v2); 0 is no limit",
		},
		{
			name: "job.cpu_max", kind: percent,
			def: "0", lo: 1, hi: 100_000, zero: true, example: "150%", advanced: true,
			help: "CPU limit of a run with its descendants, in percent of one CPU (cgroup v2); 0 is no limit",
		},
		{
			name: "job.tasks_max", kind: number, def: "0", hi: 1 << 22, example: "100", advanced: true,
			help: "limit of processes and threads of a run with its descendants (cgroup v2); 0 is no limit",
		},
		{
			name: "job.interval", flag: "interval", short: "i", kind: duration, arg: "TIME",
			def: "5s", min: time.Millisecond, zero: true, example: "0.2",
			help: "time from the start of one run to the start of the next; 0 is back to back",
		},
		{
			name: "job.schedule", flag: "schedule", kind: word, arg: "EXPRESSION", example: "17 3 * * 1-5",
			help: "run at the times of a cron expression, or of @daily, @reboot and others, instead of an interval; " +
				"see docs/schedule.md; then job.run_at_start is false by default",
		},
		{
			name: "job.seconds", kind: boolean, def: "false", example: "true", advanced: true,
			help: "job.schedule may have six fields, with the second first",
		},
		{
			name: "job.year", kind: boolean, def: "false", example: "true", advanced: true,
			help: "job.schedule may have six fields, with the year last, or seven, with the second first too",
		},
		{
			name: "job.timezone", kind: word, example: "Europe/Berlin",
			help: "time zone of job.schedule; default: that of TZ, or of the system",
		},
		{
			name: "job.between", kind: word, arg: "FROM-TO", check: checkBetween, example: "22:00-06:00", advanced: true,
			help: "run at the due times of job.schedule in this time of day only; its end is not in it",
		},
		{
			name: "job.exclude", kind: exclusions, example: "12-24..12-26,2027-05-17", advanced: true,
			help: "do not run on these days: YYYY-MM-DD, MM-DD for each year, or FIRST..LAST; at the times that match an " +
				"expression; or on the days in a file",
		},
		{
			name: "job.splay", kind: duration, def: "0", min: time.Millisecond, zero: true, example: "10m", advanced: true,
			help: "start the runs of job.schedule later, by up to this time, always the same for a job on a host",
		},
		{
			name: "job.jitter", kind: duration, def: "0", min: time.Millisecond, zero: true, example: "30s", advanced: true,
			help: "start each run of job.schedule later by a random time up to this one",
		},
		{
			name: "job.catch_up", kind: choice, def: "one", choices: []string{"none", "one", "all"}, example: "none", advanced: true,
			help: "which due times of job.schedule run that were missed while gophd did not run: none, the last one, or " +
				"each of them, one after the other",
		},
		{
			name: "job.catch_up_window", kind: duration, def: "0", min: time.Second, zero: true, example: "24h", advanced: true,
			help: "how old a missed due time may be; 0 is any age; job.catch_up all requires it",
		},
		{
			name: "job.start_deadline", kind: duration, def: "0", min: time.Second, zero: true, example: "10m", advanced: true,
			help: "how long after its due time a run of job.schedule may start; later it is skipped; 0 is any time",
		},
		{
			name: "job.once", flag: "once", kind: boolean, def: "false", example: "true",
			help: "run once, then exit with the exit code of the command",
		},
		{
			name: "job.service", flag: "service", kind: boolean, def: "false", example: "true",
			help: "a service: restart it when it exits, no sooner than --interval after its last start; " +
				"--interval is then 1s by default",
		},
		{
			name: "job.run_at_start", flag: "no-run-at-start", negated: true, kind: boolean,
			def: "true", example: "false",
			help: "run immediately when gophd starts",
		},
		{
			name: "job.overlap", flag: "overlap", kind: choice, arg: "POLICY",
			def: "queue", choices: []string{"queue", "skip", "replace", "allow"}, example: "skip",
			help: "when a tick is due during a run: queue it until the run ends, skip it, replace the run, " +
				"or allow several at a time",
		},
		{
			name: "job.max_parallel", flag: "max-parallel", kind: number, arg: "N",
			def: "2", lo: 2, hi: 1000, example: "4", advanced: true,
			help: "how many runs may be active at a time; if that many are active, a tick is skipped; " +
				"requires --overlap allow",
		},
		{
			name: "job.timeout", flag: "timeout", kind: duration, arg: "TIME",
			def: "0", min: time.Millisecond, zero: true, example: "10m",
			help: "stop a run after this time, unless it asks for more (sd_notify); 0 is no limit",
		},
		{
			name: "job.grace", flag: "grace", kind: duration, arg: "TIME",
			def: "10s", min: time.Millisecond, zero: true, example: "30s",
			help: "time from a stop signal to the next, and from the last one to KILL",
		},
		{
			name: "job.stop_signals", flag: "stop-signals", kind: signals, arg: "LIST",
			def: "TERM", example: "INT,TERM", advanced: true,
			help: "signals that stop a run, one after the other, with --grace after each, then KILL",
		},
		{
			name: "job.escaped", flag: "escaped", kind: choice, arg: "POLICY",
			def: "report", choices: []string{"report", "kill", "ignore"}, example: "kill", advanced: true,
			help: "when processes left the process group of their run and outlive it: report them, kill " +
				"them, or ignore them",
		},
		{
			name: "job.on_leftover", flag: "on-leftover", kind: choice, arg: "POLICY",
			def: "wait", choices: []string{"wait", "kill", "refuse"}, example: "refuse", advanced: true,
			help: "when a run of a gophd that was killed is still active: wait until it ends, kill it, or " +
				"refuse to start",
		},
		{
			name: "job.retries", flag: "retries", kind: number, arg: "N", def: "0", hi: 1000, example: "3",
			help: "how many times a failed run is retried before the next tick",
		},
		{
			name: "job.retry_delay", kind: duration,
			def: "1s", min: time.Millisecond, zero: true, example: "10s", advanced: true,
			help: "delay before the first retry; doubles with each",
		},
		{
			name: "job.retry_exit_codes", kind: codes, example: "75", advanced: true,
			help: "exit codes that are retried; default: every failure",
		},
		{
			name: "job.success_exit_codes", kind: codes, def: "0", example: "0,3", advanced: true,
			help: "exit codes that count as success",
		},
		{
			name: "job.fatal_exit_codes", kind: codes, example: "70", advanced: true,
			help: "exit codes after which gophd re-execs; it exits with 1 instead in the first 10 s after its start " +
				"or last re-exec, and at the sixth fatal error in ten minutes",
		},
		{
			name: "job.start_limit", kind: number, def: "0", hi: 1000, example: "5", advanced: true,
			help: "exit with 1 when this many runs in a row started within job.start_limit_interval and failed, " +
				"each with all its retries; 0 is never",
		},
		{
			name: "job.start_limit_interval", kind: duration,
			def: "1m", min: time.Millisecond, example: "10m", advanced: true,
			help: "time window of job.start_limit",
		},
		{
			name: "job.output", flag: "output", kind: path, arg: "WHERE",
			choices: outputs, check: checkOutput, example: "discard",
			help: "where the command's output goes; on-failure: if the run failed, to the log if there is one, " +
				"else to stderr; - is stdout; a file name may contain %{job}, the name of the job; " +
				"default: log if there is one, else inherit",
		},
		{
			name: "job.mail_to", kind: word, arg: "ADDRESS", check: checkMail, example: "root,ops@example.com", advanced: true,
			help: "mail the output of each run that has one to these addresses, by sendmail, as cron does; with output " +
				"on-failure only that of failed runs; not if the output is discard or a file",
		},
		{
			name: "job.mail_from", kind: word, arg: "ADDRESS", check: checkMail, example: "cron@example.com", advanced: true,
			help: "the sender of those mails; default: the user of the command",
		},
		{
			name: "heartbeat.url", flag: "heartbeat", kind: word, arg: "URL",
			def: "file:", check: checkURL, example: "memcached://10.0.0.5:11211",
			help: "store of the lease: file:, memcached://HOST[:PORT], memcached:///SOCKET or none:",
		},
		{
			name: "heartbeat.password_file", flag: "heartbeat-password-file", kind: path, arg: "FILE",
			check: checkPath, example: "/etc/gophd/memcached.password",
			help: "file with the line user:password for a memcached started with -Y; read at each new connection",
		},
		{
			name: "heartbeat.ttl", kind: duration, def: "10s", min: 5 * time.Second, example: "30s",
			help: "how long the lease is valid without renewal",
		},
		{
			name: "heartbeat.renew", kind: duration, def: "2s", min: time.Second, example: "5s",
			help: "time between two renewals of the lease",
		},
		{
			name: "heartbeat.stop_grace", kind: duration, def: "2s", min: time.Millisecond, zero: true, example: "5s",
			help: "how long a run may take to stop when the lease is about to expire or was lost, with all stop signals",
		},
		{
			name: "heartbeat.timeout", kind: duration, def: "500ms", min: time.Millisecond, example: "1s",
			help: "timeout for connecting to the store, and again for its answer",
		},
		{
			name: "heartbeat.acquire_timeout", kind: duration,
			def: "30s", min: time.Millisecond, zero: true, example: "5m",
			help: "how long an unreachable store is retried at the start",
		},
		{
			name: "heartbeat.on_unreachable", kind: choice, def: "pause",
			choices: []string{"pause", "continue"}, example: "continue",
			help: "when the store is unreachable: pause the job, or continue although another host may run it too",
		},
		{
			name: "heartbeat.scope", kind: choice, def: scopeDaemon,
			choices: []string{scopeDaemon, scopeJob}, example: "job", advanced: true,
			help: "with jobs:, what a lease is for: daemon: all jobs of the daemon have one; job: each has its own",
		},
		{
			name: "heartbeat.standby", flag: "standby", kind: boolean, def: "false", example: "true",
			help: "stand by while another instance holds the lease, instead of exiting",
		},
		{
			name: "heartbeat.held_exit_code", flag: "held-exit-code", kind: number, arg: "CODE",
			def: "0", hi: 255, example: "75",
			help: "exit code when another instance holds the lease at the start; 0 by default",
		},
		{
			name: "log.file", flag: "log-file", kind: path, arg: "FILE", choices: services,
			check: checkLogFile, example: "/var/log/nightly.log",
			help: "log to this file, whose name may contain strftime patterns, and %{job}: a file for each job; " +
				"- is stdout; default with --daemon: NAME.log in the log directory",
		},
		{
			name: "log.format", flag: "log-format", kind: choice, arg: "FORMAT", def: "simple",
			choices: []string{"simple", "json", "console"}, example: "json",
			help: "format of log lines",
		},
		{
			name: "log.level", flag: "log-level", kind: choice, arg: "LEVEL", def: "info",
			choices: []string{"debug", "info", "warn", "error"}, example: "debug",
			help: "minimum level of gophd's own log lines",
		},
		{
			name: "log.rotate_size", kind: size, def: "0", lo: 4 << 10, zero: true, example: "100M",
			help: "rotate the log before it grows beyond this size; 0 is never",
		},
		{
			name: "log.rotate_age", kind: duration,
			def: "0", min: time.Second, zero: true, example: "24h", advanced: true,
			help: "rotate the log when its first line is this old; 0 is never",
		},
		{
			name: "log.keep", kind: number, def: "0", hi: 1_000_000, example: "10",
			help: "number of rotated files that are kept; 0 is all",
		},
		{
			name: "log.keep_size", kind: size, def: "0", lo: 4 << 10, zero: true, example: "10G", advanced: true,
			help: "total size of the rotated files; 0 is no limit",
		},
		{
			name: "log.compress", kind: boolean, def: "false", example: "true", advanced: true,
			help: "compress rotated files with gzip",
		},
		{
			name: "log.mode", kind: octal, check: checkMode, example: "0600", advanced: true,
			help: "mode of a new log file, regardless of the umask; default: 0640 less the umask",
		},
		{
			name: "log.owner", kind: word, check: checkUser, example: "root:adm", advanced: true,
			help: "owner of a new log file: USER or USER:GROUP; requires root",
		},
		{
			name: "log.sync", kind: choice,
			def: "never", choices: []string{"never", "second", "always"}, example: "second", advanced: true,
			help: "when log lines are synced to disk: never, within a second, or always before the next lines",
		},
		{
			name: "log.on_full", kind: choice,
			def: "drop", choices: []string{"drop", "block"}, example: "block", advanced: true,
			help: "when the log cannot be written: drop and count lines, or block the command",
		},
		{
			name: "restart.when", kind: choice, def: "daemon",
			choices: []string{"daemon", "always", "never"}, example: "always",
			help: "when config.auto_restart_interval applies: daemon: only with --daemon",
		},
		{
			name: "api.socket", flag: "no-socket", negated: true, kind: boolean, def: "true", example: "false", advanced: true,
			help: "listen on the socket NAME.sock in the runtime directory, for gophd list and status; " +
				"a --once job never does",
		},
		{
			name: "api.group", kind: word, arg: "GROUP", check: checkAPIGroup, example: "adm",
			help: "the members of this group may use the socket too, for requests as well; default: only the own user " +
				"and root",
		},
		{
			name: "history.size", kind: size, def: "2M", lo: 128 << 10, zero: true, example: "20M",
			help: "size of the history of a job, for gophd history: two files in the state directory, each with half of it; " +
				"0 is no history",
		},
	}
})

// sections are gophd's own sections, in table order.
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

// values describes the valid values of the key.
func (k key) values() string {
	switch {
	case k.kind == path && k.choices != nil:
		return strings.Join(k.choices, ", ") + " or a file"
	case k.kind == choice:
		return strings.Join(k.choices, ", ")
	case k.kind == duration, k.kind == size:
		return k.kind.String() + ", at least " + k.minimum()
	case k.kind == number, k.kind == percent:
		return k.kind.String() + " " + k.bounds()
	case k.kind == mapping:
		return k.kind.String() + " " + k.arg
	}
	return k.kind.String()
}

// minimum describes the smallest duration or size of the key.
func (k key) minimum() string {
	least := k.min.String()
	if k.kind == size {
		least = showSize(k.lo)
	}
	if k.zero {
		least += ", or 0"
	}
	return least
}

// bounds describes the range of a number or a percentage.
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
