package process

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pace is a grace in which a shell is heard, on a busy machine too.
const pace = 500 * time.Millisecond

// obstinate says which signals it gets, and ends by none of them.
const obstinate = `for s in TERM INT QUIT; do trap "echo $s" $s; done; echo ready; while :; do sleep 0.01; done`

func TestSignalsInTheirOrder(t *testing.T) {
	s := newSpawner(t)
	p, out, _ := begin(t, s, sh(obstinate))
	out.await(t, "ready")
	began := time.Now()
	p.Stop(pace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	r := wait(t, p)
	if took := time.Since(began); r.String() != "signal KILL" || took < 3*pace || took > 10*pace {
		t.Errorf("%v after %v, want KILL after three graces", r, took)
	}
	if got, want := strings.Fields(out.String()), []string{"ready", "TERM", "INT", "QUIT"}; !slices.Equal(got, want) {
		t.Errorf("it heard %q, want %q", got, want)
	}
}

func TestSignalsEndWithTheCommand(t *testing.T) {
	s := newSpawner(t)
	p, out, _ := begin(t, s, sh(`trap "echo TERM" TERM; trap "echo INT; exit 3" INT; echo ready; while :; do sleep 0.01; done`))
	out.await(t, "ready")
	p.Stop(pace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	if r := wait(t, p); r.String() != "exit 3" || out.String() != "ready\nTERM\nINT\n" {
		t.Errorf("%v, %q", r, out)
	}
	if p.after == nil || p.after.Stop() || p.fatal.Stop() {
		t.Error("a timer outlives the run")
	}
}

// A frozen command hears each of the signals, since CONT follows it.
func TestFrozenAgainAndAgain(t *testing.T) {
	p, out, _ := begin(t, newSpawner(t), sh(`trap 'echo TERM; kill -STOP $$' TERM; trap 'echo INT; kill -STOP $$' INT
		echo ready; kill -STOP $$; while :; do sleep 0.01; done`))
	out.await(t, "ready")
	p.Stop(pace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	if r := wait(t, p); r.Signal != syscall.SIGQUIT || out.String() != "ready\nTERM\nINT\n" {
		t.Errorf("%v, %q", r, out)
	}
}

// What is left of a group whose leader has ended gets the signals that are still to come.
func TestSignalsReachTheRestOfTheGroup(t *testing.T) {
	p, out, _ := begin(t, newSpawner(t), sh(`sh -c 'trap "" TERM; trap "echo USR1; exit" USR1; echo ready; while :; do sleep 0.01; done' & wait`))
	out.await(t, "ready")
	began := time.Now()
	p.Stop(2*pace, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	r := wait(t, p)
	if took := time.Since(began); r.Signal != syscall.SIGTERM || out.String() != "ready\nUSR1\n" || took > 5*time.Second {
		t.Errorf("%v after %v, %q", r, took, out)
	}
}

func TestAskedAgain(t *testing.T) {
	s := newSpawner(t)
	for name, tc := range map[string]struct {
		grace time.Duration
		again func(*Process)
		heard string
	}{
		"sooner":             {time.Minute, func(p *Process) { p.Stop(20*time.Millisecond, syscall.SIGINT) }, "ready\nTERM\n"},
		"now":                {time.Minute, func(p *Process) { p.Stop(0) }, "ready\nTERM\n"},
		"later, other words": {pace, func(p *Process) { p.Stop(time.Hour, syscall.SIGQUIT) }, "ready\nTERM\nINT\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p, out, _ := begin(t, s, sh(obstinate))
			out.await(t, "ready")
			p.Stop(tc.grace, syscall.SIGTERM, syscall.SIGINT)
			out.await(t, "TERM")
			tc.again(p)
			if r := wait(t, p); r.String() != "signal KILL" || out.String() != tc.heard {
				t.Errorf("%v, %q; want %q", r, out, tc.heard)
			}
		})
	}
}
