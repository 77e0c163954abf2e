package logging

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
)

// The formats.
const (
	simple  = "simple"
	inJSON  = "json"
	console = "console"

	exact = "exact" // only the bytes of the command's lines; see Options.EchoExact
)

// Both layouts have a fixed width, so that lines align and sort.
const (
	simpleTime = "2006-01-02 15:04:05.000"
	jsonTime   = "2006-01-02T15:04:05.000000Z07:00"
)

// format renders records. Every record is one line with a newline.
type format struct {
	name string
	pid  string
	job  string // whose lines are the only ones
	tag  string // gophd's name in a service
}

// stamp is the rendered time of the command's lines. Lines of the same millisecond (json:
// microsecond) share it.
type stamp struct {
	of   int64
	text []byte
}

// set sets the time to now. It returns true if the text changed.
func (s *stamp) set(now time.Time, format string) bool {
	of, layout := now.UnixMilli(), simpleTime
	switch format {
	case inJSON:
		of, layout = now.UnixMicro(), jsonTime
	case syslog:
		layout = time.Stamp
	case journald, exact:
		layout = "" // journald adds its own time; exact has none
	}
	if of == s.of && s.text != nil {
		return false
	}
	s.of, s.text = of, now.AppendFormat(s.text[:0], layout)
	return true
}

// head returns the part of each record of a stream between time and text. job is "" for the only one.
func (f format) head(job, stream string, pid int) []byte {
	switch f.name {
	case journald, syslog:
		return []byte(f.serviceHead(job, stream, pid))
	case exact:
		return nil
	case inJSON:
		return []byte(`","pid":` + strconv.Itoa(pid) + `,"job":` + quoteJSON(cmp.Or(job, f.job)) +
			`,"stream":` + quoteJSON(stream) + `,"line":"`)
	}
	return []byte(" [" + strconv.Itoa(pid) + "] " + ofJob(job) + strings.TrimPrefix(stream, "std") + ": ")
}

// ofJob returns the start of the text of a line about one of several jobs.
func ofJob(job string) string {
	if job == "" {
		return ""
	}
	return job + ": "
}

// lead returns the part of a record before the text.
func (f format) lead(dst, stamp, head []byte) []byte {
	switch f.name {
	case inJSON:
		dst = append(dst, `{"time":"`...)
	case syslog:
		dst = append(dst, "<"+strconv.Itoa(daemonFacility+commandSeverity)+">"...)
	}
	return append(append(dst, stamp...), head...)
}

// command renders a record of the command. It does not allocate when dst is large enough.
func (f format) command(dst, lead, line []byte, partial bool) []byte {
	dst = append(dst, lead...)
	switch {
	case f.name == inJSON:
		return appendRecord(dst, line, partial)
	case f.name == exact && partial:
		return append(dst, line...)
	case partial:
		dst[len(dst)-2] = '+'
	}
	return append(append(dst, line...), '\n')
}

// appendRecord appends the part of a json record after the lead.
func appendRecord(dst, line []byte, partial bool) []byte {
	line, crlf := cutReturn(line, partial)
	dst, valid := appendEscaped(dst, line)
	if valid && !partial && !crlf {
		return append(dst, "\"}\n"...)
	}
	dst = append(dst, '"')
	if !valid {
		dst = append(dst, `,"bytes":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, line), '"')
	}
	if partial {
		dst = append(dst, `,"partial":true`...)
	}
	if crlf {
		dst = append(dst, `,"crlf":true`...)
	}
	return append(dst, '}', '\n')
}

// cutReturn removes the carriage return of a line end of two bytes from the text of a record, for a
// format that has a field for it.
func cutReturn(text []byte, partial bool) (_ []byte, crlf bool) {
	if partial || !bytes.HasSuffix(text, []byte{'\r'}) {
		return text, false
	}
	return text[:len(text)-1], true
}

// own renders one of gophd's own lines from zerolog's JSON object. job is as in head.
func (f format) own(dst []byte, now time.Time, level zerolog.Level, job string, object []byte, color bool) []byte {
	if f.name != inJSON {
		object = textOf(object)
	}
	if f.name == journald || f.name == syslog {
		return f.serviceOwn(dst, now, level, job, object)
	}
	if f.name == inJSON {
		dst = append(now.AppendFormat(append(dst, `{"time":"`...), jsonTime), `","pid":`+f.pid+`,`...)
		if job = cmp.Or(job, f.job); job != "" {
			dst = append(dst, `"job":`+quoteJSON(job)+`,`...)
		}
		object = bytes.TrimSpace(object[1:])
		if object[0] == '}' {
			dst = dst[:len(dst)-1]
		}
		// A raw JSON value may contain newlines, which are only white space in JSON.
		for _, c := range object {
			if c == '\n' || c == '\r' {
				c = ' '
			}
			dst = append(dst, c)
		}
		return append(dst, '\n')
	}
	dst = append(now.AppendFormat(dst, simpleTime), " ["+f.pid+"] "...)
	if f.name == console {
		return appendConsole(append(dst, ofJob(job)...), object, color)
	}
	if level >= zerolog.WarnLevel && level < zerolog.NoLevel {
		dst = append(dst, level.String()+": "...)
	}
	return append(appendFields(append(dst, ofJob(job)...), object), '\n')
}

// EventField is the field with the type of an event. The other fields of such a line are for
// programs: the message has the same facts.
const EventField = "event"

// textOf returns the part of an object that the text formats show. For an event that is the
// message, and the stack of a panic.
func textOf(object []byte) []byte {
	if !bytes.Contains(object, []byte(`"`+EventField+`":`)) {
		return object
	}
	var line map[string]json.RawMessage
	if json.Unmarshal(object, &line) != nil || line[EventField] == nil {
		return object
	}
	maps.DeleteFunc(line, func(name string, _ json.RawMessage) bool {
		return !slices.Contains([]string{zerolog.LevelFieldName, zerolog.MessageFieldName, "stack"}, name)
	})
	text, err := json.Marshal(line)
	if err != nil { // cannot happen: the raw values were just decoded
		return object
	}
	return text
}

func appendConsole(dst, object []byte, color bool) []byte {
	out := bytes.NewBuffer(dst)
	w := zerolog.ConsoleWriter{
		Out:           out,
		NoColor:       !color,
		PartsExclude:  []string{zerolog.TimestampFieldName},
		FormatMessage: func(v any) string { s, _ := v.(string); return escape(s) },
	}
	if _, err := w.Write(object); err != nil {
		out.WriteString(escape(string(object)) + "\n")
	}
	return out.Bytes()
}

// appendFields renders a JSON object as its message and key=value, in the order of the fields.
func appendFields(dst, object []byte) []byte {
	var message, fields string
	d := json.NewDecoder(bytes.NewReader(object))
	_, err := d.Token() // the brace
	for err == nil && d.More() {
		var key json.Token
		var value json.RawMessage
		if key, err = d.Token(); err == nil {
			err = d.Decode(&value)
		}
		name, _ := key.(string)
		switch {
		case err != nil || name == zerolog.LevelFieldName:
		case name == zerolog.MessageFieldName:
			err = json.Unmarshal(value, &message)
		default:
			fields += " " + escape(name) + "=" + plain(value)
		}
	}
	if err != nil {
		return append(dst, escape(string(object))...)
	}
	return append(dst, strings.TrimPrefix(escape(message)+fields, " ")...)
}

// plain renders a JSON value for a text format: a string has quotes only if it is ambiguous
// without.
func plain(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) != nil {
		return escape(string(value))
	}
	if q := strconv.Quote(s); s == "" || strings.ContainsAny(s, ` "=`) || q != `"`+s+`"` {
		return q
	}
	return s
}

// escape makes every character visible, so that foreign text cannot start a line or control a
// terminal.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// quoteJSON returns s as a JSON string.
func quoteJSON(s string) string {
	b, _ := appendEscaped([]byte{'"'}, []byte(s))
	return string(append(b, '"'))
}

// appendEscaped appends b escaped for a JSON string, without the quotes. A byte that is not UTF-8
// becomes U+FFFD; valid is true if there was none.
func appendEscaped(dst, b []byte) (_ []byte, valid bool) {
	const hex = "0123456789abcdef"
	valid = true
	start := 0
	for i := 0; ; {
		for len(b)-i >= 8 {
			if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
				i += bits.TrailingZeros64(m) / 8
				break
			}
			i += 8
		}
		if i >= len(b) {
			return append(dst, b[start:]...), valid
		}
		c, n := b[i], 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, n = utf8.DecodeRune(b[i:]); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		} else if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, b[start:i]...)
		switch {
		case c >= utf8.RuneSelf:
			valid = false
			dst = append(dst, "\ufffd"...)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i += n
		start = i
	}
}

// special sets the top bit of the first of 8 bytes that may need escaping, and maybe of later ones.
// It checks all bytes at once: the top bit of a byte is set if it is not ASCII, and by the
// subtraction if it is below space, or equal to quote or backslash. The borrow of such a byte can
// only mark later bytes.
func special(x uint64) uint64 {
	const each = 0x0101010101010101
	return (x | (x - ' '*each) | ((x ^ '"'*each) - each) | ((x ^ '\\'*each) - each)) & (0x80 * each)
}
