package process

import (
	"syscall"
	"testing"
	"time"
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
