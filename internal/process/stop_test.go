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

// The tests of this file run in virtual time. Time passes only while a test sleeps or waits for an
// exit, and not while it reads what the command prints. So the moment of a signal is exact to the
// nanosecond, and the command has any time to act on it.

const stopGrace = 500 * time.Millisecond

// printsSignals prints the signals that it gets, and does not exit on any of them.
const printsSignals = `for s in TERM INT QUIT; do trap "echo $s" $s; done; echo ready; while :; do sleep 0.01; done`

// lineReader reads what a command prints.
type lineReader struct {
	*bufio.Reader
	t *testing.T
}

// want fails the test unless the next lines are these. An empty line stands for the end of the
// output.
func (w lineReader) want(lines ...string) {
	w.t.Helper()
	for _, want := range lines {
		if line, _ := w.ReadString('\n'); strings.TrimSpace(line) != want {
			w.t.Fatalf("it printed %q, want %q", line, want)
		}
	}
}

// startScript starts a script and waits until it prints "ready".
func startScript(t *testing.T, script string) (*Process, lineReader) {
	t.Helper()
	s := newSpawner(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	p, err := s.Start(t.Context(), Command{
		Argv: sh(script), Dir: "/", Env: os.Environ(), Stdout: Output{File: w}, Stderr: Output{File: s.null},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // for a test that failed
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.now < exited {
			p.signal(syscall.SIGKILL)
		}
	})
	output := lineReader{bufio.NewReader(r), t}
	output.want("ready")
	return p, output
}

// advance lets d pass, and requires that the process changes at its end and not before.
func advance(t *testing.T, p *Process, d time.Duration) {
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
		t.Fatalf("1ns before %v it is in state %d after signal %d, was in state %d after signal %d",
			d, now, n, before, asked)
	}
	time.Sleep(time.Nanosecond)
	if now, n := look(); now == before && n == asked {
		t.Fatalf("after %v it is still in state %d, and signal %d was the last", d, now, n)
	}
}

func TestSignalsAreSentInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, output := startScript(t, printsSignals)
		p.Stop(stopGrace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		for _, signal := range []string{"TERM", "INT", "QUIT"} {
			output.want(signal)
			advance(t, p, stopGrace)
		}
		if r := p.Wait(); r.String() != "signal KILL" {
			t.Errorf("%v, want KILL after three graces", r)
		}
		output.want("")
	})
}

func TestNoSignalsAfterTheExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, output := startScript(t,
			`trap "echo TERM" TERM; trap "echo INT; exit 3" INT; echo ready; while :; do sleep 0.01; done`)
		p.Stop(stopGrace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		output.want("TERM")
		advance(t, p, stopGrace)
		output.want("INT", "")
		if r := p.Wait(); r.String() != "exit code 3" {
			t.Error(r)
		}
		if p.nextTimer == nil || p.nextTimer.Stop() || p.killTimer.Stop() {
			t.Error("a timer outlives the run")
		}
	})
}

// A suspended command gets each of the signals, because CONT follows it.
func TestSuspendedCommandGetsEachSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, output := startScript(t, `trap 'echo TERM; kill -STOP $$' TERM; trap 'echo INT; kill -STOP $$' INT
			echo ready; kill -STOP $$; while :; do sleep 0.01; done`)
		awaitStopped(t, p)
		p.Stop(stopGrace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		for _, signal := range []string{"TERM", "INT"} {
			output.want(signal)
			awaitStopped(t, p)
			advance(t, p, stopGrace)
		}
		if r := p.Wait(); r.Signal != syscall.SIGQUIT {
			t.Error(r)
		}
		output.want("")
	})
}

// After the exit of the leader, the rest of its group has the whole stop grace, not the group
// grace.
func TestLeaderExitsBeforeGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, output := startScript(t, `sh -c 'trap "" TERM; echo ready; echo $$; while :; do sleep 0.01; done' & wait`)
		line, _ := output.ReadString('\n')
		p.Stop(stopGrace)
		result := goWait(p)
		advance(t, p, stopGrace)
		if r := <-result; r.String() != "signal TERM" {
			t.Error(r)
		}
		gone(t, number(t, line))
	})
}

// handOffAndAdopt hands p off as one process does to the next.
func handOffAndAdopt(t *testing.T, p *Process) (*Process, Handed) {
	t.Helper()
	if Detach(p) != nil {
		t.Fatal("it was not detached")
	}
	h := p.HandOff()
	next, err := p.spawner.Adopt(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	return next, h
}

// The new process continues with the signals where the old one was, each at its own moment.
func TestStopIsHandedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, output := startScript(t, printsSignals)
		asked := time.Now()
		p.Stop(stopGrace, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
		output.want("TERM")
		time.Sleep(stopGrace / 2)
		p, _ = handOffAndAdopt(t, p)
		advance(t, p, stopGrace/2)
		output.want("INT")
		for range 4 {
			p, _ = handOffAndAdopt(t, p)
			time.Sleep(stopGrace / 5)
		}
		advance(t, p, stopGrace/5)
		output.want("QUIT")
		p, _ = handOffAndAdopt(t, p)
		advance(t, p, stopGrace)
		if r := p.Wait(); r.String() != "signal KILL" || !p.StopPlan().Asked.Equal(asked) {
			t.Errorf("%v, asked at %v, want KILL after three graces from %v", r, p.StopPlan().Asked, asked)
		}
		output.want("")
	})
}

// A stop that is requested between Detach and HandOff is ignored: no signal is sent, and none is
// handed off.
func TestStopAfterDetachDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, output := startScript(t, printsSignals)
		if Detach(p) != nil {
			t.Fatal("it was not detached")
		}
		p.Stop(stopGrace)
		p.Stop(0)
		h := p.HandOff()
		if h.Stop != nil {
			t.Errorf("handed off: %+v", h.Stop)
		}
		next, err := p.spawner.Adopt(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		next.Stop(stopGrace)
		output.want("TERM")
		advance(t, next, stopGrace)
		if r := next.Wait(); r.Signal != syscall.SIGKILL {
			t.Error(r)
		}
		output.want("")
	})
}

// A KILL that was due is sent, however late, and one that is brought forward is sent sooner.
func TestKillIsHandedOff(t *testing.T) {
	for name, first := range map[string]time.Duration{"killing": 0, "stopping": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := startScript(t, `trap "" TERM; echo ready; while :; do sleep 0.01; done`)
				p.Stop(first)
				p, _ = handOffAndAdopt(t, p)
				if p.Stop(stopGrace); first > 0 {
					advance(t, p, stopGrace)
				}
				if r := p.Wait(); r.Signal != syscall.SIGKILL {
					t.Error(r)
				}
			})
		})
	}
}

// A group whose leader has exited keeps its grace, and Ended stays the exit of the leader.
func TestGroupWithoutItsLeaderIsHandedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, output := startScript(t, `sh -c 'trap "" TERM; echo ready; echo $$; while :; do sleep 0.01; done' & wait`)
		line, _ := output.ReadString('\n')
		p.Stop(stopGrace)
		oldWait := goWait(p)
		over := time.Now()
		time.Sleep(stopGrace / 2)
		p, h := handOffAndAdopt(t, p)
		if r := <-oldWait; r.PID != 0 {
			t.Errorf("the Wait of a detached command returned %+v", r)
		}
		result := goWait(p)
		time.Sleep(time.Until(over.Add(stopGrace)) - time.Nanosecond)
		synctest.Wait()
		p.mu.Lock()
		now := p.now
		p.mu.Unlock()
		if now != lingering {
			t.Errorf("state %d before the grace is over", now)
		}
		if r := <-result; r.String() != "signal TERM" || !r.Ended.Equal(h.Ended) || r.Ended.After(over) {
			t.Errorf("%v at %v, want the end of the leader at %v", r, r.Ended, h.Ended)
		}
		gone(t, number(t, line))
	})
}

// goWait calls Wait in a goroutine, and returns when Wait has observed the exit of the leader. That
// exit must be about to happen.
func goWait(p *Process) <-chan job.Result {
	result := make(chan job.Result, 1)
	go func() { result <- p.Wait() }()
	synctest.Wait()
	return result
}

// The rest of a group whose leader has exited gets the signals that follow.
func TestSignalsReachTheRestOfTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, output := startScript(t, `sh -c 'trap "" TERM; trap "echo USR1; exit" USR1; echo ready; `+
			`while :; do sleep 0.01; done' & wait`)
		p.Stop(stopGrace, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
		result := goWait(p)
		advance(t, p, stopGrace)
		output.want("USR1", "")
		if r := <-result; r.Signal != syscall.SIGTERM {
			t.Error(r)
		}
	})
}

func TestRepeatedStop(t *testing.T) {
	for name, tc := range map[string]struct {
		grace time.Duration
		again func(*Process)
		then  func(*testing.T, *Process, lineReader)
	}{
		"sooner": {time.Minute, func(p *Process) { p.Stop(20*time.Millisecond, syscall.SIGINT) },
			func(t *testing.T, p *Process, _ lineReader) { advance(t, p, 20*time.Millisecond) }},
		"now": {time.Minute, func(p *Process) { p.Stop(0) }, func(*testing.T, *Process, lineReader) {}},
		"later, other signals": {stopGrace, func(p *Process) { p.Stop(time.Hour, syscall.SIGQUIT) },
			func(t *testing.T, p *Process, output lineReader) {
				advance(t, p, stopGrace)
				output.want("INT")
				advance(t, p, stopGrace)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, output := startScript(t, printsSignals)
				p.Stop(tc.grace, syscall.SIGTERM, syscall.SIGINT)
				output.want("TERM")
				tc.again(p)
				tc.then(t, p, output)
				if r := p.Wait(); r.String() != "signal KILL" {
					t.Error(r)
				}
				output.want("")
			})
		})
	}
}
