package status_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/line"
	"gophd/internal/status"
)

func board() *status.Board {
	return status.New(status.Snapshot{State: "serving", PID: 4711, User: "root",
		Born: time.Now(), ProcessStart: time.Now(),
		Jobs: []status.Job{{Name: "nightly", Interval: 5 * time.Second}}})
}

// variable returns the text of a variable of the dump.
func variable(b *status.Board, name string) string {
	for _, v := range b.Snapshot().Variables() {
		if v.Name == name {
			return v.Text
		}
	}
	return ""
}

func tick(length time.Duration, code int, missed uint64) job.Tick {
	now := time.Now()
	return job.Tick{Missed: missed, Result: job.Result{
		Started: now.Add(-length), Ended: now, Outcome: job.Exited, Code: code,
	}}
}

func TestCountsAndLengths(t *testing.T) {
	b := board()
	for i := 1; i <= 100; i++ {
		b.Read(event.RunEnded("nightly", tick(time.Duration(i)*time.Millisecond, i%10, 0)))
	}
	b.Read(event.TicksSkipped("nightly", job.Run{Number: 101}, 3))
	b.Read(event.RunEnded("nightly", tick(101*time.Millisecond, 0, 3)))
	b.Read(event.RunEnded("unknown", tick(time.Hour, 1, 1)))
	j := b.Snapshot().Jobs[0]
	if want := (status.Counts{Runs: 101, Failures: 90, Late: 1, Missed: 3}); j.Counts != want {
		t.Errorf("counts %+v, want %+v", j.Counts, want)
	}
}

// The percentiles come from a histogram of fixed size. Each is within 15 % of the run of its rank,
// from 1 ms to 8 hours, and between the shortest and the longest run. The mean is exact.
func TestPercentilesAreWithinTheirError(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		lowest, span := math.Log(float64(time.Millisecond)), math.Log(float64(8*time.Hour/time.Millisecond))
		from, to := rng.Float64()*span, rng.Float64()*span
		b, n := board(), 1+rng.IntN(200)
		var lengths []time.Duration
		var sum time.Duration
		for range n {
			length := time.Duration(math.Exp(lowest + from + (to-from)*rng.Float64()))
			lengths, sum = append(lengths, length), sum+length
			b.Read(event.RunEnded("nightly", tick(length, 0, 0)))
		}
		slices.Sort(lengths)
		l := b.Snapshot().Jobs[0].Lengths
		if l.Of != n || l.Mean != sum/time.Duration(n) {
			t.Fatalf("mean %v of %d runs, want %v of %d", l.Mean, l.Of, sum/time.Duration(n), n)
		}
		for percent, got := range map[int]time.Duration{50: l.P50, 90: l.P90, 99: l.P99} {
			want := lengths[(n*percent+99)/100-1]
			if off := float64(got)/float64(want) - 1; math.Abs(off) > 0.15 || got < lengths[0] || got > lengths[n-1] {
				t.Fatalf("p%d of %d runs is %v, want %v: off by %.1f %%", percent, n, got, want, 100*off)
			}
		}
	}
}

// Very short and very long runs are between the shortest and the longest.
func TestPercentilesOutsideOfTheRange(t *testing.T) {
	for _, length := range []time.Duration{0, 20 * time.Microsecond, 9 * time.Hour, 300 * time.Hour} {
		b := board()
		b.Read(event.RunEnded("nightly", tick(length, 0, 0)))
		if l := b.Snapshot().Jobs[0].Lengths; l.P50 != length || l.P99 != length {
			t.Errorf("one run of %v: %+v", length, l)
		}
	}
}

// The lengths are those of the last 5,000 to 10,000 runs: what a job did long ago does not count.
func TestOldLengthsAreForgotten(t *testing.T) {
	b := board()
	for range 500 {
		b.Read(event.RunEnded("nightly", tick(time.Hour, 0, 0)))
	}
	for range 80_000 {
		b.Read(event.RunEnded("nightly", tick(time.Second, 0, 0)))
	}
	l := b.Snapshot().Jobs[0].Lengths
	if l.Of < 5000 || l.Of > 10_000 || l.P99 > 1150*time.Millisecond || l.Mean > 1150*time.Millisecond {
		t.Errorf("%+v", l)
	}
}

// An event of one of many jobs does not look at the others.
func TestEventFindsItsJobAmongMany(t *testing.T) {
	b := manyJobs(10_000)
	b.Remove("job-5000")
	for _, name := range []string{"job-0", "job-4999", "job-5000", "job-5001", "job-9999"} {
		b.Read(event.RunEnded(name, tick(time.Second, 0, 0)))
	}
	var counted []string
	for _, j := range b.Snapshot().Jobs {
		if j.Counts.Runs != 0 || j.Lengths.Of != 0 {
			counted = append(counted, j.Name)
		}
	}
	if want := []string{"job-0", "job-4999", "job-5001", "job-9999"}; !slices.Equal(counted, want) {
		t.Errorf("runs of %q, want %q", counted, want)
	}
}

// The time for an event is the same with 1 and with 10,000 jobs.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("jobs=%d", n), func(b *testing.B) {
			all := manyJobs(n)
			last := event.RunEnded(fmt.Sprintf("job-%d", n-1), tick(time.Second, 0, 0))
			for b.Loop() {
				all.Read(last)
			}
		})
	}
}

func manyJobs(n int) *status.Board {
	var s status.Snapshot
	for i := range n {
		s.Jobs = append(s.Jobs, status.Job{Name: fmt.Sprintf("job-%d", i)})
	}
	return status.New(s)
}

func TestSnapshotIsACopy(t *testing.T) {
	b := board()
	before := b.Snapshot()
	b.Job("nightly", func(j *status.Job) { j.State = job.Running; j.Counts.Runs = 9 })
	if before.Jobs[0].State != 0 || before.Jobs[0].Counts.Runs != 0 {
		t.Error("a Snapshot changed after it was taken")
	}
}

func TestSavedSurvivesJSON(t *testing.T) {
	old := board()
	for i := range 3 {
		old.Read(event.RunEnded("nightly", tick(time.Duration(i+1)*time.Second, i%2, uint64(i))))
	}
	text, err := json.Marshal(old.Save())
	if err != nil {
		t.Fatal(err)
	}
	var saved status.Saved
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	b := board()
	b.Restore(saved)
	want, got := old.Snapshot().Jobs[0], b.Snapshot().Jobs[0]
	if got.Counts != want.Counts || got.Lengths != want.Lengths {
		t.Errorf("restored %+v %+v, want %+v %+v", got.Counts, got.Lengths, want.Counts, want.Lengths)
	}
	b.Restore(status.Saved{})
	if c := b.Snapshot().Jobs[0].Counts; c != (status.Counts{}) {
		t.Errorf("an empty Saved left %+v", c)
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

// The whole dump: what the dump of PHP-Daemon had, and the loop, the runs and the lease.
func TestVariablesAreTheWholeDump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := board()
		b.Update(func(s *status.Snapshot) {
			s.Config, s.Log.File, s.Daemon = "/etc/n.yaml", "/var/log/n.log", true
			s.RestartIn, s.Restarts, s.Instance = time.Hour, 1, "9f"
		})
		b.Read(event.TicksSkipped("nightly", job.Run{Number: 1}, 1))
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
this process: 1m0s, after 1 re-exec
config file: /etc/n.yaml
log file: /var/log/n.log
log lines dropped: 0
log trouble: none
background: yes
verbose: no
restart interval: 1h
memory: 6.0 MiB
peak memory: 7.0 MiB
goroutines: 12
instance: 9f
job: nightly
loop: waiting
interval: 5s
next tick: NEXT, in 4s
run: none
ended runs: 1
failures: 1
late runs: 1, 1 tick missed
last outcome: exit code 3 after 2s
run lengths: mean 2s, p50 2s, p90 2s, p99 2s over the last 1 run
lease store: file:/n
lease: held, fencing token 17, does not expire
holder: this instance`), "\n")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the dump differs (-want +got):\n%s", d)
		}
	})
}

// During a run the next tick may be past.
func TestDumpShowsAPastTick(t *testing.T) {
	now := time.Now()
	s := status.Snapshot{Taken: now, Jobs: []status.Job{{Next: now.Add(-1270 * time.Millisecond)}}}
	for _, v := range s.Variables() {
		if v.Name == "next tick" && !strings.HasSuffix(v.Text, ", due 1.27s ago") {
			t.Errorf("next tick: %s", v.Text)
		}
	}
}

// The dump shows a log whose reader stalls, lost lines, and a log in another file.
func TestDumpShowsLogTrouble(t *testing.T) {
	for _, c := range []struct {
		log              status.Log
		trouble, dropped string
	}{
		{status.Log{}, "none", "0"},
		{status.Log{Stalled: time.Second / 2}, "none", "0"}, // a normal write may take that long
		{status.Log{Stalled: 90 * time.Second}, "write stalled for 1m30s", "0"},
		{status.Log{Misplaced: errors.New("no such directory")}, "no such directory", "0"},
		{status.Log{Dropped: 7, DroppedFor: errors.New("disk full")}, "none", "7, the last: disk full"},
	} {
		got := map[string]string{}
		for _, v := range (status.Snapshot{Log: c.log}).Variables() {
			got[v.Name] = v.Text
		}
		if got["log trouble"] != c.trouble || got["log lines dropped"] != c.dropped {
			t.Errorf("%+v: got %q and %q", c.log, got["log trouble"], got["log lines dropped"])
		}
		// A job shows a log of its own below the settings of the daemon.
		c.log.File = "/var/log/a.log"
		jobs := []status.Job{{Name: "a", Log: c.log}, {Name: "b"}}
		var of []string
		for _, v := range (status.Snapshot{Jobs: jobs}).Variables() {
			switch v.Name {
			case "job", "log file", "log lines dropped", "log trouble":
				of = append(of, v.Text)
			}
		}
		want := []string{"none", "0", "none", "a", "/var/log/a.log", c.dropped, c.trouble, "b"}
		if !slices.Equal(of, want) {
			t.Errorf("the dump has %q, want %q", of, want)
		}
	}
}

// A line that a command has not finished is shown with its size and its beginning, without control
// characters.
func TestDumpShowsUnfinishedLines(t *testing.T) {
	shown := func(lines ...line.Unfinished) string {
		b := board()
		b.Job("nightly", func(j *status.Job) { j.Unfinished = lines })
		for _, v := range b.Snapshot().Variables() {
			if v.Name == "unfinished line" {
				return v.Text
			}
		}
		return "nothing"
	}
	part := func(stream, text string) line.Unfinished {
		u := line.Unfinished{PID: 4720, Stream: stream}
		u.Add([]byte(text))
		return u
	}
	for _, c := range []struct {
		want  string
		lines []line.Unfinished
	}{
		{"nothing", nil},
		{`stdout of pid 4720, 21 bytes: "Really delete? [y/N] "`, []line.Unfinished{part("stdout", "Really delete? [y/N] ")}},
		{`output of pid 4720, 1 byte: "?"`, []line.Unfinished{part("", "?")}},
		{`stderr of pid 4720, 9 bytes: "\x1b[2J\r\n\"\xff\x00"`,
			[]line.Unfinished{part("stderr", "\x1b[2J\r\n\"\xff\x00")}},
		{`stdout of pid 4720, 60 bytes: "` + strings.Repeat("x", 60) + `"`,
			[]line.Unfinished{part("stdout", strings.Repeat("x", 60))}},
		{`stdout of pid 4720, 200000 bytes: "` + strings.Repeat("😀", 60) + `"...; stderr of pid 4720, 1 byte: "a"`,
			[]line.Unfinished{part("stdout", strings.Repeat("😀", 50_000)), part("stderr", "a")}},
	} {
		if got := shown(c.lines...); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// Each run is shown once, until it has ended.
func TestDumpShowsEveryActiveRun(t *testing.T) {
	b := board()
	shown := func() string { return variable(b, "run") }
	for n := range uint64(2) {
		b.Read(event.JobState("nightly", job.Running, job.Run{Number: n + 1}, time.Now(), time.Time{}))
		b.Read(event.RunStarted("nightly", job.Run{Number: n + 1}, int(40+n), time.Now()))
	}
	if got := shown(); !strings.HasPrefix(got, "number 1, pid 40, for ") ||
		!strings.Contains(got, "; number 2, pid 41, for ") {
		t.Errorf("with two runs the dump shows %q", got)
	}
	ended := tick(time.Second, 0, 0)
	ended.Run.Number = 1
	b.Read(event.RunEnded("nightly", ended))
	if got := shown(); !strings.HasPrefix(got, "number 2, pid 41") || strings.Contains(got, ";") {
		t.Errorf("with one run left the dump shows %q", got)
	}
}

// While a run is late, the dump has the numbers that the log has. At its end they are counted once.
func TestDumpCountsALateRunWhileItIsActive(t *testing.T) {
	b := board()
	shown := func() (run, late string) {
		for _, v := range b.Snapshot().Variables() {
			switch v.Name {
			case "run":
				run = v.Text
			case "late runs":
				late = v.Text
			}
		}
		return run, late
	}
	run := job.Run{Number: 1}
	b.Read(event.JobState("nightly", job.Running, run, time.Now(), time.Time{}))
	b.Read(event.RunLate("nightly", run, 4900*time.Millisecond, 5*time.Second, 0))
	if _, late := shown(); late != "0, 0 ticks missed" {
		t.Errorf("with no missed tick the dump has %q", late)
	}
	b.Read(event.RunLate("nightly", run, 11*time.Second, 5*time.Second, 2))
	b.Read(event.RunStarted("nightly", run, 901, time.Now())) // its start took that long
	if _, late := shown(); late != "1, 2 ticks missed" {
		t.Errorf("with two missed ticks the dump has %q", late)
	}
	b.Read(event.TicksMissed("nightly", run, 3))
	if _, late := shown(); late != "1, 3 ticks missed" {
		t.Errorf("when they were counted again the dump has %q", late)
	}
	b.Read(event.TicksSkipped("nightly", run, 3))
	ended := tick(16*time.Second, 0, 3)
	ended.Run = run
	b.Read(event.RunEnded("nightly", ended))
	if _, late := shown(); late != "1, 3 ticks missed" {
		t.Errorf("after its end the dump has %q", late)
	}
}

// The dump names the signal that has suspended a run, until the run continues.
func TestDumpShowsASuspendedRun(t *testing.T) {
	b := board()
	shown := func() string { return variable(b, "run") }
	run := job.Run{Number: 1}
	b.Read(event.RunStarted("nightly", run, 901, time.Now()))
	b.Read(event.RunSuspended("nightly", run, 901, event.Process{}, syscall.SIGTTIN, 901))
	if got := shown(); !strings.HasSuffix(got, ", suspended: stopped by signal TTIN") {
		t.Errorf("the dump shows %q", got)
	}
	b.Read(event.RunSuspended("nightly", run, 901, event.Process{PID: 904, Name: "ssh"}, 0, 903))
	if got := shown(); !strings.HasSuffix(got, ", process 904 (ssh) suspended: stopped by a signal such as TTIN or STOP") {
		t.Errorf("of another process the dump shows %q", got)
	}
	b.Read(event.RunContinued("nightly", run, 901, event.Process{PID: 904, Name: "ssh"}))
	if got := shown(); strings.Contains(got, "suspended") {
		t.Errorf("when it has continued the dump shows %q", got)
	}
}

// The status is that of the newest active run that has sent one.
func TestStatusIsThatOfAnActiveRun(t *testing.T) {
	b := board()
	shown := func() string { return variable(b, "status") }
	start := func(n uint64) {
		b.Read(event.JobState("nightly", job.Running, job.Run{Number: n}, time.Time{}, time.Time{}))
	}
	start(1)
	b.Read(event.RunStatus("nightly", job.Run{Number: 1}, "one"))
	if got := shown(); got != "one" {
		t.Errorf("the status is %q", got)
	}
	start(2)
	if got := shown(); got != "one" {
		t.Errorf("beside a run without a status the status is %q", got)
	}
	b.Read(event.RunStatus("nightly", job.Run{Number: 2}, "two"))
	b.Read(event.RunStatus("nightly", job.Run{Number: 1}, "one still"))
	if got := shown(); got != "two" {
		t.Errorf("with two runs the status is %q", got)
	}
	b.Read(event.RunStatus("nightly", job.Run{Number: 2}, ""))
	if got := shown(); got != "" {
		t.Errorf("after it was cleared the status is %q", got)
	}
	b.Read(event.RunStatus("nightly", job.Run{Number: 2}, "two"))
	ended := tick(time.Second, 0, 0)
	ended.Run.Number = 2
	b.Read(event.RunEnded("nightly", ended))
	if got := shown(); got != "" {
		t.Errorf("after the run the status is %q", got)
	}
}

func TestMemoryIsKnownOnLinux(t *testing.T) {
	m := board().Snapshot().Memory
	if m.Peak < 1<<20 || m.Peak < m.Now {
		t.Errorf("memory %+v", m)
	}
}

func TestLastRunIsKeptOverARestart(t *testing.T) {
	b := board()
	b.Read(event.RunEnded("nightly", tick(2*time.Second, 3, 0)))
	want := b.Snapshot().Jobs[0].Last
	if want == nil || want.Outcome != job.EndingFailure || *want.ExitCode != 3 || want.Length != 2*time.Second || want.Text != "exit code 3" {
		t.Fatalf("%+v", want)
	}
	text, err := json.Marshal(b.Save())
	if err != nil {
		t.Fatal(err)
	}
	var saved status.Saved
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	next := board()
	next.Restore(saved)
	if diff := cmp.Diff(want, next.Snapshot().Jobs[0].Last); diff != "" {
		t.Error(diff)
	}
	next.Read(event.RunEnded("nightly", tick(time.Second, 0, 0)))
	if got := next.Snapshot().Jobs[0].Last; got.Outcome != job.EndingSuccess {
		t.Errorf("after the next run: %+v", got)
	}
}

func TestJobThatHasFailed(t *testing.T) {
	b := board()
	b.Read(event.JobFailed("nightly", errors.New("giving up")))
	if got := b.Snapshot().Jobs[0].Failed; got != "giving up" {
		t.Error(got)
	}
}

func TestPauseAndSkipAreShown(t *testing.T) {
	b := board()
	b.Read(event.JobSteered("nightly", true, false, 2))
	if got := variable(b, "loop"); got != "starting, paused, the next 2 scheduled runs skipped" {
		t.Error(got)
	}
	b.Read(event.RunSkipped("nightly", job.Run{}, 1, 1))
	if j := b.Snapshot().Jobs[0]; j.Skip != 1 || j.Counts.Missed != 1 || j.Held != "paused" {
		t.Errorf("%+v", j)
	}
	b.Read(event.JobSteered("nightly", false, false, 0))
	if got := variable(b, "loop"); got != "starting" {
		t.Error(got)
	}
}

// While a run is late, status, API and dump count it, as the log does.
func TestActiveRunsCountAsLate(t *testing.T) {
	j := status.Job{Counts: status.Counts{Runs: 9, Late: 2, Missed: 5}, Active: []status.ActiveRun{{Missed: 4}, {}}}
	if late, missed := j.Late(); late != 3 || missed != 9 {
		t.Errorf("%d late runs, %d ticks missed; want 3 and 9", late, missed)
	}
}
