package config

import (
	"flag"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gophd/internal/job"
)

var update = flag.Bool("update", false, "rewrite docs/config.md")

// request returns a request that is independent of this machine: no environment, no home, no system
// directory.
func request(t testing.TB) Request {
	dir := t.TempDir()
	return Request{Dir: dir, SystemDir: filepath.Join(dir, "none"), UID: os.Getuid()}
}

func TestDefaults(t *testing.T) {
	r := request(t)
	r.Command, r.UID = []string{"./job.sh"}, 0
	got, err := Load(r)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Jobs: []job.Spec{{
			Name: got.Jobs[0].Name,
			Exec: job.Exec{Command: []string{"./job.sh"}, Dir: r.Dir, Stdin: job.StdinNull},
			Schedule: job.Schedule{Interval: 5 * time.Second, RunAtStart: true, Overlap: job.OverlapQueue,
				MaxParallel: 1},
			Stop: job.Stop{Grace: 10 * time.Second, StopSignals: []syscall.Signal{syscall.SIGTERM},
				Escaped: job.EscapedReport, OnLeftover: job.LeftoverWait},
			Output: job.OutputInherit,
			Retry:  job.Retry{SuccessCodes: []int{0}, RetryDelay: time.Second, StartLimitInterval: time.Minute},
		}},
		Name:    got.Jobs[0].Name,
		Restart: Restart{AutoRestart: 24 * time.Hour, RestartWhen: "daemon"},
		Heartbeat: Heartbeat{
			URL: "file:", TTL: 10 * time.Second, Renew: 2 * time.Second, StopGrace: 2 * time.Second,
			Timeout: 500 * time.Millisecond, AcquireTimeout: 30 * time.Second, OnUnreachable: "pause",
			Scope: "job",
		},
		Log:         Log{Format: "simple", Level: "info", Sync: "never", OnFull: "drop"},
		API:         API{Socket: true},
		History:     History{Size: 2 << 20},
		Directories: Directories{RuntimeDir: "/run/gophd", StateDir: "/var/lib/gophd", LogDir: "/var/log/gophd"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
}
