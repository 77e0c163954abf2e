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

// entry is one key of a file and its value, in the text that the file holds. The parsers give the
// names of nested tables and a dotted name the same key, since a user means the same by both.
type entry struct {
	key   string // dotted
	line  int
	form  form
	text  string
	list  []string
	wrong string // what the value is, when its form is odd
}

type form uint8

const (
	scalar form = iota
	list        // of plain values
	null        // no value: an empty YAML section, a JSON null
	empty       // a mapping without keys; those of another are entries of their own
	odd         // what no setting can be
)

// flaw is a place in a file that its format does not allow.
type flaw struct {
	line    int
	problem string
}

// Both are far beyond any real file. They keep a hostile one from costing time and memory that grow
// with the square of its size.
const (
	maxDepth = 32
	maxKey   = 1000 // bytes
)

const deep = "nested too deep"

// parse reads the entries of a file in their order. Along with a flaw come the entries read so far.
func parse(format string, data []byte) ([]entry, *flaw) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for i, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) {
			return nil, &flaw{i + 1, "not UTF-8 text; save the file as UTF-8"}
		}
		if bytes.IndexByte(line, 0) >= 0 {
			return nil, &flaw{i + 1, "a NUL byte; this is not a text file"}
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

// under is the dotted key of name in the table prefix. It no longer grows once it is too long to be
// accepted.
func under(prefix, name string) string {
	switch {
	case prefix == "":
		return name
	case len(prefix) > maxKey:
		return prefix
	}
	return prefix + "." + name
}

// yamlLine finds the line in an error of the YAML library, which tells it in words only.
var (
	yamlLine      = lazily(`^yaml: (?:line (\d+): )?`)
	unknownAnchor = lazily(`unknown anchor '(.*)' referenced`)
)

func parseYAML(data []byte) ([]entry, *flaw) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) { // comments only
		return nil, nil
	}
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			return nil, &flaw{second.Line, "a second YAML document; a config file holds one"}
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
		if m := unknownAnchor().FindStringSubmatch(problem); m != nil { // the library tells the name and not the line
			before, _, _ := strings.Cut(string(data), "*"+m[1])
			return nil, &flaw{strings.Count(before, "\n") + 1, "a YAML alias of nothing; a value that begins with * needs quotes"}
		}
		return nil, &flaw{line, "not YAML: " + libraryWords(problem)}
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, &flaw{root.Line, "no sections; write settings below a section, as in config:"}
	}
	return yamlTable(nil, "", root, 0)
}

func yamlTable(entries []entry, prefix string, table *yaml.Node, depth int) ([]entry, *flaw) {
	for i := 0; i+1 < len(table.Content); i += 2 {
		name, value := table.Content[i], table.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			return entries, &flaw{name.Line, "a key that is not a word"}
		}
		e := entry{key: under(prefix, name.Value), line: name.Line}
		if mark := yamlMark(value); mark != "" {
			e.form, e.wrong = odd, mark
			entries = append(entries, e)
			continue
		}
		switch value.Kind {
		case yaml.MappingNode:
			if depth == maxDepth {
				return entries, &flaw{name.Line, deep}
			}
			if len(value.Content) == 0 {
				e.form = empty
				entries = append(entries, e)
				continue
			}
			var err *flaw
			if entries, err = yamlTable(entries, e.key, value, depth+1); err != nil {
				return entries, err
			}
			continue
		case yaml.SequenceNode:
			e.form = list
			for _, item := range value.Content {
				if item.Kind != yaml.ScalarNode {
					e.form, e.wrong = odd, "a list of lists or tables"
					break
				}
				if mark := yamlMark(item); mark != "" {
					e.form, e.wrong = odd, mark
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

// yamlMark names the feature of YAML that a value uses perhaps without meaning it, as in "password: *secret". Its text
// would be lost.
func yamlMark(value *yaml.Node) string {
	const form = "a YAML %s (a value that begins with %s needs quotes)"
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

// lines turns an offset into a line number.
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

func parseJSON(data []byte) ([]entry, *flaw) {
	at := newLines(data)
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		line := 1
		var se *json.SyntaxError
		if errors.As(err, &se) {
			line = at.at(int(se.Offset) - 1)
		}
		return nil, &flaw{line, "not JSON: " + libraryWords(err.Error())}
	}
	w := jsonWalk{dec: json.NewDecoder(bytes.NewReader(data)), lines: at}
	w.dec.UseNumber()
	if w.token() != json.Delim('{') {
		return nil, &flaw{1, `no sections; write settings below a section, as in {"config": {...}}`}
	}
	w.table("", 0)
	return w.entries, w.err
}

// jsonWalk reads the tokens of valid JSON: the decoder of whole values would forget places, double
// keys and the text of numbers.
type jsonWalk struct {
	dec     *json.Decoder
	lines   lines
	entries []entry
	err     *flaw
}

func (w *jsonWalk) token() json.Token {
	t, err := w.dec.Token()
	if err != nil && w.err == nil {
		w.err = &flaw{w.lines.at(int(w.dec.InputOffset())), "not JSON: " + libraryWords(err.Error())}
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
				w.err = &flaw{e.line, deep}
				return
			}
			if w.dec.More() {
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
			e.form, e.wrong = odd, "a list of lists or tables"
		case json.Delim(']'), json.Delim('}'):
			open--
		case nil:
			e.list = append(e.list, "")
		default:
			e.list = append(e.list, fmt.Sprint(t))
		}
	}
}

// parseINI reads name = value and drops one pair of quotes around a value. There are no escapes,
// continuation lines or comments behind a value, so the text of a value is never lost. What has a
// meaning of its own in other readers, the name - and the quotes ` and """, is rejected.
func parseINI(data []byte) ([]entry, *flaw) {
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
				return entries, &flaw{i + 1, "not a section; write [name]"}
			}
			section = strings.TrimSpace(name)
			continue
		}
		name, value, found := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !found:
			return entries, &flaw{i + 1, "neither [section] nor name = value; a comment begins with # or ;"}
		case name == "" || name == "-" || strings.ContainsAny(name[:1], "\"`"):
			return entries, &flaw{i + 1, "not a name before the = sign"}
		case strings.HasPrefix(value, "`") || strings.HasPrefix(value, `"""`):
			return entries, &flaw{i + 1, "a value that begins with ` or \"\"\"; put it in single quotes"}
		}
		entries = append(entries, entry{key: under(section, name), line: i + 1, text: unquoted(value)})
	}
	return entries, nil
}

// unquoted drops the quotes around a value that holds no other quote of that kind.
func unquoted(value string) string {
	for _, quote := range []string{`"`, "'"} {
		if strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) && strings.Count(value, quote) == 2 {
			return value[1 : len(value)-1]
		}
	}
	return value
}

// libraryWords makes the message of a library fit into one line of an error. What it quotes of the file may be a secret;
// only one or two characters are let through.
func libraryWords(s string) string {
	s = definedKey().ReplaceAllString(strings.Join(strings.Fields(s), " "), "key "+hidden+" ")
	return quoted().ReplaceAllStringFunc(s, func(q string) string {
		if utf8.RuneCountInString(q) <= 4 {
			return q
		}
		return q[:1] + hidden + q[:1]
	})
}

var definedKey = lazily(`\bkey \S+ `) // of go-toml

var quoted = lazily("'[^']*'|\"[^\"]*\"|`[^`]*`")
