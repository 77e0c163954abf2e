package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gophd/internal/job"
	"gophd/internal/procfs"
)

// reportLog records the calls of Report.
type reportLog struct {
	mu  sync.Mutex
	all []string
}

func (o *reportLog) report(p EscapedProcess) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := fmt.Sprint(p.PID, " ", p.Name, " ", p.Killed)
	if !p.Marked {
		text += " not marked"
	}
	o.all = append(o.all, text)
}

func (o *reportLog) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.all, "; ")
}

// marked starts a command whose escaped processes are reported to the returned log. It prints their
// PIDs.
func marked(
	t *testing.T, s *Spawner, mark string, kill bool, grace time.Duration, script string,
) (*Process, *capture, *reportLog) {
	t.Helper()
	out, o := newCapture(), &reportLog{}
	p, err := s.Start(t.Context(), Command{
		Argv: []string{"bash", "-c", script}, Dir: "/", Env: []string{"PATH=/bin:/usr/bin", mark},
		Stdout: out.output(), Stderr: discard(),
		Escapes: &EscapeRules{Mark: mark, Kill: kill, Grace: grace, Report: o.report},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, out, o
}

// killSpared kills a process that a test has spared, and waits until it is reaped.
func killSpared(t *testing.T, s *Spawner, pid int) {
	t.Helper()
	_ = syscall.Kill(pid, syscall.SIGKILL)
	awaitExit(t, pid)
	s.reaping.Lock()
	defer s.reaping.Unlock()
	s.reapOrphansNow()
	gone(t, pid)
	if len(s.known) > 0 {
		t.Errorf("an exited process is still known: %v", s.known)
	}
}

// escape is a shell function that starts its arguments in a session of their own and prints the
// line that they print when they are ready: their PIDs.
const escape = `escape() { exec {fd}< <(exec setsid "$@"); read -r pids <&$fd; echo $pids; }; escape `

const (
	suspended   = `/bin/sh -c 'echo $$; kill -STOP $$'`
	ignoresTERM = `/bin/sh -c 'trap "" TERM; echo $$; while :; do sleep 0.01; done'`
	tree        = `/bin/sh -c 'setsid sleep 3600 & a=$!; setsid sleep 3600 & echo $$ $a $!; wait'`
)

func TestEscapedProcessIsSpared(t *testing.T) {
	s := newSpawner(t)
	p, out, o := marked(t, s, "RUN=1", false, time.Hour, escape+suspended)
	r := p.Wait()
	pid := number(t, out.String())
	if want := fmt.Sprintf("%d sh false", pid); !r.OK() || o.String() != want || !isAlive(pid) {
		t.Errorf("%v, reported %q, want %q and that it is alive", r, o, want)
	}
	p, _, o = marked(t, s, "RUN=1", true, time.Hour, "true")
	if p.Wait(); o.String() != "" || !isAlive(pid) {
		t.Errorf("it was reported again: %q", o)
	}
	killSpared(t, s, pid)
}

func TestEscapedProcessIsKilled(t *testing.T) {
	for name, tc := range map[string]struct {
		script  string
		grace   time.Duration
		escaped int // how many are reported, at least
		atLeast time.Duration
	}{
		"suspended":       {escape + suspended, time.Hour, 1, 0},
		"ignores TERM":    {escape + ignoresTERM, 200 * time.Millisecond, 1, 200 * time.Millisecond},
		"no grace":        {escape + ignoresTERM, 0, 1, 0},
		"set -m":          {`set -m; sleep 3600 >/dev/null & echo $!`, time.Hour, 1, 0},
		"a tree":          {escape + tree, time.Hour, 1, 0},
		"several at once": {escape + suspended + "; escape sh -c 'echo $$; exec sleep 3600'", time.Hour, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpawner(t)
			p, out, o := marked(t, s, "RUN=2", true, tc.grace, tc.script)
			r := p.Wait()
			took := time.Since(r.Ended)
			n := strings.Count(o.String(), " true")
			if !r.OK() || n < tc.escaped || strings.Contains(o.String(), "false") || took < tc.atLeast {
				t.Errorf("%v, reported %q after %v", r, o, took)
			}
			for pid := range strings.FieldsSeq(out.String()) {
				gone(t, number(t, pid))
			}
		})
	}
}

// A stop with little time leaves little to escaped processes too: the lease may end with it.
func TestStopShortensTheGraceOfEscapedProcesses(t *testing.T) {
	s := newSpawner(t)
	for name, grace := range map[string]time.Duration{"now": 0, "soon": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			p, out, o := marked(t, s, "RUN=3", true, time.Hour, escape+ignoresTERM+"; sleep 3600")
			pid := number(t, out.await(t, "\n"))
			started := time.Now()
			p.Stop(grace)
			r := p.Wait()
			took := time.Since(started)
			if r.Outcome != job.Signaled || took < grace || !strings.Contains(o.String(), fmt.Sprint(pid)) {
				t.Errorf("%v after %v, reported %q", r, took, o)
			}
			gone(t, pid)
		})
	}
}

// A KILL takes effect while escaped processes have their grace.
func TestKillDuringTheGraceOfEscapedProcesses(t *testing.T) {
	s := newSpawner(t)
	out, found := newCapture(), make(chan int, 100)
	p, err := s.Start(t.Context(), Command{
		Argv: []string{"bash", "-c", escape + ignoresTERM}, Dir: "/",
		Env: []string{"PATH=/bin:/usr/bin", "RUN=4"}, Stdout: out.output(), Stderr: discard(),
		Escapes: &EscapeRules{
			Mark: "RUN=4", Kill: true, Grace: time.Hour,
			Report: func(p EscapedProcess) { found <- p.PID },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan job.Result, 1)
	go func() { result <- p.Wait() }()
	pid := <-found
	p.Stop(0)
	if r := <-result; !r.OK() {
		t.Error(r)
	}
	gone(t, pid)
}

// Processes that may belong to another run or package are spared.
func TestProcessesOfOtherRunsAreSpared(t *testing.T) {
	s := newSpawner(t)
	var others []*exec.Cmd
	for _, attr := range []*syscall.SysProcAttr{{}, {Setpgid: true}} {
		cmd := exec.Command("/bin/sleep", "3600")
		cmd.SysProcAttr = attr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		others = append(others, cmd)
	}
	// Another run that is still active, with an escaped process that is already a child of gophd.
	run, outRun, reportsOfRun := marked(t, s, "RUN=6", true, time.Hour, escape+suspended+"; sleep 3600")
	escapedOfRun := number(t, outRun.await(t, "\n"))
	// A process that has cleared its environment cannot be attributed to a run.
	p, out, o := marked(t, s, "RUN=5", true, time.Hour, escape+"env -i "+suspended)
	r := p.Wait()
	unattributed := number(t, out.String())
	if want := fmt.Sprintf("%d sh false not marked", unattributed); !r.OK() || o.String() != want {
		t.Errorf("%v, reported %q, want %q", r, o, want)
	}
	for _, cmd := range others {
		if !isAlive(cmd.Process.Pid) {
			t.Error("another package's child was killed")
		}
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("the status of another package's child: %v", err)
		}
	}
	if !isAlive(escapedOfRun) || !isAlive(run.PID()) || !isAlive(unattributed) {
		t.Error("another run's process was killed")
	}
	run.Stop(time.Hour)
	if run.Wait(); isAlive(escapedOfRun) || reportsOfRun.String() != fmt.Sprintf("%d sh true", escapedOfRun) {
		t.Errorf("its own run reported %q", reportsOfRun)
	}
	killSpared(t, s, unattributed)
}

// A new process does not know which processes the old one reported. A process that is older than
// the run does not belong to the run.
func TestEscapedProcessOfAnEarlierRunIsNotReported(t *testing.T) {
	s := newSpawner(t)
	p, out, o := marked(t, s, "RUN=5", true, time.Hour, escape+"env -i "+suspended)
	p.Wait()
	first := number(t, out.String())
	if want := fmt.Sprintf("%d sh false not marked", first); o.String() != want {
		t.Errorf("reported %q, want %q", o, want)
	}
	s.known = nil
	// Start commands until one has a later start time, by the clock of the kernel.
	for start := childStart(first); start == childStart(first); {
		tick, _, _ := startCommand(t, s, []string{"/bin/true"})
		start = childStart(tick.PID())
		tick.Wait()
	}
	p, out, o = marked(t, s, "RUN=6", true, time.Hour, escape+"env -i "+suspended)
	p.Wait()
	second := number(t, out.String())
	if want := fmt.Sprintf("%d sh false not marked", second); o.String() != want {
		t.Errorf("reported %q, want %q: %d is of an earlier run", o, want, first)
	}
	killSpared(t, s, second)
	killSpared(t, s, first)
}

// helpEscaped runs its arguments as a command, stops its escaped processes, and prints what was
// reported.
func helpEscaped() error {
	s, err := New()
	if err != nil {
		return err
	}
	s.readAtOnce = true
	defer s.Close()
	p, err := s.Start(context.Background(), Command{
		Argv: os.Args[1:], Dir: "/", Env: []string{"PATH=/bin:/usr/bin", "RUN=8"},
		Stdout: Output{File: s.null}, Stderr: Output{File: s.null},
		Escapes: &EscapeRules{
			Mark: "RUN=8", Kill: true, Grace: time.Minute,
			Report: func(p EscapedProcess) { fmt.Println(p.PID, p.Name, p.Killed) },
		},
	})
	if err != nil {
		return err
	}
	if r := p.Wait(); !r.OK() {
		return errors.New(r.String())
	}
	return nil
}

// setuidEscaped runs a command as the given user. It leaves an escaped process whose file has the
// set-user-ID bit of the user that runs this test. setuidEscaped returns what was reported of it.
func setuidEscaped(t *testing.T, attr *syscall.SysProcAttr) (name string, pid int, killed string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/other", string(raw), 0o755|os.ModeSetuid)
	const script = `exec {fd}< <(exec setsid "$1"/other 60); until grep -q other /proc/$!/stat; do :; done`
	cmd := exec.Command(selfExe, "bash", "-c", script, "", dir)
	cmd.Env, cmd.SysProcAttr = helperEnv("escaped"), attr
	out, err := cmd.Output()
	f := strings.Fields(string(out))
	if err != nil || len(f) != 3 {
		t.Fatalf("%v, reported %q, want one escaped process", err, out)
	}
	return f[1], number(t, f[0]), f[2]
}

// A set-user-ID program is killed like any other if its user is the same.
func TestEscapedSetuidProgramIsKilled(t *testing.T) {
	newSpawner(t)
	name, pid, killed := setuidEscaped(t, nil)
	if name != "other" || killed != "true" {
		t.Errorf("reported %s, %s; want one that is called other and was killed", name, killed)
	}
	gone(t, pid)
}

func TestNoSearchWithoutEscapedProcesses(t *testing.T) {
	s := newSpawner(t)
	p, _, o := marked(t, s, "RUN=7", true, time.Hour, "sleep 0.01 & wait")
	if r := p.Wait(); !r.OK() || p.others || o.String() != "" {
		t.Errorf("%v: children were looked for; reported %q", r, o)
	}
}

// children returns the PIDs of the children of this program.
func children() []int { return procfs.Children()(os.Getpid()) }

func TestChildrenMatchProc(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "3600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	listed := children()
	var seen []int
	procfs.Processes(func(p procfs.Stat) {
		if p.Parent == os.Getpid() {
			seen = append(seen, p.PID)
		}
	})
	slices.Sort(listed) // the kernel has a list for each thread
	slices.Sort(seen)
	if !slices.Equal(listed, seen) || !slices.Contains(listed, cmd.Process.Pid) {
		t.Errorf("the kernel lists %v, /proc has %v", listed, seen)
	}
}
