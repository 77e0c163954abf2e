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

// given is a setting as somebody said it.
type given struct {
	text    string
	words   []string // of a command that is a list; nil when it is a text
	source  string   // see Value.Source
	subject string   // how an error names it; see Error.Source
}

// show is the text of a setting on one line.
func (g given) show() string {
	if g.words != nil {
		return jsonText(g.words)
	}
	return g.text
}

// settings is the shape into which the merged settings are decoded, a field for each key.
type settings struct {
	Config struct {
		AutoRestartInterval time.Duration
		Daemon, Verbose     bool
		PIDFile             string
	}
	Job struct {
		Name           string
		Command        given
		Shell          bool
		Interval       time.Duration
		Once           bool
		RunAtStart     bool
		Overrun        job.Overrun
		Timeout, Grace time.Duration
		Output         string
	}
	Heartbeat Heartbeat
	Log       Log
	Restart   struct{ When string }
}

// Load reads flags, environment and file, in this order of precedence, then the defaults. It has no
// side effect and blocks only on reading the config file. Its error is one line for each thing that
// is wrong, each an *Error.
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

	var s settings
	err = v.Unmarshal(&s, viper.DecodeHook(mapstructure.DecodeHookFuncValue(decode)), func(dc *mapstructure.DecoderConfig) {
		dc.ErrorUnused, dc.ErrorUnset, dc.WeaklyTypedInput = true, true, false
		dc.MatchName = func(key, field string) bool {
			return strings.EqualFold(strings.ReplaceAll(key, "_", ""), field)
		}
	})
	if err != nil { // the table of keys and the struct disagree; a test sees it first
		return nil, fmt.Errorf("cannot decode the settings: %w", err)
	}
	said := func(name string) given { return v.Get(name).(given) }

	c := &Config{
		File:        path,
		Daemon:      s.Config.Daemon,
		Verbose:     s.Config.Verbose && !s.Config.Daemon,
		PIDFile:     l.absolute(s.Config.PIDFile),
		AutoRestart: s.Config.AutoRestartInterval,
		RestartWhen: s.Restart.When,
		Heartbeat:   s.Heartbeat,
		Log:         s.Log,
	}
	c.RuntimeDir, c.StateDir, c.LogDir = l.folders()

	cmd := l.command(s.Job.Command, said("job.shell"), s.Job.Shell)
	name := s.Job.Name
	if name == "" {
		name = l.name(cmd, path)
	}
	c.Log.File = l.absolute(s.Log.File)
	if c.Log.File == "" && c.Daemon && name != "" {
		c.Log.File = strings.ReplaceAll(filepath.Join(c.LogDir, name+".log"), "%", "%%") // it may hold patterns
	}
	output := l.output(s.Job.Output, said("job.output"), c)
	l.checkHeartbeat(c.Heartbeat, said)
	if err := l.err(); err != nil {
		return nil, err
	}

	spec := job.Spec{
		Name: name, Command: cmd.argv(), Dir: req.Dir,
		Interval: s.Job.Interval, Once: s.Job.Once, RunAtStart: s.Job.RunAtStart, Overrun: s.Job.Overrun,
		Timeout: s.Job.Timeout, Grace: s.Job.Grace, Output: output,
	}
	for _, u := range user {
		spec.Env = append(spec.Env, variable(u.Key)+"="+u.Text)
	}
	c.Jobs = []job.Spec{spec}
	c.Warnings = l.warnings
	if c.shared() && said("job.name").text == "" && cmd.source == commandLine && !l.explicit {
		c.Warnings = append(c.Warnings, fmt.Sprintf(
			"%s is shared between hosts, and the name %s is made from the command; give --name, the same on every host",
			redact(c.Heartbeat.URL), name))
	}

	// What is shown is what came out in the end, not what was typed.
	derived := map[string]string{
		"config.pid_file": c.PIDFile,
		"job.name":        name,
		"job.output":      output,
		"log.file":        c.Log.File,
	}
	for _, k := range keys() {
		g := said(k.name)
		if k.kind == command {
			g = cmd
		}
		text, ok := derived[k.name]
		if !ok {
			text = g.show()
		}
		c.values = append(c.values, Value{k.name, text, g.source})
	}
	c.values = append(c.values, user...)
	return c, nil
}

// shared says that other hosts can see the heartbeat.
func (c *Config) shared() bool { return strings.HasPrefix(c.Heartbeat.URL, memcached) }

// merge lets viper decide what counts: a later layer covers an earlier one. Viper sees gophd's own
// keys only, since it turns all names to lower case, and values together with where they came from.
func merge(layers ...map[string]given) (*viper.Viper, error) {
	v := viper.New()
	for _, layer := range layers {
		nested := map[string]any{}
		for name, g := range layer {
			section, key, _ := strings.Cut(name, ".")
			if nested[section] == nil {
				nested[section] = map[string]any{}
			}
			nested[section].(map[string]any)[key] = g
		}
		if err := v.MergeConfigMap(nested); err != nil {
			return nil, fmt.Errorf("cannot merge the settings: %w", err)
		}
	}
	return v, nil
}

// decode turns what was said into the type of its field. Every text was checked before, in the
// place where the error can name its source.
func decode(from, to reflect.Value) (any, error) {
	g, ok := from.Interface().(given)
	if !ok || to.Type() == from.Type() {
		return from.Interface(), nil
	}
	switch to.Interface().(type) {
	case time.Duration:
		return parseDuration(g.text)
	case bool:
		return parseBool(g.text)
	case int:
		return strconv.Atoi(g.text)
	}
	return g.text, nil
}

// loader is one Load under way: what it was asked, and what it found to complain about.
type loader struct {
	Request
	env      map[string]string
	table    map[string]key // by name
	sections []string       // gophd's own
	explicit bool           // the config file was named by flag or environment
	problems []error
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

// maxProblems keeps garbage from printing a screen of errors.
const maxProblems = 10

func (l *loader) refuse(source, value, problem string) {
	l.problems = append(l.problems, &Error{source, value, problem})
}

// err is all that was refused so far.
func (l *loader) err() error {
	if len(l.problems) > maxProblems {
		last := &Error{"and more", "", "fix these first"}
		return errors.Join(append(l.problems[:maxProblems:maxProblems], last)...)
	}
	return errors.Join(l.problems...)
}

// check reads the text once, to refuse it where its source is known.
func (l *loader) check(k key, g given) {
	if g.words != nil {
		return
	}
	if _, err := k.parse(g.text); err != nil {
		l.refuse(g.subject, visible(g.text), err.Error())
	}
}

// defaults is the lowest layer. It holds every key, so the struct has no field without one.
func (l *loader) defaults() map[string]given {
	layer := map[string]given{}
	for name, k := range l.table {
		layer[name] = given{text: k.def, source: "default", subject: name}
	}
	return layer
}

// environment reads the own variables. An empty one counts as not set: that is what `VAR=` in a
// unit or a compose file means, and what an unset variable of a template leaves.
func (l *loader) environment() map[string]given {
	layer := map[string]given{}
	var names []string
	for _, k := range keys() {
		names = append(names, k.env())
		if text := l.env[k.env()]; text != "" {
			layer[k.name] = given{text: text, source: "environment " + k.env(), subject: k.env()}
			l.check(k, layer[k.name])
		}
	}
	for _, kv := range l.Env {
		name, text, _ := strings.Cut(kv, "=")
		if text == "" || !hasOwnPrefix(name, l.sections) || slices.Contains(names, name) {
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
		l.check(k, g)
		if b, err := parseBool(text); k.negated && err == nil {
			g.text = strconv.FormatBool(!b)
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

// absolute makes a path absolute without looking at the disk.
func (l *loader) absolute(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.Dir, p)
}
