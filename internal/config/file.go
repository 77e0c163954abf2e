package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"gophd/internal/safefile"
)

// formats are the extensions of a config file, in the order in which messages list them.
var formats = []string{"yaml", "yml", "toml", "json", "ini"}

const systemDir = "/etc/gophd"

// maxFile is far larger than any real config file, and small enough to read at once.
const maxFile = 1 << 20

// locate returns the absolute path of the config file, or "" if there is none. A file that was
// named must exist. The working directory is searched only when no command was given, so that a
// file that happens to be there cannot change a job.
func (l *loader) locate() string {
	named, ok := l.flag(configFlag)
	subject := "--" + configFlag
	if !ok {
		named, subject = l.env[configVariable], configVariable
		ok = named != ""
	}
	if ok {
		l.explicit = true
		if l.isUnexpanded(subject, named, configVariable) {
			return ""
		}
		if err := checkPath(named); err != nil {
			l.reject(subject, visible(named), err.Error())
			return ""
		}
		if !slices.Contains(formats, extension(named)) {
			l.reject(subject, visible(named),
				"the extension is not a known format; use .yaml, .yml, .toml, .json or .ini")
			return ""
		}
		return l.absolute(named)
	}
	for _, dir := range l.searched() {
		if path := l.found(dir); path != "" {
			return path
		}
	}
	return ""
}

func extension(path string) string { return strings.TrimPrefix(filepath.Ext(path), ".") }

// searched returns the directories that are searched for a config file, in order.
func (l *loader) searched() []string {
	var dirs []string
	if len(l.Command) == 0 {
		dirs = append(dirs, l.Dir)
	}
	if home := l.xdg("XDG_CONFIG_HOME", ".config"); home != "" {
		dirs = append(dirs, filepath.Join(home, "gophd"))
	}
	if l.SystemDir != "" {
		return append(dirs, l.SystemDir)
	}
	return append(dirs, systemDir)
}

// found returns the only config file of a directory, or "". A dangling symbolic link counts as a
// file, so that Load reports it.
func (l *loader) found(dir string) string {
	var names []string
	for _, format := range formats {
		path := filepath.Join(dir, "gophd."+format)
		if _, err := os.Lstat(path); err == nil {
			names = append(names, path)
		}
	}
	if len(names) == 0 {
		return ""
	}
	if len(names) > 1 {
		l.reject(strings.Join(names, " and "), "",
			"two config files in one directory; remove one, or choose with --config")
	}
	return names[0]
}

// xdg returns a directory of the XDG Base Directory Specification, or "" without a home. The
// specification says to ignore a relative path in the variable; a relative home is none either.
func (l *loader) xdg(name, fallback string) string {
	if dir := l.env[name]; filepath.IsAbs(dir) {
		return dir
	}
	if !filepath.IsAbs(l.Home) {
		return ""
	}
	return filepath.Join(l.Home, fallback)
}

// directories returns the directories for files that last until the next boot, for files that
// survive it, and for logs. A default of a user other than root that cannot be created is replaced
// by the next one: a container platform sets HOME=/ for a user without a home, and a user switch
// leaves the XDG_RUNTIME_DIR of another user.
func (l *loader) directories() (runtime, state, log string) {
	if l.UID == 0 {
		runtime, state, log = "/run/gophd", "/var/lib/gophd", "/var/log/gophd"
	} else {
		var temporary []string
		if dir := l.env["XDG_RUNTIME_DIR"]; filepath.IsAbs(dir) {
			temporary = append(temporary, filepath.Join(dir, "gophd"))
		}
		own := "gophd-" + strconv.Itoa(l.UID)
		if tmp := l.env["TMPDIR"]; filepath.IsAbs(tmp) {
			temporary = append(temporary, filepath.Join(tmp, own))
		}
		temporary = append(temporary, filepath.Join("/tmp", own))
		runtime, _ = creatable(temporary)
		var lasting []string
		if home := l.xdg("XDG_STATE_HOME", ".local/state"); home != "" {
			lasting = append(lasting, filepath.Join(home, "gophd"))
		}
		if filepath.IsAbs(l.env["XDG_STATE_HOME"]) {
			state = lasting[0] // a user who names a directory gets that one or an error
		} else {
			state, l.unusable = creatable(append(lasting, temporary...))
		}
		log = state
	}
	if dir := l.env["GOPHD_RUNTIME_DIR"]; dir != "" {
		runtime = l.absolute(dir)
	}
	if dir := l.env["GOPHD_STATE_DIR"]; dir != "" {
		state, l.unusable = l.absolute(dir), nil
		log = state
	}
	return runtime, state, log
}

// creatable returns the first directory that exists or can be created, and why the first of all
// cannot. It returns the first one if none can.
func creatable(dirs []string) (dir string, first error) {
	for i, dir := range dirs {
		_, err := safefile.Creatable(dir)
		if i == 0 {
			first = err
		}
		if err == nil {
			return dir, first
		}
	}
	return dirs[0], nil
}

// readFile returns gophd's settings in the file and the user's keys, and rejects invalid ones.
func (l *loader) readFile(path string) (map[string]given, []Value) {
	data, err := l.text(path, "config file")
	if err != nil {
		l.problems = append(l.problems, &Error{Source: path, Problem: err.Error(), err: err})
		return nil, nil
	}
	entries, bad := parse(extension(path), data)
	s := sorter{
		loader: l, path: path,
		own: map[string]given{}, seen: map[string]entry{}, sectionSeen: map[string]bool{},
	}
	before := len(l.problems)
	for _, e := range entries {
		s.add(e)
		if len(l.problems) > maxProblems {
			return nil, nil
		}
	}
	if bad != nil {
		if len(l.problems) == before { // otherwise it repeats a better error
			l.reject(position(path, bad.line), "", bad.problem)
		}
		return s.own, s.user
	}
	if _, ok := s.seen[restartKey]; !ok {
		l.reject(path, "", missing(extension(path), s.sectionSeen["config"]))
	}
	return s.own, s.user
}

// text reads a file of that kind, without a byte order mark. It must be a regular file, so that the
// next restart can read it again. The error is an *unreadable if nothing was read.
func (l *loader) text(path, kind string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return nil, &unreadable{withoutPath(err)}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, &unreadable{withoutPath(err)}
	}
	if !info.Mode().IsRegular() {
		return nil, &unreadable{errors.New("not a regular file; name a " + kind)}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, &unreadable{withoutPath(err)}
	case len(data) > maxFile:
		return nil, errors.New("larger than 1 MiB; not a " + kind)
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return nil, errors.New("UTF-16 text, as some Windows editors save it; save the file as UTF-8")
	}
	if info.Mode().Perm()&0o002 != 0 {
		l.warnings = append(l.warnings, path+": writable by every user, who could change what runs; fix it with chmod o-w")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && foreign(int(st.Uid), l.UID) {
		l.warnings = append(l.warnings,
			fmt.Sprintf("%s: owned by user %d, who could change what runs; fix it with chown", path, st.Uid))
	}
	if link, err := os.Lstat(path); err == nil && link.Mode()&fs.ModeSymlink != 0 {
		if st, ok := link.Sys().(*syscall.Stat_t); ok && foreign(int(st.Uid), l.UID) {
			l.warnings = append(l.warnings, fmt.Sprintf("%s: a symbolic link of user %d, who could change what runs; "+
				"name the file itself, or fix it with chown -h", path, st.Uid))
		}
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil
}

// unreadable is the error of text for a file that is missing here or cannot be read.
type unreadable struct{ error }

func (e *unreadable) Unwrap() error { return e.error }

// foreign reports whether a user with that UID cannot trust a file of the owner. Root is trusted.
func foreign(owner, uid int) bool { return owner != 0 && owner != uid }

// withoutPath drops operation and path from a file error, because the message names the path
// already.
func withoutPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func position(path string, line int) string { return path + ":" + strconv.Itoa(line) }

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

// sorter separates gophd's settings from the user's.
type sorter struct {
	*loader
	path        string
	own         map[string]given
	user        []Value
	seen        map[string]entry // by key; the user's by environment variable
	sectionSeen map[string]bool  // sections read so far
}

func (s *sorter) add(e entry) {
	subject := position(s.path, e.line) + ": "
	if len(e.key) > maxKey {
		s.reject(subject+visible(shownKey(e.key)), "", fmt.Sprintf("a name of more than %d bytes", maxKey))
		return
	}
	section, rest, below := strings.Cut(e.key, ".")
	first := !s.sectionSeen[section]
	s.sectionSeen[section] = true
	switch near := nearest(section, s.sections); {
	case strings.ContainsFunc(e.key, unicode.IsControl):
		s.reject(subject+visible(shownKey(e.key)), "", "a control character in a name")
	case section == "" || below && slices.Contains(strings.Split(rest, "."), ""):
		s.reject(subject+visible(shownKey(e.key)), "", "an empty name; write section and key")
	case slices.Contains(laterSections, section):
		if first {
			s.reject(subject+section, "", "this section is not in this version; remove it")
		}
	case !below:
		s.topLevel(e, subject+visible(shownKey(e.key)))
	case slices.Contains(s.sections, section):
		s.setting(e, subject+visible(shownKey(e.key)))
		s.doubt(e, subject+visible(shownKey(e.key)))
	case near != "":
		if first {
			s.reject(subject+visible(section), "", "no section of gophd; did you mean "+near+"? otherwise rename your own")
		}
	default:
		s.userKey(e, subject+visible(shownKey(e.key)))
		s.doubt(e, subject+visible(shownKey(e.key)))
	}
}

// doubt warns of a value that may end with a comment. A command may have both: it is a line for the
// shell.
func (s *sorter) doubt(e entry, subject string) {
	if e.comment && e.key != "job.command" && len(s.warnings) < maxProblems {
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
		s.reject(subject, "", "stands outside every section; put it below one, gophd's or yours")
	}
}

// isDuplicate rejects a name that was used before.
func (s *sorter) isDuplicate(name string, e entry, subject string) bool {
	before, found := s.seen[name]
	if !found {
		s.seen[name] = e
		return false
	}
	if before.key == e.key {
		s.reject(subject, "", fmt.Sprintf("set before, in line %d; remove one", before.line))
	} else {
		s.reject(subject, "", fmt.Sprintf(
			"becomes %s, as %s in line %d does; rename one", name, visible(shownKey(before.key)), before.line))
	}
	return true
}

func (s *sorter) setting(e entry, subject string) {
	k, ok := s.table[e.key]
	item, below := "", false
	if !ok {
		k, item, below = mapped(e.key)
	}
	if !ok && !below {
		s.reject(subject, "", unknown(e.key))
		return
	}
	if s.isDuplicate(e.key, e, subject) {
		return
	}
	g := given{text: e.text, source: position(s.path, e.line), subject: subject, pairs: s.own[k.name].pairs}
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
		s.reject(subject, visible(e.text),
			"a comment needs a line of its own; a value that contains \" ;\" or \" #\" needs quotes")
	case k.kind == command && e.form == scalar && strings.TrimSpace(e.text) == "":
		s.reject(subject, visible(e.text), "an empty line for the shell; write the command")
	case below:
		s.own[k.name] = s.pair(k, g, item+"="+e.text)
	case k.kind == mapping && e.form == list:
		for _, text := range e.list {
			g = s.pair(k, g, text)
		}
		s.own[k.name] = g
	case k.kind.list() && e.form == list:
		g.text = strings.Join(e.list, ",")
		s.own[k.name] = s.read(k, g)
	default:
		g.words = e.list
		s.own[k.name] = s.read(k, g)
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

// unknown returns the error for an unknown setting. It suggests a name that looks alike, or the
// same name in another section.
func unknown(name string) string {
	if now, ok := renamed[name]; ok {
		return "renamed; write " + now
	}
	var all, alike []string
	section, last := name[:strings.LastIndexByte(name, '.')], name[strings.LastIndexByte(name, '.')+1:]
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
	if near := nearest(name, all); near != "" {
		return "no such setting; did you mean " + near + "?"
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
	reserved := slices.Contains(ownVariables, name) || hasOwnPrefix(name, s.sections) || hasOwnPrefix(name, laterSections)
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
