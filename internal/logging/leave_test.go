package logging

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
)

// How long a sink is waited for that does not get on, by a Close that comes with the first stop, and stops after it.
func TestHowLongAnEndWaits(t *testing.T) {
	for _, c := range []struct {
		name    string
		regular bool
		stops   []time.Duration // after the Close
		want    time.Duration
	}{
		{"a regular file", true, nil, 30 * time.Second},
		{"a pipe", false, nil, 10 * time.Second},
		{"a regular file, a second stop", true, []time.Duration{time.Second}, 10 * time.Second},
		{"a regular file, a second stop that is late", true, []time.Duration{20 * time.Second}, 20 * time.Second},
		{"a regular file, a third stop", true, []time.Duration{time.Second, 2 * time.Second}, 3 * time.Second},
		{"a pipe, a third stop", false, []time.Duration{time.Second, 2 * time.Second}, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				l := openTimed(t, Options{Format: simple, Echo: g, EchoCommand: true})
				fmt.Fprintln(l.Capture("stdout")(4720), "stuck")
				synctest.Wait() // in the write
				l.sinks[0].regular = c.regular
				time.Sleep(time.Hour) // it was stuck before the end, which does not make that shorter
				var operator goroutine.Group
				operator.Go(func() {
					for i, d := range c.stops {
						time.Sleep(d)
						l.Hurry(i + 2)
					}
				})
				start := time.Now()
				if err := l.Close(); err == nil {
					t.Error("no error")
				}
				if d := time.Since(start) - abortTime; d != c.want {
					t.Errorf("it took %v, want %v", d, c.want)
				}
				if s := l.Stats(); s.Dropped != 1 {
					t.Errorf("%+v", s)
				}
				close(g.open)
				operator.Wait()
			})
		})
	}
}

// What is lost when the file is closed can still be said to Echo, with its number, however often the program was told
// to end.
func TestWhatTheFileLosesIsSaidToTheEcho(t *testing.T) {
	for stops := 1; stops <= 3; stops++ {
		for range 20 {
			loseTheFile(t, stops)
		}
	}
}

func loseTheFile(t *testing.T, stops int) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var echo bytes.Buffer
	l := open(t, Options{File: path, Format: simple, Echo: &echo})
	l.readerTime = time.Millisecond
	w := l.Capture("stdout")(4720)
	for range 1500 {
		fmt.Fprintf(w, "%100d\n", 1)
	}
	l.Hurry(stops)
	if err := l.CloseFile(); err == nil || !strings.Contains(err.Error(), "took nothing any more") {
		t.Errorf("got %v", err)
	}
	s := l.Stats()
	z := l.EchoLogger()
	z.Error().Msgf("%d lines are lost", s.Dropped)
	_ = l.Close() // the same error again
	if s.Lines+s.Dropped != 1500 || s.Dropped == 0 || !strings.HasSuffix(echo.String(), fmt.Sprintf("error: %d lines are lost\n", s.Dropped)) {
		t.Errorf("%+v, %q", s, echo.String())
	}
}

// A Pause begins no write, and a Resume ends it.
func TestPauseAndResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{File: path, Format: simple})
	w := l.Capture("stdout")(4720)
	fmt.Fprintln(w, "before")
	l.Pause()
	for l.Idle() != nil {
		nap()
	}
	before := read(t, path)
	fmt.Fprintln(w, "meanwhile")
	if got := read(t, path); got != before {
		t.Errorf("it writes in a pause: %q", got)
	}
	l.Resume()
	closeLog(t, l)
	if got := restored(t, simple, []byte(read(t, path))); string(got) != "before\nmeanwhile\n" {
		t.Errorf("got %q", got)
	}
}

// One Log leaves to the next what it has not written, at any moment, whatever it writes to and however slowly that is
// read: each line comes once and in order.
func TestNothingIsLostBetweenTwoLogs(t *testing.T) {
	const lines, logs = 60_000, 12
	for name, prepare := range map[string]func(t *testing.T, path string) (whole func() []byte){
		"file": func(t *testing.T, path string) func() []byte {
			return func() []byte { return []byte(read(t, path)) }
		},
		"FIFO that is read slowly": func(t *testing.T, path string) func() []byte {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			held, err := os.OpenFile(path, os.O_RDWR, 0) // so that the reader sees one end only, the last
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			var all bytes.Buffer
			var reader goroutine.Group
			reader.Go(func() {
				r := bufio.NewReaderSize(f, 1000)
				for {
					if _, err := io.CopyN(&all, r, 50_000); err != nil {
						return
					}
					nap()
				}
			})
			return func() []byte {
				held.Close()
				reader.Wait()
				f.Close()
				return all.Bytes()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			whole := prepare(t, path)
			var left []Left
			var rest, in []byte
			for i := range logs {
				l := open(t, Options{File: path, Format: simple, Left: left})
				w := l.Stream("stdout", 4720, rest)
				var command goroutine.Group
				chunk := new(bytes.Buffer)
				for n := range lines / logs {
					fmt.Fprintf(chunk, "line %d of %d %s", n, i, strings.Repeat("x", n%300))
					if n%7 > 0 {
						chunk.WriteByte('\n')
					}
				}
				in = append(in, chunk.Bytes()...)
				command.Go(func() {
					for _, c := range slicesOf(chunk.Bytes(), 10_000) {
						_, _ = w.Write(c)
					}
				})
				for range i * 3 {
					nap()
				}
				l.Pause()
				for l.Idle() != nil {
					nap()
				}
				l.Leave()
				command.Wait()
				rest = w.Rest()
				var err error
				if left, err = l.Left(); err != nil {
					t.Fatal(err)
				}
				if s := l.Stats(); s.Dropped > 0 {
					t.Fatalf("log %d: %+v", i, s)
				}
			}
			l := open(t, Options{File: path, Format: simple, Left: left})
			if err := errors.Join(l.Stream("stdout", 4720, rest).Close(), l.Close()); err != nil {
				t.Error(err)
			}
			if got := restored(t, simple, whole()); !bytes.Equal(got, in) {
				t.Errorf("%d of %d bytes arrived, or others", len(got), len(in))
			}
		})
	}
}

// A Log that has nothing to write is closed at once.
func TestCloseFileOfAnIdleLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openTimed(t, Options{File: filepath.Join(t.TempDir(), "log"), Format: simple})
		synctest.Wait()
		start := time.Now()
		if err := l.CloseFile(); err != nil || time.Since(start) > 0 {
			t.Errorf("%v, after %v", err, time.Since(start))
		}
		closeLog(t, l)
	})
}

// What was left for a place goes on there; where that place is gone it goes to the other, unless that has it already.
func TestWhatIsLeftFindsItsPlace(t *testing.T) {
	line := func(text string) []byte { return []byte(text + "\n") }
	toFile, toEcho := Left{Records: line("file"), Lines: 1}, Left{Echo: true, Records: line("echo"), Lines: 1}
	for _, c := range []struct {
		name       string
		left       []Left
		file, echo bool // places that there are now
		inFile     string
		inEcho     string
	}{
		{"both", []Left{toFile, toEcho}, true, true, "file\n", "echo\n"},
		{"no file any more", []Left{toFile, toEcho}, false, true, "", "echo\nfile\n"},
		{"no echo any more", []Left{toFile, toEcho}, true, false, "file\n", ""},
		{"a file in place of the echo", []Left{toEcho}, true, false, "echo\n", ""},
		{"an echo in place of the file", []Left{toFile}, false, true, "", "file\n"},
		{"a file beside the echo", []Left{toEcho}, true, true, "", "echo\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var echo bytes.Buffer
			o := Options{Format: simple, Left: c.left}
			path := filepath.Join(t.TempDir(), "log")
			if c.file {
				o.File = path
			}
			if c.echo {
				o.Echo = &echo
			}
			closeLog(t, open(t, o))
			var file []byte
			if c.file {
				file = []byte(read(t, path))
			}
			if string(file) != c.inFile || echo.String() != c.inEcho {
				t.Errorf("in the file %q, in the echo %q", file, echo.String())
			}
		})
	}
}

// What was left for a file cannot go to a service, and is counted.
func TestWhatIsLeftForAFileIsNotForAService(t *testing.T) {
	l, err := openLog(Options{File: "syslog:", Format: simple, Left: []Left{{Records: []byte("a\nb\n"), Lines: 2}}}, sockets{syslog: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Dropped != 2 || !errors.Is(s.Lost, errMoved) {
		t.Errorf("%+v", s)
	}
	_ = l.Close() // nobody listens there
}

// A Pause holds back an echo to a regular file, and a file that is written as a command wrote it.
func TestPauseOfAnEchoThatIsAFile(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "out"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := open(t, Options{Format: simple, Echo: f, EchoCommand: true, EchoExact: true})
	l.Pause()
	for l.Idle() != nil {
		nap()
	}
	w := l.Stream("", 4720, nil)
	fmt.Fprint(w, "line\nrest")
	l.Leave()
	left, err := l.Left()
	want := []Left{{Echo: true, Records: []byte("line\n"), Lines: 1}}
	if err != nil || !reflect.DeepEqual(left, want) || read(t, f.Name()) != "" {
		t.Errorf("left %+v, in the file %q, %v", left, read(t, f.Name()), err)
	}
	if rest := w.Rest(); string(rest) != "rest" {
		t.Errorf("the rest is %q", rest)
	}
}
