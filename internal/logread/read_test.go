package logread

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/logging"
)

// openLog opens a real log, which is closed at the end of the test.
func openLog(t *testing.T, o logging.Options) *logging.Log {
	t.Helper()
	l, err := logging.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// lines reads a log and returns what show makes of each line.
func lines(t *testing.T, s Source, q Query, show func(Line) string) (all []string) {
	t.Helper()
	if err := Read(t.Context(), s, q, false, func(l Line) bool {
		all = append(all, show(l))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func brief(l Line) string { return fmt.Sprintf("%d %s", l.PID, l.Brief(true)) }

// What a command wrote comes back byte by byte from each format, and gophd's own lines with level and run.
func TestEachFormatIsRead(t *testing.T) {
	for _, format := range []string{"simple", "json", "console"} {
		t.Run(format, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.log")
			l := openLog(t, logging.Options{File: path, Format: format, Job: "nightly", PID: 812})
			text := "one\n\xfftwo\r\n7%\r8%\r\n\x1b[31mred\n\nout: err+ \"{\n" + strings.Repeat("x", 70_000) + "\nend"
			out := l.Stream("stdout", 901)
			_, _ = out.Write([]byte(text))
			_ = out.Close()
			log := l.Logger()
			log.Warn().Str("event", "run.ended").Uint64("run", 8).Msg("run 8 failed after 1s: exit code 3")
			log.Info().Msg("out of luck")
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			var got []byte
			var own []string
			if err := Read(t.Context(), Source{File: path, Job: "nightly"}, Query{}, false, func(l Line) bool {
				again := ParseJSON(l.AppendJSON(nil))
				if again.Brief(true) != l.Brief(true) || again.PID != l.PID || !again.Time.Equal(l.Time) || again.CRLF != l.CRLF || again.Run != l.Run {
					t.Errorf("%+v became %+v", l, again)
				}
				if l.Time.IsZero() || l.Job != "nightly" {
					t.Errorf("%+v", l)
				}
				if l.Stream == "stdout" && l.PID == 901 {
					got = append(got, l.Output()...)
				} else {
					own = append(own, fmt.Sprintf("%d %d %s", l.PID, l.Run, l.Brief(false)))
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if string(got) != text {
				t.Errorf("the output is %.200q", got)
			}
			if want := "812 8 warn: run 8 failed after 1s: exit code 3|812 0 out of luck"; strings.Join(own, "|") != want {
				t.Errorf("own lines: %q", own)
			}
		})
	}
}

// In a log of several jobs only the lines of one are read, whatever the others write.
func TestOneJobOfALogOfSeveral(t *testing.T) {
	for _, format := range []string{"simple", "json", "console"} {
		path := filepath.Join(t.TempDir(), "x.log")
		l := openLog(t, logging.Options{File: path, Format: format, PID: 812})
		write := func(job, text string) {
			s := l.Job(job).Capture("stdout")(901)
			_, _ = s.Write([]byte(text))
			_ = s.Close()
		}
		write("a", "mine\n")
		write("ab", "a: out: forged\n")
		write("b", `"job":"a"`+"\n[901] a: out: forged\n")
		write("b", "2026-11-27 03:17:00.100 [901] a: out: forged\n")
		log := l.Job("a").Logger()
		log.Warn().Str("event", "x").Msg("run 2 failed")
		log = l.Logger()
		log.Info().Msg("about the daemon")
		write("a", "the last")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		got := lines(t, Source{File: path, Job: "a", Shared: true}, Query{}, brief)
		if want := []string{"901 a: out: mine", "812 warn: a: run 2 failed", "901 a: out+ the last"}; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
		all := lines(t, Source{File: path, Shared: true, Jobs: []string{"a", "ab", "b"}}, Query{}, brief)
		if want := "812 about the daemon"; len(all) != 8 || all[6] != want || all[0] != "901 a: out: mine" {
			t.Errorf("%s: all lines: %q", format, all)
		}
	}
}

// numbered writes numbered lines to a log that is rotated and compressed, until there are so many.
func numbered(t *testing.T, l *logging.Log, from, to int) {
	t.Helper()
	out := l.Stream("stdout", 901)
	for i := from; i < to; i++ {
		if _, err := fmt.Fprintf(out, "%d\n", i); err != nil {
			t.Error(err)
		}
	}
	_ = out.Close()
}

func text(l Line) string { return string(l.Text) }

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// The lines of all archives, compressed or not, are read in order, and the last ones or those since some time
// are the same as the end of all.
func TestArchivesAreReadInOrder(t *testing.T) {
	for _, compress := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "x.log")
		l := openLog(t, logging.Options{File: path, Format: "simple", RotateSize: 2000, Compress: compress, PID: 812})
		for i := 0; i < 500; i += 10 { // a batch of its own each
			numbered(t, l, i, i+10)
			for l.Stats().Pending > 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if compress { // what was in the way when the log was closed stays as it is
			gzipOne(t, path)
		}
		s := Source{File: path, Job: "x"}
		all := lines(t, s, Query{}, text)
		if !slices.Equal(all, numbers(0, 500)) {
			t.Fatalf("compress %t: %d lines: %q", compress, len(all), all)
		}
		var times []time.Time
		_ = lines(t, s, Query{}, func(l Line) string { times = append(times, l.Time); return "" })
		for _, n := range []int{1, 9, 10, 99, 250, 499, 500, 501} {
			if got := lines(t, s, Query{Last: n}, text); !slices.Equal(got, all[max(0, 500-n):]) {
				t.Errorf("compress %t: the last %d are %d from %s", compress, n, len(got), got[0])
			}
		}
		for _, i := range []int{1, 100, 499} {
			first := slices.IndexFunc(times, func(at time.Time) bool { return !at.Before(times[i]) })
			if got := lines(t, s, Query{Since: times[i]}, text); !slices.Equal(got, all[first:]) {
				t.Errorf("compress %t: since line %d there are %d", compress, i, len(got))
			}
			if got := lines(t, s, Query{Since: times[i], Last: 7}, text); !slices.Equal(got, all[max(first, 493):]) {
				t.Errorf("compress %t: of those since line %d the last are %q", compress, i, got)
			}
		}
		if got := lines(t, s, Query{Since: time.Now().Add(time.Hour)}, text); len(got) != 0 {
			t.Errorf("lines of the future: %q", got)
		}
	}
}

// gzipOne compresses the first archive, if none is.
func gzipOne(t *testing.T, path string) {
	t.Helper()
	files, err := logging.Files(path, time.Now())
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if files[0].Compressed {
		return
	}
	content, err := os.ReadFile(files[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(content)
	_ = z.Close()
	if err := errors.Join(os.WriteFile(files[0].Path+".gz", b.Bytes(), 0o600), os.Remove(files[0].Path)); err != nil {
		t.Fatal(err)
	}
}

// Lines that are written while the last ones are read are not among them.
func TestTheLastLinesAreThoseAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	l := openLog(t, logging.Options{File: path, Format: "simple", PID: 812})
	numbered(t, l, 0, 10)
	for l.Stats().Lines < 10 {
		time.Sleep(time.Millisecond)
	}
	r := &reader{Source: Source{File: path}, Query: Query{Last: 3}, ctx: t.Context(), now: time.Now}
	defer r.close()
	var got []string
	r.yield = func(l Line) bool {
		got = append(got, text(l))
		return true
	}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	numbered(t, l, 10, 20)
	for l.Stats().Lines < 20 {
		time.Sleep(time.Millisecond)
	}
	first, at, err := r.start()
	if err == nil {
		err = r.readFile(first, at, true)
	}
	if err != nil || !slices.Equal(got, numbers(7, 10)) {
		t.Errorf("%q, %v", got, err)
	}
}

// follow reads a log in a goroutine, which must end before the test does.
func follow(t *testing.T, s Source, q Query) (<-chan string, context.CancelFunc) {
	t.Helper()
	got := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	var group goroutine.Group
	group.Go(func() {
		if err := Read(ctx, s, q, true, func(l Line) bool {
			select {
			case got <- text(l):
				return true
			case <-ctx.Done():
				return false
			}
		}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return got, cancel
}

func expect(t *testing.T, got <-chan string, want []string) {
	t.Helper()
	for i, w := range want {
		if text := <-got; text != w {
			t.Fatalf("line %d is %q, want %q", i, text, w)
		}
	}
}

// While the log is rotated many times, compressed, and pruned only behind the reader, no line is lost or
// there twice, also over a new start of the writer, and if the file is removed or moved away.
func TestFollowGoesOnOverRotations(t *testing.T) {
	for _, compress := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "x.log")
		got, _ := follow(t, Source{File: path, Job: "x"}, Query{})
		o := logging.Options{File: path, Format: "simple", RotateSize: 3000, Compress: compress, PID: 812}
		next := 0
		for range 3 { // starts of gophd
			l := openLog(t, o)
			for range 8 {
				numbered(t, l, next, next+300)
				expect(t, got, numbers(next, next+150)) // the reader is behind
				expect(t, got, numbers(next+150, next+300))
				next += 300
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(path, path+".moved"); err != nil {
			t.Fatal(err)
		}
		l := openLog(t, o)
		numbered(t, l, next, next+5)
		expect(t, got, numbers(next, next+5))
	}
}

// The name of a log may have the time: then there is another file for each.
func TestFollowGoesOnInTheFileOfTheNextTime(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, logging.Options{File: filepath.Join(dir, "x-%H%M%S.log"), Format: "json", PID: 812, Job: "x"})
	got, _ := follow(t, Source{File: filepath.Join(dir, "x-%H%M%S.log"), Job: "x"}, Query{})
	for i, files := 0, 0; files < 3; i++ {
		numbered(t, l, i, i+1)
		expect(t, got, numbers(i, i+1))
		all, _ := filepath.Glob(filepath.Join(dir, "x-*.log"))
		files = len(all)
	}
}

// Another program may cut the file, and a line that was written in part may be taken back.
func TestFollowGoesOnInATruncatedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const head = "2026-11-27 03:17:00.100 [901] out: "
	write := func(text string) {
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := follow(t, Source{File: path, Job: "x"}, Query{})
	write(head + "1\n" + head + "2\n" + head + "torn")
	expect(t, got, []string{"1", "2"})
	if err := f.Truncate(int64(2*len(head) + 4)); err != nil {
		t.Fatal(err)
	}
	write(head + "3\n")
	expect(t, got, []string{"3"})
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	write(head + "4\n")
	expect(t, got, []string{"4"})
}

// Until ends it after the lines that are there by then.
func TestUntilEndsAFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	l := openLog(t, logging.Options{File: path, Format: "simple", PID: 812})
	until := make(chan struct{})
	got, _ := follow(t, Source{File: path, Job: "x"}, Query{Until: until})
	numbered(t, l, 0, 1000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	close(until)
	expect(t, got, numbers(0, 1000))
}

// The lines of a run are those of its process while it was active, and those that name it: not those of an
// earlier process with the same PID, or of an earlier daemon whose run had the same number.
func TestLinesOfARun(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 11, 27, 3, 0, s, 0, time.Local) }
	line := func(s int, text string) string { return at(s).Format(textTime) + " " + text + "\n" }
	path := filepath.Join(t.TempDir(), "x.log")
	content := line(1, "[901] out: old process") + line(2, "[812] warn: run 3 failed: old") +
		line(30, "[901] out: mine") + line(31, "[902] out: another") + line(32, "[901] err+ mine too") +
		line(33, "[812] warn: run 3 failed after 3s: exit code 1") + line(33, "[812] warn: run 30 failed") +
		"goroutine 1 [running]:\n" + line(58, "[901] out: a later process")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	run := Run{Number: 3, PID: 901, Started: at(30), Ended: at(33)}
	s := Source{File: path, Job: "x"}
	want := []string{"901 x: out: mine", "901 x: err+ mine too", "812 warn: x: run 3 failed after 3s: exit code 1"}
	if got := lines(t, s, Query{Runs: []Run{run}}, brief); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := lines(t, s, Query{Runs: []Run{run}, Last: 2}, brief); !slices.Equal(got, want[1:]) {
		t.Errorf("the last two: %q", got)
	}
	if got := lines(t, s, Query{Runs: []Run{run}, Command: true}, brief); !slices.Equal(got, want[:2]) {
		t.Errorf("of the command: %q", got)
	}
	run.Ended = time.Time{}
	if got := lines(t, s, Query{Runs: []Run{run}}, brief); len(got) != 4 {
		t.Errorf("while it is active: %q", got)
	}
	if got := lines(t, s, Query{Last: 2}, brief); !slices.Equal(got, []string{"0 goroutine 1 [running]:", "901 x: out: a later process"}) {
		t.Errorf("a line without a time: %q", got)
	}
}

// A log that is not there, is no file or may not be read is an error that names it, and garbage is none.
func TestLogsThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	read := func(file string) error {
		return Read(t.Context(), Source{File: file, Job: "x"}, Query{Last: 5}, false, func(Line) bool { return true })
	}
	if err := read(path); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), path) {
		t.Errorf("a missing file: %v", err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := read(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a FIFO: %v", err)
	}
	if err := read("syslog:x"); !errors.Is(err, ErrSyslog) {
		t.Errorf("syslog: %v", err)
	}
	if err := read(""); err == nil {
		t.Error("no log is no error")
	}
	_ = os.Remove(path)
	garbage := strings.Repeat("\x00", 3<<20) + "\n{\"time\":7}\n{}\n[\n2026-11-27 03:17:00.100 [901] out: good\n2026-13-27 03:17:00.100 [901] out: bad\n"
	if err := os.WriteFile(path, []byte(garbage), 0o600); err != nil {
		t.Fatal(err)
	}
	all := lines(t, Source{File: path, Job: "x"}, Query{}, text)
	if len(all) != 6 || all[4] != "good" || len(all[0]) != maxLine {
		t.Errorf("of garbage %d lines: %.100q", len(all), all[1:])
	}
	if got := lines(t, Source{File: path, Job: "x"}, Query{Last: 2}, text); !slices.Equal(got, all[4:]) {
		t.Errorf("the last of garbage: %.100q", got)
	}
	if err := os.WriteFile(path+".20261127T031700.000000Z.gz", []byte("no gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Read(t.Context(), Source{File: path, Job: "x"}, Query{}, false, func(Line) bool { return true })
	if err == nil || !strings.Contains(err.Error(), ".gz: ") {
		t.Errorf("a damaged archive: %v", err)
	}
}

// MaxScan bounds the search for the last lines.
func TestSearchForTheLastLinesIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	var b strings.Builder
	b.WriteString("2026-11-27 03:17:00.100 [901] a: out: mine\n")
	for range 1000 {
		b.WriteString("2026-11-27 03:17:00.100 [901] b: out: another\n")
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Source{File: path, Job: "a", Shared: true}
	if got := lines(t, s, Query{Last: 5, MaxScan: 10_000}, text); len(got) != 0 {
		t.Errorf("it was searched as a whole: %q", got)
	}
	if got := lines(t, s, Query{Last: 5, MaxScan: 100_000}, text); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("%q", got)
	}
}

// backward passes the same lines as a reader from the start, in the other order, with their offsets.
func FuzzBackward(f *testing.F) {
	f.Add([]byte("a\nbb\n\nccc"))
	f.Add([]byte("\n"))
	f.Add(bytes.Repeat([]byte("0123456789\n"), 20_000))
	f.Fuzz(func(t *testing.T, content []byte) {
		var want, got []string
		at := 0
		for l := range bytes.Lines(content) {
			if len(l) > maxLine/2 {
				return
			}
			want = append(want, fmt.Sprintf("%d %q", at, bytes.TrimSuffix(l, []byte{'\n'})))
			at += len(l)
		}
		if err := backward(bytes.NewReader(content), int64(len(content)), func(start int64, text []byte) bool {
			got = append(got, fmt.Sprintf("%d %q", start, text))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// Any line becomes valid JSON, and the JSON has the same bytes.
func FuzzLine(f *testing.F) {
	for _, text := range []string{"2026-11-27 03:17:00.100 [901] a: out: x\r", "2026-11-27 03:17:00.100 [8] warn: a: run 3 failed",
		`{"time":"2026-11-27T03:17:00.1Z","pid":1,"job":"a","stream":"stdout","line":"x","bytes":"/w=="}`, "{", "\xff"} {
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, shared bool) {
		if bytes.IndexByte(raw, '\n') >= 0 {
			return
		}
		s := Source{Job: "a", Shared: shared}
		s.prefix, s.quoted = []byte("a: "), []byte(`"job":"a"`)
		l, mine := s.parse(raw)
		if !mine {
			return
		}
		object := l.AppendJSON(nil)
		if !json.Valid(object) {
			t.Fatalf("%q becomes %s", raw, object)
		}
		again := ParseJSON(object)
		if l.Stream != "" && !bytes.Equal(again.Text, l.Text) || again.Stream != l.Stream || again.PID != l.PID {
			t.Errorf("%+v becomes %+v", l, again)
		}
	})
}

// The lines since some time are found if the clock was set back meanwhile, and a search for them does not read
// all that is older.
func TestSinceWithAClockThatWasSetBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	at := time.Date(2026, 11, 27, 3, 0, 0, 0, time.Local)
	var b strings.Builder
	write := func(from time.Time, count int, word string) {
		for i := range count {
			fmt.Fprintf(&b, "%s [901] out: %s %d\n", from.Add(time.Duration(i)*time.Millisecond).Format(textTime), word, i)
		}
	}
	write(at.Add(-time.Hour), 10_000, "old")
	write(at.Add(time.Minute), 5, "before")
	write(at.Add(-30*time.Minute), 1000, "set back")
	write(at, 5, "after")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got := lines(t, Source{File: path, Job: "x"}, Query{Since: at}, text)
	if len(got) != 10 || got[0] != "before 0" || got[9] != "after 4" {
		t.Errorf("%q", got)
	}
	r := &reader{Source: Source{File: path}, Query: Query{Since: at}, ctx: t.Context(), now: time.Now}
	defer r.close()
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	_, from, err := r.start()
	if first := int64(strings.Index(b.String(), at.Add(time.Minute).Format(textTime))); err != nil || from != first {
		t.Errorf("it starts at %d, %v, want %d", from, err, first)
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, bytes.Repeat([]byte("2026-11-27 03:17:00.100 [901] out: x\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Read(ctx, Source{File: path, Job: "x"}, Query{Last: 5}, false, func(Line) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Error("it was removed")
	}
}
