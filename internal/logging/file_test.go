package logging

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
)

func TestOpenRejects(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, file, format, want string }{
		{"a directory", dir, simple, "log file " + dir + " is a directory: name a file in it with --log-file"},
		{"a missing directory", dir + "/no/log", simple,
			"cannot open log file " + dir + "/no/log: directory " + dir +
				"/no does not exist: create it or choose another --log-file"},
		{"a directory that is a file", "/dev/null/log", simple,
			"cannot open log file /dev/null/log: not a directory: choose another --log-file"},
		{"a relative path", "log", simple, `log file "log" is not an absolute path: start it with /`},
		{"an unknown verb", dir + "/log.%Q", simple,
			"log file " + dir + "/log.%Q: %Q is not known: use one of " + verbs},
		{"a verb that is not ASCII", dir + "/log.%é", simple,
			"log file " + dir + "/log.%é: %é is not known: use one of " + verbs},
		{"a single %", dir + "/100%", simple,
			"log file " + dir + "/100%: the name ends with a single %: write %% or one of " + verbs},
		{"an unknown format", dir + "/log", "xml", `log format "xml" is not known: use simple, json or console`},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Open(Options{File: c.file, Format: c.format})
			if err == nil {
				closeLog(t, l)
				t.Fatal("it was opened")
			}
			if diff := cmp.Diff(c.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestNewFileIsNotReadableByOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	closeLog(t, open(t, Options{File: path, Format: simple}))
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o137 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestPatternNames(t *testing.T) {
	at := time.Date(2026, 3, 5, 13, 4, 9, 0, time.UTC)
	for name, want := range map[string]string{
		"/log":                             "/log",
		"/%Y/%y-%m-%d":                     "/2026/26-03-05",
		"/%b %a%e.%j":                      "/Mar Thu 5.064",
		"/%F_%H%M%S":                       "/2026-03-05_130409",
		"/%I%p 100%%":                      "/01PM 100%",
		"/Monday January 2006 15:04 %% %%": "/Monday January 2006 15:04 % %",
	} {
		if got := FileAt(name, at); got != want {
			t.Errorf("%s gave %s, want %s", name, got, want)
		}
	}
}

// Every verb in the list is valid. The name does not change within its window, in zones with odd
// offsets and across clock changes.
func TestPatternWindow(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham"} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for verb := range strings.FieldsSeq(verbs) {
			p, err := parsePattern(verb)
			if err != nil {
				t.Fatal(err)
			}
			if p.step == 0 {
				continue
			}
			for _, start := range []string{
				"2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z", "2026-12-31T00:00:00Z", "2026-04-04T00:00:00Z",
			} {
				at, err := time.Parse(time.RFC3339, start)
				if err != nil {
					t.Fatal(err)
				}
				for end, prev := at.Add(40*time.Hour), at; at.Before(end); at = at.Add(p.step*7/5 + time.Second/4) {
					from, until := p.window(at.In(loc))
					if at.Before(from) || !at.Before(until) {
						t.Fatalf("%v is not in its window", at)
					}
					if first, last := p.name(from.In(loc)), p.name(until.Add(-1).In(loc)); first != last {
						t.Fatalf("%s in %s: %s became %s between %v and %v", verb, zone, first, last, from, until)
					}
					if p.step == time.Second && at.Sub(prev) > time.Hour {
						break // seconds do not depend on the zone
					}
				}
			}
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("/var/log/%Y/%m-%d.log", int64(1795330262))
	f.Add("%%%S%", int64(0))
	f.Add("%é", int64(-1))
	f.Fuzz(func(t *testing.T, s string, unix int64) {
		at := time.Unix(unix%(1<<37), 0).UTC()
		p, err := parsePattern(s)
		if err != nil {
			if !strings.Contains(err.Error(), verbs) || strings.ContainsRune(err.Error(), '\n') {
				t.Errorf("%q was rejected with %q", s, err)
			}
			return
		}
		from, until := p.window(at)
		if p.step > 0 && (p.name(from) != p.name(at) || p.name(until.Add(-1)) != p.name(at)) {
			t.Errorf("%q changes within its window round %v", s, at)
		}
		// Text is unchanged, and with doubled percent signs any text is a name.
		q, err := parsePattern(strings.ReplaceAll(s, "%", "%%"))
		if err != nil || q.name(at) != s || q.step != 0 {
			t.Errorf("%q is not kept: %v, %v", s, q, err)
		}
	})
}

func TestTheFileChangesWhenItsNameChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is midnight, 2000-01-01, in UTC
		dir := t.TempDir()
		l := open(t, Options{File: dir + "/%M.log", Format: simple})
		z := l.Logger()
		minute := func(n int) string {
			return fmt.Sprintf("%s/%02d.log", dir, time.Now().Add(time.Duration(n)*time.Minute).Minute())
		}
		first, second := minute(0), minute(1)
		z.Info().Msg("one")
		synctest.Wait()
		if l.Path() != first {
			t.Errorf("the file is %s", l.Path())
		}
		time.Sleep(59999 * time.Millisecond)
		z.Info().Msg("two")
		synctest.Wait()
		time.Sleep(time.Millisecond)
		z.Info().Msg("three")
		synctest.Wait()
		if l.Path() != second {
			t.Errorf("the file is %s", l.Path())
		}
		closeLog(t, l)
		if got := untimed([]byte(read(t, first) + read(t, second))); got != " [0] one\n [0] two\n [0] three\n" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTheNameFollowsAClockThatIsSetBack(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 22, 6, 51, 0, 0, time.UTC)
	f, err := newFile(Options{File: dir + "/%M"}, at, new(sync.Mutex))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.start(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		want  string
	}{{59 * time.Second, "51"}, {60 * time.Second, "52"}, {59 * time.Second, "51"}, {-time.Second, "50"}, {0, "51"}} {
		if got := f.ready(at.Add(c.after), nil); got.path != dir+"/"+c.want || got.warning != nil {
			t.Errorf("after %v: %+v, want %s", c.after, got, c.want)
		}
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

func TestTheOldFileIsUsedUntilTheNextCanBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		day := func() string { return dir + "/" + time.Now().Format("2006-01-02") }
		old := day()
		if err := os.Mkdir(old, 0o700); err != nil {
			t.Fatal(err)
		}
		l := open(t, Options{File: dir + "/%F/log", Format: simple})
		z := l.Logger()
		time.Sleep(24 * time.Hour)
		for range 3 {
			z.Info().Msg("no directory yet")
			synctest.Wait()
			time.Sleep(2 * time.Second)
		}
		if l.Path() != old+"/log" {
			t.Errorf("the file is %s", l.Path())
		}
		if err := os.Mkdir(day(), 0o700); err != nil {
			t.Fatal(err)
		}
		z.Info().Msg("with its directory")
		closeLog(t, l)
		warning := fmt.Sprintf(" [0] warn: switching the log file failed error=%q\n", fmt.Sprintf(
			"cannot open log file %[1]s/log: directory %[1]s does not exist: create it or choose another --log-file", day()))
		want := warning + strings.Repeat(" [0] no directory yet\n", 3)
		if diff := cmp.Diff(want, untimed([]byte(read(t, old+"/log")))); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(" [0] with its directory\n", untimed([]byte(read(t, day()+"/log")))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := dir + "/log"
		l := open(t, Options{File: path, Format: simple})
		z := l.Logger()
		z.Info().Msg("before")
		synctest.Wait()
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		z.Info().Msg("moved")
		synctest.Wait()
		if err := errors.Join(l.Reopen(), l.Reopen()); err != nil {
			t.Fatal(err)
		}
		z.Info().Msg("after")
		synctest.Wait()
		if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err == nil || !strings.Contains(err.Error(), "is a directory") {
			t.Errorf("got error %v", err)
		}
		z.Info().Msg("into the deleted file")
		synctest.Wait()
		if s := l.Stats(); s.Dropped != 0 || s.Lines != 4 || l.Path() != path {
			t.Errorf("%+v, %s", s, l.Path())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Error(err)
		}
		z.Info().Msg("new")
		closeLog(t, l)
		if got := untimed([]byte(read(t, path+".1") + read(t, path))); got != " [0] before\n [0] moved\n [0] new\n" {
			t.Errorf("got %q", got)
		}
	})
}

// Another process moves the file under load: no byte is lost or written twice.
func TestReopenUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{File: path, Format: simple})
	var want bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintln(&want, i)
	}
	var command goroutine.Group
	chunks := slicesOf(want.Bytes(), 5000)
	quarter := make(chan bool)
	command.Go(func() {
		w := l.Capture("stdout")(4720)
		for i, c := range chunks {
			if _, err := w.Write(c); err != nil {
				t.Error(err)
			}
			if i%20 == 0 {
				quarter <- true
			}
		}
		close(quarter)
	})
	var files []string
	for range quarter {
		files = append(files, fmt.Sprint(path, ".", len(files)))
		if err := errors.Join(os.Rename(path, files[len(files)-1]), l.Reopen()); err != nil {
			t.Fatal(err)
		}
	}
	command.Wait()
	closeLog(t, l)
	var all []byte
	for _, f := range append(files, path) {
		all = append(all, read(t, f)...)
	}
	if got := restored(t, simple, all); !bytes.Equal(got, want.Bytes()) || len(files) < 5 {
		t.Errorf("%d files hold %d of %d bytes, or they differ", len(files), len(got), want.Len())
	}
}

func TestATornLineIsNotContinued(t *testing.T) {
	for _, c := range []struct{ before, want string }{
		{"", " [0] hello\n"},
		{"whole\n", "whole\n [0] hello\n"},
		{"torn", "torn\n [0] hello\n"},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(c.before), 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, Options{File: path, Format: simple})
		if err := l.Reopen(); err != nil {
			t.Error(err)
		}
		z := l.Logger()
		z.Info().Msg("hello")
		closeLog(t, l)
		if got := untimed([]byte(read(t, path))); got != c.want {
			t.Errorf("after %q: got %q, want %q", c.before, got, c.want)
		}
	}
}

func TestASymlinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("target", dir+"/log"); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{File: dir + "/log", Format: simple})
	z := l.Logger()
	z.Info().Msg("hello")
	closeLog(t, l)
	if got := untimed([]byte(read(t, dir+"/target"))); got != " [0] hello\n" {
		t.Errorf("got %q", got)
	}
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// logLine logs one line and waits until it is written or lost.
func logLine(t *testing.T, l *Log, message string) {
	z := l.Logger()
	z.Info().Msg(message)
	flush(l)
}

// flush waits until the first sink has no more work.
func flush(l *Log) {
	for {
		l.mu.Lock()
		idle := len(l.sinks[0].buf) == 0 && l.sinks[0].since.IsZero() && l.sinks[0].next == nil
		l.mu.Unlock()
		if idle {
			return
		}
		shortSleep()
	}
}

// shortSleep sleeps between two checks of something outside of a synctest bubble.
func shortSleep() { syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 100}) }

// The reader of a FIFO opens it, closes it and opens it again.
func TestFIFO(t *testing.T) {
	path := fifo(t)
	l := open(t, Options{File: path, Format: simple})
	logLine(t, l, "nobody reads this")
	if s := l.Stats(); s.Dropped != 1 || !errors.Is(s.Err, errNoReader) {
		t.Errorf("got %+v", s)
	}
	reader := func(want ...string) {
		t.Helper()
		r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		logLine(t, l, "hello")
		lines := bufio.NewScanner(r)
		for _, w := range want {
			if !lines.Scan() || untimed(lines.Bytes()) != w {
				t.Errorf("got %q, want %q", lines.Text(), w)
			}
		}
	}
	reader(` [0] warn: log lines were lost lines=1 error="no process reads this FIFO"`, " [0] hello")
	logLine(t, l, "nobody reads this either")
	if s := l.Stats(); s.Dropped != 2 || !errors.Is(s.Err, syscall.EPIPE) {
		t.Errorf("got %+v", s)
	}
	reader(` [0] warn: log lines were lost lines=1 error="broken pipe"`, " [0] hello")
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
	closeLog(t, l)
}

// The stdout of a child process is a file, a socket or /dev/null. The child logs to it under several
// names. It is not rotated, also if it is a regular file, and no file beside it is an archive.
func TestDevStdout(t *testing.T) {
	if name := os.Getenv("GOPHD_TEST_STDOUT"); name != "" {
		l, err := Open(Options{File: name, Format: simple, RotateSize: 10, RotateAge: 1, Keep: 1, Sync: syncAlways})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		z := withTestTimeouts(l).Logger()
		z.Info().Msg("hello")
		err = l.Reopen()
		z.Info().Msg("again")
		fmt.Fprintln(os.Stderr, errors.Join(err, l.Close()), l.Stats().Misplaced)
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600) // not for appending: the offset is shared
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	others := []string{path + ".20200101T000000.000000Z", path + ".20210101T000000.000000Z"}
	for _, other := range others {
		if err := os.WriteFile(other, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/dev/stdout", link); err != nil {
		t.Fatal(err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	want := ""
	for _, name := range []string{"/dev/stdout", "/dev/fd/1", link} {
		want += " [0] hello\n [0] again\n"
		for _, c := range []struct {
			kind string
			out  *os.File
		}{{"a file", file}, {"a socket", theirs}, {"/dev/null", null}} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestDevStdout$")
			cmd.Env = append(os.Environ(), "GOPHD_TEST_STDOUT="+name, "GORACE=atexit_sleep_ms=0")
			var stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = c.out, &stderr
			if err := cmd.Run(); err != nil || !strings.HasPrefix(stderr.String(), "<nil> <nil>\n") {
				t.Errorf("%s as %s: %v, %s", c.kind, name, err, stderr.String())
			}
		}
	}
	theirs.Close()
	got, err := io.ReadAll(ours)
	if text := untimedLines(got); err != nil || text != want {
		t.Errorf("the socket got %q, %v", text, err)
	}
	if text := untimedLines([]byte(read(t, path))); text != want {
		t.Errorf("the file got %q", text)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1+len(others) {
		t.Errorf("the directory has %v, %v; want the file and what was there", entries, err)
	}
}

// untimedLines returns gophd's own lines in text without their time. Other lines are those of the
// test program.
func untimedLines(text []byte) string {
	var own strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " [0] ") {
			own.WriteString(untimed([]byte(line)))
		}
	}
	return own.String()
}

// The sink waits for a full FIFO until Close interrupts the write.
func TestCloseInterruptsAWriteToAFullFIFO(t *testing.T) {
	t.Parallel()
	path := fifo(t)
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l := open(t, Options{File: path, Format: simple, Echo: new(bytes.Buffer)})
	l.readerTime = time.Millisecond
	z := l.Logger()
	for range 10_000 {
		z.Info().Str("pad", strings.Repeat("x", 90)).Msg("a line")
	}
	for l.Stats().Stalled == 0 || writable(t, w) {
		shortSleep()
	}
	want := "log file " + path + " accepted no more data: its last lines are lost: check its disk or its reader"
	if err := l.Close(); err == nil || err.Error() != want {
		t.Errorf("got error %v", err)
	}
	select {
	case <-l.sinks[0].done:
	default:
		t.Error("the goroutine is stuck")
	}
	if s := l.Stats(); s.Lines+s.Dropped != 10_000 || s.Dropped == 0 {
		t.Errorf("lines are not accounted for: %+v", s)
	}
}

// writable reports whether a write to the pipe does not block.
func writable(t *testing.T, w *os.File) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(w.Fd()), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	if err != nil && !errors.Is(err, unix.EINTR) {
		t.Fatal(err)
	}
	return n != 0 || err != nil
}

func TestCrashOutput(t *testing.T) {
	if path := os.Getenv("GOPHD_TEST_CRASH"); path != "" {
		l, err := Open(Options{File: path, Format: simple})
		if err == nil {
			err = l.CrashOutput()
		}
		if err == nil {
			err = os.Rename(path, path+".1")
		}
		if err == nil {
			err = l.Reopen()
		}
		if err != nil {
			t.Fatal(err)
		}
		flush(l)
		done := make(chan bool)
		go func() { panic("the fault") }()
		<-done
	}
	path := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashOutput$")
	cmd.Env = append(os.Environ(), "GOPHD_TEST_CRASH="+path, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	text := read(t, path)
	if !strings.Contains(text, "panic: the fault") || !strings.Contains(text, "TestCrashOutput") {
		t.Errorf("the file has %q", text)
	}
	if text := read(t, path+".1"); text != "" {
		t.Errorf("the old file has %q", text)
	}
}

func TestCauseKeepsThePermissionError(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", cause(&fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}))
	if !errors.Is(err, fs.ErrPermission) || err.Error() != "wrapped: permission denied" {
		t.Error(err)
	}
}

// If its directory is removed, the log continues to write to the deleted file and reports that.
// When the directory exists again, the log creates the file there.
func TestALogInADeletedFileIsReported(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "directory")
	path := filepath.Join(dir, "log")
	synctest.Test(t, func(t *testing.T) {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		l := open(t, Options{Format: simple, File: path})
		w := l.Capture("stdout")(1)
		logLine := func(text string) {
			time.Sleep(checkInterval)
			fmt.Fprintln(w, text)
			synctest.Wait()
		}
		logLine("one")
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		logLine("two")
		select {
		case <-l.Trouble():
		default:
			t.Error("nothing was reported")
		}
		if err := l.Stats().Misplaced; err == nil || !strings.Contains(err.Error(), "directory "+dir+" does not exist") {
			t.Errorf("got error %v", err)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		logLine("three")
		if err := l.Stats().Misplaced; err != nil {
			t.Errorf("still %v", err)
		}
		select {
		case <-l.Trouble():
		default:
			t.Error("the end of the problem is not reported")
		}
		closeLog(t, l)
	})
	if got := read(t, path); !strings.Contains(got, "three") {
		t.Errorf("the file was not created again: %q", got)
	}
}

// The start of a record that did not fit on the disk is removed, and nothing else.
func TestRemoveTornRemovesTheStartOfARecord(t *testing.T) {
	for name, c := range map[string]struct {
		before, written, behind string
		midway                  bool
		want                    string
	}{
		"after whole records":               {"a\n", "b\nbegin", "", false, "a\nb\n"},
		"alone":                             {"a\n", "begin", "", false, "a\n"},
		"no torn record":                    {"a\n", "b\n", "", false, "a\nb\n"},
		"continues a record":                {"a\nbe", "gin", "", true, "a\nbegin"},
		"continues a record and starts one": {"a\nbe", "gin\nbeg", "", true, "a\nbegin\n"},
		"another process wrote":             {"a\n", "b\nbegin", "theirs\n", false, "a\nb\nbegintheirs\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, []byte(c.before), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString(c.written); err != nil {
				t.Fatal(err)
			}
			other, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if _, err := other.WriteString(c.behind); err != nil {
				t.Fatal(err)
			}
			gone := removeTorn(f, []byte(c.written), c.midway)
			if got := read(t, path); got != c.want || gone != len(c.before+c.written+c.behind)-len(c.want) {
				t.Errorf("%q is left, %d bytes are gone; want %q", got, gone, c.want)
			}
		})
	}
}
