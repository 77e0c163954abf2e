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

// Close after the first stop request waits for a sink without progress for a limited time. More
// stop requests shorten it.
func TestHowLongCloseWaits(t *testing.T) {
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
				time.Sleep(time.Hour) // stalled before the Close: that does not shorten the wait
				var operator goroutine.Group
				operator.Go(func() {
					for i, d := range c.stops {
						time.Sleep(d)
						l.SetStopRequests(i + 2)
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

// The number of lines lost by closing the file can still be written to Echo, after any number of
// stop requests.
func TestLossesOfCloseFileCanBeWrittenToEcho(t *testing.T) {
	for stops := 1; stops <= 3; stops++ {
		for range 20 {
			testLossesOfCloseFile(t, stops)
		}
	}
}

func testLossesOfCloseFile(t *testing.T, stops int) {
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
	l.SetStopRequests(stops)
	if err := l.CloseFile(); err == nil || !strings.Contains(err.Error(), "accepted no more data") {
		t.Errorf("got %v", err)
	}
	s := l.Stats()
	z := l.EchoLogger()
	z.Error().Msgf("%d lines are lost", s.Dropped)
	_ = l.Close() // the same error again
	reported := strings.HasSuffix(echo.String(), fmt.Sprintf("error: %d lines are lost\n", s.Dropped))
	if s.Lines+s.Dropped != 1500 || s.Dropped == 0 || !reported {
		t.Errorf("%+v, %q", s, echo.String())
	}
}

// After Pause no write starts, and Resume ends the pause.
func TestPauseAndResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{File: path, Format: simple})
	w := l.Capture("stdout")(4720)
	fmt.Fprintln(w, "before")
	l.Pause()
	for l.Idle() != nil {
		shortSleep()
	}
	before := read(t, path)
	fmt.Fprintln(w, "meanwhile")
	if got := read(t, path); got != before {
		t.Errorf("it writes during a pause: %q", got)
	}
	l.Resume()
	closeLog(t, l)
	if got := restored(t, simple, []byte(read(t, path))); string(got) != "before\nmeanwhile\n" {
		t.Errorf("got %q", got)
	}
}

// A Log can pass its unwritten lines to the next Log at any moment, for any target and any speed of
// its reader. Each line is written once and in order.
func TestNothingIsLostBetweenTwoLogs(t *testing.T) {
	const lines, logs = 60_000, 12
	for name, prepare := range map[string]func(t *testing.T, path string) (whole func() []byte){
		"file": func(t *testing.T, path string) func() []byte {
			return func() []byte { return []byte(read(t, path)) }
		},
		"FIFO with a slow reader": func(t *testing.T, path string) func() []byte {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			// It keeps the FIFO open, so that the reader gets EOF only at the end of the test.
			held, err := os.OpenFile(path, os.O_RDWR, 0)
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
					shortSleep()
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
			var unwritten []Unwritten
			var rest, in []byte
			for i := range logs {
				l := open(t, Options{File: path, Format: simple, Unwritten: unwritten})
				w := capture(t, l, rest)
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
					shortSleep()
				}
				l.Pause()
				for l.Idle() != nil {
					shortSleep()
				}
				l.Leave()
				command.Wait()
				rest = w.Rest().Bytes
				var err error
				if unwritten, err = l.Left(); err != nil {
					t.Fatal(err)
				}
				if s := l.Stats(); s.Dropped > 0 {
					t.Fatalf("log %d: %+v", i, s)
				}
			}
			l := open(t, Options{File: path, Format: simple, Unwritten: unwritten})
			if err := errors.Join(capture(t, l, rest).Close(), l.Close()); err != nil {
				t.Error(err)
			}
			if got := restored(t, simple, whole()); !bytes.Equal(got, in) {
				t.Errorf("%d of %d bytes arrived, or they differ", len(got), len(in))
			}
		})
	}
}

// A Log without pending lines is closed at once.
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

// Unwritten lines go to the same sink. If it does not exist in the next Log, they go to the other
// sink, unless that one has them already.
func TestUnwrittenLinesGoToTheRightSink(t *testing.T) {
	line := func(text string) []byte { return []byte(text + "\n") }
	toFile, toEcho := Unwritten{Records: line("file"), Lines: 1}, Unwritten{Echo: true, Records: line("echo"), Lines: 1}
	for _, c := range []struct {
		name       string
		left       []Unwritten
		file, echo bool // sinks of the next Log
		inFile     string
		inEcho     string
	}{
		{"both", []Unwritten{toFile, toEcho}, true, true, "file\n", "echo\n"},
		{"no file any more", []Unwritten{toFile, toEcho}, false, true, "", "echo\nfile\n"},
		{"no echo any more", []Unwritten{toFile, toEcho}, true, false, "file\n", ""},
		{"a file in place of the echo", []Unwritten{toEcho}, true, false, "echo\n", ""},
		{"an echo in place of the file", []Unwritten{toFile}, false, true, "", "file\n"},
		{"a file beside the echo", []Unwritten{toEcho}, true, true, "", "echo\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var echo bytes.Buffer
			o := Options{Format: simple, Unwritten: c.left}
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

// Unwritten lines for a file cannot go to a service. They are counted as lost.
func TestUnwrittenLinesForAFileAreNotSentToAService(t *testing.T) {
	unwritten := []Unwritten{{Records: []byte("a\nb\n"), Lines: 2}}
	none := sockets{syslog: filepath.Join(t.TempDir(), "none")}
	l, err := openLog(Options{File: "syslog:", Format: simple, Unwritten: unwritten}, none)
	if err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Dropped != 2 || !errors.Is(s.Lost, errMoved) {
		t.Errorf("%+v", s)
	}
	_ = l.Close() // no service listens there
}

// A Pause also stops writes to an exact echo that is a regular file.
func TestPauseOfAnEchoThatIsAFile(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "out"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := open(t, Options{Format: simple, Echo: f, EchoCommand: true, EchoExact: true})
	l.Pause()
	for l.Idle() != nil {
		shortSleep()
	}
	w := l.Stream("", 4720)
	fmt.Fprint(w, "line\nrest")
	l.Leave()
	unwritten, err := l.Left()
	want := []Unwritten{{Echo: true, Records: []byte("line\n"), Lines: 1}}
	if err != nil || !reflect.DeepEqual(unwritten, want) || read(t, f.Name()) != "" {
		t.Errorf("unwritten %+v, in the file %q, %v", unwritten, read(t, f.Name()), err)
	}
	if rest := w.Rest(); string(rest.Bytes) != "rest" {
		t.Errorf("the rest is %q", rest.Bytes)
	}
}
