package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// command returns the command to run: that of the command line, otherwise job.command. A text is a
// line for the shell, a list has the arguments.
func (l *loader) command(g, shell given, useShell bool) given {
	if len(l.Command) > 0 {
		g = given{words: l.Command, source: commandLine, subject: commandLine}
	}
	if g.words == nil && g.text == "" {
		return g
	}
	if useShell && g.words != nil {
		if len(g.words) != 1 {
			l.reject(shell.subject, "", fmt.Sprintf(
				"takes a command of one word, this one has %d; quote the line, as in 'a | b'",
				len(g.words)))
			return g
		}
		g.text, g.words = g.words[0], nil
	}
	switch {
	case g.words == nil && strings.TrimSpace(g.text) == "":
		l.reject(g.subject, visible(g.text), "an empty line for the shell; write the command")
	case g.words != nil && g.words[0] == "":
		l.reject(g.subject, visible(""), "an empty word instead of a command; write the command first")
	case isCrontab(g):
		l.reject(g.subject, "", "it looks like a line of a crontab; write its schedule in quotes after --schedule, or into "+
			"job.schedule, and the rest as the command; --crontab FILE runs a whole one")
	}
	l.warnOfReturns(g)
	return g
}

// warnOfReturns warns of a carriage return at the end of a line of the command, as a script with
// Windows line ends passes it. Arguments are passed as they are, so it is no error.
func (l *loader) warnOfReturns(g given) {
	for i, word := range g.argv() {
		if !strings.HasSuffix(word, "\r") && !strings.Contains(word, "\r\n") {
			continue
		}
		what := fmt.Sprintf("argument %d of the command", i)
		if g.words == nil {
			what = "the line for the shell"
		}
		l.warnings = append(l.warnings, fmt.Sprintf("%s: %s has a carriage return at the end of a line, which is passed on; "+
			"save the file that it comes from with Unix line ends", g.subject, what))
	}
}

// isCrontab reports whether a command is a line of a crontab: five fields with at least one *, or a word
// such as @daily, and the command. No program has such a name.
func isCrontab(g given) bool {
	words := g.words
	if len(words) < 2 {
		words = strings.Fields(strings.Join(words, "") + g.text)
	}
	if len(words) > 1 && strings.HasPrefix(words[0], "@") {
		return slices.Contains([]string{"@annually", "@daily", "@every", "@hourly", "@midnight", "@monthly", "@reboot", "@weekly",
			"@yearly"}, words[0])
	}
	if len(words) < 6 || !strings.Contains(strings.Join(words[:5], ""), "*") {
		return false
	}
	for i, field := range words[:5] {
		letters := ""
		if i > 2 { // names of months and days
			letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		}
		if field == "" || strings.Trim(field, "0123456789*,/-"+letters) != "" {
			return false
		}
	}
	return true
}

// argv returns the argument vector of the command; nil if there is no command.
func (g given) argv() []string {
	switch {
	case g.words != nil:
		return slices.Clone(g.words)
	case g.text != "":
		return []string{"/bin/sh", "-c", g.text}
	}
	return nil
}

// name returns the name of a job that was not given one. It is the name of the config file if that
// was given explicitly, or holds the command. Otherwise it is the name of the command with six
// digits of a hash, so that different command lines have different names, and the same line has the
// same name each time. A command without a slash is hashed as it is, not as the file found by PATH:
// the name must not change while a deployment replaces that file.
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

// clean turns any text into a valid name, and leaves room for the hash.
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

// jsonText returns a list as JSON on one line, with < and & unescaped.
func jsonText(words []string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(words) // a list of strings cannot fail
	return strings.TrimSpace(b.String())
}
