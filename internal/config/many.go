package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/go-viper/mapstructure/v2"
)

// refuseSettingsOfOneJob rejects what has no meaning with jobs:, because it does not say for which
// job it is.
func (s *sorter) refuseSettingsOfOneJob(environment, flags map[string]given) {
	if len(s.Command) > 0 {
		s.reject(commandLine, visible(jsonText(s.Command)), "the jobs of "+s.jobsAt+" have their own commands; leave it out")
	}
	for _, k := range keys() {
		for i, layer := range []map[string]given{environment, flags, s.own} {
			g, ok := layer[k.name]
			switch {
			case !ok || !ofJob(k.name):
			case k.name == "job.name":
				s.reject(g.subject, "", "the jobs of "+s.jobsAt+" have their own names; set config.name for the daemon")
			case i < 2 && s.crontab == "":
				s.reject(g.subject, "", fmt.Sprintf("it is for one job, and %s has jobs:; set %s.NAME%s there, or %s "+
					"for all jobs", s.jobsAt, jobsSection, strings.TrimPrefix(k.name, jobSection), k.name))
			}
		}
	}
	if len(s.entries) == 0 && len(s.problems) == 0 && s.crontab == "" {
		s.reject(s.jobsAt+": "+jobsSection, "", "no job; write one below it, as in jobs.nightly.command")
	}
}

// manyJobs completes and checks the config of a daemon with jobs:. A job has the settings of its
// entry, then those of job:, then the defaults. The table is decoded once: decoding it for each of
// thousands of jobs would be slow.
func (l *loader) manyJobs(c *Config, s *settings, get func(string) given, files *sorter) error {
	l.many = true
	base := filepath.Base(c.Source())
	c.Name = cmp.Or(c.Name, clean(strings.TrimSuffix(base, filepath.Ext(base))))
	l.checkDaemon(s, get)
	l.completeDaemon(c, get)

	shared, cmd := s.Job, given{}
	report := jobReport{loader: l, config: c, reported: map[Error]bool{}}
	report.shared = l.capture(func() {
		l.checkJob(&shared, get)
		cmd = l.command(get("job.command"), get("job.shell"), shared.Shell)
		l.completeJob(&shared, cmd, get, c)
		shared.Env = l.variables(&shared, get("job.env_file"), nil)
	})
	c.values = shown(c, &shared, cmd, get)

	defaults := l.defaults()
	for _, e := range files.entries {
		j := s.Job
		own := e.overrides(get, defaults)
		if err := override(&j, own); err != nil {
			return fmt.Errorf("cannot decode the settings of %s: %w", e.at.key, err)
		}
		ofJob := func(name string) given {
			if g, ok := own[name]; ok {
				return g
			}
			return get(name)
		}
		found := l.capture(func() {
			j.Name = e.name
			l.checkJob(&j, ofJob)
			cmd = l.command(ofJob("job.command"), ofJob("job.shell"), j.Shell)
			if l.NeedCommand && cmd.argv() == nil {
				l.reject(e.subject(), "", "no command; set "+e.key("job.command")+", or job.command for all jobs")
			}
			l.completeJob(&j, cmd, ofJob, c)
			j.Env = l.variables(&j, ofJob("job.env_file"), files.user)
		})
		report.add(e, found)
		if len(l.problems) > maxProblems {
			break
		}
		c.Jobs = append(c.Jobs, j.Spec)
		c.entries.values = append(c.entries.values, e.shown(&j, cmd, ofJob, c))
	}
	return nil
}

// overrides returns the settings that differ from those of job:, and adds to those of the entry the
// ones that it drops.
func (e *entryOf) overrides(get func(string) given, defaults map[string]given) map[string]given {
	own := map[string]given{}
	drop := func(names ...string) {
		for _, name := range names {
			if _, ok := own[name]; !ok && get(name).source != defaultSource {
				e.own[name], own[name] = defaults[name], defaults[name]
			}
		}
	}
	for name, g := range e.own {
		if g.pairs != nil {
			pairs := g.pairs
			g.pairs = get(name).pairs
			for _, p := range pairs {
				g.pairs = with(g.pairs, p)
			}
		}
		own[name] = g
	}
	for _, name := range timing {
		if g, ok := e.own[name]; ok && g.entry {
			drop(timing...)
		}
	}
	if own["job.service"].value == true { // it has no ticks
		drop("job.overlap", "job.max_parallel", "job.retries", "job.retry_delay", "job.retry_exit_codes")
	}
	return own
}

// override decodes only the given settings. That is much faster than decoding the whole struct.
func override(j *jobSettings, own map[string]given) error {
	for name, g := range own {
		field := reflect.ValueOf(j).Elem().FieldByIndex(fieldsOfJob()[name])
		field.SetZero()
		dc := &mapstructure.DecoderConfig{Result: field.Addr().Interface()}
		strict(dc)
		d, err := mapstructure.NewDecoder(dc)
		if err != nil {
			return err
		}
		if err := d.Decode(g); err != nil {
			return err
		}
	}
	return nil
}

// fieldsOfJob are the fields of jobSettings by the names of their settings.
var fieldsOfJob = sync.OnceValue(func() map[string][]int {
	all := map[string][]int{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[jobSettings]()) {
		for _, k := range keys() {
			if key, ok := strings.CutPrefix(k.name, jobSection+"."); ok && !f.Anonymous && named(key, f.Name) {
				all[k.name] = f.Index
			}
		}
	}
	return all
})

// shown returns the settings that the entry sets or drops, and its command. A derived value that
// differs from that of job: is one of them.
func (e *entryOf) shown(j *jobSettings, cmd given, get func(string) given, c *Config) []Value {
	var values []Value
	derived := derivedOf(j, get)
	for _, k := range keys() {
		g, ok := e.own[k.name]
		text, isDerived := derived[k.name]
		switch {
		case k.kind == command:
			g = cmd
		case k.name == "job.name":
			continue
		case !ok && isDerived:
			if same, _ := textOf(c.values, k.name); same == text {
				continue
			}
			g = get(k.name)
		case !ok:
			continue
		}
		values = g.appendTo(values, k.name, derived)
	}
	return values
}

// key returns the name below jobs: of a key of job:.
func (e *entryOf) key(name string) string {
	switch {
	case e.ofCrontab && name == jobSection:
		return e.at.at()
	case e.ofCrontab:
		return e.at.at() + ": " + name
	}
	return jobsSection + "." + e.name + strings.TrimPrefix(name, jobSection)
}

// subject is the entry in an error.
func (e *entryOf) subject() string { return e.at.at() + ": " + jobsSection + "." + e.name }

// OfJob returns an error of one of many jobs. Packages below do not know that there are many, and name
// flags, which are refused then: OfJob names the settings of that job instead. The error wraps err,
// which may be nil.
func OfJob(job string, err error) error {
	if err == nil {
		return nil
	}
	if text := keysOfJob(job, err.Error()); text != err.Error() {
		return &ofJobError{text, err}
	}
	return err
}

type ofJobError struct {
	text string
	err  error
}

func (e *ofJobError) Error() string { return e.text }
func (e *ofJobError) Unwrap() error { return e.err }

// wordsOfText finds flags in a text, and what is no flag: a quoted word, and the subject before a colon.
var wordsOfText = lazyRegexp(`"(?:[^"\\]|\\.)*"|(?:^|[ (])--[a-z][a-z-]*:?`)

// keysOfJob returns the text with the keys of a job in place of their flags.
func keysOfJob(job, text string) string {
	return wordsOfText().ReplaceAllStringFunc(text, func(word string) string {
		before, flag, _ := strings.Cut(word, "--")
		for _, k := range keys() {
			if k.flag == flag && flag != "" && ofJob(k.name) {
				return before + jobsSection + "." + job + strings.TrimPrefix(k.name, jobSection)
			}
		}
		return word
	})
}

// jobReport collects what is found in many jobs. What is wrong in the defaults is reported once.
type jobReport struct {
	*loader
	config   *Config
	shared   findings       // of the defaults
	reported map[Error]bool // a warning too
}

// add reports what was found in one job.
func (r *jobReport) add(e *entryOf, found findings) {
	same := func(err error) func(error) bool { // two of them may have the same text
		return func(other error) bool { return *other.(*Error) == *err.(*Error) }
	}
	for _, p := range found.problems {
		problem := *p.(*Error)
		if r.reported[problem] {
			continue
		}
		r.reported[problem] = true
		if r.config.Crontab == "" { // the flags are for all jobs of a crontab
			problem.Problem = keysOfJob(e.name, problem.Problem)
		}
		at, key, inherited := strings.Cut(problem.Source, ": "+jobSection+".")
		switch {
		case slices.ContainsFunc(r.shared.problems, same(p)):
			problem.Problem += " (first found in " + e.key(jobSection) + ")"
		case inherited:
			problem.Source = e.at.at() + ": " + strings.TrimPrefix(e.key(jobSection+"."+key), e.at.at()+": ")
			problem.Problem += " (the value is from job: in " + at + ")"
		}
		r.problems = append(r.problems, &problem)
	}
	for _, p := range found.unfit {
		switch {
		case !slices.ContainsFunc(r.shared.unfit, same(p)):
			if r.config.unfit == nil {
				r.config.unfit = map[string][]string{}
			}
			r.config.unfit[e.name] = append(r.config.unfit[e.name], p.Error())
		case !r.reported[*p.(*Error)]: // no job that inherits it can start
			r.reported[*p.(*Error)] = true
			r.unfit = append(r.unfit, p)
		}
	}
	for _, w := range found.warnings {
		if strings.HasPrefix(w, jobSection+".") && !slices.Contains(r.shared.warnings, w) {
			w = e.key(w)
		}
		if !r.reported[Error{Problem: w}] && len(r.warnings) < maxProblems {
			r.reported[Error{Problem: w}] = true
			r.warnings = append(r.warnings, w)
		}
	}
}
