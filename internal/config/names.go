package config

import (
	"maps"
	"slices"
	"strings"

	"gophd/internal/misspelled"
)

// otherLetters are flags under the letters that docker, start-stop-daemon and timeout(1) have for them.
var otherLetters = map[string]string{
	"e": "env", "l": "log-file", "o": "output", "t": "timeout", "u": "user", "w": "chdir",
}

// otherNames are flags under the names that other tools have for them: systemd, docker, supervisord,
// start-stop-daemon, daemonize, flock, watch, cron wrappers.
var otherNames = map[string]string{
	"background": "daemon", "daemonize": "daemon", "detach": "daemon",
	"make-pidfile": "pid-file", "pid": "pid-file", "pidfile": "pid-file",
	"cd": "chdir", "cwd": "chdir", "directory": "chdir", "workdir": "chdir", "working-dir": "chdir",
	"working-directory": "chdir",
	"environment":       "env", "environment-file": "env-file", "chuid": "user", "uid": "user", "username": "user",
	"every": "interval", "period": "interval", "restart": "service", "lock": "heartbeat", "one-shot": "once",
	"oneshot": "once", "cron": "schedule", "on-calendar": "schedule", "calendar": "schedule", "silent": "quiet", "config-file": "config", "configfile": "config",
	"kill-signal": "stop-signals", "signal": "stop-signals", "inotify": "watch", "stop-signal": "stop-signals",
	"kill-after": "grace", "stop-timeout": "grace", "timeout-stop-sec": "grace", "retry": "retries",
	"log": "log-file", "path": "log-file", "logfile": "log-file", "stdout": "output", "format": "log-format",
}

// otherKeys are settings without a flag under such names.
var otherKeys = map[string]string{
	"cmd": "job.command", "exec": "job.command", "exec-start": "job.command", "program": "job.command",
	"mem": "job.memory_max", "memory": "job.memory_max", "memory-limit": "job.memory_max",
	"cpu": "job.cpu_max", "cpus": "job.cpu_max", "pids-limit": "job.tasks_max",
}

// otherAdvice is what helps instead of a flag or a key that gophd has under no name.
func otherAdvice(word string) string {
	switch word {
	case "foreground", "no-background", "no-daemon", "no-detach", "no-fork", "nodaemon":
		return "gophd is in the foreground unless it is told to be a daemon; leave it out"
	}
	return ""
}

// flagAdvice is otherAdvice for a flag.
func flagAdvice(word string) string {
	switch word {
	case "check", "dry-run", "test", "validate":
		return "write gophd check in place of gophd run"
	case "debug":
		return "write --log-level debug"
	case "json":
		return "write --log-format json"
	}
	return otherAdvice(word)
}

// keyOf returns the setting that has that flag, or whose name ends with it; ok is false if there is none.
func keyOf(flag string) (k key, ok bool) {
	for _, named := range []func(key) bool{
		func(k key) bool { return k.flag == flag },
		func(k key) bool { return flagName(k.name) == flag },
	} {
		if i := slices.IndexFunc(keys(), named); i >= 0 {
			return keys()[i], true
		}
	}
	return key{}, false
}

// otherKey returns the setting that another tool calls by that word, or by one that it misspells, if
// there is one.
func otherKey(word string) (name string, ok bool) {
	word = strings.ReplaceAll(word, "_", "-")
	words := slices.AppendSeq(slices.Collect(maps.Keys(otherKeys)), maps.Keys(otherNames))
	slices.Sort(words)
	if near := misspelled.Nearest(word, words); near != "" {
		word = near
	}
	if name, ok := otherKeys[word]; ok {
		return name, true
	}
	if flag, ok := otherNames[word]; ok {
		k, ok := keyOf(flag)
		return k.name, ok
	}
	return "", false
}

// warnOfLateFlag warns of a flag of gophd right after the command, which gets it as an argument. A --
// before the command says that this is meant.
func (l *loader) warnOfLateFlag() {
	if len(l.Command) < 2 || l.Flags == nil || l.Flags.ArgsLenAtDash() >= 0 {
		return
	}
	word, _, _ := strings.Cut(l.Command[1], "=")
	if flag, ok := strings.CutPrefix(word, "--"); ok && l.Flags.Lookup(flag) != nil {
		l.warnings = append(l.warnings, commandLine+": "+word+" after the command is an argument of the command; if it is for gophd, "+
			"write it before the command, otherwise write -- before the command")
	}
}

// ownVariable returns the variable of gophd that was probably meant by one that begins with GOPHD_ and
// names no section of gophd, or "": the user's own sections have such names too.
func ownVariable(name string) string {
	word, ok := strings.CutPrefix(name, "GOPHD_")
	if !ok || slices.Contains(ownVariables, name) {
		return ""
	}
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	for _, own := range []string{configVariable, "GOPHD_RUNTIME_DIR", "GOPHD_STATE_DIR"} {
		if plain(own) == plain(name) {
			return own
		}
	}
	for _, of := range []func(key) string{
		func(k key) string { return k.flag },
		func(k key) string { return flagName(k.name) },
		func(k key) string { return k.name },
	} {
		for _, k := range keys() {
			if of(k) != "" && plain(of(k)) == plain(word) {
				return k.env()
			}
		}
	}
	if key, ok := otherKey(strings.ToLower(word)); ok {
		return variable(key)
	}
	return ""
}
