package logging

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"gophd/internal/goroutine"
	"gophd/internal/line"
)

// step is a pause, and what the command writes after it.
type step struct {
	after time.Duration
	text  string
}

// play writes the steps to a new stream of a log.
func play(t *testing.T, l *Log, steps ...step) *Stream {
	t.Helper()
	s := capture(t, l)
	for _, c := range steps {
		time.Sleep(c.after)
		synctest.Wait()
		if _, err := io.WriteString(s, c.text); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	}
	return s
}

// An unfinished line is written a second after its first byte, as a part of a line that continues.
func TestUnfinishedLineIsWrittenAfterASecond(t *testing.T) {
	const second, early = time.Second, time.Second - time.Nanosecond
	for _, c := range []struct {
		name  string
		steps []step
		want  string
	}{
		{"a question", []step{{0, "Really? "}, {early, ""}}, ""},
		{"a second later", []step{{0, "Really? "}, {second, ""}}, "out+ Really? \n"},
		{"and its answer", []step{{0, "Really? "}, {time.Hour, "y\n"}, {0, "next\n"}},
			"out+ Really? \nout: y\nout: next\n"},
		{"only the end of the line comes later", []step{{0, "Really? "}, {second, "\n"}}, "out+ Really? \nout: \n"},
		{"a line that is finished in time", []step{{0, "a"}, {early, "b\n"}, {second, ""}}, "out: ab\n"},
		{"the second begins with the line", []step{{0, "a"}, {early, "b\nc"}, {early, "d\n"}}, "out: ab\nout: cd\n"},
		{"and ends", []step{{0, "a"}, {early, "b\nc"}, {second, "d\n"}}, "out: ab\nout+ c\nout: d\n"},
		{"points", []step{{0, "."}, {second / 2, "."}, {second / 4, "."}, {second / 2, "."}, {second, "\n"}},
			"out+ ...\nout+ .\nout: \n"},
		{"a progress bar", []step{{0, " 5%\r"}, {second / 2, "10%\r"}, {second / 4, "done\n"}},
			"out+  5%\r\nout+ 10%\r\nout: done\n"},
		{"a slow one", []step{{0, " 5%\r"}, {2 * second, "10%\r"}, {2 * second, "done\n"}},
			"out+  5%\r\nout+ 10%\r\nout: done\n"},
		{"one that begins with the carriage return", []step{{0, "\r 5%"}, {2 * second, "\r10%"}, {2 * second, "\n"}},
			"out+ \r\nout+  5%\nout+ \r\nout+ 10%\nout: \n"},
		{"a line end of two bytes comes in two parts", []step{{0, "a\r"}, {early, "\nb\n"}}, "out: a\r\nout: b\n"},
		{"the second one is late", []step{{0, "a\r"}, {second, "\nb\n"}}, "out+ a\r\nout: \nout: b\n"},
		{"no UTF-8 sequence is split", []step{{0, "a\xe2\x82"}, {2*second - 1, "\xac\n"}}, "out+ a\nout: €\n"},
		{"unless it stays unfinished", []step{{0, "a\xe2\x82"}, {2 * second, "\xac\n"}},
			"out+ a\nout+ \xe2\x82\nout: \xac\n"},
		{"bytes that are no UTF-8", []step{{0, "\x80\xbf"}, {second, "\x80"}, {second, "\n"}},
			"out+ \x80\xbf\nout+ \x80\nout: \n"},
		{"a long line is counted from its last part", []step{{0, strings.Repeat("x", maxLine+1)}, {second, ""}},
			"out+ " + strings.Repeat("x", maxLine) + "\nout+ x\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				l := openTimed(t, Options{Format: simple, Echo: &out, EchoLevel: zerolog.Disabled, EchoCommand: true})
				s := play(t, l, c.steps...)
				if got := strings.ReplaceAll(untimed(out.Bytes()), " [4720] ", ""); got != c.want {
					t.Errorf("got %.200q, want %.200q", got, c.want)
				}
				_ = errors.Join(s.Close(), l.Close())
				var in string
				for _, c := range c.steps {
					in += c.text
				}
				if got := restored(t, simple, out.Bytes()); string(got) != in {
					t.Errorf("%.200q was restored as %.200q", in, got)
				}
			})
		})
	}
}

// Whatever the pauses are, the records give all bytes back, and an exact echo has them as they are.
func TestPausesLoseNoByte(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		format := rapid.SampledFrom([]string{simple, inJSON}).Draw(rt, "format")
		in := drawOutput(rt)
		chunks := split(rt, in)
		pauses := rapid.SliceOfN(rapid.IntRange(0, 1500), 0, 20).Draw(rt, "pauses in ms")
		var records, echo bytes.Buffer
		synctest.Test(t, func(t *testing.T) {
			for _, o := range []Options{
				{Format: format, Echo: &records, EchoLevel: zerolog.Disabled, EchoCommand: true, Job: "j", PID: 1},
				{Format: format, Echo: &echo, EchoCommand: true, EchoExact: true},
			} {
				l := openTimed(t, o)
				s := capture(t, l)
				for i, c := range chunks {
					if _, err := s.Write(c); err != nil {
						t.Error(err)
					}
					if i < len(pauses) {
						time.Sleep(time.Duration(pauses[i]) * time.Millisecond)
					}
				}
				if err := errors.Join(s.Close(), l.Close()); err != nil {
					t.Error(err)
				}
			}
		})
		if got := restored(rt, format, records.Bytes()); !bytes.Equal(got, in) {
			rt.Fatalf("%d bytes were restored as %d", len(in), len(got))
		}
		if !bytes.Equal(echo.Bytes(), in) {
			rt.Fatalf("%d bytes were echoed as %d", len(in), echo.Len())
		}
	})
}

// The services mark such a part as they mark one of a long line.
func TestServicesGetTheUnfinishedLine(t *testing.T) {
	for name, want := range map[string][]string{
		"syslog:": {"out+ Really? ", "out+ 7%\r", "out: y", "out: n\r"},
		"journald:": {"MESSAGE=Really? \n|GOPHD_PARTIAL=1\n", "MESSAGE=7%\r\n|GOPHD_PARTIAL=1\n", "MESSAGE=y\n|",
			"MESSAGE=n\n|GOPHD_CRLF=1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "socket")
			synctest.Test(t, func(t *testing.T) {
				c := listen(t, path)
				l := openAt(t, Options{File: name, Format: simple}, path)
				l.lineTime = lineTime
				s := play(t, l, step{0, "Really? "}, step{time.Second, "7%\ry\nn\r\n"})
				for _, w := range want {
					got := string(receive(t, c))
					start, end, _ := strings.Cut(w, "|")
					if !strings.Contains(got, start) || !strings.HasSuffix(got, end) ||
						strings.Contains(got, "GOPHD_PARTIAL") != strings.Contains(w, "GOPHD_PARTIAL") {
						t.Errorf("got %q, want %q", got, w)
					}
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				closeLog(t, l)
			})
		})
	}
}

// After Close and Rest the timer writes nothing: the next process has the line.
func TestTimerWritesNothingOfALineThatWasHandedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := openTimed(t, Options{Format: simple, Echo: &out, EchoLevel: zerolog.Disabled, EchoCommand: true})
		s := play(t, l, step{0, "Really "}, step{time.Second, "delete?"}, step{time.Second / 2, " [y/N] "})
		rest := s.Rest()
		if string(rest.Bytes) != "delete? [y/N] " || rest.Written.Bytes != 7 || string(rest.Written.Start) != "Really " {
			t.Errorf("the rest is %+v", rest)
		}
		if got := l.Unfinished(); len(got) != 0 {
			t.Errorf("the log still shows %+v", got)
		}
		time.Sleep(time.Hour)
		next := capture(t, l)
		next.Continue(rest)
		want := []line.Unfinished{{PID: 4720, Stream: "stdout",
			Part: line.Part{Bytes: 21, Start: []byte("Really delete? [y/N] ")}}}
		if diff := cmp.Diff(want, l.Unfinished()); diff != "" {
			t.Error(diff)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, err := io.WriteString(next, "y\n"); err != nil {
			t.Fatal(err)
		}
		_ = errors.Join(next.Close(), l.Close())
		time.Sleep(time.Hour)
		if got := untimed(out.Bytes()); got != " [4720] out+ Really \n [4720] out+ delete? [y/N] \n [4720] out: y\n" {
			t.Errorf("got %q", got)
		}
	})
}

// The second of an unfinished line counts from its first byte, however many processes have had it.
func TestHandoffsDoNotDelayAnUnfinishedLine(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []step // each is a handoff after a pause, and then what the command writes
		want  string
	}{
		{"a question", []step{{700 * time.Millisecond, ""}, {300*time.Millisecond - 1, ""}}, ""},
		{"a second later", []step{{700 * time.Millisecond, ""}, {300 * time.Millisecond, ""}}, "out+ Really? \n"},
		{"that grows", []step{{400 * time.Millisecond, "y"}, {400 * time.Millisecond, "es"}, {200 * time.Millisecond, ""}},
			"out+ Really? yes\n"},
		{"the next line has its own second", []step{{700 * time.Millisecond, "y\nSure? "},
			{700 * time.Millisecond, ""}, {300*time.Millisecond - 1, ""}}, "out: Really? y\n"},
		{"which ends", []step{{700 * time.Millisecond, "y\nSure? "}, {700 * time.Millisecond, ""},
			{300 * time.Millisecond, ""}}, "out: Really? y\nout+ Sure? \n"},
		{"and so has the rest", []step{{time.Second, "y"}, {700 * time.Millisecond, ""}, {300 * time.Millisecond, ""}},
			"out+ Really? \nout+ y\n"},
		{"a line end of two bytes", []step{{700 * time.Millisecond, "y\r"}, {200 * time.Millisecond, "\n"}},
			"out: Really? y\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				l := openTimed(t, Options{Format: simple, Echo: &out, EchoLevel: zerolog.Disabled, EchoCommand: true})
				s := play(t, l, step{0, "Really? "})
				in := "Really? "
				for _, c := range c.steps {
					time.Sleep(c.after)
					synctest.Wait()
					rest := s.Rest()
					s = capture(t, l)
					s.Continue(rest)
					if _, err := io.WriteString(s, c.text); err != nil {
						t.Fatal(err)
					}
					in += c.text
					synctest.Wait()
				}
				if got := strings.ReplaceAll(untimed(out.Bytes()), " [4720] ", ""); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				_ = errors.Join(s.Close(), l.Close())
				if got := restored(t, simple, out.Bytes()); string(got) != in {
					t.Errorf("%q was restored as %q", in, got)
				}
			})
		})
	}
}

// Unfinished shows the whole line, whether parts of it are written or not.
func TestUnfinishedShowsTheLineSoFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openTimed(t, Options{Format: simple, Echo: io.Discard, EchoCommand: true})
		a, b := l.Stream("stdout", 7), l.Stream("stderr", 7)
		check := func(want ...line.Unfinished) {
			t.Helper()
			if diff := cmp.Diff(want, l.Unfinished()); diff != "" {
				t.Error(diff)
			}
		}
		shown := func(stream string, bytes int, start string) line.Unfinished {
			return line.Unfinished{PID: 7, Stream: stream, Part: line.Part{Bytes: bytes, Start: []byte(start)}}
		}
		write := func(w io.Writer, text string) {
			t.Helper()
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
		}
		check()
		write(a, "a line\n")
		check()
		write(a, "Really ")
		check(shown("stdout", 7, "Really "))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		check(shown("stdout", 7, "Really "))
		write(a, "delete? ")
		write(b, "7%\r8")
		check(shown("stderr", 1, "8"), shown("stdout", 15, "Really delete? "))
		write(b, "%\r")
		check(shown("stdout", 15, "Really delete? ")) // the carriage return has ended the other
		time.Sleep(2 * time.Second)
		synctest.Wait()
		check(shown("stdout", 15, "Really delete? "))
		write(a, "y\nnext\n")
		check()
		write(a, strings.Repeat("x", 3*maxLine))
		got := l.Unfinished()
		if len(got) != 1 || got[0].Bytes != 3*maxLine || !strings.HasPrefix(string(got[0].Start), "xxx") {
			t.Errorf("of a long line it shows %+v", got)
		}
		_ = errors.Join(a.Close(), b.Close())
		check()
		closeLog(t, l)
	})
}

// A stalled sink holds up the command, and neither the timer's line nor what Unfinished shows.
func TestUnfinishedDoesNotWaitForASink(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	l := open(t, Options{Format: simple, Echo: g, EchoLevel: zerolog.Disabled, EchoCommand: true})
	l.lineTime = time.Millisecond
	asked := capture(t, l, []byte("Really? "))
	var command goroutine.Group
	var full *Stream
	in := bytes.Repeat([]byte("0123456789\n"), 2*commandLimit/10)
	command.Go(func() { full = capture(t, l, in) })
	for l.Stats().Pending < commandLimit || l.Stats().Stalled == 0 {
		shortSleep()
	}
	for len(l.Unfinished()) != 1 || string(l.Unfinished()[0].Start) != "Really? " {
		shortSleep()
	}
	close(g.open)
	command.Wait()
	if err := errors.Join(asked.Close(), full.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if got := bytes.Count(g.Bytes(), []byte("] out+ Really? \n")); got != 1 {
		t.Errorf("the question was written %d times", got)
	}
	if s := l.Stats(); s.Dropped > 0 {
		t.Errorf("%+v", s)
	}
}

// A panic of the timer reaches the goroutine that writes.
func TestPanicOfTheTimerIsRaisedByTheNextWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openTimed(t, Options{Format: simple, Echo: io.Discard, EchoCommand: true})
		s := play(t, l, step{0, "a\xc3"})
		setLines := func(of map[*Stream]line.Unfinished) {
			l.open.mu.Lock()
			defer l.open.mu.Unlock()
			l.open.of = of
		}
		setLines(nil) // assignment to an entry panics
		time.Sleep(time.Second)
		synctest.Wait()
		p := goroutine.Catch(func() { _, _ = s.Write([]byte("b")) })
		if p == nil || !strings.Contains(p.Error(), "nil map") || !strings.Contains(string(p.Stack), "writeRest") {
			t.Errorf("the panic is %v", p)
		}
		setLines(map[*Stream]line.Unfinished{})
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		closeLog(t, l)
	})
}
