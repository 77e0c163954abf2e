package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Plain files replace those of the kernel: the test compares what is written with cgroups(7). That
// the kernel enforces the limits can only be tested where the controllers are in cgroup v2.
func TestLimitsAreWritten(t *testing.T) {
	parent := t.TempDir()
	for file, text := range map[string]string{
		"cgroup.controllers": "cpuset cpu io memory pids\n", "cgroup.subtree_control": "", "cgroup.procs": "",
	} {
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

func TestOpenCgroupErrors(t *testing.T) {
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
		message     string
	}{
		"no such directory": {"/no/such", "x", Limits{}, "is not gophd's to use"},
		"no control group":  {t.TempDir(), "x", Limits{}, "Delegate=yes"},
		"half of one":       {closed, "x", Limits{}, "is not gophd's to use"},
		"no controller": {poor, "x", Limits{Memory: 1, CPU: 1, Tasks: 1},
			"cannot limit cpu and pids: the control group " + poor + " has no such controller"},
		"a job without it": {old, "x", Limits{Memory: 1}, old + "/job-x is not gophd's to use"},
		"a path as a name": {poor, "../x", Limits{}, "no slash"},
		"no name":          {poor, "", Limits{}, "no slash"},
		"negative":         {poor, "x", Limits{Memory: -1}, "are not limits"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := OpenCgroup(tc.parent, tc.job, tc.limits)
			if err == nil || !strings.Contains(err.Error(), tc.message) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v, %v; want an error with %q", c, err, tc.message)
			}
			if _, err := os.Stat(filepath.Join(tc.parent, "job-"+tc.job)); err == nil {
				t.Error("the group was not removed")
			}
			if tc.parent == old || tc.job != "x" {
				return // CheckCgroup reads neither the job's own group nor its name
			}
			if err := CheckCgroup(tc.parent, tc.limits); err == nil || !strings.Contains(err.Error(), tc.message) {
				t.Errorf("CheckCgroup: %v; want an error with %q", err, tc.message)
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

// A group that this program moves itself out of must hold no other processes except known ones.
func TestCheckAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cgroup.procs"), fmt.Sprintf("%d\n7\n8\n", os.Getpid()), 0o644)
	if err := checkAlone(dir); err != nil {
		t.Errorf("the root of all: %v", err)
	}
	write(t, filepath.Join(dir, "cgroup.type"), "domain\n", 0o644)
	if err := checkAlone(dir, 8, 7); err != nil {
		t.Errorf("with those that are known: %v", err)
	}
	if err := checkAlone(dir, 7); err == nil || !strings.Contains(err.Error(), "(there are processes 8)") {
		t.Errorf("with another: %v", err)
	}
}

func TestGroupDir(t *testing.T) {
	const (
		unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
		hybrid  = "40 32 0:37 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n" +
			"41 32 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		inside = "50 32 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
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
		// Whatever the other lines contain, no group above the mount is returned.
		dir, err = groupDir("30 23 0:26 / /mnt rw - cgroup2 cgroup2 rw\n", groups)
		if err == nil && dir != "/mnt" && !strings.HasPrefix(dir, "/mnt/") {
			t.Errorf("%q: got %q", groups, dir)
		}
	})
}
