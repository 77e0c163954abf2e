package config

import (
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// parseTOML walks the syntax tree. Then the decoder of go-toml finds errors beyond syntax, such as
// a table that is defined twice.
//
// The tree is the unstable API of go-toml, and this file is its only user. The stable API does not
// have the line of a key, the text of a number such as 0x10 or 1e3, or the order of keys in a
// table.
func parseTOML(data []byte) ([]entry, *parseError) {
	w := tomlWalk{lines: newLines(data)}
	var p unstable.Parser
	p.Reset(data)
	prefix, skip := "", false
	for w.err == nil && p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			var line int
			prefix, line = w.name("", e.Key())
			skip = e.Kind == unstable.ArrayTable
			t := entry{key: prefix, line: line, form: begin}
			if skip {
				t.form, t.wrong = unsupported, "a list of tables"
			}
			w.entries = append(w.entries, t)
		case unstable.KeyValue:
			if !skip {
				w.pair(prefix, e, 0)
			}
		}
	}
	if w.err != nil {
		return w.entries, w.err
	}
	var all map[string]any
	err := toml.Unmarshal(data, &all)
	if err == nil {
		return w.entries, nil
	}
	line := 1
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, _ = de.Position()
	}
	return w.entries, &parseError{line, "not TOML: " + libraryMessage(strings.TrimPrefix(err.Error(), "toml: "))}
}

type tomlWalk struct {
	lines   lines
	entries []entry
	err     *parseError
}

func (w *tomlWalk) name(prefix string, parts unstable.Iterator) (string, int) {
	line := 0
	for depth := 0; parts.Next(); depth++ {
		if line == 0 {
			line = w.lines.at(int(parts.Node().Raw.Offset))
		}
		if depth == maxDepth {
			w.err = &parseError{line, tooDeep}
			return prefix, line
		}
		prefix = under(prefix, string(parts.Node().Data))
	}
	return prefix, line
}

func (w *tomlWalk) pair(prefix string, pair *unstable.Node, depth int) {
	var e entry
	e.key, e.line = w.name(prefix, pair.Key())
	switch value := pair.Value(); value.Kind {
	case unstable.InlineTable:
		if depth == maxDepth {
			w.err = &parseError{e.line, tooDeep}
			return
		}
		pairs := value.Children()
		if !pairs.Next() {
			e.form = empty
			break
		}
		w.entries = append(w.entries, entry{key: e.key, line: e.line, form: begin})
		for more := true; more; more = pairs.Next() {
			w.pair(e.key, pairs.Node(), depth+1)
		}
		return
	case unstable.Array:
		e.form = list
		for items := value.Children(); items.Next(); {
			item := items.Node()
			if item.Kind == unstable.Array || item.Kind == unstable.InlineTable {
				e.form, e.wrong = unsupported, "a list of lists or tables"
				break
			}
			e.list = append(e.list, string(item.Data))
		}
	default:
		e.text = string(value.Data)
	}
	w.entries = append(w.entries, e)
}
