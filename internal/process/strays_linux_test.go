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

// told keeps what Report was called with.
type told struct {
	mu  sync.Mutex
	all []string
}

func (o *told) report(pid int, name string, killed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, fmt.Sprint(pid, " ", name, " ", killed))
}

func (o *told) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.all, "; ")
}

// marked starts a command whose strays are reported to the returned value. It prints their PIDs.
func marked(t *testing.T, s *Spawner, mark string, kill bool, grace time.Duration, script string) (*Process, *capture, *told) {
	t.Helper()
	out, o := newCapture(), &told{}
	p, err := s.Start(t.Context(), Command{Argv: []string{"bash", "-c", script}, Dir: "/", Env: []string{"PATH=/bin:/usr/bin", mark},
		Stdout: out.output(), Stderr: discard(), Strays: &Strays{Mark: mark, Kill: kill, Grace: grace, Report: o.report}})
	if err != nil {
		t.Fatal(err)
	}
	return p, out, o
}

// mercy ends what a test has spared, and waits until it is no more.
func mercy(t *testing.T, s *Spawner, pid int) {
	t.Helper()
	_ = syscall.Kill(pid, syscall.SIGKILL)
	awaitEnd(t, pid)
	s.collecting.Lock()
	defer s.collecting.Unlock()
	s.collectOrphans()
	gone(t, pid)
	if len(s.known) > 0 {
		t.Errorf("what has ended is still known: %v", s.known)
	}
}

// escape is a function of the shell that starts its arguments in a session of their own and prints the line that
// they say when they are ready: their PIDs.
const escape = `escape() { exec {fd}< <(exec setsid "$@"); read -r pids <&$fd; echo $pids; }; escape `

const (
	frozen    = `/bin/sh -c 'echo $$; kill -STOP $$'`
	obdurate  = `/bin/sh -c 'trap "" TERM; echo $$; while :; do sleep 0.01; done'`
	withATree = `/bin/sh -c 'setsid sleep 3600 & a=$!; setsid sleep 3600 & echo $$ $a $!; wait'`
)

func TestSetsidEscapeeIsSpared(t *testing.T) {
	s := newSpawner(t)
	p, out, o := marked(t, s, "RUN=1", false, time.Hour, escape+frozen)
	r := p.Wait()
	pid := number(t, out.String())
	if want := fmt.Sprintf("%d sh false", pid); !r.OK() || o.String() != want || !living(pid) {
		t.Errorf("%v, reported %q, want %q and that it lives", r, o, want)
	}
	p, _, o = marked(t, s, "RUN=1", true, time.Hour, "true")
	if p.Wait(); o.String() != "" || !living(pid) {
		t.Errorf("it was reported again: %q", o)
	}
	mercy(t, s, pid)
}

func TestSetsidEscapeeIsKilled(t *testing.T) {
	for name, tc := range map[string]struct {
		script  string
		grace   time.Duration
		strays  int // how many are reported at least
		atLeast time.Duration
	}{
		"frozen":          {escape + frozen, time.Hour, 1, 0},
		"ignores TERM":    {escape + obdurate, 200 * time.Millisecond, 1, 200 * time.Millisecond},
		"no grace":        {escape + obdurate, 0, 1, 0},
		"set -m":          {`set -m; sleep 3600 >/dev/null & echo $!`, time.Hour, 1, 0},
		"a tree":          {escape + withATree, time.Hour, 1, 0},
		"several at once": {escape + frozen + "; escape sh -c 'echo $$; exec sleep 3600'", time.Hour, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpawner(t)
			p, out, o := marked(t, s, "RUN=2", true, tc.grace, tc.script)
			r := p.Wait()
			took := time.Since(r.Ended)
			if n := strings.Count(o.String(), " true"); !r.OK() || n < tc.strays || strings.Contains(o.String(), "false") || took < tc.atLeast {
				t.Errorf("%v, reported %q after %v", r, o, took)
			}
			for pid := range strings.FieldsSeq(out.String()) {
				gone(t, number(t, pid))
			}
		})
	}
}

// A stop that leaves no time leaves none to strays either: the right to run may end with it.
func TestStraysHaveNoMoreTimeThanTheStop(t *testing.T) {
	s := newSpawner(t)
	for name, grace := range map[string]time.Duration{"now": 0, "soon": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			p, out, o := marked(t, s, "RUN=3", true, time.Hour, escape+obdurate+"; sleep 3600")
			pid := number(t, out.await(t, "\n"))
			began := time.Now()
			p.Stop(grace)
			r := p.Wait()
			if took := time.Since(began); r.Outcome != job.Signaled || took < grace || !strings.Contains(o.String(), fmt.Sprint(pid)) {
				t.Errorf("%v after %v, reported %q", r, took, o)
			}
			gone(t, pid)
		})
	}
}

// While strays are given their grace, a KILL is heard.
func TestKillWhileStraysHaveTheirGrace(t *testing.T) {
	s := newSpawner(t)
	out, found := newCapture(), make(chan int, 100)
	p, err := s.Start(t.Context(), Command{Argv: []string{"bash", "-c", escape + obdurate},
		Dir: "/", Env: []string{"PATH=/bin:/usr/bin", "RUN=4"}, Stdout: out.output(), Stderr: discard(),
		Strays: &Strays{Mark: "RUN=4", Kill: true, Grace: time.Hour, Report: func(pid int, _ string, _ bool) { found <- pid }}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan job.Result, 1)
	go func() { ended <- p.Wait() }()
	pid := <-found
	p.Stop(0)
	if r := <-ended; !r.OK() {
		t.Error(r)
	}
	gone(t, pid)
}

// Whoever may be somebody else's is left alone.
func TestStraysOfOthersAreLeftAlone(t *testing.T) {
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
	// Another run, still going on, with a stray that has come home already.
	run, outRun, toldRun := marked(t, s, "RUN=6", true, time.Hour, escape+frozen+"; sleep 3600")
	strayOfRun := number(t, outRun.await(t, "\n"))
	// One that has cleared its environment may be anybody's.
	p, out, o := marked(t, s, "RUN=5", true, time.Hour, escape+"env -i "+frozen)
	r := p.Wait()
	nameless := number(t, out.String())
	if want := fmt.Sprintf("%d sh false", nameless); !r.OK() || o.String() != want {
		t.Errorf("%v, reported %q, want %q", r, o, want)
	}
	for _, cmd := range others {
		if !living(cmd.Process.Pid) {
			t.Error("another room's child was ended")
		}
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("the status of another room's child: %v", err)
		}
	}
	if !living(strayOfRun) || !living(run.PID()) || !living(nameless) {
		t.Error("another run's process was ended")
	}
	run.Stop(time.Hour)
	if run.Wait(); living(strayOfRun) || toldRun.String() != fmt.Sprintf("%d sh true", strayOfRun) {
		t.Errorf("its own run reported %q", toldRun)
	}
	mercy(t, s, nameless)
}

// A new image has not seen whom the last one spoke of; who is older than the run is not the run's.
func TestStrayOfAnEarlierRunIsNotClaimed(t *testing.T) {
	s := newSpawner(t)
	p, out, o := marked(t, s, "RUN=5", true, time.Hour, escape+"env -i "+frozen)
	p.Wait()
	first := number(t, out.String())
	if want := fmt.Sprintf("%d sh false", first); o.String() != want {
		t.Errorf("reported %q, want %q", o, want)
	}
	s.known = nil
	for born := birth(first); born == birth(first); { // until a later run is younger by the clock of the kernel
		tick, _, _ := begin(t, s, []string{"/bin/true"})
		born = birth(tick.PID())
		tick.Wait()
	}
	p, out, o = marked(t, s, "RUN=6", true, time.Hour, escape+"env -i "+frozen)
	p.Wait()
	second := number(t, out.String())
	if want := fmt.Sprintf("%d sh false", second); o.String() != want {
		t.Errorf("reported %q, want %q: %d is of an earlier run", o, want, first)
	}
	mercy(t, s, second)
	mercy(t, s, first)
}

// helpStrays runs its arguments as a command, ends its strays, and prints what was reported.
func helpStrays() error {
	s, err := New()
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := s.Start(context.Background(), Command{Argv: os.Args[1:], Dir: "/", Env: []string{"PATH=/bin:/usr/bin", "RUN=8"},
		Stdout: Output{File: s.null}, Stderr: Output{File: s.null}, Strays: &Strays{Mark: "RUN=8", Kill: true, Grace: time.Minute,
			Report: func(pid int, name string, killed bool) { fmt.Println(pid, name, killed) }}})
	if err != nil {
		return err
	}
	if r := p.Wait(); !r.OK() {
		return errors.New(r.String())
	}
	return nil
}

// setuidStray runs a command as the given user that leaves a stray behind, whose file has the set-user-ID
// bit of who runs this test. It returns what was reported of the stray.
func setuidStray(t *testing.T, attr *syscall.SysProcAttr) (name string, pid int, killed string) {
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
	cmd := exec.Command(image, "bash", "-c", `exec {fd}< <(exec setsid "$1"/other 60); until grep -q other /proc/$!/stat; do :; done`, "", dir)
	cmd.Env, cmd.SysProcAttr = helperEnv("strays"), attr
	out, err := cmd.Output()
	f := strings.Fields(string(out))
	if err != nil || len(f) != 3 {
		t.Fatalf("%v, reported %q, want one stray", err, out)
	}
	return f[1], number(t, f[0]), f[2]
}

// A set-user-ID program is killed like any other, as long as the user is the same.
func TestStrayOfASetuidProgram(t *testing.T) {
	newSpawner(t)
	name, pid, killed := setuidStray(t, nil)
	if name != "other" || killed != "true" {
		t.Errorf("reported %s, %s; want one that is called other and was killed", name, killed)
	}
	gone(t, pid)
}

func TestNoStraysCostNothing(t *testing.T) {
	s := newSpawner(t)
	p, _, o := marked(t, s, "RUN=7", true, time.Hour, "sleep 0.01 & wait")
	if r := p.Wait(); !r.OK() || p.others || o.String() != "" {
		t.Errorf("%v: children were looked for; reported %q", r, o)
	}
}

func TestChildrenAreThoseOfProc(t *testing.T) {
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
