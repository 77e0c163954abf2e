package jobfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// save writes a record and waits for it.
func save(t *testing.T, w *Writer, path string, r Record) error {
	t.Helper()
	s := w.Save(path, r)
	<-s.done
	return s.Wait()
}

func due(minute int) Position {
	return Position{Schedule: "* * * * * 0123456789abcdef", Due: time.Date(2026, 11, 27, 3, minute, 0, 0, time.UTC),
		Boot: "a long id of a boot", Fence: 41}
}

var records = []Record{{Requested{Paused: true}, Position{}}, {Requested{Skip: 2}, due(17)}, {Requested{true, 1}, due(18)},
	{Requested{true, 1}, due(19)}, {Requested{}, due(20)}, {Requested{}, Position{Due: time.Unix(1, 0).UTC()}}, {}, {},
	{Requested{}, due(21)}}

func TestRecordIsKeptWhileThereIsSomethingToKeep(t *testing.T) {
	path := Path(filepath.Join(t.TempDir(), "state"), "jobs.nightly")
	if r, err := Load(path); !r.IsEmpty() || err != nil {
		t.Errorf("without a file: %+v, %v", r, err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(func(err error) { t.Error(err) })
	for _, want := range records {
		if err := save(t, w, path, want); err != nil {
			t.Fatal(err)
		}
		if r, err := Load(path); !r.Equal(want) || err != nil {
			t.Errorf("%+v, %v, want %+v", r, err, want)
		}
		if r, err := w.Read(path); !r.Equal(want) || err != nil {
			t.Errorf("%+v, %v, want %+v", r, err, want)
		}
		if _, err := os.Stat(path); (err == nil) == want.IsEmpty() {
			t.Errorf("%+v: %v", want, err)
		}
	}
	w.group.Wait()
}

// A job may be due each second, so its due time is written in place. What was requested is not.
func TestOnlyWhatWasRequestedReplacesTheFile(t *testing.T) {
	path := Path(t.TempDir(), "x")
	w := NewWriter(func(err error) { t.Error(err) })
	inode := func(r Record) uint64 {
		if err := save(t, w, path, r); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	first := inode(Record{Requested{Paused: true}, due(1)})
	if again := inode(Record{Requested{Paused: true}, due(2)}); again != first {
		t.Error("a due time replaces the file")
	}
	w = NewWriter(w.problem) // of the next daemon
	if again := inode(Record{Requested{Paused: true}, due(3)}); again != first {
		t.Error("the first due time of a daemon replaces the file")
	}
	if again := inode(Record{Requested{Skip: 1}, due(3)}); again == first {
		t.Error("a request is written in place")
	}
	w.group.Wait()
}

// A machine may crash while the due time is written: what was requested is still known.
func TestDueTimeThatIsTornLosesNoRequest(t *testing.T) {
	path := Path(t.TempDir(), "x")
	want := Requested{Paused: true, Skip: 3}
	text, err := encode(Record{want, due(1)})
	if err != nil {
		t.Fatal(err)
	}
	first := strings.IndexByte(string(text), '\n') + 1
	for n := first; n < len(text)-1; n++ {
		if err := os.WriteFile(path, text[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Load(path); r.Requested != want || (err == nil) != (r.Position == due(1)) {
			t.Errorf("after %d bytes: %+v, %v", n, r, err)
		}
	}
}

func TestRecordThatCannotBeReadIsAnError(t *testing.T) {
	for _, text := range []string{"", "{", `{"paused":1}`, `{"skip":-1}`} {
		path := Path(t.TempDir(), "x")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Load(path); !r.IsEmpty() || err == nil || !strings.Contains(err.Error(), path+" cannot be read") {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	}
}

func TestLastRecordOfEachFileIsWritten(t *testing.T) {
	dir := t.TempDir()
	var failed []error
	w := NewWriter(func(err error) { failed = append(failed, err) })
	for i := range 100 {
		w.Save(Path(dir, "a"), Record{Requested{Skip: i}, due(i)})
		w.Save(Path(dir, "b"), Record{Requested{Paused: true}, Position{}})
	}
	w.Save(Path(dir, "b"), Record{})
	for range 2 { // the same error is a problem once
		bad := w.Save(filepath.Join("/dev/null", "c.job"), Record{Requested{Paused: true}, Position{}})
		<-bad.done
		if err := bad.Wait(); err == nil || Hangs(err) {
			t.Errorf("an error is %v", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.group.Wait()
	for name, want := range map[string]Record{"a": {Requested{Skip: 99}, due(99)}, "b": {}} {
		if got, err := Load(Path(dir, name)); !got.Equal(want) || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "a pause or skip will be lost with this daemon") {
		t.Errorf("%v", failed)
	}
	if err := w.Close(); err != nil { // nothing is left to wait for
		t.Error(err)
	}
}

// The writer is kept busy by its report of a problem.
func TestNothingWaitsForADiskThatHangs(t *testing.T) {
	hang := make(chan struct{})
	w := NewWriter(func(error) { <-hang })
	w.Save(filepath.Join("/dev/null", "x.job"), Record{Requested{Paused: true}, Position{}})
	s := w.Save(Path(t.TempDir(), "y"), Record{Requested{Paused: true}, due(1)})
	if err := s.Wait(); !Hangs(err) {
		t.Errorf("the first wait: %v", err)
	}
	if err := s.Wait(); !Hangs(err) {
		t.Errorf("the next: %v", err)
	}
	if err := w.Close(); !Hangs(err) {
		t.Errorf("close: %v", err)
	}
	close(hang)
	<-s.done
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	w.group.Wait()
	if err := (*Saving)(nil).Wait(); err != nil {
		t.Error(err)
	}
}
