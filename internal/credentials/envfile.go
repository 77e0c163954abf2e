package credentials

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ParseEnvFile reads a file of KEY=VALUE lines, as systemd, docker, dotenv and Windows editors write
// them. It returns each KEY once, with its last value, in the order in which the keys first occur.
//
//	# a comment, if it is the first character of the line; so is ;
//	export KEY=a value without the blanks around it # this is part of it too
//	KEY=a value that continues after a backslash \
//	    on the next line
//	KEY='taken literally, over several lines too' # a comment
//	KEY="the same, but the backslash is removed from \" \\ \$ and \`, and with the line break after it"
//
// Quotes count only if they open the value, and then only a comment may follow them. Nothing is
// expanded, and gophd's own environment is not read. A line may end with CR LF.
//
// Each warning is about a line that other tools read in another way: as a value and a comment, as
// several variables, or as a value in quotes with a $ before them. Error and warnings
// name the line and no part of it that may be a secret.
func ParseEnvFile(text string) (env, warnings []string, err error) {
	f := envFile{rest: strings.ReplaceAll(text, "\r\n", "\n")}
	if before, _, found := strings.Cut(f.rest, "\x00"); found {
		return nil, nil, fmt.Errorf("line %d holds a NUL byte: save the file as UTF-8 text",
			strings.Count(before, "\n")+1)
	}
	var keys []string
	values := map[string]string{}
	for f.rest != "" {
		number := f.lines + 1
		line, _, _ := strings.Cut(f.rest, "\n")
		first := strings.TrimLeft(line, blanks)
		if first == "" || first[0] == '#' || first[0] == ';' {
			if hasReturn(first) {
				return nil, nil, fmt.Errorf("line %d %w", number, errReturn)
			}
			f.line()
			continue
		}
		key, text, ok := strings.Cut(line, "=")
		if !ok {
			return nil, nil, fmt.Errorf("line %d has no =: write KEY=VALUE, # before a comment, "+
				"or quotes around a value of several lines", number)
		}
		name, exported := withoutExport(strings.Trim(key, blanks))
		if !isKey(name) {
			return nil, nil, fmt.Errorf("line %d: no name of a variable before the =: write letters, digits and _ . -, "+
				"starting with a letter or _; a value of several lines needs quotes", number)
		}
		f.rest = f.rest[len(key)+1:]
		value, quoted, err := f.value()
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: the value of %s %w", number, name, err)
		}
		if !quoted && hasReturn(value) {
			return nil, nil, fmt.Errorf("line %d %w", number, errReturn)
		}
		const toEnd = "line %d: the value of %s goes up to the end of the line, "
		switch {
		case quoted:
		case hasComment(text) || hasComment(value):
			warnings = append(warnings, fmt.Sprintf(toEnd+"the # included; put it into quotes, and a comment may follow them",
				number, name))
		case hasAnother(value, exported):
			warnings = append(warnings, fmt.Sprintf(toEnd+"whatever a shell reads there; write each variable on its own line, or "+
				"put the value into quotes", number, name))
		case strings.HasPrefix(value, "$'") || strings.HasPrefix(value, `$"`):
			warnings = append(warnings, fmt.Sprintf("line %d: the value of %s starts with $ and a quote, which are a part of it; "+
				"write quotes without the $, and each line break as it is", number, name))
		}
		if _, again := values[name]; !again {
			keys = append(keys, name)
		}
		values[name] = value
	}
	for _, key := range keys {
		env = append(env, key+"="+values[key])
	}
	return env, warnings, nil
}

// isKey accepts the names of a shell, and those with a dot or a dash, which some programs read.
func isKey(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

// hasComment reports whether text, which stands after a = sign, has a # that starts a comment for a
// shell.
func hasComment(text string) bool {
	return strings.Contains(text, " #") || strings.Contains(text, "\t#")
}

// hasAnother reports whether an unquoted value has in it what a shell reads as the end of the value and
// another command or variable. Without export before the name, a ; or a = may well belong to a value.
func hasAnother(value string, exported bool) bool {
	fields := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(blanks+";", r) })
	if !exported {
		return strings.Contains(value, ";") && slices.Contains(fields, "export")
	}
	isVariable := func(field string) bool {
		name, _, ok := strings.Cut(field, "=")
		return ok && isKey(name)
	}
	return strings.Contains(value, ";") || len(fields) > 0 && slices.ContainsFunc(fields[1:], isVariable)
}

const blanks = " \t\r"

var errReturn = errors.New("holds a carriage return: save the file with LF or CR LF")

// hasReturn reports whether a text has a carriage return that is not at its end.
func hasReturn(text string) bool { return strings.Contains(strings.TrimRight(text, blanks), "\r") }

// withoutExport returns the name of a variable in what stands before the = sign.
func withoutExport(key string) (name string, exported bool) {
	name, ok := strings.CutPrefix(key, "export")
	if trimmed := strings.TrimLeft(name, blanks); ok && trimmed != name {
		return trimmed, true
	}
	return key, false
}

// envFile is the part of a file that is not read yet, and the number of lines before it.
type envFile struct {
	rest  string
	lines int
}

// line reads up to the end of the line.
func (f *envFile) line() string {
	line, rest, _ := strings.Cut(f.rest, "\n")
	f.rest, f.lines = rest, f.lines+1
	return line
}

// value reads a value, to the end of its last line. Its error continues a sentence.
func (f *envFile) value() (value string, quoted bool, err error) {
	f.rest = strings.TrimLeft(f.rest, blanks)
	if f.rest != "" && (f.rest[0] == '"' || f.rest[0] == '\'') {
		value, err := f.quoted(f.rest[0])
		return value, true, err
	}
	var b strings.Builder
	for {
		line := f.line()
		slashes := len(line) - len(strings.TrimRight(line, `\`))
		b.WriteString(line[:len(line)-slashes%2])
		if slashes%2 == 0 || f.rest == "" {
			return strings.TrimRight(b.String(), blanks), false, nil
		}
	}
}

func (f *envFile) quoted(quote byte) (string, error) {
	var b strings.Builder
	lines := 0
	for i := 1; i < len(f.rest); i++ {
		c := f.rest[i]
		if c == quote {
			f.rest, f.lines = f.rest[i+1:], f.lines+lines
			after := f.line()
			if hasReturn(after) || strings.Trim(after, blanks) != "" && (after[0] == '#' || strings.TrimLeft(after, blanks)[0] != '#') {
				return "", fmt.Errorf("continues after its closing quote in line %d: "+
					"remove what follows, or quote the whole value", f.lines)
			}
			return b.String(), nil
		}
		escaped := false
		if quote == '"' && c == '\\' && i+1 < len(f.rest) && strings.IndexByte("\"\\$`\n", f.rest[i+1]) >= 0 {
			i++
			c, escaped = f.rest[i], true
		}
		if c == '\n' {
			lines++
		}
		if c != '\n' || !escaped {
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("has no closing quote: add it")
}

// Unexpanded returns the first variable or ~ in a value of PATH that only a shell would have expanded,
// such as $PATH, and "" if there is none.
func Unexpanded(path string) string {
	for directory := range strings.SplitSeq(path, ":") {
		i := strings.IndexByte(directory, '$')
		switch {
		case strings.HasPrefix(directory, "~"):
			return "~"
		case i >= 0:
			word, _, _ := strings.Cut(directory[i:], "/")
			return word
		}
	}
	return ""
}
