package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"gophd/internal/crontab"
	"gophd/internal/misspelled"
)

// missing returns the error for a file without the mandatory key, with the line to add.
func missing(format string, section bool) string {
	var add string
	switch {
	case format == "toml" && section:
		add = `auto_restart_interval = "24h" below [config]`
	case format == "toml":
		add = `config.auto_restart_interval = "24h" as the first line`
	case format == "json" && section:
		add = `"auto_restart_interval": "24h" to "config"`
	case format == "json":
		add = `"config": {"auto_restart_interval": "24h"}`
	case format == "ini" && section:
		add = `auto_restart_interval = 24h below [config]`
	case format == "ini":
		add = `config.auto_restart_interval = 24h as the first line`
	case section:
		add = `auto_restart_interval: 24h below config:`
	default:
		add = `config: {auto_restart_interval: 24h}`
	}
	return restartKey + " is missing; add " + add
}

// sorter separates gophd's settings, the entries of jobs: and the user's keys. It reads one file
// after the other.
type sorter struct {
	*loader
	path        string // of the file that is being read
	includes    []inclusion
	files       map[string]string // the files read so far, with the place that includes them
	own         map[string]given  // gophd's settings
	user        []Value
	entries     []*entryOf // of jobs:, in the order of the files
	byName      map[string]*entryOf
	jobsAt      string           // the place of jobs:, or the path of the crontab; "" without them
	crontab     string           // its absolute path; "" without one
	parsed      crontab.Table    // what it has
	seen        map[string]place // by key; the user's by environment variable
	sectionSeen map[string]bool  // sections read so far
}

// place is where a key was read.
type place struct {
	key, path string
	line      int
}

// entryOf is an entry of jobs: as it was read.
type entryOf struct {
	name      string
	at        place
	ofCrontab bool // it is a line of one
	whole     bool // its own section or mapping has been read
	ignored   bool // an error has been reported, and the rest would repeat it
	own       map[string]given
}

func (s *sorter) add(e entry) {
	section, rest, below := strings.Cut(e.key, ".")
	if e.form == begin && section != jobsSection {
		return
	}
	subject := position(s.path, e.line) + ": "
	if len(e.key) > maxKey {
		s.reject(subject+visible(shownKey(e.key)), "", fmt.Sprintf("a name of more than %d bytes", maxKey))
		return
	}
	first := !s.sectionSeen[section]
	s.sectionSeen[section] = true
	subject += visible(shownKey(e.key))
	switch {
	case strings.ContainsFunc(e.key, unicode.IsControl):
		s.reject(subject, "", "a control character in a name")
	case strings.Contains("."+e.key+".", ".."):
		s.reject(subject, "", "an empty name; write section and key")
	case section == jobsSection:
		s.job(e, rest, below, subject)
	case section == includeKey:
		s.inclusions(e, subject)
	case slices.Contains(laterSections, section):
		if first {
			s.reject(position(s.path, e.line)+": "+section, "", "this section is not in this version; remove it")
		}
	case !below:
		s.topLevel(e, subject)
	case slices.Contains(s.sections, section):
		s.setting(s.own, e.key, e, subject)
		s.doubt(e, e.key, subject)
	default:
		likely := append(slices.Clone(s.sections), jobsSection)
		likely = slices.DeleteFunc(likely, func(own string) bool { return own == apiSection }) // app is a usual name
		if near := misspelled.Nearest(section, likely); near != "" {
			if first {
				s.reject(position(s.path, e.line)+": "+visible(section), "",
					"no section of gophd; did you mean "+near+"? otherwise rename your own")
			}
			return
		}
		s.userKey(e, subject)
		s.doubt(e, e.key, subject)
	}
}

// job handles a key of jobs:. rest is the key below it.
func (s *sorter) job(e entry, rest string, below bool, subject string) {
	at := place{e.key, s.path, e.line}
	if s.jobsAt == "" {
		s.jobsAt = at.at()
	}
	section := e.form == begin || e.form == empty || e.form == null
	if !below {
		if !section {
			s.reject(subject, "", "not a map of jobs; write each job below it with its name, as in jobs.nightly.command")
		}
		return
	}
	name, key, below := strings.Cut(rest, ".")
	j := s.byName[name]
	if j == nil {
		j = &entryOf{name: name, at: at, own: map[string]given{}}
		s.byName[name] = j
		s.entries = append(s.entries, j)
		if err := checkJobName(name); err != nil {
			j.ignored = true
			s.reject(position(s.path, e.line)+": "+jobsSection+"."+visible(name), "", err.Error())
		}
	}
	whole := section && !below
	switch {
	case j.ignored:
	case j.at.path != s.path, whole && j.whole:
		j.ignored = true
		s.reject(position(s.path, e.line)+": "+jobsSection+"."+name, "",
			"defined before, in "+s.before(j.at)+"; remove one")
	case whole:
		j.whole = true
	case !below:
		fix := "write its settings below it, as in " + e.key + ".command"
		if k, ok := s.table[jobSection+"."+name]; ok && name != "name" {
			fix = "write " + jobsSection + ".NAME." + name + ", or " + k.name + " for all jobs"
		}
		s.reject(subject, "", "not a job; "+fix)
	case e.form == begin:
	case key == "name":
		s.reject(subject, "", "the name of this job is "+name+"; remove the line, or rename the entry")
	default:
		s.setting(j.own, jobSection+"."+key, e, subject)
		s.doubt(e, jobSection+"."+key, subject)
	}
}

// doubt warns of a value that may end with a comment. A command may have both: it is a line for the
// shell.
func (s *sorter) doubt(e entry, name, subject string) {
	if e.comment && name != "job.command" && len(s.warnings) < maxProblems {
		s.warnings = append(s.warnings, subject+": the value goes up to the end of the line, the ; or # included; "+
			"put it into quotes, or the comment on a line of its own")
	}
}

// topLevel handles a key outside every section.
func (s *sorter) topLevel(e entry, subject string) {
	switch {
	case e.form == null, e.form == empty: // an empty section
	case e.form == unsupported:
		s.reject(subject, "", e.wrong+"; write a section with keys below it")
	case slices.Contains(s.sections, e.key):
		s.reject(subject, "", "a section, not a setting; write its keys below it")
	default:
		for _, k := range keys() {
			if strings.HasSuffix(k.name, "."+e.key) {
				s.reject(subject, "", "stands outside every section; did you mean "+k.name+"?")
				return
			}
		}
		if near := misspelled.Nearest(e.key, []string{includeKey, jobsSection}); near != "" {
			s.reject(subject, "", "stands outside every section; did you mean "+near+"?")
			return
		}
		s.reject(subject, "", "stands outside every section; put it below one, gophd's or yours")
	}
}

// isDuplicate rejects a name that was used before.
func (s *sorter) isDuplicate(name string, e entry, subject string) bool {
	before, found := s.seen[name]
	if !found {
		s.seen[name] = place{e.key, s.path, e.line}
		return false
	}
	if before.key == e.key {
		s.reject(subject, "", fmt.Sprintf("set before, in %s; remove one", s.before(before)))
	} else {
		s.reject(subject, "", fmt.Sprintf(
			"becomes %s, as %s in %s does; rename one", name, visible(shownKey(before.key)), s.before(before)))
	}
	return true
}

func (p place) at() string { return position(p.path, p.line) }

// before describes an earlier place: its line, and its file if that is another one.
func (s *sorter) before(p place) string {
	if p.path != s.path {
		return p.at()
	}
	return fmt.Sprintf("line %d", p.line)
}

// setting reads one of gophd's settings into own. name is its name in the table of keys, which
// differs from that of the entry below jobs:.
func (s *sorter) setting(own map[string]given, name string, e entry, subject string) {
	k, ok := s.table[name]
	item, below := "", false
	if !ok {
		k, item, below = mapped(name)
	}
	if !ok && !below {
		s.reject(subject, "", s.unknown(name, e.key))
		return
	}
	if s.isDuplicate(e.key, e, subject) {
		return
	}
	g := given{text: e.text, source: position(s.path, e.line), subject: subject, pairs: own[k.name].pairs,
		entry: name != e.key}
	switch {
	case e.form == null:
		s.reject(subject, "", "has no value; write one, or remove the line")
	case e.form == empty && k.kind == mapping && !below:
	case e.form == empty:
		s.reject(subject, "", "an empty mapping; write a value, or remove the line")
	case e.form == unsupported:
		s.reject(subject, "", e.wrong+"; write one value")
	case e.form == list && (below || k.kind != command && !k.kind.repeated()):
		s.reject(subject, "", "a list; write one value")
	case e.form == list && len(e.list) == 0 && k.kind == command:
		s.reject(subject, "", "an empty list; write the command")
	case e.form == list && len(e.list) == 0:
		s.reject(subject, "", "an empty list; write a value, or remove the line")
	case strings.Contains(e.text+strings.Join(e.list, ""), "\x00"):
		s.reject(subject, "", "contains a NUL byte; remove it")
	case e.comment && !below && k.kind != command && k.kind != mapping:
		s.reject(subject, visible(e.text), commentFix)
	case k.kind == command && e.form == scalar && strings.TrimSpace(e.text) == "":
		s.reject(subject, visible(e.text), "an empty line for the shell; write the command")
	case below:
		own[k.name] = s.pair(k, g, item+"="+e.text)
	case k.kind == mapping && e.form == list:
		for _, text := range e.list {
			g = s.pair(k, g, text)
		}
		own[k.name] = g
	case k.kind == exclusions && e.form == list:
		g.text = joinExclusions(e.list)
		own[k.name] = s.read(k, g)
	case k.kind.list() && e.form == list:
		g.text = strings.Join(e.list, ",")
		own[k.name] = s.read(k, g)
	default:
		g.words = e.list
		own[k.name] = s.read(k, g)
	}
}

// mapped returns the mapping that contains a name, and the name within it.
func mapped(name string) (k key, item string, ok bool) {
	for _, k := range keys() {
		if item, ok := strings.CutPrefix(name, k.name+"."); ok && k.kind == mapping {
			return k, item, true
		}
	}
	return key{}, "", false
}

const commentFix = "a comment needs a line of its own; a value that contains \" ;\" or \" #\" needs quotes"

// unknown returns the error for an unknown setting, also of an entry of jobs:.
func (s *sorter) unknown(name, written string) string {
	if name == written {
		return unknown(name)
	}
	_, below, _ := strings.Cut(strings.TrimPrefix(name, jobSection+"."), ".")
	if _, ok := s.table[jobSection+"."+below]; ok {
		return "no such setting; " + jobNameFix
	}
	entry := strings.TrimSuffix(written, strings.TrimPrefix(name, jobSection+"."))
	return strings.ReplaceAll(unknown(name), jobSection+".", entry)
}

// unknown returns the error for an unknown setting. It suggests a name that looks alike, or the
// same name in another section.
func unknown(name string) string {
	if now, ok := renamed[name]; ok {
		return "renamed; write " + now
	}
	var all, alike []string
	section, last := name[:strings.LastIndexByte(name, '.')], name[strings.LastIndexByte(name, '.')+1:]
	if last == includeKey {
		return "no such setting; include stands outside every section, at the start of the file"
	}
	for _, k := range keys() {
		all = append(all, k.name)
		if k.name == section {
			return "no such setting; " + k.name + " takes one value"
		}
		if strings.HasSuffix(k.name, "."+last) {
			return "no such setting; did you mean " + k.name + "?"
		}
		if rest, ok := strings.CutPrefix(k.name, section+"."); ok {
			alike = append(alike, rest)
		}
	}
	if near := misspelled.Nearest(name, all); near != "" {
		return "no such setting; did you mean " + near + "?"
	}
	if strings.Contains(section, ".") { // as in job.rlimits.nofile
		if near := misspelled.Nearest(section, all); near != "" {
			return "no such setting; did you mean " + near + "?"
		}
	}
	if advice := otherAdvice(flagName("." + last)); advice != "" {
		return "no such setting; " + advice
	}
	words := []string{last}
	if i := strings.LastIndexByte(section, '.'); i >= 0 {
		words = append(words, section[i+1:]) // as in job.environment.TZ
	}
	for _, word := range words {
		if now, ok := otherKey(word); ok {
			return "no such setting; did you mean " + now + "?"
		}
	}
	if alike == nil {
		return "no such setting; remove it"
	}
	if len(alike) > 12 {
		return "no such setting; gophd config show lists those of " + section
	}
	return "no such setting; " + section + " has " + strings.Join(alike, ", ")
}

// userKey handles a key that is passed to the command.
func (s *sorter) userKey(e entry, subject string) {
	if e.form == empty {
		return
	}
	name := variable(e.key)
	reserved := slices.Contains(ownVariables, name) || hasOwnPrefix(name, s.sections) ||
		hasOwnPrefix(name, laterSections) || hasOwnPrefix(name, []string{jobsSection})
	text := e.text
	if e.form == list {
		text = strings.Join(e.list, " ")
	}
	switch {
	case reserved:
		s.reject(subject, "", "becomes "+name+", which is gophd's own; rename it")
	case s.isDuplicate(name, e, subject):
	case e.form == unsupported:
		s.reject(subject, "", e.wrong+" cannot reach the command; write a text")
	case e.form == list && slices.ContainsFunc(e.list, ambiguous):
		s.reject(subject, "",
			"a list reaches the command joined by spaces, and one of its values is empty or holds a space; write one text")
	case strings.Contains(text, "\x00"):
		s.reject(subject, "", "contains a NUL byte; remove it")
	default:
		source := position(s.path, e.line)
		if set := s.env[name]; set != "" {
			text, source = set, "environment "+name
		}
		s.user = append(s.user, Value{e.key, text, source})
	}
}

// ambiguous reports whether a value cannot be distinguished from its neighbors in a list that is
// joined by spaces.
func ambiguous(text string) bool { return text == "" || strings.ContainsFunc(text, unicode.IsSpace) }
