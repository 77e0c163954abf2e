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

	"gophd/internal/job"
	"gophd/internal/world"
)

// group makes a control group for the test's job.
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

// inGroup starts a script of bash in a control group.
func inGroup(t *testing.T, s *Spawner, c *Cgroup, w *world.World, strays *Strays, script string) (*Process, *capture) {
	t.Helper()
	out := newCapture()
	p, err := s.Start(t.Context(), Command{Argv: []string{"bash", "-c", script}, Dir: "/", Env: []string{"PATH=/bin:/usr/bin"}, World: w,
		Cgroup: c, Strays: strays, Stdout: out.output(), Stderr: discard()})
	if err != nil {
		t.Fatal(err)
	}
	return p, out
}

func TestRootEachRunHasItsGroup(t *testing.T) {
	s, c := newSpawner(t), group(t)
	for name, w := range map[string]*world.World{"plain": nil, "in a world": {Umask: ptr(0o77)}} {
		p, out := inGroup(t, s, c, w, nil, `grep ^0:: /proc/self/cgroup; sed -n '/SigBlk/p' /proc/self/status`)
		want := "/job-" + filepath.Base(c.path)[4:] + "/run-" + fmt.Sprint(c.count) + "\nSigBlk:\t0000000000000000\n"
		if r := p.Wait(); !r.OK() || !strings.HasSuffix(out.String(), want) {
			t.Errorf("%s: %v, its group is %q, want …%q", name, r, out, want)
		}
		if _, err := os.Stat(p.leaf.path); err == nil {
			t.Errorf("%s: the group of the run is still there", name)
		}
	}
	if _, err := s.Start(t.Context(), Command{Argv: []string{"/no/such"}, Cgroup: c, Stdout: discard(), Stderr: discard()}); job.StartCode(err) != 127 {
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

// With a group nobody gets away: neither by another session, nor by an empty environment, nor by forking.
func TestRootStraysInAGroup(t *testing.T) {
	s, c := newSpawner(t), group(t)
	for name, tc := range map[string]struct {
		script string
		grace  time.Duration
	}{
		"TERM":           {escape + `env -i /bin/sh -c 'echo $$; kill -STOP $$'`, time.Hour},
		"KILL":           {escape + `env -i /bin/sh -c 'trap "" TERM; echo $$; while :; do /bin/sleep 0.01; done'`, 200 * time.Millisecond},
		"job control":    {`set -m; env -i /bin/sleep 3600 & echo $!`, time.Hour}, // one that is stopped bash would end itself
		"always forking": {escape + `env -i /bin/sh -c 'trap "" TERM; echo $$; f() { (f) & }; f; while :; do (:); done'`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := &told{}
			p, out := inGroup(t, s, c, nil, &Strays{Kill: true, Grace: tc.grace, Report: o.report}, tc.script)
			r := p.Wait()
			if took := time.Since(r.Ended); !r.OK() || o.String() == "" || strings.Contains(o.String(), "false") || tc.grace < time.Hour && took < tc.grace {
				t.Errorf("%v, reported %q after %v", r, o, took)
			}
			gone(t, number(t, out.String()))
			if _, err := os.Stat(p.leaf.path); err == nil {
				t.Error("the group of the run is still there")
			}
		})
	}
}

func TestRootStraysInAGroupAreSpared(t *testing.T) {
	s, c := newSpawner(t), group(t)
	o := &told{}
	p, out := inGroup(t, s, c, nil, &Strays{Report: o.report}, escape+`env -i /bin/sh -c 'echo $$; kill -STOP $$'`)
	r := p.Wait()
	pid := number(t, out.String())
	if want := fmt.Sprintf("%d sh false", pid); !r.OK() || o.String() != want || !living(pid) {
		t.Errorf("%v, reported %q, want %q and that it lives", r, o, want)
	}
	// A later run has a group of its own, and does not touch it.
	p, _ = inGroup(t, s, c, nil, &Strays{Kill: true, Report: o.report}, "true")
	if p.Wait(); strings.Contains(o.String(), ";") || !living(pid) {
		t.Errorf("a later run reported %q", o)
	}
	mercy(t, s, pid)
}

// The command that is handed over keeps its group.
func TestRootGroupIsHandedOver(t *testing.T) {
	s, c := newSpawner(t), group(t)
	p, out := inGroup(t, s, c, nil, nil, escape+`env -i /bin/sh -c 'echo $$; kill -STOP $$'; read -r x < /dev/zero`)
	pid := number(t, out.await(t, "\n"))
	if Leave(p) != nil {
		t.Fatal("it could not be left")
	}
	h, o := p.HandOver(), &told{}
	h.Strays = &Strays{Kill: true, Grace: time.Hour, Report: o.report}
	next, err := s.Adopt(h, func(HandedStream) io.WriteCloser { return nowhere{} })
	if err != nil {
		t.Fatal(err)
	}
	next.Stop(0)
	if r := next.Wait(); r.Signal != syscall.SIGKILL || o.String() != fmt.Sprintf("%d sh true", pid) {
		t.Errorf("%v, reported %q", r, o)
	}
	gone(t, pid)
}

// A process that is moved while its group is looked at is not mistaken for another.
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

// TestRootSweepCgroups: what a program has left that was killed goes, but for a group in which somebody is, and for
// another's.
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
