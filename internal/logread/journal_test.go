package logread

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// entries is what journalctl --output=json of systemd 252 prints for a job whose log is journald:, without the
// fields that are not read.
const entries = `{"__REALTIME_TIMESTAMP":"1795999371142906","PRIORITY":"6","SYSLOG_PID":"5724","_PID":"5232","GOPHD_JOB":"jj","GOPHD_STREAM":"stdout","MESSAGE":"jj 4"}
{"__REALTIME_TIMESTAMP":"1795999371143106","PRIORITY":"6","SYSLOG_PID":"5724","_PID":"5232","GOPHD_JOB":"jj","GOPHD_STREAM":"stderr","GOPHD_PARTIAL":"1","MESSAGE":[255,112,97,114,116]}
{"__REALTIME_TIMESTAMP":"1795999371143166","PRIORITY":"4","SYSLOG_PID":"5232","_PID":"5232","GOPHD_JOB":"jj","MESSAGE":"run 4 failed after 1.391ms: exit code 4"}
{"__REALTIME_TIMESTAMP":"1795999371143200","PRIORITY":"6","SYSLOG_PID":"5232","_PID":"5232","GOPHD_JOB":"jj","GOPHD_STREAM":"stdout","GOPHD_CRLF":"1","MESSAGE":"dos"}
-- No entries --
{"__REALTIME_TIMESTAMP":"x","MESSAGE":null}
`

func readAll(s Source, q Query, text string) (all []string) {
	_, err := s.readEntries(strings.NewReader(text), q, false, func(l Line) bool {
		all = append(all, brief(l)+string(l.Output()[len(l.Text):]))
		return true
	})
	if err != nil {
		all = append(all, err.Error())
	}
	return all
}

func TestJournalEntries(t *testing.T) {
	s, q := Source{File: "journald:", Job: "jj"}, Query{Since: time.UnixMicro(1795999371142906)}
	want := []string{"5724 jj: out: jj 4\n", "5724 jj: err+ \xffpart", "5232 warn: jj: run 4 failed after 1.391ms: exit code 4\n", "5232 jj: out: dos\r\n"}
	if got := readAll(s, q, entries); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	q = Query{Last: 1, Runs: []Run{{Number: 4, PID: 5724, Started: time.UnixMicro(1795999371142000), Ended: time.UnixMicro(1795999371143150)}}}
	q.index()
	if got := readAll(s, q, entries); !slices.Equal(got, want[2:3]) {
		t.Errorf("the last line of the run is %q", got)
	}
}

// The output of a unit has the lines of gophd's stderr, and what the command wrote to its stdout.
func TestJournalOfAUnit(t *testing.T) {
	s := Source{File: UserUnit + "x.service", Job: "x"}
	text := `{"__REALTIME_TIMESTAMP":"1795999371142906","PRIORITY":"6","_PID":"77","MESSAGE":"2026-11-30 00:42:51.143 [812] warn: run 4 failed after 1ms: exit code 4"}
{"__REALTIME_TIMESTAMP":"1795999371142906","PRIORITY":"6","_PID":"78","MESSAGE":"hello"}
`
	want := []string{"812 warn: x: run 4 failed after 1ms: exit code 4\n", "78 x: out: hello\n"}
	if got := readAll(s, Query{}, text); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestJournalArguments(t *testing.T) {
	since := Query{Since: time.Unix(7, 8000), Last: 3}
	for _, tt := range []struct {
		s      Source
		q      Query
		follow bool
		want   string
	}{
		{Source{File: "journald:t", Job: "a"}, Query{}, false, "SYSLOG_IDENTIFIER=t GOPHD_JOB=a"},
		{Source{File: "journald:t"}, since, false, "--since=@7.000008 --lines=3 SYSLOG_IDENTIFIER=t"},
		{Source{File: "journald:t", Job: "a"}, Query{Runs: []Run{}, Last: 3}, true, "--lines=all --follow SYSLOG_IDENTIFIER=t GOPHD_JOB=a"},
		{Source{File: "unit:x.service", Job: "a"}, Query{}, false, "_SYSTEMD_UNIT=x.service"},
		{Source{File: "user-unit:x.service", Job: "a"}, Query{}, true, "--lines=all --follow _SYSTEMD_USER_UNIT=x.service"},
	} {
		if got := strings.Join(tt.s.journalArgs(tt.q, tt.follow, "t")[3:], " "); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.s, got, tt.want)
		}
	}
}
