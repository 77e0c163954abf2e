package logging

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"gophd/internal/goroutine"
)

// names returns the files of a directory, sorted as the shell sorts them.
func names(t interface{ Fatal(...any) }, dir string) (all []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// contents returns the uncompressed contents of a file.
func contents(t interface{ Fatal(...any) }, path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(path, err)
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(path, err)
	}
	return b
}

// together returns the output of `zcat -f LOG.* LOG`.
func together(t interface{ Fatal(...any) }, path string) (all []byte) {
	for _, name := range names(t, filepath.Dir(path)) {
		if name != filepath.Base(path) {
			all = append(all, contents(t, filepath.Join(filepath.Dir(path), name))...)
		}
	}
	return append(all, contents(t, path)...)
}

// waitForArchives waits until there is no more work on the archives.
func waitForArchives(a *archives) { a.work.Wait() }

// capture returns a Stream with the chunks.
func capture(t interface{ Fatal(...any) }, l *Log, chunks ...[]byte) *Stream {
	s := l.Stream("stdout", 4720)
	for _, c := range chunks {
		if n, err := s.Write(c); n != len(c) || err != nil {
			t.Fatal("write:", n, err)
		}
	}
	return s
}

// For any output, in any pieces, from any number of processes one after the other: the archives and
// the file together have exactly that output. No record is torn, and no file is too large.
func TestRotationUnderLoad(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		path := filepath.Join(dir, "log")
		o := Options{
			File: path, Format: rapid.SampledFrom([]string{simple, inJSON}).Draw(rt, "format"), Job: "j", PID: 1,
			RotateSize: rapid.Int64Range(1, 5000).Draw(rt, "size"),
			Compress:   rapid.Bool().Draw(rt, "compress"),
			Sync:       rapid.SampledFrom([]string{syncNever, syncAlways}).Draw(rt, "sync"),
		}
		many := bytes.Repeat([]byte("a line of many\n"), rapid.IntRange(0, 50).Draw(rt, "lines"))
		in := bytes.Join([][]byte{drawOutput(rt), many}, nil)
		var rest []byte
		for chunks := split(rt, in); ; {
			l, err := Open(o)
			if err != nil {
				rt.Fatal(err)
			}
			s := capture(rt, withTestTimeouts(l), rest)
			n := rapid.IntRange(1, max(1, len(chunks))).Draw(rt, "chunks of this process")
			for _, c := range chunks[:min(n, len(chunks))] {
				if _, err := s.Write(c); err != nil {
					rt.Fatal(err)
				}
			}
			chunks = chunks[min(n, len(chunks)):]
			if len(chunks) > 0 {
				rest = s.Rest().Bytes
			}
			if err := errors.Join(s.Close(), l.Close()); err != nil {
				rt.Fatal(err)
			}
			if len(chunks) == 0 {
				break
			}
		}
		if got := restored(rt, o.Format, together(rt, path)); !bytes.Equal(got, in) {
			rt.Fatalf("%d bytes were restored as %d", len(in), len(got))
		}
		for _, name := range names(rt, dir) {
			b := contents(rt, filepath.Join(dir, name))
			if len(b) > 0 && b[len(b)-1] != '\n' {
				rt.Fatalf("%s ends in the middle of a record", name)
			}
			if int64(len(b)) > o.RotateSize && bytes.Count(b, []byte{'\n'}) > 1 {
				rt.Fatalf("%s has %d bytes, the limit is %d", name, len(b), o.RotateSize)
			}
		}
	})
}

// The same at full speed, with two streams and compression.
func TestRotationAtFullSpeed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{File: path, Format: simple, RotateSize: 1 << 18, Compress: true})
	var want bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintln(&want, "line", i, "of a command")
	}
	var commands goroutine.Group
	for _, pid := range []int{1, 2} {
		commands.Go(func() {
			w := l.Capture("stdout")(pid)
			for _, c := range slicesOf(want.Bytes(), 65536) {
				if _, err := w.Write(c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	commands.Wait()
	closeLog(t, l)
	if s := l.Stats(); s.Lines != 200_000 || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
	got := map[string][]byte{}
	for line := range bytes.Lines(together(t, path)) {
		_, line, _ = bytes.Cut(line, []byte(" ["))
		pid, text, _ := bytes.Cut(line, []byte("] out: "))
		got[string(pid)] = append(got[string(pid)], text...)
	}
	if !bytes.Equal(got["1"], want.Bytes()) || !bytes.Equal(got["2"], want.Bytes()) || len(got) != 2 {
		t.Errorf("%d and %d bytes were restored, want %d each", len(got["1"]), len(got["2"]), want.Len())
	}
}

func TestKeepAndKeepBytes(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want int
	}{
		{"all", Options{}, 9},
		{"a number", Options{Keep: 3}, 3},
		{"more than there are", Options{Keep: 30}, 9},
		{"bytes", Options{KeepBytes: 450}, 4},
		{"the stricter one counts", Options{Keep: 2, KeepBytes: 450}, 2},
		{"no bytes at all", Options{KeepBytes: 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, foreign := range []string{
				"log.1", "log.gz", "log.20260101T000000.000000Z.old", "other.20260101T000000.000000Z",
				"log.20260101T000000.0Z", "log.gz.tmp",
			} {
				if err := os.WriteFile(filepath.Join(dir, foreign), []byte("not ours"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// The names match, but these are not regular files.
			err := errors.Join(
				os.Mkdir(dir+"/log.20260101T000000.000000Z", 0o700),
				os.Symlink("log.1", dir+"/log.20260101T000001.000000Z"))
			if err != nil {
				t.Fatal(err)
			}
			before := names(t, dir)
			o := c.o
			o.File, o.Format, o.RotateSize = dir+"/log", simple, 100
			l := open(t, o)
			w := l.Capture("stdout")(4720)
			text := strings.Repeat("x", 100-len("2026-11-22 06:51:02.123 [4720] out: \n")) + "\n"
			for range 10 {
				if _, err := io.WriteString(w, text); err != nil {
					t.Fatal(err)
				}
				flush(l)
			}
			waitForArchives(l.file.archives)
			closeLog(t, l)
			left := slices.DeleteFunc(names(t, dir), func(name string) bool { return slices.Contains(before, name) })
			if len(left) != c.want+1 || left[0] != "log" || len(names(t, dir)) != len(before)+len(left) {
				t.Errorf("left are %q, want %d archives and all that is foreign", left, c.want)
			}
			want := bytes.Repeat([]byte(text), c.want+1)
			if got := restored(t, simple, inOrder(t, dir, left)); !bytes.Equal(got, want) {
				t.Errorf("they hold %d bytes", len(got))
			}
		})
	}
}

func inOrder(t *testing.T, dir string, files []string) (all []byte) {
	for _, name := range append(files[1:], files[0]) {
		all = append(all, contents(t, filepath.Join(dir, name))...)
	}
	return all
}

// The names of a pattern are archives too, in all directories that match the pattern. Other names
// are not.
func TestKeepCountsTheNamesOfThePattern(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, foreign := range []string{
			"1999-13-01/x.log", "1999-12-01/y.log", "1999-12-01/x.log.bak", "1999-12-1/x.log",
		} {
			path := filepath.Join(dir, foreign)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 6 {
			if err := os.MkdirAll(dir+"/"+time.Now().AddDate(0, 0, i).Format("2006-01-02"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		l := open(t, Options{File: dir + "/%F/x.log", Format: simple, RotateSize: 30, Keep: 4})
		z := l.Logger()
		for day := range 6 {
			for n := range 2 {
				z.Info().Msgf("%d%d", day, n)
				synctest.Wait()
				time.Sleep(time.Second) // modification times have a limited resolution
				if err := os.Chtimes(l.Path(), time.Now(), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(24*time.Hour - 2*time.Second)
		}
		closeLog(t, l)
		var got []string
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				rel, _ := filepath.Rel(dir, path)
				got = append(got, rel+strings.TrimPrefix(untimed([]byte(read(t, path))), " [0]"))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		// Of the last day's two lines one is in an archive.
		want := []string{
			"1999-12-01/x.log.bak", "1999-12-01/y.log", "1999-12-1/x.log", "1999-13-01/x.log",
			"2000-01-04/x.log 31\n", "2000-01-05/x.log 41\n", "2000-01-05/x.log.20000105T000001.000000Z 40\n",
			"2000-01-06/x.log 51\n", "2000-01-06/x.log.20000106T000001.000000Z 50\n",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRotationByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, format := range []string{simple, inJSON} {
			dir := t.TempDir()
			process := func(do func(logLine func(string))) {
				l := open(t, Options{File: dir + "/log", Format: format, RotateAge: time.Hour})
				z := l.Logger()
				do(func(s string) { z.Info().Msg(s); synctest.Wait() })
				closeLog(t, l)
			}
			process(func(logLine func(string)) {
				time.Sleep(2 * time.Hour)
				logLine("an empty file has no age")
			})
			time.Sleep(30 * time.Minute)
			process(func(logLine func(string)) { // the age is that of the previous process's line
				time.Sleep(30*time.Minute - 1)
				logLine("just before")
				time.Sleep(time.Nanosecond)
				logLine("an hour later")
			})
			var got [][]byte
			for _, name := range names(t, dir) {
				got = append(got, contents(t, filepath.Join(dir, name)))
			}
			if len(got) != 2 || bytes.Count(got[0], []byte{'\n'}) != 1 || bytes.Count(got[1], []byte{'\n'}) != 2 {
				t.Errorf("%s: %q", format, got)
			}
		}
	})
}

// A moved or deleted file is noticed by the next line after a second. Only the lines that were
// written to the deleted file before are lost.
func TestAFileThatIsMovedAwayOrDeletedIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir() + "/log"
		l := open(t, Options{File: path, Format: simple})
		z := l.Logger()
		logLine := func(s string) { z.Info().Msg(s); synctest.Wait() }
		logLine("one")
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		logLine("two")
		time.Sleep(time.Second)
		logLine("three")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		logLine("four")
		closeLog(t, l)
		if got := untimed([]byte(read(t, path+".1") + read(t, path))); got != " [0] one\n [0] two\n [0] four\n" {
			t.Errorf("got %q", got)
		}
	})
}

// logrotate's copytruncate: the size counts from the truncated file.
func TestATruncatedFileIsNotRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := open(t, Options{File: dir + "/log", Format: simple, RotateSize: 100})
		z := l.Logger()
		for range 10 {
			z.Info().Msg("forty bytes are here")
			synctest.Wait()
			if err := os.Truncate(dir+"/log", 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		closeLog(t, l)
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
}

// Two logs write to one file. When one has rotated, the other switches to the new file.
func TestTwoLogsOnOneFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := Options{File: dir + "/log", Format: simple, RotateSize: 100, Compress: true}
		a, b := open(t, o), open(t, o)
		logLine := func(l *Log, s string) { z := l.Logger(); z.Info().Msg(s); synctest.Wait() }
		for range 3 { // 29 bytes each, and 38
			logLine(a, "a")
			logLine(b, "b wrote this")
		}
		waitForArchives(a.file.archives)
		waitForArchives(b.file.archives)
		closeLog(t, a)
		closeLog(t, b)
		files := names(t, dir)
		got := untimed(together(t, dir+"/log"))
		for s, n := range map[string]int{" [0] a\n": 3, " [0] b wrote this\n": 3} {
			if strings.Count(got, s) != n {
				t.Errorf("%q is there %d times in %q", s, strings.Count(got, s), got)
			}
		}
		if len(files) > 3 {
			t.Errorf("each rotated the other's files: %q", files)
		}
	})
}

func TestRotationFollowsASymlink(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/real", 0o700), os.Symlink("real/target", dir+"/log")); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{File: dir + "/log", Format: simple, RotateSize: 50, Keep: 1})
	for _, s := range []string{"the first line", "the second line", "the third line"} {
		logLine(t, l, s)
		waitForArchives(l.file.archives)
	}
	closeLog(t, l)
	if got := names(t, dir); !slices.Equal(got, []string{"log", "real"}) {
		t.Errorf("%q", got)
	}
	got := names(t, dir+"/real")
	text := untimed(together(t, dir+"/real/target"))
	if len(got) != 2 || got[0] != "target" || text != " [0] the second line\n [0] the third line\n" {
		t.Errorf("%q", got)
	}
}

// If the rotation fails, lines go to the same file, and the error is reported once.
func TestARotationThatFailsLosesNothing(t *testing.T) {
	dir := t.TempDir()
	// A name of the maximum length has no space for a timestamp, for root too.
	long := dir + "/" + strings.Repeat("x", 255)
	l := open(t, Options{File: long, Format: simple, RotateSize: 60})
	for range 10 {
		logLine(t, l, "a line")
	}
	closeLog(t, l)
	text := untimed([]byte(read(t, long)))
	if strings.Count(text, " [0] a line\n") != 10 || strings.Count(text, "warn: switching the log file failed") != 1 {
		t.Errorf("got %q", text)
	}
}

func TestModeAndOwner(t *testing.T) { testModeAndOwner(t, Owner{UID: -1, GID: os.Getgid()}) }

// The file and its archives have the configured mode and owner. The umask has no effect.
func testModeAndOwner(t *testing.T, owner Owner) {
	dir := t.TempDir()
	mask := syscall.Umask(0o077)
	defer syscall.Umask(mask)
	l := open(t, Options{
		File: dir + "/log", Format: simple, RotateSize: 50, Compress: true, Mode: 0o664, Owner: &owner,
	})
	for range 3 {
		logLine(t, l, "a line of some length")
		waitForArchives(l.file.archives)
	}
	closeLog(t, l)
	files := names(t, dir)
	if len(files) != 3 {
		t.Errorf("%q", files)
	}
	for _, name := range files {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		s := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != 0o664 || int(s.Gid) != owner.GID || owner.UID >= 0 && int(s.Uid) != owner.UID {
			t.Errorf("%s has mode %v, user %d, group %d", name, info.Mode(), s.Uid, s.Gid)
		}
	}
}

// If a compression is killed at any point, the next Log finishes it or starts it again. The archive
// or its compressed form exists at each moment.
func TestAKilledCompressionIsFinishedByTheNextLog(t *testing.T) {
	gz := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := io.WriteString(z, s); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const stamp, line = "20260101T000000.000000Z", "2026-01-01 00:00:00.000 [0] an archive\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"before it started", map[string]string{"log." + stamp: line}, line},
		{"while it wrote", map[string]string{"log." + stamp: line, "log." + stamp + ".gz.tmp": gz(line)[:10]}, line},
		{"before it renamed", map[string]string{"log." + stamp: line, "log." + stamp + ".gz.tmp": gz(line)}, line},
		{"before it removed", map[string]string{"log." + stamp: line, "log." + stamp + ".gz": gz(line)}, line},
		{"another file has that name",
			map[string]string{"log." + stamp: line, "log." + stamp + ".gz": gz("else\n")}, "else\n" + line},
		{"the archive was removed", map[string]string{"log." + stamp + ".gz.tmp": gz(line)[:10]}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l := open(t, Options{File: dir + "/log", Format: simple, Compress: true})
			waitForArchives(l.file.archives)
			closeLog(t, l)
			if got := string(together(t, dir+"/log")); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			for _, name := range names(t, dir) {
				if name != "log" && !strings.HasSuffix(name, ".gz") {
					t.Errorf("%s was left", name)
				}
			}
		})
	}
}

// kill -9 at a random moment of rotation and compression loses no line that the child reported on
// its stdout as written. The next Log finishes the compression.
func TestKilledWhileItRotates(t *testing.T) {
	if path := os.Getenv("GOPHD_TEST_ROTATE"); path != "" {
		l := open(t, Options{File: path, Format: simple, RotateSize: 20_000, Compress: true})
		for i := 0; ; i++ {
			capture(t, l, []byte(fmt.Sprintf("%d %0500d\n", i, i)))
			if i%100 == 99 {
				flush(l)
				fmt.Println(i)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "log")
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileItRotates$")
		cmd.Env = append(os.Environ(), "GOPHD_TEST_ROTATE="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var last int
		for range 3 + 5*round {
			if _, err := fmt.Fscanln(out, &last); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()

		l := open(t, Options{File: path, Format: simple, Compress: true})
		waitForArchives(l.file.archives)
		closeLog(t, l)
		text := together(t, path)
		if len(text) > 0 && text[len(text)-1] != '\n' { // the kill may have torn the last record
			text = text[:bytes.LastIndexByte(text, '\n')+1]
		}
		lines := bytes.Split(restored(t, simple, text), []byte{'\n'})
		for i := range last + 1 {
			if want := fmt.Sprintf("%d %0500d", i, i); string(lines[i]) != want {
				t.Fatalf("round %d: line %d is %.40q", round, i, lines[i])
			}
		}
		for _, name := range names(t, filepath.Dir(path)) {
			if name != "log" && !strings.HasSuffix(name, ".gz") {
				t.Errorf("%s was left", name)
			}
			if err := os.Remove(filepath.Join(filepath.Dir(path), name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// An archive that a gophd still has open is not compressed.
func TestAnArchiveInUseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/log.20260101T000000.000000Z"
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !lock(f, unix.LOCK_SH) {
		t.Fatal("no lock")
	}
	for _, want := range []string{filepath.Base(path), filepath.Base(path) + ".gz"} {
		l := open(t, Options{File: dir + "/log", Format: simple, Compress: true})
		waitForArchives(l.file.archives)
		closeLog(t, l)
		if got := names(t, dir); !slices.Equal(got, []string{"log", want}) {
			t.Errorf("got %q, want %q", got, want)
		}
		f.Close()
	}
}

func TestAnErrorOfTheArchivesIsLogged(t *testing.T) {
	dir := t.TempDir()
	bad := dir + "/log.20260101T000000.000000Z"
	// A directory with the name of the temporary file.
	if err := errors.Join(os.WriteFile(bad, []byte("x\n"), 0o600), os.Mkdir(bad+".gz.tmp", 0o700)); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{File: dir + "/log", Format: simple, Compress: true})
	waitForArchives(l.file.archives)
	logLine(t, l, "hello")
	closeLog(t, l)
	want := fmt.Sprintf(" [0] warn: log rotation failed error=%q\n [0] hello\n",
		"cannot compress log archive "+bad+": is a directory: free some space, and allow gophd to read it")
	if diff := cmp.Diff(want, untimed([]byte(read(t, dir+"/log")))); diff != "" {
		t.Error(diff)
	}
	if read(t, bad) != "x\n" {
		t.Error("the archive was changed")
	}
}

// Close stops the compression of a large archive, which does not change. The next Log starts it
// again.
func TestCloseStopsACompression(t *testing.T) {
	dir := t.TempDir()
	big := dir + "/log.20260101T000000.000000Z"
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 1<<36); err != nil { // sparse: minutes of work
		t.Fatal(err)
	}
	l := open(t, Options{File: dir + "/log", Format: simple, Compress: true})
	for !exists(big + tempSuffix) { // until it compresses
		shortSleep()
	}
	closeLog(t, l)
	if got := names(t, dir); !slices.Equal(got, []string{"log", filepath.Base(big)}) {
		t.Errorf("got %q", got)
	}
}

// counted is a target that counts its syncs.
type counted struct {
	target
	syncs []time.Duration
	err   error
	start time.Time
	takes time.Duration
}

func (c *counted) sync() error {
	c.syncs = append(c.syncs, time.Since(c.start))
	time.Sleep(c.takes)
	return c.err
}

func TestSync(t *testing.T) {
	for _, c := range []struct {
		policy string
		want   []time.Duration
	}{
		{syncNever, nil},
		{syncAlways, []time.Duration{0, 400 * time.Millisecond, 800 * time.Millisecond, 10 * time.Second}},
		{syncSecond, []time.Duration{time.Second, 11 * time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := open(t, Options{File: t.TempDir() + "/log", Format: simple, Sync: c.policy})
			k := l.sinks[0]
			to := &counted{target: k.target, start: time.Now()}
			l.mu.Lock()
			k.target = to
			l.mu.Unlock()
			z := l.Logger()
			logLine := func() { z.Info().Msg("a line"); synctest.Wait() }
			for range 3 {
				logLine()
				time.Sleep(400 * time.Millisecond)
			}
			time.Sleep(10*time.Second - 1200*time.Millisecond)
			logLine()
			time.Sleep(10 * time.Second) // an idle log causes no wakeups
			synctest.Wait()
			if diff := cmp.Diff(c.want, to.syncs); diff != "" {
				t.Errorf("%s: %s", c.policy, diff)
			}
			to.err, to.takes = errors.New("the disk is gone"), 5*time.Second
			logLine()
			time.Sleep(2 * time.Second)
			if stalled := l.Stats().Stalled > 0; stalled != (c.policy != syncNever) {
				t.Errorf("%s: stalled: %v", c.policy, stalled)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			to.takes = 0
			logLine()
			// With the other policies the last sync is that of the file.
			if err := l.Close(); (err != nil) != (c.policy == syncAlways) {
				t.Error(err)
			}
			const warning = `log lines may not survive a crash of the machine error="the disk is gone"`
			if reported := strings.Contains(read(t, l.Path()), warning); reported != (c.policy != syncNever) {
				t.Errorf("%s: %s", c.policy, read(t, l.Path()))
			}
		})
	}
}

func FuzzArchiveName(f *testing.F) {
	f.Add("/var/log/x.20261122T065102.123456Z.gz", int64(0))
	f.Add("log.20261122T065102,123456Z", int64(1))
	f.Add(".20261122T065102.123456Z.gz.tmp", int64(1e15))
	f.Fuzz(func(t *testing.T, s string, micro int64) {
		a := splitArchive(s)
		if a.String() != s {
			t.Errorf("%q became %q", s, a)
		}
		// The names that setAside and pack produce are parsed, and belong to that file.
		stamp := time.UnixMicro(micro % 253402300200_000000).UTC()
		if s == "" || stamp.Year() < 1 || stamp.IsZero() {
			return
		}
		for _, tail := range []string{"", ".gz", tempSuffix} {
			want := archiveName{s, stamp, tail}
			if got := splitArchive(want.String()); got != want {
				t.Errorf("%v became %v", want, got)
			}
		}
	})
}

// matches accepts every output of name between any two texts, and nothing else.
func FuzzPatternMatches(f *testing.F) {
	f.Add("/var/log/%x", "2026-02-30_250000", int64(1795330262))
	f.Add("", "2026-1-01_000000", int64(0))
	f.Add("2006", "2026-01-01_00000060", int64(-1))
	f.Fuzz(func(t *testing.T, text, candidate string, unix int64) {
		quoted := strings.ReplaceAll(text, "%", "%%")
		p, err := parsePattern(quoted + "%Y-%m-%d_%H%M%S" + quoted)
		if err != nil {
			t.Fatal(err)
		}
		if at := time.Unix(unix%(1<<37), 0).UTC(); at.Year() >= 0 && at.Year() < 10000 && !p.matches(p.name(at)) {
			t.Errorf("%q is not known", p.name(at))
		}
		const layout = "2006-01-02_150405"
		at, err := time.Parse(layout, candidate)
		if want := err == nil && at.Format(layout) == candidate; p.matches(text+candidate+text) != want {
			t.Errorf("%q is a time: %v", candidate, want)
		}
	})
}
