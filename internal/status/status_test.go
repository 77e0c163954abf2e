package status_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/status"
)

func board() *status.Board {
	return status.New(status.Snapshot{State: "serving", PID: 4711, User: "root", Born: time.Now(), Image: time.Now(),
		Jobs: []status.Job{{Name: "nightly", Interval: 5 * time.Second}}})
}

func tick(length time.Duration, code int, missed uint64) job.Tick {
	now := time.Now()
	return job.Tick{Missed: missed, Result: job.Result{Started: now.Add(-length), Ended: now, Outcome: job.Exited, Code: code}}
}

func TestCountsAndLengths(t *testing.T) {
	b := board()
	for i := 1; i <= 100; i++ {
		b.Read(event.RunEnded("nightly", tick(time.Duration(i)*time.Millisecond, i%10, 0)))
	}
	b.Read(event.TicksSkipped("nightly", job.Run{Number: 101}, 3, "run 101 was active"))
	b.Read(event.RunEnded("nightly", tick(101*time.Millisecond, 0, 3)))
	b.Read(event.RunEnded("unknown", tick(time.Hour, 1, 1)))
	j := b.Snapshot().Jobs[0]
	if want := (status.Counts{Runs: 101, Failures: 90, Overruns: 1, Missed: 3}); j.Counts != want {
		t.Errorf("counts %+v, want %+v", j.Counts, want)
	}
	ms := time.Millisecond
	if want := (status.Lengths{Of: 101, Mean: 51 * ms, P50: 51 * ms, P90: 91 * ms, P99: 100 * ms}); j.Lengths != want {
		t.Errorf("lengths %+v, want %+v", j.Lengths, want)
	}
}

func TestLengthsAreThoseOfTheLatestRuns(t *testing.T) {
	b := board()
	for range 500 {
		b.Read(event.RunEnded("nightly", tick(time.Hour, 0, 0)))
	}
	for range 1000 {
		b.Read(event.RunEnded("nightly", tick(time.Second, 0, 0)))
	}
	if l := b.Snapshot().Jobs[0].Lengths; l.Of != 1000 || l.P99 != time.Second || l.Mean != time.Second {
		t.Errorf("lengths %+v still know of runs that 1000 others have followed", l)
	}
}

func TestSnapshotIsACopy(t *testing.T) {
	b := board()
	before := b.Snapshot()
	b.Job("nightly", func(j *status.Job) { j.State = job.Running; j.Counts.Runs = 9 })
	if before.Jobs[0].State != 0 || before.Jobs[0].Counts.Runs != 0 {
		t.Error("a Snapshot changed after it was taken")
	}
}

func TestMemoirCrossesAsJSON(t *testing.T) {
	old := board()
	for i := range 3 {
		old.Read(event.RunEnded("nightly", tick(time.Duration(i+1)*time.Second, i%2, uint64(i))))
	}
	text, err := json.Marshal(old.Memoir())
	if err != nil {
		t.Fatal(err)
	}
	var m status.Memoir
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	b := board()
	b.Recall(m)
	was, is := old.Snapshot().Jobs[0], b.Snapshot().Jobs[0]
	if is.Counts != was.Counts || is.Lengths != was.Lengths {
		t.Errorf("recalled %+v %+v, want %+v %+v", is.Counts, is.Lengths, was.Counts, was.Lengths)
	}
	b.Recall(status.Memoir{})
	if c := b.Snapshot().Jobs[0].Counts; c != (status.Counts{}) {
		t.Errorf("an empty memoir left %+v", c)
	}
}

func TestConcurrentUse(t *testing.T) {
	b := board()
	var g goroutine.Group
	for range 4 {
		g.Go(func() {
			for range 200 {
				b.Read(event.RunEnded("nightly", tick(time.Second, 0, 0)))
				b.Snapshot()
			}
		})
	}
	g.Wait()
	if n := b.Snapshot().Jobs[0].Counts.Runs; n != 800 {
		t.Errorf("%d runs counted, want 800", n)
	}
}

// TestVariables pins the whole dump: what PHP-Daemon's had, and the loop, the runs and the lease.
func TestVariables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := board()
		b.Update(func(s *status.Snapshot) {
			s.Config, s.Log, s.Daemon, s.RestartIn, s.Restarts, s.Instance = "/etc/n.yaml", "/var/log/n.log", true, time.Hour, 1, "9f"
		})
		b.Read(event.TicksSkipped("nightly", job.Run{Number: 1}, 1, "run 1 was active"))
		b.Read(event.RunEnded("nightly", tick(2*time.Second, 3, 1)))
		time.Sleep(time.Minute)
		b.Job("nightly", func(j *status.Job) {
			j.State, j.Next = job.Waiting, time.Now().Add(4*time.Second)
			j.Lease = status.Lease{Store: "file:/n", State: "held", Fence: 17, Holder: "this instance"}
		})
		s := b.Snapshot()
		if s.Goroutines < 2 {
			t.Errorf("%d goroutines", s.Goroutines)
		}
		s.Memory, s.Goroutines = status.Memory{Now: 6 << 20, Peak: 7 << 20}, 12
		var got []string
		for _, v := range s.Variables() {
			got = append(got, v.Name+": "+v.Text)
		}
		const stamp = "2006-01-02 15:04:05 -0700"
		want := strings.Split(strings.NewReplacer("BORN", s.Born.Format(stamp),
			"NEXT", s.Taken.Add(4*time.Second).Format(stamp)).Replace(`state: serving
shutting down: no
pid: 4711
user: root
started: BORN
uptime: 1m0s
this image: 1m0s, after 1 restart
config file: /etc/n.yaml
log file: /var/log/n.log
log lines dropped: 0
log trouble: none
daemon: yes
verbose: no
restart interval: 1h0m0s
memory: 6.0 MiB
peak memory: 7.0 MiB
goroutines: 12
instance: 9f
job: nightly
loop: waiting
interval: 5s
next tick: NEXT, in 4s
run: none
runs: 1
failures: 1
overruns: 1, 1 tick missed
last outcome: exit 3 after 2s
run lengths: mean 2s, p50 2s, p90 2s, p99 2s over the last 1 run
heartbeat: file:/n
lease: held, fence 17, for ever
holder: this instance`), "\n")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the dump differs (-want +got):\n%s", d)
		}
	})
}

// TestT63LogTroubleShows: a reader that stalls is seen, and so is what is lost and a log that is not where it should be.
func TestT63LogTroubleShows(t *testing.T) {
	for _, c := range []struct {
		s                status.Snapshot
		trouble, dropped string
	}{
		{status.Snapshot{}, "none", "0"},
		{status.Snapshot{LogStalled: time.Second / 2}, "none", "0"}, // any write takes its time
		{status.Snapshot{LogStalled: 90 * time.Second}, "it has taken nothing for 1m30s", "0"},
		{status.Snapshot{LogAstray: errors.New("no such folder")}, "no such folder", "0"},
		{status.Snapshot{Dropped: 7, DroppedFor: errors.New("disk full")}, "none", "7, the last: disk full"},
	} {
		got := map[string]string{}
		for _, v := range c.s.Variables() {
			got[v.Name] = v.Text
		}
		if got["log trouble"] != c.trouble || got["log lines dropped"] != c.dropped {
			t.Errorf("%+v: got %q and %q", c.s, got["log trouble"], got["log lines dropped"])
		}
	}
}

// TestSeveralRunsAreShown, each once, until it has ended.
func TestSeveralRunsAreShown(t *testing.T) {
	b := board()
	shown := func() string {
		for _, v := range b.Snapshot().Variables() {
			if v.Name == "run" {
				return v.Text
			}
		}
		return ""
	}
	for n := range uint64(2) {
		b.Read(event.JobState("nightly", job.Running, job.Run{Number: n + 1}, time.Now(), time.Time{}))
		b.Read(event.RunStarted("nightly", job.Run{Number: n + 1}, int(40+n), time.Now()))
	}
	if got := shown(); !strings.HasPrefix(got, "number 1, pid 40, for ") || !strings.Contains(got, "; number 2, pid 41, for ") {
		t.Errorf("of two runs this is shown: %q", got)
	}
	ended := tick(time.Second, 0, 0)
	ended.Run.Number = 1
	b.Read(event.RunEnded("nightly", ended))
	if got := shown(); !strings.HasPrefix(got, "number 2, pid 41") || strings.Contains(got, ";") {
		t.Errorf("of the one that is left this is shown: %q", got)
	}
}

// TestStatusIsThatOfARunThatGoesOn: the newest that has told one, and none that has ended.
func TestStatusIsThatOfARunThatGoesOn(t *testing.T) {
	b := board()
	shown := func() string {
		for _, v := range b.Snapshot().Variables() {
			if v.Name == "status" {
				return v.Text
			}
		}
		return ""
	}
	begin := func(n uint64) {
		b.Read(event.JobState("nightly", job.Running, job.Run{Number: n}, time.Time{}, time.Time{}))
	}
	begin(1)
	b.Read(event.RunStatus("nightly", job.Run{Number: 1}, "one"))
	if got := shown(); got != "one" {
		t.Errorf("shown is %q", got)
	}
	begin(2)
	if got := shown(); got != "one" {
		t.Errorf("beside a run that told nothing %q is shown", got)
	}
	b.Read(event.RunStatus("nightly", job.Run{Number: 2}, "two"))
	b.Read(event.RunStatus("nightly", job.Run{Number: 1}, "one still"))
	if got := shown(); got != "two" {
		t.Errorf("of two runs %q is shown", got)
	}
	b.Read(event.RunStatus("nightly", job.Run{Number: 2}, ""))
	if got := shown(); got != "" {
		t.Errorf("what was taken back is shown: %q", got)
	}
	b.Read(event.RunStatus("nightly", job.Run{Number: 2}, "two"))
	ended := tick(time.Second, 0, 0)
	ended.Run.Number = 2
	b.Read(event.RunEnded("nightly", ended))
	if got := shown(); got != "" {
		t.Errorf("no run goes on, and %q is shown", got)
	}
}

func TestMemoryIsKnownOnLinux(t *testing.T) {
	m := board().Snapshot().Memory
	if m.Peak < 1<<20 || m.Peak < m.Now {
		t.Errorf("memory %+v", m)
	}
}
