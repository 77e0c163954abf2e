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

// Passwords stand in five places of a text: before the @ of an address, behind an equals sign (in the
// query of an address too), in a header of HTTP, after a flag that is named for one, and after curl's
// -u. The first is greedy, since passwords hold @ and / unescaped in practice: rather hide a host too
// much than half a password. A command is a list in JSON, so quotes and commas may stand between.
// Known gaps: flags of one letter (mysql -psecret), and words that nothing announces.
var (
	userinfo  = lazily(`://([^\s/@]*:\S*|[^\s/?#]*)@`)
	parameter = lazily(`(?i)((?:pass(?:word|wd|phrase)?|pwd|secret|token|key|auth|credentials?|dsn|cookie|jwt|bearer|private|pat)\s*=\s*)("[^"]*"|'[^']*'|[^\s&"']+)`)
	header    = lazily(`(?i)((?:\bcookie|\bauthorization|[\w-]*(?:token|key|secret|password|auth))["']?\s*:\s*["']?)([^\s"'/][^"']*)`)
	bearer    = lazily(`(?i)(\b(?:bearer|basic)(?:\s+|["']\s*,\s*["']))([^\s"']+)`)
	flagWord  = lazily(`(?i)((?:^|[\s"'])--?[\w-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|key|auth|credentials?|cookie|jwt|bearer|private)["']?[,\s]+)("[^"]*"|'[^']*'|[^\s"',-][^\s"']*)`)
	curlUser  = lazily(`((?:^|[\s"'])(?:-[a-zA-Z]*[uU]|--user|--proxy-user)["',\s=]*)([^\s"',:=-][^\s"',:]*:[^\s"']+)`)
	curlFlag  = lazily(`(?:^|\s)(?:-[a-zA-Z]*[uU]|--user|--proxy-user)$`)
	curlWord  = lazily(`((?:^|\s)(?:-[a-zA-Z]*[uU]|--user|--proxy-user)[\s=]*["'])([^"'=-][^"':]*:[^"']+)`) // may have blanks
)

// lazily compiles a pattern when it is first needed, which at most starts is never.
func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// redact hides the passwords in a text that is shown. The words of a list are looked at before they are quoted, and
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
		sign    string // without it the pattern cannot match
		pattern func() *regexp.Regexp
	}{{"=", parameter}, {":", header}, {" ", bearer}, {",", bearer}, {"-", flagWord}, {"-", curlWord}, {"-", curlUser}} {
		if strings.Contains(text, p.sign) {
			text = p.pattern().ReplaceAllString(text, "${1}"+hidden)
		}
	}
	return text
}

// looksSecret says that the name of a user's key promises a secret. It rather hides a monkey than
// shows a key.
func looksSecret(key string) bool {
	key = strings.ToLower(key)
	for _, w := range []string{"password", "passwd", "passphrase", "secret", "credential", "cookie", "jwt", "private", "authorization", "bearer"} {
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

// shownKey is a key as it may be shown. What is below the name of a secret was meant as its value: "password: {abc}".
func shownKey(key string) string {
	for i, c := range key {
		if c == '.' && strings.Contains(key[:i], ".") && looksSecret(key[:i]) {
			return key[:i+1] + hidden
		}
	}
	return key
}

// visible is a value as it stands in a message: secrets hidden, on one line, not endless, quoted
// when its ends could not be seen otherwise.
func visible(text string) string {
	const most = 80
	text = redact(text[:min(len(text), 50*most)]) // to redact a megabyte takes a while
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
