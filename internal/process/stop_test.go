package process

import (
	"bufio"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
)

// The tests of this file run in virtual time: it passes only while the test sleeps or waits for an end,
// and stands still while it reads what the command says. So a signal has its moment to the nanosecond, and the
// command any time to act on it.

const pace = 500 * time.Millisecond

// obstinate prints which signals it gets, and ends by none of them.
const obstinate = `for s in TERM INT QUIT; do trap "echo $s" $s; done; echo ready; while :; do sleep 0.01; done`

// listener reads what a command prints.
type listener struct {
	*bufio.Reader
	t *testing.T
}

// want fails unless the next lines are these. An empty one is the end.
func (w listener) want(lines ...string) {
	w.t.Helper()
	for _, want := range lines {
		if line, _ := w.ReadString('\n'); strings.TrimSpace(line) != want {
			w.t.Fatalf("it said %q, want %q", line, want)
		}
	}
}

// converse starts a script and awaits its word "ready".
func converse(t *testing.T, script string) (*Process, listener) {
	t.Helper()
	s := newSpawner(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	p, err := s.Start(t.Context(), Command{Argv: sh(script), Dir: "/", Env: os.Environ(), Stdout: Output{File: w}, Stderr: Output{File: s.null}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // of a test that gave up
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.now < ended {
			p.signal(syscall.SIGKILL)
		}
	})
	said := listener{bufio.NewReader(r), t}
	said.want("ready")
	return p, said
}

// pass lets d pass, and what is due then be done. Until then nothing happens to the process.
func pass(t *testing.T, p *Process, d time.Duration) {
	t.Helper()
	look := func() (state, int) {
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now, p.stop.Sent
	}
	before, asked := look()
	time.Sleep(d - time.Nanosecond)
	if now, n := look(); now != before || n != asked {
		t.Fatalf("1ns before %v it is in state %d after signal %d, was in state %d after signal %d", d, now, n, before, asked)
	}
	time.Sleep(time.Nanosecond)
	if now, n := look(); now == before && n == asked {
		t.Fatalf("after %v it is still in state %d, and signal %d was the last", d, now, n)
	}
}

func TestSignalsInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, said := converse(t, obstinate)
		p.Stop(pace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		for _, signal := range []string{"TERM", "INT", "QUIT"} {
			said.want(signal)
			pass(t, p, pace)
		}
		if r := p.Wait(); r.String() != "signal KILL" {
			t.Errorf("%v, want KILL after three graces", r)
		}
		said.want("")
	})
}

func TestSignalsEndWithTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, said := converse(t, `trap "echo TERM" TERM; trap "echo INT; exit 3" INT; echo ready; while :; do sleep 0.01; done`)
		p.Stop(pace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		said.want("TERM")
		pass(t, p, pace)
		said.want("INT", "")
		if r := p.Wait(); r.String() != "exit 3" {
			t.Error(r)
		}
		if p.after == nil || p.after.Stop() || p.fatal.Stop() {
			t.Error("a timer outlives the run")
		}
	})
}

// A frozen command gets each of the signals, since CONT follows it.
func TestFrozenAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, said := converse(t, `trap 'echo TERM; kill -STOP $$' TERM; trap 'echo INT; kill -STOP $$' INT
			echo ready; kill -STOP $$; while :; do sleep 0.01; done`)
		awaitStopped(t, p)
		p.Stop(pace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		for _, signal := range []string{"TERM", "INT"} {
			said.want(signal)
			awaitStopped(t, p)
			pass(t, p, pace)
		}
		if r := p.Wait(); r.Signal != syscall.SIGQUIT {
			t.Error(r)
		}
		said.want("")
	})
}

// After the exit of the leader, the rest of its group has the whole grace, and not the courtesy.
func TestLeaderExitsBeforeGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, said := converse(t, `sh -c 'trap "" TERM; echo ready; echo $$; while :; do sleep 0.01; done' & wait`)
		line, _ := said.ReadString('\n')
		p.Stop(pace)
		ended := goWait(p)
		pass(t, p, pace)
		if r := <-ended; r.String() != "signal TERM" {
			t.Error(r)
		}
		gone(t, number(t, line))
	})
}

// handOn hands p over as one process does to the next.
func handOn(t *testing.T, p *Process) (*Process, Handed) {
	t.Helper()
	if Leave(p) != nil {
		t.Fatal("it was not left")
	}
	h := p.HandOver()
	next, err := p.spawner.Adopt(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	return next, h
}

// The process that takes over goes on with the signals where the old one was, each at its own moment.
func TestStopIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, said := converse(t, obstinate)
		asked := time.Now()
		p.Stop(pace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		said.want("TERM")
		time.Sleep(pace / 2)
		p, _ = handOn(t, p)
		pass(t, p, pace/2)
		said.want("INT")
		for range 4 {
			p, _ = handOn(t, p)
			time.Sleep(pace / 5)
		}
		pass(t, p, pace/5)
		said.want("QUIT")
		p, _ = handOn(t, p)
		pass(t, p, pace)
		if r := p.Wait(); r.String() != "signal KILL" || !p.StopPlan().Asked.Equal(asked) {
			t.Errorf("%v, asked at %v, want KILL after three graces from %v", r, p.StopPlan().Asked, asked)
		}
		said.want("")
	})
}

// What is asked between Leave and HandOver is asked too late: nothing is sent, and nothing is said to be.
func TestStopAfterLeaveIsTheNextProcesss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, said := converse(t, obstinate)
		if Leave(p) != nil {
			t.Fatal("it was not left")
		}
		p.Stop(pace)
		p.Stop(0)
		h := p.HandOver()
		if h.Stop != nil {
			t.Errorf("handed over: %+v", h.Stop)
		}
		next, err := p.spawner.Adopt(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		next.Stop(pace)
		said.want("TERM")
		pass(t, next, pace)
		if r := next.Wait(); r.Signal != syscall.SIGKILL {
			t.Error(r)
		}
		said.want("")
	})
}

// A KILL that was due is sent, however late that is, and one that is brought forward comes sooner.
func TestKillIsHandedOver(t *testing.T) {
	for name, first := range map[string]time.Duration{"killing": 0, "stopping": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := converse(t, `trap "" TERM; echo ready; while :; do sleep 0.01; done`)
				p.Stop(first)
				p, _ = handOn(t, p)
				if p.Stop(pace); first > 0 {
					pass(t, p, pace)
				}
				if r := p.Wait(); r.Signal != syscall.SIGKILL {
					t.Error(r)
				}
			})
		})
	}
}

// A group whose leader has ended keeps its grace, and the leader its end.
func TestGroupWithoutItsLeaderIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, said := converse(t, `sh -c 'trap "" TERM; echo ready; echo $$; while :; do sleep 0.01; done' & wait`)
		line, _ := said.ReadString('\n')
		p.Stop(pace)
		given := goWait(p)
		over := time.Now()
		time.Sleep(pace / 2)
		p, h := handOn(t, p)
		if r := <-given; r.PID != 0 {
			t.Errorf("the Wait of what was given away said %+v", r)
		}
		ended := goWait(p)
		time.Sleep(time.Until(over.Add(pace)) - time.Nanosecond)
		synctest.Wait()
		p.mu.Lock()
		now := p.now
		p.mu.Unlock()
		if now != leaving {
			t.Errorf("state %d before the grace is over", now)
		}
		if r := <-ended; r.String() != "signal TERM" || !r.Ended.Equal(h.Ended) || r.Ended.After(over) {
			t.Errorf("%v at %v, want the end of the leader at %v", r, r.Ended, h.Ended)
		}
		gone(t, number(t, line))
	})
}

// goWait calls Wait, and returns when it has seen the end of the leader. It has to be on its way.
func goWait(p *Process) <-chan job.Result {
	ended := make(chan job.Result, 1)
	go func() { ended <- p.Wait() }()
	synctest.Wait()
	return ended
}

// What is left of a group whose leader has ended gets the signals that are still to come.
func TestSignalsReachTheRestOfTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, said := converse(t, `sh -c 'trap "" TERM; trap "echo USR1; exit" USR1; echo ready; while :; do sleep 0.01; done' & wait`)
		p.Stop(pace, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
		ended := goWait(p)
		pass(t, p, pace)
		said.want("USR1", "")
		if r := <-ended; r.Signal != syscall.SIGTERM {
			t.Error(r)
		}
	})
}

func TestAskedAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		grace time.Duration
		again func(*Process)
		then  func(*testing.T, *Process, listener)
	}{
		"sooner": {time.Minute, func(p *Process) { p.Stop(20*time.Millisecond, syscall.SIGINT) },
			func(t *testing.T, p *Process, _ listener) { pass(t, p, 20*time.Millisecond) }},
		"now": {time.Minute, func(p *Process) { p.Stop(0) }, func(*testing.T, *Process, listener) {}},
		"later, other signals": {pace, func(p *Process) { p.Stop(time.Hour, syscall.SIGQUIT) },
			func(t *testing.T, p *Process, said listener) {
				pass(t, p, pace)
				said.want("INT")
				pass(t, p, pace)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, said := converse(t, obstinate)
				p.Stop(tc.grace, syscall.SIGTERM, syscall.SIGINT)
				said.want("TERM")
				tc.again(p)
				tc.then(t, p, said)
				if r := p.Wait(); r.String() != "signal KILL" {
					t.Error(r)
				}
				said.want("")
			})
		})
	}
}
