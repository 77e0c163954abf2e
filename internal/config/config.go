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
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"gophd/internal/job"
)

// Request is all that Load looks at, beside the config file itself.
type Request struct {
	Flags   *pflag.FlagSet // parsed; those of AddFlags that it has are read; may be nil
	Command []string       // the words of the command line that name the command; may be empty
	Env     []string       // KEY=VALUE; of two with one key the last counts, as in os/exec
	Dir     string         // absolute; relative paths and the command start here
	Home    string         // the user's home folder; may be empty
	UID     int            // 0 chooses the folders of the system

	SystemDir   string // folder of the system's config files; "" is /etc/gophd
	NeedCommand bool   // refuse when no command is named anywhere
}

// Config is what gophd was told to do. Nobody changes it after Load.
type Config struct {
	File string     // absolute path of the config file; "" when there is none
	Jobs []job.Spec // exactly one in this version; its Command is nil only without Request.NeedCommand

	Daemon      bool
	Verbose     bool          // never together with Daemon
	PIDFile     string        // absolute; "" is none
	AutoRestart time.Duration // 0 is never
	RestartWhen string        // "daemon", "always" or "never"
	Heartbeat   Heartbeat
	Log         Log

	// Folders of gophd, absolute. Whoever writes there creates them.
	RuntimeDir, StateDir, LogDir string

	// Warnings are for the terminal or the log, one line each, without secrets.
	Warnings []string

	values []Value
	plain  map[string]string // what Get says
}

// Heartbeat is the section of that name.
type Heartbeat struct {
	URL            string // file:, none: or memcached://host[:port]
	TTL            time.Duration
	Renew          time.Duration
	StopGrace      time.Duration
	Timeout        time.Duration // of one phase of a store operation: connecting, answering
	AcquireTimeout time.Duration
	OnUnreachable  string // "pause" or "continue"
	Wait           bool
	HeldExitCode   int // 0 to 255
}

// Log is the section of that name.
type Log struct {
	File   string // absolute, may hold strftime patterns; "" is no file, which is never so with Daemon
	Format string // "simple", "json" or "console"
	Level  string // "debug", "info", "warn" or "error"
}

// Value is one effective setting, to be shown.
type Value struct {
	Key    string // section.key
	Text   string // as the user wrote it, paths made absolute, secrets hidden
	Source string // "flag --interval", "environment GOPHD_JOB_INTERVAL", "FILE:LINE", "command line" or "default"
}

// Error is one thing that is wrong with a setting. It prints as one line that names where it was
// said, the value and the fix.
type Error struct {
	Source  string // the flag, the variable, or file, line and key
	Value   string // as it may be shown; "" when there is none to show
	Problem string // what is wrong, and the fix
}

func (e *Error) Error() string {
	if e.Value == "" {
		return e.Source + ": " + e.Problem
	}
	return e.Source + " " + e.Value + ": " + e.Problem
}

// Values returns every effective setting: gophd's own in the order of the reference, then the
// user's in the order of the file.
func (c *Config) Values() []Value { return slices.Clone(c.values) }

// Get returns the text of one setting, own or the user's, by its section.key. Secrets are not
// hidden: who asks for one by name gets it.
func (c *Config) Get(key string) (string, bool) {
	text, ok := c.plain[key]
	return text, ok
}

// Private returns env without the variables that configure gophd. A command that is itself a gophd,
// or starts one, must not inherit the settings of its parent.
func Private(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == configVariable || hasOwnPrefix(name, sections())
	})
}

// hasOwnPrefix says that a variable belongs to one of the sections.
func hasOwnPrefix(variableName string, sections []string) bool {
	return slices.ContainsFunc(sections, func(s string) bool {
		return strings.HasPrefix(variableName, variable(s)+"_")
	})
}

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
	var user []userValue
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
	err = v.Unmarshal(&s, viper.DecodeHook(mapstructure.DecodeHookFuncValue(l.decode)), func(dc *mapstructure.DecoderConfig) {
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
		c.Log.File = filepath.Join(c.LogDir, name+".log")
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
		spec.Env = append(spec.Env, variable(u.key)+"="+u.text)
	}
	c.Jobs = []job.Spec{spec}
	c.Warnings = l.warnings
	if c.shared() && said("job.name").text == "" && cmd.source == commandLine && !l.explicit {
		c.Warnings = append(c.Warnings, fmt.Sprintf(
			"%s is shared between hosts, and the name %s is made from the command; give --name, the same on every host",
			redact(c.Heartbeat.URL), name))
	}

	c.list(said, user, map[string]string{
		"config.pid_file": c.PIDFile,
		"job.name":        name,
		"job.output":      output,
		"log.file":        c.Log.File,
	}, cmd)
	return c, nil
}

// shared says that other hosts can see the heartbeat.
func (c *Config) shared() bool { return strings.HasPrefix(c.Heartbeat.URL, memcached) }

// list fills in what Values and Get say: the settings as they came out in the end.
func (c *Config) list(said func(string) given, user []userValue, derived map[string]string, cmd given) {
	c.plain = map[string]string{}
	for _, k := range keys() {
		g := said(k.name)
		if k.kind == command {
			g = cmd
		}
		text := g.show()
		if t, ok := derived[k.name]; ok {
			text = t
		}
		c.plain[k.name] = text
		c.values = append(c.values, Value{k.name, redact(text), g.source})
	}
	for _, u := range user {
		c.plain[u.key] = u.text
		text := redact(u.text)
		if looksSecret(u.key) {
			text = hidden
		}
		c.values = append(c.values, Value{u.key, text, u.source})
	}
}

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
func (l *loader) decode(from, to reflect.Value) (any, error) {
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
