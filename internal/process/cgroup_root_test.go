//go:build root && linux

package process

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/credentials"
	"gophd/internal/job"
)

// group creates a control group for the test's job.
func group(t *testing.T) *Cgroup {
	t.Helper()
	c, err := OpenCgroup("", fmt.Sprint("test-", os.Getpid()), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(c.path); err == nil {
			t.Errorf("%s is still there", c.path)
		}
	})
	return c
}

// inGroup starts a bash script in a control group.
func inGroup(
	t *testing.T, s *Spawner, c *Cgroup, w *credentials.Credentials, rules *EscapeRules, script string,
) (*Process, *capture) {
	t.Helper()
	out := newCapture()
	p, err := s.Start(t.Context(), Command{
		Argv: []string{"bash", "-c", script}, Dir: "/", Env: []string{"PATH=/bin:/usr/bin"}, Credentials: w,
		Cgroup: c, Escapes: rules, Stdout: out.output(), Stderr: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, out
}

func TestRootEachRunHasItsCgroup(t *testing.T) {
	s, c := newSpawner(t), group(t)
	for name, w := range map[string]*credentials.Credentials{"plain": nil, "with credentials": {Umask: ptr(0o77)}} {
		p, out := inGroup(t, s, c, w, nil, `grep ^0:: /proc/self/cgroup; sed -n '/SigBlk/p' /proc/self/status`)
		want := "/job-" + filepath.Base(c.path)[4:] + "/run-" + fmt.Sprint(c.count) + "\nSigBlk:\t0000000000000000\n"
		if r := p.Wait(); !r.OK() || !strings.HasSuffix(out.String(), want) {
			t.Errorf("%s: %v, its group is %q, want …%q", name, r, out, want)
		}
		if _, err := os.Stat(p.leaf.path); err == nil {
			t.Errorf("%s: the group of the run is still there", name)
		}
	}
	if _, err := s.Start(t.Context(), Command{
		Argv: []string{"/no/such"}, Cgroup: c, Stdout: discard(), Stderr: discard(),
	}); job.StartCode(err) != 127 {
		t.Error(err)
	}
	entries, err := os.ReadDir(c.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("%s is left of a run that was not started", e.Name())
		}
	}
}

// No process escapes from a control group: not by another session, an empty environment or forking.
func TestRootEscapedProcessesInACgroupAreKilled(t *testing.T) {
	s, c := newSpawner(t), group(t)
	for name, tc := range map[string]struct {
		script string
		grace  time.Duration
	}{
		"TERM": {escape + `env -i /bin/sh -c 'echo $$; kill -STOP $$'`, time.Hour},
		"KILL": {escape + `env -i /bin/sh -c 'trap "" TERM; echo $$; while :; do /bin/sleep 0.01; done'`,
			200 * time.Millisecond},
		// Not a suspended process: bash would kill it itself.
		"job control": {`set -m; env -i /bin/sleep 3600 & echo $!`, time.Hour},
		"always forking": {
			escape + `env -i /bin/sh -c 'trap "" TERM; echo $$; f() { (f) & }; f; while :; do (:); done'`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := &reportLog{}
			p, out := inGroup(t, s, c, nil, &EscapeRules{Kill: true, Grace: tc.grace, Report: o.report}, tc.script)
			r := p.Wait()
			took := time.Since(r.Ended)
			if !r.OK() || o.String() == "" || strings.Contains(o.String(), "false") ||
				tc.grace < time.Hour && took < tc.grace {
				t.Errorf("%v, reported %q after %v", r, o, took)
			}
			gone(t, number(t, out.String()))
			if _, err := os.Stat(p.leaf.path); err == nil {
				t.Error("the group of the run is still there")
			}
		})
	}
}

func TestRootEscapedProcessesInACgroupAreSpared(t *testing.T) {
	s, c := newSpawner(t), group(t)
	o := &reportLog{}
	p, out := inGroup(t, s, c, nil, &EscapeRules{Report: o.report}, escape+`env -i /bin/sh -c 'echo $$; kill -STOP $$'`)
	r := p.Wait()
	pid := number(t, out.String())
	if want := fmt.Sprintf("%d sh false", pid); !r.OK() || o.String() != want || !isAlive(pid) {
		t.Errorf("%v, reported %q, want %q and that it is alive", r, o, want)
	}
	// A later run has a group of its own, and does not affect this process.
	p, _ = inGroup(t, s, c, nil, &EscapeRules{Kill: true, Report: o.report}, "true")
	if p.Wait(); strings.Contains(o.String(), ";") || !isAlive(pid) {
		t.Errorf("a later run reported %q", o)
	}
	killSpared(t, s, pid)
}

// A suspended process is found by the control group of its run, however it hides.
func TestRootSuspendedProcessIsFoundInItsCgroup(t *testing.T) {
	s, c := newSpawner(t), group(t)
	other, _ := inGroup(t, s, c, nil, nil, "read -r x < /dev/zero")
	p, out := inGroup(t, s, c, nil, &EscapeRules{Kill: true},
		escape+`env -i /bin/sh -c 'echo $$; kill -STOP $$' & read -r x < /dev/zero`)
	pid := number(t, out.await(t, "\n"))
	var found [][]Suspended
	for found = SuspendedBelow([]*Process{other, p}); len(found[1]) == 0; found = SuspendedBelow([]*Process{other, p}) {
		time.Sleep(time.Millisecond)
	}
	if len(found[0]) != 0 || len(found[1]) != 1 || found[1][0].PID != pid || found[1][0].Name != "sh" {
		t.Errorf("it found %+v, want process %d of the second command", found, pid)
	}
	for _, p := range []*Process{other, p} {
		p.Stop(0)
		p.Wait()
	}
}

// A command that is handed off keeps its group.
func TestRootCgroupIsHandedOff(t *testing.T) {
	s, c := newSpawner(t), group(t)
	p, out := inGroup(t, s, c, nil, nil, escape+`env -i /bin/sh -c 'echo $$; kill -STOP $$'; read -r x < /dev/zero`)
	pid := number(t, out.await(t, "\n"))
	if Detach(p) != nil {
		t.Fatal("it could not be detached")
	}
	h, o := p.HandOff(), &reportLog{}
	h.Escapes = &EscapeRules{Kill: true, Grace: time.Hour, Report: o.report}
	next, err := s.Adopt(h, func(HandedStream) io.WriteCloser { return discardWriter{} })
	if err != nil {
		t.Fatal(err)
	}
	next.Stop(0)
	if r := next.Wait(); r.Signal != syscall.SIGKILL || o.String() != fmt.Sprintf("%d sh true", pid) {
		t.Errorf("%v, reported %q", r, o)
	}
	gone(t, pid)
}

// A process that is moved while its group is scanned is not mistaken for another.
func TestRootEachHoldsItsProcess(t *testing.T) {
	s, c := newSpawner(t), group(t)
	p, out := inGroup(t, s, c, nil, nil, "echo $$; exec sleep 3600")
	out.await(t, "\n")
	seen := 0
	p.leaf.each(func(pid, fd int) {
		if seen++; pid != p.PID() {
			t.Errorf("it holds %d", pid)
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGINT, nil, 0); err != nil {
			t.Error(err)
		}
	})
	if r := p.Wait(); seen != 1 || r.Signal != syscall.SIGINT {
		t.Errorf("%d processes seen, %v", seen, r)
	}
}

// TestRootSweepCgroups: groups that a killed program left are removed, except for a group with a
// process in it and for another program's.
func TestRootSweepCgroups(t *testing.T) {
	s, c := newSpawner(t), group(t)
	name := filepath.Base(c.path)[len(jobGroup):]
	for _, dir := range []string{"-empty/run-3/deeper", "-busy/run-1", "-another"} {
		if err := os.MkdirAll(c.path+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busy := &Cgroup{path: c.path + "-busy"}
	p, out := inGroup(t, s, busy, nil, nil, "echo up; sleep 3600")
	out.await(t, "up")
	sweep := func() {
		SweepCgroups("", func(n string) bool { return n == name+"-empty" || n == name+"-busy" })
	}
	left := func() (names []string) {
		dirs, err := filepath.Glob(c.path + "-*")
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			names = append(names, strings.TrimPrefix(dir, c.path+"-"))
		}
		return names
	}
	sweep()
	if got := left(); !slices.Equal(got, []string{"another", "busy"}) {
		t.Errorf("%v are left, want another and busy", got)
	}
	p.Stop(0)
	p.Wait()
	sweep()
	if got := left(); !slices.Equal(got, []string{"another"}) {
		t.Errorf("%v are left, want another", got)
	}
	if err := (&Cgroup{path: c.path + "-another"}).Close(); err != nil {
		t.Error(err)
	}
}
