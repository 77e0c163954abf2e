package logging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"gophd/internal/goroutine"
)

// testTimeout is how long a test waits for something that must happen, on a machine of any speed.
const testTimeout = 10 * time.Minute

// open opens a log that loses no lines on a slow machine.
func open(t *testing.T, o Options) *Log {
	t.Helper()
	return withTestTimeouts(openTimed(t, o))
}

// openTimed opens a log with gophd's time limits.
func openTimed(t *testing.T, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// withTestTimeouts makes the log wait for its sinks, in Close too, and for the end of a line, as long
// as a test waits.
func withTestTimeouts(l *Log) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timeLimits = timeLimits{testTimeout, testTimeout, testTimeout, testTimeout, testTimeout, testTimeout}
	return l
}

func closeLog(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// gate is an Echo that takes nothing until it is opened.
type gate struct {
	open chan struct{}
	bytes.Buffer
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(p)
}

var lostLines = regexp.MustCompile(`warn: log lines were lost lines=(\d+)`)

// lost returns the number of lost lines that the log reports.
func lost(t *testing.T, text string) (n uint64) {
	t.Helper()
	for _, m := range lostLines.FindAllStringSubmatch(text, -1) {
		i, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n += i
	}
	return n
}

func TestOwnLinesNeverWaitAndTheirLossIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := open(t, Options{Format: simple, Echo: g, EchoLevel: zerolog.TraceLevel})
		z := l.Logger()
		const sent = 40000
		for range sent {
			z.Info().Str("pad", strings.Repeat("x", 50)).Msg("own line")
		}
		s := l.Stats()
		if s.Dropped == 0 || s.Pending > ownLimit {
			t.Errorf("a stalled sink: %+v", s)
		}
		close(g.open)
		closeLog(t, l)
		got := uint64(strings.Count(g.String(), "own line"))
		s = l.Stats()
		if got != s.Lines || s.Lines+s.Dropped != sent || lost(t, g.String()) != s.Dropped {
			t.Errorf("of %d lines %d arrived, the log reports %d lost; %+v", sent, got, lost(t, g.String()), s)
		}
	})
}

// The report of a loss can be lost too. Then it is written again.
func TestLossIsReportedUntilTheReportIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		calls := 0
		echo := writerFunc(func(p []byte) (int, error) {
			if calls++; calls == 2 {
				return 0, syscall.EIO
			}
			return g.Write(p)
		})
		l := open(t, Options{Format: simple, EchoLevel: zerolog.TraceLevel, Echo: echo})
		z := l.Logger()
		z.Info().Msg("own line")
		synctest.Wait()
		const more = 40000
		for range more {
			z.Info().Msg("own line")
		}
		close(g.open)
		closeLog(t, l)
		if s := l.Stats(); s.Lines != 1 || s.Dropped != more || lost(t, g.String()) != more {
			t.Errorf("the log reports %d lost lines; %+v", lost(t, g.String()), s)
		}
	})
}

func TestCommandWaitsForASlowSinkAndOwnLinesDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := open(t, Options{Format: simple, Echo: g, EchoLevel: zerolog.TraceLevel, EchoCommand: true})
		in := bytes.Repeat([]byte("0123456789\n"), 100_000)
		written := 0
		var command goroutine.Group
		command.Go(func() {
			w := l.Capture("stdout")(4720)
			for _, c := range slicesOf(in, 65536) {
				n, _ := w.Write(c)
				written += n
			}
		})
		synctest.Wait() // the command waits
		s := l.Stats()
		if written > 2*commandLimit || s.Pending < commandLimit || s.Pending > 2*commandLimit {
			t.Errorf("a stalled sink took %d bytes; %+v", written, s)
		}
		z := l.Logger()
		z.Error().Msg("still here")
		if got := l.Stats(); got.Pending <= s.Pending || got.Dropped != 0 {
			t.Errorf("the command left no space for gophd: %+v", got)
		}
		close(g.open)
		command.Wait()
		closeLog(t, l)
		own := regexp.MustCompile(`(?m)^.*\[0\] error: still here\n`)
		text := own.ReplaceAll(g.Bytes(), nil)
		if len(text) == g.Len() {
			t.Error("gophd's own line was lost")
		}
		if got := restored(t, simple, text); !bytes.Equal(got, in) {
			t.Errorf("%d of %d bytes arrived, or they differ", len(got), len(in))
		}
	})
}

func TestStatsReportAStalledSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := open(t, Options{Format: simple, Echo: g})
		z := l.Logger()
		z.Warn().Msg("hello")
		time.Sleep(90 * time.Second)
		if got := l.Stats().Stalled; got != 90*time.Second {
			t.Errorf("stalled for %v", got)
		}
		close(g.open)
		synctest.Wait()
		if got, want := l.Stats(), (Stats{Lines: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		closeLog(t, l)
	})
}

func TestCloseGivesUpAStuckSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := openTimed(t, Options{Format: simple, Echo: g, EchoCommand: true})
		w := l.Capture("stdout")(1)
		var command goroutine.Group
		command.Go(func() { fmt.Fprintf(w, "%s", bytes.Repeat([]byte{'\n'}, commandLimit)) })
		synctest.Wait() // the command waits until Close releases it
		start := time.Now()
		err := l.Close()
		if err == nil || !strings.Contains(err.Error(), "stderr accepted no more data") {
			t.Errorf("got error %v", err)
		}
		if d := time.Since(start); d != readerTime+abortTime {
			t.Errorf("it took %v", d)
		}
		command.Wait()
		close(g.open)
		synctest.Wait()
		if s := l.Stats(); s.Lines+s.Dropped != commandLimit {
			t.Errorf("lines are not accounted for: %+v", s)
		}
	})
}

// faulty is an Echo whose writes fail as the script says, and then succeed.
type faulty struct {
	bytes.Buffer
	script []fault
}

type fault struct {
	n   int
	err error
}

func (f *faulty) Write(p []byte) (int, error) {
	if len(f.script) == 0 {
		return f.Buffer.Write(p)
	}
	next := f.script[0]
	f.script = f.script[1:]
	n, _ := f.Buffer.Write(p[:min(next.n, len(p))])
	return n, next.err
}

func TestWriteErrorsAndShortWrites(t *testing.T) {
	const line = "0123456789\n"
	head := len("2000-01-01 00:00:00.000 [7] out: ")
	record := head + len(line)
	for _, c := range []struct {
		name    string
		script  []fault
		want    string
		dropped uint64
		err     error // after the first batch
	}{
		{"a short write is continued", []fault{{5, nil}, {40, nil}}, "1111222", 0, nil},
		{"no progress is an error", []fault{{0, nil}}, "L4:222", 4, io.ErrNoProgress},
		{"nothing was written", []fault{{0, syscall.ENOSPC}}, "L4:222", 4, syscall.ENOSPC},
		{"it failed between two lines", []fault{{2 * record, syscall.ENOSPC}}, "11L2:222", 2, syscall.ENOSPC},
		{"it failed in a line", []fault{{2*record + head + 3, syscall.EIO}}, "11tL2:222", 2, syscall.EIO},
		// The reader has the whole line, but the log counts it as lost.
		{"it failed before a newline", []fault{{4*record - 1, syscall.EIO}}, "1111L1:222", 1, syscall.EIO},
		{"it failed again in the report", []fault{{0, syscall.EIO}, {20, syscall.EPIPE}}, "tL7:", 7, syscall.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &faulty{script: c.script}
				l := open(t, Options{Format: simple, Echo: f, EchoCommand: true})
				w := l.Capture("stdout")(7)
				fmt.Fprint(w, strings.Repeat(line, 4))
				synctest.Wait()
				if s := l.Stats(); !errors.Is(s.Err, c.err) {
					t.Errorf("the error is %v, want %v", s.Err, c.err)
				}
				fmt.Fprint(w, strings.Repeat("second\n", 3))
				closeLog(t, l)

				var got strings.Builder
				for text := range strings.Lines(f.String()) {
					switch {
					case strings.HasSuffix(text, "out: "+line):
						got.WriteByte('1')
					case strings.HasSuffix(text, "out: second\n"):
						got.WriteByte('2')
					case lost(t, text) > 0:
						fmt.Fprintf(&got, "L%d:", lost(t, text))
					default:
						got.WriteByte('t') // torn
					}
				}
				if diff := cmp.Diff(c.want, got.String()); diff != "" {
					t.Errorf("%s\n%s", diff, f.String())
				}
				if s := l.Stats(); s.Dropped != c.dropped || s.Lines+s.Dropped != 7 {
					t.Errorf("got %+v", s)
				}
			})
		})
	}
}

func TestClosePanicsAfterAPanicOfTheSinkAndNothingHangs(t *testing.T) {
	panics := writerFunc(func([]byte) (int, error) { panic("the fault") })
	l := open(t, Options{Format: simple, Echo: panics, EchoCommand: true})
	w := l.Capture("stdout")(1)
	for range 100 {
		if _, err := w.Write(bytes.Repeat([]byte("0123456789\n"), 5000)); err != nil {
			t.Fatal(err)
		}
	}
	if p := goroutine.Catch(func() { _ = l.Close() }); p == nil || p.Value != "the fault" {
		t.Errorf("the panic became %v", p)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A closed pipe is an error, but gophd does not exit.
func TestClosedPipeIsOnlyAnError(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	l := open(t, Options{Format: simple, Echo: w})
	z := l.Logger()
	z.Warn().Msg("lost")
	closeLog(t, l)
	if s := l.Stats(); s.Dropped != 1 || !errors.Is(s.Err, syscall.EPIPE) {
		t.Errorf("got %+v", s)
	}
}

func TestEachSinkGetsItsLevelAndItsLines(t *testing.T) {
	var echo bytes.Buffer
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{
		File: path, Format: simple, Level: zerolog.InfoLevel, Echo: &echo, EchoLevel: zerolog.WarnLevel, PID: 9,
	})
	z := l.Logger()
	z.Debug().Msg("debug")
	z.Info().Msg("info")
	z.Warn().Msg("warn")
	fmt.Fprintln(l.Capture("stderr")(4720), "line")
	closeLog(t, l)
	if diff := cmp.Diff(" [9] info\n [9] warn: warn\n [4720] err: line\n", untimed([]byte(read(t, path)))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(" [9] warn: warn\n", untimed(echo.Bytes())); diff != "" {
		t.Error(diff)
	}
}

func TestALogWithoutSinksTakesEverything(t *testing.T) {
	l := open(t, Options{Format: inJSON})
	z := l.Logger()
	z.Error().Msg("not written")
	w := l.Capture("stdout")(1)
	if n, err := w.Write([]byte("x\ny")); n != 3 || err != nil {
		t.Error(n, err)
	}
	if err := errors.Join(w.Close(), l.Reopen(), l.CrashOutput()); err != nil {
		t.Error(err)
	}
	if l.Path() != "" || l.Stats() != (Stats{}) {
		t.Error(l.Path(), l.Stats())
	}
	closeLog(t, l)
}

// TestStates walks every cell of the table in doc.go.
func TestStates(t *testing.T) {
	type outcome struct {
		lines, dropped uint64
		err            error
		state          state
	}
	own := func(l *Log) error { z := l.Logger(); z.Warn().Msg("own"); return nil }
	command := func(l *Log) error { fmt.Fprintln(l.Capture("stdout")(1), "x"); return nil }
	reopen := (*Log).Reopen
	for _, c := range []struct {
		in    state
		event string
		do    func(*Log) error
		want  outcome
	}{
		{running, "own line", own, outcome{lines: 1, state: running}},
		{running, "command's line", command, outcome{lines: 1, state: running}},
		{running, "Reopen", reopen, outcome{state: running}},
		// It waits for the gate, so it is called below.
		{running, "Close", nil, outcome{lines: 1, state: draining}},
		{draining, "own line", own, outcome{lines: 1, dropped: 1, state: draining}},
		{draining, "command's line", command, outcome{lines: 1, dropped: 1, state: draining}},
		{draining, "Reopen", reopen, outcome{lines: 1, err: os.ErrClosed, state: draining}},
		{draining, "Close", (*Log).Close, outcome{lines: 1, err: os.ErrClosed, state: draining}},
		{closed, "own line", own, outcome{dropped: 1, state: closed}},
		{closed, "command's line", command, outcome{dropped: 1, state: closed}},
		{closed, "Reopen", reopen, outcome{err: os.ErrClosed, state: closed}},
		{closed, "Close", (*Log).Close, outcome{err: os.ErrClosed, state: closed}},
	} {
		t.Run(fmt.Sprint(c.in, " ", c.event), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				path := filepath.Join(t.TempDir(), "log")
				l := open(t, Options{File: path, Format: simple, Echo: g, EchoCommand: true})
				var closing goroutine.Group
				switch {
				case c.in == closed:
					close(g.open)
					closeLog(t, l)
				case c.in == draining || c.event == "Close":
					z := l.Logger()
					z.Warn().Msg("keeps the sink busy")
					closing.Go(func() { _ = l.Close() })
					synctest.Wait()
				}
				var err error
				if c.do != nil {
					err = c.do(l)
				}
				l.mu.Lock()
				got := outcome{err: err, state: l.state}
				l.mu.Unlock()
				if c.in != closed {
					close(g.open)
				}
				closing.Wait()
				if c.in == running && c.event != "Close" {
					closeLog(t, l)
				}
				if strings.Contains(g.String(), "lost") {
					t.Errorf("a line after Close is reported as lost by the sink: %s", g.String())
				}
				got.lines, got.dropped = l.Stats().Lines, l.Stats().Dropped
				if !errors.Is(got.err, c.want.err) {
					t.Errorf("got error %v, want %v", got.err, c.want.err)
				}
				got.err, c.want.err = nil, nil
				if got != c.want {
					t.Errorf("got %+v, want %+v", got, c.want)
				}
			})
		})
	}
}

// The command does not wait for a stalled sink indefinitely: after stallTime its lines are dropped
// and counted. For a slow sink that never happens.
func TestAStuckSinkIsGivenUpButASlowOneIsNot(t *testing.T) {
	in := bytes.Repeat([]byte("0123456789\n"), 100_000)
	t.Run("stalled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate()
			l := openTimed(t, Options{Format: simple, Echo: g, EchoCommand: true})
			w, start := l.Capture("stdout")(4720), time.Now()
			_, _ = w.Write(in)
			if d := time.Since(start); d != stallTime {
				t.Errorf("the command waited for %v", d)
			}
			start = time.Now()
			_, _ = w.Write(in)
			if d := time.Since(start); d != 0 {
				t.Errorf("it waited again, for %v", d)
			}
			if s := l.Stats(); s.Dropped == 0 || !errors.Is(s.Lost, errStuck) || s.Pending > 2*commandLimit {
				t.Errorf("got %+v", s)
			}
			close(g.open)
			synctest.Wait()
			_, _ = w.Write([]byte("again\n"))
			closeLog(t, l)
			s := l.Stats()
			if s.Lines+s.Dropped != 200_001 || lost(t, g.String()) != s.Dropped ||
				!strings.HasSuffix(g.String(), "again\n") {
				t.Errorf("the log reports %d lost lines; %+v", lost(t, g.String()), s)
			}
		})
	})
	t.Run("slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var got bytes.Buffer
			l := openTimed(t, Options{Format: simple, EchoCommand: true, Echo: writerFunc(func(p []byte) (int, error) {
				time.Sleep(stallTime - time.Second)
				return got.Write(p)
			})})
			w := l.Capture("stdout")(4720)
			for _, c := range slicesOf(in, 65536) {
				_, _ = w.Write(c)
			}
			for l.Stats().Lines < 100_000 {
				time.Sleep(time.Second)
			}
			closeLog(t, l)
			if !bytes.Equal(restored(t, simple, got.Bytes()), in) {
				t.Errorf("%+v", l.Stats())
			}
		})
	})
}

// With the policy block nothing is dropped until gophd must exit.
func TestBlockWaitsForAStuckSinkUntilHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := openTimed(t, Options{Format: simple, Echo: g, EchoCommand: true})
		l.sinks[0].block = true
		l.SetStopRequests(1)
		l.SetStopRequests(0) // the stop is canceled
		var command goroutine.Group
		start, waited := time.Now(), time.Duration(0)
		command.Go(func() {
			_, _ = l.Capture("stdout")(4720).Write(bytes.Repeat([]byte{'\n'}, commandLimit))
			waited = time.Since(start)
		})
		time.Sleep(time.Hour)
		l.SetStopRequests(1)
		command.Wait()
		if waited != time.Hour+readerTime {
			t.Errorf("it waited for %v", waited)
		}
		if s := l.Stats(); s.Dropped == 0 || !errors.Is(s.Lost, errStuck) {
			t.Errorf("got %+v", s)
		}
		start = time.Now()
		err := l.Close()
		if err == nil || !strings.Contains(err.Error(), "accepted no more data") || time.Since(start) > abortTime {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		close(g.open)
		synctest.Wait()
		if s := l.Stats(); s.Lines+s.Dropped != commandLimit {
			t.Errorf("lines are not accounted for: %+v", s)
		}
	})
}

func TestShowIsNotSplitAndNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := open(t, Options{Format: simple, Echo: g, EchoLevel: zerolog.WarnLevel})
		z := l.Logger()
		l.Show([]byte("one\ntwo"))
		synctest.Wait() // the sink waits at the gate, so that all losses are in one batch
		z.Warn().Msg("after it")
		l.Show(nil)
		big := bytes.Repeat([]byte("0123456\n"), 1<<15) // 256 KiB
		for range 12 {
			l.Show(big)
		}
		close(g.open)
		closeLog(t, l)
		want := regexp.MustCompile(`^one\ntwo\n.* \[0\] warn: after it\n` +
			`(0123456\n)+.* warn: log lines were lost lines=\d+ .*\n$`)
		if !want.Match(g.Bytes()) {
			t.Errorf("got %.200q and %.200q", g.String(), g.String()[max(0, g.Len()-200):])
		}
		if s := l.Stats(); s.Dropped != lost(t, g.String()) || s.Lines != 3+12<<15-s.Dropped {
			t.Errorf("got %+v", s)
		}
	})
}

// The exact echo adds nothing and leaves out nothing, wherever chunks and lines end.
func TestExactEcho(t *testing.T) {
	in := []byte(strings.Repeat("a line\n\n\xff\x00", 30_000) + strings.Repeat("x", 200_000) + "\r\nno end")
	for _, size := range []int{1000, 65536, len(in)} {
		var got bytes.Buffer
		l := open(t, Options{Format: simple, Echo: &got, EchoCommand: true, EchoExact: true})
		w := l.Capture("stdout")(4720)
		for _, c := range slicesOf(in, size) {
			_, _ = w.Write(c)
		}
		_ = w.Close()
		z := l.Logger()
		z.Error().Msg("not for it")
		closeLog(t, l)
		if !bytes.Equal(got.Bytes(), in) {
			t.Errorf("in chunks of %d: %d bytes arrived of %d, or they differ", size, got.Len(), len(in))
		}
	}
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := openTimed(t, Options{Format: simple, Echo: g, EchoCommand: true, EchoExact: true})
		_, _ = l.Capture("stdout")(4720).Write(bytes.Repeat([]byte{'x'}, 4*commandLimit))
		close(g.open)
		closeLog(t, l)
		if s := l.Stats(); s.Dropped == 0 || strings.Trim(g.String(), "x") != "" {
			t.Errorf("a loss must be counted, but not written between the bytes: %+v", s)
		}
	})
}

// A loss is reported at once, and only once however many lines are lost. The next Log reports the
// losses that this one could not write, and no others.
func TestLossesAreReportedAndPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := true
		var got bytes.Buffer
		to := writerFunc(func(p []byte) (int, error) {
			if full {
				return 0, syscall.ENOSPC
			}
			return got.Write(p)
		})
		l := open(t, Options{Format: simple, Echo: to, EchoCommand: true})
		reported := func() bool {
			synctest.Wait()
			select {
			case <-l.Trouble():
				return true
			default:
				return false
			}
		}
		if reported() {
			t.Error("trouble before there was any")
		}
		w := l.Capture("stdout")(1)
		fmt.Fprint(w, "one\ntwo\n")
		if !reported() || reported() || !errors.Is(l.Stats().Lost, syscall.ENOSPC) {
			t.Errorf("the loss was not reported once: %+v", l.Stats())
		}
		full = false
		fmt.Fprint(w, "three\n")
		synctest.Wait()
		if s := l.Stats(); reported() || s.Err != nil || !errors.Is(s.Lost, syscall.ENOSPC) {
			t.Errorf("the reason of the loss is missing: %+v", s)
		}
		full = true
		fmt.Fprint(w, "four\nfive\nsix\n")
		synctest.Wait()
		closeLog(t, l)
		over := l.Losses()
		if over.Lines != 5 || over.Unreported != 3 || over.Why != syscall.ENOSPC.Error() {
			t.Errorf("passed on is %+v", over)
		}

		full = false
		l = open(t, Options{Format: simple, Echo: to, EchoCommand: true, Losses: over})
		if !reported() || l.Stats().Dropped != 5 {
			t.Errorf("the next log starts with %+v", l.Stats())
		}
		fmt.Fprint(l.Capture("stdout")(1), "seven\n")
		closeLog(t, l)
		if n := lost(t, got.String()); n != 5 || strings.Count(got.String(), "lines=3") != 1 {
			t.Errorf("the log reports %d lost lines:\n%s", n, got.String())
		}
		over = l.Losses()
		if over != (Losses{Lines: 5, Why: syscall.ENOSPC.Error()}) {
			t.Errorf("passed on again is %+v", over)
		}
		l = open(t, Options{Format: simple, Echo: to, Losses: over})
		if s := l.Stats(); reported() || s.Lost == nil || s.Lost.Error() != over.Why {
			t.Errorf("the third log starts with %+v", s)
		}
		closeLog(t, l)
	})
}

func TestFileLoggerDoesNotWriteToEcho(t *testing.T) {
	var got bytes.Buffer
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{Format: simple, File: path, Level: zerolog.WarnLevel, Echo: &got, EchoLevel: zerolog.WarnLevel})
	file, both := l.FileLogger(), l.Logger()
	file.Error().Msg("to the file")
	file.Info().Msg("below the level")
	both.Error().Msg("to both")
	closeLog(t, l)
	if text := got.String(); strings.Contains(text, "to the file") || !strings.Contains(text, "to both") {
		t.Errorf("the echo has %q", text)
	}
	if text := read(t, path); !strings.Contains(text, "to the file") || !strings.Contains(text, "to both") ||
		strings.Contains(text, "below") {
		t.Errorf("the file has %q", text)
	}
}

func TestEchoLoggerWritesOnlyToEcho(t *testing.T) {
	var got bytes.Buffer
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{Format: simple, File: path, Echo: &got, EchoLevel: zerolog.WarnLevel})
	z := l.EchoLogger()
	z.Error().Msg("about the log")
	closeLog(t, l)
	if !strings.Contains(got.String(), "about the log") || read(t, path) != "" {
		t.Errorf("the echo has %q, the file %q", got.String(), read(t, path))
	}
}
