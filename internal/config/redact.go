package config

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

const hidden = "(hidden)"

// A text has passwords in five places: before the @ of a URL, after an equals sign (also in the
// query of a URL), in an HTTP header, after a flag with a telling name, and after curl's -u. The
// first pattern is greedy, because real passwords contain @ and / unescaped: it is better to hide a
// host than to show half a password. A command is a JSON list, so quotes and commas may be in
// between. Known gaps: flags of one letter (mysql -psecret), and passwords without any keyword.
var (
	userinfo  = lazyRegexp(`://([^\s/@]*:\S*|[^\s/?#]*)@`)
	parameter = lazyRegexp(`(?i)((?:pass(?:word|wd|phrase)?|pwd|secret|token|key|auth|credentials?|dsn|cookie|jwt|bearer|private|pat)\s*=\s*)("[^"]*"|'[^']*'|[^\s&"']+)`)
	header    = lazyRegexp(`(?i)((?:\bcookie|\bauthorization|[\w-]*(?:token|key|secret|password|auth))["']?\s*:\s*["']?)([^\s"'/][^"']*)`)
	bearer    = lazyRegexp(`(?i)(\b(?:bearer|basic)(?:\s+|["']\s*,\s*["']))([^\s"']+)`)
	flagWord  = lazyRegexp(`(?i)((?:^|[\s"'])--?[\w-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|key|auth|credentials?|cookie|jwt|bearer|private)["']?[,\s]+)("[^"]*"|'[^']*'|[^\s"',-][^\s"']*)`)
	curlUser  = lazyRegexp(`((?:^|[\s"'])(?:-[a-zA-Z]*[uU]|--user|--proxy-user)["',\s=]*)([^\s"',:=-][^\s"',:]*:[^\s"']+)`)
	curlFlag  = lazyRegexp(`(?:^|\s)(?:-[a-zA-Z]*[uU]|--user|--proxy-user)$`)
	curlWord  = lazyRegexp(`((?:^|\s)(?:-[a-zA-Z]*[uU]|--user|--proxy-user)[\s=]*["'])([^"'=-][^"':]*:[^"']+)`)
)

// lazyRegexp compiles a pattern on first use. Most starts need none of them.
func lazyRegexp(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// redact hides the passwords in a text. The items of a list are checked before they are quoted, and
// once more together, for a flag and its value.
func redact(text string) string {
	var words []string
	if strings.HasPrefix(text, "[") && json.Unmarshal([]byte(text), &words) == nil {
		for i := range words {
			if i > 0 && strings.Contains(words[i], ":") && curlFlag().MatchString(words[i-1]) {
				words[i] = hidden
			}
			words[i] = redactText(words[i])
		}
		text = jsonText(words)
	}
	return redactText(text)
}

func redactText(text string) string {
	if strings.Contains(text, "://") {
		text = userinfo().ReplaceAllString(text, "://"+hidden+"@")
	}
	for _, p := range []struct {
		sign    string // the pattern cannot match without it
		pattern func() *regexp.Regexp
	}{{"=", parameter}, {":", header}, {" ", bearer}, {",", bearer}, {"-", flagWord}, {"-", curlWord}, {"-", curlUser}} {
		if strings.Contains(text, p.sign) {
			text = p.pattern().ReplaceAllString(text, "${1}"+hidden)
		}
	}
	return text
}

// looksSecret reports whether the name of a user's key suggests a secret. It prefers to hide too
// much: monkey is hidden because it ends in key.
func looksSecret(key string) bool {
	key = strings.ToLower(key)
	for _, w := range []string{
		"password", "passwd", "passphrase", "secret", "credential", "cookie", "jwt", "private",
		"authorization", "bearer",
	} {
		if strings.Contains(key, w) {
			return true
		}
	}
	last := strings.TrimRight(key[strings.LastIndex(key, ".")+1:], "0123456789_-")
	for _, w := range strings.FieldsFunc(last, func(r rune) bool { return r == '_' || r == '-' }) {
		if slices.Contains([]string{"key", "pat", "auth", "pass", "pwd", "token", "signature", "salt", "session"}, w) {
			return true
		}
	}
	for _, w := range []string{"token", "key", "dsn", "auth", "pwd", "pass"} {
		if strings.HasSuffix(last, w) || strings.HasSuffix(last, w+"s") {
			return true
		}
	}
	return false
}

// shownKey returns a key that is safe to show. A name below a secret is most likely the secret's
// value: "password: {abc}".
func shownKey(key string) string {
	if rest, ok := strings.CutPrefix(key, jobsSection+"."); ok { // the name of a job is no secret
		name, below, ok := strings.Cut(rest, ".")
		if !ok {
			return key
		}
		return jobsSection + "." + name + strings.TrimPrefix(shownKey(jobSection+"."+below), jobSection)
	}
	for i, c := range key {
		if c == '.' && strings.Contains(key[:i], ".") && looksSecret(key[:i]) {
			return key[:i+1] + hidden
		}
	}
	return key
}

// visible returns a value for a message: secrets hidden, on one line, shortened, and quoted if it
// is empty or contains spaces or unprintable characters.
func visible(text string) string {
	const most = 80
	text = redact(text[:min(len(text), 50*most)]) // redacting a megabyte is slow
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
