package jobfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecordIsKeptWhileThereIsSomethingToKeep(t *testing.T) {
	path := Path(filepath.Join(t.TempDir(), "state"), "jobs.nightly")
	if r, err := Load(path); r != (Record{}) || err != nil {
		t.Errorf("without a file: %+v, %v", r, err)
	}
	for _, want := range []Record{{Paused: true}, {Skip: 2}, {Paused: true, Skip: 1}, {}, {}} {
		if err := Save(path, want); err != nil {
			t.Fatal(err)
		}
		if r, err := Load(path); r != want || err != nil {
			t.Errorf("%+v, %v, want %+v", r, err, want)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an empty record is kept")
	}
}

func TestRecordThatCannotBeReadIsAnError(t *testing.T) {
	for _, text := range []string{"", "{", `{"paused":1}`, `{"skip":-1}`} {
		path := Path(t.TempDir(), "x")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Load(path); r != (Record{}) || err == nil || !strings.Contains(err.Error(), path+" cannot be read") {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	}
}
