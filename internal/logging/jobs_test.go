package logging

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// jobLogs are the Options of a Log of the daemon d and of jobs that each have their own.
func jobLogs(dir string, jobs ...string) Options {
	o := Options{File: dir + "/d.log", Format: simple, PID: 1}
	for _, name := range jobs {
		o.Jobs = append(o.Jobs, JobLog{Job: name, File: dir + "/" + name + ".log"})
	}
	return o
}

// times matches the time of a line.
var times = regexp.MustCompile(`(?m)^(\{"time":")?\d{4}-[^" ]+( \S+ |",)`)

// without returns the lines of a file without their time; "" if there is no such file.
func without(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(times.ReplaceAll(b, nil))
}

func say(z zerolog.Logger, text string) { z.Warn().Msg(text) }

// Lines of a job with its own log go there without the name of the job, and to Echo with it. Those of
// another job, and those about the daemon, go to the common log.
func TestEachJobHasItsOwnLog(t *testing.T) {
	for format, want := range map[string]map[string]string{
		simple: {
			"d.log": "[1] warn: the daemon\n[1] warn: shared: about shared\n[7] shared: out: of shared\n[1] warn: a: also in common\n",
			"a.log": "[1] warn: about a\n[7] out: of a\n",
			"echo": "[1] warn: the daemon\n[1] warn: shared: about shared\n[7] shared: out: of shared\n" +
				"[1] warn: a: about a\n[7] a: out: of a\n",
		},
		inJSON: {
			"d.log": `"pid":1,"level":"warn","message":"the daemon"}` + "\n" +
				`"pid":1,"job":"shared","level":"warn","message":"about shared"}` + "\n" +
				`"pid":7,"job":"shared","stream":"stdout","line":"of shared"}` + "\n" +
				`"pid":1,"job":"a","level":"warn","message":"also in common"}` + "\n",
			"a.log": `"pid":1,"job":"a","level":"warn","message":"about a"}` + "\n" +
				`"pid":7,"job":"a","stream":"stdout","line":"of a"}` + "\n",
			"echo": `"pid":1,"level":"warn","message":"the daemon"}` + "\n" +
				`"pid":1,"job":"shared","level":"warn","message":"about shared"}` + "\n" +
				`"pid":7,"job":"shared","stream":"stdout","line":"of shared"}` + "\n" +
				`"pid":1,"job":"a","level":"warn","message":"about a"}` + "\n" +
				`"pid":7,"job":"a","stream":"stdout","line":"of a"}` + "\n",
		},
	} {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			echo, err := os.Create(dir + "/echo")
			if err != nil {
				t.Fatal(err)
			}
			defer echo.Close()
			o := jobLogs(dir, "a", "silent")
			o.Format, o.Echo, o.EchoCommand = format, echo, true
			l := open(t, o)
			say(l.Logger(), "the daemon")
			for _, name := range []string{"shared", "a"} {
				say(l.Job(name).Logger(), "about "+name)
				_, _ = l.Job(name).Capture("stdout")(7).Write([]byte("of " + name + "\n"))
				say(l.Job(name).CommonLogger(), "also in common")
			}
			closeLog(t, l)
			for file, text := range want {
				if diff := cmp.Diff(text, without(dir+"/"+file)); diff != "" {
					t.Errorf("%s: %s", file, diff)
				}
			}
			if _, err := os.Stat(dir + "/silent.log"); err == nil {
				t.Error("the log of a job without lines was created")
			}
			if !l.Job("a").Own() || l.Job("shared").Own() {
				t.Error("Own is wrong")
			}
		})
	}
}

// The file of a job is created at the first line, and closed after a minute without one. Then the sink
// has no goroutine and no buffer. The next line opens it again.
func TestTheLogOfAJobIsClosedWhileItIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := jobLogs(dir, "a")
		o.File, o.Sync = "", syncSecond
		l := openTimed(t, o)
		k, f := l.own["a"][0], l.own["a"][0].file()
		asleep := func(want bool) {
			t.Helper()
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			ended := false
			select {
			case <-k.done:
				ended = true
			default:
			}
			if k.asleep != want || (f.current.Load() == nil) != want || ended != want {
				t.Errorf("asleep is %v, the file is %v, the goroutine has ended: %v; want %v", k.asleep, f.current.Load(),
					ended, want)
			}
			if want && cap(k.buf)+cap(k.spare) > 0 {
				t.Errorf("it keeps %d bytes of buffers", cap(k.buf)+cap(k.spare))
			}
		}
		asleep(true)
		if err := l.Reopen(); err != nil || without(dir+"/a.log") != "" {
			t.Errorf("reopening has created the file, or %v", err)
		}
		w := l.Job("a").Capture("stdout")(7)
		_, _ = w.Write([]byte("one\n"))
		asleep(false)
		time.Sleep(napTime - time.Second)
		_, _ = w.Write([]byte("two\n"))
		time.Sleep(napTime - time.Second)
		asleep(false)
		time.Sleep(2 * time.Second)
		asleep(true)
		if err := os.Rename(dir+"/a.log", dir+"/moved"); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte("three\nunfinished"))
		asleep(false)
		if err := errors.Join(os.Rename(dir+"/a.log", dir+"/moved too"), l.Reopen()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir + "/a.log"); err != nil {
			t.Errorf("reopening an open file: %v", err)
		}
		time.Sleep(2 * napTime)
		asleep(true)
		_, _ = w.Write([]byte(" line\n"))
		closeLog(t, l)
		if got := without(dir + "/moved"); got != "[7] out: one\n[7] out: two\n" {
			t.Errorf("the moved file has %q", got)
		}
		if got := without(dir + "/moved too"); got != "[7] out: three\n" {
			t.Errorf("the second moved file has %q", got)
		}
		if got := without(dir + "/a.log"); got != "[7] out+ unfinished\n[7] out:  line\n" {
			t.Errorf("the file has %q", got)
		}
		if s := l.Job("a").Stats(); s.Lines != 5 || s.Dropped != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A closed log is rotated by size and age, and follows a name with a time, as an open one.
func TestTheLogOfAJobIsRotatedWhileItSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := jobLogs(dir, "a", "b")
		o.RotateAge, o.Keep, o.Jobs[1].File = 10*time.Minute, 2, dir+"/b-%H.log"
		l := openTimed(t, o)
		for range 4 {
			for _, name := range []string{"a", "b"} {
				say(l.Job(name).Logger(), time.Now().Format("15:04"))
			}
			time.Sleep(time.Hour)
		}
		for _, name := range []string{"a", "b"} {
			l.mu.Lock()
			if k := l.own[name][0]; !k.asleep || k.file().current.Load() != nil {
				t.Errorf("the log of %s is open", name)
			}
			l.mu.Unlock()
		}
		closeLog(t, l)
		var names []string
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, regexp.MustCompile(`\d{8}T.*`).ReplaceAllString(e.Name(), "TIME"))
		}
		first := time.Now().Add(-4 * time.Hour)
		want := []string{"a.log", "a.log.TIME", "a.log.TIME", "d.log"}
		for n := 1; n < 4; n++ { // two archives and the file in use
			want = append(want, first.Add(time.Duration(n)*time.Hour).Format("b-15.log"))
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
		if got, want := without(dir+"/a.log"), "[1] warn: "+first.Add(3*time.Hour).Format("15:04")+"\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// A log whose file cannot be opened loses only the lines of its job. The losses are counted, and
// reported in it when it can be written, and at the end.
func TestAJobLogThatCannotBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := jobLogs(dir, "a", "b")
		o.Jobs[0].File = dir + "/later/a.log"
		l := openTimed(t, o)
		for _, name := range []string{"a", "b"} {
			_, _ = l.Job(name).Capture("stdout")(7).Write([]byte("lost\nlines\n"))
		}
		<-l.Trouble()
		synctest.Wait()
		lost := l.Job("a").Stats()
		if s := l.Job("b").Stats(); s.Dropped != 0 || lost.Dropped != 2 || !strings.Contains(lost.Lost.Error(), "/later does not exist") {
			t.Errorf("a: %+v, b: %+v", lost, s)
		}
		time.Sleep(2 * napTime)
		if err := os.Mkdir(dir+"/later", 0o700); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
		if got := without(dir + "/later/a.log"); !strings.Contains(got, "log lines were lost lines=2 ") {
			t.Errorf("a.log has %q", got)
		}
		if got := without(dir + "/b.log"); got != "[7] out: lost\n[7] out: lines\n" {
			t.Errorf("b.log has %q", got)
		}
	})
}

// Lines that a job's log has not written are written by the next Log: to the log of that job, or to
// the common log if it has none now. Its losses are passed on too.
func TestUnwrittenLinesOfAJob(t *testing.T) {
	dir := t.TempDir()
	l := open(t, jobLogs(dir, "a", "gone", "idle"))
	l.Pause()
	for _, name := range []string{"a", "gone"} {
		say(l.Job(name).Logger(), "about "+name)
		_, _ = l.Job(name).Capture("stdout")(7).Write([]byte("of " + name + "\n"))
	}
	for l.Idle() != nil {
		shortSleep()
	}
	l.Leave()
	left, err := l.Left()
	if err != nil || len(left) != 3 {
		t.Fatalf("%d logs have unwritten lines, %v", len(left), err)
	}
	if got := without(dir+"/a.log") + without(dir+"/gone.log"); got != "" {
		t.Errorf("the paused logs have written %q", got)
	}
	next := jobLogs(dir, "a", "idle")
	next.Unwritten, next.Jobs[0].Losses = left, Losses{Lines: 5, Unreported: 3, Why: "the disk was full"}
	l = open(t, next)
	closeLog(t, l)
	want := "[1] warn: log lines were lost lines=3 error=\"the disk was full\"\n[1] warn: about a\n[7] out: of a\n"
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(without(dir+"/a.log"), "\n")); diff != "" {
		t.Error(diff)
	}
	if got := without(dir + "/d.log"); got != "[1] warn: about gone\n[7] out: of gone\n" {
		t.Errorf("the common log has %q", got)
	}
	if got := l.Job("a").Losses(); got.Lines != 5 || got.Unreported != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(dir + "/idle.log"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log of a job without lines: %v", err)
	}
}

// A job that floods a log of several jobs, whose reader is stalled, loses its own lines, and no line of
// another job.
func TestAFloodDropsOnlyItsOwnLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l := openTimed(t, Options{Format: simple, Echo: g, EchoCommand: true})
		flood := bytes.Repeat([]byte("0123456789\n"), 100_000)
		for range 2 {
			_, _ = l.Job("flood").Capture("stdout")(1).Write(flood)
		}
		if s := l.Stats(); s.Dropped == 0 {
			t.Fatalf("the flood has lost nothing: %+v", s)
		}
		start := time.Now()
		const jobs, lines = 40, 20
		for n := range lines {
			for j := range jobs {
				name := fmt.Sprint("job", j)
				_, _ = l.Job(name).Capture("stdout")(2).Write(fmt.Appendf(nil, "line %d\n", n))
				say(l.Job(name).Logger(), fmt.Sprint("own ", n))
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("the other jobs have waited for %v", d)
		}
		before := l.Stats()
		if before.Pending > ownLimit {
			t.Errorf("%d bytes are pending", before.Pending)
		}
		_, _ = l.Job("flood").Capture("stdout")(1).Write([]byte("one more\n"))
		if s := l.Stats(); s.Dropped != before.Dropped+1 {
			t.Errorf("a line of the flood was taken: %+v", s)
		}
		_, _ = l.Job("second").Capture("stdout")(3).Write(flood)
		if s := l.Stats(); s.Pending > ownLimit || s.Dropped < before.Dropped+100_000-2*jobShare/10 {
			t.Errorf("a second flood was taken: %+v", s)
		}
		close(g.open)
		closeLog(t, l)
		for j := range jobs {
			for n := range lines {
				for _, text := range []string{fmt.Sprintf("] job%d: out: line %d\n", j, n),
					fmt.Sprintf("] warn: job%d: own %d\n", j, n)} {
					if strings.Count(g.String(), text) != 1 {
						t.Fatalf("%q is in the log %d times", text, strings.Count(g.String(), text))
					}
				}
			}
		}
		if s := l.Stats(); lost(t, g.String()) != s.Dropped {
			t.Errorf("the log reports %d lost lines; %+v", lost(t, g.String()), s)
		}
	})
}

// A log with on_full block that cannot be written stops its own job, and no other.
func TestOneJobLogThatBlocksStopsItsOwnJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := jobLogs(dir, "a", "b")
		o.Jobs[0].File, o.OnFull = dir+"/later/a.log", onFullBlock
		l := openTimed(t, o)
		done := make(chan string, 2)
		for _, name := range []string{"a", "b"} {
			go func() {
				for range 4 {
					_, _ = l.Job(name).Capture("stdout")(7).Write(bytes.Repeat([]byte("0123456789\n"), commandLimit/10))
				}
				done <- name
			}()
		}
		if name := <-done; name != "b" {
			t.Errorf("%s was not blocked", name)
		}
		time.Sleep(time.Hour)
		if err := os.Mkdir(dir+"/later", 0o700); err != nil {
			t.Fatal(err)
		}
		<-done
		closeLog(t, l)
		for _, name := range []string{"later/a", "b"} {
			if n := strings.Count(without(dir+"/"+name+".log"), "out: 0123456789\n"); n != 4*(commandLimit/10) {
				t.Errorf("%s has %d lines", name, n)
			}
		}
	})
}

// Reopen names one of the files that cannot be opened, and counts the others. Those that sleep are none
// of them.
func TestReopenOfManyLogs(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/logs", 0o700); err != nil {
		t.Fatal(err)
	}
	l := open(t, jobLogs(dir+"/logs", "a", "b", "idle"))
	for _, name := range []string{"a", "b"} {
		say(l.Job(name).Logger(), "one")
		for l.Job(name).Stats().Lines == 0 {
			shortSleep()
		}
	}
	if err := os.Rename(dir+"/logs", dir+"/moved"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil || !regexp.MustCompile(`^cannot open log file .*/logs/d.log: .*; and 2 more$`).MatchString(err.Error()) {
		t.Error(err)
	}
	closeLog(t, l)
}
