package api

import (
	"os"
	"strings"
	"testing"
	"time"

	"gophd/internal/history"
)

// writeRuns writes a history of three runs: the second one failed.
func writeRuns(t *testing.T, path string) {
	t.Helper()
	text := ""
	for i, outcome := range []string{`"outcome":"success","exit_code":0`, `"outcome":"failure","exit_code":3,"output":"<refused>\n"`,
		`"outcome":"success","exit_code":0`} {
		at := "2026-11-27T0" + string(rune('1'+i)) + ":17:0"
		text += `{"time":"` + at + `5Z","type":"run.ended","job":"nightly","run":` + string(rune('1'+i)) + `,"due":"` + at + `0Z","started":"` + at +
			`0Z","ended":"` + at + `5Z","duration_seconds":5,` + outcome + `,"trigger":"schedule","pid":901}` + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRunsOfAJob(t *testing.T) {
	path, log := logServer(t, nil)
	c := NewClient(path)
	at := time.Date(2026, 11, 27, 2, 17, 5, 0, time.UTC)
	if runs, err := c.Runs(t.Context(), "nightly", history.Query{}); err != nil || len(runs) != 0 {
		t.Errorf("without a history: %+v, %v", runs, err)
	}
	writeRuns(t, Record{StateDir: strings.TrimSuffix(log, "/x.log")}.History("nightly.nightly"))
	for want, q := range map[string]history.Query{"123": {}, "23": {Last: 2}, "2": {Failed: true}, " 23": {Since: at}} {
		runs, err := c.Runs(t.Context(), "nightly", q)
		got := ""
		for _, r := range runs {
			got += string(rune('0' + r.Number))
		}
		if err != nil || got != strings.TrimSpace(want) {
			t.Errorf("%+v: runs %s, want %s; %v", q, got, want, err)
		}
	}
	if runs, err := c.Runs(t.Context(), "nightly", history.Query{Failed: true}); err != nil || *runs[0].ExitCode != 3 || runs[0].Output != "<refused>\n" {
		t.Errorf("%+v, %v", runs, err)
	}
	for query, want := range map[string]string{"count=-1": "not a number of runs", "since=now": "not a time", "failed=x": "not true or false",
		"lines=1": "is no parameter"} {
		if code, _, body := fetch(t, path, "GET", "/v1/jobs/nightly/runs?"+query, ""); code != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
	if code, _, body := fetch(t, path, "POST", "/v1/jobs/nightly/runs", ""); code != 405 {
		t.Errorf("%d %s", code, body)
	}
}
