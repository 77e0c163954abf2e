package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

func TestOwnLines(t *testing.T) {
	for _, c := range []struct {
		name          string
		log           func(*zerolog.Logger)
		simple, fancy string // without time and PID
		json          map[string]any
	}{
		{"message alone", func(z *zerolog.Logger) { z.Info().Msg("run started") }, "run started", "INF run started",
			map[string]any{"level": "info", "message": "run started"}},
		{"warnings and errors have their level", func(z *zerolog.Logger) {
			z.Error().Int("n", 7).Err(errors.New("no luck")).Msg("late")
		},
			`error: late n=7 error="no luck"`, `ERR late error="no luck" n=7`,
			map[string]any{"level": "error", "n": 7.0, "error": "no luck", "message": "late"}},
		{"fields keep their order", func(z *zerolog.Logger) {
			z.Debug().Bool("z", true).Str("a", "").Strs("l", []string{"x", "y"}).Msg("m")
		},
			`m z=true a="" l=["x","y"]`, `DBG m a= l=["x","y"] z=true`,
			map[string]any{"level": "debug", "z": true, "a": "", "l": []any{"x", "y"}, "message": "m"}},
		{"a value cannot forge a line", func(z *zerolog.Logger) {
			z.Info().Str("k", "v\n2026 [1] forged").Msg("m\n\x1b[2J\u202e\u0085é")
		}, `m\n\x1b[2J\u202e\u0085é k="v\n2026 [1] forged"`, `INF m\n\x1b[2J\u202e\u0085é k="v\n2026 [1] forged"`,
			map[string]any{"level": "info", "k": "v\n2026 [1] forged", "message": "m\n\x1b[2J\u202e\u0085é"}},
		{"a name cannot forge a line", func(z *zerolog.Logger) { z.Log().Str("k\nl", "x=y").Send() },
			`k\nl="x=y"`, "??? k\nl=x=y",
			map[string]any{"k\nl": "x=y"}},
		{"raw JSON cannot forge a line", func(z *zerolog.Logger) {
			z.Log().RawJSON("raw", []byte("{\n\"a\":\r\n1}")).Send()
		}, `raw={\n"a":\r\n1}`, `??? raw={"a":1}`,
			map[string]any{"raw": map[string]any{"a": 1.0}}},
		{"the fields of an event are for programs", func(z *zerolog.Logger) {
			z.Warn().Str("event", "run.ended").Int("run", 7).Str("stack", "a\nb").Msg("run 7 failed")
		}, `warn: run 7 failed stack="a\nb"`, `WRN run 7 failed stack="a\nb"`,
			map[string]any{
				"level": "warn", "event": "run.ended", "run": 7.0, "stack": "a\nb", "message": "run 7 failed",
			}},
		{"empty", func(z *zerolog.Logger) { z.Log().Send() }, "", "???", map[string]any{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for format, want := range map[string]string{simple: c.simple, console: c.fancy} {
				if format == console && strings.Contains(want, "\n") {
					continue // console leaves names as they are: they are gophd's own
				}
				if diff := cmp.Diff(" [9] "+want+"\n", untimed(logged(t, format, c.log))); diff != "" {
					t.Errorf("%s: %s", format, diff)
				}
			}
			before := time.Now().Truncate(time.Microsecond)
			line := logged(t, inJSON, c.log)
			got := map[string]any{}
			if err := json.Unmarshal(line, &got); err != nil || bytes.IndexByte(line, '\n') != len(line)-1 {
				t.Fatalf("%v in %q", err, line)
			}
			at, err := time.Parse(time.RFC3339Nano, got["time"].(string))
			if err != nil || at.Before(before) || at.After(time.Now()) {
				t.Errorf("time %v is not between %v and now: %v", at, before, err)
			}
			delete(got, "time")
			c.json["pid"], c.json["job"] = 9.0, "nightly \"1\"\n"
			if diff := cmp.Diff(c.json, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func logged(t *testing.T, format string, log func(*zerolog.Logger)) []byte {
	t.Helper()
	var out bytes.Buffer
	l := open(t, Options{
		Format: format, Level: zerolog.TraceLevel, Echo: &out, EchoLevel: zerolog.TraceLevel,
		Job: "nightly \"1\"\n", PID: 9,
	})
	z := l.Logger()
	log(&z)
	closeLog(t, l)
	return out.Bytes()
}

func TestConsoleColors(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	for _, color := range []bool{true, false} {
		var out bytes.Buffer
		l := open(t, Options{Format: console, Echo: &out, EchoLevel: zerolog.TraceLevel, EchoColor: color})
		z := l.Logger()
		z.Warn().Int("n", 1).Msg("m")
		closeLog(t, l)
		if got := strings.Contains(out.String(), "\x1b["); got != color {
			t.Errorf("color %v gave %q", color, out.String())
		}
	}
}

func TestSimpleTimeIsLocalWithMilliseconds(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	line := logged(t, simple, func(z *zerolog.Logger) { z.Info().Msg("m") })
	at, err := time.ParseInLocation(simpleTime, string(line[:len(simpleTime)]), time.Local)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("%q is not between %v and now: %v", line, before, err)
	}
}

// The stamp of the command's lines is rendered again only when its text changes.
func TestStampIsRenderedWhenItsTextChanges(t *testing.T) {
	start := time.Date(2026, 11, 22, 6, 51, 2, 123_000_000, time.FixedZone("", 3600))
	var s, j stamp
	for _, c := range []struct {
		after        time.Duration
		simple, json string
	}{
		{0, "2026-11-22 06:51:02.123", "2026-11-22T06:51:02.123000+01:00"},
		{999, "2026-11-22 06:51:02.123", "2026-11-22T06:51:02.123000+01:00"},
		{time.Microsecond, "2026-11-22 06:51:02.123", "2026-11-22T06:51:02.123001+01:00"},
		{time.Millisecond, "2026-11-22 06:51:02.124", "2026-11-22T06:51:02.124000+01:00"},
		{-time.Second, "2026-11-22 06:51:01.123", "2026-11-22T06:51:01.123000+01:00"},
	} {
		s.set(start.Add(c.after), simple)
		j.set(start.Add(c.after), inJSON)
		if string(s.text) != c.simple || string(j.text) != c.json {
			t.Errorf("after %v: %s, %s", c.after, s.text, j.text)
		}
	}
}

// A captured line needs no allocation of its own.
func TestCapturedLinesAllocateNothing(t *testing.T) {
	for _, format := range []string{simple, inJSON} {
		discard := writerFunc(func(p []byte) (int, error) { return len(p), nil })
		l := open(t, Options{Format: format, Echo: discard, EchoCommand: true})
		w := l.Capture("stdout")(1)
		chunk := bytes.Repeat([]byte("a line with \"quotes\" and é\n"), 1000)
		if n := testing.AllocsPerRun(100, func() { _, _ = w.Write(chunk) }); n > 20 {
			t.Errorf("%s: %v allocations for 1000 lines", format, n)
		}
		closeLog(t, l)
	}
}
