package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gophd/internal/credentials"
	"gophd/internal/crontab"
	"gophd/internal/schedule"
)

const (
	crontabKey = "config.crontab"
	watchKey   = "config.watch"
)

// crontabKeys are the settings about the crontab that have a flag for each subcommand that reads a config.
var crontabKeys = []string{crontabKey, "config.crontab_system", "config.crontab_seconds"}

// cronPath is the PATH of a command of cron(8), _PATH_DEFPATH.
const cronPath = "/usr/bin:/bin"

// namesCrontab returns true if flags or environment name a crontab.
func (l *loader) namesCrontab() bool {
	_, ok := l.flag("crontab")
	return ok || l.env[variable(crontabKey)] != ""
}

// readCrontab reads the crontab that the settings name, if they name one, and adds an entry for each of its
// jobs. own are the settings of the config file; environment and flags precede them.
func (s *sorter) readCrontab(environment, flags map[string]given) {
	get := func(name string) (given, bool) {
		for _, layer := range []map[string]given{flags, environment, s.own} {
			if g, ok := layer[name]; ok {
				return g, true
			}
		}
		return given{}, false
	}
	g, ok := get(crontabKey)
	if !ok {
		for _, name := range crontabKeys[1:] {
			if g, ok := get(name); ok && g.value == true {
				s.rejectKey(g, "there is no crontab; set "+crontabKey+", or leave it out")
			}
		}
		return
	}
	path, valid := g.value.(string)
	switch {
	case !valid, checkPath(path) != nil: // it was rejected
		return
	case s.jobsAt != "":
		s.rejectKey(g, s.jobsAt+" has jobs: too; leave one of them out")
		return
	}
	path = s.absolute(path)
	s.crontab, s.jobsAt = path, path
	for _, name := range append([]string{"job.command", "job.year", "job.stdin_text"}, timing...) {
		if g, ok := get(name); ok && g.value != false {
			s.rejectKey(g, "each line of the crontab says that; leave it out")
		}
	}
	data, err := s.text(path, "crontab")
	if err != nil {
		problem := readProblem(err)
		if isDirectory(path) {
			problem = "a directory; name one of the crontabs in it"
		}
		s.problems = append(s.problems, &Error{Source: g.subject, Value: visible(g.text), Problem: problem, err: err})
		return
	}
	o := crontab.Options{System: path == "/etc/crontab" || filepath.Dir(path) == "/etc/cron.d"}
	if g, ok := get("config.crontab_system"); ok {
		o.System = g.value == true
	}
	if g, ok := get("config.crontab_seconds"); ok {
		o.Seconds = g.value == true
	}
	t, wrong := crontab.Parse(string(data), o)
	s.parsed = t
	for _, j := range t.Jobs { // all errors of the file are reported at once
		if _, err := schedule.Parse(j.Schedule, schedule.Options{Year: o.Seconds}); err != nil {
			wrong = append(wrong, &crontab.Error{Line: j.Line, Problem: err.Error()})
		}
	}
	slices.SortStableFunc(wrong, func(a, b *crontab.Error) int { return cmp.Compare(a.Line, b.Line) })
	for _, err := range wrong {
		if len(s.problems) > maxProblems {
			return
		}
		s.reject(position(path, err.Line), "", err.Problem)
	}
	lines := &crontabLines{sorter: s, path: path, seconds: o.Seconds, get: get, inherits: inherits(get), owners: map[string]*cronOwner{},
		checked: map[int]bool{}, environments: map[variablesOf][]pair{}}
	if g, ok := get("job.env"); ok {
		lines.given = g.pairs
	}
	for i := range t.Jobs {
		if len(s.problems) > maxProblems {
			return
		}
		lines.add(&t.Jobs[i])
	}
	if len(t.Jobs) == 0 && len(wrong) == 0 {
		s.reject(path, "", "no job; write a line such as 17 3 * * * /usr/local/bin/backup")
	}
}

// inherits returns true if the user has said that commands get gophd's own environment. As with cron they do
// not by default.
func inherits(get func(string) (given, bool)) bool {
	g, ok := get("job.clear_env")
	return ok && g.value == false
}

// crontabLines makes entries of the lines of a crontab.
type crontabLines struct {
	*sorter
	path         string
	seconds      bool
	get          func(string) (given, bool) // a setting from flags, environment and config file
	inherits     bool                       // gophd's own environment
	given        []pair                     // variables from flags, environment and config file
	owners       map[string]*cronOwner
	checked      map[int]bool // lines with a variable
	environments map[variablesOf][]pair
}

// cronOwner is a user with jobs.
type cronOwner struct {
	name, home string
	dir        string // home, or / if it does not exist
	other      bool   // not the one that runs gophd
}

// variablesOf identifies the variables of a job: jobs share the slice.
type variablesOf struct {
	first *crontab.Variable
	n     int
	owner *cronOwner
}

// add adds the entry of one job.
func (c *crontabLines) add(j *crontab.Job) {
	at := position(c.path, j.Line)
	e := &entryOf{name: j.Name, ofCrontab: true, at: place{j.Name, c.path, j.Line}, own: map[string]given{}}
	if j.Named != 0 {
		if err := checkJobName(j.Name); err != nil {
			c.reject(position(c.path, j.Named)+": name:", visible(j.Name), err.Error())
			return
		}
	}
	name := j.User
	if g, ok := c.get("job.user"); ok && name == "" {
		name, _, _ = strings.Cut(g.text, ":")
	}
	owner := c.owner(name)
	set := func(name string, g given) {
		if g.subject == "" {
			g.source, g.subject = at, at
		}
		g.entry = true
		e.own[name] = g
	}
	read := func(name, text string) { set(name, c.read(c.table[name], given{text: text, source: at, subject: at})) }
	from := func(v crontab.Variable, text string) given {
		where := position(c.path, v.Line)
		return given{text: text, source: where, subject: where + ": " + v.Name}
	}

	words := strings.TrimLeft(j.Schedule, " \t")
	set("job.schedule", given{text: words, value: words, indent: len(j.Schedule) - len(words)})
	if c.seconds {
		read("job.year", "true")
	}
	if zone, ok := j.Get("CRON_TZ"); ok && zone.Value != "" {
		set("job.timezone", c.read(c.table["job.timezone"], from(zone, zone.Value)))
	}
	if delay, ok := j.Get("RANDOM_DELAY"); ok && delay.Value != "0" && delay.Value != "" {
		c.delay(delay, from, set)
	}
	shell := "/bin/sh"
	if v, ok := j.Get("SHELL"); ok {
		shell = v.Value
	}
	set("job.command", given{words: []string{shell, "-c", j.Command}, value: []string{shell, "-c", j.Command}})
	if shell == "/bin/sh" {
		read("job.command", j.Command)
	}
	if j.Input != "" {
		set("job.stdin_text", given{text: j.Input, value: j.Input})
	}
	if owner.other && j.User != "" {
		read("job.user", j.User)
	}
	c.mail(j, owner, from, set)
	c.surroundings(j, owner, from, set)
	c.doubtUser(j, at)
	c.entries = append(c.entries, e)
}

// delay reads RANDOM_DELAY, in minutes.
func (c *crontabLines) delay(v crontab.Variable, from func(crontab.Variable, string) given, set func(string, given)) {
	g := from(v, v.Value)
	if n, err := strconv.ParseUint(v.Value, 10, 16); err == nil {
		g.text = strconv.FormatUint(n, 10) + "m"
		set("job.splay", c.read(c.table["job.splay"], g))
	} else if !c.checked[v.Line] {
		c.checked[v.Line] = true
		c.reject(g.subject, visible(v.Value), "not a number of minutes; write one from 0 to 65535")
	}
}

// mail sets who gets the output: MAILTO, also if it is empty, otherwise what the user has set for all jobs,
// otherwise the user of the command.
func (c *crontabLines) mail(j *crontab.Job, owner *cronOwner, from func(crontab.Variable, string) given, set func(string, given)) {
	to, own := j.Get("MAILTO")
	switch _, ok := c.get("job.mail_to"); {
	case own:
		set("job.mail_to", c.read(c.table["job.mail_to"], from(to, to.Value)))
	case !ok:
		set("job.mail_to", given{text: owner.name, value: owner.name})
	}
	if v, ok := j.Get("MAILFROM"); ok {
		set("job.mail_from", c.read(c.table["job.mail_from"], from(v, v.Value)))
	}
}

// surroundings sets the environment of a command, and its working directory, which is HOME.
func (c *crontabLines) surroundings(j *crontab.Job, owner *cronOwner, from func(crontab.Variable, string) given,
	set func(string, given)) {
	of := variablesOf{n: len(j.Variables), owner: owner}
	if of.n > 0 {
		of.first = &j.Variables[0]
	}
	pairs, ok := c.environments[of]
	if !ok {
		pairs = c.environment(j, owner)
		c.environments[of] = pairs
	}
	if _, ok := c.get("job.chdir"); !ok {
		home := given{text: owner.dir}
		if v, ok := j.Get("HOME"); ok {
			home = from(v, v.Value)
		}
		if filepath.IsAbs(home.text) {
			set("job.chdir", c.read(c.table["job.chdir"], home))
		}
	}
	if len(pairs) > 0 {
		set("job.env", given{pairs: pairs})
	}
	if !c.inherits {
		set("job.clear_env", given{text: "true", value: true})
	}
}

// environment returns the variables of a command: those of cron(8), which the user's own and those of the
// crontab precede. LOGNAME and USER cannot be changed.
func (c *crontabLines) environment(j *crontab.Job, owner *cronOwner) (pairs []pair) {
	add := func(name, value, source string) { pairs = with(pairs, pair{name, value, source}) }
	if !c.inherits {
		usual := map[string]string{"SHELL": "/bin/sh", "HOME": owner.home, "PATH": cronPath}
		if zone, ok := c.env["TZ"]; ok {
			usual["TZ"] = zone
		}
		for _, name := range slices.Sorted(maps.Keys(usual)) {
			if !slices.ContainsFunc(c.given, func(p pair) bool { return p.name == name }) {
				add(name, usual[name], defaultSource)
			}
		}
	}
	for _, v := range j.Variables {
		where := position(c.path, v.Line)
		if !c.checked[v.Line] {
			c.checked[v.Line] = true
			if err := checkVariable(v.Name + "=" + v.Value); err != nil {
				c.reject(where, "", err.Error())
			}
		}
		add(v.Name, v.Value, where)
	}
	if !c.inherits {
		add("LOGNAME", owner.name, defaultSource)
		add("USER", owner.name, defaultSource)
	}
	return pairs
}

// owner returns the user with that name, or for "" the one that runs gophd. A user that does not exist is
// found later, by the checks of job.user.
func (c *crontabLines) owner(name string) *cronOwner {
	if o, ok := c.owners[name]; ok {
		return o
	}
	o := &cronOwner{name: name, home: "/", other: true}
	if name == "" {
		o.other = false
		o.name = cmp.Or(c.env["LOGNAME"], c.env["USER"], strconv.Itoa(c.UID))
		o.home = cmp.Or(c.Home, "/")
		if u, err := user.LookupId(strconv.Itoa(c.UID)); err == nil {
			o.name, o.home = u.Username, u.HomeDir
		}
	} else if u, err := credentials.LookupUser(name); err == nil {
		o.name, o.home, o.other = u.Name, u.Home, u.UID != c.UID
	}
	// The home of a user of the system may not exist, and cron runs its jobs all the same.
	o.dir = o.home
	if info, err := os.Stat(o.home); err != nil && errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		o.dir = "/"
	}
	c.owners[name] = o
	return o
}

// doubtUser warns of a command that seems to be a user: a system crontab elsewhere than in /etc.
func (c *crontabLines) doubtUser(j *crontab.Job, at string) {
	first, _, more := strings.Cut(j.Command, " ")
	if more && first == "root" && j.User == "" && len(c.warnings) < maxProblems {
		c.warnings = append(c.warnings, fmt.Sprintf("%s: root is the command here; if it is the user, add --system", at))
	}
}
