package history

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/job"
	"gophd/internal/procfs"
)

// gophd is killed during a write, at any byte of it. The reader sees the records before, and the next
// gophd writes the ones that follow.
func TestKillAtAnyByteOfAWrite(t *testing.T) {
	whole := slices.Concat(records("a", 1, 2), startOf(3, procfs.Self()), records("a", 4, 4))
	path := Path(t.TempDir(), "a")
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		want := []uint64{}
		for i, n := range []uint64{1, 2, 3, 4} {
			if lines := bytes.SplitAfter(whole, []byte("\n")); len(bytes.Join(lines[:i+1], nil)) <= cut+1 {
				want = append(want, n) // the last byte is not needed
			}
		}
		check := func(want []uint64) {
			t.Helper()
			runs, err := Read(path, Query{})
			if err != nil {
				t.Fatal(err)
			}
			if got := numbers(runs); !slices.Equal(got, want) {
				t.Fatalf("cut at byte %d of %d: runs %v, want %v", cut, len(whole), got, want)
			}
		}
		check(want)
		if err := (disk{}).append(path, "a", &queue{records: records("a", 5, 6)}, size); err != nil {
			t.Fatal(err)
		}
		check(append(want, 5, 6))
	}
}

// startOf returns the record of the start of a run.
func startOf(number uint64, gophd procfs.Identity) []byte {
	run := activeRun{started: time.Now(), due: time.Now(), trigger: job.TriggerSchedule, pid: os.Getpid()}
	return appendStarted(nil, "a", number, run, gophd)
}

// The run of a gophd that is not alive any more was interrupted. So was one before the start of another
// gophd.
func TestRunOfADeadGophdWasInterrupted(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	self := procfs.Self()
	dead, before := self, self
	dead.PID, dead.Start = cmd.Process.Pid, 1
	before.Boot = "another"
	other, elsewhere := self, self
	other.PID, elsewhere.PIDNS = os.Getppid(), "pid:[1]"
	var err error
	if other.Start, err = procfs.StartTime(other.PID); err != nil {
		t.Fatal(err)
	}
	lost := func(n uint64) []byte { return appendLost(nil, "a", n) }
	finished := ended("a", 7, nil)
	start := appendStarted(nil, "a", 7, activeRun{started: finished.Tick.Started}, self)
	end := appendEnded(nil, finished, job.EndingTimeout, finished.Tick.Started)
	gone := appendStarted(nil, "a", 1, activeRun{started: time.Now(), pid: cmd.Process.Pid}, self)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"alive":                     {startOf(1, self), "1 "},
		"dead":                      {startOf(1, dead), "1 interrupted"},
		"before a boot":             {startOf(1, before), "1 interrupted"},
		"the next one is alive":     {slices.Concat(startOf(9, dead), startOf(1, self)), "9 interrupted, 1 "},
		"both are alive":            {slices.Concat(startOf(2, other), startOf(1, self)), "2 , 1 "},
		"elsewhere":                 {startOf(2, elsewhere), "2 "},
		"elsewhere before":          {slices.Concat(startOf(2, elsewhere), startOf(1, self)), "2 interrupted, 1 "},
		"the same number again":     {slices.Concat(startOf(1, dead), records("a", 1, 1)), "1 interrupted, 1 success"},
		"it has ended":              {slices.Concat(start, records("a", 8, 8), end), "8 success, 7 timeout"},
		"its end is a lost one":     {slices.Concat(gone, lost(2)), ""},
		"it is active after a loss": {slices.Concat(startOf(1, self), lost(2)), "1 "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(Path(dir, "a"), c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range mustRead(t, dir, "a").Runs {
				got = append(got, fmt.Sprintf("%d %s", r.Number, r.Outcome))
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
}

func TestQuerySelects(t *testing.T) {
	dir, noon := t.TempDir(), time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	var text []byte
	for i, outcome := range []job.Ending{"success", "failure", "timeout", "stopped", "killed", "start_error",
		"lease_lost", "success"} {
		e := ended("a", uint64(i+1), nil)
		e.Time = noon.Add(time.Duration(i) * time.Hour)
		e.Tick.Ended = e.Time
		text = appendEnded(text, e, outcome, e.Time.Add(-time.Minute))
		if i == 3 {
			text = append(text, appendLost(nil, "a", 12)...)
		}
	}
	dead := procfs.Self()
	dead.Boot = "another"
	text = append(text, startOf(9, dead)...)
	text = append(text, startOf(10, procfs.Self())...)
	if err := os.WriteFile(Path(dir, "a")+older, text[:len(text)/3], 0o600); err != nil { // in the middle of a record
		t.Fatal(err)
	}
	cut := bytes.LastIndexByte(text[:len(text)/3], '\n') + 1
	if err := os.WriteFile(Path(dir, "a"), text[cut:], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q    Query
		lost uint64
		want []uint64
	}{
		{Query{}, 12, series(1, 10)},
		{Query{Last: 3}, 0, series(8, 10)},
		{Query{Last: 7}, 12, series(4, 10)},
		{Query{Failed: true}, 12, []uint64{2, 3, 5, 6, 9}},
		{Query{Failed: true, Last: 2}, 0, []uint64{6, 9}},
		{Query{Since: noon.Add(6 * time.Hour)}, 12, []uint64{7, 8, 9, 10}},
		{Query{Since: noon.Add(2 * time.Hour), Failed: true}, 12, []uint64{3, 5, 6, 9}},
		{Query{Since: time.Now().Add(time.Hour)}, 0, []uint64{10}}, // it is active
	} {
		runs, err := Read(Path(dir, "a"), c.q)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(numbers(runs), c.want) || runs.Lost != c.lost {
			t.Errorf("%+v: %v and %d lost, want %v and %d", c.q, numbers(runs), runs.Lost, c.want, c.lost)
		}
	}
}

func TestReadRejectsWhatIsNoHistory(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(Path(dir, "a"), Query{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for name, create := range map[string]func(path string) error{
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		if err := create(Path(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(Path(dir, name), Query{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Between the rename of a file and the creation of the next there is only the older one.
	if err := os.WriteFile(Path(dir, "b")+older, records("b", 1, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := numbers(mustRead(t, dir, "b")); !slices.Equal(got, series(1, 2)) {
		t.Errorf("runs %v", got)
	}
}

// A reader beside a writer sees the last runs without a gap and none twice, while files are renamed.
func TestReadBesideAWriter(t *testing.T) {
	path := Path(t.TempDir(), "a")
	done := make(chan error)
	go func() {
		var err error
		for n := uint64(1); n <= 2000 && err == nil; n++ {
			err = (disk{}).append(path, "a", &queue{records: records("a", n, n)}, 4<<10)
		}
		done <- err
	}()
	reads := 0
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if reads == 0 {
				t.Error("nothing was read meanwhile")
			}
			return
		default:
		}
		runs, err := Read(path, Query{})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := numbers(runs); len(got) > 0 {
			if want := series(got[0], got[len(got)-1]); !slices.Equal(got, want) {
				t.Fatalf("runs %v", got)
			}
			reads++
		}
	}
}

// Whatever is in a file, it is read, and a record that is written after it is the last one.
func FuzzRead(f *testing.F) {
	f.Add([]byte(""), 3)
	f.Add([]byte("\n\n{}\n"), 0)
	f.Add(records("a", 1, 3), 2)
	f.Add(startOf(1, procfs.Self()), 1)
	f.Add(appendLost(nil, "a", 5), 1)
	f.Add(append(records("a", 1, 1), "{\"type\":\"run.started\",\"run\":-1}\x00\x00"...), 9)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte, last int) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid())+suffix)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, Query{Last: last, Failed: last%2 == 0}); err != nil {
			t.Fatal(err)
		}
		if err := (disk{}).append(path, "a", &queue{records: records("a", 77, 77)}, 1<<30); err != nil {
			t.Fatal(err)
		}
		runs, err := Read(path, Query{Last: 1})
		if err != nil || len(runs.Runs) != 1 || runs.Runs[0].Number != 77 {
			t.Fatalf("%+v %v after %q", runs, err, text)
		}
	})
}

// The last 20 runs of a file cost the same, however large it is.
func BenchmarkReadLast(b *testing.B) {
	for _, n := range []uint64{350, 3500} {
		b.Run(fmt.Sprintf("runs=%d", n), func(b *testing.B) {
			path := Path(b.TempDir(), "a")
			if err := os.WriteFile(path, records("a", 1, n), 0o600); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if runs, err := Read(path, Query{Last: 20}); err != nil || len(runs.Runs) != 20 {
					b.Fatal(err)
				}
			}
		})
	}
}
