package process

import (
	"io"
	"os"
	"testing"

	"gophd/internal/job"
)

// TestForgetEndsWaits: after a failed exec, the Waits of detached commands return, while the
// commands continue.
func TestForgetEndsWaits(t *testing.T) {
	s := newSpawner(t)
	p, out, fault := startCommand(t, s, sh("echo ready; exec sleep 3600"))
	out.await(t, "ready")
	open := func(hs HandedStream) io.WriteCloser { return []*capture{out, fault}[hs.Number-1] }
	descriptors := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := 0
	for i := range 20 {
		waited := make(chan job.Result, 1)
		go func(p *Process) { waited <- p.Wait() }(p)
		if Detach(p) != nil {
			t.Fatal("it was not detached")
		}
		h := p.HandOff()
		Forget(p)
		if r := <-waited; r.PID != 0 {
			t.Errorf("the Wait of a detached command returned %+v", r)
		}
		var err error
		if p, err = s.Adopt(h, open); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			before = descriptors()
		}
	}
	if now := descriptors(); now > before {
		t.Errorf("%d descriptors became %d", before, now)
	}
	p.Stop(0)
	p.Wait()
}
