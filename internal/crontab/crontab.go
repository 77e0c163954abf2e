// Package crontab answers: what does a crontab say?
//
// Parse reads the text of a crontab as cron(8) does, see crontab(5): jobs, the variables that are set
// above each of them, and comments. It looks up no user and runs nothing.
package crontab

import (
	"fmt"
	"slices"
	"strings"
)

// Options say which of the formats of a crontab a text has.
type Options struct {
	// System is the format of /etc/crontab and of the files in /etc/cron.d: a user before each command.
	System bool
	// Seconds allows the six and seven fields of supercronic: a sixth is the year, and with seven the
	// first is the second.
	Seconds bool
}

// Table is a crontab that was read.
type Table struct {
	Jobs     []Job    // in the order of the file
	Comments []string // after the last job, each with its #
}

// Job is a line with a schedule and a command.
type Job struct {
	Line int // from 1

	// Name identifies the job among those of the file. It is that of a comment "# name: x" above the line,
	// otherwise it is made from the command: the schedule is no part of it. Equal ones get -2, -3 and so on.
	// One of a comment may be no valid name of a job.
	Name  string
	Named int // the line of that comment; 0 without one

	// Schedule is the line up to the end of the schedule, with blanks before it: the columns of an error
	// are those of the line.
	Schedule string
	User     string // before the command, with Options.System; otherwise ""
	Command  string // for the shell, without the input; \% is %

	// Input is what follows the first % of the command, with a newline for each further one. Without a %
	// it is "", and there is no input.
	Input string

	Variables []Variable // set above the line, each name once; the slice may be shared with other jobs
	Comments  []string   // since the job above, each with its #, without that of the name
}

// Variable is a line NAME=value.
type Variable struct {
	Name, Value string
	Line        int
}

// Get returns the value of a variable, and its line; ok is false if it is not set.
func (j *Job) Get(name string) (v Variable, ok bool) {
	i := slices.IndexFunc(j.Variables, func(v Variable) bool { return v.Name == name })
	if i < 0 {
		return Variable{}, false
	}
	return j.Variables[i], true
}

// Error is why one line of a crontab is not valid.
type Error struct {
	Line    int
	Problem string // with the column, and what was expected
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Problem) }

// Parse reads a crontab. It returns an error for each line that is not valid, and what it has read apart
// from those lines. A line may end with CR and LF, and the last one without any of them.
func Parse(text string, o Options) (Table, []*Error) {
	p := parser{Options: o, used: map[string]int{}}
	for line := range strings.Lines(text) {
		p.number++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if err := p.line(line); err != "" {
			p.errors = append(p.errors, &Error{p.number, err})
		}
	}
	p.dropName()
	p.table.Comments = p.comments
	p.nameJobs()
	return p.table, p.errors
}

// parser is the state between two lines.
type parser struct {
	Options
	table     Table
	errors    []*Error
	number    int // of the line
	variables []Variable
	comments  []string // since the last job
	name      string   // of the comment in the block of comments above, if there is one
	named     int      // its line
	used      map[string]int
}

// line reads one line, and returns what is wrong with it, or "".
func (p *parser) line(line string) string {
	rest := strings.TrimLeft(line, " \t")
	column := len(line) - len(rest) + 1
	if i := strings.IndexByte(line, 0); i >= 0 {
		return at(i+1, "a NUL byte: expected text")
	}
	if rest == "" {
		p.dropName()
		return ""
	}
	if rest[0] == '#' {
		if name, ok := nameOf(rest); ok {
			p.dropName()
			p.name, p.named = name, p.number
		} else {
			p.comments = append(p.comments, strings.TrimRight(rest, " \t"))
		}
		return ""
	}
	if v, ok := parseVariable(rest); ok {
		p.dropName()
		v.Line = p.number
		return p.set(v, column)
	}
	if name, _, ok := strings.Cut(rest, "="); ok && isWord(strings.TrimRight(name, " \t")) {
		p.name, p.named = "", 0
		return at(column, "the value of "+strings.TrimRight(name, " \t")+": expected a closing quote at its end")
	}
	j := Job{Line: p.number, Name: p.name, Named: p.named, Variables: p.variables, Comments: p.comments}
	problem := p.job(&j, line, column)
	if problem == "" {
		p.table.Jobs = append(p.table.Jobs, j)
	}
	p.comments, p.name, p.named = nil, "", 0
	return problem
}

// dropName makes the comment with a name a plain one: no job is below it.
func (p *parser) dropName() {
	if p.named > 0 {
		p.comments = append(p.comments, "# name: "+p.name)
	}
	p.name, p.named = "", 0
}

func at(column int, problem string) string { return fmt.Sprintf("column %d: %s", column, problem) }

// nameOf returns the name in a comment "# name: x". A name has no blanks.
func nameOf(comment string) (string, bool) {
	text, ok := strings.CutPrefix(strings.TrimLeft(comment, "# \t"), "name:")
	text = strings.Trim(text, " \t")
	return text, ok && text != "" && !strings.ContainsAny(text, " \t")
}

// isWord returns true for a name such as a variable of a shell has. No job begins with it and a =.
func isWord(name string) bool {
	return name != "" && (name[0] < '0' || name[0] > '9') && !strings.ContainsFunc(name, func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// set adds a variable. The slice of the jobs above is left as it is.
func (p *parser) set(v Variable, column int) string {
	if v.Name == "" || strings.ContainsAny(v.Name, " \t") {
		return at(column, fmt.Sprintf("%q: expected the name of a variable before the =", v.Name))
	}
	p.variables = slices.Clone(p.variables)
	i := slices.IndexFunc(p.variables, func(w Variable) bool { return w.Name == v.Name })
	if i < 0 {
		p.variables = append(p.variables, v)
	} else {
		p.variables[i] = v
	}
	return ""
}

// parseVariable reads NAME=value. Name and value may be in quotes, and blanks around the = and around a
// value without quotes are not part of it. A quote within a value is. A line that has something after a
// closing quote is no variable. These are the rules of cron's load_env.
func parseVariable(line string) (v Variable, ok bool) {
	if line[0] == '"' || line[0] == '\'' {
		name, rest, closed := strings.Cut(line[1:], line[:1])
		if !closed || strings.Contains(name, "=") {
			return v, false
		}
		v.Name, line = name, rest
	} else {
		end := strings.IndexAny(line, "= \t")
		if end < 0 {
			return v, false
		}
		v.Name, line = line[:end], line[end:]
	}
	line, ok = strings.CutPrefix(strings.TrimLeft(line, " \t"), "=")
	if !ok {
		return v, false
	}
	line = strings.Trim(line, " \t")
	if line != "" && (line[0] == '"' || line[0] == '\'') {
		value, rest, closed := strings.Cut(line[1:], line[:1])
		v.Value = value
		return v, closed && rest == ""
	}
	v.Value = line
	return v, true
}

// word is a part of a line between blanks.
type word struct {
	text   string
	column int // from 1
}

// next returns the word at or after an offset in the line, and the offset of what follows it.
func next(line string, from int) (word, int) {
	rest := strings.TrimLeft(line[from:], " \t")
	start := len(line) - len(rest)
	end := len(line)
	if i := strings.IndexAny(rest, " \t"); i >= 0 {
		end = start + i
	}
	return word{line[start:end], start + 1}, end
}

// fields are what a line has before the command.
var fields = []string{"minute", "hour", "day of month", "month", "day of week"}

const shape = "; a job is MINUTE HOUR DAY MONTH WEEKDAY COMMAND, or @daily COMMAND, and a variable is NAME=value"

// job reads a line with a job. column is that of its first character that is no blank.
func (p *parser) job(j *Job, line string, column int) string {
	if line[column-1] == '-' { // no line in syslog; gophd writes no command to the log
		line = line[:column-1] + " " + line[column:]
	}
	end, problem := p.schedule(line)
	if problem != "" {
		return problem
	}
	j.Schedule = line[:end]
	if p.System {
		var user word
		user, end = next(line, end)
		switch {
		case user.text == "":
			return at(user.column, "the line ends: expected a user and a command")
		case strings.HasPrefix(user.text, "*"):
			return at(user.column, fmt.Sprintf("%q: expected a user, after five fields", user.text))
		}
		j.User = user.text
	}
	command, _ := next(line, end)
	switch {
	case command.text == "":
		return at(command.column, "the line ends: expected a command")
	case command.text == "*" || command.text[0] == '*' && strings.Trim(command.text, "0123456789*/,-") == "":
		return at(command.column, fmt.Sprintf("%q: expected a command, after five fields; --crontab-seconds allows six and seven",
			command.text))
	}
	j.Command, j.Input = split(strings.TrimRight(line[command.column-1:], " \t"))
	if strings.TrimSpace(j.Command) == "" {
		return at(command.column, "\"%\": expected a command; write \\% for a percent sign")
	}
	return ""
}

// schedule returns the offset of the end of the schedule in the line.
func (p *parser) schedule(line string) (end int, problem string) {
	first, end := next(line, 0)
	if strings.HasPrefix(first.text, "@") {
		if first.text != "@every" && first.text != "@at" {
			return end, ""
		}
		argument, end := next(line, end)
		if argument.text == "" {
			return 0, at(argument.column, "the line ends: expected the argument of "+first.text)
		}
		return end, ""
	}
	var words []word
	var ends []int
	for from := 0; len(words) < 8; {
		var w word
		if w, from = next(line, from); w.text == "" {
			break
		}
		words, ends = append(words, w), append(ends, from)
	}
	n := len(fields)
	if len(words) < n {
		return 0, at(len(line)+1, fmt.Sprintf("the line ends: expected the %s%s", fields[len(words)], shape))
	}
	switch {
	case !p.Seconds:
	case len(words) >= 7 && isWeekday(words[5].text) && isYear(words[6].text):
		n = 7
	case len(words) >= 6 && isYear(words[5].text):
		n = 6
	}
	return ends[n-1], ""
}

// isYear and isWeekday report whether a word is meant as such a field, valid or not, and is no command: so a
// mistake in a field does not turn it into a command.
func isYear(text string) bool { return strings.Trim(text, "0123456789*/,-") == "" }

func isWeekday(text string) bool {
	names := strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return c < 'a' || c > 'z' })
	return len(names) == 0 || slices.ContainsFunc(names, func(name string) bool {
		return name == "l" || slices.Contains([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, name)
	})
}

// split separates a command from its input, as cron does for the % in it.
func split(text string) (command, input string) {
	var b strings.Builder
	escaped := false
	for i := range len(text) {
		c := text[i]
		switch {
		case escaped && c == '%':
			whole := b.String()
			b.Reset()
			b.WriteString(whole[:len(whole)-1])
		case c == '%':
			return b.String(), inputOf(text[i+1:])
		}
		escaped = !escaped && c == '\\'
		b.WriteByte(c)
	}
	return b.String(), ""
}

// inputOf returns the input of a command: each % is a newline, \% is %, and it ends with a newline if it is
// not empty.
func inputOf(text string) string {
	var b strings.Builder
	escaped := false
	for i := range len(text) {
		c := text[i]
		switch {
		case escaped && c != '%':
			b.WriteByte('\\')
		case !escaped && c == '%':
			c = '\n'
		}
		if escaped = c == '\\'; !escaped {
			b.WriteByte(c)
		}
	}
	if escaped {
		b.WriteByte('\\')
	}
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	return b.String()
}
