package procfs

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
)

func TestReadStat(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	s, err := ReadStat(os.Getpid())
	if err != nil || s.PID != os.Getpid() || s.Parent != os.Getppid() || s.Start == 0 || s.Memory == 0 ||
		s.EnvEnd <= s.EnvBegin || s.Ended() {
		t.Errorf("%+v, %v", s, err)
	}
	found := 0
	Processes(func(p Stat) {
		if p.PID == s.PID && p.Start == s.Start {
			found++
		}
	})
	if found != 1 {
		t.Errorf("this process was seen %d times", found)
	}
	if threads := Threads(); len(threads) < 2 || threads[0].Group != s.Group {
		t.Errorf("threads: %+v", threads)
	}
	if _, err := ReadStat(1 << 23); !os.IsNotExist(err) {
		t.Errorf("a PID above the maximum: %v", err)
	}
}

// A child is listed by its parent, with the signal that has stopped it and a number that grows only
// while it runs.
func TestChildrenAndWhatStopsThem(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	cmd := exec.Command("sleep", "3600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	for name, children := range map[string]func(int) []int{"Children": Children(), "a scan": scannedChildren()} {
		if !slices.Contains(children(os.Getpid()), pid) || len(children(pid)) != 0 {
			t.Errorf("%s does not list process %d, or its children", name, pid)
		}
	}
	stopped := func() (s Stat) {
		for s.State != 'T' {
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			s, _ = ReadStat(pid)
		}
		return s
	}
	if s := stopped(); s.StopSignal != uint64(syscall.SIGSTOP) {
		t.Errorf("it was stopped by signal %d", s.StopSignal)
	}
	first := Switches(pid)
	if first == 0 || Switches(pid) != first {
		t.Errorf("while it is stopped it was switched %d times, then %d", first, Switches(pid))
	}
	for Switches(pid) == first {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		stopped()
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if s, err := ReadStat(os.Getpid()); err != nil || s.StopSignal != 0 {
		t.Errorf("this process was stopped by signal %d, %v", s.StopSignal, err)
	}
	if n := Switches(1 << 23); n != 0 {
		t.Errorf("a PID above the maximum was switched %d times", n)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add(7, "sh", byte('S'), 1, 7, 7, uint64(4711), uint64(1<<63))
	f.Add(4194304, "a) Z 1 (b", byte('Z'), 0, -1, 0, uint64(0), uint64(0))
	f.Add(1, "", byte('X'), 0, 0, 0, uint64(1), uint64(2))
	f.Add(2, ") R 1 1 1\n", byte('R'), 2, 3, 4, uint64(3), uint64(4))
	f.Fuzz(func(t *testing.T, pid int, name string, state byte, parent, group, session int, start, memory uint64) {
		if state <= ' ' || state >= 0x7f || state == ')' {
			return
		}
		// The fields after the name are read as the kernel wrote them, whatever the name contains.
		line := fmt.Sprintf("%d (%s) %c %d %d %d 0 -1 4194560 106 0 0 0 0 0 0 0 20 0 1 0 %d %d\n",
			pid, name, state, parent, group, session, start, memory)
		want := Stat{
			PID: pid, Name: name, State: state, Parent: parent, Group: group, Session: session,
			Start: start, Memory: memory,
		}
		if got, err := ParseStat([]byte(line)); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", line, got, err)
		}
		// A line that is cut short is rejected, or read as far as it goes.
		for i := range line {
			if got, err := ParseStat([]byte(line[:i])); err == nil && got.PID != pid {
				t.Errorf("%q: got %+v", line[:i], got)
			}
		}
	})
}
