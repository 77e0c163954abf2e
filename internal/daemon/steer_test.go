package daemon

import (
	"path/filepath"
	"strings"
	"testing"

	"gophd/internal/jobfile"
)

func TestLastRecordOfAJobIsWritten(t *testing.T) {
	dir := t.TempDir()
	var failed []error
	r := records{problem: func(err error) { failed = append(failed, err) }}
	for i := range 100 {
		r.save(jobfile.Path(dir, "a"), jobfile.Record{Skip: i})
		r.save(jobfile.Path(dir, "b"), jobfile.Record{Paused: true})
	}
	r.save(jobfile.Path(dir, "b"), jobfile.Record{})
	r.save(filepath.Join("/dev/null", "c.job"), jobfile.Record{Paused: true})
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r.group.Wait()
	for name, want := range map[string]jobfile.Record{"a": {Skip: 99}, "b": {}} {
		if got, err := jobfile.Load(jobfile.Path(dir, name)); got != want || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "a pause or skip will be lost with this daemon") {
		t.Errorf("%v", failed)
	}
	if err := r.close(); err != nil { // nothing is left to wait for
		t.Error(err)
	}
}
