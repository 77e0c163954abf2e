package logread

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Line is one line of a log: of a command, or of gophd itself.
type Line struct {
	Time    time.Time // zero if the line has none, as that of the trace of a crash
	PID     int       // of the command, or of gophd
	Job     string    // if that is known
	Stream  string    // stdout or stderr; "" for a line of gophd's own
	Level   string    // of a line of gophd's own: debug, info, warn or error; "" if it has none
	Run     uint64    // that a line of gophd's own is about; 0 if it is about none
	Text    []byte    // without the line end, and without a carriage return before it
	Partial bool      // the next line of the same process and stream continues it
	CRLF    bool      // the line end has a carriage return
	raw     []byte    // the line as it is in the log; nil if that is no file
	object  bool      // raw is the JSON object of the line
}

// Layout of the times in the formats simple and console, and in json.
const (
	textTime = "2006-01-02 15:04:05.000"
	jsonTime = "2006-01-02T15:04:05.000000Z07:00"
)

// parse reads a line of any format of gophd's log, without its line end. mine is false if the line is not
// about the job: in a log of several jobs that is all that does not have its name.
func (s Source) parse(raw []byte) (l Line, mine bool) {
	if len(raw) > 0 && raw[0] == '{' {
		return s.parseObject(raw)
	}
	return s.parseText(raw)
}

// object is a line of the format json.
type object struct {
	Time    time.Time `json:"time"`
	PID     int       `json:"pid"`
	Job     string    `json:"job"`
	Stream  string    `json:"stream"`
	Line    string    `json:"line"`
	Bytes   []byte    `json:"bytes"`
	Partial bool      `json:"partial"`
	CRLF    bool      `json:"crlf"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	Run     uint64    `json:"run"`
	Stack   string    `json:"stack"`
}

func (s Source) parseObject(raw []byte) (l Line, mine bool) {
	if s.Shared && s.Job != "" && !bytes.Contains(raw, s.quoted) {
		return l, false
	}
	var o object
	if json.Unmarshal(raw, &o) != nil {
		return Line{Text: raw, raw: raw}, !s.Shared || s.Job == ""
	}
	l = Line{Time: o.Time, PID: o.PID, Job: o.Job, Stream: o.Stream, Level: o.Level, Run: o.Run, Partial: o.Partial, CRLF: o.CRLF,
		Text: []byte(o.Line), raw: raw, object: true}
	switch {
	case o.Stream == "":
		l.Text = []byte(strings.TrimSuffix(o.Message+"\n"+o.Stack, "\n"))
	case o.Bytes != nil:
		l.Text = o.Bytes
	}
	return l, !s.Shared || s.Job == "" || o.Job == s.Job
}

// levels are the names of levels as the text formats have them.
var levels = []struct{ text, level string }{
	{"warn: ", "warn"}, {"error: ", "error"}, {"fatal: ", "error"}, {"panic: ", "error"},
	{"DBG ", "debug"}, {"INF ", "info"}, {"WRN ", "warn"}, {"ERR ", "error"}, {"FTL ", "error"}, {"PNC ", "error"},
}

func (s Source) parseText(raw []byte) (l Line, mine bool) {
	l = Line{Text: raw, raw: raw}
	if len(raw) < len(textTime)+len(" [1] ") || raw[len(textTime)] != ' ' || raw[len(textTime)+1] != '[' {
		return l, !s.Shared || s.Job == ""
	}
	pid, rest, ok := bytes.Cut(raw[len(textTime)+2:], []byte("] "))
	if l.PID, _ = strconv.Atoi(string(pid)); !ok || l.PID == 0 {
		return l, !s.Shared || s.Job == ""
	}
	rest = l.cutLevel(rest) // simple has the level before the job, and console after it
	if s.Shared && s.Job != "" {
		if rest, ok = bytes.CutPrefix(rest, s.prefix); !ok {
			return l, false
		}
		rest = l.cutLevel(rest)
	}
	var err error
	if l.Time, err = time.ParseInLocation(textTime, string(raw[:len(textTime)]), time.Local); err != nil {
		return Line{Text: raw, raw: raw}, !s.Shared || s.Job == ""
	}
	l.Job, l.Text = s.Job, rest
	command := rest
	if s.Shared && s.Job == "" { // that of any job
		for _, name := range s.Jobs {
			if text, ok := bytes.CutPrefix(rest, []byte(name+": ")); ok {
				l.Job, l.Text, command = name, text, text
				break
			}
		}
	}
	if len(command) >= 5 && command[4] == ' ' && (command[3] == ':' || command[3] == '+') && l.Level == "" {
		switch string(command[:3]) {
		case "out", "err":
			l.Stream, l.Partial = "std"+string(command[:3]), command[3] == '+'
			l.Text = command[5:]
			if !l.Partial {
				l.Text, l.CRLF = bytes.CutSuffix(l.Text, []byte{'\r'})
			}
			return l, true
		}
	}
	l.Run = runOf(l.Text)
	return l, true
}

func (l *Line) cutLevel(rest []byte) []byte {
	for _, known := range levels {
		if text, ok := bytes.CutPrefix(rest, []byte(known.text)); ok {
			l.Level = known.level
			return text
		}
	}
	return rest
}

var runPattern = regexp.MustCompile(`\brun (\d+)\b`)

// runOf returns the run that a message of gophd is about; 0 if it names none.
func runOf(message []byte) uint64 {
	m := runPattern.FindSubmatch(message)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseUint(string(m[1]), 10, 64) // too long for a number: none
	return n
}

// AppendJSON appends the line as an object, that of the log format json, with a newline. In a log of that
// format it is the line itself, with all fields of its event.
func (l Line) AppendJSON(b []byte) []byte {
	if l.object {
		return append(append(b, l.raw...), '\n')
	}
	b = append(b, '{')
	if !l.Time.IsZero() {
		b = append(l.Time.AppendFormat(append(b, `"time":"`...), jsonTime), `",`...)
	}
	if l.PID > 0 {
		b = append(strconv.AppendInt(append(b, `"pid":`...), int64(l.PID), 10), ',')
	}
	if l.Job != "" {
		b = append(append(append(b, `"job":`...), quoted([]byte(l.Job))...), ',')
	}
	if l.Stream == "" {
		if l.Level != "" {
			b = append(b, `"level":"`+l.Level+`",`...)
		}
		if l.Run > 0 {
			b = append(strconv.AppendUint(append(b, `"run":`...), l.Run, 10), ',')
		}
		return append(append(append(b, `"message":`...), quoted(l.Text)...), "}\n"...)
	}
	b = append(append(b, `"stream":"`+l.Stream+`","line":`...), quoted(l.Text)...)
	if !utf8.Valid(l.Text) {
		text, _ := json.Marshal(l.Text) // base64
		b = append(append(b, `,"bytes":`...), text...)
	}
	if l.Partial {
		b = append(b, `,"partial":true`...)
	}
	if l.CRLF {
		b = append(b, `,"crlf":true`...)
	}
	return append(b, "}\n"...)
}

// quoted returns text as a JSON string.
func quoted(text []byte) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(string(text)) // a string
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// ParseJSON reads a line of AppendJSON.
func ParseJSON(text []byte) Line {
	l, _ := Source{}.parse(bytes.TrimSuffix(text, []byte{'\n'}))
	return l
}

// AppendText appends the line in the log format simple, with a newline. In a log of a text format it is the
// line itself. name says whether it begins with the name of the job.
func (l Line) AppendText(b []byte, name bool) []byte {
	if l.raw != nil && !l.object || l.Time.IsZero() {
		return append(append(b, l.Exact()...), '\n')
	}
	b = l.Time.Local().AppendFormat(b, textTime)
	b = append(strconv.AppendInt(append(b, " ["...), int64(l.PID), 10), "] "...)
	if l.Level == "warn" || l.Level == "error" {
		b = append(b, l.Level+": "...)
	}
	if name && l.Job != "" {
		b = append(b, l.Job+": "...)
	}
	b = append(b, l.mark()...)
	b = append(b, l.Text...)
	if l.CRLF {
		b = append(b, '\r')
	}
	return append(b, '\n')
}

// Exact returns the line as it is in the log, or its text if there is no log file.
func (l Line) Exact() []byte {
	if l.raw != nil {
		return l.raw
	}
	return l.Text
}

// mark returns what a line of a command begins with.
func (l Line) mark() string {
	switch {
	case l.Stream == "":
		return ""
	case l.Partial:
		return strings.TrimPrefix(l.Stream, "std") + "+ "
	}
	return strings.TrimPrefix(l.Stream, "std") + ": "
}

// Brief returns the line without its time and process: the mark of a command's line, or the level of gophd's
// own, and the text. name says whether it begins with the name of the job.
func (l Line) Brief(name bool) string {
	text := l.mark() + string(l.Text)
	if name && l.Job != "" {
		text = l.Job + ": " + text
	}
	if l.Level == "warn" || l.Level == "error" {
		text = l.Level + ": " + text
	}
	return text
}

// Output returns the bytes that the command wrote: the text, and the line end unless it is partial.
func (l Line) Output() []byte {
	switch {
	case l.Partial:
		return l.Text
	case l.CRLF:
		return append(bytes.Clone(l.Text), '\r', '\n')
	}
	return append(bytes.Clone(l.Text), '\n')
}
