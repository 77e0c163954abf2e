package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gophd/internal/job"
	"gophd/internal/safefile"
)

const (
	commandLine   = "command line"
	defaultSource = "default"
)

// output returns where the command's output goes, and rejects values with which it would be lost.
func (l *loader) output(out string, g given, c *Config) string {
	const fix = "use log, on-failure, discard or a file"
	switch {
	case out == "" && c.Log.File != "":
		return job.OutputLog
	case out == "":
		return job.OutputInherit
	case out == job.OutputLog && c.Log.File == "" && !c.Daemon:
		l.reject(g.subject, out, "there is no log file; add --log-file FILE, or use inherit")
	case out == job.OutputInherit && c.Daemon:
		l.reject(g.subject, out, "a daemon has no terminal, the output would be lost; "+fix)
	case !slices.Contains(outputs, out):
		out = l.target(out, g, c.Daemon, fix)
	}
	return out
}

// stdio stands for gophd's own stdout, or stdin, where a setting names a file.
const stdio = "-"

// target returns the absolute path of a file that is written. It rejects a descriptor or a terminal
// that gophd does not have, however it is named.
func (l *loader) target(path string, g given, daemon bool, fix string) string {
	word := path
	if path == stdio {
		path = "/dev/stdout"
	}
	path = l.absolute(path)
	n, own := ownDescriptor(path)
	switch {
	case own:
	case daemon && (word == "stdout" || word == "stderr"):
		l.warnOfWord(g, word, "a daemon has no stdout or stderr")
	default:
		l.warnOfWord(g, word, written[word])
	}
	switch {
	case own && daemon:
		l.reject(g.subject, visible(g.text), "a daemon has no stdout or stderr, the output would be lost; "+fix)
	case own && n != 1 && n != 2:
		l.reject(g.subject, visible(g.text), "neither gophd's stdout nor its stderr, and gophd keeps no other "+
			"descriptor; redirect stdout to it, and use -")
	case daemon && isSessionTerminal(path):
		l.reject(g.subject, visible(g.text), "a daemon has no terminal, the output would be lost; "+fix)
	}
	return path
}

// written and read are what other tools write for something else than a file, with what gophd writes
// for it.
var (
	written = map[string]string{
		"none": "for no file use /dev/null", "null": "for no file use /dev/null", "off": "for no file use /dev/null",
		"syslog":  "for the service use log, and --log-file syslog:",
		"journal": "for the journal use log, and --log-file journald:", "journald": "for the journal use log, and --log-file journald:",
		"stdout": "for gophd's stdout use -", "stderr": "for gophd's stderr use /dev/stderr",
	}
	read = map[string]string{"none": "for no input use null", "stdin": "for gophd's stdin use -"}
)

// warnOfWord warns if a setting of a file is a word of which the user may not know that it names a
// file.
func (l *loader) warnOfWord(g given, word, fix string) {
	text := fmt.Sprintf("%s %s: this is a file of that name in the working directory; %s", g.subject, word, fix)
	if fix != "" && !slices.Contains(l.warnings, text) {
		l.warnings = append(l.warnings, text)
	}
}

// ownDescriptor returns the number of the descriptor of gophd itself that path leads to, or belowOwn
// if path leads through one.
func ownDescriptor(path string) (n int, own bool) {
	if n, ok := safefile.Descriptor(path); ok {
		return n, n != safefile.Others
	}
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if n, ok := safefile.Descriptor(dir); ok && n != safefile.Others {
			return belowOwn, true
		}
	}
	return 0, false
}

// belowOwn is what ownDescriptor returns for a file in a directory that is a descriptor.
const belowOwn = -1

// rejectOwn rejects a path that leads to a descriptor of gophd itself, where gophd or the command
// looks up the path again later: it leads to another file then, or to none.
func (l *loader) rejectOwn(subject, text, path, fix string) {
	if _, own := ownDescriptor(path); own {
		l.reject(subject, visible(text), errOwn+"; "+fix)
	}
}

const errOwn = "a descriptor of gophd itself, which is another file later, or none"

// completeDaemon sets the values of the daemon that depend on its name or on each other.
func (l *loader) completeDaemon(c *Config, get func(string) given) {
	if c.Log.File != "" && !service(c.Log.File) {
		c.Log.File = l.target(c.Log.File, get("log.file"), c.Daemon, "name a file, journald: or syslog:")
	}
	if c.Log.File == "" && c.Daemon && c.Name != "" {
		// log.file is a strftime pattern.
		c.Log.File = strings.ReplaceAll(filepath.Join(c.LogDir, c.Name+".log"), "%", "%%")
	}
	pid, password := get("config.pid_file"), get("heartbeat.password_file")
	_, descriptor := safefile.Descriptor(c.PIDFile) // also of another process
	if _, own := ownDescriptor(c.PIDFile); own || descriptor {
		l.reject(pid.subject, visible(pid.text), "a descriptor, and gophd replaces and removes its PID file; "+
			"name a file in a directory")
	}
	l.rejectOwn(password.subject, password.text, c.Heartbeat.PasswordFile, "name a file")
	l.checkHeartbeat(c.Heartbeat, get)
}

// completeJob sets the values of a job that depend on more than one setting, except for its name
// and environment.
func (l *loader) completeJob(j *jobSettings, cmd given, get func(string) given, c *Config) {
	j.Command = cmd.argv()
	j.Dir = l.absolute(cmp.Or(j.Dir, l.Dir))
	if j.Name != "" {
		j.Output = job.Output(strings.ReplaceAll(string(j.Output), jobPattern, j.Name))
	}
	dir := get("job.chdir")
	l.rejectOwn(dir.subject, cmp.Or(dir.text, j.Dir), j.Dir, "name the directory")
	if j.Command != nil && strings.Contains(j.Command[0], "/") {
		path := j.Command[0]
		if !filepath.IsAbs(path) {
			path = filepath.Join(j.Dir, path)
		}
		l.rejectOwn(cmd.subject, j.Command[0], path, "name the program")
	}
	j.Output = job.Output(l.output(string(j.Output), get("job.output"), c))
	if text := get("job.stdin_text"); j.StdinText != "" {
		if in := get("job.stdin"); in.source != defaultSource && (!l.many || in.entry) {
			l.rejectKey(in, "job.stdin_text is set too; leave one of them out")
		}
		if strings.Contains(j.StdinText, "\x00") {
			l.rejectKey(text, "contains a NUL byte; remove it")
		}
		j.Stdin = job.StdinNull
	}
	j.Stdin = l.stdin(&j.Spec, get("job.stdin"), c.Daemon)
	j.EnvFile, j.Exclude = l.absoluteEnvFiles(j.EnvFile), l.absoluteExclusions(j.Exclude)
	if j.Group != "" {
		j.User += ":" + j.Group
	}
	if j.Overlap != job.OverlapAllow {
		j.MaxParallel = 1
	}
	if j.Service && get("job.interval").source == defaultSource {
		j.Interval = serviceInterval
	}
	l.completeSchedule(j, get)
	l.warnOfStartLimit(j.Spec)
}

func (l *loader) warnOfStartLimit(j job.Spec) {
	if n, window := j.StartLimit, j.StartLimitInterval; !j.Once && j.Calendar == nil && j.FastestStarts(n) > window {
		pace := "at an interval of " + j.Interval.String()
		if j.SlowsFailures() {
			pace = "that fail at once, each of which waits longer than the last,"
		}
		l.warnings = append(l.warnings, fmt.Sprintf(
			"job.start_limit %d is never reached: so many starts %s take longer than job.start_limit_interval %s",
			n, pace, window))
	}
}

// serviceInterval is the default interval of a service.
const serviceInterval = time.Second

// checkDaemon rejects settings of the daemon that contradict each other or would have no effect.
func (l *loader) checkDaemon(s *settings, get func(string) given) {
	if s.Config.Verbose && s.Config.Quiet {
		l.rejectKey(get("config.quiet"), "config.verbose prints more and this prints less; leave one of them out")
	}
	if service(s.Log.File) {
		for _, name := range []string{
			"rotate_size", "rotate_age", "keep", "keep_size", "compress", "mode", "owner", "sync",
		} {
			if g := get("log." + name); g.source != defaultSource {
				l.rejectKey(g, "applies to log files only, and the log goes to "+s.Log.File+"; leave it out")
			}
		}
	}
}

func (l *loader) rejectKey(g given, problem string) { l.reject(g.subject, visible(g.show()), problem) }

// checkJob rejects settings of a job that contradict each other or would have no effect. A default
// of jobs: may have no effect on one of them.
func (l *loader) checkJob(j *jobSettings, get func(string) given) {
	reject := func(name, problem string) { l.rejectKey(get(name), problem) }
	isSet := func(name string) bool { return get(name).source != defaultSource }
	isSetHere := func(name string) bool { return isSet(name) && (!l.many || get(name).entry) }

	overlap := j.Overlap == job.OverlapAllow
	switch {
	case j.Service && j.Once:
		reject("job.service", "a service is restarted when it exits, and --once is one run; leave one of them out")
	case j.Service && j.Overlap != job.OverlapQueue:
		reject("job.overlap", "a service has no ticks; leave it out, or job.service")
	case j.Service && j.Retries > 0:
		reject("job.retries", "a service is always restarted; leave it out, or job.service")
	case overlap && j.Interval == 0:
		reject("job.overlap", "back to back there is no tick during a run; set an interval")
	}
	l.checkSchedule(j, get, isSetHere)
	if !overlap && isSetHere("job.max_parallel") {
		reject("job.max_parallel", "runs do not overlap; set job.overlap to allow, or leave it out")
	}
	for _, name := range []string{"job.retry_delay", "job.retry_exit_codes"} {
		if isSetHere(name) && !isSet("job.retries") {
			reject(name, "nothing is retried; set job.retries, or leave it out")
		}
	}
	if isSetHere("job.start_limit_interval") && !isSet("job.start_limit") {
		reject("job.start_limit_interval", "there is no limit; set job.start_limit, or leave it out")
	}
	switch {
	case j.Group != "" && j.User == "":
		reject("job.group", "there is no user; set job.user, or leave it out")
	case j.Group != "" && strings.Contains(j.User, ":"):
		reject("job.group", "job.user names a group too; leave one of them out")
	}
	checkExitCodes(j, reject)
	l.warnOfLimits(j.Rlimits)
	if !slices.Contains(j.SuccessCodes, 0) {
		l.warnings = append(l.warnings,
			"job.success_exit_codes does not contain 0: a command that exits with 0 has failed")
	}
}

// leastLimits are soft limits below which hardly any program starts: with less, the dynamic loader
// cannot open or map a library, or the kernel cannot set up the stack.
var leastLimits = map[string]uint64{"nofile": 4, "stack": 16 << 10, "as": 1 << 20, "data": 64 << 10}

func (l *loader) warnOfLimits(limits []job.Rlimit) {
	for _, r := range limits {
		if least := leastLimits[r.Name]; r.Soft < least {
			l.warnings = append(l.warnings,
				fmt.Sprintf("job.rlimit %s=%d: hardly any program starts with that; write at least %d", r.Name, r.Soft, least))
		}
	}
}

// checkExitCodes rejects an exit code that is in more than one list.
func checkExitCodes(j *jobSettings, reject func(name, problem string)) {
	lists := []struct {
		name  string
		codes []int
	}{
		{"job.success_exit_codes", j.SuccessCodes},
		{"job.fatal_exit_codes", j.FatalCodes},
		{"job.retry_exit_codes", j.RetryCodes},
	}
	for i, list := range lists {
		for _, other := range lists[:i] {
			for _, code := range list.codes {
				if slices.Contains(other.codes, code) {
					reject(list.name, fmt.Sprintf("%d is in %s too; leave it out of one", code, other.name))
					return
				}
			}
		}
	}
}

// stdin returns the standard input of the command. It is inherit for each name of gophd's own
// stdin. It rejects a descriptor or a terminal that gophd does not have, and an input that runs
// would take from each other.
func (l *loader) stdin(j *job.Spec, g given, daemon bool) string {
	const fix = "use null or a file"
	in := j.Stdin
	if in == stdio {
		in = job.StdinInherit
	}
	word := in
	if !slices.Contains(inputs, in) {
		in = l.absolute(in)
	}
	n, own := ownDescriptor(in)
	if !own {
		l.warnOfWord(g, word, read[word])
	}
	if own && n == 0 {
		in = job.StdinInherit
	}
	switch {
	case own && n != 0:
		l.reject(g.subject, visible(g.text), "not gophd's stdin, and gophd keeps no other descriptor to read; "+
			"redirect stdin from it, and use -")
	case daemon && in == job.StdinInherit, daemon && isSessionTerminal(in):
		l.reject(g.subject, visible(g.text), "a daemon has no terminal; "+fix)
	case in == job.StdinInherit && j.Overlap == job.OverlapAllow:
		l.reject(g.subject, visible(g.text), "overlapping runs would take each other's input; "+fix)
	}
	return in
}

// checkHeartbeat applies the heartbeat's own rule, so that an invalid file is rejected before
// anything starts: right before a renewal, the lease must be valid long enough to start a run and
// to stop it. memcached drops a key up to 2 s early, clocks differ by up to one percent, a renewal
// is up to a tenth late, an operation takes up to two timeouts. memcached counts in whole seconds,
// and treats more than 30 days as a date (its doc/protocol.txt, "Expiration times").
func (l *loader) checkHeartbeat(h Heartbeat, get func(string) given) {
	if !strings.HasPrefix(h.URL, memcached) {
		return
	}
	ttl := get("heartbeat.ttl")
	if h.TTL%time.Second != 0 {
		l.reject(ttl.subject, visible(ttl.text), "memcached counts in whole seconds; write whole seconds")
		return
	}
	if h.TTL > 30*24*time.Hour {
		l.reject(ttl.subject, visible(ttl.text), "longer than the 30 days that memcached keeps; write a shorter time")
		return
	}
	need := 2150*time.Millisecond + h.Renew + h.Renew/10 + h.StopGrace + 2*h.Timeout
	if least := (need + need/99 + time.Second - 1).Truncate(time.Second); h.TTL < least {
		l.reject(ttl.subject, visible(ttl.text), fmt.Sprintf(
			"too short; 0.99 x ttl must hold 2.15s + 1.1 x renew %s + stop_grace %s + 2 x timeout %s; "+
				"write at least %ds, or lower those", h.Renew, h.StopGrace, h.Timeout, least/time.Second))
	}
}
