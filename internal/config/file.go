package config

import (
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
)

// formats are the extensions of a config file, in the order in which they are named in messages.
var formats = []string{"yaml", "yml", "toml", "json", "ini"}

const systemDir = "/etc/gophd"

// maxFile is far beyond any real config file, and small enough to be read whole.
const maxFile = 1 << 20

// locate returns the absolute path of the config file, "" when there is none. A named one must be
// there. The working directory counts only when no command was given, so that a stray file in it
// cannot change a job.
func (l *loader) locate() string {
	named, ok := l.flag(configFlag)
	subject := "--" + configFlag
	if !ok {
		named, subject = l.env[configVariable], configVariable
		ok = named != ""
	}
	if ok {
		l.explicit = true
		if err := checkPath(named); err != nil {
			l.refuse(subject, visible(named), err.Error())
			return ""
		}
		if !slices.Contains(formats, extension(named)) {
			l.refuse(subject, visible(named), "its name does not say its format; end it in .yaml, .yml, .toml, .json or .ini")
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

// searched are the folders where a config file is looked for, the first first.
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

// found returns the one config file of a folder. A link that leads nowhere counts: it was meant.
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
		l.refuse(strings.Join(names, " and "), "", "two config files in one folder; remove one, or choose with --config")
	}
	return names[0]
}

// xdg is a folder of the XDG Base Directory Specification, "" without a home. It says that a
// relative path in the variable is to be ignored.
func (l *loader) xdg(name, fallback string) string {
	if dir := l.env[name]; filepath.IsAbs(dir) {
		return dir
	}
	if l.Home == "" {
		return ""
	}
	return filepath.Join(l.Home, fallback)
}

// folders returns the folders for what lives as long as the system is up, for what stays, and for logs.
func (l *loader) folders() (runtime, state, log string) {
	if l.UID == 0 {
		runtime, state, log = "/run/gophd", "/var/lib/gophd", "/var/log/gophd"
	} else {
		tmp := l.env["TMPDIR"]
		if !filepath.IsAbs(tmp) {
			tmp = "/tmp"
		}
		runtime = filepath.Join(tmp, "gophd-"+strconv.Itoa(l.UID))
		if dir := l.env["XDG_RUNTIME_DIR"]; filepath.IsAbs(dir) {
			runtime = filepath.Join(dir, "gophd")
		}
		state = runtime // the last resort of a user without a home
		if home := l.xdg("XDG_STATE_HOME", ".local/state"); home != "" {
			state = filepath.Join(home, "gophd")
		}
		log = state
	}
	if dir := l.env["GOPHD_RUNTIME_DIR"]; dir != "" {
		runtime = l.absolute(dir)
	}
	if dir := l.env["GOPHD_STATE_DIR"]; dir != "" {
		state = l.absolute(dir)
		log = state
	}
	return runtime, state, log
}

// readFile returns the own settings of the file and the user's keys, and refuses what is wrong.
func (l *loader) readFile(path string) (map[string]given, []Value) {
	data, err := l.bytes(path, "config file")
	if err != nil {
		l.refuse(path, "", err.Error())
		return nil, nil
	}
	entries, bad := parse(extension(path), data)
	s := sorter{loader: l, path: path, own: map[string]given{}, seen: map[string]entry{}, said: map[string]bool{}}
	before := len(l.problems)
	for _, e := range entries {
		s.add(e)
		if len(l.problems) > maxProblems {
			return nil, nil
		}
	}
	if bad != nil {
		if len(l.problems) == before { // else it repeats what was said better
			l.refuse(place(path, bad.line), "", bad.problem)
		}
		return s.own, s.user
	}
	if _, ok := s.seen[restartKey]; !ok {
		l.refuse(path, "", missing(extension(path), s.said["config"]))
	}
	return s.own, s.user
}

// bytes reads a file of that kind, which must be one that can be read again at the next restart.
func (l *loader) bytes(path, kind string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return nil, plainly(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, plainly(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file; name a " + kind)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, plainly(err)
	}
	if len(data) > maxFile {
		return nil, errors.New("larger than 1 MiB; this is no " + kind)
	}
	if info.Mode().Perm()&0o002 != 0 {
		l.warnings = append(l.warnings, path+": anybody may change this file, and so what is run; chmod o-w it")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && foreign(int(st.Uid), l.UID) {
		l.warnings = append(l.warnings, fmt.Sprintf("%s: belongs to user %d, who may change what is run; chown it", path, st.Uid))
	}
	return data, nil
}

// foreign says whether a user with that UID cannot trust what the owner may change. Root is trusted.
func foreign(owner, uid int) bool { return owner != 0 && owner != uid }

// plainly drops operation and path from a file error; the path stands before it already.
func plainly(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func place(path string, line int) string { return path + ":" + strconv.Itoa(line) }

// missing is the refusal of a file without the key that the seed demands, with the line to add.
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

// sorter tells own settings from the user's.
type sorter struct {
	*loader
	path string
	own  map[string]given
	user []Value
	seen map[string]entry // by key, and the user's by variable
	said map[string]bool  // sections that were met
}

func (s *sorter) add(e entry) {
	subject := place(s.path, e.line) + ": "
	if len(e.key) > maxKey {
		s.refuse(subject+visible(shownKey(e.key)), "", fmt.Sprintf("a name of more than %d bytes", maxKey))
		return
	}
	section, rest, below := strings.Cut(e.key, ".")
	first := !s.said[section]
	s.said[section] = true
	switch near := nearest(section, s.sections); {
	case strings.ContainsFunc(e.key, unicode.IsControl):
		s.refuse(subject+visible(shownKey(e.key)), "", "a control character in a name")
	case section == "" || below && slices.Contains(strings.Split(rest, "."), ""):
		s.refuse(subject+visible(shownKey(e.key)), "", "an empty name; write section and key")
	case slices.Contains(laterSections, section):
		if first {
			s.refuse(subject+section, "", "this section is not in this version; remove it")
		}
	case !below:
		s.top(e, subject+visible(shownKey(e.key)))
	case slices.Contains(s.sections, section):
		s.setting(e, subject+visible(shownKey(e.key)))
	case near != "":
		if first {
			s.refuse(subject+visible(section), "", "no section of gophd; did you mean "+near+"? else rename your own")
		}
	default:
		s.users(e, subject+visible(shownKey(e.key)))
	}
}

// top handles what stands outside every section.
func (s *sorter) top(e entry, subject string) {
	switch {
	case e.form == null, e.form == empty: // a section, perhaps with nothing in it yet
	case e.form == odd:
		s.refuse(subject, "", e.wrong+"; write a section with keys below it")
	case slices.Contains(s.sections, e.key):
		s.refuse(subject, "", "a section, not a setting; write its keys below it")
	default:
		for _, k := range keys() {
			if strings.HasSuffix(k.name, "."+e.key) {
				s.refuse(subject, "", "stands outside every section; did you mean "+k.name+"?")
				return
			}
		}
		s.refuse(subject, "", "stands outside every section; put it below one, gophd's or yours")
	}
}

// twice refuses a name that was used before.
func (s *sorter) twice(name string, e entry, subject string) bool {
	before, found := s.seen[name]
	if !found {
		s.seen[name] = e
		return false
	}
	if before.key == e.key {
		s.refuse(subject, "", fmt.Sprintf("set before, in line %d; remove one", before.line))
	} else {
		s.refuse(subject, "", fmt.Sprintf(
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
		s.refuse(subject, "", unknown(e.key))
		return
	}
	if s.twice(e.key, e, subject) {
		return
	}
	g := given{text: e.text, source: place(s.path, e.line), subject: subject, pairs: s.own[k.name].pairs}
	switch {
	case e.form == null:
		s.refuse(subject, "", "has no value; write one, or remove the line")
	case e.form == empty && k.kind == mapping && !below:
	case e.form == empty:
		s.refuse(subject, "", "an empty mapping; write a value, or remove the line")
	case e.form == odd:
		s.refuse(subject, "", e.wrong+"; write one value")
	case e.form == list && (below || k.kind != command && !k.kind.repeated()):
		s.refuse(subject, "", "a list; write one value")
	case e.form == list && len(e.list) == 0 && k.kind == command:
		s.refuse(subject, "", "an empty list; write the command")
	case e.form == list && len(e.list) == 0:
		s.refuse(subject, "", "an empty list; write a value, or remove the line")
	case strings.Contains(e.text+strings.Join(e.list, ""), "\x00"):
		s.refuse(subject, "", "holds a NUL byte")
	case k.kind == command && e.form == scalar && strings.TrimSpace(e.text) == "":
		s.refuse(subject, visible(e.text), "an empty line for the shell; write the command")
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

// mapped finds the mapping that a name is below, and its name there.
func mapped(name string) (k key, item string, ok bool) {
	for _, k := range keys() {
		if item, ok := strings.CutPrefix(name, k.name+"."); ok && k.kind == mapping {
			return k, item, true
		}
	}
	return key{}, "", false
}

// unknown finds the name that was meant: one that looks alike, else one of another section.
func unknown(name string) string {
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

// users handles a key that is handed to the command.
func (s *sorter) users(e entry, subject string) {
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
		s.refuse(subject, "", "becomes "+name+", which is gophd's own; rename it")
	case s.twice(name, e, subject):
	case e.form == odd:
		s.refuse(subject, "", e.wrong+" cannot reach the command; write a text")
	case e.form == list && slices.ContainsFunc(e.list, ambiguous):
		s.refuse(subject, "",
			"a list reaches the command joined by spaces, and one of its values is empty or holds a space; write one text")
	case strings.Contains(text, "\x00"):
		s.refuse(subject, "", "holds a NUL byte, which no environment variable can")
	default:
		source := place(s.path, e.line)
		if set := s.env[name]; set != "" {
			text, source = set, "environment "+name
		}
		s.user = append(s.user, Value{e.key, text, source})
	}
}

// ambiguous says that a value could not be told from its neighbours in a list joined by spaces.
func ambiguous(text string) bool { return text == "" || strings.ContainsFunc(text, unicode.IsSpace) }
