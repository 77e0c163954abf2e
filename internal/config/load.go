package config

import (
	"cmp"
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
	"gophd/internal/schedule"
)

// given is a setting as it was written, and its source.
type given struct {
	text    string
	words   []string // of a command that is a list; nil when it is a text
	pairs   []pair   // of a mapping, each name once
	value   any      // the parsed text, see key.parse; nil when there is no text
	source  string   // see Value.Source
	subject string   // its name in an error, see Error.Source
	entry   bool     // it is in an entry of jobs:
	indent  int      // how many bytes stand before the text in its line, if that is of a crontab
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
		Name                string
		MaxRunning          int
		PIDFile             string

		Crontab                       string
		CrontabSystem, CrontabSeconds bool
		Watch                         bool
	}
	Job       jobSettings
	Heartbeat Heartbeat
	Log       Log
	Restart   struct{ When string }
	API       API
	History   History
}

// jobSettings are those of one job.
type jobSettings struct {
	job.Spec
	Shell    bool
	EnvFile  []string
	Group    string
	Seconds  bool
	Year     bool
	Timezone string
	Between  string
	Exclude  []string
}

// Load reads flags, environment and file, in this order of precedence, then the defaults. It has no
// side effect, and blocks only while it reads the config file, those that it includes and those of
// job.env_file and job.exclude, and follows the symlinks of the log, output and input. Its error is one line for each
// invalid setting, each an *Error, or an *UnfitError.
func Load(req Request) (*Config, error) {
	c, _, err := newLoader(req).load()
	return c, err
}

// load is Load, and returns what it has read, too.
func (l *loader) load() (*Config, *sorter, error) {
	path := l.locate()
	files := l.readFiles(path)
	environment, flags := l.environment(), l.flags()
	files.readCrontab(environment, flags)
	if files.jobsAt != "" {
		files.refuseSettingsOfOneJob(environment, flags)
	}
	v, err := merge(l.defaults(), files.own, environment, flags)
	if err != nil {
		return nil, nil, err
	}
	if err := l.err(); err != nil {
		return nil, nil, err
	}
	s, err := decode(v)
	if err != nil {
		return nil, nil, err
	}
	get := func(name string) given { return v.Get(name).(given) }

	c := &Config{
		File:       path,
		Crontab:    files.crontab,
		Watch:      s.Config.Watch,
		Name:       s.Config.Name,
		Many:       files.jobsAt != "",
		Daemon:     s.Config.Daemon,
		Verbose:    s.Config.Verbose && !s.Config.Daemon,
		Quiet:      s.Config.Quiet,
		PIDFile:    l.absolute(s.Config.PIDFile),
		MaxRunning: s.Config.MaxRunning,
		Restart:    Restart{AutoRestart: s.Config.AutoRestartInterval, RestartWhen: s.Restart.When},
		Heartbeat:  s.Heartbeat,
		Log:        s.Log,
		API:        s.API,
		History:    s.History,
	}
	c.Heartbeat.PasswordFile = l.absolute(c.Heartbeat.PasswordFile)
	c.Directories = l.directories()
	if c.Many {
		err = l.manyJobs(c, s, get, files)
	} else {
		l.oneJob(c, s, get, files.user)
	}
	if err := errors.Join(err, l.err()); err != nil {
		return nil, nil, err
	}
	if l.unusable != nil && (c.Heartbeat.URL != "none:" || filepath.Dir(c.Log.File) == c.LogDir) {
		l.warnings = append(l.warnings, fmt.Sprintf("the state directory is %s, because the usual one, at home, "+
			"cannot be created (%v); set GOPHD_STATE_DIR, the same for all who start this job", c.StateDir, l.unusable))
	}
	named := get("config.name").text != "" || get("job.name").text != ""
	if c.Heartbeat.Shared() && !named && !c.Many && len(l.Command) > 0 && !l.explicit {
		l.warnings = append(l.warnings, fmt.Sprintf(
			"%s is shared between hosts, and the name %s is made from the command; give --name, the same on every host",
			redact(c.Heartbeat.URL), c.Name))
	}
	c.Warnings, c.Files = l.warnings, l.sources
	c.values = append(c.values, files.user...)
	return c, files, nil
}

// oneJob completes and checks the config of one job.
func (l *loader) oneJob(c *Config, s *settings, get func(string) given, user []Value) {
	j := &s.Job
	l.checkJob(j, get)
	l.checkDaemon(s, get)
	if c.MaxRunning > 0 {
		l.rejectKey(get("config.max_running"), "it is for many jobs, and there is no jobs:; leave it out, or see job.overlap")
	}
	cmd := l.command(get("job.command"), get("job.shell"), j.Shell)
	l.warnOfLateFlag()
	if l.NeedCommand && cmd.argv() == nil {
		l.reject("no command", "",
			"write it after --, as in gophd run -- ./job.sh, or set job.command in a config file")
	}
	j.Dir = l.absolute(cmp.Or(j.Dir, l.Dir))
	j.Name = cmp.Or(c.Name, j.Name, l.name(cmd, c.File, j.Dir))
	c.Name, c.Heartbeat.Scope = j.Name, scopeJob
	c.Log.File = c.LogFile(j.Name)
	l.completeDaemon(c, get)
	l.completeJob(j, cmd, get, c)
	j.Env = l.variables(j, get("job.env_file"), user)
	c.Jobs = []job.Spec{j.Spec}
	c.values = shown(c, j, cmd, get)
}

// decode sets the field of each key. A key without a field, or a field without a key, is an error
// in the table or the struct. Every test of Load finds it.
func decode(v *viper.Viper) (*settings, error) {
	s := &settings{}
	err := v.Unmarshal(s, func(dc *mapstructure.DecoderConfig) {
		strict(dc)
		dc.ErrorUnset = true
	})
	if err != nil {
		return nil, fmt.Errorf("cannot decode the settings: %w", err)
	}
	return s, nil
}

// strict sets how the fields of settings are decoded.
func strict(dc *mapstructure.DecoderConfig) {
	dc.DecodeHook, dc.MatchName = mapstructure.DecodeHookFuncValue(convert), named
	dc.ErrorUnused, dc.WeaklyTypedInput, dc.Squash = true, false, true
}

// named reports whether the field belongs to the key. A field has the name of its key without
// underscores; some fields of job.Spec are exceptions.
func named(key, field string) bool {
	switch field {
	case "Dir":
		return key == "chdir"
	case "Calendar":
		return key == "schedule"
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
	case to.Type() == reflect.TypeFor[*schedule.Schedule]():
		return nil, nil // completeSchedule parses it
	case g.pairs != nil:
		var lines []string
		for _, p := range g.pairs {
			lines = append(lines, p.name+"="+p.text)
		}
		return lines, nil
	}
	return g.value, nil
}

// shown returns every setting with its effective value, which may differ from the given text. j is
// the only job, or the defaults of all.
func shown(c *Config, j *jobSettings, cmd given, get func(string) given) []Value {
	derived := derivedOf(j, get)
	for name, text := range map[string]string{
		"config.name":             c.Name,
		"config.pid_file":         c.PIDFile,
		"config.crontab":          c.Crontab,
		"heartbeat.password_file": c.Heartbeat.PasswordFile,
		"heartbeat.scope":         c.Heartbeat.Scope,
		"log.file":                c.Log.File,
	} {
		derived[name] = text
	}
	var values []Value
	for _, k := range keys() {
		g := get(k.name)
		switch {
		case c.Many && k.name == "job.name":
			continue
		case !c.Many && (k.name == "config.name" || k.name == "job.name"): // they are the same
			if g = get("config.name"); g.source == defaultSource {
				g = get("job.name")
			}
		case k.kind == command:
			g = cmd
		}
		values = g.appendTo(values, k.name, derived)
	}
	return values
}

// derivedOf returns the settings of a job whose effective value may differ from the given text.
func derivedOf(j *jobSettings, get func(string) given) map[string]string {
	derived := map[string]string{
		"job.name":     j.Name,
		"job.chdir":    j.Dir,
		"job.env_file": strings.Join(j.EnvFile, ","),
		"job.exclude":  joinExclusions(j.Exclude),
		"job.stdin":    j.Stdin,
		"job.output":   string(j.Output),

		"job.interval":     get("job.interval").show(),
		"job.run_at_start": get("job.run_at_start").show(),
	}
	switch {
	case j.Calendar != nil:
		derived["job.interval"], derived["job.run_at_start"] = "", strconv.FormatBool(j.RunAtStart)
	case get("job.interval").value != j.Interval:
		derived["job.interval"] = j.Interval.String()
	}
	return derived
}

// appendTo appends the setting with that name, or each pair of a mapping.
func (g given) appendTo(values []Value, name string, derived map[string]string) []Value {
	for _, p := range g.pairs {
		values = append(values, Value{name + "." + p.name, p.text, p.source})
	}
	if g.pairs != nil {
		return values
	}
	text, ok := derived[name]
	if !ok {
		text = g.show()
	}
	return append(values, Value{name, text, g.source})
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
