package config

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"gophd/internal/crontab"
)

// AddCrontabFlags adds only the flags that name and describe a crontab to fs.
func AddCrontabFlags(fs *pflag.FlagSet) {
	for _, k := range keys() {
		if slices.Contains(crontabKeys, k.name) {
			addFlag(fs, k)
		}
	}
}

// ConvertCrontab returns a YAML config file with the jobs of the crontab that the flags of the request name,
// as they are with --crontab and no other setting. It keeps comments. The warnings are one line each.
func ConvertCrontab(req Request) (yaml []byte, warnings []string, err error) {
	private := Private(req.Env)
	req.Env, req.NeedCommand = private, false
	l := newLoader(req)
	l.noFile = true
	c, files, err := l.load()
	if err != nil {
		return nil, nil, err
	}
	w := &converter{file: c.Crontab, jobs: files.entries, table: files.parsed}
	w.write(c.Name)
	return w.b.Bytes(), c.Warnings, w.err
}

// converter writes the entries of a crontab as YAML.
type converter struct {
	b     bytes.Buffer
	err   error // the first text that YAML cannot have
	file  string
	jobs  []*entryOf
	table crontab.Table
}

// convertedKeys are the settings that a line of a crontab can have, in the order in which they are written.
var convertedKeys = []string{"job.schedule", "job.timezone", "job.year", "job.splay", "job.command", "job.stdin_text", "job.user",
	"job.chdir", "job.clear_env", "job.env", "job.mail_to", "job.mail_from"}

func (w *converter) write(name string) {
	w.line(0, "# Made from "+commentLine(w.file)+" by gophd convert crontab. Run it with gophd run -c FILE.")
	w.line(0, "config:")
	w.line(1, "auto_restart_interval: 24h")
	w.line(1, "name: "+w.quoted(name))
	shared, env := w.shared()
	if len(shared)+len(env) > 0 {
		w.line(0, "job:")
		w.settings(1, w.jobs[0], func(name string) bool { return shared[name] }, func(p pair) bool { return env[p.name] })
	}
	w.line(0, "jobs:")
	for i, e := range w.jobs {
		w.comments(1, w.table.Jobs[i].Comments)
		w.line(1, e.name+":")
		w.settings(2, e, func(name string) bool { return !shared[name] }, func(p pair) bool { return !env[p.name] })
	}
	w.comments(0, w.table.Comments)
}

// shared returns the settings and the variables that are the same in all of several jobs. They are written
// once. What identifies a job is none.
func (w *converter) shared() (settings, env map[string]bool) {
	settings, env = map[string]bool{}, map[string]bool{}
	if len(w.jobs) < 2 {
		return settings, env
	}
	first := w.jobs[0].own
	for _, name := range convertedKeys {
		g, ok := first[name]
		if !ok || slices.Contains([]string{"job.schedule", "job.command", "job.stdin_text", "job.env"}, name) {
			continue
		}
		settings[name] = !slices.ContainsFunc(w.jobs, func(e *entryOf) bool {
			other, ok := e.own[name]
			return !ok || other.text != g.text
		})
		if !settings[name] {
			delete(settings, name)
		}
	}
	for _, p := range first["job.env"].pairs {
		same := func(q pair) bool { return q.name == p.name && q.text == p.text }
		if !slices.ContainsFunc(w.jobs, func(e *entryOf) bool { return !slices.ContainsFunc(e.own["job.env"].pairs, same) }) {
			env[p.name] = true
		}
	}
	return settings, env
}

// settings writes the chosen settings of an entry, and the chosen ones of its variables.
func (w *converter) settings(depth int, e *entryOf, choose func(string) bool, chooseVariable func(pair) bool) {
	for _, name := range convertedKeys {
		g, ok := e.own[name]
		key := strings.TrimPrefix(name, jobSection+".")
		switch {
		case name == "job.env":
			pairs := slices.DeleteFunc(slices.Clone(g.pairs), func(p pair) bool { return !chooseVariable(p) })
			if len(pairs) > 0 {
				w.line(depth, key+":")
			}
			for _, p := range pairs {
				w.line(depth+1, p.name+": "+w.quoted(p.text))
			}
		case !ok || !choose(name):
		case g.words != nil:
			w.line(depth, key+":")
			for _, word := range g.words {
				w.line(depth+1, "- "+w.quoted(word))
			}
		case g.value == true:
			w.line(depth, key+": true")
		default:
			w.line(depth, key+": "+w.quoted(g.text))
		}
	}
}

func (w *converter) comments(depth int, all []string) {
	for _, text := range all {
		w.line(depth, commentLine(text))
	}
}

func (w *converter) line(depth int, text string) {
	w.b.WriteString(strings.Repeat("  ", depth) + text + "\n")
}

// quoted returns a text as a YAML scalar, in single quotes if that needs no backslash and double quotes would.
func (w *converter) quoted(text string) string {
	if !utf8.ValidString(text) && w.err == nil {
		w.err = fmt.Errorf("%s: %s is not UTF-8, and a YAML file must be; save the crontab as UTF-8", filepath.Base(w.file), visible(text))
	}
	if strings.ContainsAny(text, `"\`) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '"', r == '\\':
			b.WriteString(`\` + string(r))
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	return `"` + b.String() + `"`
}

// commentLine returns a comment without what YAML does not allow in one.
func commentLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
}
