package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// entry is one key of a file and its value, with the text of the file. The parsers return the same
// key for nested tables and for a dotted name, because they mean the same.
type entry struct {
	key   string // dotted
	line  int
	form  form
	text  string
	list  []string
	wrong string // what the value is, if its form is unsupported

	comment bool // an INI value in which other tools see a comment
}

type form uint8

const (
	scalar      form = iota
	list             // of plain values
	null             // no value: an empty YAML section, a JSON null
	empty            // a mapping without keys; the keys of other mappings are entries
	begin            // where a mapping or section with keys begins
	unsupported      // not valid for any setting
)

// parseError is a syntax error in a file.
type parseError struct {
	line    int
	problem string
}

// Both are far larger than in any real file. They limit a hostile file, which costs time and memory
// that grow with the square of its size.
const (
	maxDepth = 32
	maxKey   = 1000 // bytes
)

const tooDeep = "nested too deep"

// parse reads the entries of a file in their order. With a parseError it returns the entries read
// so far. A Windows line end in a value is a line end in every format, also where the format would
// keep its carriage return.
func parse(format string, data []byte) ([]entry, *parseError) {
	entries, err := parseFormat(format, data)
	unix := strings.NewReplacer("\r\n", "\n")
	for i, e := range entries {
		entries[i].text = unix.Replace(e.text)
		for n, item := range e.list {
			e.list[n] = unix.Replace(item)
		}
	}
	return entries, err
}

func parseFormat(format string, data []byte) ([]entry, *parseError) {
	for i, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) {
			return nil, &parseError{i + 1, "not UTF-8 text; save the file as UTF-8"}
		}
		if bytes.IndexByte(line, 0) >= 0 {
			return nil, &parseError{i + 1, "a NUL byte; this is not a text file"}
		}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	switch format {
	case "yaml", "yml":
		return parseYAML(data)
	case "toml":
		return parseTOML(data)
	case "json":
		return parseJSON(data)
	}
	return parseINI(data)
}

// under returns the dotted key of name in the table prefix. The key stops growing once it is too
// long to be accepted.
func under(prefix, name string) string {
	switch {
	case prefix == "":
		return name
	case len(prefix) > maxKey:
		return prefix
	}
	return prefix + "." + name
}

// yamlLine finds the line in an error of the YAML library, which has it only as text.
var (
	yamlLine      = lazyRegexp(`^yaml: (?:line (\d+): )?`)
	indicator     = lazyRegexp(`^[^#"']*[:\-\[,]\s+([@*])`) // a value that is no plain one in YAML
	unknownAnchor = lazyRegexp(`unknown anchor '(.*)' referenced`)
)

func parseYAML(data []byte) ([]entry, *parseError) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) { // comments only
		return nil, nil
	}
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			return nil, &parseError{second.Line, "a second YAML document; a config file holds one"}
		}
	}
	if !errors.Is(err, io.EOF) {
		m := yamlLine().FindStringSubmatch(err.Error())
		line := 1
		problem := err.Error()
		if m != nil {
			problem = strings.TrimPrefix(problem, m[0])
			if n, e := strconv.Atoi(m[1]); e == nil {
				line = n
			}
		}
		if m := unknownAnchor().FindStringSubmatch(problem); m != nil {
			// The library does not report the line.
			before, _, _ := strings.Cut(string(data), "*"+m[1])
			return nil, &parseError{strings.Count(before, "\n") + 1,
				"a YAML alias without an anchor; a value that starts with * needs quotes"}
		}
		if before, _, found := cutUnquoted(data, jobPattern); found {
			return nil, &parseError{strings.Count(before, "\n") + 1, "not YAML: put the value with " + jobPattern + " in quotes"}
		}
		if all := bytes.Split(data, []byte("\n")); line > 0 && line <= len(all) {
			if m := indicator().FindSubmatch(all[line-1]); m != nil {
				return nil, &parseError{line, "not YAML: a value that starts with " + string(m[1]) + " needs quotes"}
			}
		}
		return nil, &parseError{line, "not YAML: " + libraryMessage(problem)}
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, &parseError{root.Line, "no sections; write settings below a section, as in config:"}
	}
	return yamlTable(nil, "", root, 0)
}

// cutUnquoted cuts YAML around the first word that is in no quotes and no comment of its line.
func cutUnquoted(data []byte, word string) (before, after string, found bool) {
	for from := 0; ; {
		before, after, found = strings.Cut(string(data[from:]), word)
		at := from + len(before)
		start := bytes.LastIndexByte(data[:at], '\n') + 1
		if !found || !bytes.ContainsAny(data[start:at], `"'#`) {
			return string(data[:at]), after, found
		}
		from = at + len(word)
	}
}

func yamlTable(entries []entry, prefix string, table *yaml.Node, depth int) ([]entry, *parseError) {
	for i := 0; i+1 < len(table.Content); i += 2 {
		name, value := table.Content[i], table.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			return entries, &parseError{name.Line, "a key that is not a word"}
		}
		e := entry{key: under(prefix, name.Value), line: name.Line}
		if mark := yamlMark(value); mark != "" {
			e.form, e.wrong = unsupported, mark
			entries = append(entries, e)
			continue
		}
		switch value.Kind {
		case yaml.MappingNode:
			if depth == maxDepth {
				return entries, &parseError{name.Line, tooDeep}
			}
			if len(value.Content) == 0 {
				e.form = empty
				entries = append(entries, e)
				continue
			}
			e.form = begin
			entries = append(entries, e)
			var err *parseError
			if entries, err = yamlTable(entries, e.key, value, depth+1); err != nil {
				return entries, err
			}
			continue
		case yaml.SequenceNode:
			e.form = list
			for _, item := range value.Content {
				if item.Kind != yaml.ScalarNode {
					e.form, e.wrong = unsupported, "a list of lists or tables"
					break
				}
				if mark := yamlMark(item); mark != "" {
					e.form, e.wrong = unsupported, mark
					break
				}
				e.list = append(e.list, item.Value)
			}
		default:
			e.text = value.Value
			if value.Tag == "!!null" {
				e.form = null
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// yamlMark returns the YAML feature that a value uses, perhaps unintentionally, as in
// "password: *secret". The text of such a value would be lost.
func yamlMark(value *yaml.Node) string {
	const form = "a YAML %s (a value that starts with %s needs quotes)"
	switch {
	case value.Kind == yaml.AliasNode:
		return fmt.Sprintf(form, "alias", "*")
	case value.Kind == yaml.ScalarNode && value.Anchor != "":
		return fmt.Sprintf(form, "anchor", "&")
	case value.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(value.Tag, "!!"):
		return fmt.Sprintf(form, "tag", "!")
	}
	return ""
}

// lines maps an offset to a line number.
type lines []int

func newLines(data []byte) lines {
	var ends lines
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i)
		}
	}
	return ends
}

func (l lines) at(offset int) int { return sort.SearchInts(l, offset) + 1 }

func parseJSON(data []byte) ([]entry, *parseError) {
	at := newLines(data)
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		line := 1
		var se *json.SyntaxError
		if errors.As(err, &se) {
			line = at.at(int(se.Offset) - 1)
		}
		return nil, &parseError{line, "not JSON: " + libraryMessage(err.Error())}
	}
	w := jsonWalk{dec: json.NewDecoder(bytes.NewReader(data)), lines: at}
	w.dec.UseNumber()
	if w.token() != json.Delim('{') {
		return nil, &parseError{1, `no sections; write settings below a section, as in {"config": {...}}`}
	}
	w.table("", 0)
	return w.entries, w.err
}

// jsonWalk reads the tokens of valid JSON, because decoding whole values loses positions, duplicate
// keys and the text of numbers.
type jsonWalk struct {
	dec     *json.Decoder
	lines   lines
	entries []entry
	err     *parseError
}

func (w *jsonWalk) token() json.Token {
	t, err := w.dec.Token()
	if err != nil && w.err == nil {
		w.err = &parseError{w.lines.at(int(w.dec.InputOffset())), "not JSON: " + libraryMessage(err.Error())}
	}
	return t
}

func (w *jsonWalk) table(prefix string, depth int) {
	for w.err == nil && w.dec.More() {
		name, _ := w.token().(string)
		e := entry{key: under(prefix, name), line: w.lines.at(int(w.dec.InputOffset()) - 1)}
		switch value := w.token(); value {
		case json.Delim('{'):
			if depth == maxDepth {
				w.err = &parseError{e.line, tooDeep}
				return
			}
			if w.dec.More() {
				e.form = begin
				w.entries = append(w.entries, e)
				w.table(e.key, depth+1)
				continue
			}
			w.token()
			e.form = empty
		case json.Delim('['):
			w.list(&e)
		case nil:
			e.form = null
		default:
			e.text = fmt.Sprint(value)
		}
		w.entries = append(w.entries, e)
	}
	w.token()
}

func (w *jsonWalk) list(e *entry) {
	e.form = list
	for open := 1; open > 0 && w.err == nil; {
		switch t := w.token(); t {
		case json.Delim('['), json.Delim('{'):
			open++
			e.form, e.wrong = unsupported, "a list of lists or tables"
		case json.Delim(']'), json.Delim('}'):
			open--
		case nil:
			e.list = append(e.list, "")
		default:
			e.list = append(e.list, fmt.Sprint(t))
		}
	}
}

// parseINI reads name = value and drops one pair of quotes around a value. It knows no escapes,
// continuation lines or comments after a value, so the text of a value is never lost. It marks a
// value without quotes in which other tools see a comment. The name -
// and the quotes ` and """ are rejected, because they have a special meaning in other parsers.
func parseINI(data []byte) ([]entry, *parseError) {
	var entries []entry
	section := ""
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			name, rest, closed := strings.Cut(line[1:], "]")
			rest = strings.TrimSpace(rest)
			if !closed || rest != "" && rest[0] != '#' && rest[0] != ';' {
				return entries, &parseError{i + 1, "not a section; write [name]"}
			}
			section = strings.TrimSpace(name)
			entries = append(entries, entry{key: section, line: i + 1, form: begin})
			continue
		}
		name, raw, found := strings.Cut(line, "=")
		name, value := strings.TrimSpace(name), strings.TrimSpace(raw)
		switch {
		case !found:
			return entries, &parseError{i + 1, "neither [section] nor name = value; a comment starts with # or ;"}
		case name == "" || name == "-" || strings.ContainsAny(name[:1], "\"`"):
			return entries, &parseError{i + 1, "not a name before the = sign"}
		case strings.HasPrefix(value, "`") || strings.HasPrefix(value, `"""`):
			return entries, &parseError{i + 1, "a value that starts with ` or \"\"\"; put it in single quotes"}
		}
		e := entry{key: under(section, name), line: i + 1, text: unquoted(value)}
		marks := strings.NewReplacer("\t", " ", ";", "#").Replace(raw)
		e.comment = e.text == value && strings.Contains(marks, " #")
		entries = append(entries, e)
	}
	return entries, nil
}

// unquoted removes the quotes around a value that contains no other quote of that kind.
func unquoted(value string) string {
	for _, quote := range []string{`"`, "'"} {
		if strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) && strings.Count(value, quote) == 2 {
			return value[1 : len(value)-1]
		}
	}
	return value
}

// libraryMessage puts the message of a library on one line. The text that it quotes from the file
// may be a secret, so only quotes of one or two characters stay.
func libraryMessage(s string) string {
	s = definedKey().ReplaceAllString(strings.Join(strings.Fields(s), " "), "key "+hidden+" ")
	return quoted().ReplaceAllStringFunc(s, func(q string) string {
		if utf8.RuneCountInString(q) <= 4 {
			return q
		}
		return q[:1] + hidden + q[:1]
	})
}

var definedKey = lazyRegexp(`\bkey \S+ `) // of go-toml

var quoted = lazyRegexp("'[^']*'|\"[^\"]*\"|`[^`]*`")
