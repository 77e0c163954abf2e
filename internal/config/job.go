package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gophd/internal/job"
)

const commandLine = "command line"

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
func (l *loader) name(cmd given, file string) string {
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
			argv[0] = l.absolute(filepath.Clean(base))
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
		l.refuse(g.subject, out, "a daemon has no terminal, the output would be lost; use log, discard or a file")
	case !slices.Contains(outputs, out):
		out = l.absolute(out)
		if out == c.Log.File {
			l.refuse(g.subject, visible(out), "the log file itself; use log")
		}
	}
	return out
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
