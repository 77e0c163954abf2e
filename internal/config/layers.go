package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gophd/internal/misspelled"
	"gophd/internal/watch"
)

// loader is the state of one Load: its request, and the problems found so far.
type loader struct {
	Request
	env      map[string]string
	table    map[string]key     // by name
	sections []string           // gophd's own
	explicit bool               // the config file was named by flag or environment
	noFile   bool               // no config file is searched
	many     bool               // there is a jobs: map
	unusable error              // why the usual state directory cannot be created, and another is used
	envFiles map[string]envFile // those that were read
	dayFiles map[string]dayFile // the same
	sources  []watch.File       // all files that were read
	findings
}

func newLoader(req Request) *loader {
	l := &loader{Request: req, env: map[string]string{}, table: map[string]key{}, sections: sections(),
		envFiles: map[string]envFile{}, dayFiles: map[string]dayFile{}}
	for _, kv := range req.Env {
		if name, text, ok := strings.Cut(kv, "="); ok {
			l.env[name] = text
		}
	}
	for _, k := range keys() {
		l.table[k.name] = k
	}
	return l
}

// maxProblems limits the errors that an invalid file can print.
const maxProblems = 10

func (l *loader) reject(source, value, problem string) {
	l.problems = append(l.problems, &Error{Source: source, Value: value, Problem: problem})
}

// err returns all problems found so far: an *UnfitError if all can be understood.
func (l *loader) err() error {
	all := slices.Concat(l.problems, l.unfit)
	if len(all) > maxProblems {
		all = append(all[:maxProblems], &Error{Source: "and more", Problem: "fix these first"})
	}
	err := errors.Join(all...)
	if len(l.problems) == 0 && err != nil {
		return &UnfitError{err}
	}
	return err
}

// read parses the text, or rejects it, because its source is known here. The errors of a list and
// of a mapping name the one item that is invalid.
func (l *loader) read(k key, g given) given {
	if g.words != nil {
		g.value = g.words
		return g
	}
	if k.kind == mapping {
		// In one text, each pair is on its own line.
		for text := range strings.SplitSeq(strings.TrimRight(g.text, "\n"), "\n") {
			g = l.pair(k, g, text)
		}
		return g
	}
	variable := k.env()
	if g.entry {
		variable = "" // it would be for all jobs
	}
	if k.kind != command && !k.literal && l.isUnexpanded(g.subject, g.text, variable) {
		return g
	}
	value, err := k.parse(g.text)
	switch {
	case err != nil && k.kind.list():
		l.reject(g.subject, "", err.Error())
	case err != nil:
		l.reject(g.subject, visible(g.text), err.Error())
	}
	g.value = value
	return g
}

var shellVariable = lazyRegexp(`\$(\{|[A-Za-z_])`)

// isUnexpanded rejects a text with a variable that a shell would have expanded. The setting can be
// given by the environment variable of that name instead, if there is a name.
func (l *loader) isUnexpanded(subject, text, name string) bool {
	if !shellVariable().MatchString(text) {
		return false
	}
	fix := "variables are expanded by shells only; write the value"
	if name != "" && subject != name {
		fix += ", or set " + name
	}
	l.reject(subject, visible(text), fix)
	return true
}

// pair adds one NAME=VALUE to a mapping.
func (l *loader) pair(k key, g given, text string) given {
	if err := k.check(text); err != nil {
		l.reject(g.subject, "", err.Error())
		return g
	}
	if len(g.pairs) == maxPairs {
		l.reject(g.subject, "",
			fmt.Sprintf("more than %d names; put variables into a file of job.env_file", maxPairs))
		return g
	}
	name, value, _ := strings.Cut(text, "=")
	g.pairs = with(g.pairs, pair{name, value, g.source})
	return g
}

// defaults returns the lowest layer. It has every key, so no field is left unset.
func (l *loader) defaults() map[string]given {
	layer := map[string]given{}
	for name, k := range l.table {
		g := given{text: k.def, source: defaultSource, subject: name}
		if k.def != "" {
			g = l.read(k, g)
		}
		layer[name] = g
	}
	return layer
}

// environment reads gophd's own variables. An empty variable counts as not set: that is what `VAR=`
// in a unit or a compose file means, and the result of an unset variable in a template.
func (l *loader) environment() map[string]given {
	layer := map[string]given{}
	var names []string
	for _, k := range keys() {
		names = append(names, k.env())
		if text := l.env[k.env()]; text != "" {
			layer[k.name] = l.read(k, given{text: text, source: "environment " + k.env(), subject: k.env()})
		}
	}
	for _, kv := range l.Env {
		name, text, _ := strings.Cut(kv, "=")
		switch {
		case text == "" || slices.Contains(names, name):
			continue
		case !hasOwnPrefix(name, l.sections):
			if own := ownVariable(name); own != "" {
				l.warnings = append(l.warnings, "environment "+visible(name)+": gophd has no such setting; did you mean "+own+"?")
			}
			continue
		}
		if now := renamedVariable(name); now != "" {
			l.reject(name, "", "renamed; set "+now)
			continue
		}
		warning := "environment " + visible(name) + ": gophd has no such setting"
		if near := misspelled.Nearest(strings.ToLower(name), lower(names)); near != "" {
			warning += "; did you mean " + strings.ToUpper(near) + "?"
		}
		l.warnings = append(l.warnings, warning)
	}
	return layer
}

func lower(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(n)
	}
	return out
}

// flags reads the flags that were given.
func (l *loader) flags() map[string]given {
	layer := map[string]given{}
	for _, k := range keys() {
		text, ok := l.flag(k.flag)
		if !ok {
			continue
		}
		g := given{text: text, source: "flag --" + k.flag, subject: "--" + k.flag}
		if k.short != "" && isLong(k.short, text, k.flag) {
			l.problems = append(l.problems, oneDash(k.flag))
			continue
		}
		switch all := l.Flags.Lookup(k.flag).Value.(*flagValue).all; {
		case k.kind == mapping:
			for _, text := range all {
				g = l.pair(k, g, text)
			}
		case k.kind.list():
			g.text = strings.Join(all, ",")
			g = l.read(k, g)
		default:
			g = l.read(k, g)
		}
		if no, ok := g.value.(bool); k.negated && ok {
			g.text, g.value = strconv.FormatBool(!no), !no
		}
		layer[k.name] = g
	}
	return layer
}

// flag returns the text of a flag that was given on the command line.
func (l *loader) flag(name string) (string, bool) {
	if l.Flags == nil || name == "" {
		return "", false
	}
	f := l.Flags.Lookup(name)
	if f == nil || !f.Changed {
		return "", false
	}
	return f.Value.String(), true
}

// absolute makes a path absolute, without access to the disk.
func (l *loader) absolute(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.Dir, p)
}
