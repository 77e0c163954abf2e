//go:build root && linux

package signals

import (
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// asInit makes a command process 1 of a new PID namespace.
func asInit() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
}

// WINCH, which a terminal sends whenever its window changes, is no stop.
func TestRootProcessOneStopsOnTheSignalsOfContainerRuntimes(t *testing.T) {
	for sig, want := range map[syscall.Signal]string{
		unix.SIGQUIT: "QUIT", unix.SIGPWR: "PWR", 37: "RTMIN+3", unix.SIGTERM: "TERM",
	} {
		c := command(t, "requests")
		c.SysProcAttr = asInit()
		lines := startReading(t, c)
		if !lines.Scan() || lines.Text() != "listening" {
			t.Fatalf("it printed %q", lines.Text())
		}
		for _, s := range []syscall.Signal{unix.SIGWINCH, unix.SIGUSR1} {
			if err := unix.Kill(c.Process.Pid, s); err != nil {
				t.Fatal(err)
			}
		}
		if !lines.Scan() || lines.Text() != "dump (signal USR1)" {
			t.Errorf("WINCH and USR1 are %q", lines.Text())
		}
		if err := unix.Kill(c.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
		var got []string
		for lines.Scan() {
			got = append(got, lines.Text())
		}
		if d := cmp.Diff([]string{"stop (signal " + want + ")"}, got); d != "" {
			t.Errorf("%v: requests (-want +got):\n%s", sig, d)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
}

// If INT was ignored at the start, QUIT is no request either.
func TestRootIgnoredQuitStaysIgnoredAsProcessOne(t *testing.T) {
	c := command(t, "requests")
	ignoring(c, "INT QUIT")
	c.SysProcAttr = asInit()
	lines := startReading(t, c)
	if !lines.Scan() || lines.Text() != "listening" {
		t.Fatalf("it printed %q", lines.Text())
	}
	for _, s := range []syscall.Signal{unix.SIGQUIT, unix.SIGTERM} {
		if err := unix.Kill(c.Process.Pid, s); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	if d := cmp.Diff([]string{"stop (signal TERM)"}, got); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

func TestRootControlSignalsOfProcessOneMatchBothTables(t *testing.T) {
	c := command(t, "control")
	c.SysProcAttr = asInit()
	if out, err := c.Output(); err != nil || len(out) > 0 {
		t.Errorf("%v; package self has other signals (-self +tables):\n%s", err, out)
	}
}
