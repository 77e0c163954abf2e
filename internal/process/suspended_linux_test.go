package process

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gophd/internal/procfs"
)

// Each signal of job control suspends the command, and SuspendedBy names it until it continues.
func TestSuspendedByNamesTheSignal(t *testing.T) {
	s := newSpawner(t)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
		p, _, _ := startCommand(t, s, []string{"sleep", "3600"})
		if by, ok := p.SuspendedBy(); by != 0 || !ok {
			t.Errorf("before signal %v: %v, %v", sig, by, ok)
		}
		p.signal(sig)
		awaitSuspension(t, p, sig)
		awaitSuspension(t, p, sig) // a look changes nothing
		p.signal(syscall.SIGCONT)
		awaitSuspension(t, p, 0)
		p.signal(sig)
		awaitSuspension(t, p, sig)
		p.Stop(0)
		p.Wait()
		if by, ok := p.SuspendedBy(); by != 0 || ok {
			t.Errorf("after the exit: %v, %v", by, ok)
		}
	}
}

// awaitSuspension waits until SuspendedBy returns the signal.
func awaitSuspension(t *testing.T, p *Process, want syscall.Signal) {
	t.Helper()
	for {
		by, ok := p.SuspendedBy()
		if !ok {
			t.Fatal("the command is not active")
		}
		if by == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// startSleep starts a script that prints the PID of a sleep(1). It returns when that is executed. All
// that is left of the run is killed with it.
func startSleep(t *testing.T, s *Spawner, script string) (p *Process, pid int) {
	t.Helper()
	const mark = "GOPHD_RUN_ID=suspended-below"
	out := newCapture()
	p, err := s.Start(t.Context(), Command{Argv: sh(script), Dir: "/", Env: append(os.Environ(), mark),
		Stdout: out.output(), Stderr: discard(), Escapes: &EscapeRules{Mark: mark, Kill: true}})
	if err != nil {
		t.Fatal(err)
	}
	for pid == 0 {
		<-out.wrote
		_, _ = fmt.Sscan(out.String(), &pid)
	}
	for st, _ := procfs.ReadStat(pid); st.Name != "sleep"; st, _ = procfs.ReadStat(pid) {
		time.Sleep(time.Millisecond)
	}
	return p, pid
}

// A process of a run that is suspended while the command waits is found: a member of the group, one
// in a group or session of its own, and an orphan of each kind.
func TestSuspendedBelowFindsEachProcessOfARun(t *testing.T) {
	s := newSpawner(t)
	other, _, _ := startCommand(t, s, sh("sleep 3600 & wait"))
	for name, script := range map[string]string{
		"a member of the group":             "sleep 3600 & echo $!; wait",
		"a group of its own":                "timeout 3600 sh -c 'echo $$; exec sleep 3600' & wait",
		"a child in a group of its own":     "timeout 3600 sh -c 'sleep 3600 & echo $!; wait' & wait",
		"a session of its own":              "setsid -w sh -c 'echo $$; exec sleep 3600' & wait",
		"an orphan":                         "(sleep 3600 & echo $!); sleep 3600",
		"an orphan in a session of its own": "(setsid sh -c 'echo $$; exec sleep 3600' &); sleep 3600",
	} {
		t.Run(name, func(t *testing.T) {
			p, pid := startSleep(t, s, script)
			look := func() []Suspended {
				all := SuspendedBelow([]*Process{other, p})
				if len(all) != 2 || len(all[0]) != 0 {
					t.Fatalf("another run has suspended processes: %+v", all)
				}
				return all[1]
			}
			if found := look(); len(found) != 0 {
				t.Errorf("before a signal it found %+v", found)
			}
			group, err := syscall.Getpgid(pid)
			if err != nil || (group == p.PID()) == strings.Contains(name, "of its own") {
				t.Errorf("the group is %d, that of the command is %d, %v", group, p.PID(), err)
			}
			signals := []syscall.Signal{syscall.SIGSTOP, syscall.SIGTTIN}
			if strings.Contains(name, "session") { // the kernel ignores TTIN there
				signals = signals[:1]
			}
			for _, sig := range signals {
				_ = syscall.Kill(pid, sig)
				found := look()
				for ; len(found) == 0; found = look() {
					time.Sleep(time.Millisecond)
				}
				want := Suspended{PID: pid, Name: "sleep", Group: group, Signal: sig, Switches: found[0].Switches}
				if len(found) != 1 || found[0] != want {
					t.Errorf("it found %+v, want only %+v", found, want)
				}
				again := look()
				for ; len(again) == 0; again = look() { // the list of a parent may lack one while another exits: proc(5)
					time.Sleep(time.Millisecond)
				}
				if !slices.Equal(again, found) {
					t.Errorf("a process that stays suspended differs: %+v, then %+v", found, again)
				}
				_ = syscall.Kill(pid, syscall.SIGCONT)
				for len(look()) > 0 {
					time.Sleep(time.Millisecond)
				}
				_ = syscall.Kill(pid, sig)
				again = look()
				for ; len(again) == 0; again = look() {
					time.Sleep(time.Millisecond)
				}
				if again[0] == found[0] {
					t.Errorf("it has run between %+v and %+v", found[0], again[0])
				}
				_ = syscall.Kill(pid, syscall.SIGCONT)
				for len(look()) > 0 {
					time.Sleep(time.Millisecond)
				}
			}
			p.Stop(0)
			p.Wait()
			if found := SuspendedBelow([]*Process{p}); len(found) != 1 || len(found[0]) != 0 {
				t.Errorf("after the end it found %+v", found)
			}
		})
	}
	other.Stop(0)
	other.Wait()
}

// Of a group that is suspended as a whole, the process that asked comes first: the last descendant.
func TestSuspendedBelowNamesDescendantsFirst(t *testing.T) {
	s := newSpawner(t)
	p, child := startSleep(t, s, "timeout 3600 sh -c 'sleep 3600 & echo $!; wait' & wait")
	if group, err := syscall.Getpgid(child); err != nil || group == p.PID() || syscall.Kill(-group, syscall.SIGTTIN) != nil {
		t.Fatalf("the group of process %d is %d, %v", child, group, err)
	}
	var names []string
	for len(names) < 2 {
		time.Sleep(time.Millisecond)
		names = nil
		for _, found := range SuspendedBelow([]*Process{p})[0] {
			names = append(names, found.Name)
		}
	}
	if got := strings.Join(names, " "); got != "sleep sh" {
		t.Errorf("it found %q, want the child of the shell first", got)
	}
	p.Stop(0)
	p.Wait()
}
