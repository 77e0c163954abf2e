package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/event"
	"gophd/internal/job"
)

const size = 1 << 20

// writer returns a Writer for files in dir, which fails the test when it reports a problem.
func writer(t *testing.T, dir string) *Writer {
	t.Helper()
	return New(Options{Path: func(name string) string { return Path(dir, name) }, SegmentSize: size,
		Problem: func(err error) { t.Error(err) }})
}

// ended returns the event of a run of a second that ends now.
func ended(name string, number uint64, change func(*job.Tick)) event.Event {
	run := job.Run{Number: number, Due: time.Now().Add(-1002 * time.Millisecond), Trigger: job.TriggerSchedule}
	tick := event.TickOfRun(run, 901)
	tick.Started, tick.Ended, tick.Outcome = time.Now().Add(-time.Second), time.Now(), job.Exited
	if change != nil {
		change(&tick)
	}
	e := event.RunEnded(name, tick)
	e.Time = time.Now()
	return e
}

func started(name string, number uint64) event.Event {
	run := job.Run{Number: number, Due: time.Now().Add(-2 * time.Millisecond), Trigger: job.TriggerManual}
	return event.RunStarted(name, run, 901, time.Now())
}

// mustRead returns all runs of a history.
func mustRead(t *testing.T, dir, name string) Runs {
	t.Helper()
	runs, err := Read(Path(dir, name), Query{})
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

func numbers(runs Runs) (all []uint64) {
	for _, r := range runs.Runs {
		all = append(all, r.Number)
	}
	return all
}

func series(first, last uint64) (all []uint64) {
	for n := first; n <= last; n++ {
		all = append(all, n)
	}
	return all
}

// The writer encodes by hand, without allocation. A record must be what encoding/json makes of it.
func TestRecordIsThatOfEncodingJSON(t *testing.T) {
	for name, change := range map[string]func(*job.Tick){
		"success": nil,
		"everything": func(t *job.Tick) {
			t.Attempt, t.Missed, t.Trigger = 2, 3, job.TriggerRetry
			t.Outcome, t.Signal, t.Core, t.Cause = job.Signaled, syscall.SIGSEGV, true, job.ErrTimeout
			t.Usage = job.Usage{User: 1234567891, System: time.Microsecond, MaxRSS: 24 << 20}
			t.Output = "a \"quoted\" \\ line\twith \x1b[31mcolor\x7f, <html> & \u2028, no UTF-8: \xff\xc3 ünï\nand no end"
		},
		"not started": func(t *job.Tick) {
			t.Outcome, t.Err, t.PID = job.Unstarted, errors.New("permission denied"), 0
		},
		"abandoned": func(t *job.Tick) { t.Due, t.Started, t.Trigger = time.Time{}, time.Time{}, "" },
	} {
		t.Run(name, func(t *testing.T) {
			e := ended("nightly", 17, change)
			line := appendEnded(nil, e, e.Tick.Ending(), e.Tick.Started)
			var r record
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%v\n%s", err, line)
			}
			if tick := e.Tick; r.Number != 17 || !r.Ended.Equal(tick.Ended) || r.Outcome != Outcome(tick.Ending()) ||
				r.Output != strings.ToValidUTF8(strings.ReplaceAll(tick.Output, "\xff\xc3", "\ufffd\ufffd"), "") {
				t.Errorf("%+v\nof %s", r, line)
			}
			again, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			// encoding/json escapes more, for HTML.
			normal := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&", `\u2028`, "\u2028", `\t`, `\u0009`,
				"\x7f", `\u007f`).Replace(string(again))
			if d := cmp.Diff(normal+"\n", string(line)); d != "" {
				t.Errorf("-encoding/json +history:\n%s", d)
			}
		})
	}
}

func TestEventIsReadWithoutAllocation(t *testing.T) {
	w := writer(t, t.TempDir())
	w.Pause() // what it writes allocates
	start, end := started("nightly", 1), ended("nightly", 1, nil)
	if n := testing.AllocsPerRun(1000, func() { w.Read(start); w.Read(end) }); n > 0 {
		t.Errorf("%v allocations for a run", n)
	}
	w.Leave()
}

func TestRunsAreWrittenAndNothingIsKeptOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := writer(t, dir)
		for n := range uint64(3) {
			w.Read(started("a", n+1))
			w.Read(ended("a", n+1, nil))
		}
		w.Read(ended("b", 1, func(t *job.Tick) { t.Code = 3 }))
		time.Sleep(100 * time.Millisecond) // the time within which they are written
		synctest.Wait()
		if got := numbers(mustRead(t, dir, "a")); !slices.Equal(got, series(1, 3)) {
			t.Errorf("runs %v", got)
		}
		time.Sleep(longAfter)
		synctest.Wait()
		b := mustRead(t, dir, "b").Runs
		if len(b) != 1 || b[0].Outcome != "failure" || *b[0].ExitCode != 3 || b[0].Job != "b" || b[0].PID != 901 ||
			*b[0].Duration != 1 || b[0].Trigger != job.TriggerSchedule {
			t.Errorf("%+v", b)
		}
		info, err := os.Stat(Path(dir, "a"))
		if err != nil || info.Mode() != 0o640 {
			t.Errorf("the file has the mode %v: %v", info.Mode(), err)
		}
		w.mu.Lock()
		if w.done != nil || w.armed || len(w.pending) > 0 || w.bytes > 0 {
			t.Errorf("the idle writer has a goroutine %v, a timer %v, %d queues", w.done != nil, w.armed, len(w.pending))
		}
		w.mu.Unlock()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestOldRunHasARecordOfItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := writer(t, dir)
		w.Read(started("a", 1))
		time.Sleep(600 * time.Millisecond)
		w.Read(started("a", 2))
		w.Read(started("b", 1)) // it ends before it is old
		time.Sleep(500 * time.Millisecond)
		w.Read(ended("b", 1, nil))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := numbers(mustRead(t, dir, "a")); !slices.Equal(got, []uint64{1}) {
			t.Errorf("after 1.2 s there are %v, want run 1", got)
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		runs := mustRead(t, dir, "a").Runs
		if len(runs) != 2 || runs[1].Outcome != "" || runs[1].Trigger != job.TriggerManual || runs[1].PID != 901 ||
			!runs[1].Ended.IsZero() || runs[1].Duration != nil || runs[1].Started.IsZero() || runs[1].Due.IsZero() {
			t.Fatalf("after 1.7 s: %+v", runs)
		}
		text, err := os.ReadFile(Path(dir, "b"))
		if err != nil || strings.Contains(string(text), typeStarted) {
			t.Errorf("%v\n%s", err, text)
		}
		w.Read(ended("a", 1, nil))
		w.Read(started("a", 3)) // the timer has expired, and run 2 is active still
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if got := numbers(mustRead(t, dir, "a")); !slices.Equal(got, []uint64{2, 1, 3}) {
			t.Errorf("runs %v, want 2 and 3 active, and 1 ended", got)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

// stuck is a disk whose writes hang until release is closed.
type stuck struct {
	release chan struct{}
	began   chan struct{} // receives when a call hangs
}

func newStuck() *stuck { return &stuck{make(chan struct{}), make(chan struct{}, 1000)} }

func (d *stuck) open(path string) (segment, int64, bool, error) {
	d.began <- struct{}{}
	<-d.release
	return openSegment(path)
}

// While the disk is frozen no event waits, the memory is limited, and what does not fit is one record when the
// disk is back.
func TestFrozenDiskDelaysNothingAndLossesAreRecorded(t *testing.T) {
	dir, d := t.TempDir(), newStuck()
	w := writer(t, dir)
	w.disk.open = d.open
	w.Read(ended("a", 1, nil))
	<-d.began
	const runs = 20_000
	for n := uint64(2); n <= runs; n++ {
		w.Read(ended("a", n, nil))
	}
	w.mu.Lock()
	bytes, lost := w.bytes, w.pending["a"].lost
	w.mu.Unlock()
	if bytes < pendingMax || bytes > pendingMax+1000 || lost == 0 {
		t.Errorf("%d bytes are kept, and %d runs lost", bytes, lost)
	}
	w.Pause()
	if err := w.Idle(); err == nil || !strings.Contains(err.Error(), "has not returned") {
		t.Errorf("Idle returned %v", err)
	}
	w.Resume()
	close(d.release)
	w.Read(ended("b", 1, nil))
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	got := mustRead(t, dir, "a")
	kept := uint64(len(got.Runs))
	if got.Lost != lost || kept+lost != runs || !slices.Equal(numbers(got), series(1, kept)) {
		t.Errorf("%d runs and %d lost, want %d", kept, got.Lost, runs)
	}
	if text := content(t, dir, "a"); strings.Count(text, typeLost) != 1 {
		t.Errorf("%d records of losses, want 1", strings.Count(text, typeLost))
	}
}

// content returns both files of a history.
func content(t *testing.T, dir, name string) string {
	t.Helper()
	var all strings.Builder
	for _, path := range []string{Path(dir, name) + older, Path(dir, name)} {
		text, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

func TestCloseAndLeaveDoNotWaitForAFrozenDisk(t *testing.T) {
	for name, end := range map[string]func(*Writer) error{
		"close": (*Writer).Close,
		"leave": func(w *Writer) error {
			if s := w.Leave(); len(s.Pending) != 1 || !strings.Contains(s.Pending["a"], `"run":2`) ||
				strings.Contains(s.Pending["a"], `"run":1`) {
				return fmt.Errorf("saved %v", s.Pending)
			}
			return errors.New("does not answer")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, d := t.TempDir(), newStuck()
				w := writer(t, dir)
				w.disk.open = d.open
				w.Read(ended("a", 1, nil))
				<-d.began
				w.Read(ended("a", 2, nil))
				if err := end(w); err == nil || !strings.Contains(err.Error(), "does not answer") {
					t.Error(err)
				}
				close(d.release)
				w.goroutines.Wait()
			})
		})
	}
}

// A run that cannot be written is kept, and written with the next one, or ten seconds later.
func TestFailedWriteIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var problems []string
		w := New(Options{Path: func(name string) string { return Path(dir, name) }, SegmentSize: size,
			Problem: func(err error) { problems = append(problems, err.Error()) }})
		if err := os.Mkdir(Path(dir, "a"), 0o700); err != nil { // a directory in its place
			t.Fatal(err)
		}
		w.Read(ended("a", 1, nil))
		w.Read(ended("b", 1, nil))
		time.Sleep(time.Second)
		w.Read(ended("a", 2, nil))
		w.Read(ended("b", 2, nil)) // that of another job is not late
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := numbers(mustRead(t, dir, "b")); !slices.Equal(got, series(1, 2)) {
			t.Errorf("runs of b %v", got)
		}
		if len(problems) != 1 || !strings.Contains(problems[0], "a.history: is a directory: ") {
			t.Errorf("%d problems, want one about the directory: %q", len(problems), problems)
		}
		if err := os.Remove(Path(dir, "a")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter)
		synctest.Wait()
		if got := mustRead(t, dir, "a"); !slices.Equal(numbers(got), series(1, 2)) || got.Lost != 0 {
			t.Errorf("runs of a %v", got)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file in place of the directory
			t.Fatal(err)
		}
		w.Read(ended("a", 3, nil))
		if err := w.Close(); err == nil || !strings.Contains(err.Error(), "its last 1 runs are missing") {
			t.Error(err)
		}
		if len(problems) != 2 {
			t.Errorf("%d problems, want 2: %q", len(problems), problems)
		}
	})
}

// A write that was cut short leaves nothing that would be there twice.
func TestShortWriteIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	short := true
	d := disk{open: func(path string) (segment, int64, bool, error) {
		f, size, torn, err := openSegment(path)
		if err == nil && short {
			f = shortSegment{f}
		}
		return f, size, torn, err
	}}
	q := &queue{records: records("a", 1, 3)}
	if err := d.append(Path(dir, "a"), "a", q, size); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	short = false
	if err := d.append(Path(dir, "a"), "a", q, size); err != nil {
		t.Fatal(err)
	}
	if got := numbers(mustRead(t, dir, "a")); !slices.Equal(got, series(1, 3)) {
		t.Errorf("runs %v", got)
	}
}

// shortSegment is a segment on a full disk.
type shortSegment struct{ segment }

func (s shortSegment) Write(b []byte) (int, error) {
	n, _ := s.segment.Write(b[:len(b)*2/3])
	return n, syscall.ENOSPC
}

// records returns the records of some runs.
func records(name string, first, last uint64) (b []byte) {
	for _, n := range series(first, last) {
		e := ended(name, n, nil)
		b = appendEnded(b, e, job.EndingSuccess, e.Tick.Started)
	}
	return b
}

func TestTwoFilesHaveTheLastRuns(t *testing.T) {
	dir := t.TempDir()
	const runs, most = 500, 10 << 10
	for n := uint64(1); n <= runs; n++ {
		q := &queue{records: records("a", n, n)}
		if n == 250 { // one that does not fit into any file
			e := ended("a", n, func(t *job.Tick) { t.Output = strings.Repeat("x", most) })
			q.records = appendEnded(nil, e, job.EndingFailure, e.Tick.Started)
		}
		if err := (disk{}).append(Path(dir, "a"), "a", q, most); err != nil {
			t.Fatal(err)
		}
		got := numbers(mustRead(t, dir, "a"))
		if want := series(n+1-uint64(len(got)), n); !slices.Equal(got, want) {
			t.Fatalf("after run %d the history has %v", n, got)
		}
		if n > 100 && len(got) < 25 && (n < 250 || n > 300) {
			t.Fatalf("after run %d the history has %d runs only", n, len(got))
		}
	}
	q := &queue{records: records("a", 1, 200)} // at once
	if err := (disk{}).append(Path(dir, "a"), "a", q, most); err != nil {
		t.Fatal(err)
	}
	got := numbers(mustRead(t, dir, "a"))
	if want := series(201-uint64(len(got)), 200); len(got) < 25 || !slices.Equal(got, want) {
		t.Errorf("the history has %v", got)
	}
	for _, path := range []string{Path(dir, "a"), Path(dir, "a") + older} {
		if info, err := os.Stat(path); err != nil || info.Size() > most {
			t.Errorf("%s: %v, %d bytes", path, err, info.Size())
		}
	}
}

// A re-exec at any moment loses no run, and has none twice.
func TestNextWriterContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := writer(t, dir)
		w.Read(started("a", 1))
		time.Sleep(1100 * time.Millisecond) // its start is written
		w.Read(started("a", 2))
		for n := uint64(3); n < 30; n++ {
			w.Read(started("a", n))
			w.Read(ended("a", n, nil))
			time.Sleep(time.Duration(n) * 7 * time.Millisecond)
			text, err := json.Marshal(w.Leave())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			var s Saved
			if err := json.Unmarshal(text, &s); err != nil {
				t.Fatal(err)
			}
			w = New(Options{Path: w.o.Path, SegmentSize: size, Problem: w.o.Problem, Saved: s})
			for run := range uint64(2) {
				e := started("a", run+1) // by the clock of the new process
				e.Type, e.Tick.Started = event.TypeRunAdopted, e.Tick.Started.Add(-3*time.Second)
				w.Read(e)
			}
		}
		w.Read(ended("a", 1, nil))
		w.Read(ended("a", 2, nil))
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if got := numbers(mustRead(t, dir, "a")); !slices.Equal(got, append(series(3, 29), 1, 2)) {
			t.Errorf("runs %v", got)
		}
		if n := strings.Count(content(t, dir, "a"), typeStarted); n != 2 {
			t.Errorf("%d records of a start, want 2", n)
		}
	})
}

// A run of the old process that the new one cannot adopt is stopped by gophd, whatever signal that takes.
func TestAbandonedRunWasStopped(t *testing.T) {
	dir := t.TempDir()
	w := writer(t, dir)
	result := job.Result{PID: 9, Outcome: job.Signaled, Signal: syscall.SIGTERM, Started: time.Now(), Ended: time.Now()}
	for n := range uint64(2) { // that of a handoff that cannot be read has no number
		e := event.RunAbandoned("a", job.Run{Number: n}, result)
		e.Time = time.Now()
		w.Read(e)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if runs := mustRead(t, dir, "a").Runs; len(runs) != 1 || runs[0].Number != 1 || runs[0].Outcome != "stopped" {
		t.Errorf("%+v", runs)
	}
}

func TestFindNamesDaemonAndJob(t *testing.T) {
	dir := t.TempDir()
	for _, c := range [][2]string{{"nightly", "nightly"}, {"jobs.a", "a"}, {"jobs.a.b", "a.b"}, {"x.y", "x.y"}} {
		if err := os.WriteFile(Path(dir, c[0]), records(c[1], 1, 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"old.history.1", "empty.history", "torn.history", "x.heartbeat", ".history"} {
		text := map[string][]byte{"old.history.1": records("old", 1, 2), "torn.history": []byte(`{"type`)}[name]
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Source{{"jobs", "a.b", Path(dir, "jobs.a.b")}, {"jobs", "a", Path(dir, "jobs.a")},
		{"nightly", "nightly", Path(dir, "nightly")}, {"old", "old", Path(dir, "old")}, {"x.y", "x.y", Path(dir, "x.y")}}
	if d := cmp.Diff(want, all); d != "" {
		t.Error(d)
	}
	if _, err := Find(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestPanicEndsTheHistoryOnly(t *testing.T) {
	problem := make(chan error, 1)
	w := New(Options{Path: func(string) string { panic("no path") }, Problem: func(err error) { problem <- err }})
	w.Read(ended("a", 1, nil))
	if err := <-problem; !strings.Contains(err.Error(), "no path") {
		t.Error(err)
	}
	w.Read(ended("a", 2, nil))
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	w := writer(t, dir)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			name := fmt.Sprint(i)
			for n := uint64(1); n <= 500; n++ {
				w.Read(started(name, n))
				w.Read(ended(name, n, nil))
				if n%100 == 0 {
					w.Pause()
					_ = w.Idle()
					w.Resume()
				}
			}
		})
	}
	group.Wait()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for i := range 4 {
		if got := numbers(mustRead(t, dir, fmt.Sprint(i))); !slices.Equal(got, series(1, 500)) {
			t.Errorf("job %d has %d runs", i, len(got))
		}
	}
}
