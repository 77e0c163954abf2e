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

// group makes a control group for the test's job. Where none is delegated to who runs the test, it says that
// the refusal is told, which is then all that can be tested.
func group(t *testing.T) *Cgroup {
	t.Helper()
	c, err := OpenCgroup("", fmt.Sprint("test-", os.Getpid()), Limits{})
	if err != nil {
		if !strings.Contains(err.Error(), "Delegate=yes") && !strings.Contains(err.Error(), "mount cgroup v2") {
			t.Fatal(err)
		}
		return nil
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

func TestEachRunHasItsGroup(t *testing.T) {
	s, c := newSpawner(t), group(t)
	if c == nil {
		return
	}
	for name, w := range map[string]*world.World{"plain": nil, "in a world": {Umask: ptr(0o77)}} {
		p, out := inGroup(t, s, c, w, nil, `grep ^0:: /proc/self/cgroup; sed -n '/SigBlk/p' /proc/self/status`)
		want := "/job-" + filepath.Base(c.path)[4:] + "/run-" + fmt.Sprint(c.count) + "\nSigBlk:\t0000000000000000\n"
		if r := wait(t, p); !r.OK() || !strings.HasSuffix(out.String(), want) {
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
func TestStraysInAGroup(t *testing.T) {
	s, c := newSpawner(t), group(t)
	if c == nil {
		return
	}
	for name, tc := range map[string]struct {
		script string
		grace  time.Duration
	}{
		"TERM":           {escape + `env -i /bin/sh -c 'echo $$; kill -STOP $$'`, time.Minute},
		"KILL":           {escape + `env -i /bin/sh -c 'trap "" TERM; echo $$; while :; do /bin/sleep 0.01; done'`, 200 * time.Millisecond},
		"job control":    {`set -m; env -i /bin/sleep 60 & echo $!`, time.Minute}, // one that is stopped bash would end itself
		"always forking": {escape + `env -i /bin/sh -c 'trap "" TERM; echo $$; f() { (f) & }; f; while :; do (:); done'`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := &told{}
			p, out := inGroup(t, s, c, nil, &Strays{Kill: true, Grace: tc.grace, Report: o.report}, tc.script)
			r := wait(t, p)
			if took := time.Since(r.Ended); !r.OK() || o.String() == "" || strings.Contains(o.String(), "false") || took < min(tc.grace, time.Second) && tc.grace < time.Second || took > 10*time.Second {
				t.Errorf("%v, reported %q after %v", r, o, took)
			}
			gone(t, number(t, out.String()))
			if _, err := os.Stat(p.leaf.path); err == nil {
				t.Error("the group of the run is still there")
			}
		})
	}
}

func TestStraysInAGroupAreSpared(t *testing.T) {
	s, c := newSpawner(t), group(t)
	if c == nil {
		return
	}
	o := &told{}
	p, out := inGroup(t, s, c, nil, &Strays{Report: o.report}, escape+`env -i /bin/sh -c 'echo $$; kill -STOP $$'`)
	r := wait(t, p)
	pid := number(t, out.String())
	if want := fmt.Sprintf("%d sh false", pid); !r.OK() || o.String() != want || !living(pid) {
		t.Errorf("%v, reported %q, want %q and that it lives", r, o, want)
	}
	// A later run has a group of its own, and does not touch it.
	p, _ = inGroup(t, s, c, nil, &Strays{Kill: true, Report: o.report}, "true")
	if wait(t, p); strings.Contains(o.String(), ";") || !living(pid) {
		t.Errorf("a later run reported %q", o)
	}
	mercy(t, s, pid)
}

// The command that is handed over keeps its group.
func TestGroupIsHandedOver(t *testing.T) {
	s, c := newSpawner(t), group(t)
	if c == nil {
		return
	}
	p, out := inGroup(t, s, c, nil, nil, escape+`env -i /bin/sh -c 'echo $$; kill -STOP $$'; read -r x < /dev/zero`)
	pid := number(t, out.await(t, "\n"))
	if !Leave(p) {
		t.Fatal("it could not be left")
	}
	h, o := p.HandOver(), &told{}
	h.Strays = &Strays{Kill: true, Grace: time.Minute, Report: o.report}
	next, err := s.Adopt(h, func(HandedStream) io.WriteCloser { return nowhere{} })
	if err != nil {
		t.Fatal(err)
	}
	next.Stop(0)
	if r := wait(t, next); r.Signal != syscall.SIGKILL || o.String() != fmt.Sprintf("%d sh true", pid) {
		t.Errorf("%v, reported %q", r, o)
	}
	gone(t, pid)
}

// The kernel's files are stood for by plain ones: what is written is what cgroups(7) wants. That the kernel
// then keeps the limits can only be seen where the controllers are in cgroup v2.
func TestLimitsAreWritten(t *testing.T) {
	parent := t.TempDir()
	for file, text := range map[string]string{"cgroup.controllers": "cpuset cpu io memory pids\n", "cgroup.subtree_control": "", "cgroup.procs": ""} {
		write(t, filepath.Join(parent, file), text, 0o644)
	}
	for name, tc := range map[string]struct {
		limits Limits
		want   string // in memory.max, cpu.max and pids.max
		on     string
	}{
		"all":  {Limits{Memory: 64 << 20, CPU: 150, Tasks: 10}, "67108864|150000 100000|10", "+memory +cpu +pids"},
		"one":  {Limits{CPU: 1}, "|1000 100000|", "+cpu"},
		"none": {Limits{}, "||", ""},
	} {
		t.Run(name, func(t *testing.T) {
			job := filepath.Join(parent, "job-"+name)
			run := leafAt(filepath.Join(job, "run-0"))
			if err := os.MkdirAll(run.path, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(job, "cgroup.controllers"), "cpu memory pids", 0o644)
			for _, dir := range []string{parent, job} {
				write(t, filepath.Join(dir, "cgroup.subtree_control"), "", 0o644)
			}
			files := []string{"memory.max", "cpu.max", "pids.max"}
			for _, f := range files {
				write(t, filepath.Join(run.path, f), "", 0o644)
			}
			c, err := OpenCgroup(parent, name, tc.limits)
			if err != nil {
				t.Fatal(err)
			}
			if err := run.limit(c.limits); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range files {
				b, _ := os.ReadFile(filepath.Join(run.path, f))
				got = append(got, string(b))
			}
			if strings.Join(got, "|") != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			for _, dir := range []string{parent, job} {
				if on, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); string(on) != tc.on {
					t.Errorf("%s: switched on %q, want %q", dir, on, tc.on)
				}
			}
			if _, err := c.leaf(); (err == nil) != (tc.on == "") {
				t.Errorf("a group of a run without files of limits: %v", err)
			}
		})
	}
}

func TestGroupsThatCannotBe(t *testing.T) {
	poor, closed, old := t.TempDir(), t.TempDir(), t.TempDir()
	for file, text := range map[string]string{"cgroup.controllers": "hugetlb memory", "cgroup.subtree_control": ""} {
		write(t, filepath.Join(poor, file), text, 0o644)
		write(t, filepath.Join(old, file), "memory", 0o644)
		write(t, filepath.Join(closed, file), "memory", 0o644)
	}
	if err := os.Remove(filepath.Join(closed, "cgroup.subtree_control")); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		parent, job string
		limits      Limits
		says        string
	}{
		"no such folder":    {"/no/such", "x", Limits{}, "is not gophd's to use"},
		"no control group":  {t.TempDir(), "x", Limits{}, "Delegate=yes"},
		"half of one":       {closed, "x", Limits{}, "is not gophd's to use"},
		"no controller":     {poor, "x", Limits{Memory: 1, CPU: 1, Tasks: 1}, "cannot limit cpu and pids: the control group " + poor + " has no such controller"},
		"a job without it":  {old, "x", Limits{Memory: 1}, old + "/job-x is not gophd's to use"},
		"a path as a name":  {poor, "../x", Limits{}, "no slash"},
		"no name":           {poor, "", Limits{}, "no slash"},
		"less than nothing": {poor, "x", Limits{Memory: -1}, "are no limits"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := OpenCgroup(tc.parent, tc.job, tc.limits)
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v, %v; want an error that says %q", c, err, tc.says)
			}
			if _, err := os.Stat(filepath.Join(tc.parent, "job-"+tc.job)); err == nil {
				t.Error("the group was left behind")
			}
			if tc.parent == old || tc.job != "x" {
				return // what only the job's own group can show, or its name
			}
			if err := CheckCgroup(tc.parent, tc.limits); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("CheckCgroup: %v; want an error that says %q", err, tc.says)
			}
		})
	}
	if err := CheckCgroup(old, Limits{Memory: 1}); err != nil {
		t.Error(err)
	}
	if on, err := os.ReadFile(filepath.Join(poor, "cgroup.subtree_control")); err != nil || len(on) > 0 {
		t.Errorf("a group was changed: %q, %v", on, err)
	}
}

// A group whose processes are to move down must hold no others, but those that will not be there.
func TestAloneInItsGroup(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cgroup.procs"), fmt.Sprintf("%d\n7\n8\n", os.Getpid()), 0o644)
	if err := alone(dir); err != nil {
		t.Errorf("the root of all: %v", err)
	}
	write(t, filepath.Join(dir, "cgroup.type"), "domain\n", 0o644)
	if err := alone(dir, 8, 7); err != nil {
		t.Errorf("with those that are known: %v", err)
	}
	if err := alone(dir, 7); err == nil || !strings.Contains(err.Error(), "(there are processes 8)") {
		t.Errorf("with another: %v", err)
	}
}

func TestGroupDir(t *testing.T) {
	const (
		unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
		hybrid  = "40 32 0:37 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n41 32 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		inside  = "50 32 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
	)
	for name, tc := range map[string]struct{ mounts, groups, want string }{
		"systemd":             {unified, "0::/system.slice/gophd.service\n", "/sys/fs/cgroup/system.slice/gophd.service"},
		"the root":            {unified, "0::/\n", "/sys/fs/cgroup"},
		"hybrid":              {hybrid, "9:pids:/x\n0::/a/b\n", "/sys/fs/cgroup/unified/a/b"},
		"container":           {inside, "0::/docker/1/x\n", "/sys/fs/cgroup/x"},
		"another's container": {inside, "0::/docker/11\n", ""},
		"outside of all":      {unified, "0::/../x\n", ""},
		"version 1":           {"40 32 0:37 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", "9:pids:/x\n", ""},
		"nothing":             {"", "", ""},
		"garbage":             {"- cgroup2\n \n", "0::\n0", ""},
	} {
		if got, err := groupDir(tc.mounts, tc.groups); got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

func FuzzGroupDir(f *testing.F) {
	f.Add("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n", "0::/a\n")
	f.Add("1 2 3 /x /m - - cgroup2\n", "0::/x/../y\n")
	f.Fuzz(func(t *testing.T, mounts, groups string) {
		dir, err := groupDir(mounts, groups)
		if err == nil && !strings.Contains(mounts, "cgroup2") {
			t.Errorf("%q, %q: got %q", mounts, groups, dir)
		}
		// Whatever the rest says, a group is not looked for above the mount.
		dir, err = groupDir("30 23 0:26 / /mnt rw - cgroup2 cgroup2 rw\n", groups)
		if err == nil && dir != "/mnt" && !strings.HasPrefix(dir, "/mnt/") {
			t.Errorf("%q: got %q", groups, dir)
		}
	})
}

// A process that is moved while its group is looked at is not mistaken for another.
func TestEachHoldsItsProcess(t *testing.T) {
	s, c := newSpawner(t), group(t)
	if c == nil {
		return
	}
	p, out := inGroup(t, s, c, nil, nil, "echo $$; exec sleep 60")
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
	if r := wait(t, p); seen != 1 || r.Signal != syscall.SIGINT {
		t.Errorf("%d processes seen, %v", seen, r)
	}
}

// TestSweepCgroups: what a program has left that was killed goes, but for a group in which somebody is, and for
// another's.
func TestSweepCgroups(t *testing.T) {
	s, c := newSpawner(t), group(t)
	if c == nil {
		return
	}
	name := filepath.Base(c.path)[len(jobGroup):]
	for _, dir := range []string{"-empty/run-3/deeper", "-busy/run-1", "-another"} {
		if err := os.MkdirAll(c.path+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busy := &Cgroup{path: c.path + "-busy"}
	p, out := inGroup(t, s, busy, nil, nil, "echo up; sleep 60")
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
	wait(t, p)
	sweep()
	if got := left(); !slices.Equal(got, []string{"another"}) {
		t.Errorf("%v are left, want another", got)
	}
	if err := (&Cgroup{path: c.path + "-another"}).Close(); err != nil {
		t.Error(err)
	}
}
