package config

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gophd/internal/job"
	"gophd/internal/world"
)

const (
	commandLine   = "command line"
	defaultSource = "default"
)

// command is what to run: the words of the command line, else job.command. A text comes back as a
// line for the shell, a list as words.
func (l *loader) command(g, shell given, useShell bool) given {
	if len(l.Command) > 0 {
		g = given{words: l.Command, source: commandLine, subject: commandLine}
	}
	if g.words == nil && g.text == "" {
		if l.NeedCommand {
			l.refuse("no command", "", "write it after --, as in gophd run -- ./job.sh, or set job.command in a config file")
		}
		return g
	}
	if useShell && g.words != nil {
		if len(g.words) != 1 {
			l.refuse(shell.subject, "", fmt.Sprintf(
				"takes a command of one word, this one has %d; quote the line, as in gophd run --shell -- 'a | b'", len(g.words)))
			return g
		}
		g.text, g.words = g.words[0], nil
	}
	switch {
	case g.words == nil && strings.TrimSpace(g.text) == "":
		l.refuse(g.subject, visible(g.text), "an empty line for the shell; write the command")
	case g.words != nil && g.words[0] == "":
		l.refuse(g.subject, visible(""), "an empty word instead of a command; write the command first")
	}
	return g
}

// argv is the command as it is executed; nil when there is none.
func (g given) argv() []string {
	switch {
	case g.words != nil:
		return slices.Clone(g.words)
	case g.text != "":
		return []string{"/bin/sh", "-c", g.text}
	}
	return nil
}

// name makes the name of a job that was not given one. It is the config file's if the file was
// named, or describes the command; else the command's with six digits of a hash, so that two
// different lines never meet and one line started twice does. A word without a slash is hashed as it
// is, not as the file that PATH finds: the name must not change while a deployment swaps that file.
func (l *loader) name(cmd given, file, dir string) string {
	argv := cmd.argv()
	if file != "" && (l.explicit || cmd.source != commandLine) {
		base := filepath.Base(file)
		return clean(strings.TrimSuffix(base, filepath.Ext(base)))
	}
	if argv == nil {
		return ""
	}
	base, hashed := argv[0], cmd.text
	if cmd.words != nil {
		if strings.Contains(base, "/") {
			argv[0] = filepath.Clean(base)
			if !filepath.IsAbs(base) {
				argv[0] = filepath.Join(dir, base)
			}
		}
		hashed = strings.Join(argv, "\x00")
	}
	sum := sha256.Sum256([]byte(hashed))
	return clean(filepath.Base(base)) + "-" + hex.EncodeToString(sum[:3])
}

// clean makes a name out of any text; the hash behind it may follow.
func clean(text string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, text)
	name = strings.TrimLeft(name, "-.")
	if name == "" {
		return "job"
	}
	return name[:min(len(name), maxName-len("-123456"))]
}

// output decides where the command's output goes, and refuses the ways in which it would be lost.
func (l *loader) output(out string, g given, c *Config) string {
	switch {
	case out == "" && c.Log.File != "":
		return job.OutputLog
	case out == "":
		return job.OutputInherit
	case out == job.OutputLog && c.Log.File == "" && !c.Daemon:
		l.refuse(g.subject, out, "there is no log file; add --log-file FILE, or use inherit")
	case out == job.OutputInherit && c.Daemon:
		l.refuse(g.subject, out, "a daemon has no terminal, the output would be lost; use log, on-failure, discard or a file")
	case !slices.Contains(outputs, out):
		out = l.absolute(out)
		if out == c.Log.File {
			l.refuse(g.subject, visible(out), "the log file itself; use log")
		}
	}
	return out
}

// complete sets what depends on more than one setting: absolute paths, the name, the log file, the
// environment. It returns the command with its source.
func (l *loader) complete(c *Config, s *settings, said func(string) given, user []Value) given {
	j := &s.Job
	cmd := l.command(said("job.command"), said("job.shell"), j.Shell)
	j.Command = cmd.argv()
	j.Dir = l.absolute(cmp.Or(j.Dir, l.Dir))
	if j.Name == "" {
		j.Name = l.name(cmd, c.File, j.Dir)
	}
	if !service(c.Log.File) {
		c.Log.File = l.absolute(c.Log.File)
	}
	if c.Log.File == "" && c.Daemon && j.Name != "" {
		c.Log.File = strings.ReplaceAll(filepath.Join(c.LogDir, j.Name+".log"), "%", "%%") // log.file is a strftime pattern
	}
	j.Output = job.Output(l.output(string(j.Output), said("job.output"), c))
	j.Stdin = l.stdin(j.Stdin, said("job.stdin"), c.Daemon)
	l.checkHeartbeat(c.Heartbeat, said)
	j.EnvFile = l.envFiles(j.EnvFile)
	j.Env = l.variables(s, said("job.env_file"), user)
	if j.Group != "" {
		j.User += ":" + j.Group
	}
	if j.Overrun != job.OverrunOverlap {
		j.MaxParallel = 1
	}
	if j.Keep && said("job.interval").source == defaultSource {
		j.Interval = keepInterval
	}
	return cmd
}

// keepInterval is the interval of a service that was not given one.
const keepInterval = time.Second

// rules holds the settings of a job against each other, and refuses what would silently mean nothing or
// something else.
func (l *loader) rules(s *settings, said func(string) given) {
	j := &s.Job
	refuse := func(name, problem string) { l.refuse(said(name).subject, visible(said(name).show()), problem) }
	was := func(name string) bool { return said(name).source != defaultSource }

	overlap := j.Overrun == job.OverrunOverlap
	switch {
	case j.Keep && j.Once:
		refuse("job.keep", "a service is kept running, and --once ends after one run; leave one of them out")
	case j.Keep && j.Overrun != job.OverrunRun:
		refuse("job.overrun", "a service that is kept running has no tick that it could overrun; leave it out, or job.keep")
	case j.Keep && j.Retries > 0:
		refuse("job.retries", "a service that is kept running is always started again; leave it out, or job.keep")
	case overlap && j.Interval == 0:
		refuse("job.overrun", "back to back there is no tick during a run; set an interval")
	case overlap && j.Stdin == job.StdinInherit:
		refuse("job.stdin", "overlapping runs would take each other's input; use null or a file")
	}
	if !overlap && was("job.max_parallel") {
		refuse("job.max_parallel", "runs do not overlap; set job.overrun to overlap, or leave it out")
	}
	for _, name := range []string{"job.retry_delay", "job.retry_exit_codes"} {
		if was(name) && !was("job.retries") {
			refuse(name, "nothing is retried; set job.retries, or leave it out")
		}
	}
	if was("job.start_limit_interval") && !was("job.start_limit") {
		refuse("job.start_limit_interval", "there is no limit; set job.start_limit, or leave it out")
	}
	switch {
	case j.Group != "" && j.User == "":
		refuse("job.group", "there is no user; add --user, or leave it out")
	case j.Group != "" && strings.Contains(j.User, ":"):
		refuse("job.group", "job.user names a group too; leave one of them out")
	}
	ruleCodes(s, refuse)
	if service(s.Log.File) {
		for _, name := range []string{"rotate_size", "rotate_age", "keep", "keep_size", "compress", "mode", "owner", "sync"} {
			if was("log." + name) {
				refuse("log."+name, "for a file, and the log goes to "+s.Log.File+" instead; leave it out")
			}
		}
	}
	if !slices.Contains(j.SuccessCodes, 0) {
		l.warnings = append(l.warnings, "job.success_exit_codes does not hold 0: a command that exits with 0 has failed")
	}
	// Starts that are an interval apart cannot be that many in so short a time.
	if n, most := j.StartLimit, j.StartLimitInterval; n > 1 && !j.Keep && !j.Once && j.Interval > most/time.Duration(n-1) {
		l.warnings = append(l.warnings, fmt.Sprintf(
			"job.start_limit %d is never reached: so many starts at an interval of %s take longer than job.start_limit_interval %s",
			n, j.Interval, most))
	}
}

// ruleCodes holds the lists of exit codes against each other: a code has one meaning.
func ruleCodes(s *settings, refuse func(name, problem string)) {
	lists := []struct {
		name  string
		codes []int
	}{
		{"job.success_exit_codes", s.Job.SuccessCodes},
		{"job.fatal_exit_codes", s.Job.FatalCodes},
		{"job.retry_exit_codes", s.Job.RetryCodes},
	}
	for i, list := range lists {
		for _, other := range lists[:i] {
			for _, code := range list.codes {
				if slices.Contains(other.codes, code) {
					refuse(list.name, fmt.Sprintf("%d is in %s too; leave it out of one", code, other.name))
					return
				}
			}
		}
	}
}

// stdin decides what the command reads, and refuses a terminal that a daemon does not have.
func (l *loader) stdin(in string, g given, daemon bool) string {
	switch {
	case in == job.StdinInherit && daemon:
		l.refuse(g.subject, in, "a daemon has no terminal; use null or a file")
	case !slices.Contains(inputs, in):
		return l.absolute(in)
	}
	return in
}

// usualPath is the PATH of a command that is given none: that of systemd.exec(5), and the two folders that
// are not yet one with theirs on every system.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// variables is the environment that the config gives the command. Of two values for one name the later counts: first the
// user's sections, then job.env_file, file by file, then job.env.
func (l *loader) variables(s *settings, said given, user []Value) []string {
	var env []string
	index := map[string]int{}
	set := func(name, value string) {
		kv := name + "=" + value
		if i, ok := index[name]; ok {
			env[i] = kv
			return
		}
		index[name] = len(env)
		env = append(env, kv)
	}
	if s.Job.ClearEnv {
		set("PATH", usualPath)
	}
	for _, u := range user {
		set(variable(u.Key), u.Text)
	}
	var pairs []string
	if l.NeedCommand { // a command that asks for one setting may well not be allowed to read them
		for _, name := range s.Job.EnvFile {
			pairs = append(pairs, l.readEnvFile(name, said)...)
		}
	}
	for _, kv := range append(pairs, s.Job.Env...) {
		name, value, _ := strings.Cut(kv, "=")
		set(name, value)
	}
	return env
}

// envFiles makes the names of job.env_file absolute.
func (l *loader) envFiles(names []string) []string {
	names = slices.Clone(names)
	for i, name := range names {
		if path, optional := strings.CutPrefix(name, "-"); optional {
			names[i] = "-" + l.absolute(path)
		} else {
			names[i] = l.absolute(name)
		}
	}
	return names
}

// readEnvFile returns the variables of one file of job.env_file.
func (l *loader) readEnvFile(name string, said given) []string {
	path, optional := strings.CutPrefix(name, "-")
	data, err := l.bytes(path, "file of KEY=VALUE lines")
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		l.refuse(said.subject, visible(path), err.Error())
		return nil
	}
	env, err := world.ParseEnvFile(string(data))
	if err != nil {
		const most = 300 // the error may quote a line without end
		l.refuse(path, "", strings.ToValidUTF8(err.Error()[:min(most, len(err.Error()))], ""))
		return nil
	}
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(ownVariables, name) {
			l.refuse(path, "", name+" is gophd's own; rename it")
		}
	}
	return env
}

const (
	memcached    = "memcached://"
	heartbeatFix = "write file:, none: or memcached://HOST[:PORT]"
	portFix      = "not a port; write a number from 1 to 65535"
)

// checkURL says whether text names a heartbeat store of this version.
func checkURL(text string) error {
	scheme, rest, colon := strings.Cut(text, ":")
	switch {
	case text == "":
		return errors.New("empty; " + heartbeatFix)
	case text == "file:" || text == "none:":
		return nil
	case colon && (scheme == "file" || scheme == "none"):
		return fmt.Errorf("nothing may follow %s:; %s", scheme, heartbeatFix)
	case colon && slices.Contains([]string{"redis", "rediss", "etcd"}, scheme):
		return fmt.Errorf("%s is not in this version; %s", scheme, heartbeatFix)
	case !strings.HasPrefix(text, memcached):
		return errors.New("no heartbeat store; " + heartbeatFix)
	case strings.Contains(rest, ","):
		return errors.New("several servers are not in this version; name one")
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return errors.New("not an address; write memcached://HOST[:PORT]")
	}
	if u.User != nil {
		return errors.New("memcached takes no user and password here; write memcached://HOST[:PORT]")
	}
	if u.Host != rest[len("//"):] {
		return errors.New("nothing may follow host and port; write memcached://HOST[:PORT]")
	}
	if strings.HasSuffix(u.Host, ":") {
		return errors.New(portFix)
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || n == 0) {
		return errors.New(portFix)
	}
	return nil
}

// checkHeartbeat holds the settings against each other by the heartbeat's own rule, so that a wrong
// file is refused before anything starts: right before a renewal there must be enough left of the
// lease to start a run and to stop it. memcached drops a key up to 2 s early, clocks may differ by
// one percent, a renewal is up to a tenth late, an operation takes up to two timeouts. memcached
// counts in whole seconds, and takes more than 30 days for a date (its doc/protocol.txt,
// "Expiration times").
func (l *loader) checkHeartbeat(h Heartbeat, said func(string) given) {
	if !strings.HasPrefix(h.URL, memcached) {
		return
	}
	ttl := said("heartbeat.ttl")
	if h.TTL%time.Second != 0 {
		l.refuse(ttl.subject, visible(ttl.text), "memcached counts in whole seconds; write whole seconds")
		return
	}
	if h.TTL > 30*24*time.Hour {
		l.refuse(ttl.subject, visible(ttl.text), "longer than the 30 days that memcached keeps; write a shorter time")
		return
	}
	need := 2150*time.Millisecond + h.Renew + h.Renew/10 + h.StopGrace + 2*h.Timeout
	if least := (need + need/99 + time.Second - 1).Truncate(time.Second); h.TTL < least {
		l.refuse(ttl.subject, visible(ttl.text), fmt.Sprintf(
			"too short; 0.99 x ttl must hold 2.15s + 1.1 x renew %s + stop_grace %s + 2 x timeout %s; write at least %ds, or lower those",
			h.Renew, h.StopGrace, h.Timeout, least/time.Second))
	}
}

// jsonText is a list on one line, with < and & as they are.
func jsonText(words []string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(words) // a list of strings has no way to fail
	return strings.TrimSpace(b.String())
}
