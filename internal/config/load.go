package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"gophd/internal/job"
)

// given is a setting as it was written, and its source.
type given struct {
	text    string
	words   []string // of a command that is a list; nil when it is a text
	pairs   []pair   // of a mapping, each name once
	value   any      // the parsed text, see key.parse; nil when there is no text
	source  string   // see Value.Source
	subject string   // its name in an error, see Error.Source
}

// pair is one value of a mapping.
type pair struct{ name, text, source string }

// maxPairs limits a hostile mapping, which costs time that grows with the square of its size.
const maxPairs = 1000

// with returns the pairs and p, which replaces a pair of the same name.
func with(pairs []pair, p pair) []pair {
	pairs = slices.Clone(pairs)
	if i := slices.IndexFunc(pairs, func(q pair) bool { return q.name == p.name }); i >= 0 {
		pairs[i] = p
		return pairs
	}
	return append(pairs, p)
}

// show returns the text of a setting on one line.
func (g given) show() string {
	if g.words != nil {
		return jsonText(g.words)
	}
	return g.text
}

// settings is the target into which the merged settings are decoded, with a field for each key. A
// new setting of a job is a row in keys and a field of job.Spec.
type settings struct {
	Config struct {
		AutoRestartInterval time.Duration
		Daemon              bool
		Verbose, Quiet      bool
		PIDFile             string
	}
	Job struct {
		job.Spec
		Shell   bool
		EnvFile []string
		Group   string
	}
	Heartbeat Heartbeat
	Log       Log
	Restart   struct{ When string }
}

// Load reads flags, environment and file, in this order of precedence, then the defaults. It has no
// side effect, and blocks only while it reads the config file and those of job.env_file, and follows
// the symlinks of the log, output and input. Its error is one line for each invalid setting, each an
// *Error, or an *UnfitError.
func Load(req Request) (*Config, error) {
	l := newLoader(req)
	path := l.locate()
	var user []Value
	file := map[string]given{}
	if path != "" {
		file, user = l.readFile(path)
	}
	v, err := merge(l.defaults(), file, l.environment(), l.flags())
	if err != nil {
		return nil, err
	}
	if err := l.err(); err != nil {
		return nil, err
	}
	s, err := decode(v)
	if err != nil {
		return nil, err
	}
	get := func(name string) given { return v.Get(name).(given) }
	l.checkConflicts(s, get)

	c := &Config{
		File:        path,
		Daemon:      s.Config.Daemon,
		Verbose:     s.Config.Verbose && !s.Config.Daemon,
		Quiet:       s.Config.Quiet,
		PIDFile:     l.absolute(s.Config.PIDFile),
		AutoRestart: s.Config.AutoRestartInterval,
		RestartWhen: s.Restart.When,
		Heartbeat:   s.Heartbeat,
		Log:         s.Log,
	}
	c.Heartbeat.PasswordFile = l.absolute(c.Heartbeat.PasswordFile)
	c.RuntimeDir, c.StateDir, c.LogDir = l.directories()
	cmd := l.complete(c, s, get, user)
	if err := l.err(); err != nil {
		return nil, err
	}
	c.Jobs = []job.Spec{s.Job.Spec}
	c.Name = s.Job.Name
	if l.unusable != nil && (c.Heartbeat.URL != "none:" || filepath.Dir(c.Log.File) == c.LogDir) {
		l.warnings = append(l.warnings, fmt.Sprintf("the state directory is %s, because the usual one cannot be "+
			"created (%v); set GOPHD_STATE_DIR, the same for all who start this job", c.StateDir, l.unusable))
	}
	c.Warnings = l.warnings
	if c.Heartbeat.Shared() && get("job.name").text == "" && cmd.source == commandLine && !l.explicit {
		c.Warnings = append(c.Warnings, fmt.Sprintf(
			"%s is shared between hosts, and the name %s is made from the command; give --name, the same on every host",
			redact(c.Heartbeat.URL), s.Job.Name))
	}
	c.values = append(shown(c, s, cmd, get), user...)
	return c, nil
}

// decode sets the field of each key. A key without a field, or a field without a key, is an error
// in the table or the struct. Every test of Load finds it.
func decode(v *viper.Viper) (*settings, error) {
	s := &settings{}
	hook := viper.DecodeHook(mapstructure.DecodeHookFuncValue(convert))
	err := v.Unmarshal(s, hook, func(dc *mapstructure.DecoderConfig) {
		dc.ErrorUnused, dc.ErrorUnset, dc.WeaklyTypedInput, dc.Squash = true, true, false, true
		dc.MatchName = named
	})
	if err != nil {
		return nil, fmt.Errorf("cannot decode the settings: %w", err)
	}
	return s, nil
}

// named reports whether the field belongs to the key. A field has the name of its key without
// underscores; some fields of job.Spec are exceptions.
func named(key, field string) bool {
	switch field {
	case "Dir":
		return key == "chdir"
	case "Rlimits":
		return key == "rlimit"
	case "SuccessCodes", "FatalCodes", "RetryCodes":
		key = strings.Replace(key, "_exit_", "_", 1)
	}
	return strings.EqualFold(strings.ReplaceAll(key, "_", ""), field)
}

// convert returns the value of a setting. Every text was parsed earlier, where the error can name
// its source. A mapping is converted here because it is complete only after the merge.
func convert(from, to reflect.Value) (any, error) {
	g, ok := from.Interface().(given)
	switch {
	case !ok:
		return from.Interface(), nil
	case to.Type() == reflect.TypeFor[[]job.Rlimit]():
		return limits(g.pairs), nil
	case g.pairs != nil:
		var lines []string
		for _, p := range g.pairs {
			lines = append(lines, p.name+"="+p.text)
		}
		return lines, nil
	}
	return g.value, nil
}

// shown returns every setting with its effective value, which may differ from the given text.
func shown(c *Config, s *settings, cmd given, get func(string) given) []Value {
	derived := map[string]string{
		"config.pid_file":         c.PIDFile,
		"heartbeat.password_file": c.Heartbeat.PasswordFile,
		"job.name":                s.Job.Name,
		"job.chdir":               s.Job.Dir,
		"job.env_file":            strings.Join(s.Job.EnvFile, ","),
		"job.stdin":               s.Job.Stdin,
		"job.output":              string(s.Job.Output),
		"log.file":                c.Log.File,
	}
	if get("job.interval").value != s.Job.Interval {
		derived["job.interval"] = s.Job.Interval.String()
	}
	var values []Value
	for _, k := range keys() {
		g := get(k.name)
		if k.kind == command {
			g = cmd
		}
		for _, p := range g.pairs {
			values = append(values, Value{k.name + "." + p.name, p.text, p.source})
		}
		if g.pairs != nil {
			continue
		}
		text, ok := derived[k.name]
		if !ok {
			text = g.show()
		}
		values = append(values, Value{k.name, text, g.source})
	}
	return values
}

// merge merges the layers with viper: a later layer overrides an earlier one, a mapping name by
// name. Viper gets gophd's own keys only, because it turns all names to lower case. Each value
// keeps its source.
func merge(layers ...map[string]given) (*viper.Viper, error) {
	v := viper.New()
	for _, layer := range layers {
		nested := map[string]any{}
		for name, g := range layer {
			section, key, _ := strings.Cut(name, ".")
			if nested[section] == nil {
				nested[section] = map[string]any{}
			}
			if earlier, ok := v.Get(name).(given); ok {
				for _, p := range g.pairs {
					earlier.pairs = with(earlier.pairs, p)
				}
				g.pairs = earlier.pairs
			}
			nested[section].(map[string]any)[key] = g
		}
		if err := v.MergeConfigMap(nested); err != nil {
			return nil, fmt.Errorf("cannot merge the settings: %w", err)
		}
	}
	return v, nil
}

// loader is the state of one Load: its request, and the problems found so far.
type loader struct {
	Request
	env      map[string]string
	table    map[string]key // by name
	sections []string       // gophd's own
	explicit bool           // the config file was named by flag or environment
	unusable error          // why the usual state directory cannot be created, and another is used
	problems []error        // what cannot be understood
	unfit    []error        // what cannot be read here
	warnings []string
}

func newLoader(req Request) *loader {
	l := &loader{Request: req, env: map[string]string{}, table: map[string]key{}, sections: sections()}
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
	if k.kind != command && l.isUnexpanded(g.subject, g.text, k.env()) {
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
// given by the environment variable of that name instead.
func (l *loader) isUnexpanded(subject, text, name string) bool {
	if !shellVariable().MatchString(text) {
		return false
	}
	fix := "variables are expanded by shells only; write the value"
	if subject != name {
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
		if text == "" || !hasOwnPrefix(name, l.sections) || slices.Contains(names, name) {
			continue
		}
		if now := renamedVariable(name); now != "" {
			l.reject(name, "", "renamed; set "+now)
			continue
		}
		warning := "environment " + visible(name) + ": gophd has no such setting"
		if near := nearest(strings.ToLower(name), lower(names)); near != "" {
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
		if k.short != "" && k.short+text == k.flag {
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
