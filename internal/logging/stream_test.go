package logging

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"pgregory.net/rapid"
)

// captured returns the log, in the given format, of the chunks of one stream.
func captured(t interface{ Fatal(...any) }, format string, chunks ...[]byte) []byte {
	var out bytes.Buffer
	l, err := Open(Options{
		Format: format, Echo: &out, EchoLevel: zerolog.Disabled, EchoCommand: true, Job: "j", PID: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := capture(t, withTestTimeouts(l), chunks...).Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// restored applies the rule of the package comment to restore the bytes.
func restored(t interface{ Fatal(...any) }, format string, records []byte) []byte {
	var out []byte
	for record := range bytes.Lines(records) {
		if record[len(record)-1] != '\n' {
			t.Fatal("a record without a newline")
		}
		var text []byte
		var partial bool
		if format == inJSON {
			var r struct {
				Time        time.Time
				PID         int
				Job, Stream string
				Line        string
				Bytes       []byte
				Partial     bool
				CRLF        bool
			}
			d := json.NewDecoder(bytes.NewReader(record))
			if err := d.Decode(&r); err != nil {
				t.Fatal(err, string(record))
			}
			if r.PID != 4720 || r.Job != "j" || r.Stream != "stdout" || r.Time.IsZero() {
				t.Fatal("wrong head", string(record))
			}
			text, partial = []byte(r.Line), r.Partial
			if r.Bytes != nil {
				text = r.Bytes
			}
			if bytes.HasSuffix(text, []byte("\r")) && !r.Partial || r.CRLF && r.Partial {
				t.Fatal("the line end of two bytes is not marked as one:", string(record))
			}
			if r.CRLF {
				text = append(text, '\r')
			}
		} else {
			var when, head []byte
			when, text = record[:len(simpleTime)], record[len(simpleTime):len(record)-1]
			head, text, _ = bytes.Cut(text, []byte("out"))
			_, err := time.Parse(simpleTime, string(when))
			if err != nil || string(head) != " [4720] " || len(text) < 2 {
				t.Fatal("not a record:", string(record[:min(80, len(record))]))
			}
			partial, text = text[0] == '+', text[2:]
		}
		out = append(out, text...)
		if !partial {
			out = append(out, '\n')
		}
	}
	return out
}

var (
	simpleRecord = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[4720\] out([:+]) `)
	anyTime      = regexp.MustCompile(`(?m)^(\{"time":")?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+([+-]\d\d:\d\d|Z)?`)
)

func untimed(b []byte) string { return string(anyTime.ReplaceAll(b, nil)) }

// drawOutput draws output with difficult lines: long ones, cut UTF-8 sequences, binary data.
func drawOutput(t *rapid.T) []byte {
	piece := rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 0, 40),
		rapid.SampledFrom([][]byte{
			{'\n'}, {'\n', '\n'}, {'\r', '\n'}, {'\r'}, []byte("\r 7%"), {'\r', '\r', '\n'},
			{0}, {0xff}, {0xc3}, []byte("é"), []byte("😀"), []byte("\x1b[31m"), []byte(`"\`),
		}),
		rapid.Custom(func(t *rapid.T) []byte {
			unit := rapid.SampledFrom([]string{"x", "é", "€", "😀", "\xff"}).Draw(t, "unit")
			n := rapid.IntRange(maxLine-5, maxLine+5).Draw(t, "n") / len(unit)
			return bytes.Repeat([]byte(unit), n)
		}),
	)
	return bytes.Join(rapid.SliceOfN(piece, 0, 5).Draw(t, "output"), nil)
}

func split(t *rapid.T, b []byte) [][]byte {
	var chunks [][]byte
	for len(b) > 0 {
		n := rapid.OneOf(rapid.IntRange(1, 3), rapid.IntRange(1, maxLine+2)).Draw(t, "chunk")
		n = max(min(n, len(b)), len(b)/200)
		chunks, b = append(chunks, b[:n]), b[n:]
	}
	return chunks
}

// The borders of chunks make no difference to the records.
func TestChunkBordersDoNotShow(t *testing.T) {
	for _, format := range []string{simple, inJSON} {
		t.Run(format, rapid.MakeCheck(func(t *rapid.T) {
			b := drawOutput(t)
			whole := captured(t, format, b)
			if got := restored(t, format, whole); !bytes.Equal(got, b) {
				t.Fatalf("%d bytes were restored as %d", len(b), len(got))
			}
			if pieces := captured(t, format, split(t, b)...); untimed(pieces) != untimed(whole) {
				t.Fatal("the borders of chunks change the lines")
			}
		}))
	}
}

// Binary data, invalid UTF-8 and an unfinished last line are kept.
func TestRecordsKeepAllBytes(t *testing.T) {
	long := strings.Repeat("é", maxLine/2-1) + "a"
	for _, c := range []struct{ name, in, simple, json string }{
		{"empty", "", "", ""},
		{"empty line", "\n", "out: \n", `"line":""}`},
		{"line", "hello\n", "out: hello\n", `"line":"hello"}`},
		{"unfinished last line", "a\nb", "out: a\nout+ b\n", `"line":"a"}|"line":"b","partial":true}`},
		{"carriage return and color", "\x1b[1mx\r\n", "out: \x1b[1mx\r\n", `"line":"\u001b[1mx","crlf":true}`},
		{"progress bar", " 5%\r10%\rdone\n", "out+  5%\r\nout+ 10%\r\nout: done\n",
			`"line":" 5%\r","partial":true}|"line":"10%\r","partial":true}|"line":"done"}`},
		{"carriage returns only", "\r\r", "out+ \r\nout+ \r\n", `"line":"\r","partial":true}|"line":"\r","partial":true}`},
		{"two carriage returns and a newline", "a\r\r\nb\n", "out+ a\r\nout: \r\nout: b\n",
			`"line":"a\r","partial":true}|"line":"","crlf":true}|"line":"b"}`},
		{"lines before and after a carriage return", "a\nb\r\nc\rd\r\ne", "out: a\nout: b\r\nout+ c\r\nout: d\r\nout+ e\n",
			`"line":"a"}|"line":"b","crlf":true}|"line":"c\r","partial":true}|"line":"d","crlf":true}|"line":"e","partial":true}`},
		{"64 KiB and a line end of two bytes", strings.Repeat("x", maxLine-1) + "\r\n",
			"out: " + strings.Repeat("x", maxLine-1) + "\r\n", `"line":"` + strings.Repeat("x", maxLine-1) + `","crlf":true}`},
		{"a carriage return after 64 KiB", strings.Repeat("x", maxLine) + "\ry\n",
			"out+ " + strings.Repeat("x", maxLine) + "\nout+ \r\nout: y\n",
			`"line":"` + strings.Repeat("x", maxLine) + `","partial":true}|"line":"\r","partial":true}|"line":"y"}`},
		{"NUL, quote, backslash, tab, DEL",
			"\x00\"\\\t\x7f\n", "out: \x00\"\\\t\x7f\n", `"line":"\u0000\"\\\t` + "\x7f" + `"}`},
		{"invalid UTF-8", "\xffé\n", "out: \xffé\n",
			`"line":"` + "\ufffdé" + `","bytes":"` + base64.StdEncoding.EncodeToString([]byte("\xffé")) + `"}`},
		{"U+FFFD itself", "\ufffd\n", "out: \ufffd\n", `"line":"` + "\ufffd" + `"}`},
		{"no UTF-8 sequence is split", long + "€\n", "out+ " + long + "\nout: €\n",
			`"line":"` + long + `","partial":true}|"line":"€"}`},
		{"exactly 64 KiB", strings.Repeat("x", maxLine) + "\n", "out: " + strings.Repeat("x", maxLine) + "\n",
			`"line":"` + strings.Repeat("x", maxLine) + `"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.ReplaceAll(untimed(captured(t, simple, []byte(c.in))), " [4720] ", "")
			if got != c.simple {
				t.Errorf("simple: got %.200q, want %.200q", got, c.simple)
			}
			const head = `","pid":4720,"job":"j","stream":"stdout",`
			got = strings.TrimSuffix(strings.ReplaceAll(untimed(captured(t, inJSON, []byte(c.in))), head, ""), "\n")
			if got = strings.ReplaceAll(got, "\n", "|"); got != c.json {
				t.Errorf("json: got %.200q, want %.200q", got, c.json)
			}
		})
	}
}

// The new process finishes the unfinished line of the old process, at any cut.
func TestRestOfOneStreamStartsTheNext(t *testing.T) {
	for _, format := range []string{simple, inJSON} {
		t.Run(format, rapid.MakeCheck(func(t *rapid.T) {
			process := func(rest, in []byte, end func(*Stream) []byte) (records, left []byte) {
				var out bytes.Buffer
				l, err := Open(Options{
					Format: format, Echo: &out, EchoLevel: zerolog.Disabled, EchoCommand: true, Job: "j", PID: 1,
				})
				if err != nil {
					t.Fatal(err)
				}
				s := capture(t, withTestTimeouts(l), rest, in)
				left = end(s)
				if err := errors.Join(s.Close(), l.Close()); err != nil {
					t.Fatal(err)
				}
				return out.Bytes(), left
			}
			b := drawOutput(t)
			n := rapid.IntRange(0, len(b)).Draw(t, "cut")
			want := untimed(captured(t, format, b))
			first, rest := process(nil, b[:n], func(s *Stream) []byte {
				return s.Rest().Bytes
			})
			second, _ := process(rest, b[n:], func(*Stream) []byte { return nil })
			if got := untimed(append(first, second...)); got != want {
				t.Fatalf("cut in two, %d bytes of records became %d, or they differ", len(want), len(got))
			}
		}))
	}
}

// A burst of output at the exit of the command is complete.
func TestBurstAtExitIsKept(t *testing.T) {
	var in bytes.Buffer
	for i := 0; in.Len() < 4<<20; i++ {
		fmt.Fprintf(&in, "line %d of the burst%200c\n", i, '.')
	}
	in.WriteString("unfinished")
	for _, format := range []string{simple, inJSON, console} {
		got := restored(t, format, captured(t, format, slicesOf(in.Bytes(), 65536)...))
		if !bytes.Equal(got, in.Bytes()) {
			t.Errorf("%s: %d of %d bytes arrived, or they differ", format, len(got), in.Len())
		}
	}
}

func slicesOf(b []byte, n int) (chunks [][]byte) {
	for len(b) > 0 {
		n = min(n, len(b))
		chunks, b = append(chunks, b[:n]), b[n:]
	}
	return chunks
}

// A line of 100 MiB without a newline needs bounded memory.
func TestHugeLineUsesBoundedMemory(t *testing.T) {
	const size = 100 << 20
	sum := sha256.New()
	var n int
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		buf := make([]byte, 1<<20)
		var record []byte
		for {
			m, err := r.Read(buf)
			for _, b := range bytes.SplitAfter(buf[:m], []byte{'\n'}) {
				if record = append(record, b...); bytes.HasSuffix(record, []byte{'\n'}) {
					text := record[simpleRecord.FindIndex(record)[1] : len(record)-1]
					n += len(text)
					sum.Write(text)
					record = record[:0]
				}
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	l := open(t, Options{Format: simple, Echo: w, EchoLevel: zerolog.Disabled, EchoCommand: true})
	want := sha256.New()
	chunk := bytes.Repeat([]byte("0123456789abcde"), 4096)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := l.Capture("stdout")(4720)
	for left := size; left > 0; {
		c := chunk[:min(left, len(chunk))]
		left -= len(c)
		want.Write(c)
		if _, err := s.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	w.Close()
	<-done
	if n != size || !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d of %d bytes arrived, or they differ", n, size)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
}

func TestStreamsOfManyCommandsDoNotMix(t *testing.T) {
	var out bytes.Buffer
	l := open(t, Options{Format: simple, Echo: &out, EchoLevel: zerolog.Disabled, EchoCommand: true})
	a, b := l.Capture("stdout")(1), l.Capture("stderr")(2)
	for _, w := range []struct {
		io.Writer
		s string
	}{{a, "al"}, {b, "be"}, {a, "pha\n"}, {b, "ta\n"}} {
		if _, err := io.WriteString(w, w.s); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(" [1] out: alpha\n [2] err: beta\n", untimed(out.Bytes())); diff != "" {
		t.Error(diff)
	}
}

// The output repeats b, so that small inputs make long lines.
func FuzzRecordsGiveTheBytesBack(f *testing.F) {
	f.Add([]byte("a\nb"), uint16(1), uint16(1))
	f.Add([]byte("\xff\x00\xe2\x82\n\n\r"), uint16(2), uint16(3))
	f.Add([]byte("€"), uint16(1000), uint16(30000))
	f.Add([]byte("7%\r\r\n"), uint16(2), uint16(5))
	f.Fuzz(func(t *testing.T, b []byte, chunk, times uint16) {
		all := bytes.Repeat(b, min(int(times), 3*maxLine/max(1, len(b))))
		for _, format := range []string{simple, inJSON} {
			records := captured(t, format, slicesOf(all, max(1, int(chunk)))...)
			if got := restored(t, format, records); !bytes.Equal(got, all) {
				t.Errorf("%s: %q, %d times, was restored as other bytes", format, b, times)
			}
		}
	})
}
