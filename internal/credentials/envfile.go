package credentials

import (
	"fmt"
	"strings"
)

// ParseEnvFile reads a file of KEY=VALUE lines. It returns each KEY once, with its last value, in
// the order in which the keys first occur.
//
//	# a comment, if it is the first character of the line; so is ;
//	KEY=a value, up to the end of the line, without the blanks around it # this is part of it too
//	KEY='taken literally, with its blanks'
//	KEY="the same, but the backslash is removed from \" \\ \$ and \`"
//
// Quotes count only if they open the value, and then the closing quote must be its last character.
// Nothing is expanded, a value never continues on the next line, and gophd's own environment is not
// read. An error names the line.
func ParseEnvFile(text string) ([]string, error) {
	var keys []string
	values := map[string]string{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimRight(key, " \t")
		if !ok {
			return nil, fmt.Errorf("line %d has no =: write KEY=VALUE, or # before a comment", number)
		}
		if !isKey(key) {
			return nil, fmt.Errorf(
				"line %d: %q is not the KEY of a KEY=VALUE; write letters, digits and _, no digit first", number, key)
		}
		value, err := unquote(strings.TrimLeft(value, " \t"))
		if err != nil {
			return nil, fmt.Errorf("line %d: the value of %s %w", number, key, err)
		}
		if _, again := values[key]; !again {
			keys = append(keys, key)
		}
		values[key] = value
	}
	env := make([]string, 0, len(keys))
	for _, key := range keys {
		env = append(env, key+"="+values[key])
	}
	return env, nil
}

func isKey(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// unquote never puts the value into an error: it may be a secret.
func unquote(s string) (string, error) {
	if strings.Contains(s, "\x00") {
		return "", fmt.Errorf("holds a NUL byte: remove it")
	}
	if s == "" || s[0] != '"' && s[0] != '\'' {
		return s, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0] && i == len(s)-1:
			return b.String(), nil
		case s[i] == s[0]:
			return "", fmt.Errorf("continues after its closing quote: remove what follows, or quote the whole value")
		case s[0] == '"' && s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			i++
		}
		b.WriteByte(s[i])
	}
	return "", fmt.Errorf("has no closing quote: add it")
}
