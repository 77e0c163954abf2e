package config

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

const hidden = "(hidden)"

// Passwords stand in three places of a text: before the @ of an address, in the query of an
// address, and behind an equals sign. The first is greedy, since passwords hold @ and / unescaped
// in practice: rather hide a host too much than half a password. A word of its own after a flag
// (--password x) is the known gap.
var (
	userinfo  = lazily(`://([^\s/@]*:\S*|[^\s/?#]*)@`)
	parameter = lazily(`(?i)((?:password|passwd|passphrase|pwd|secret|token|key|auth|credentials?|dsn)=)("[^"]*"|'[^']*'|[^\s&"']+)`)
)

// lazily compiles a pattern when it is first needed, which at most starts is never.
func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// redact hides the passwords in a text that is shown.
func redact(text string) string {
	if strings.Contains(text, "://") {
		text = userinfo().ReplaceAllString(text, "://"+hidden+"@")
	}
	if strings.Contains(text, "=") {
		text = parameter().ReplaceAllString(text, "${1}"+hidden)
	}
	return text
}

// looksSecret says that the name of a user's key promises a secret. It rather hides a monkey than
// shows a key.
func looksSecret(key string) bool {
	key = strings.ToLower(key)
	for _, w := range []string{"password", "passwd", "passphrase", "secret", "credential"} {
		if strings.Contains(key, w) {
			return true
		}
	}
	last := strings.TrimRight(key[strings.LastIndex(key, ".")+1:], "0123456789_-")
	for _, w := range []string{"token", "key", "dsn", "auth", "pwd", "pass"} {
		if strings.HasSuffix(last, w) || strings.HasSuffix(last, w+"s") {
			return true
		}
	}
	return false
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
